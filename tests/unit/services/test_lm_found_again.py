"""A server that is down is looked at often, by few, and found soon: in virtual time."""

from __future__ import annotations

import functools
import math
from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.errors import CircuitOpen, LMError, ServerFailed, TransportFailed
from dspex.services.lm.breaker import BreakerState
from dspex.services.lm.client import LOOK_AGAIN
from dspex.services.lm.leases import Lease
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.retry import LOOK, Raise, RetryAfter, RetryPolicy
from tests.unit.services.test_lm_client import Room

LOADING = ServerFailed("loading model", status=503)
POLICY = RetryPolicy()


def refused() -> TransportFailed:
    error = TransportFailed("refused")
    error.may_be_charged = False
    return error


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    made = Room()
    await made.start(ClientLimits())
    yield made
    await made.runtime.close()


class Caller:
    """A logical call at a server that is down, with what it did."""

    def __init__(self, room: Room, error: LMError) -> None:
        self.room = room
        self.error = error
        self.sent = 0
        self.attempt = 0
        self.waited = 0.0
        self.delays: list[float] = []

    async def look(self) -> LMError | None:
        """Make one try and wait as it is told; return the error that ends the call."""
        self.attempt += 1
        process = self.room.ask(attempt=self.attempt, waited=self.waited)
        await self.room.clock.settle()
        verdict = self.room.told(process)
        if isinstance(verdict, Lease):
            self.sent += 1
            verdict = await self.room.settle(verdict, self.error, attempt=self.attempt, waited=self.waited)
        if isinstance(verdict, Raise):
            return verdict.error
        assert isinstance(verdict, RetryAfter)
        self.delays.append(verdict.delay)
        self.waited += verdict.delay
        await self.room.clock.advance(verdict.delay)
        return None

    async def to_its_end(self) -> LMError:
        while (error := await self.look()) is None:
            pass
        return error


async def test_a_lone_caller_looks_again_within_a_second_and_a_half_and_has_as_much_patience(room: Room) -> None:
    """Its six tries lasted for eight seconds on average, the last wait for up to eight."""
    caller = Caller(room, LOADING)
    end = await caller.to_its_end()

    assert isinstance(end, (ServerFailed, CircuitOpen))
    assert max(caller.delays) <= LOOK
    assert caller.waited >= POLICY.patience == 7.75
    assert caller.sent <= 10 + POLICY.patience  # then the breaker sends one a second at most


async def test_an_address_where_nobody_ever_was_is_told_after_six_tries(room: Room) -> None:
    """It is probably wrong, and whoever wrote it is waiting for the message."""
    caller = Caller(room, refused())
    assert await caller.to_its_end() is caller.error
    assert (caller.sent, caller.attempt) == (6, 6)


async def test_a_server_that_was_there_is_waited_for(room: Room) -> None:
    """It is being restarted."""
    await room.settle(await room.lease())
    caller = Caller(room, refused())
    await caller.to_its_end()
    assert caller.attempt > 6
    assert caller.waited >= POLICY.patience
    assert max(caller.delays) <= LOOK


async def test_a_server_that_answers_others_is_given_time(room: Room) -> None:
    """It is not down, it has too much to do."""
    caller = Caller(room, LOADING)
    end = None
    while end is None:
        end = await caller.look()
        for _ in range(2):
            await room.settle(await room.lease())
    assert caller.attempt == 6
    assert max(caller.delays) > LOOK


async def test_many_who_wait_do_not_all_ask(room: Room) -> None:
    """All have sent once when the breaker opens; then one a second looks, whoever it is."""
    callers = [Caller(room, LOADING) for _ in range(40)]
    start = room.clock.now()
    ends: list[LMError] = []
    waiting = list(callers)
    while waiting:
        for caller in list(waiting):
            if (end := await caller.look()) is not None:
                ends.append(end)
                waiting.remove(caller)
    assert len(ends) == 40
    assert sum(caller.sent for caller in callers) <= 10 + (room.clock.now() - start) + 1


async def test_a_probes_first_piece_lets_the_others_go_on(room: Room) -> None:
    """They need not wait for the end of a long answer; its failure later on is one like others."""
    for _ in range(10):
        await room.settle(await room.lease(), LOADING)
    await room.clock.advance(1.0)
    probe, other = await room.lease(), room.ask()
    await room.clock.settle()
    assert room.told(other) is None
    book, now = room.actor()._book, room.clock.now()

    assert book.begun(probe, now)
    room.runtime.named("m0").send(LOOK_AGAIN)
    await room.clock.settle()

    assert isinstance(room.told(other), Lease)
    assert [facts["state"] for _, facts in room.named("dspex.lm.breaker")] == ["open", "half_open", "closed"]
    assert not book.begun(probe, now)
    await room.settle(probe, LOADING)
    assert book._breaker.state is BreakerState.CLOSED


async def test_the_first_piece_of_an_older_call_does_not_close_it(room: Room) -> None:
    """It was sent before the server went away."""
    old = await room.lease()
    for _ in range(10):
        await room.settle(await room.lease(), LOADING)
    await room.clock.advance(1.0)
    await room.lease()

    assert not room.actor()._book.begun(old, room.clock.now())
    assert room.actor()._book._breaker.state is BreakerState.HALF_OPEN


draws = st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20)
policies = st.builds(
    RetryPolicy,
    max_attempts=st.integers(1, 12),
    base=st.floats(0, 2, allow_nan=False),
    cap=st.floats(2, 60, allow_nan=False),
)


@given(draws, policies, st.none() | st.floats(0, 60, allow_nan=False))
def test_patience_is_used_up_by_looks_that_never_stop_short(
    drawn: list[float], policy: RetryPolicy, asked: float | None
) -> None:
    """Whatever the draws: Retry-After is a minimum, the tries end, and not before both limits are reached."""
    error = ServerFailed("loading", status=503, retry_after=asked)
    attempt, waited = 1, 0.0
    while True:
        draw = functools.partial(drawn.__getitem__, attempt % len(drawn))
        verdict = policy.judge(error, attempt, now=0.0, deadline=math.inf, rand=draw, down=True, waited=waited)
        if isinstance(verdict, Raise):
            break
        assert (asked or 0.0) <= verdict.delay <= max(LOOK, asked or 0.0)
        attempt, waited = attempt + 1, waited + verdict.delay
    assert attempt >= policy.max_attempts
    assert waited >= policy.patience or policy.max_attempts == 1
    assert attempt <= policy.max_attempts + 1 + policy.patience / max(1e-9, min(policy.base, LOOK) / 2)
