"""
The effect of a kill on a streamed answer: before its first piece as on any call, after it there is no second.

Everything is real: the App, loopback sockets, the simulator, which stops in the middle of a stream where it is told to.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import dspex
from dspex.errors import LMError, StreamTruncated, TransportFailed
from dspex.protocols.lm import LMDelta
from dspex.protocols.model import LMParams
from dspex.runtime import Process
from dspex.simulator import Fault, FaultKind, FaultPlan, Simulator
from tests.fault.test_kill_table import (
    CHAT,
    HANG,
    actor,
    app_for,
    kill_all,
    off_the_wire,
    on_the_wire,
    runtime_of,
)
from tests.support.programs import collect, living, until
from tests.support.streaming import Talk

PAUSED = Fault(kind=FaultKind.HANG_BODY)
"""Half of the stream, and then silence."""


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


def script(simulator: Simulator, *faults: Fault) -> None:
    simulator.set_faults(FaultPlan(script={CHAT: faults}))


async def idle(app: dspex.App, simulator: Simulator) -> None:
    """No lease is out and no socket is busy."""
    await off_the_wire(simulator)
    accounts = app.running_tree().lm._endpoints.values()
    await until(lambda: not any(account.table.leases for account in accounts), "the lease to be settled")


async def test_killed_step_before_the_first_piece_is_restarted(simulator: Simulator) -> None:
    """Nobody has read anything yet: as with any call, the same key is sent again."""
    script(simulator, HANG)
    async with app_for(simulator) as app:
        talk = Talk()
        request = app.start(talk, text="one two three")
        await on_the_wire(simulator)
        kill_all(runtime_of(app), "lm talk")
        result = await request

        assert "".join(talk.texts) == result.response.completions[0].text != ""
        assert [attempt.outcome for attempt in request.details.attempts] == ["killed", "ok"]


async def test_killed_step_after_a_piece_ends_the_call(simulator: Simulator) -> None:
    """A second stream behind the reader's back would repeat what was read: nothing more is sent."""
    script(simulator, PAUSED)
    async with app_for(simulator) as app:
        talk = Talk()
        request = app.start(talk, text="one two three")
        await until(lambda: talk.texts, "the first piece")
        kill_all(runtime_of(app), "lm talk")
        with pytest.raises(StreamTruncated, match="handed on") as caught:
            await request

        assert [attempt.outcome for attempt in request.details.attempts] == ["killed"]
        assert len(caught.value.attempts) == 1
        await idle(app, simulator)
        assert sum(simulator.stats().requests.values()) == 1


async def test_killed_step_after_the_last_piece_answers_unsent(simulator: Simulator) -> None:
    """The whole answer was written down; no piece is handed on twice."""
    async with app_for(simulator) as app:
        app.telemetry.attach("dspex.lm.attempt.stop", lambda *_: kill_all(runtime_of(app), "lm talk"))
        talk = Talk()
        request = app.start(talk, text="one two three")
        result = await request

        assert "".join(talk.texts) == result.response.completions[0].text
        assert request.details.step_restarts == 1
        assert simulator.stats().requests == {"ok": 1}


async def test_killed_step_that_has_a_whole_answer_tells_it_all_the_same(simulator: Simulator) -> None:
    """Of a model that does not stream: the answer was written down, its reader gets it once, nothing is sent again."""
    lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key", capabilities={"streaming": False})
    async with dspex.App(lm, cache=None) as app:
        detach = app.telemetry.attach("dspex.lm.attempt.stop", lambda *_: kill_all(runtime_of(app), "lm talk"))
        talk = Talk()
        result = await app.run(talk, text="one two three")
        detach()

        assert talk.texts == [result.response.completions[0].text]
        assert simulator.stats().requests == {"ok": 1}


async def test_killed_step_in_the_middle_of_a_whole_answer_ends_the_call(simulator: Simulator) -> None:
    """Its reader has a piece in hand: how much of it was read is not known, and nothing is paid for twice."""
    lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key", capabilities={"streaming": False})
    async with dspex.App(lm, cache=None) as app:
        talk = Talk(hold=asyncio.Event())
        request = app.start(talk, text="one two three")
        await until(lambda: talk.texts, "the first piece")
        kill_all(runtime_of(app), "lm talk")
        with pytest.raises(StreamTruncated, match="was being handed on"):
            await request

        assert len(talk.texts) == 1
        assert simulator.stats().requests == {"ok": 1}
        await idle(app, simulator)


