"""
A key that is in use is nowhere to be read: not in logs, events, errors, files, reprs or the tree, whatever happens.

Each wire is asked with a key of its own, in calls that succeed and in calls that fail in every way the simulator knows,
with everything that can be written down written down.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
import warnings
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

import dspex
from dspex.runtime import ActorRef
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.retry import RetryPolicy
from dspex.simulator import Fault, FaultKind, FaultPlan, Simulator
from tests.support.programs import Ask, Question

CANARY = "canary-key-4711-do-not-tell"
WIRES = {
    "openai": ("openai", "", "/v1/chat/completions"),
    "openai-responses": ("openai", "", "/v1/responses"),
    "anthropic": ("anthropic", "/v1", "/v1/messages"),
    "gemini": ("gemini", "/v1beta", "/v1beta/models/rules:generateContent"),
}
QUICK = ClientLimits(retry=RetryPolicy(max_attempts=2, base=0.001, cap=0.002))
NOT_HERE = {FaultKind.NONE, FaultKind.DRIP, FaultKind.SPLIT}


def model(wire: str, sim: Simulator, key: str = CANARY) -> dspex.LM:
    home, version, _ = WIRES[wire]
    headers = {"x-tenant": CANARY}
    return dspex.LM(f"{wire}/rules", api_base=sim.urls[home] + version, api_key=key, headers=headers)


def is_right(example: dspex.Example, prediction: Any) -> bool:
    """A metric."""
    return bool(prediction.answer)


class Heard:
    """Everything that is said while a test runs."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def note(self, *things: object) -> None:
        """Write down how things show themselves."""
        for thing in things:
            self.said += [str(thing), repr(thing)]
            if isinstance(thing, BaseException):
                self.said += traceback.format_exception(thing)
                self.note(*vars(thing).values(), *thing.args)
                self.locals(thing)

    def locals(self, error: BaseException | None) -> None:
        """Write down the local variables of our frames, as reporters of crashes do, and of what it was caused by."""
        while error is not None:
            for frame, _ in traceback.walk_tb(error.__traceback__):
                if frame.f_globals["__name__"].startswith("dspex."):
                    self.said += map(repr, frame.f_locals.values())
            error = error.__cause__ or error.__context__

    def telemetry(self, name: str, numbers: object, facts: object) -> None:
        """Write down an event with all that it carries."""
        self.said += [name, repr(numbers), repr(facts)]
        self.note(*dict(facts).values())  # type: ignore[call-overload]  # the event table says a mapping

    def check(self, key: str = CANARY) -> None:
        """Fail with the first thing said that has the key in it."""
        told = [each for each in self.said if key in each]
        lines = {line.strip() for each in told for line in each.splitlines() if key in line}
        assert not told, "\n".join(sorted(lines))[:4_000]


@pytest.fixture
async def sim() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


@pytest.fixture
def heard(caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]) -> Iterator[Heard]:
    """All logs at debug level, structlog, warnings and what is printed."""
    heard = Heard()

    def keep(_logger: object, _method: str, event: Any) -> str:  # structlog's event dict
        heard.said.append(repr(event))
        return "kept"

    configured = structlog.get_config()
    structlog.configure(
        processors=[structlog.processors.format_exc_info, keep], logger_factory=structlog.PrintLoggerFactory()
    )
    caplog.set_level(logging.DEBUG)
    asyncio_level = logging.getLogger("asyncio").level
    try:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            yield heard
        heard.said += [str(each.message) for each in warned]
        heard.said += [record.getMessage() + repr(vars(record)) for record in caplog.records]
        printed = capfd.readouterr()
        heard.said += [printed.out, printed.err]
        heard.check()
    finally:
        logging.getLogger("asyncio").setLevel(asyncio_level)
        structlog.configure(**configured)


def on_disk(folder: Path) -> list[str]:
    """Return the files below a folder that have the key in them, in their names or as bytes."""
    files = [each for each in folder.rglob("*") if each.is_file()]
    assert files
    return [str(each) for each in files if CANARY.encode() in each.read_bytes() or CANARY in str(each)]


def look_at(app: dspex.App, heard: Heard) -> None:
    """Look at everything public, and at every process and its state."""
    tree = app.running_tree()
    heard.note(app, app.tree(), app.tree().render(), app.health(), tree.runtime, tree.lm, tree.runner)
    for process in tree.runtime.processes.values():
        actor = getattr(process, "actor", None)
        heard.note(process, process.ref, actor, *([actor.describe()] if actor is not None else []))
    for account in tree.lm._endpoints.values():
        heard.note(account, account.table, account.table.channel, account.endpoint, *account.table.leases.values())


