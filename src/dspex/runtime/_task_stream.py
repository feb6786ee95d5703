"""One task for each of many inputs, with back-pressure: results come at the pace of who consumes them."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator, Iterable, Iterator
from contextvars import Context, copy_context
from dataclasses import dataclass
from functools import partial
from types import TracebackType
from typing import Any, Final, Generic, Self, TypeVar

from dspex.errors import ActorExited, CallTimeout, SpecError
from dspex.runtime._chain import refuse_wait
from dspex.runtime._child_spec import check_seconds
from dspex.runtime._context import current_process
from dspex.runtime._exit import KILL, Crashed, ExitReason, Normal, Other
from dspex.runtime._process import Process
from dspex.runtime._task_handle import OnTimeout
from dspex.runtime._task_process import TaskProcess

__all__ = ["TIMED_OUT", "StreamOptions", "TaskResult", "TaskStream"]

T = TypeVar("T")
R = TypeVar("R")

TIMED_OUT: Final = Other("timeout")
"""Why an item of a stream has no value: it took longer than the stream's ``timeout``."""


class TaskResult(Generic[T, R]):
    """The end of one input of a stream: ``item``, and ``value`` when the task returned, which ``ok`` says."""

    __slots__ = ("item", "ok", "reason", "value")

    def __init__(self, item: T, reason: ExitReason, value: R | None, ok: bool) -> None:
        self.item = item
        self.reason = reason
        self.value = value
        self.ok = ok


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """The options of ``TaskSupervisorRef.stream``; SpecError names the invalid one."""

    max_concurrency: int
    ordered: bool = True
    timeout: float | None = None
    on_timeout: OnTimeout = OnTimeout.EXIT
    linked: bool = False
    context: Context | None = None

    def __post_init__(self) -> None:
        if self.max_concurrency < 1:
            raise SpecError("max_concurrency", self.max_concurrency, "an int >= 1")
        if self.timeout is not None:
            check_seconds("timeout", self.timeout, minimum=0.0)
        if self.on_timeout not in (OnTimeout.EXIT, OnTimeout.KILL_TASK):
            raise SpecError("on_timeout", self.on_timeout, "EXIT or KILL_TASK")


class TaskStream(Generic[T, R]):
    """
    Results of many tasks, with back-pressure; an async context manager and iterator.

    ``admit`` is called before each task is started; what it raises is raised to the consumer.
    """

    def __init__(
        self,
        owner: Process,
        work: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        options: StreamOptions,
        *,
        admit: Callable[[], object] | None = None,
    ) -> None:
        self._owner = owner
        self._admit = admit
        self._work = work
        self._items = items
        self._options = options
        self._limit = options.max_concurrency
        self._linked_to: Process | None = None
        self._late: CallTimeout | None = None
        self._window: dict[TaskProcess, T] = {}
        self._next: deque[TaskProcess] = deque()  # as they are handed over: by their start, or by their end
        self._iterator: Iterator[T] | None = None
        self._feeder: TaskProcess | None = None
        self._begun = self._ended = self._closed = False
        self._wake = asyncio.Event()
        self._room = asyncio.Event()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Kill what still runs, wait until it is dead, close the source; a second call does nothing."""
        self._ended = self._closed = True
        running = list(self._window)
        self._window.clear()
        self._next.clear()
        if self._feeder is not None:
            running.append(self._feeder)  # closes its source itself
        for task in running:
            if self._linked_to is not None:
                self._linked_to.unlink(task)
            task.receive_exit(KILL, None)
        if isinstance(self._iterator, Generator):
            self._iterator.close()
        for task in running:
            await task.wait_exit(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> TaskResult[T, R]:
        self._begin()
        while True:
            if self._late is not None and not self._closed:
                raise self._late
            self._fill()
            found = self._take()
            if found is not None:
                return _result(*found)
            if self._ended and not self._window:
                raise StopAsyncIteration
            self._wake.clear()  # after the looks above and before the wait, with no await between: no death is missed
            # Of several that come as they are ready, one that calls back does not hold up the others.
            for_all = self._options.ordered or len(self._window) == 1
            if for_all:
                refuse_wait(self._window)
            noted = self._owner.runtime.exit_waits.begin(self._window) if for_all else None
            try:
                await self._wake.wait()
            finally:
                self._owner.runtime.exit_waits.end(noted)

    def _take(self) -> tuple[T, TaskProcess] | None:
        """Remove and return the next pair that may be handed over, if there is one."""
        if not self._next or not self._next[0].dead:
            return None
        task = self._next.popleft()
        self._room.set()
        return self._window.pop(task), task

    def _begin(self) -> None:
        if self._begun or self._closed:
            return
        self._begun = True
        self._linked_to = current_process() if self._options.linked else None
        if isinstance(self._items, AsyncIterable):
            self._feeder = self._owner.spawn_task(
                self._feed, self._items, label="stream source", context=copy_context()
            )
            self._feeder.on_dead(self._wake.set)
        else:
            self._iterator = iter(self._items)

    def _fill(self) -> None:
        """Start tasks for as many inputs as there is room for; what is wrong with the source is raised here."""
        if self._feeder is not None and self._feeder.dead and not self._closed:
            self._ended = True
            reason = self._feeder.exit_reason
            if isinstance(reason, Crashed):
                raise reason.error
            if not isinstance(reason, Normal):
                raise ActorExited(self._feeder.label, reason)
        while self._iterator is not None and not self._ended and len(self._window) < self._limit:
            try:
                item = next(self._iterator)
            except StopIteration:
                self._ended = True
                return
            self._start(item)

    def _start(self, item: T) -> None:
        if self._owner.exit_reason is not None:
            raise ActorExited(self._owner.label, self._owner.exit_reason)
        if self._admit is not None:
            self._admit()
        context = self._options.context
        own = context.copy() if context is not None else None
        task = self._owner.spawn_task(self._work, item, label="stream item", context=own)
        self._window[task] = item  # before `on_dead`, which calls back at once for a task that has ended already
        if self._options.ordered:
            self._next.append(task)
        task.on_dead(partial(self._died, task))
        if self._linked_to is not None:
            self._linked_to.link(task)
            task.quiet = True  # its normal end is a result, and not news for a consumer that traps exits
        if self._options.timeout is not None:
            self._time(task, self._options.timeout)

    def _died(self, task: TaskProcess) -> None:
        if not self._options.ordered and task in self._window:
            self._next.append(task)
        self._wake.set()

    def _time(self, task: TaskProcess, seconds: float) -> None:
        runtime = task.runtime
        timer = runtime.clock.call_later(seconds, self._too_slow, task, context=runtime.context)
        task.on_dead(timer.cancel)

    def _too_slow(self, task: TaskProcess) -> None:
        if not task.alive:
            return
        if self._options.on_timeout is OnTimeout.EXIT:
            self._late = CallTimeout(task.label, self._options.timeout or 0.0)
            self._wake.set()
            return
        task.receive_exit(TIMED_OUT, None)  # the reason; and then no more time than a killed task has
        task.receive_exit(KILL, None)

    async def _feed(self, items: AsyncIterable[T]) -> None:
        source = aiter(items)
        try:
            async for item in source:
                self._start(item)
                while len(self._window) >= self._limit:
                    self._room.clear()
                    await self._room.wait()
        finally:
            if isinstance(source, AsyncGenerator):
                await source.aclose()


def _result(item: T, task: TaskProcess) -> TaskResult[T, Any]:
    reason = task.exit_reason
    assert reason is not None
    if isinstance(reason, Crashed) and not isinstance(reason.error, Exception):
        raise reason.error
    return TaskResult(item, reason, task.result, task.returned)
