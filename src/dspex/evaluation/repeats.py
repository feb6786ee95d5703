"""Repeated evaluations of one program, and two programs on the same rows: compared row by row."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property

from dspex.errors import EvaluationError
from dspex.evaluation.intervals import Interval, mean_interval
from dspex.evaluation.report import Comparison, Report, Scored, compare_values

__all__ = ["Compared", "Repeats"]


@dataclass(frozen=True)
class Repeats:
    """
    The same program on the same rows, several times; ``print`` it.

    A row's value is the mean of its runs. Rows are what the interval is about: more runs of the same rows make each
    value surer, but do not stand for more rows.

    Attributes:
        reports: One for each time, the first with the program as it is.
    """

    reports: tuple[Report, ...]

    @cached_property
    def values(self) -> tuple[float | None, ...]:
        """The mean of each row over its runs, in the order of the rows; None where every run failed."""
        runs = zip(*(report.outcomes for report in self.reports), strict=True)
        return tuple(_mean([each.score.value for each in row if isinstance(each, Scored)]) for row in runs)

    @property
    def score(self) -> float:
        """The mean of the rows' values."""
        known = self._known
        return math.fsum(known) / len(known)

    @property
    def interval(self) -> Interval:
        """Where the true mean lies, with 95 % confidence."""
        return mean_interval(self._known)

    @property
    def spread(self) -> float:
        """The standard deviation of the score from one time to the next; 0 for a single time."""
        scores = [report.score for report in self.reports]
        if len(scores) < 2:
            return 0.0
        mean = math.fsum(scores) / len(scores)
        return math.sqrt(math.fsum((each - mean) ** 2 for each in scores) / (len(scores) - 1))

    @cached_property
    def unstable(self) -> tuple[int, ...]:
        """The numbers of the rows whose score was not the same each time."""
        runs = zip(*(report.outcomes for report in self.reports), strict=True)
        scores = ({each.score.value for each in row if isinstance(each, Scored)} for row in runs)
        return tuple(number for number, row in enumerate(scores) if len(row) > 1)

    @property
    def failed(self) -> int:
        """Runs of rows that failed."""
        return sum(len(report.failed) for report in self.reports)

    @property
    def cost(self) -> Decimal | None:
        """US dollars of all times; None where the price of one call is unknown."""
        costs = [report.cost for report in self.reports]
        known = [cost for cost in costs if cost is not None]
        return sum(known, Decimal(0)) if len(known) == len(costs) else None

    @property
    def seconds(self) -> float:
        """The median of the seconds per row, over all times."""
        return sorted(report.latency.p50 for report in self.reports)[len(self.reports) // 2]

    @property
    def _known(self) -> Sequence[float]:
        return [each for each in self.values if each is not None]

    def compare(self, other: Repeats) -> Comparison:
        """
        Return how these runs differ from ``other``, row by row.

        Raises:
            EvaluationError: They are of other rows, or share no scored row.
        """
        if self.reports[0].examples != other.reports[0].examples:
            raise EvaluationError("these reports are of different examples: their scores cannot be compared")
        return compare_values(other.values, self.values)

    def __str__(self) -> str:
        failed = f", {self.failed} runs failed" if self.failed else ""
        cost = "price unknown" if self.cost is None else f"{self.cost:.6f} USD"
        times = len(self.reports)
        again = f"; {times} times, spread {self.spread:.3f}, {len(self.unstable)} rows unstable" if times > 1 else ""
        return f"{self.score:.3f} (95 % {self.interval}){again}{failed}; {self.seconds:.2f} s a row, {cost}"


@dataclass(frozen=True)
class Compared:
    """
    Two programs on the same rows; ``print`` it.

    Attributes:
        first: The runs of the first program.
        second: The runs of the second.
        comparison: The second beside the first: a positive difference means that the second is better.
    """

    first: Repeats
    second: Repeats
    comparison: Comparison

    @property
    def difference(self) -> float:
        """The mean gain of the second over the first, on rows that both scored."""
        return self.comparison.difference

    @property
    def interval(self) -> Interval:
        """95 % confidence for the difference."""
        return self.comparison.interval

    @property
    def p_value(self) -> float:
        """The probability that chance alone would make so large a difference."""
        return self.comparison.p_value

    def __str__(self) -> str:
        return f"second - first: {self.comparison}\n  first:  {self.first}\n  second: {self.second}"


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
