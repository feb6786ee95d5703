"""Objects whose classes do what no class should: none of them may cost more than the process that met it."""

from __future__ import annotations

import asyncio
import copy
import dataclasses
import pickle
import threading
from typing import Any

import pytest

from dspex.errors import (
    ActorExited,
    CallCycle,
    CallTimeout,
    ChildError,
    NoSuchActor,
    SpecError,
    StartFailed,
    UnknownMessage,
    WrongLoop,
)
from dspex.runtime import (
    KILLED,
    NORMAL,
    Actor,
    ChildSpec,
    Crashed,
    DynamicSupervisor,
    Exit,
    NoReply,
    Other,
    Reply,
    Runtime,
    Supervisor,
    TaskSupervisor,
    tree,
    yield_many,
)
from dspex.testing import VirtualClock
from tests.unit.runtime.doer import Doer, answer


class Masked(Exception):
    """Whoever asks for its class is deceived."""

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        raise RuntimeError("no class")


class Splitting(ExceptionGroup[Exception]):
    def split(self, condition: Any) -> Any:
        raise self


class Nameless(type):
    @property
    def __name__(cls) -> Any:  # type: ignore[override]
        raise RuntimeError("no name")


class Unnamed(Exception, metaclass=Nameless):
    def __str__(self) -> str:
        raise RuntimeError("no text")


def nested(depth: int) -> Exception:
    error: Exception = ValueError("inside")
    for _ in range(depth):
        error = ExceptionGroup("g", [error])
    return error


ERRORS: list[Any] = [Masked, lambda: Splitting("g", [ValueError()]), Unnamed, lambda: nested(2_000)]


@pytest.mark.parametrize("make", ERRORS, ids=["masked", "splitting", "unnamed", "deep"])
@pytest.mark.parametrize("where", ["cast", "call", "init", "task", "closer", "terminate", "constructor", "telemetry"])
async def test_an_odd_exception_ends_no_more_than_its_process(
    runtime: Runtime, make: Any, where: str, caplog: pytest.LogCaptureFixture
) -> None:
    closed: list[str] = []

    class Server(Doer):
        def __init__(self) -> None:
            super().__init__()
            if where == "constructor" and failing:
                raise make()

        async def init(self) -> None:
            self.own("first", closed.append)
            if where == "closer":
                self.own("odd", self._close)
            if where == "init" and failing:
                raise make()

        def _close(self, _: object) -> None:
            raise make()

        async def terminate(self, reason: object) -> None:
            closed.append("terminate")
            if where == "terminate":
                raise make()

    async def fail(*_: object) -> Any:
        raise make()

    failing = where in ("constructor", "init")
    if failing:
        with pytest.raises(StartFailed):
            await runtime.start(Supervisor([ChildSpec("s", Server)]))
        assert not runtime.processes
        return
    supervisor: Any = await runtime.start(Supervisor([ChildSpec("s", Server)]))
    (info,) = await supervisor.which_children()
    if where == "telemetry":
        runtime.telemetry.attach("dspex.process.exit", lambda *_: (_ for _ in ()).throw(make()))
        info.ref.kill()
    elif where == "task":
        assert isinstance(await info.ref._process.spawn_task(fail).wait_exit(), Crashed)
        info.ref.kill()
    elif where == "call":
        with pytest.raises(ActorExited):
            await info.ref.call(fail)
    else:
        info.ref.cast(fail)
    assert await info.ref.wait_exit() is not None
    assert "first" in closed
    if where in ("cast", "call"):
        assert "terminate" in closed
    assert (await supervisor.which_children())[0].state == "running"


async def test_a_start_that_fails_half_way_leaves_nothing(runtime: Runtime) -> None:
    """Neither below its supervisor nor in the runtime: nobody could end it."""

    class Odd(Doer):
        def __setattr__(self, name: str, value: object) -> None:
            raise RuntimeError("no attributes")

        def __init__(self) -> None:
            """Nothing to set."""

    @dataclasses.dataclass(frozen=True)
    class Frozen(Actor):
        number: int = 1

        async def handle_call(self, message: Any, sender: Any) -> Any:
            return Reply(self.number)

    supervisor: Any = await runtime.start(Supervisor())
    assert await (await supervisor.start_child(ChildSpec("odd", Odd))).call(answer) == "answer"
    assert await (await supervisor.start_child(ChildSpec("frozen", Frozen))).call("x") == 1

    class Limitless(Doer):
        @property
        def mailbox_limit(self) -> Any:  # type: ignore[override]
            raise RuntimeError("no limit")

    with pytest.raises(StartFailed):
        await supervisor.start_child(ChildSpec("limitless", Limitless))
    await supervisor.stop()
    assert not runtime.processes


async def test_time_that_is_none_is_refused_or_replaced(runtime: Runtime, clock: VirtualClock) -> None:
    """When the class is made; and an instance that sets nonsense has the time that the base class gives."""
    for namespace in ({"terminate_timeout": "5"}, {"terminate_timeout": -1.0}, {"mailbox_limit": "3"}):
        with pytest.raises(SpecError):
            type("Bad", (Actor,), {"__module__": "theirs", **namespace})

    class Late(Doer):
        async def init(self) -> None:
            self.__dict__["terminate_timeout"] = "5"

        async def terminate(self, reason: object) -> None:
            await asyncio.get_running_loop().create_future()

    ref = await runtime.start(Late())
    async with clock.autojump():
        await ref.stop()
    assert clock.now() == 5.0


