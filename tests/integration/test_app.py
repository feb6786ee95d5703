"""The App as users meet it: starting, closing, wrong arguments, and what they are told."""

from __future__ import annotations

import asyncio
import logging
import socket
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.protocols.cache import CacheMode
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.retry import RetryPolicy
from dspex.simulator import Fault, FaultKind, FaultPlan, Simulator
from tests.support.programs import RAG, Ask, Question, build_index, collect, until

CHAT = "/v1/chat/completions"
CANARY = "sk-canary-4711"


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


def lm_at(simulator: Simulator, key: str = "key") -> dspex.LM:
    return dspex.LM("openai/rules", api_base=simulator.url, api_key=key)


class Echo(dspex.Module):
    """A program without services."""

    def __init__(self) -> None:
        pass

    async def forward(self, value: int, *, times: int = 1) -> int:
        return value * times


# --- running ------------------------------------------------------------------------------------------------


async def test_program_with_retrieval_and_lm_answers(simulator: Simulator, tmp_path: Path) -> None:
    """The whole way: request, retrieval, HTTP, parse; details tell what it took."""
    async with dspex.App(lm_at(simulator), retriever=build_index(tmp_path)) as app:
        prediction = await app.run(RAG(), question="zebra7")

        details = dspex.details(prediction)
        assert prediction.passages[0].title == "mod.fn7"
        assert details.usage.total_tokens > 0
        assert [attempt.outcome for attempt in details.attempts] == ["ok"]
        assert "mod.fn7" in details.explain()


async def test_second_identical_request_comes_from_memory_without_a_step(simulator: Simulator) -> None:
    """A memory hit is answered before any step is spawned, and costs no tokens."""
    async with dspex.App(lm_at(simulator)) as app:
        first = app.start(Ask(), question="q")
        await first
        steps_before = app.running_tree().runtime.next_pid()
        second = app.start(Ask(), question="q")
        await second

        assert app.running_tree().runtime.next_pid() - steps_before == 2  # the request's own, and this one
        assert second.details.cached_calls == 1
        assert second.details.usage.total_tokens == 0
        assert first.details.usage.total_tokens > 0


async def test_disk_cache_survives_the_app(simulator: Simulator, tmp_path: Path) -> None:
    """A later App with the same file answers without asking the provider."""
    for _ in range(2):
        async with dspex.App(lm_at(simulator), cache=tmp_path / "cache.db") as app:
            await app.run(Ask(), question="q")

    assert simulator.requests == {"ok": 1}


@pytest.mark.parametrize(("mode", "sent"), [("use", 1), ("refresh", 2), ("bypass", 2)])
async def test_cache_modes(simulator: Simulator, mode: CacheMode, sent: int) -> None:
    """``use`` reads and writes, ``refresh`` only writes, ``bypass`` does neither."""
    async with dspex.App(lm_at(simulator)) as app:
        view = app.options(cache=mode)
        await view.run(Ask(), question="q")
        await view.run(Ask(), question="q")
        assert simulator.requests == {"ok": sent}
        await app.run(Ask(), question="q")

    assert simulator.requests == {"ok": 3 if mode == "bypass" else sent}


async def test_only_cached_answers_when_told_so(simulator: Simulator) -> None:
    """``cache='only'`` never asks the provider, and leaves no flight behind."""
    async with dspex.App(lm_at(simulator)) as app:
        with pytest.raises(dspex.LMError, match="only"):
            await app.options(cache="only").run(Ask(), question="q")
        assert isinstance(await app.run(Ask(), question="q"), Question)
        assert isinstance(await app.options(cache="only").run(Ask(), question="q"), Question)

    assert simulator.requests == {"ok": 1}


async def test_identical_concurrent_requests_fly_once(simulator: Simulator) -> None:
    """One provider call answers all who ask the same at once."""
    async with dspex.App(lm_at(simulator)) as app:
        with collect(app, "dspex.cache.coalesced") as events:
            await asyncio.gather(*(app.run(Ask(), question="q") for _ in range(50)))

    assert simulator.requests == {"ok": 1}
    assert len(events) == 49


