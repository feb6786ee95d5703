"""Writing a job's journal from its event loop, and telling the job's record what has been written."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from dspex.optimizers._record import JobRecord, event_of
from dspex.optimizers.journal import Journal, Record
from dspex.runtime import Runtime, WorkerThread

__all__ = ["JobWriter"]


class JobWriter:
    """
    The journal's pen, of one incarnation of an optimizer.

    Args:
        runtime: Whose telemetry is told.
        worker: The thread that the journal lives in.
        journal: Taken already.
        record: What gets the events.

    Attributes:
        evaluations: Recorded evaluations by key.
    """

    def __init__(self, runtime: Runtime, worker: WorkerThread, journal: Journal, record: JobRecord) -> None:
        self.evaluations: dict[str, Mapping[str, Any]] = {}
        self._runtime = runtime
        self._worker = worker
        self._journal = journal
        self._record = record

    async def append(self, kind: str, data: Mapping[str, Any], key: str | None = None) -> Record:
        """
        Write a record; a key that has one already keeps it.

        Raises:
            JobBusy: Another writer has taken the journal.
            OptimizationError: The file cannot be written.
        Cancellation: the record is written all the same.
        """
        record: Record = await self._worker.run(self._journal.append, kind, data, key)
        self.publish()
        return record

    def publish(self) -> None:
        """Take over what has been committed, in its order, also on behalf of callers that are gone."""
        written = self._journal.written
        while written:
            self.learn(written.popleft())

    def learn(self, record: Record) -> None:
        """Take over one record of the journal."""
        if record.kind == "evaluation" and record.key is not None:
            self.evaluations[record.key] = record.data
        event = event_of(record)
        if self._record.add(event) and self._runtime.telemetry.active:
            metadata = {"job": self._record.spec.id, "event": event}
            self._runtime.telemetry.emit("dspex.job.event", {}, metadata)