@pytest.mark.parametrize("wire", WIRES)
async def test_a_key_is_nowhere_to_be_read(wire: str, sim: Simulator, heard: Heard, tmp_path: Path) -> None:
    """Answers whole and streamed, crashes and kills, saved state, caches and journals: all of it is searched."""
    lm = model(wire, sim)
    asyncio.get_running_loop().set_debug(True)
    heard.note(lm, vars(type(lm)), lm.params, lm.api_key, lm.headers)
    async with dspex.App(lm, cache=str(tmp_path / "cache.db"), home=tmp_path / "home", limits=QUICK, seed=1) as app:
        app.telemetry.attach("dspex.", heard.telemetry)
        prediction = await app.run(Ask(), question="well?")
        details = dspex.details(prediction)
        heard.note(prediction, details, details.explain(), details.attempts, details.usage)
        look_at(app, heard)

        for part in ("transport", "rules"):
            ref = next(each.ref for each in app.runtime.processes.values() if each.label == part)
            assert isinstance(ref, ActorRef)
            ref.send(object())  # nobody expects it: that is logged
            ref.kill()
        stream = app.options(deadline=20.0).stream(Ask(), question="streamed?")
        async with stream:
            heard.note(*[delta async for delta in stream], stream)
        rows = [{"id": str(number), "question": f"row {number}"} for number in range(3)]
        async with app.map(Ask(), rows, journal=tmp_path / "rows.db") as run:
            heard.note(*[row async for row in run])
        look_at(app, heard)
        trainset = [{"question": f"{number}?", "answer": f"{number}?"} for number in range(3)]
        job = await app.compile(Ask(), dspex.BootstrapFewShot(is_right), trainset=trainset, job="journaled")
        program = await job.result()
        heard.note(job)
        program.save(tmp_path / "program.json")
        heard.note(program, program.dump_state())
    heard.note(app)

    assert on_disk(tmp_path) == []
    heard.check()


@pytest.mark.parametrize("wire", WIRES)
async def test_no_failure_tells_the_key(wire: str, sim: Simulator, heard: Heard) -> None:
    """Everything the simulator can do to a call: the errors, what caused them, and the events on the way."""
    for kind in FaultKind:
        if kind in NOT_HERE:
            continue
        sim.set_faults(
            FaultPlan(script={WIRES[wire][2]: (Fault(kind=kind, retry_after=0.001, retry_form="milliseconds"),) * 2})
        )
        async with dspex.App(model(wire, sim), cache=None, limits=QUICK, seed=1) as app:
            app.telemetry.attach("dspex.", heard.telemetry)
            view = app.options(deadline=0.1 if kind in (FaultKind.HANG, FaultKind.HANG_BODY) else 5.0)
            request = view.start(Ask(), question=f"{kind}?")
            heard.note(*await asyncio.gather(request, return_exceptions=True))
            heard.note(request, request.details, request.trace, await request.outcome())
            look_at(app, heard)
    heard.check()


@pytest.mark.parametrize("wire", WIRES)
async def test_a_refused_key_is_not_in_its_error(wire: str, heard: Heard) -> None:
    """Not even where the provider's answer quotes it, as some do; and the tail of a key is not a secret kept."""
    async with Simulator(key="another") as sim, dspex.App(model(wire, sim), limits=QUICK) as app:
        for _ in range(2):  # sent, and refused unsent since the key rests
            with pytest.raises(dspex.AuthFailed) as caught:
                await app.run(Ask(), question="q")
            heard.note(caught.value)
        look_at(app, heard)
    heard.check()


async def test_a_key_in_a_bad_place_is_not_told() -> None:
    """A key with a line break cannot be sent; the error that says so does not show it."""
    heard = Heard()
    async with Simulator() as sim, dspex.App(model("openai", sim, f"{CANARY}\nx: y")) as app:
        with pytest.raises(dspex.DspexError) as caught:
            await app.run(Ask(), question="q")
        heard.note(caught.value)
    heard.check()


async def test_two_apps_with_keys_of_their_own_share_nothing(sim: Simulator) -> None:
    """Neither a connection, nor a limiter, nor a header: what one is refused does not slow the other."""
    async with dspex.App(model("openai", sim, "key-one")) as one, dspex.App(model("openai", sim, "key-two")) as two:
        await asyncio.gather(
            *(
                app.run(Ask(), question=f"{name} {number}")
                for number in range(20)
                for name, app in (("1", one), ("2", two))
            )
        )
        of_one, of_two = (
            {(arrival.connection) for arrival in sim.arrivals() if arrival.call.startswith(mark)}
            for mark in (_mark(one), _mark(two))
        )
        assert of_one
        assert of_two
        assert not of_one & of_two
        assert _table(one) is not _table(two)
        sim.set_faults(FaultPlan(script={WIRES["openai"][2]: (Fault(kind=FaultKind.UNAUTHORIZED),)}))
        with pytest.raises(dspex.AuthFailed):
            await one.run(Ask(), question="refused")
        assert _table(one).key.error is not None
        assert _table(two).key.error is None
        assert isinstance(await two.run(Ask(), question="well?"), Question)


def _mark(app: dspex.App) -> str:
    (account,) = app.running_tree().lm._endpoints.values()
    return account.mark


def _table(app: dspex.App) -> Any:  # a LeaseTable
    (account,) = app.running_tree().lm._endpoints.values()
    return account.table
