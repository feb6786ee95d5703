"""Durations as a few numbers."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable
from typing import Final

from dspex.app.dashboard.shapes import Plain

__all__ = ["LATEST", "Durations", "plain_of"]

LATEST: Final = 512
"""The durations that percentiles are taken of: the latest."""


class Durations:
    """How often something was done, and how long the latest took, in seconds."""

    __slots__ = ("_latest", "_told", "count", "failed")

    def __init__(self) -> None:
        self.count = 0
        self.failed = 0
        self._latest: deque[float] = deque(maxlen=LATEST)
        self._told: Plain = {}

    def add(self, seconds: float, *, failed: bool = False) -> None:
        """Count one."""
        self.count += 1
        self.failed += failed
        self._latest.append(seconds)

    def percentile(self, share: float) -> float | None:
        """Return the nearest-rank percentile of the latest; None without any."""
        ordered = sorted(self._latest)
        return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None

    def plain(self) -> Plain:
        """Return the numbers, as JSON has them; the same object as the last time where nothing was added."""
        if self._told.get("count") == self.count:
            return self._told
        self._told = plain_of(self._latest, self.count, self.failed)
        return self._told


def plain_of(latest: Iterable[float], count: int, failed: int) -> Plain:
    """Return how many there were, how many failed, and nearest-rank percentiles of the latest; None without any."""
    ordered = sorted(latest)
    told: Plain = {"count": count, "failed": failed}
    for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99)):
        place = max(0, math.ceil(share * len(ordered)) - 1)
        told[name] = round(ordered[place], 4) if ordered else None
    return told
