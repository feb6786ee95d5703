"""The progress of an evaluation, told to its starter after each row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal

from dspex.evaluation.display import Display
from dspex.evaluation.report import RowOutcome, Scored, cost_of
from dspex.protocols.lm import Usage

__all__ = ["OnProgress", "Progress", "ProgressTally", "shown_on"]


@dataclass(frozen=True, slots=True)
class Progress:
    """
    Where an evaluation stands, one row having just ended; ``print`` it for a line of text.

    Attributes:
        done: Rows that have ended.
        total: Rows there are.
        failed: Those of ``done`` that have no score.
        score: The mean of the scores so far; None while there are none.
        usage: Tokens paid for so far.
        cost: US dollars so far; None once the price of a call was unknown.
        row: The number of the row that has just ended, counted from 0 in the order of the examples.
        outcome: Its outcome.
    """

    done: int
    total: int
    failed: int
    score: float | None
    usage: Usage
    cost: Decimal | None
    row: int
    outcome: RowOutcome

    def __str__(self) -> str:
        score = "no score yet" if self.score is None else f"score {self.score:.3f}"
        failed = f", {self.failed} failed" if self.failed else ""
        cost = ", price unknown" if self.cost is None else f", {self.cost:.6f} USD"
        return f"{self.done} of {self.total} rows{failed}, {score}{cost}"


OnProgress = Callable[[Progress], object]
"""
Called after each row, in the order in which rows end; it must be quick. An exception that it raises ends the
evaluation.
"""


class ProgressTally:
    """
    Adds up the rows of one evaluation as they end.

    Args:
        total: Rows there are.
        tell: The function that is told of each.
    """

    __slots__ = ("_cost", "_done", "_scored", "_sum", "_tell", "_total", "_usage")

    def __init__(self, total: int, tell: OnProgress) -> None:
        self._total = total
        self._tell = tell
        self._done = self._scored = 0
        self._sum = 0.0
        self._usage = Usage()
        self._cost: Decimal | None = Decimal(0)

    def add(self, row: int, outcome: RowOutcome) -> None:
        """Count a row and tell of it; whatever ``tell`` raises is raised."""
        self._done += 1
        if isinstance(outcome, Scored):
            self._scored += 1
            self._sum += outcome.score.value
        if outcome.totals is not None:
            self._usage += outcome.totals.usage
        cost = cost_of(outcome)
        self._cost = self._cost + cost if self._cost is not None and cost is not None else None
        score = self._sum / self._scored if self._scored else None
        failed = self._done - self._scored
        self._tell(Progress(self._done, self._total, failed, score, self._usage, self._cost, row, outcome))


def shown_on(display: Display, then: OnProgress | None) -> OnProgress:
    """Return a function that shows each row's progress, and tells ``then`` of it too."""

    def tell(progress: Progress) -> None:
        display.show(str(progress), progress.done / progress.total)
        if then is not None:
            then(progress)

    return tell
