"""One evaluation as a row, and two of them compared: failures first."""

from __future__ import annotations

import inspect
from typing import Any, Final

from dspex._guard import class_name, text_of
from dspex.app.dashboard.requests_view import MOST_TEXT, money
from dspex.app.dashboard.shapes import Plain
from dspex.errors import EvaluationError
from dspex.evaluation import OnProgress, Progress, Report, Scored
from dspex.evaluation.report import cost_of

__all__ = ["EvaluationNote", "compared"]

MOST_ROWS: Final = 1_000
"""Rows of an evaluation that are told one by one."""


class EvaluationNote:
    """One evaluation: how far it is, and its report when it has ended."""

    def __init__(self, number: str, program: str, at: float, origin: float) -> None:
        self.id = number
        self.origin = origin
        self.report: Report | None = None
        self._row: Plain = {"id": number, "program": program, "at": round(at, 3), "state": "running"}

    def telling(self, tell: OnProgress | None) -> OnProgress:
        """Return what is told of each row, and tells ``tell`` as well; the evaluator refuses a coroutine function."""
        if inspect.iscoroutinefunction(tell):
            return tell

        def told(progress: Progress) -> object:
            self._row |= {"done": progress.done, "total": progress.total, "failed": progress.failed}
            self._row["score"] = progress.score
            self._row["cost"] = money(progress.cost)
            return tell(progress) if tell is not None else None

        return told

    def ended(self, report: Report | None, at: float) -> None:
        """Take the report; None where there is none."""
        self.report = report
        self._row |= {"state": "ended" if report is not None and report.has_score else "failed", "end": round(at, 3)}
        if report is not None:
            self._row["failed"] = len(report.failed)
            if report.has_score:
                self._row |= {"score": report.score, "interval": [report.interval.low, report.interval.high]}

    def plain(self) -> Plain:
        """Return its row, as it is now."""
        return dict(self._row)

    def rows(self, *, capture: bool) -> list[Plain]:
        """Return the outcomes one by one, failures first, then the worst scores."""
        if self.report is None:
            return []
        rows = [_row(number, each, capture=capture) for number, each in enumerate(self.report.outcomes)]
        rows.sort(key=lambda row: (row["score"] is not None, row["score"] or 0.0, row["row"]))
        return rows[:MOST_ROWS]


def _row(number: int, outcome: Any, *, capture: bool) -> Plain:
    totals = outcome.totals
    row: Plain = {
        "row": number,
        "score": round(outcome.score.value, 4) if isinstance(outcome, Scored) else None,
        "seconds": round(totals.duration, 3) if totals is not None else None,
        "cost": money(cost_of(outcome)),
        "request": totals.request_id if totals is not None else None,
    }
    if not isinstance(outcome, Scored):
        row["error"] = class_name(outcome.reason)
        if capture:
            row["text"] = text_of(outcome.reason)[:MOST_TEXT]
    return row


def compared(before: EvaluationNote, after: EvaluationNote) -> Plain:
    """
    Return how two evaluations of the same examples differ, what became worse first.

    Raises:
        EvaluationError: One has no report, or they are of different examples.
    """
    if before.report is None or after.report is None:
        raise EvaluationError("one of the two has not ended with a report")
    found = after.report.compare(before.report)
    changed = [[each.row, each.before, each.after] for each in found.changed[:MOST_ROWS]]
    changed.sort(
        key=lambda each: (each[2] if each[2] is not None else -1.0) - (each[1] if each[1] is not None else -1.0)
    )
    return {
        "difference": found.difference,
        "interval": [found.interval.low, found.interval.high],
        "p": found.p_value,
        "pairs": found.pairs,
        "changed": changed,
        "text": str(found),
    }
