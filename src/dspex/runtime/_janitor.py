"""Closes what dead processes owned, within a bounded time."""

from __future__ import annotations

import asyncio
import inspect
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from dspex.runtime._log import get_logger, shown

if TYPE_CHECKING:
    from dspex.runtime._runtime import Runtime

__all__ = ["Janitor", "begin_closing"]

_log = get_logger("runtime")


def begin_closing(resource: Any, close: Callable[[Any], object]) -> Awaitable[object] | None:
    """Call ``close(resource)``; return what is still to be awaited. A failure is logged."""
    try:
        result = close(resource)
    except (Exception, SystemExit) as error:  # noqa: BLE001 - one resource that cannot be closed must not keep the others open
        _log.error("closing a resource failed", resource=shown(resource), exc_info=error)
        return None
    return result if inspect.isawaitable(result) else None


class Janitor:
    """
    Awaits closings, the first first, then calls ``then``, once.

    After ``close_budget`` seconds it is cancelled; when it ignores that for ``kill_budget`` seconds more, it counts
    as leaked, and life goes on without it.
    """

    def __init__(
        self, runtime: Runtime, label: str, pending: Iterable[Awaitable[object]], then: Callable[[], object]
    ) -> None:
        self._runtime = runtime
        self._label = label
        self._then: Callable[[], object] | None = then
        self._task = asyncio.Task(
            _await_all(deque(pending)), loop=runtime.loop, context=runtime.context.copy(), name=f"janitor of {label}"
        )
        runtime.janitors.add(self._task)
        self._timer = runtime.clock.call_later(runtime.close_budget, self._too_slow, context=runtime.context)
        self._task.add_done_callback(self._closed, context=runtime.context)

    def _too_slow(self) -> None:
        runtime = self._runtime
        _log.error("closing resources took too long", actor=self._label)
        self._task.cancel()
        self._timer = runtime.clock.call_later(runtime.kill_budget, self._give_up, context=runtime.context)

    def _give_up(self) -> None:
        self._runtime.janitors.discard(self._task)
        self._runtime.zombies[self._task] = f"{self._label}: closing its resources ignores cancellation"
        self._go_on()

    def _closed(self, task: asyncio.Task[None]) -> None:
        self._timer.cancel()
        self._runtime.janitors.discard(task)
        self._runtime.zombies.pop(task, None)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("closing resources failed", actor=self._label, exc_info=error)
        self._go_on()

    def _go_on(self) -> None:
        then, self._then = self._then, None
        if then is not None:
            then()


async def _await_all(pending: deque[Awaitable[object]]) -> None:
    try:
        while pending:
            each = pending.popleft()
            try:
                await each
            except (Exception, SystemExit) as error:  # noqa: BLE001 - as above
                _log.error("closing a resource failed", exc_info=error)
    finally:
        for each in pending:  # out of time: what was never begun must not warn about it
            if inspect.iscoroutine(each):
                each.close()
