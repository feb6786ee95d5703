"""One optimizer's job as a row: its score by money, its candidates, the matrix of rows and candidates, its verdict."""

from __future__ import annotations

import math
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from dspex.app.dashboard.shapes import Plain
from dspex.optimizers import Job, JobEvent
from dspex.programs import Module

__all__ = ["JobNotes"]

CANDIDATES: Final = 24
"""Candidates that are told one by one: the best by their mean."""

ROWS: Final = 60
"""Rows of the matrix."""

POINTS: Final = 200
"""Points of the line of scores; when there are more, every second one is dropped."""

FEWEST: Final = 3
"""Scores that a candidate needs to be called the best so far."""


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


class JobNotes:
    """Follows the events of one job; what was told once is not asked for again."""

    def __init__(self) -> None:
        self._seen = 0
        self._spent = Decimal(0)
        self._tokens = 0
        self._evaluations = 0
        self._candidates: dict[str, _Tally] = {}
        self._points: list[list[Any]] = []
        self._every = 1
        self._told: Plain = {}
        self._row: Plain | None = None
        self._status = ""

    def look(self, job: Job[Module], events: list[JobEvent], algorithm: str) -> Plain:
        """Take in the events that are new and return the job's row: the same object while nothing has changed."""
        if self._row is not None and not events and job.status == self._status:
            return self._row
        for event in events:
            self._seen = event.seq
            self._take(event)
        self._status = job.status
        verdict = job.verdict
        self._row = {
            "id": job.id,
            "status": job.status,
            "optimizer": algorithm,
            "spent": f"{self._spent:f}",
            "tokens": self._tokens,
            "evaluations": self._evaluations,
            "points": list(self._points),
            "candidates": self._best(),
            "matrix": self._matrix(),
            "verdict": str(verdict) if verdict is not None else None,
            "told": dict(self._told),
        }
        return self._row

    @property
    def seen(self) -> int:
        """The number of the last event that was taken in."""
        return self._seen

    def _take(self, event: JobEvent) -> None:
        data = event.data
        if event.kind in ("evaluation", "answer"):
            self._pay(data)
        if event.kind == "evaluation":
            self._score(data)
        elif event.kind == "progress":
            self._told |= {name: value for name, value in data.items() if isinstance(value, (int, float, str))}
        elif event.kind in ("started", "resumed"):
            self._told |= {name: data[name] for name in ("program", "learn", "choose", "hold") if name in data}
        elif event.kind in ("paused", "failed"):
            self._told["error"] = str(data.get("error", "")).partition(":")[0]
        elif event.kind == "steered":
            self._told["steered"] = self._told.get("steered", 0) + 1

    def _pay(self, data: Mapping[str, Any]) -> None:
        spent = data.get("spent")
        if isinstance(spent, Mapping):
            try:
                self._spent += Decimal(str(spent.get("usd", "0")))
            except InvalidOperation:
                return
            self._tokens += int(spent.get("tokens", 0))

    def _score(self, data: Mapping[str, Any]) -> None:
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

    def _best(self) -> list[Plain]:
        ordered = sorted(self._candidates.items(), key=lambda each: (-each[1].mean, each[1].number))
        return [tally.plain(key) for key, tally in ordered[:CANDIDATES]]

    def _matrix(self) -> Plain:
        ordered = sorted(self._candidates.items(), key=lambda each: (-each[1].mean, each[1].number))[:CANDIDATES]
        rows = sorted({row for _, tally in ordered for row in tally.rows})[:ROWS]
        return {
            "rows": rows,
            "scores": {key: [_cell(tally, row) for row in rows] for key, tally in ordered},
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
