"""The result of an evaluation: the score, its certainty, the failures, the cost, and the difference of two of them."""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, NamedTuple

from typing_extensions import TypeVar

from dspex._clock import wall_time
from dspex._files import write_private
from dspex._html import write_page
from dspex.errors import ActorExited, ConfigError, EvaluationError, TargetExists
from dspex.evaluation.intervals import Interval, mean_interval, paired_p_value, signed, t_interval
from dspex.evaluation.metrics import Score
from dspex.evaluation.pages import page_of
from dspex.evaluation.tables import as_html, csv_text, has_columns, json_lines, row_of
from dspex.programs import Example
from dspex.protocols.executor import Failed
from dspex.protocols.lm import Usage
from dspex.protocols.scope import RequestTotals, TraceStep

__all__ = ["Change", "Comparison", "Report", "RowLatency", "RowOutcome", "Scored", "compare_values", "cost_of"]

R = TypeVar("R", default=Any)
"""The return type of the program."""


@dataclass(frozen=True, slots=True)
class Scored(Generic[R]):
    """A row that ended in a score: the example, what the program returned, and the metric's verdict."""

    row: Example
    value: R
    score: Score
    trace: tuple[TraceStep, ...] = ()
    totals: RequestTotals | None = None


RowOutcome = Scored[R] | Failed
"""The outcome of one row."""


class RowLatency(NamedTuple):
    """Seconds per row, waiting and retries included: the median, the 95th and the 99th percentile."""

    p50: float
    p95: float
    p99: float


class Change(NamedTuple):
    """A row that came out differently; ``None`` stands for a failed row."""

    row: int
    before: float | None
    after: float | None


@dataclass(frozen=True, slots=True)
class Comparison:
    """
    Two evaluations of the same examples, row by row; failed rows take part in ``changed`` only.

    Attributes:
        difference: The mean change of score, from the other report to this one.
        interval: 95 % confidence for the difference.
        p_value: The probability that chance alone would make so large a difference.
        changed: The rows that came out differently.
        pairs: The number of rows that both reports scored.
        excluded: The number of rows that one of them failed on.
    """

    difference: float
    interval: Interval
    p_value: float
    changed: tuple[Change, ...]
    pairs: int
    excluded: int = 0

    def __str__(self) -> str:
        better = sum(_at(each.after) > _at(each.before) for each in self.changed)
        excluded = f", {self.excluded} excluded" if self.excluded else ""
        return (
            f"{signed(self.difference)} (95 % {signed(self.interval.low)} to {signed(self.interval.high)}, "
            f"p = {self.p_value:.3g}, {self.pairs} pairs{excluded}): {better} rows better, "
            f"{len(self.changed) - better} worse"
        )


