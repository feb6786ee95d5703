"""The only reader of time: a clock is passed in, so that tests can hold it still."""

from __future__ import annotations

import asyncio
import datetime as dt
import time
from collections.abc import Callable
from contextvars import Context
from typing import Protocol

__all__ = [
    "DATE_TYPES",
    "Clock",
    "LoopClock",
    "TimerHandle",
    "day_text",
    "monotonic",
    "seconds_of",
    "stamp_text",
    "wall_time",
]

DATE_TYPES: tuple[type, ...] = (dt.datetime, dt.date, dt.time, dt.timedelta)
"""The types of dates, times and durations, for whoever reads values of them; nobody asks them what time it is."""


class TimerHandle(Protocol):
    """The return value of ``call_later``: a timer that can be cancelled."""

    def cancel(self) -> None:
        """Forget the timer; a second cancel, or one after it fired, does nothing."""


class Clock(Protocol):
    """Monotonic seconds and timers on one event loop."""

    def now(self) -> float:
        """Return monotonic seconds; only differences mean anything."""

    def call_later(self, delay: float, callback: Callable[..., object], *args: object, context: Context) -> TimerHandle:
        """Call ``callback(*args)`` in ``context`` after ``delay`` seconds."""


class LoopClock:
    """The clock of a running event loop."""

    __slots__ = ("_loop", "now")

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        # asyncio's own loops wrap this one function in a method, which actors would call for every message
        plain = getattr(loop.time, "__func__", None) is asyncio.BaseEventLoop.time
        self.now: Callable[[], float] = time.monotonic if plain else loop.time

    def call_later(self, delay: float, callback: Callable[..., object], *args: object, context: Context) -> TimerHandle:
        """Call ``callback(*args)`` in ``context`` after ``delay`` seconds."""
        return self._loop.call_later(delay, callback, *args, context=context)


def wall_time() -> float:
    """Return seconds since the epoch, for timestamps people read; never for durations."""
    return time.time()


def monotonic() -> float:
    """Return the seconds of the machine's monotonic clock, which a blocked loop does not hold up."""
    return time.monotonic()


def day_text(at: float) -> str:
    """Return the day and time of so many seconds since the epoch, as people read them."""
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def stamp_text(at: float) -> str:
    """Return the day and time of so many seconds since the epoch as ISO 8601 has it in short: ``20150830T123600Z``."""
    return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y%m%dT%H%M%SZ")


def seconds_of(text: str) -> float:
    """Return the seconds since the epoch of a time by ISO 8601, UTC where it names no zone; ValueError for others."""
    then = dt.datetime.fromisoformat(text)
    return (then if then.tzinfo is not None else then.replace(tzinfo=dt.UTC)).timestamp()
