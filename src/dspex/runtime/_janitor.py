"""Closes what dead processes owned: all of it, within a bounded time."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from types import CoroutineType
from typing import TYPE_CHECKING, TypeVar

from dspex._guard import shown
from dspex.runtime._log import get_logger

if TYPE_CHECKING:
    from dspex.runtime._runtime import Runtime

__all__ = ["Janitor", "begin_closing"]

_log = get_logger("runtime")

T = TypeVar("T")


def begin_closing(runtime: Runtime, resource: T, close: Callable[[T], object]) -> Awaitable[object] | None:
    """Call ``close(resource)``; return what is still to be awaited. A failure is logged, whatever it is."""
    try:
        result = close(resource)
        return result if inspect.isawaitable(result) else None
    except BaseException as error:  # noqa: BLE001 - one resource that cannot be closed must not keep the others open
        runtime.contain(error)
        says, what = "{resource} could not be closed: {error}", shown(resource)
        _log.error("closing a resource failed", says=says, resource=what, exc_info=error)
        return None


class Janitor:
    """
    Awaits closings, the first first, then calls ``then``, once.

    After ``close_budget`` seconds the closing under way is cancelled, and all that are left begin at the same time:
    one that hangs must not keep the others open. They have ``kill_budget`` seconds together. A closer that still runs
    then counts as leaked, and life goes on without it.
    """

    def __init__(
        self, runtime: Runtime, label: str, pending: Iterable[Awaitable[object]], then: Callable[[], object]
    ) -> None:
        self._runtime = runtime
        self._label = label
        self._then: Callable[[], object] | None = then
        self._pending = deque(pending)
        self._tasks: dict[asyncio.Task[None], Awaitable[object]] = {}
        self._timer = runtime.clock.call_later(runtime.close_budget, self._too_slow, context=runtime.context)
        self._next()

    def _next(self) -> None:
        runtime, closing = self._runtime, self._pending.popleft()
        task = asyncio.Task(
            _await(runtime, closing),
            loop=runtime.loop,
            context=runtime.context.copy(),
            name=f"janitor of {self._label}",
        )
        # Known before it can end: the runtime's closing waits for the tasks in this set.
        self._tasks[task] = closing
        runtime.janitors.add(task)
        task.add_done_callback(self._closed, context=runtime.context)

    def _too_slow(self) -> None:
        runtime = self._runtime
        says = "{actor} took longer than {seconds} s to close its resources: those that are left begin now"
        _log.error("closing resources took too long", says=says, actor=self._label, seconds=runtime.close_budget)
        self._cancel()
        then = self._end_all if self._pending else self._give_up
        while self._pending:
            self._next()
        self._timer = runtime.clock.call_later(runtime.kill_budget, then, context=runtime.context)

    def _end_all(self) -> None:
        self._cancel()
        runtime = self._runtime
        self._timer = runtime.clock.call_later(runtime.kill_budget, self._give_up, context=runtime.context)

    def _cancel(self) -> None:
        for task in self._tasks:
            task.cancel()

    def _give_up(self) -> None:
        """Leave alone what does not end even when it is cancelled."""
        runtime = self._runtime
        for task in self._tasks:
            runtime.janitors.discard(task)
            runtime.zombies[task] = f"{self._label}: closing its resources ignores cancellation"
        self._go_on()

    def _closed(self, task: asyncio.Task[None]) -> None:
        runtime = self._runtime
        closing = self._tasks.pop(task)
        runtime.janitors.discard(task)
        runtime.zombies.pop(task, None)
        if type(closing) is CoroutineType:
            closing.close()  # cancelled before it began: it must not warn that nobody awaited it
        if not task.cancelled():
            task.exception()  # an interrupt, which the loop has seen: asyncio must not complain that nobody looked
        if self._pending:
            self._next()
        elif not self._tasks:
            self._timer.cancel()
            self._go_on()

    def _go_on(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then()


async def _await(runtime: Runtime, closing: Awaitable[object]) -> None:
    try:
        await closing
    except BaseException as error:  # as in begin_closing; a cancellation is our own
        if isinstance(error, asyncio.CancelledError):
            raise
        runtime.contain(error)
        _log.error("closing a resource failed", says="a resource could not be closed: {error}", exc_info=error)