class Name(str):
    """Text that fails when it is hashed later."""

    __slots__ = ()
    broken = False

    def __hash__(self) -> int:
        if Name.broken:
            raise RuntimeError("no hash")
        return str.__hash__(self)


async def test_a_name_is_plain_text_once_it_is_inside(runtime: Runtime) -> None:
    Name.broken = False
    ref = await runtime.start(Doer(), name=Name("n"))
    Name.broken = True
    ref.kill()
    assert await ref.wait_exit() == KILLED
    assert await (await runtime.start(Doer(), name="n")).call(answer) == "answer"
    with pytest.raises(SpecError):
        await runtime.start(Doer(), name=5)  # type: ignore[arg-type]
    with pytest.raises(SpecError):
        ChildSpec("c", Doer, name=5)  # type: ignore[arg-type]


class CaseBlind(str):
    """Text that compares and cannot be hashed."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and self.lower() == other.lower()

    __hash__ = None  # type: ignore[assignment]  # the natural mistake


async def test_odd_ids_and_forged_signals_end_no_supervisor(runtime: Runtime) -> None:
    for kind in (Supervisor, DynamicSupervisor):
        supervisor: Any = await runtime.start(kind())
        child = await supervisor.start_child(ChildSpec(CaseBlind("d"), Doer))
        forged: Any = "not a ref"
        supervisor.send(Exit(forged, NORMAL))
        odd: list[Any] = [CaseBlind("x"), 7, [], Masked()]
        for which in odd:
            with pytest.raises(ChildError):
                await supervisor.terminate_child(which)
        with pytest.raises(UnknownMessage):
            await supervisor.call(Masked())
        assert child.alive
    fixed: Any = await runtime.start(Supervisor([ChildSpec("d", Doer)]))
    await fixed.terminate_child(CaseBlind("d"))


async def test_a_from_that_is_sent_on_is_a_message(runtime: Runtime) -> None:
    """Not a call of whoever gets it."""

    class Answers(Doer):
        async def handle_info(self, message: Any) -> Any:
            message.reply("right")

        async def handle_call(self, message: Any, sender: Any) -> Any:
            return Reply("wrong")

    second = await runtime.start(Answers())
    ways: list[Any] = [
        second.send,
        second._process.actor.priority_ref().send,
        lambda sender: runtime.send_after(0.0, second, sender),
    ]

    class Hands(Doer):
        async def handle_call(self, message: Any, sender: Any) -> Any:
            message(sender)
            return NoReply()

    first = await runtime.start(Hands())
    clock: Any = runtime.clock
    async with clock.autojump():
        assert [await first.call(way) for way in ways] == ["right"] * 3


async def test_waits_that_end_by_themselves_hold_up_nobody(runtime: Runtime, clock: VirtualClock) -> None:
    """One of several, or a wait with an end: the call is answered afterwards."""
    tasks: Any = await runtime.start(TaskSupervisor())

    async def first_of_two(actor: Doer, _: object) -> Any:
        calling = tasks.start(_call, actor.ref)
        outcomes = await yield_many([calling, tasks.start(asyncio.sleep, 0)], None, limit=1)
        assert outcomes[0] is None
        assert await calling.wait(0.5) is None
        left.append(calling)
        return await answer()

    left: list[Any] = []
    ref = await runtime.start(Doer())
    async with clock.autojump():
        assert await ref.call(first_of_two, timeout=None) == "answer"
        assert await left[0]._task.wait_exit() == NORMAL


async def _call(ref: Any) -> None:
    assert await ref.call(answer, timeout=None) == "answer"


async def test_nobody_waits_for_itself_or_in_a_ring(runtime: Runtime) -> None:
    one, two = await runtime.start(Doer()), await runtime.start(Doer())

    async def itself(actor: Doer, _: object) -> Any:
        with pytest.raises(CallCycle):
            await actor.ref.wait_exit()
        return await answer()

    assert await one.call(itself) == "answer"

    async def wait_for_two(actor: Doer, _: object) -> Any:
        await two.wait_exit()
        return await answer()

    async def wait_for_one(actor: Doer, _: object) -> Any:
        with pytest.raises(CallCycle):
            await one.wait_exit()
        return await answer()

    waiting = asyncio.ensure_future(one.call(wait_for_two, timeout=None))
    await asyncio.sleep(0)
    assert await two.call(wait_for_one) == "answer"
    two.kill()
    assert await waiting == "answer"


async def test_an_answer_from_another_thread_is_refused(runtime: Runtime) -> None:
    """A future of the loop is not to be touched there."""
    kept: list[Any] = []

    async def keep(actor: Doer, sender: Any) -> Any:
        kept.append(sender)
        return NoReply()

    ref = await runtime.start(Keeper())
    calling = asyncio.ensure_future(ref.call(keep))
    for _ in range(5):
        await asyncio.sleep(0)
    found: list[BaseException] = []

    def work() -> None:
        for act in (lambda: kept[0].reply(1), lambda: kept[0].fail(ValueError()), lambda: ref.monitor()):
            try:
                act()
            except BaseException as error:
                found.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    await asyncio.to_thread(thread.join)
    assert [type(each) for each in found] == [WrongLoop] * 3
    kept[0].reply("here")
    assert await calling == "here"


class Keeper(Doer):
    async def handle_call(self, message: Any, sender: Any) -> Any:
        return await message(self, sender)


async def test_a_runtime_is_open_in_one_loop(runtime: Runtime) -> None:
    found: list[BaseException] = []

    async def open_it() -> None:
        try:
            runtime.open()
        except BaseException as error:
            found.append(error)

    await asyncio.to_thread(asyncio.run, open_it())
    assert isinstance(found[0], WrongLoop)


async def test_a_field_that_hides_what_every_actor_has_is_refused() -> None:
    """A dataclass sets it later, on the instance."""
    for name in ("own", "ref", "send_after"):
        with pytest.raises(SpecError, match=name):
            type("Bad", (Actor,), {"__module__": "theirs", "__annotations__": {name: int}})


@pytest.mark.parametrize("timeout", [10**400, 1e300])
async def test_more_seconds_than_a_timer_takes_are_for_ever(runtime: Runtime, timeout: Any) -> None:
    ref = await runtime.start(Doer(), name="n")
    assert await ref.call(answer, timeout=timeout) == "answer"
    assert await runtime.named("n").call(answer, timeout=timeout) == "answer"
    ref.kill()
    assert await ref.wait_exit(timeout) == KILLED
    with pytest.raises(SpecError):
        Runtime(kill_budget=timeout)


@pytest.mark.parametrize(
    "error",
    [
        CallTimeout("a", 1.0),
        NoSuchActor("a"),
        ActorExited("a", Other(1)),
        StartFailed("a", "b"),
        SpecError("a", 1, "c"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_are_copied_with_all_they_say(error: Any) -> None:
    """They are parts of exit reasons, and these of messages."""
    for again in (copy.copy(error), copy.deepcopy(error), pickle.loads(pickle.dumps(error))):
        assert type(again) is type(error)
        assert str(again) == str(error)
        assert vars(again).keys() == vars(error).keys()


async def test_a_tree_shows_one_line_for_each(runtime: Runtime) -> None:
    """Whatever its label and its description say."""

    class Poet(Doer):
        def describe(self) -> str:
            return f"{super().describe()}two\nlines"  # by itself an actor says nothing

    class Waiting(Doer):
        async def describe(self) -> str:  # type: ignore[override]  # the mistake
            return "later"

    class Numbers(Doer):
        def describe(self) -> str:
            return 7  # type: ignore[return-value]  # the mistake

    supervisor = await runtime.start(
        Supervisor(
            [ChildSpec("a\nb", Poet), ChildSpec("c", Waiting), ChildSpec("d", Numbers), ChildSpec("silent", Doer)]
        )
    )
    lines = tree(supervisor._process).render().splitlines()
    assert len(lines) == 5
    assert "coroutine function" in lines[2]
    assert lines[3].endswith("(7)")
    assert lines[4].strip() == "silent"


async def test_a_wait_of_asyncio_with_an_end_holds_up_nobody(runtime: Runtime) -> None:
    """The actor goes on by itself, and then answers."""
    left: list[Any] = []

    async def go(actor: Doer, _: object) -> Any:
        calling = asyncio.ensure_future(_call(actor.ref))
        done, pending = await asyncio.wait([calling], timeout=0.001)
        assert (done, pending) == (set(), {calling})
        left.append(calling)
        return await answer()

    ref = await runtime.start(Doer())
    assert await ref.call(go, timeout=None) == "answer"
    await left[0]


def test_the_thread_of_a_loop_that_rests_may_answer() -> None:
    """Nothing runs there meanwhile, so nothing can be disturbed."""
    loop = asyncio.new_event_loop()
    runtime, kept = Runtime(), []

    async def keep(actor: Doer, sender: Any) -> Any:
        kept.append(sender)
        return NoReply()

    async def begin() -> asyncio.Future[Any]:
        runtime.open()
        calling = asyncio.ensure_future((await runtime.start(Keeper())).call(keep))
        for _ in range(5):
            await asyncio.sleep(0)
        return calling

    calling = loop.run_until_complete(begin())
    assert kept[0].reply("here")
    assert loop.run_until_complete(calling) == "here"
    loop.run_until_complete(runtime.close())
    loop.close()


async def test_a_time_that_is_computed_is_read_when_it_is_needed(runtime: Runtime) -> None:
    class Computed(Doer):
        @property
        def terminate_timeout(self) -> Any:  # type: ignore[override]
            return 2.0

        async def terminate(self, reason: object) -> None:
            self.seen.append(reason)

    ref = await runtime.start(Computed())
    await ref.stop()
    assert ref.exit_reason == NORMAL
