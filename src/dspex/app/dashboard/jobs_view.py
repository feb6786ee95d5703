"""One optimizer's job as a row: its score by money, its candidates, the matrix of rows and candidates, its verdict."""

from __future__ import annotations

from typing import Final

from dspex.app.dashboard.shapes import Plain
from dspex.optimizers import Job, JobEvent
from dspex.optimizers.tally import JobTally
from dspex.programs import Module

__all__ = ["JobNotes"]

CANDIDATES: Final = 24
"""Candidates that are told one by one: the best by their mean."""

ROWS: Final = 60
"""Rows of the matrix."""


class JobNotes:
    """Follows the events of one job; what was told once is not asked for again."""

    def __init__(self) -> None:
        self.seen = 0
        """The number of the last event that was taken in."""
        self._tally = JobTally()
        self._row: Plain | None = None
        self._status = ""

    def look(self, job: Job[Module], events: list[JobEvent], algorithm: str) -> Plain:
        """Take in the events that are new and return the job's row: the same object while nothing has changed."""
        if self._row is not None and not events and job.status == self._status:
            return self._row
        for event in events:
            self.seen = event.seq
            self._tally.take(event.kind, event.data)
        self._status = job.status
        verdict = job.verdict
        self._row = {
            "id": job.id,
            "status": job.status,
            "optimizer": algorithm,
            "verdict": str(verdict) if verdict is not None else None,
            **self._tally.plain(candidates=CANDIDATES, rows=ROWS),
        }
        return self._row