async def test_no_kill_of_a_step_cuts_off_an_answer_from_the_disk_cache(simulator: Simulator, tmp_path: Path) -> None:
    """An answer that the step looked up is whole: the program tells it, and it is not asked for again."""
    first = Talk()
    async with app_for(simulator, cache=tmp_path / "cache.db") as app:
        await app.run(first, text="one two three")
    async with app_for(simulator, cache=tmp_path / "cache.db") as app:
        talk = Talk(hold=asyncio.Event())
        request = app.start(talk, text="one two three")
        await until(lambda: talk.texts, "the first piece")
        kill_all(runtime_of(app), "lm talk")
        assert talk.hold is not None
        talk.hold.set()
        result = await request

        assert (result.cached, result.attempts, request.details.step_restarts) == ("disk", (), 0)
        assert "".join(talk.texts) == "".join(first.texts)
    assert simulator.stats().requests == {"ok": 1}


async def test_killed_step_that_looks_an_answer_up_looks_again(simulator: Simulator, tmp_path: Path) -> None:
    """It is killed in the tick of the hit: its successor finds the same, and the reader gets it once."""
    async with app_for(simulator, cache=tmp_path / "cache.db") as app:
        await app.run(Talk(), text="one two three")
    async with app_for(simulator, cache=tmp_path / "cache.db") as app:

        def kill_the_first(*_: object) -> None:
            detach()
            kill_all(runtime_of(app), "lm talk")

        detach = app.telemetry.attach("dspex.cache.hit", kill_the_first)
        talk = Talk()
        request = app.start(talk, text="one two three")
        result = await request

        assert "".join(talk.texts) == result.response.completions[0].text
        assert request.details.step_restarts == 1
        assert request.details.cached_calls == len(request.details.attempts) + 1 == 1
    assert simulator.stats().requests == {"ok": 1}


async def test_no_kill_of_a_step_cuts_off_an_answer_that_another_call_brought(simulator: Simulator) -> None:
    """Two ask the same at once: the one that waited tells the other's answer, whatever becomes of its step."""
    async with app_for(simulator, cache="memory") as app:
        leading, waiting = Talk(hold=asyncio.Event()), Talk(hold=asyncio.Event())
        leader = app.start(leading, text="one two three")
        await until(lambda: leading.texts, "the leader's first piece")
        waiter = app.start(waiting, text="one two three")
        table = app.running_tree().cache
        assert table is not None
        (flight,) = table.table.flights.values()
        await until(lambda: flight.waiters, "the second call to join")
        assert leading.hold is not None
        leading.hold.set()
        await leader
        await until(lambda: waiting.texts, "the answer of the other")
        kill_all(runtime_of(app), "lm talk")
        assert waiting.hold is not None
        waiting.hold.set()
        result = await waiter

        assert result.cached == "coalesced"
        assert "".join(waiting.texts) == "".join(leading.texts)


async def test_killed_program_ends_a_replay_as_it_ends_any_call(simulator: Simulator, tmp_path: Path) -> None:
    """Its caller hears which; nobody reads on."""
    async with app_for(simulator, cache=tmp_path / "cache.db") as app:
        await app.run(Talk(), text="one two three")
    async with app_for(simulator, cache=tmp_path / "cache.db") as app:
        talk = Talk(hold=asyncio.Event())
        request = app.start(talk, text="one two three")
        await until(lambda: talk.texts, "the first piece")
        kill_all(runtime_of(app), request.id)
        with pytest.raises(dspex.RequestKilled):
            await request
    assert len(talk.texts) == 1


async def test_killed_transport_before_the_first_piece_is_retried(simulator: Simulator) -> None:
    """It is the network's failure, and nobody has read anything."""
    script(simulator, HANG)
    async with app_for(simulator) as app:
        talk = Talk()
        request = app.start(talk, text="one two three")
        await on_the_wire(simulator)
        actor(app, "transport").kill()
        result = await request

        assert "".join(talk.texts) == result.response.completions[0].text
        assert [attempt.outcome for attempt in request.details.attempts] == ["TransportFailed", "ok"]


async def test_killed_transport_after_a_piece_ends_the_call(simulator: Simulator) -> None:
    """The failure reaches the program with its attempts; the lease is back."""
    script(simulator, PAUSED)
    async with app_for(simulator) as app:
        talk = Talk()
        request = app.start(talk, text="one two three")
        await until(lambda: talk.texts, "the first piece")
        actor(app, "transport").kill()
        with pytest.raises(TransportFailed, match="restarted") as caught:
            await request

        assert [attempt.outcome for attempt in request.details.attempts] == ["TransportFailed"]
        assert caught.value.attempts == request.details.attempts
        await idle(app, simulator)
        assert sum(simulator.stats().requests.values()) == 1


async def test_killed_transport_while_the_reader_is_slow_ends_the_call(simulator: Simulator) -> None:
    """The attempt may be in the reader's hands just then: it ends all the same."""
    async with app_for(simulator) as app:
        talk = Talk(hold=asyncio.Event())
        request = app.start(talk, text="one two three")
        await until(lambda: talk.texts, "the first piece")
        actor(app, "transport").kill()
        with pytest.raises(TransportFailed):
            await request
        await idle(app, simulator)


