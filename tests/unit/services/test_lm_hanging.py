"""A provider that says nothing until its callers' time is over is down: in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from dspex.errors import CircuitOpen
from dspex.services.lm.breaker import BreakerState
from dspex.services.lm.leases import Lease
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.retry import Raise
from tests.unit.services.test_lm_client import Room


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    made = Room()
    await made.start(ClientLimits())
    yield made
    await made.runtime.close()


async def send(room: Room, count: int, *, deadline: float) -> list[Lease]:
    """Return the leases of calls that were sent just now."""
    leases = [await room.lease(deadline=room.clock.now() + deadline) for _ in range(count)]
    for lease in leases:
        lease.sent, lease.sent_at = True, room.clock.now()
    return leases


async def cut_off(room: Room, leases: list[Lease]) -> None:
    """Kill the callers, as the end of their time does."""
    for lease in leases:
        lease.holder.kill()
    await room.clock.settle()


def state(room: Room) -> BreakerState:
    return room.actor()._book._breaker.state


async def test_calls_that_hear_nothing_until_their_deadline_open_the_breaker(room: Room) -> None:
    """The next caller is told at once, and not after another two minutes."""
    leases = await send(room, 10, deadline=120.0)
    await room.clock.advance(120.0)
    await cut_off(room, leases)

    assert state(room) is BreakerState.OPEN
    assert [facts["state"] for _, facts in room.named("dspex.lm.breaker")] == ["open"]
    process = room.ask(deadline=room.clock.now() + 1.0)
    await room.clock.settle()
    refusal = room.told(process)
    assert isinstance(refusal, Raise)
    assert isinstance(refusal.error, CircuitOpen)


async def test_a_hanging_probe_keeps_it_open(room: Room) -> None:
    """For a cooldown, as any outage does: one that is back is to be found soon."""
    await cut_off_after(room, 120.0, await send(room, 10, deadline=120.0))
    await room.clock.advance(2.0)
    (probe,) = await send(room, 1, deadline=60.0)
    await cut_off_after(room, 60.0, [probe])

    assert state(room) is BreakerState.OPEN
    assert room.actor()._book._breaker.retry_after(room.clock.now()) == pytest.approx(1.0)


async def test_who_waits_for_a_silent_probe_is_a_probe_soon(room: Room) -> None:
    """It hangs on a connection that was lost, and the server is back: nobody waits for its caller's time to end."""
    await cut_off_after(room, 120.0, await send(room, 10, deadline=120.0))
    await room.clock.advance(2.0)
    await send(room, 1, deadline=60.0)
    waiting = [room.ask(deadline=room.clock.now() + 60.0) for _ in range(3)]
    await room.clock.settle()
    granted = []
    for _ in range(2):
        await room.clock.advance(1.0)
        granted.append(sum(isinstance(room.told(each), Lease) for each in waiting))
    assert granted == [1, 2]

    lease = next(found for each in waiting if isinstance(found := room.told(each), Lease))
    lease.sent, lease.sent_at = True, room.clock.now()
    await room.settle(lease)
    assert state(room) is BreakerState.CLOSED
    assert isinstance(room.told(waiting[2]), Lease)


async def cut_off_after(room: Room, seconds: float, leases: list[Lease]) -> None:
    await room.clock.advance(seconds)
    await cut_off(room, leases)


async def test_callers_who_give_up_before_their_time_tell_nothing(room: Room) -> None:
    """They may have any reason."""
    await cut_off_after(room, 100.0, await send(room, 20, deadline=120.0))

    assert state(room) is BreakerState.CLOSED


async def test_callers_with_little_time_tell_nothing(room: Room) -> None:
    """Nine seconds are not long for a model that thinks."""
    await cut_off_after(room, 9.0, await send(room, 20, deadline=9.0))

    assert state(room) is BreakerState.CLOSED


async def test_an_answer_that_had_begun_tells_nothing(room: Room) -> None:
    """The provider is there; the answer was too long."""
    leases = await send(room, 20, deadline=60.0)
    await room.clock.advance(30.0)
    for lease in leases:
        lease.begun_at = room.clock.now()
    await cut_off_after(room, 30.0, leases)

    assert state(room) is BreakerState.CLOSED


async def test_a_call_that_was_never_sent_tells_nothing(room: Room) -> None:
    """It waited here, not there."""
    leases = await send(room, 20, deadline=60.0)
    for lease in leases:
        lease.sent = False
    await cut_off_after(room, 60.0, leases)

    assert state(room) is BreakerState.CLOSED


@pytest.mark.parametrize(("usual", "expected"), [(45.0, BreakerState.CLOSED), (5.0, BreakerState.OPEN)])
async def test_a_slow_model_is_given_twice_its_usual_time(room: Room, usual: float, expected: BreakerState) -> None:
    """Its usual time is learned from its answers."""
    for lease in await send(room, 20, deadline=600.0):
        lease.begun_at = lease.sent_at + usual
        await room.settle(lease)
    await room.clock.advance(11.0)  # the breaker's window
    await cut_off_after(room, 60.0, await send(room, 12, deadline=60.0))

    assert state(room) is expected


async def test_a_caller_that_settles_at_its_deadline_tells_the_same(room: Room) -> None:
    """A race's own end gives the leases back by a message, before anybody is seen to be dead."""
    leases = await send(room, 10, deadline=30.0)
    await room.clock.advance(30.0)
    for lease in leases:
        await room.settle(lease, cancelled=True)

    assert state(room) is BreakerState.OPEN
