"""
One job as a row.

An optimizer's has its score by money, its candidates, the matrix of rows and candidates, and its verdict; a job that
indexes passages has its counts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from dspex._guard import class_name
from dspex.app.dashboard.shapes import Plain
from dspex.indexing.record import IndexRecord, plain_counts
from dspex.optimizers import Algorithm, Job, JobEvent
from dspex.optimizers.pages import changes_of
from dspex.optimizers.steering import tried_candidate
from dspex.optimizers.tally import JobTally
from dspex.programs import Module

__all__ = ["JobNotes", "candidate_view", "index_row"]

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
        self._status = "", False

    def look(self, job: Job[Module], events: list[JobEvent], optimizer: Algorithm[Any], *, held: bool) -> Plain:
        """Take in the events that are new and return the job's row: the same object while nothing has changed."""
        if self._row is not None and not events and (job.status, held) == self._status:
            return self._row
        for event in events:
            self.seen = event.seq
            self._tally.take(event.kind, event.data)
        self._status = job.status, held
        verdict = job.verdict
        self._row = {
            "id": job.id,
            "status": job.status,
            "held": held,
            "optimizer": class_name(optimizer),
            "verdict": str(verdict) if verdict is not None else None,
            "steered_by": sorted(optimizer.steered_by),
            **self._tally.plain(candidates=CANDIDATES, rows=ROWS),
        }
        return self._row


def index_row(record: IndexRecord) -> Plain:
    """Return the row of a job that indexes passages."""
    return {
        "id": record.spec.id,
        "status": record.status,
        "held": record.held,
        "index": record.spec.target.name,
        "mode": record.spec.mode,
        **plain_counts(record.counts),
        "error": f"{type(record.error).__name__}: {record.error}" if record.error is not None else None,
        "report": str(record.report) if record.report is not None else None,
    }


def candidate_view(path: Path, key: str, capture: bool) -> Plain:
    """
    Return what a candidate changes of the program that was given. Blocks.

    Args:
        path: The job's journal.
        key: The candidate's.
        capture: True where words of users and models may be shown; else they are counted.

    Raises:
        ConfigError: The job has tried no such candidate.
        OptimizationError: The journal cannot be read.
    """
    known = tried_candidate(path, key)
    changes = changes_of(known.own, known.candidate.plain())
    if not capture:
        changes = [_counted(each) for each in changes]
    instructions = {name: text if capture else "" for name, text in known.instructions.items()}
    return {"key": known.key, "capture": capture, "changes": changes, "instructions": instructions}


def _counted(change: Plain) -> Plain:
    """Return a change without its words: how many of them are new, gone and kept."""
    counts = {"+": 0, "-": 0, "=": 0}
    for how, text in change.get("words", ()):
        counts[how] += len(text.split())
    for how, _ in change.get("demos", ()):
        counts[how] += 1
    counted = {"added": counts["+"], "gone": counts["-"], "kept": counts["="], "left_out": change.get("left_out", 0)}
    return {"path": change["path"], "what": change["what"], "counts": counted}