async def test_killed_lm_client_costs_a_stream_nothing(simulator: Simulator) -> None:
    """A client decides, it does not carry."""
    async with app_for(simulator) as app:
        talk = Talk(hold=asyncio.Event())
        request = app.start(talk, text="one two three")
        await until(lambda: talk.texts, "the first piece")
        actor(app, "rules").kill()
        assert talk.hold is not None
        talk.hold.set()
        result = await request

        assert "".join(talk.texts) == result.response.completions[0].text
        assert len(request.details.attempts) == 1
        await idle(app, simulator)


async def test_cancelled_caller_closes_the_socket_of_its_stream(simulator: Simulator) -> None:
    """The provider sees it at once and stops generating."""
    script(simulator, PAUSED)
    async with app_for(simulator) as app:
        talk = Talk()
        caller = asyncio.ensure_future(app.run(talk, text="one two three"))
        await until(lambda: talk.texts, "the first piece")
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await idle(app, simulator)


async def test_failing_reader_ends_the_call_with_its_own_error(simulator: Simulator) -> None:
    """It is not a failure of the provider's: nothing is sent again, and its breaker does not count it."""
    script(simulator, PAUSED)

    async def fail(delta: LMDelta) -> None:
        raise KeyError("mine")

    async with app_for(simulator) as app:
        request = app.start(Talk(read=fail), text="one two three")
        with pytest.raises(KeyError, match="mine"):
            await request

        assert [attempt.outcome for attempt in request.details.attempts] == ["reader"]
        await idle(app, simulator)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(kind=FaultKind.RATE_LIMIT, retry_after=0.01),
        Fault(kind=FaultKind.SERVER_ERROR),
        Fault(kind=FaultKind.RESET),
        Fault(kind=FaultKind.TRUNCATE, after_bytes=0),
        Fault(kind=FaultKind.HTML),
    ],
    ids=lambda fault: fault.kind.value,
)
async def test_fault_before_the_first_piece_is_retried(simulator: Simulator, fault: Fault) -> None:
    """Refused whole, reset, cut off after the head, not even a stream."""
    script(simulator, fault)
    async with app_for(simulator) as app:
        talk = Talk()
        request = app.start(talk, text="one two three")
        result = await request

        assert "".join(talk.texts) == result.response.completions[0].text
        assert len(request.details.attempts) == 2
        assert request.details.attempts[-1].outcome == "ok"


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FaultKind.TRUNCATE, TransportFailed),
        (FaultKind.CUT_STREAM, StreamTruncated),
    ],
)
async def test_fault_after_a_piece_is_raised(simulator: Simulator, kind: FaultKind, error: type[LMError]) -> None:
    """Typed, with its attempt, and never tried again."""
    script(simulator, Fault(kind=kind))
    async with app_for(simulator) as app:
        talk = Talk()
        request = app.start(talk, text="one two three four five six seven eight")
        with pytest.raises(error) as caught:
            await request

        assert talk.texts
        assert [attempt.outcome for attempt in caught.value.attempts] == [type(caught.value).__name__]  # type: ignore[attr-defined]  # attempts
        assert sum(simulator.stats().requests.values()) == 1


async def test_resent_stream_is_an_attempt(simulator: Simulator) -> None:
    """The kept-alive connection was closed: the second sending has a number of its own."""
    async with app_for(simulator) as app:
        await app.run(Talk(), text="warm")
        script(simulator, Fault(kind=FaultKind.RESET))
        with collect(app, "dspex.lm.first_token") as events:
            request = app.start(Talk(), text="one two three")
            await request

        resent, answered = request.details.attempts
        assert (resent.number, resent.outcome) == (1, "resent")
        assert (answered.number, answered.outcome) == (2, "ok")
        assert answered.first_byte is not None
        assert 0 < answered.first_byte <= answered.duration
        assert answered.request_id
        assert len(events) == 1


async def test_killed_part_of_several_answers_is_all_that_is_asked_again(simulator: Simulator) -> None:
    """The other answers were written down: they are not paid for twice."""
    script(simulator, HANG)
    async with app_for(simulator) as app:  # a server of one's own is taken to give one answer at a time
        request = app.start(Talk(params=LMParams(n=3)), text="one two three")
        await until(lambda: simulator.stats().requests.get("ok") == 2, "two answers")
        await until(lambda: len([each for each in parts(app) if each.alive]) == 1, "the third to be alone")
        parts(app)[0].ref.kill()
        result = await request

        assert len(result.response.completions) == 3
        assert sorted(attempt.outcome for attempt in result.attempts) == ["killed", "ok", "ok", "ok"]
        assert simulator.stats().requests.get("ok") == 3


def parts(app: dspex.App) -> list[Process]:
    return [each for each in living(runtime_of(app), "lm talk") if " part " in each.label]