async def test_retry_waits_as_long_as_the_provider_asks(simulator: Simulator) -> None:
    """Retry-After is a minimum."""
    simulator.set_faults(FaultPlan(script={CHAT: (Fault(kind=FaultKind.RATE_LIMIT, retry_after=0.3),)}))
    async with dspex.App(lm_at(simulator)) as app:
        with collect(app, "dspex.lm.retry") as events:
            await app.run(Ask(), question="q")

    assert [facts["delay"] >= 0.3 for _, facts in events] == [True]


async def test_every_fault_kind_is_survived(simulator: Simulator) -> None:
    """A reset, a limit, a failure and a truncation, then an answer."""
    kinds = (FaultKind.RESET, FaultKind.RATE_LIMIT, FaultKind.SERVER_ERROR, FaultKind.TRUNCATE)
    simulator.set_faults(FaultPlan(script={CHAT: tuple(Fault(kind=kind, retry_after=0.01) for kind in kinds)}))
    quick = ClientLimits(retry=RetryPolicy(base=0.01, cap=0.02))
    async with dspex.App(lm_at(simulator), limits=quick) as app:
        request = app.start(Ask(), question="q")
        await request

    outcomes = [attempt.outcome for attempt in request.details.attempts]
    assert outcomes == ["TransportFailed", "RateLimited", "ServerFailed", "TransportFailed", "ok"]


async def test_request_sent_again_over_a_fresh_socket_is_told(simulator: Simulator) -> None:
    """A kept-alive connection that turns out to be closed costs an attempt and no wait, and is shown in the tree."""
    async with dspex.App(lm_at(simulator)) as app:
        await app.run(Ask(), question="q")
        simulator.set_faults(FaultPlan(script={CHAT: (Fault(kind=FaultKind.RESET),)}))
        with collect(app, "dspex.lm.resend") as events:
            request = app.start(Ask(), question="r")
            await request

        assert [attempt.outcome for attempt in request.details.attempts] == ["resent", "ok"]
        assert [facts["call"] for _, facts in events] == [f"{request.id}-1"]
        assert "1 sent again" in app.tree().render()


async def test_provider_that_never_recovers_raises_its_last_word_with_all_attempts(simulator: Simulator) -> None:
    """The error is typed and lists every try."""
    simulator.set_faults(FaultPlan(rate_500=1.0))
    quick = ClientLimits(retry=RetryPolicy(max_attempts=3, base=0.01, cap=0.02))
    async with dspex.App(lm_at(simulator), limits=quick) as app:
        with pytest.raises(dspex.ServerFailed) as caught:
            await app.run(Ask(), question="q")

    assert len(caught.value.attempts) == 3
    assert simulator.requests == {"500": 3}


async def test_two_apps_share_nothing(simulator: Simulator) -> None:
    """Each has its own cache, book and connections."""
    async with dspex.App(lm_at(simulator, "one")) as one, dspex.App(lm_at(simulator, "two")) as two:
        await one.run(Ask(), question="q")
        await two.run(Ask(), question="q")

        assert one.running_tree().book.calls == two.running_tree().book.calls == 1
        assert simulator.requests == {"ok": 2}


async def test_model_that_the_app_was_not_started_with_joins_the_tree(simulator: Simulator) -> None:
    """A record given later gets a client of its own, under the same key's supervisor or a new one."""
    async with dspex.App(lm_at(simulator)) as app:
        other = dspex.LM("openai/other", api_base=simulator.url, api_key="key")
        await app.options(lm=other).run(Ask(), question="q")
        await app.options(lm=other).run(Ask(), question="r")
        await app.options(lm=dspex.LM("vllm/m", api_base=simulator.url)).run(Ask(), question="q")

        labels = [node.label for node in app.tree().walk()]
        assert {"rules", "other", "m"} <= set(labels)
        assert labels.count("transport") == 2


async def test_nested_run_shares_the_place_and_the_deadline_of_its_parent(simulator: Simulator) -> None:
    """A program that runs another through the App cannot starve itself."""

    async with dspex.App(lm_at(simulator), max_running=1) as app:

        class Outer(dspex.Module):
            def __init__(self) -> None:
                pass

            async def forward(self, value: int) -> int:
                return await app.run(Echo(), value, times=2)

        assert await app.run(Outer(), 21) == 42


