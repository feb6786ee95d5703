"""When the next snapshot is made: by what snapshots cost, and at once after a restart. Pure."""

from __future__ import annotations

from collections import deque
from typing import Final

__all__ = ["LookPace"]

EVERY: Final = 0.1
"""Seconds between two snapshots, at least; eyes follow ten pictures a second."""

SELDOM: Final = 2.0
"""Seconds between two snapshots, at most, however dear they are."""

SHARE: Final = 0.003
"""The share of the loop's time that snapshots may take; sending them, and the notes of requests, take the rest."""

URGENT: Final = 0.05
"""The share of those that tell of restarts."""

SOON: Final = 0.03
"""Seconds from a restart to the snapshot that tells it: by then most are back."""

AFTER: Final = 2.0
"""Seconds after a restart in which snapshots are urgent while somebody is not back."""


class LookPace:
    """The times of snapshots; all times are seconds by one clock, costs are seconds."""

    __slots__ = ("_costs", "_down", "_hurried_at", "_made_at", "_restarted_at", "fresh")

    def __init__(self) -> None:
        self.fresh = False
        """True when an actor has been restarted since the latest snapshot."""
        self._restarted_at = float("-inf")
        self._made_at = float("-inf")
        self._hurried_at = float("-inf")
        self._down = False
        self._costs: deque[float] = deque(maxlen=5)

    @property
    def due(self) -> float:
        """When the next snapshot is to be made."""
        cost = min(self._costs, default=0.0)
        due = self._made_at + min(SELDOM, max(EVERY, cost / SHARE))
        if self.fresh or (self._down and self._made_at < self._restarted_at + AFTER):
            # Counted from the last one that was made in a hurry: a restart that comes alone is told at once, and those
            # of a storm take no more than their share.
            hurried = max(self._hurried_at + max(EVERY, cost / URGENT), self._made_at + SOON)
            due = min(due, max(hurried, self._restarted_at + SOON) if self.fresh else hurried)
        return due

    def restarted(self, now: float) -> bool:
        """Note that an actor is being restarted; True when it is the first since the latest snapshot."""
        first = not self.fresh
        if first:
            self.fresh, self._restarted_at = True, now
        return first

    def made(self, begun: float, ended: float, *, down: bool) -> None:
        """Note a snapshot; ``down`` says that it shows somebody who does not run."""
        if self.fresh or (self._down and begun < self._restarted_at + AFTER):
            self._hurried_at = begun
        self.fresh, self._made_at, self._down = False, ended, down
        self._costs.append(ended - begun)

    def cost_more(self, seconds: float) -> None:
        """Add to the cost of the latest snapshot."""
        self._costs[-1] += seconds
