"""The clock that other tests trust."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from dspex.runtime import Actor, Idle, IdleTimeout, Runtime
from dspex.testing import VirtualClock

CLEAN = contextvars.Context()


async def test_timers_fire_in_the_order_of_their_times_then_of_their_making() -> None:
    """Code that relies on the loop's order must meet the same order here."""
    clock, seen = VirtualClock(), list[str]()
    for delay, name in ((2.0, "c"), (1.0, "a"), (1.0, "b")):
        clock.call_later(delay, seen.append, name, context=CLEAN)
    await clock.advance(1.5)
    assert seen == ["a", "b"]
    assert clock.now() == 1.5
    await clock.advance(0.5)
    assert seen == ["a", "b", "c"]


async def test_advance_sees_the_time_of_each_timer_not_of_its_own_end() -> None:
    """A timer's callback that reads the time, or sets another timer, must not see the future."""
    clock, seen = VirtualClock(), list[float]()

    def tick() -> None:
        seen.append(clock.now())
        if len(seen) < 3:
            clock.call_later(1.0, tick, context=CLEAN)

    clock.call_later(1.0, tick, context=CLEAN)
    await clock.advance(10.0)
    assert seen == [1.0, 2.0, 3.0]
    assert clock.now() == 10.0


async def test_a_cancelled_timer_does_not_fire_even_in_its_own_tick() -> None:
    """Two timers of one time: the first may call off the second, as with the loop's own."""
    clock, seen = VirtualClock(), list[str]()
    clock.call_later(1.0, lambda: second.cancel(), context=CLEAN)
    second = clock.call_later(1.0, seen.append, "second", context=CLEAN)
    await clock.advance(2.0)
    second.cancel()
    assert seen == []
    assert clock.pending == 0


async def test_ten_steps_of_a_tenth_reach_one_second() -> None:
    """Sums of floats fall short of what they should be; tests must not have to care."""
    clock, seen = VirtualClock(), list[int]()
    clock.call_later(1.0, seen.append, 1, context=CLEAN)
    for _ in range(10):
        await clock.advance(0.1)
    assert seen == [1]


async def test_callbacks_run_in_their_own_context() -> None:
    """A test's context variables must not leak into timers that were made with a clean context."""
    variable = contextvars.ContextVar("variable", default="clean")
    variable.set("dirty")
    clock, seen = VirtualClock(), list[str]()
    clock.call_later(0.0, lambda: seen.append(variable.get()), context=contextvars.Context())
    await clock.advance(0.0)
    assert seen == ["clean"]


async def test_settle_fires_what_is_due_now() -> None:
    """A delay of zero needs no time to pass, only a turn of the loop."""
    clock, seen = VirtualClock(), list[int]()
    clock.call_later(0.0, seen.append, 1, context=CLEAN)
    clock.call_later(0.1, seen.append, 2, context=CLEAN)
    assert seen == []
    await clock.settle()
    assert seen == [1]
    assert clock.now() == 0.0


async def test_settle_waits_for_chains_of_tasks() -> None:
    """A message may pass through many tasks before everybody waits again."""
    clock, loop = VirtualClock(), asyncio.get_running_loop()
    futures = [loop.create_future() for _ in range(50)]

    async def pass_on(number: int) -> None:
        futures[number + 1].set_result(await futures[number])

    tasks = [asyncio.ensure_future(pass_on(number)) for number in range(49)]
    futures[0].set_result("there")
    await clock.settle()
    assert futures[-1].result() == "there"
    assert all(task.done() for task in tasks)


async def test_autojump_moves_on_whenever_everybody_waits() -> None:
    """Hours of waiting pass at once, and the block's end stops the jumping."""
    clock = VirtualClock()

    class Sleeper(Actor):
        async def init(self) -> Idle:
            return Idle(3600.0)

        async def handle_info(self, message: object) -> None:
            assert message == IdleTimeout()
            done.set_result(clock.now())

    done: asyncio.Future[float] = asyncio.get_running_loop().create_future()
    async with Runtime(clock=clock) as runtime:
        async with clock.autojump():
            await runtime.start(Sleeper())
            assert await done == 3600.0
        clock.call_later(1.0, pytest.fail, "the clock moved after the block", context=CLEAN)
        await clock.settle()
        assert clock.now() == 3600.0


async def test_autojump_waits_for_the_first_timer() -> None:
    """The block may begin before there is anything to jump to."""
    clock, fired = VirtualClock(), asyncio.Event()
    async with clock.autojump():
        await clock.settle()
        clock.call_later(5.0, fired.set, context=CLEAN)
        await fired.wait()
    assert clock.now() == 5.0


async def test_cancelled_timers_do_not_pile_up() -> None:
    """Every answered call leaves a cancelled timer; a long test must not drown in them."""
    clock = VirtualClock()
    for _ in range(10_000):
        clock.call_later(5.0, pytest.fail, context=CLEAN).cancel()
    assert len(clock._timers) < 1_000
    assert clock.next_timer is None