@dataclass(frozen=True)
class Report(Generic[R]):
    """
    The outcome of an evaluation, in the order of the examples.

    Failed rows stay out of the mean and are shown beside it.

    Attributes:
        program: The name of the program's class.
        examples: The row it was evaluated on.
        outcomes: ``Scored`` or ``Failed``, one for each example.
        max_failed: The share of failed rows above which there is no score.
        not_run: Rows that were not run because too many had failed before; they are not among the examples here.
    """

    program: str
    examples: tuple[Example, ...] = field(repr=False)
    outcomes: tuple[RowOutcome[R], ...] = field(repr=False)
    max_failed: float = 0.05
    not_run: int = 0

    @cached_property
    def scored(self) -> tuple[Scored[R], ...]:
        """The rows that have a score."""
        return tuple(each for each in self.outcomes if isinstance(each, Scored))

    @cached_property
    def failed(self) -> tuple[Failed, ...]:
        """The rows that have none, with their reasons."""
        return tuple(each for each in self.outcomes if isinstance(each, Failed))

    @property
    def has_score(self) -> bool:
        """True when few enough rows failed for a score to mean something."""
        return bool(self.scored) and not self.not_run and len(self.failed) <= self.max_failed * len(self.outcomes)

    @cached_property
    def score(self) -> float:
        """
        The mean score of the rows that have one.

        Raises:
            EvaluationError: Too many rows failed.
        """
        return math.fsum(self._values()) / len(self.scored)

    @cached_property
    def interval(self) -> Interval:
        """
        Where the true mean lies, with 95 % confidence.

        Raises:
            EvaluationError: Too many rows failed.
        """
        return mean_interval(self._values())

    @cached_property
    def usage(self) -> Usage:
        """Tokens paid for, failed rows included; answers from a cache cost none."""
        return sum((each.totals.usage for each in self.outcomes if each.totals is not None), Usage())

    @cached_property
    def cost(self) -> Decimal | None:
        """
        US dollars paid for all rows, failed ones included, to the last digit; answers from a cache cost none.

        None where the price of one call is unknown, or a row was killed with its bill.
        """
        costs = [cost_of(each) for each in self.outcomes]
        known = [cost for cost in costs if cost is not None]
        return sum(known, Decimal(0)) if len(known) == len(costs) else None

    @cached_property
    def latency(self) -> RowLatency:
        """Seconds per row, failed rows included."""
        times = sorted(each.totals.duration for each in self.outcomes if each.totals is not None)
        return RowLatency(*(_percentile(times, share) for share in (0.5, 0.95, 0.99)))

    def compare(self, other: Report) -> Comparison:
        """
        Return how this report differs from ``other``, with a paired test over the rows that both scored.

        Raises:
            EvaluationError: The reports are of other examples, or share no scored row.
        """
        if self.examples != other.examples:
            raise EvaluationError("these reports are of different examples: their scores cannot be compared")
        return compare_values([_value(each) for each in other.outcomes], [_value(each) for each in self.outcomes])

    def rows(self) -> list[dict[str, object]]:
        """
        Return each row as JSON values: score, feedback, error, seconds, price, tokens, the example and the prediction.

        ``pandas.DataFrame(report.rows())`` is a table of it.
        """
        return [
            row_of(
                number,
                example,
                getattr(outcome, "value", None),
                outcome.score if isinstance(outcome, Scored) else None,
                outcome if isinstance(outcome, Failed) else None,
                outcome.totals,
            )
            for number, (example, outcome) in enumerate(zip(self.examples, self.outcomes, strict=True))
        ]

    def save(self, path: str | Path, *, formulas: bool = False, overwrite: bool = False) -> None:
        """
        Write ``rows()`` to a file: CSV for a name that ends in ``.csv``, JSON Lines for ``.jsonl``.

        Args:
            path: The file; it is the old one or the whole new one. A report with the same columns is replaced.
            formulas: In a CSV, False puts ``'`` before a text that begins with ``=``, ``+``, ``-``, ``@`` or a tab:
                spreadsheets would calculate what a model wrote. True writes every text as it is.
            overwrite: True replaces any other file too.

        Raises:
            ConfigError: The name ends in neither.
            TargetExists: Something else than a report with the same columns stands there; it is untouched.
            FileError: The file cannot be written.
        """
        kind = Path(path).suffix
        if kind not in (".csv", ".jsonl"):
            raise ConfigError(f"{path}: a report is saved as .csv or .jsonl")
        rows = self.rows()
        text = csv_text(rows, formulas=formulas) if kind == ".csv" else json_lines(rows)
        if not overwrite and not has_columns(Path(path), text):
            raise TargetExists(path, "it is not a report with these columns")
        write_private(Path(path), text)

    def save_html(self, path: str | Path, *, before: Report | None = None, overwrite: bool = False) -> None:
        """
        Write the report as one HTML file that needs nothing else: the score, the failures first, every row.

        It opens without a network, and what models wrote is text in it. Of very many rows the page holds those that
        failed or scored lowest, up to some 4 MB, and says how many are left out. It shows your examples and the
        answers: hand it to whoever may read them.

        Args:
            path: The file; it is the old one or the whole new one.
            before: Another report of the same examples: the page then begins with the difference, and with the rows
                that became worse.
            overwrite: True replaces a file that is not a report of dspex, too.

        Raises:
            EvaluationError: ``before`` is of other examples, or no row was scored in both.
            TargetExists: Something else stands there; it is untouched.
            FileError: The file cannot be written.
        """
        data = page_of(self, before, wall_time())
        write_page(Path(path), "report.js", data, title=f"{self.program}: evaluation", overwrite=overwrite)

    def problem(self) -> str:
        """Say why there is no score."""
        why = ", ".join(f"{name} ({count})" for name, count in self._reasons())
        stopped = f" ({self.not_run} more rows were not run)" if self.not_run else ""
        return (
            f"{len(self.failed)} of {len(self.outcomes)} rows failed{stopped}, more than max_failed="
            f"{self.max_failed:g} allows: {why}; the first: {self.failed[0].reason}"
        )

    def to_pandas(self) -> Any:
        """
        Return ``rows()`` as a pandas ``DataFrame``.

        Raises:
            ConfigError: pandas is not installed.
        """
        try:
            pandas = importlib.import_module("pandas")
        except ImportError as error:
            raise ConfigError("to_pandas needs pandas, which dspex does not bring: pip install pandas") from error
        return pandas.DataFrame.from_records(self.rows())

    def _repr_html_(self) -> str:
        """Return the report for a notebook: the first rows, every text escaped."""
        return as_html(str(self), self.rows())

    def _values(self) -> Sequence[float]:
        if not self.has_score:
            raise EvaluationError(self.problem(), self)
        return [each.score.value for each in self.scored]

    def _reasons(self) -> list[tuple[str, int]]:
        return Counter(type(each.reason).__name__ for each in self.failed).most_common()

    def __str__(self) -> str:
        rows = len(self.outcomes)
        head = f"{self.program}: no score" if not self.has_score else f"{self.program}: {self.score:.3f}"
        bounds = f" (95 % {self.interval})" if self.has_score else ""
        lines = [f"{head}{bounds} on {len(self.scored)} of {rows} rows"]
        if self.failed:
            lines.append("  failed: " + ", ".join(f"{count} {name}" for name, count in self._reasons()))
        p50, p95, p99 = self.latency
        lines.append(f"  seconds per row: {p50:.2f} median, {p95:.2f} p95, {p99:.2f} p99")
        cost = "price unknown" if self.cost is None else f"{self.cost:.6f} USD"
        lines.append(f"  tokens: {self.usage.input_tokens} in, {self.usage.output_tokens} out; {cost}")
        return "\n".join(lines)


