"""Calls that share a timeout share a timer."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from dspex._clock import TimerHandle
from dspex.errors import ActorExited, CallTimeout
from dspex.runtime import Actor, ActorRef, From, Next, NoReply, Reply, Runtime
from dspex.testing import VirtualClock


class Server(Actor):
    """Answers at once, after a turn of the loop, or when told."""

    def __init__(self) -> None:
        self.kept: list[From] = []

    async def handle_call(self, message: Any, sender: From) -> Next:
        if message == "later":
            self.kept.append(sender)
            return NoReply()
        if message == "soon":
            await asyncio.sleep(0)
        return Reply(message)


async def test_calls_of_one_timeout_share_a_timer(runtime: Runtime, clock: VirtualClock) -> None:
    """However many there are; each fails at its own time."""
    ref = await runtime.start(Server())
    ends = list[tuple[str, float]]()

    async def call(name: str, timeout: float) -> None:
        with pytest.raises(CallTimeout):
            await ref.call("later", timeout=timeout)
        ends.append((name, clock.now()))

    calls = []
    for number in range(5):
        calls += [asyncio.ensure_future(call(f"five {number}", 5.0)), asyncio.ensure_future(call(f"two {number}", 2))]
        await clock.advance(0.25)
    assert clock.pending == 2
    await clock.advance(10.0)
    await asyncio.gather(*calls)
    fives = [(f"five {number}", 5.0 + 0.25 * number) for number in range(5)]
    twos = [(f"two {number}", 2.0 + 0.25 * number) for number in range(5)]
    assert ends == [*twos, *fives]
    assert (clock.pending, len(runtime.deadlines)) == (0, 0)


async def test_the_timer_goes_when_the_last_call_has_ended(runtime: Runtime, clock: VirtualClock) -> None:
    """In the loop's next turn: who calls again at once needs no other."""
    ref = await runtime.start(Server())
    await ref.call("soon", timeout=600.0)
    assert clock.pending == 1
    await ref.call("soon", timeout=600.0)
    assert clock._made == 1
    await clock.settle()
    assert (clock.pending, len(runtime.deadlines)) == (0, 0)
    await ref.call("soon", timeout=600.0)
    assert clock._made == 2


async def test_an_answer_in_the_callers_tick_needs_no_timer(runtime: Runtime, clock: VirtualClock) -> None:
    """Nobody waits, so nothing can be too late."""
    ref = await runtime.start(Server())
    await ref.call("soon")
    await clock.settle()
    made = clock._made
    assert await ref.call("now", timeout=0.0) == "now"
    assert (clock._made, len(runtime.deadlines)) == (made, 0)


@pytest.mark.parametrize("end", ["reply", "cancel", "death"])
async def test_a_call_that_ends_early_leaves_nothing(runtime: Runtime, clock: VirtualClock, end: str) -> None:
    """However it ends, and be it the head of the queue, whose time the timer is set for."""
    server = Server()
    ref = await runtime.start(server)
    first = asyncio.ensure_future(ref.call("later", timeout=5.0))
    await clock.advance(1.0)
    second = asyncio.ensure_future(ref.call("later", timeout=5.0))
    await clock.settle()
    if end == "reply":
        server.kept[0].reply("soon")
        assert await first == "soon"
    elif end == "cancel":
        first.cancel()
        await asyncio.wait([first])
    else:
        ref.kill()
        for each in (first, second):
            with pytest.raises(ActorExited):
                await each
        await clock.settle()
        assert clock.pending == 0
        return
    await clock.advance(4.5)  # past the time of the first
    assert not second.done()
    await clock.advance(0.5)
    with pytest.raises(CallTimeout):
        await second
    assert clock.now() == 6.0
    await clock.settle()
    assert clock.pending == 0


async def test_no_time_at_all(runtime: Runtime, clock: VirtualClock) -> None:
    """Zero fails in the next turn, unless the answer is there first; None waits."""
    ref = await runtime.start(Server())
    with pytest.raises(CallTimeout):
        async with clock.autojump():
            await ref.call("later", timeout=0)
    assert clock.now() == 0.0
    waiting = asyncio.ensure_future(ref.call("later", timeout=None))
    await clock.advance(1e6)
    assert not waiting.done()
    assert clock.pending == 0
    waiting.cancel()


async def test_a_slow_call_does_not_keep_the_fast_ones(runtime: Runtime, clock: VirtualClock) -> None:
    """Ten thousand answered calls behind one that waits are forgotten, and so is what they were answered with."""
    ref = await runtime.start(Server())
    slow = asyncio.ensure_future(ref.call("later", timeout=600.0))
    await clock.settle()
    queue = runtime.deadlines[600.0]
    longest = 0
    for _ in range(10_000):
        await ref.call("at once", timeout=600.0)
        longest = max(longest, len(queue))
    assert longest < 100
    assert all(due is not None and (future is None) == (process is None) for due, future, process in queue._entries)
    assert sum(future is not None for _, future, _ in queue._entries) == queue.live == 1
    slow.cancel()
    await asyncio.wait([slow])


async def test_timeouts_that_are_all_different_leave_no_queues(runtime: Runtime, clock: VirtualClock) -> None:
    """Who passes on what is left of a deadline never uses the same number twice."""
    ref = await runtime.start(Server())
    for number in range(1_000):
        await ref.call("x", timeout=5.0 + number / 1_000)
    assert len(runtime.deadlines) < 10
    await clock.settle()
    assert (len(runtime.deadlines), clock.pending) == (0, 0)


async def test_on_the_time_of_the_loop() -> None:
    """Its timers come when they come: a little early is on time, and nobody is failed before."""
    async with Runtime() as runtime:
        ref = await runtime.start(Server())
        began = runtime.clock.now()
        calls = [asyncio.ensure_future(_failing(ref, 0.02)) for _ in range(3)]
        await asyncio.gather(*calls)
        assert runtime.clock.now() - began >= 0.018


async def _failing(ref: ActorRef, timeout: float) -> None:
    with pytest.raises(CallTimeout):
        await ref.call("later", timeout=timeout)


class Early(VirtualClock):
    """A clock whose timers come a quarter of a millisecond early, as a loop with coarse time may have them."""

    def call_later(self, delay: float, callback: Any, *args: object, context: Any) -> Any:
        handle: TimerHandle = super().call_later(max(0.0, delay - 0.00025), callback, *args, context=context)
        return handle


async def test_a_timer_that_comes_early_counts_as_on_time() -> None:
    """Setting it anew for the rest would spin until the time is there."""
    clock = Early()
    async with Runtime(clock=clock) as runtime:
        ref = await runtime.start(Server())
        call = asyncio.ensure_future(_failing(ref, 1.0))
        await clock.settle()
        made = clock._made
        await clock.advance(1.0)
        await call
        assert clock._made == made


def test_a_loop_that_is_gone_takes_its_timers_along() -> None:
    """A call that is thrown away after its loop has closed has nothing to cancel, and says nothing."""
    loop, runtime = asyncio.new_event_loop(), Runtime()

    async def begin() -> Callable[[], None]:
        runtime.open()
        queue = runtime.deadlines[5.0]
        ref = await runtime.start(Server())
        deadline = queue.add(loop.create_future(), ref._process)
        return lambda: queue.finish(deadline)

    finish = loop.run_until_complete(begin())
    loop.close()
    finish()
    assert runtime.deadlines[5.0].live == 0
