"""The time that a model usually takes before it begins to answer: pure."""

from __future__ import annotations

import bisect
import math
from collections import deque

__all__ = ["FirstBytes"]


class FirstBytes:
    """
    The time until answers begin: the quantile of the latest ones, by nearest rank.

    An ask that was broken off because another was faster counts with the time it had taken: less than it would have
    taken, but beyond the quantile already, and so at its right place. Without it the slow ones would be forgotten,
    and the quantile would sink with every hedge.

    Args:
        share: Of the answers, how many have begun within ``value``.
        least: Answers that must have been seen before there is a value.
        window: The number of the latest answers that count.
    """

    __slots__ = ("_latest", "_least", "_share", "_sorted", "_window")

    def __init__(self, *, share: float = 0.95, least: int = 20, window: int = 200) -> None:
        self._share = share
        self._least = least
        self._window = window
        self._latest: deque[float] = deque()
        self._sorted: list[float] = []

    @property
    def value(self) -> float | None:
        """Seconds within which ``share`` of the answers have begun; ``None`` until enough have been seen."""
        count = len(self._sorted)
        return self._sorted[math.ceil(self._share * count) - 1] if count >= self._least else None

    def note(self, seconds: float) -> None:
        """Note an answer that began, or an ask that was broken off, after so long."""
        if len(self._latest) == self._window:
            del self._sorted[bisect.bisect_left(self._sorted, self._latest.popleft())]
        self._latest.append(seconds)
        bisect.insort(self._sorted, seconds)