def compare_values(before: Sequence[float | None], after: Sequence[float | None]) -> Comparison:
    """
    Return the paired comparison of two sets of scores; None stands for a failed row, which is excluded and counted.

    Raises:
        EvaluationError: No row was scored in both.
    """
    pairs = list(zip(before, after, strict=True))
    moved = [y - x for x, y in pairs if x is not None and y is not None]
    if not moved:
        raise EvaluationError("no row was scored in both reports")
    changed = tuple(Change(row, x, y) for row, (x, y) in enumerate(pairs) if x != y)
    mean = math.fsum(moved) / len(moved)
    return Comparison(mean, t_interval(moved), paired_p_value(moved), changed, len(moved), len(pairs) - len(moved))


def cost_of(outcome: RowOutcome) -> Decimal | None:
    """Return the dollars that one row has cost; None where that is unknown. A row never started has cost nothing."""
    if outcome.totals is not None:
        return outcome.totals.cost
    killed = isinstance(outcome, Failed) and isinstance(outcome.reason, ActorExited)
    return None if killed else Decimal(0)


def _value(outcome: RowOutcome) -> float | None:
    return outcome.score.value if isinstance(outcome, Scored) else None


def _at(value: float | None) -> float:
    return -math.inf if value is None else value


def _percentile(ordered: Sequence[float], share: float) -> float:
    """Return the nearest-rank percentile; 0 without values."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0
