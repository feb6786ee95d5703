"""A clock that stands still until it is told to move, on whatever event loop runs."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import AsyncIterator, Callable
from contextvars import Context
from heapq import heapify, heappop, heappush
from typing import Final

__all__ = ["VirtualClock"]

_QUIET_TURNS: Final = 8
"""Turns of the loop without any progress after which it counts as idle: callbacks that wake nobody are not seen."""

_SAME_TIME: Final = 1e-9
"""Seconds below which two times are one, so that ten steps of 0.1 reach a timer at 1.0."""

_SWEEP_FROM: Final = 512
"""Timers kept, cancelled ones included, before the cancelled ones are swept out."""


class VirtualTimer:
    """A timer of a ``VirtualClock``; ``cancel`` works until its callback has begun."""

    __slots__ = ("__weakref__", "_args", "_callback", "_context", "_handle", "cancelled", "number", "when")

    def __init__(
        self, when: float, number: int, callback: Callable[..., object], args: tuple[object, ...], context: Context
    ) -> None:
        self.when = when
        self.number = number
        self.cancelled = False
        self._callback: Callable[..., object] | None = callback
        self._args = args
        self._context: Context | None = context
        self._handle: asyncio.Handle | None = None

    def cancel(self) -> None:
        """Forget the timer and all it holds; a second cancel does nothing."""
        self.cancelled = True
        self._callback = self._context = None
        self._args = ()
        if self._handle is not None:
            self._handle.cancel()
            self._handle = None

    def fire(self, loop: asyncio.AbstractEventLoop) -> None:
        """Hand the callback to the loop, as a timer of the loop's own would be."""
        if self._callback is not None:
            self._handle = loop.call_soon(self._callback, *self._args, context=self._context)

    def __repr__(self) -> str:
        what = getattr(self._callback, "__qualname__", repr(self._callback))
        return f"<VirtualTimer at {self.when:g}: {what}{self._args!r}>"

    def __lt__(self, other: VirtualTimer) -> bool:
        return (self.when, self.number) < (other.when, other.number)


class VirtualClock:
    """
    A ``Clock`` whose time moves only when a test says so.

    It schedules nothing on the loop and owns no loop: ``Runtime(clock=VirtualClock())`` works on asyncio and
    uvloop alike. Timers fire in the order of their times, those of one time in the order they were made.

    This clock sees no more than the loop sees: threads, sockets and the loop's own timers run in real time.

    Args:
        start: The first value of ``now``.
    """

    def __init__(self, start: float = 0.0) -> None:
        self._now = start
        self._timers: list[VirtualTimer] = []
        self._made = 0
        self._sweep_at = _SWEEP_FROM
        self._own: set[asyncio.Task[object]] = set()
        self._timer_made: asyncio.Future[None] | None = None

    def now(self) -> float:
        """Return the virtual seconds."""
        return self._now

    def call_later(
        self, delay: float, callback: Callable[..., object], *args: object, context: Context
    ) -> VirtualTimer:
        """Call ``callback(*args)`` in ``context`` when the clock has moved ``delay`` seconds on."""
        self._made += 1
        timer = VirtualTimer(self._now + max(0.0, delay), self._made, callback, args, context)
        if len(self._timers) >= self._sweep_at:
            self._timers = [each for each in self._timers if not each.cancelled]
            heapify(self._timers)
            self._sweep_at = max(_SWEEP_FROM, 2 * len(self._timers))
        heappush(self._timers, timer)
        if self._timer_made is not None and not self._timer_made.done():
            self._timer_made.set_result(None)
        return timer

    @property
    def pending(self) -> int:
        """The number of timers that are set and neither cancelled nor fired."""
        return len(self.timers())

    def timers(self) -> tuple[VirtualTimer, ...]:
        """Return the timers that are set and neither cancelled nor fired, in no particular order."""
        return tuple(timer for timer in self._timers if not timer.cancelled)

    @property
    def next_timer(self) -> float | None:
        """The time of the next timer, or None when there is none."""
        timers = self._timers
        while timers and timers[0].cancelled:
            heappop(timers)
        return timers[0].when if timers else None

    async def advance(self, seconds: float) -> None:
        """Move ``seconds`` on: let the loop settle, fire what is due, in order, and settle after each time."""
        until = self._now + seconds
        await self.settle()
        while (when := self.next_timer) is not None and when <= until + _SAME_TIME:
            self._fire(when)
            await self.settle()
        self._now = max(self._now, until)

    async def settle(self) -> None:
        """
        Return when every task of the loop waits for a later time, for another task or for the outside.

        Timers that are due now fire; the time does not change.
        """
        loop = asyncio.get_running_loop()
        quiet, before = 0, self._made
        ready = getattr(loop, "_ready", None)  # what asyncio's own loops will run in their next turn
        while quiet < _QUIET_TURNS:
            await asyncio.sleep(0)
            made, before = self._made - before, self._made
            if (when := self.next_timer) is not None and when <= self._now:
                self._fire(when)
                made += 1
            quiet = 0 if made or self._somebody_runs(loop) else quiet + (1 if ready is None or ready else 4)

    def _somebody_runs(self, loop: asyncio.AbstractEventLoop) -> bool:
        here = asyncio.current_task()
        for task in asyncio.all_tasks(loop):
            if task is here or task in self._own:
                continue
            waits_for = getattr(task, "_fut_waiter", None)
            if waits_for is None or waits_for.done():
                return True
        return False

    def _fire(self, when: float) -> None:
        """Move to ``when`` and fire every timer of that time."""
        loop = asyncio.get_running_loop()
        self._now = max(self._now, when)
        while (due := self.next_timer) is not None and due <= when + _SAME_TIME:
            heappop(self._timers).fire(loop)

    @contextlib.asynccontextmanager
    async def autojump(self) -> AsyncIterator[None]:
        """Inside this block, jump to the next timer whenever every task waits."""
        loop = asyncio.get_running_loop()
        jumper = asyncio.Task(self._jump(loop), loop=loop, context=contextvars.Context())
        self._own.add(jumper)
        try:
            yield
        finally:
            jumper.cancel()
            await asyncio.wait([jumper])
            self._own.discard(jumper)
            if not jumper.cancelled():
                jumper.result()

    async def _jump(self, loop: asyncio.AbstractEventLoop) -> None:
        while True:
            await self.settle()
            when = self.next_timer
            if when is not None:
                self._fire(when)
                continue
            self._timer_made = loop.create_future()
            await self._timer_made
            self._timer_made = None
