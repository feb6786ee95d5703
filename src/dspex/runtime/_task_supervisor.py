"""Supervised tasks, and a back-pressured stream of them over many inputs (Elixir's ``Task.Supervisor``)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Generator, Iterable, Iterator
from contextvars import Context, copy_context
from types import TracebackType
from typing import Any, ClassVar, Generic, Self, TypeVar

from dspex.errors import ActorExited, NoSuchActor
from dspex.runtime._actor import Actor
from dspex.runtime._exit import KILL, Crashed, ExitReason, Normal
from dspex.runtime._process import Process
from dspex.runtime._ref import ActorRef
from dspex.runtime._task_process import TaskProcess

__all__ = ["TaskResult", "TaskStream", "TaskSupervisor", "TaskSupervisorRef"]

T = TypeVar("T")
R = TypeVar("R")


class TaskResult(Generic[T, R]):
    """How one input of a stream ended: ``item``, and ``value`` when ``reason`` is normal."""

    __slots__ = ("item", "reason", "value")

    def __init__(self, item: T, reason: ExitReason, value: R | None) -> None:
        self.item = item
        self.reason = reason
        self.value = value

    @property
    def ok(self) -> bool:
        """Whether the task returned."""
        return isinstance(self.reason, Normal)


class TaskSupervisorRef(ActorRef):
    """A handle on a task supervisor."""

    __slots__ = ()

    def start(
        self, work: Callable[..., Any], *args: Any, label: str = "", context: Context | None = None
    ) -> TaskProcess:
        """
        Start ``work(*args)`` in this tick, owned by the supervisor and seen only by who awaits it.

        Raises:
            NoSuchActor: The supervisor is dead.
        """
        if not self.alive:
            raise NoSuchActor(self._process.label)
        return self._process.spawn_task(work, *args, label=label, context=context)

    def stream(
        self,
        work: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        max_concurrency: int,
        ordered: bool = True,
    ) -> TaskStream[T, R]:
        """
        Run ``work`` over ``items``, at most ``max_concurrency`` at a time; results as they are consumed.

        Use it as ``async with ref.stream(...) as results: async for result in results``. A new task is started only
        while fewer than ``max_concurrency`` results wait or run, so memory stays bounded whatever the consumer or
        the head of an ordered stream does. Leaving the block kills what still runs, waits for it, and closes the
        iterator of ``items``.

        An asynchronous ``items`` is read by a task of its own, in a copy of the consumer's context, so that results
        need not wait for inputs. An exception that ``items`` raises is raised to the consumer at once.
        """
        return TaskStream(self._process, work, items, max_concurrency, ordered)


class TaskSupervisor(Actor):
    """Owns tasks: they die with it, it does not die with them."""

    trap_exit: ClassVar[bool] = True
    hurried: ClassVar[bool] = True
    ref_class: ClassVar[type[ActorRef]] = TaskSupervisorRef


class TaskStream(Generic[T, R]):
    """Results of many tasks, with back-pressure; an async context manager and iterator."""

    def __init__(
        self,
        owner: Process,
        work: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        max_concurrency: int,
        ordered: bool,
    ) -> None:
        if max_concurrency < 1:
            raise ValueError(f"max_concurrency must be >= 1, not {max_concurrency}")
        self._owner = owner
        self._work = work
        self._items = items
        self._limit = max_concurrency
        self._ordered = ordered
        self._window: deque[tuple[T, TaskProcess]] = deque()
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
        running = [task for _, task in self._window]
        self._window.clear()
        if self._feeder is not None:
            running.append(self._feeder)  # closes its source itself
        for task in running:
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
            self._fill()
            found = self._take()
            if found is not None:
                return _result(*found)
            if self._ended and not self._window:
                raise StopAsyncIteration
            self._wake.clear()
            await self._wake.wait()

    def _take(self) -> tuple[T, TaskProcess] | None:
        """Remove and return the next pair that may be handed over, if there is one."""
        for position, (item, task) in enumerate(self._window):
            if task.dead:
                del self._window[position]
                self._room.set()
                return item, task
            if self._ordered:
                break
        return None

    def _begin(self) -> None:
        if self._begun or self._closed:
            return
        self._begun = True
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
        task = self._owner.spawn_task(self._work, item, label="stream item")
        task.on_dead(self._wake.set)
        self._window.append((item, task))

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
    return TaskResult(item, reason, task.result)
