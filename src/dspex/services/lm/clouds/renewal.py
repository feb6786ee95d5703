"""Something that runs out, renewed in time: by one caller while the others go on with what they have."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final, Generic, TypeVar

from dspex._clock import monotonic
from dspex.errors import LMError

__all__ = ["Renewal"]

T = TypeVar("T")

_AHEAD: Final = 300.0
"""Seconds before its end in which a value is renewed."""
_LAST: Final = 20.0
"""Seconds before its end from which on it is not used any more: the request has a way to go."""


class Renewal(Generic[T]):
    """
    A value with an end.

    Args:
        fetch: Returns the value and how many seconds it holds; infinity for one without an end.
        now: Monotonic seconds.
    """

    __slots__ = ("_fetch", "_lock", "_now", "_soon", "_until", "_value")

    def __init__(self, fetch: Callable[[], Awaitable[tuple[T, float]]], now: Callable[[], float] = monotonic) -> None:
        self._fetch = fetch
        self._now = now
        self._lock = asyncio.Lock()
        self._value: T | None = None
        self._soon = 0.0
        """When it is to be renewed."""
        self._until = 0.0
        """When it is not used any more."""

    async def get(self) -> T:
        """
        Return the value, renewed where it is about to run out.

        Raises:
            LMError: There is none, and none could be had. One that still holds is used although its renewal failed.
        Cancellation: the next caller renews.
        """
        value = self._held()
        if value is not None and (self._now() < self._soon or self._lock.locked()):
            return value
        async with self._lock:
            value = self._held()
            if value is not None and self._now() < self._soon:  # somebody else was faster
                return value
            try:
                value, seconds = await self._fetch()
            except LMError:
                if value is None:
                    raise
                self._soon = self._now() + _LAST  # tried again a little later
                return value
            ends, ahead = self._now() + seconds, min(_AHEAD, seconds / 2)
            self._value, self._soon, self._until = value, ends - ahead, ends - min(_LAST, ahead / 2)
            return value

    def drop(self) -> None:
        """Forget the value: it was refused."""
        self._value = None

    def _held(self) -> T | None:
        return self._value if self._now() < self._until else None
