"""A job's events added up: money, the curve of the best candidate, every candidate's scores, row by row."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from dspex.protocols.json_values import Json

__all__ = ["JobTally", "Plain"]

POINTS: Final = 200
"""Points of the line of scores; when there are more, every second one is dropped."""

FEWEST: Final = 3
"""Scores that a candidate needs to be called the best so far."""

Plain = dict[str, Any]
"""A JSON object."""


class _Tally:
    """The scores of one candidate."""

    __slots__ = ("failed", "number", "rows", "scores")

    def __init__(self, number: int) -> None:
        self.number = number
        self.rows: dict[int, float | None] = {}
        self.scores: list[float] = []
        self.failed = 0

    @property
    def mean(self) -> float:
        return math.fsum(self.scores) / len(self.scores) if self.scores else -math.inf

    def plain(self, key: str) -> Plain:
        low, high = _bounds(self.scores)
        return {
            "key": key,
            "number": self.number,
            "mean": round(self.mean, 4) if self.scores else None,
            "low": low,
            "high": high,
            "rows": len(self.scores),
            "failed": self.failed,
        }


class JobTally:
    """Follows the events of one job."""

    def __init__(self) -> None:
        self._spent = Decimal(0)
        self._tokens = 0
        self._unpriced = 0
        self._evaluations = 0
        self._candidates: dict[str, _Tally] = {}
        self._points: list[list[object]] = []
        self._every = 1
        self._told: Plain = {}

    def plain(self, *, candidates: int, rows: int) -> Plain:
        """
        Return what the events come to, as JSON values.

        Args:
            candidates: Candidates that are told one by one: the best by their mean.
            rows: Rows of the matrix: the first.
        """
        return {
            "spent": f"{self._spent:f}",
            "tokens": self._tokens,
            "unpriced": self._unpriced,
            "evaluations": self._evaluations,
            "points": list(self._points),
            "candidates": [tally.plain(key) for key, tally in self._ordered()[:candidates]],
            "matrix": self._matrix(candidates, rows),
            "told": dict(self._told),
        }

    def take(self, kind: str, data: Json) -> None:
        """Take in an event, or a record of a journal."""
        if kind in ("evaluation", "answer"):
            self._pay(data)
        if kind == "evaluation":
            self._score(data)
        elif kind == "progress":
            self._told |= {name: value for name, value in data.items() if isinstance(value, (int, float, str))}
        elif kind in ("started", "resumed"):
            self._told |= {name: data[name] for name in ("program", "learn", "choose", "hold") if name in data}
        elif kind in ("paused", "failed"):
            self._told["error"] = str(data.get("error", "")).partition(":")[0]
        elif kind == "steered":
            self._told["steered"] = self._told.get("steered", 0) + 1

    def _pay(self, data: Json) -> None:
        spent = data.get("spent")
        if isinstance(spent, Mapping):
            try:
                self._spent += Decimal(str(spent.get("usd", "0")))
            except InvalidOperation:
                return
            self._tokens += int(spent.get("tokens", 0))
            self._unpriced += int(spent.get("unpriced", 0))

    def _score(self, data: Json) -> None:
        self._evaluations += 1
        tally = self._candidates.get(data["candidate"])
        if tally is None:
            tally = self._candidates[data["candidate"]] = _Tally(len(self._candidates))
        score = data.get("score")
        tally.rows[data["row"]] = score
        if score is None:
            tally.failed += 1
        else:
            tally.scores.append(float(score))
        if self._evaluations % self._every == 0:
            known = [each for each in self._candidates.values() if len(each.scores) >= FEWEST]
            if known:
                best = max(known, key=lambda each: each.mean)
                low, high = _bounds(best.scores)
                point = [f"{self._spent:f}", self._evaluations, round(best.mean, 4), low, high]
                self._points.append(point)
        if len(self._points) > POINTS:
            self._points = self._points[::2]
            self._every *= 2

    def hardest(self) -> list[int]:
        """Return the rows, those with the most failures and the lowest scores first."""
        failed: dict[int, int] = {}
        sums: dict[int, list[float]] = {}
        for tally in self._candidates.values():
            for row, score in tally.rows.items():
                failed[row] = failed.get(row, 0) + (score is None)
                sums.setdefault(row, []).extend([] if score is None else [score])
        return sorted(failed, key=lambda row: (-failed[row], math.fsum(sums[row]) / max(1, len(sums[row])), row))

    @property
    def count(self) -> int:
        """The number of candidates."""
        return len(self._candidates)

    @property
    def failed(self) -> int:
        """The runs of rows that ended without a score."""
        return sum(each.failed for each in self._candidates.values())

    def _ordered(self) -> list[tuple[str, _Tally]]:
        return sorted(self._candidates.items(), key=lambda each: (-each[1].mean, each[1].number))

    def _matrix(self, candidates: int, most: int) -> Plain:
        shown = self._ordered()[:candidates]
        rows = sorted({row for _, tally in shown for row in tally.rows})[:most]
        return self.matrix(rows, candidates)

    def matrix(self, rows: Sequence[int], candidates: int) -> Plain:
        """Return the scores of these rows, candidate by candidate, the best first."""
        return {
            "rows": list(rows),
            "scores": {key: [_cell(tally, row) for row in rows] for key, tally in self._ordered()[:candidates]},
        }


def _cell(tally: _Tally, row: int) -> float | str | None:
    """Return a score, ``failed``, or None where the row has not been run."""
    if row not in tally.rows:
        return None
    score = tally.rows[row]
    return "failed" if score is None else round(score, 3)


def _bounds(scores: list[float]) -> tuple[float | None, float | None]:
    """Return about where the mean lies with 95 % confidence: Student's interval is wider for few scores."""
    count = len(scores)
    if count < FEWEST:
        return None, None
    mean = math.fsum(scores) / count
    spread = math.sqrt(math.fsum((each - mean) ** 2 for each in scores) / (count - 1) / count)
    return round(max(0.0, mean - 2 * spread), 4), round(min(1.0, mean + 2 * spread), 4)