async def test_overload_is_refused_at_once_and_typed() -> None:
    """Beyond running and waiting places nothing is started."""
    gate = asyncio.Event()

    class Wait(dspex.Module):
        def __init__(self) -> None:
            pass

        async def forward(self) -> int:
            await gate.wait()
            return 1

    async with dspex.App(max_running=1, max_waiting=1) as app:
        running, waiting = app.start(Wait()), app.start(Wait())
        with pytest.raises(dspex.Overloaded) as caught:
            app.start(Wait())
        gate.set()

        assert (caught.value.running, caught.value.waiting) == (1, 1)
        assert await running == await waiting == 1


async def test_cancelled_request_that_waits_never_starts() -> None:
    """It leaves the waiting room."""
    gate = asyncio.Event()
    started = []

    class Wait(dspex.Module):
        def __init__(self) -> None:
            pass

        async def forward(self, name: str) -> str:
            started.append(name)
            await gate.wait()
            return name

    async with dspex.App(max_running=1) as app:
        first, second, third = (app.start(Wait(), name) for name in "abc")
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        gate.set()

        assert [await first, await third] == ["a", "c"]
        assert started == ["a", "c"]


async def test_bound_program_is_an_async_function_of_its_inputs() -> None:
    """It may be bound before the App runs, and says so until then."""
    app = dspex.App()
    echo = app.bind(Echo())
    with pytest.raises(dspex.AppNotRunning):
        await echo(2)
    async with app:
        assert await echo(2, times=3) == 6


async def test_step_after_the_request_has_ended_is_refused(simulator: Simulator) -> None:
    """Work that forward left behind cannot spend anything."""
    left: list[asyncio.Task[Question]] = []
    go = asyncio.Event()

    class Careless(dspex.Module):
        def __init__(self) -> None:
            self.answer = dspex.Predict(Question)

        async def forward(self) -> int:
            async def later() -> Question:
                await go.wait()
                return await self.answer(question="late")

            left.append(asyncio.ensure_future(later()))
            return 1

    async with dspex.App(lm_at(simulator)) as app:
        await app.run(Careless())
        go.set()
        with pytest.raises(dspex.ScopeClosed):
            await left[0]

    assert simulator.requests == {}


# --- the life of an App -------------------------------------------------------------------------------------


