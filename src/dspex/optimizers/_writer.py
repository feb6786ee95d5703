"""Writing a job's journal from its event loop, and telling the job's record what has been written."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dspex.errors import OptimizationError
from dspex.optimizers._answers import spending_of
from dspex.optimizers._record import JobRecord, event_of
from dspex.optimizers._shelf import Shelf
from dspex.optimizers.journal import Journal, Record
from dspex.protocols.json_values import Json
from dspex.protocols.money import Spending
from dspex.runtime import Runtime, WorkerThread
from dspex.telemetry import Telemetry

__all__ = ["JobWriter"]


class JobWriter:
    """
    The journal's pen, of one incarnation of an optimizer.

    Args:
        runtime: The runtime whose telemetry is told.
        worker: The thread that the journal lives in.
        journal: Taken already.
        record: The function that gets the events.

    Attributes:
        shelf: The keys of recorded answers; the answers stay on disk.
        recorded: The number of recorded runs of rows.
        spent: The cost of all recorded answers.
    """

    def __init__(self, runtime: Runtime, worker: WorkerThread, journal: Journal, record: JobRecord) -> None:
        self.shelf = Shelf()
        self.recorded = 0
        self.spent = Spending()
        self._runtime = runtime
        self._worker = worker
        self._journal = journal
        self._record = record

    @property
    def telemetry(self) -> Telemetry:
        """Where the job's events go."""
        return self._runtime.telemetry

    @property
    def job(self) -> str:
        """The job's id."""
        return self._record.spec.id

    async def append(self, kind: str, data: Mapping[str, object], key: str | None = None) -> Record:
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

    async def answer(self, kind: str, key: str, data: Json) -> Json:
        """Record an answer and return it as the journal has it; raises and is cancelled as ``append``."""
        return (await self.append(kind, data, key)).data

    async def find(self, key: str) -> Mapping[str, object] | None:
        """Return the answer recorded under a key, if there is one; whatever was handed in before is written first."""
        kind = "evaluation" if key.startswith("run/") else "answer"
        found: Record | None = await self._worker.run(self._journal.find, kind, key)
        self.publish()
        return found.data if found is not None else None

    async def find_note(self, kind: str, key: str) -> Json | None:
        """Return the record of another kind under a key, if there is one."""
        found: Record | None = await self._worker.run(self._journal.find, kind, key)
        self.publish()
        return found.data if found is not None else None

    async def read(self, keys: Sequence[str]) -> Mapping[str, Json]:
        """
        Return recorded answers by key.

        Raises:
            OptimizationError: The file cannot be read, or an answer is no longer there.
        """
        runs = [key for key in keys if key.startswith("run/")]
        others = [key for key in keys if not key.startswith("run/")]
        found = await self._worker.run(self._journal.find_all, "evaluation", runs) if runs else {}
        if others:
            found |= await self._worker.run(self._journal.find_all, "answer", others)
        if missing := [key for key in keys if key not in found]:
            raise OptimizationError(f"the journal has lost its answer {missing[0]}")
        return found

    def publish(self) -> None:
        """Take over what has been committed, in its order, also on behalf of callers that are gone."""
        written = self._journal.written
        while written:
            self.learn(written.popleft())

    def learn(self, record: Record) -> None:
        """Take over one record of the journal."""
        if record.kind in ("evaluation", "answer") and record.key is not None:
            self.shelf.add(record.key)
            self.recorded += record.kind == "evaluation"
            self.spent += spending_of(record.data)
        event = event_of(record)
        if self._record.add(event) and self._runtime.telemetry.active:
            metadata = {"job": self._record.spec.id, "event": event}
            self._runtime.telemetry.emit("dspex.job.event", {}, metadata)
