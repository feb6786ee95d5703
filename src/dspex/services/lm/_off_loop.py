"""A thread for work that would hold the loop up, started when there is some."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from dspex.runtime import WorkerThread

__all__ = ["OffLoop"]

R = TypeVar("R")


class OffLoop:
    """
    One thread, which most owners never need.

    Args:
        name: Of the thread.
    """

    __slots__ = ("_closed", "_name", "_thread")

    def __init__(self, name: str) -> None:
        self._closed = False
        self._name = name
        self._thread: WorkerThread | None = None

    async def run(self, function: Callable[..., R], *args: object) -> R:
        """
        Return what ``function(*args)`` gives, called in the thread, one call after the other.

        Cancellation: the caller goes on at once, the call runs to its end.
        """
        if self._closed:  # somebody still reads what had come; no thread is started that nobody would end
            return function(*args)
        if self._thread is None:
            self._thread = WorkerThread(self._name)
        return await self._thread.run(function, *args)

    async def aclose(self) -> None:
        """End the thread; what is called later runs where it is called. Cancellation: as ``WorkerThread.aclose``."""
        self._closed = True
        thread, self._thread = self._thread, None
        if thread is not None:
            await thread.aclose()