class Named(logging.Handler):
    """Lets go of who holds the loop when a line names it."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.heard = threading.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if "hold_the_loop" in vars(record)["stack"]:
            self.heard.set()


@pytest.mark.allow_blocking("the point")
async def test_forward_that_blocks_the_loop_is_named() -> None:
    """While it blocks, in a line of the log, without anybody having asked for it; within a second, says the limit."""
    named, logger = Named(), logging.getLogger("dspex.watchdog")

    def hold_the_loop() -> bool:
        return named.heard.wait(20.0)

    class Blocking(dspex.Module):
        def __init__(self) -> None:
            pass

        async def forward(self) -> bool:
            return hold_the_loop()

    logger.addHandler(named)
    try:
        async with dspex.App() as app:
            assert await app.run(Blocking())
            watchdog = app.running_tree().runtime._watchdog
            assert watchdog is not None
            assert 1.5 * watchdog.limit < 1.0
    finally:
        logger.removeHandler(named)


def watchdogs() -> int:
    return sum(thread.name == "dspex-watchdog" for thread in threading.enumerate())


async def test_each_app_watches_the_loop_while_it_runs() -> None:
    """Nested ones as well, each for its own programs; an App that is closed, also by force, leaves no thread."""
    async with dspex.App(), dspex.App() as inner:
        assert watchdogs() == 2
        assert await inner.run(Echo(), 1) == 1
    assert watchdogs() == 0

    gate = asyncio.Event()

    class Wait(dspex.Module):
        def __init__(self) -> None:
            pass

        async def forward(self) -> None:
            await gate.wait()

    app = await dspex.App().start()
    app.start(Wait())
    closing = asyncio.ensure_future(app.aclose())
    await until(lambda: app.running_tree().closing)
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    assert watchdogs() == 0


async def test_start_and_close_from_different_tasks() -> None:
    """Notebook cells, fixtures and lifespans enter and leave in different tasks."""
    app = dspex.App()
    await asyncio.ensure_future(app.start())
    assert await asyncio.ensure_future(app.run(Echo(), 1)) == 1
    await asyncio.ensure_future(app.aclose())
    await app.aclose()


async def test_app_can_be_entered_again_but_not_twice() -> None:
    """Each entry builds a fresh tree."""
    app = dspex.App()
    async with app:
        with pytest.raises(dspex.AppAlreadyRunning):
            await app.start()
    async with app:
        assert await app.run(Echo(), 1) == 1


async def test_app_refuses_another_loop() -> None:
    """From a thread the App says what to use instead."""
    errors: list[BaseException] = []

    def elsewhere(app: dspex.App) -> None:
        try:
            asyncio.run(app.run(Echo(), 1))
        except dspex.WrongLoop as error:
            errors.append(error)

    async with dspex.App() as app:
        thread = threading.Thread(target=elsewhere, args=(app,))
        thread.start()
        await until(lambda: not thread.is_alive(), "the thread")

    assert len(errors) == 1


async def test_tree_and_health_show_every_part(simulator: Simulator, tmp_path: Path) -> None:
    """The snapshot names services, restarts and states; health sums it up."""
    async with dspex.App(lm_at(simulator), retriever=build_index(tmp_path)) as app:
        labels = [child.label for child in app.tree().children]
        assert labels[:6] == ["cache", "ledger", "lm", "retrievers", "tool threads", "requests"]
        assert app.health()["ready"] is True
        ref = app.running_tree().runtime.whereis("cache")
        assert ref is not None
        ref.kill()
        await until(lambda: app.health()["down"] == ["cache"], "the gap")
        await until(lambda: app.health()["ready"], "the restart")
        cache = next(child for child in app.tree().children if child.label == "cache")
        assert cache.restarts == 1
        assert str(cache.last_exit) == "killed"
        assert "restarts 1" in app.tree().render()
    assert dict(app.health()) == {"ready": False}


# --- what they are told -------------------------------------------------------------------------------------


def test_unknown_provider_is_refused_before_anything_starts() -> None:
    """The message lists the providers there are."""
    with pytest.raises(dspex.ConfigError, match="openai"):
        dspex.App("nobody/model")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"lm": 3}, "3 is not a model: give 'provider/model', an LM or an LMPool"),
        ({"lm": ["openai/m"]}, "is not a model"),
        ({"lms": {"judge": None}}, "None is not a model"),
        ({"timeouts": 3}, "3 is not a Timeouts"),
        ({"telemetry": print}, "is not a Telemetry"),
    ],
)
def test_what_is_not_of_its_kind_is_refused_when_the_app_is_made(settings: dict[str, Any], message: str) -> None:
    """Nothing has been started, and nobody has asked a question yet."""
    with pytest.raises(dspex.ConfigError, match=message):
        dspex.App(**settings)


@pytest.mark.parametrize("lm", ["gpt-5-mini", "", "openai/"])
def test_model_without_provider_is_refused(lm: str) -> None:
    """The message shows the form."""
    with pytest.raises(dspex.ConfigError, match="provider/model"):
        dspex.App(lm)


async def test_app_without_model_says_so() -> None:
    """An LM call names what to configure."""
    async with dspex.App() as app:
        with pytest.raises(dspex.ConfigError, match="lm="):
            await app.run(Ask(), question="q")
        with pytest.raises(dspex.ConfigError, match="judge"):
            await app.options(lm="judge").run(Ask(), question="q")


async def test_unknown_retriever_says_so(tmp_path: Path) -> None:
    """The message lists those configured."""
    async with dspex.App(retrievers={"tickets": build_index(tmp_path)}) as app:
        with pytest.raises(dspex.ConfigError, match="tickets"):
            await app.run(RAG(), question="q")


async def test_wrong_key_is_final_and_never_shown() -> None:
    """One attempt, AuthFailed, and the key in no message."""
    async with Simulator(key="right") as simulator, dspex.App(lm_at(simulator, CANARY)) as app:
        with pytest.raises(dspex.AuthFailed) as caught:
            await app.run(Ask(), question="q")

        assert len(caught.value.attempts) == 1
        assert CANARY not in f"{caught.value} {caught.value!r} {app!r} {app.tree().render()} {app.tree()!r}"


async def test_missing_key_is_told_before_anything_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message names the environment variable."""
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    async with dspex.App("openai/gpt-5-mini") as app:
        with pytest.raises(dspex.AuthFailed, match="OPENAI_API_KEY"):
            await app.run(Ask(), question="q")


