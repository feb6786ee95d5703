"""The pace of the machine: measured on a few messages before more is begun."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Final

from dspex.app.demo.local.options import ROWS

__all__ = ["LEAST_ROWS", "TIME", "Pace"]

TIME: Final = 13 * 60.0
"""Seconds that the measured work may take: with starting the server and restarts, a quarter of an hour in all."""

LEAST_ROWS: Final = 10
"""Fewer messages say nothing: one of each intent."""

_WORKED_OUT: Final = 24
"""Messages that the optimizer may have to go through."""

_SHOWN: Final = 2.5
"""The factor by which an answer behind sixteen demonstrations takes longer."""


@dataclass(frozen=True, slots=True)
class Pace:
    """
    The present speed of the machine.

    Attributes:
        loading: Seconds that the server took to answer for the first time, and will take again when it is killed.
        row: Seconds for one message, on the average, with eight under way at once.
    """

    loading: float
    row: float

    def seconds(self, rows: int) -> float:
        """Return about how long ``rows`` messages take: asked once, learned from, and asked again."""
        return self.row * (rows + _SHOWN * (_WORKED_OUT + rows)) + 2 * self.loading

    def rows(self) -> int:
        """Return how many messages fit into the time, in equal parts of all intents."""
        spare = TIME - self.seconds(0)
        fit = spare / (self.row * (1 + _SHOWN)) if self.row else math.inf
        return int(max(LEAST_ROWS, min(ROWS, fit // LEAST_ROWS * LEAST_ROWS)))
