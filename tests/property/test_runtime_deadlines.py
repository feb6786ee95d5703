"""The queue of deadlines against the plainest model: a dict of times."""

from __future__ import annotations

import asyncio
from typing import Any

import hypothesis.strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dspex.errors import CallTimeout
from dspex.runtime import Actor, Runtime
from dspex.runtime._deadlines import Deadline, DeadlineQueue
from dspex.testing import VirtualClock

TIMEOUTS = (0.0, 1.0, 5.0, 600.0)

Entry = tuple[float, "asyncio.Future[None]", DeadlineQueue, Deadline]


class DeadlineMachine(RuleBasedStateMachine):
    """Calls begin, are answered, end, and run out of time, in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.clock = VirtualClock()
        self.runtime = Runtime(clock=self.clock)
        self.open: list[Entry] = []
        self.loop.run_until_complete(self._begin())

    async def _begin(self) -> None:
        self.runtime.open()
        self.process = (await self.runtime.start(Actor()))._process

    @rule(timeout=st.sampled_from(TIMEOUTS), number=st.integers(1, 100))
    def begin(self, timeout: float, number: int) -> None:
        for _ in range(number):
            queue, future = self.runtime.deadlines[timeout], self.loop.create_future()
            self.open.append((self.clock.now() + timeout, future, queue, queue.add(future, self.process)))

    @precondition(lambda self: bool(self.open))
    @rule(data=st.data(), number=st.integers(1, 100))
    def answer_and_end(self, data: st.DataObject, number: int) -> None:
        """End some calls, wherever they are in the queue, those that have failed included."""
        for _ in range(min(number, len(self.open))):
            _, future, queue, deadline = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
            if not future.done():
                future.set_result(None)
            else:
                assert isinstance(future.exception(), CallTimeout)
            queue.finish(deadline)

    @precondition(lambda self: bool(self.open))
    @rule()
    def end_all(self) -> None:
        for _, future, queue, deadline in self.open:
            future.cancel()
            queue.finish(deadline)
        self.open.clear()

    @rule(seconds=st.sampled_from([0.0, 0.5, 1.0, 4.0, 300.0]))
    def advance(self, seconds: float) -> None:
        self.loop.run_until_complete(self.clock.advance(seconds))
        for due, future, _, _ in self.open:
            assert future.done() == (due <= self.clock.now())

    @invariant()
    def memory_is_bounded(self) -> None:
        queues: set[DeadlineQueue] = {queue for _, _, queue, _ in self.open}
        for queue in queues:
            live = sum(each is queue for _, _, each, _ in self.open)
            assert queue.live == live
            assert len(queue) <= 2 * live + 64
        assert self.clock.pending <= len(TIMEOUTS)

    def teardown(self) -> None:
        self.end_all_quietly()
        self.loop.run_until_complete(self.clock.settle())
        assert len(self.runtime.deadlines) == 0
        assert self.clock.pending == 0
        self.loop.run_until_complete(self.runtime.close())
        self.loop.close()

    def end_all_quietly(self) -> None:
        for _, future, queue, deadline in self.open:
            if future.done():
                future.exception()
            future.cancel()
            queue.finish(deadline)


TestDeadlines: Any = DeadlineMachine.TestCase