async def test_unreachable_address_is_a_transport_failure() -> None:
    """The message names the address."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    lm = dspex.LM("openai/m", api_base=f"http://127.0.0.1:{port}/v1", api_key="k")
    quick = ClientLimits(retry=RetryPolicy(max_attempts=2, base=0.01, cap=0.02))
    async with dspex.App(lm, limits=quick) as app:
        with pytest.raises(dspex.TransportFailed, match=str(port)):
            await app.run(Ask(), question="q")


@pytest.mark.parametrize("content", [None, b"", b"something else entirely"])
async def test_bad_index_fails_the_start_and_leaves_nothing(tmp_path: Path, content: bytes | None) -> None:
    """Missing, empty or foreign: RetrievalError from ``async with``, not from the first question."""
    path = tmp_path / "index.db"
    if content is not None:
        path.write_bytes(content)
    app = dspex.App(retriever=path)

    with pytest.raises(dspex.RetrievalError, match=r"index\.db"):
        await app.start()
    with pytest.raises(dspex.AppNotRunning):
        app.tree()


async def test_bad_cache_file_fails_the_start(tmp_path: Path) -> None:
    """A CacheError names the file."""
    (tmp_path / "cache.db").mkdir()
    with pytest.raises(dspex.CacheError, match=r"cache\.db"):
        await dspex.App(cache=tmp_path / "cache.db").start()


async def test_missing_and_unknown_inputs_start_nothing() -> None:
    """All of them are named at once."""
    async with dspex.App() as app:
        with pytest.raises(dspex.MissingInput) as caught:
            await app.run(Echo(), tmies=2)  # type: ignore[call-arg]  # the mistake under test
        assert (caught.value.missing, caught.value.unexpected) == (("value",), ("tmies",))
        assert app.running_tree().runner.live == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"deadline": 0},
        {"deadline": "3"},
        {"cache": "maybe"},
        {"temperature": 1},
        {"lm": 3},
        {"dedline": 3},
        {"priority": "high"},
    ],
)
def test_bad_options_are_refused(changes: Any) -> None:
    """An option that is unknown or makes no sense is a ConfigError."""
    with pytest.raises(dspex.ConfigError):
        dspex.App().options(**changes)


async def test_program_outside_a_request_says_what_to_do() -> None:
    """There is no ambient App."""
    with pytest.raises(dspex.NotInRequest, match=r"app\.run"):
        await Ask()(question="q")


def test_global_configuration_is_gone_and_says_so() -> None:
    """People who come from DSPy are told where it went."""
    with pytest.raises(AttributeError, match="App"):
        _ = dspex.configure  # type: ignore[attr-defined]  # on purpose
    with pytest.raises(AttributeError, match="Retry checks an answer"):
        _ = dspex.Assert  # type: ignore[attr-defined]  # on purpose


async def test_what_is_no_program_says_what_to_do() -> None:
    """A class, or a signature in words, where a program is wanted."""
    async with dspex.App() as app:
        with pytest.raises(TypeError, match=r"Echo is a class, not a program: make one of it, Echo\(\.\.\.\)"):
            await app.run(Echo, value=1)  # type: ignore[call-arg]  # the mistake
        with pytest.raises(TypeError, match=r"str is not a program: .*; write dspex\.Predict\('question -> answer'\)"):
            await app.run("question -> answer", question="q")  # type: ignore[arg-type]  # the mistake
        with pytest.raises(dspex.ConfigError, match="the App has no language model named 'judge'"):
            await app.run(dspex.Predict("question -> answer", lm="judge"), question="q")
