"""
The waiting calls, and the choice of the next: pure.

Stride scheduling (Waldspurger and Weihl, 1995): each priority has a weight, each grant moves its class on by the
inverse of it, and the class that is furthest behind is next. Lower numbers get nearly all, nobody gets nothing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["WaitingRoom", "stride_of"]

T = TypeVar("T")

_SWEEP_FROM = 64


def stride_of(priority: int) -> int:
    """
    Return how far one grant moves a class on: ``(1 + priority)²``.

    While both wait, priority 0 gets 121 grants for one of priority 10, and 4 for one of priority 1.
    """
    return (1 + max(0, priority)) ** 2


class WaitingRoom(Generic[T]):
    """
    Waiters in classes, first come first served within a class, weighted fair between them.

    Args:
        gone: True when a waiter has left without telling: it is passed over, and swept out before too many gather.
    """

    __slots__ = ("_classes", "_gone", "_passes", "_sweep_at", "_turn", "size")

    def __init__(self, gone: Callable[[T], bool]) -> None:
        self._gone = gone
        self._classes: dict[int, deque[T]] = {}
        self._passes: dict[int, int] = {}
        self._turn = 0
        self.size = 0
        """The number of those that wait; some of them may have left."""
        self._sweep_at = _SWEEP_FROM

    def enter(self, priority: int, waiter: T) -> None:
        """Add a waiter at the end of its class; a class that nobody was in has saved up nothing."""
        room = self._classes.get(priority)
        if room is None:
            room = self._classes[priority] = deque()
            self._passes[priority] = self._turn + stride_of(priority)
        room.append(waiter)
        self.size += 1
        if self.size >= self._sweep_at:
            self.sweep(self._gone)

    def first(self) -> T | None:
        """Return who is next, without those who have left; ``None`` when nobody waits."""
        while self._classes:
            priority = self._next_class()
            waiter = self._classes[priority][0]
            if not self._gone(waiter):
                return waiter
            self._drop(priority)
        return None

    def serve(self) -> T:
        """Take out who ``first`` said is next, and count the turn of its class."""
        priority = self._next_class()
        self._turn = max(self._turn, self._passes[priority])
        self._passes[priority] += stride_of(priority)
        return self._drop(priority)

    def sweep(self, leaves: Callable[[T], bool]) -> list[T]:
        """Take out everyone for whom ``leaves`` is true, and those who have left; return the former."""
        left = []
        for priority in list(self._classes):
            staying: deque[T] = deque()
            for waiter in self._classes[priority]:
                if self._gone(waiter):
                    continue
                if leaves(waiter):
                    left.append(waiter)
                else:
                    staying.append(waiter)
            self.size -= len(self._classes[priority]) - len(staying)
            self._classes[priority] = staying
            if not staying:
                self._close(priority)
        self._sweep_at = max(_SWEEP_FROM, 2 * self.size)
        return left

    def counts(self) -> dict[int, int]:
        """Return how many wait at each priority, without those who have left."""
        self.sweep(self._gone)
        return {priority: len(self._classes[priority]) for priority in sorted(self._classes)}

    def _next_class(self) -> int:
        passes = self._passes
        if len(passes) == 1:
            return next(iter(passes))
        return min(passes, key=lambda priority: (passes[priority], priority))

    def _drop(self, priority: int) -> T:
        room = self._classes[priority]
        waiter = room.popleft()
        self.size -= 1
        if not room:
            self._close(priority)
        return waiter

    def _close(self, priority: int) -> None:
        del self._classes[priority], self._passes[priority]
