"""A stream of tasks against a list of inputs, of which a window of at most ``max_concurrency`` is open."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from dspex.errors import ActorExited, CallTimeout
from dspex.runtime import KILL, KILLED, TIMED_OUT, Crashed, Normal, OnTimeout, TaskResult, TaskStream, TaskSupervisor
from tests.conformance.kids import Host
from tests.support.on_a_loop import OnALoop

Outcome = Literal["ok", "failed", "timeout", "killed"]


@dataclass
class Open:
    """One input that was taken from the source and whose result was not handed over yet."""

    item: int
    deadline: float | None
    outcome: Outcome | None = None


class StreamMachine(OnALoop):
    """An actor consumes a stream when told to; its tasks end when told to; and both may be killed at any time."""

    @initialize(
        items=st.sampled_from([12, 5, 3, 1, 0]),
        limit=st.sampled_from([3, 2, 4, 1]),
        ordered=st.booleans(),
        timeout=st.sampled_from([None, 10.0]),
        on_timeout=st.sampled_from([OnTimeout.EXIT, OnTimeout.KILL_TASK]),
        linked=st.sampled_from([False, False, True]),
        asynchronous=st.booleans(),
        patience=st.sampled_from([40, 20, 10, 5, 0]),
    )
    def start(
        self,
        items: int,
        limit: int,
        ordered: bool,
        timeout: float | None,
        on_timeout: OnTimeout,
        linked: bool,
        asynchronous: bool,
        patience: int,
    ) -> None:
        self.patience = patience  # rules that end everything wait for so many others
        self.items, self.limit, self.ordered, self.timeout = items, limit, ordered, timeout
        self.on_timeout, self.linked, self.asynchronous = on_timeout, linked, asynchronous
        self.gates: dict[int, asyncio.Future[int]] = {}
        self.running: set[int] = set()
        self.most = self.taken = self.handed_over = 0
        self.source_open = False
        self.said: list[object] = []
        # the model
        self.ended: list[Open] = []  # of the window, in the order in which they ended
        self.window: list[Open] = []
        self.next_item = 0
        self.expected: list[object] = []
        self.begun = self.asking = self.late = self.over = self.owner_dead = self.fed = False

        self.tasks: Any = self.do(self.runtime.start(TaskSupervisor()))
        self.host = self.do(self.runtime.start(Host()))
        self.commands: asyncio.Queue[str] = asyncio.Queue()
        self.stream: TaskStream[int, int] = self.tasks.stream(
            self.work,
            self.async_source() if asynchronous else self.source(),
            max_concurrency=limit,
            ordered=ordered,
            timeout=timeout,
            on_timeout=on_timeout,
            linked=linked,
        )
        calling = self.loop.create_task(self.host.call(self.consume, timeout=None))
        calling.add_done_callback(lambda done: done.exception())
        self.settle()

    # --- what really happens --------------------------------------------------------------------------------

    def source(self) -> Iterator[int]:
        self.source_open = True
        try:
            for number in range(self.items):
                self.taken += 1
                yield number
        finally:
            self.source_open = False

    async def async_source(self) -> AsyncIterator[int]:
        for number in self.source():
            yield number

    async def work(self, item: int) -> int:
        self.running.add(item)
        self.most = max(self.most, len(self.running))
        self.gates[item] = self.loop.create_future()
        try:
            return await self.gates[item]
        finally:
            self.running.discard(item)

    async def consume(self) -> None:
        async with self.stream as results:
            while await self.commands.get() == "next":
                try:
                    result = await anext(results)
                except StopAsyncIteration:
                    self.said.append("end")
                except CallTimeout:
                    self.said.append("late")
                except ActorExited:
                    self.said.append("exited")
                else:
                    self.handed_over += 1
                    self.said.append(self.shown(result))

    @staticmethod
    def shown(result: TaskResult[int, int]) -> tuple[int, Outcome]:
        assert result.ok is isinstance(result.reason, Normal)
        if result.ok:
            assert result.value == 10 * result.item
            return result.item, "ok"
        assert result.value is None
        if isinstance(result.reason, Crashed):
            assert repr(result.reason.error) == f"KeyError({result.item})"
            return result.item, "failed"
        assert result.reason in (TIMED_OUT, KILLED)
        return result.item, "timeout" if result.reason == TIMED_OUT else "killed"

    # --- the model ------------------------------------------------------------------------------------------

    def model_open(self) -> None:
        deadline = None if self.timeout is None else self.clock.now() + self.timeout
        self.window.append(Open(self.next_item, deadline))
        self.next_item += 1

    def model_feed(self) -> None:
        """An asynchronous source is read without being asked, once it has begun."""
        if self.asynchronous and self.begun and not self.owner_dead and not self.fed:
            while self.next_item < self.items and len(self.window) < self.limit:
                self.model_open()
            self.fed = self.next_item == self.items and len(self.window) < self.limit

    def model_pull(self) -> bool:
        """Open inputs while there is room; False when there is nobody to work on them."""
        self.begun = True
        self.model_feed()
        if self.asynchronous:
            return self.fed or not self.owner_dead
        while self.next_item < self.items and len(self.window) < self.limit:
            if self.owner_dead:
                self.next_item += 1
                return False
            self.model_open()
        return True

    def model_answer(self) -> None:
        """Hand over what is due, if the consumer asks."""
        if not self.asking or self.over:
            return
        if self.late:
            self.expected.append("late")
        elif not self.model_pull():
            self.expected.append("exited")
        else:
            candidates = self.window[:1] if self.ordered else self.ended
            ready = next((each for each in candidates if each.outcome), None)
            if ready is not None:
                self.window.remove(ready)
                self.ended.remove(ready)
                self.expected.append((ready.item, ready.outcome))
                self.model_feed()
            elif not self.window and self.next_item == self.items:
                self.expected.append("end")
            else:
                return
        self.asking = False

    def model_end(self, each: Open, outcome: Outcome) -> None:
        each.outcome, each.deadline = outcome, None
        self.ended.append(each)
        if self.linked and outcome != "ok":
            self.over = True
        self.model_answer()

    # --- rules ----------------------------------------------------------------------------------------------

    def alive(self) -> list[Open]:
        return [] if self.over else [each for each in self.window if each.outcome is None]

    @precondition(lambda self: not self.over and not self.asking and self.expected[-2:] != ["end", "end"])
    @rule()
    def ask(self) -> None:
        self.commands.put_nowait("next")
        self.settle()
        self.asking = True
        self.model_answer()

    @precondition(lambda self: bool(self.alive()))
    @rule(data=st.data(), how=st.sampled_from(["ok", "ok", "ok", "failed", "killed"]))
    def end_task(self, data: st.DataObject, how: Outcome) -> None:
        each = data.draw(st.sampled_from(self.alive()))
        if how == "ok":
            self.gates[each.item].set_result(10 * each.item)
        elif how == "failed":
            self.gates[each.item].set_exception(KeyError(each.item))
        else:
            next(task for task, item in self.stream._window.items() if item == each.item).receive_exit(KILL, None)
        self.settle()
        self.model_end(each, how)

    @rule(seconds=st.sampled_from([1.0, 4.0, 10.0]))
    def time_passes(self, seconds: float) -> None:
        until = self.clock.now() + seconds
        while due := [each for each in self.alive() if each.deadline is not None and each.deadline <= until]:
            each = min(due, key=lambda each: each.deadline or 0.0)
            assert each.deadline is not None
            self.do(self.clock.advance(each.deadline - self.clock.now()))
            if self.on_timeout is OnTimeout.KILL_TASK:
                self.model_end(each, "timeout")
            else:
                self.late, each.deadline = True, None
                self.model_answer()
        self.do(self.clock.advance(until - self.clock.now()))

    @precondition(lambda self: not self.over and not self.asking and self.patience <= 0)
    @rule()
    def leave(self) -> None:
        self.commands.put_nowait("leave")
        self.settle()
        self.over = True
        assert self.host.alive  # what it was linked to was unlinked before it was killed

    @precondition(lambda self: not self.over and self.patience <= 0)
    @rule()
    def kill_consumer(self) -> None:
        self.host.kill()
        self.settle()
        self.over = True

    @precondition(lambda self: not self.owner_dead and self.patience <= 0)
    @rule()
    def kill_supervisor(self) -> None:
        self.tasks.kill()
        self.settle()
        self.owner_dead = True
        victims = self.alive()
        for each in reversed(victims):  # a family dies the youngest first
            each.outcome, each.deadline = "killed", None
            self.ended.append(each)
        if self.linked and victims:
            self.over = True
        self.model_answer()

    # --- what must hold -------------------------------------------------------------------------------------

    @invariant()
    def agree(self) -> None:
        if not hasattr(self, "stream"):
            return
        self.patience -= 1
        assert self.said == self.expected
        assert self.most <= self.limit
        assert len(self.stream._window) <= self.limit
        if not self.owner_dead:
            assert self.taken <= self.handed_over + self.limit
        if self.over:
            assert not self.running
            assert not self.source_open
            assert not self.tasks._process.children
            assert self.clock.pending == 0
        else:
            assert self.running == {each.item for each in self.alive()}
            assert list(self.stream._window.values()) == [each.item for each in self.window]


TestStream: Any = StreamMachine.TestCase
TestStream.settings = settings(stateful_step_count=40)
