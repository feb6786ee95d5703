"""The handle on a job that indexes passages."""

from __future__ import annotations

from dspex.evaluation.display import open_display
from dspex.indexing.record import IndexCounts, IndexRecord, IndexReport
from dspex.optimizers.jobs import CANCEL, PAUSE, RESUME, JobStatus
from dspex.runtime import NamedRef

__all__ = ["IndexJob"]


class IndexJob:
    """
    Passages on their way into an index, known by the job's id: it goes on when this handle is dropped.

    Starting the same job again, in this process or a later one, attaches to it or continues it; what is in the index
    already, and unchanged, is neither embedded nor written again.
    """

    __slots__ = ("_actor", "_progress", "_record")

    def __init__(self, record: IndexRecord, actor: NamedRef, progress: bool | None = False) -> None:
        self._record = record
        self._actor = actor
        self._progress = progress

    @property
    def id(self) -> str:
        """The name to start it under again."""
        return self._record.spec.id

    @property
    def status(self) -> JobStatus:
        """``starting``, ``running``, ``paused`` (also by an outage), ``finished``, ``failed`` or ``cancelled``."""
        return self._record.status

    @property
    def counts(self) -> IndexCounts:
        """The progress so far."""
        return self._record.counts

    async def result(self) -> IndexReport:
        """
        Wait for the end and return what was done.

        Raises:
            JobCancelled: ``cancel`` was called.
            JobBusy: Another writer has taken the journal.
            AppClosed: The App closed first; the same job continues where it was.
            Exception: Any error that ended it: of the passages (DocumentError), of the index (RetrievalError), of the
                model that embeds (AuthFailed, BudgetExceeded). Passages that were written until then are kept.
        Cancellation: the job goes on.
        """
        record = self._record
        display = open_display(self._progress) if not record.ended else None
        try:
            while not record.ended:
                await record.changed()
                if display is not None:
                    display.show(str(self))
        finally:
            if display is not None:
                display.close()
        if record.error is not None:
            raise record.error
        assert record.report is not None
        return record.report

    async def changed(self) -> None:
        """Wait until it is further, or has ended. Cancellation: nothing stays behind."""
        if not self._record.ended:
            await self._record.changed()

    def cancel(self) -> None:
        """Stop the job; what it has done is kept, and starting it again continues it."""
        if not self._record.ended:
            self._record.cancel_wanted = True
            self._actor.cast(CANCEL)

    def pause(self) -> None:
        """Begin nothing more until ``resume``; what is under way ends."""
        if not self._record.ended:
            self._actor.cast(PAUSE)

    def resume(self) -> None:
        """Go on after ``pause``."""
        if not self._record.ended:
            self._actor.cast(RESUME)

    def __repr__(self) -> str:
        return f"<IndexJob {self.id} [{self.status}]>"

    def __str__(self) -> str:
        record = self._record
        if record.report is not None:
            return f"job {self.id}: {record.status}; {record.report}"
        counts = record.counts
        return f"job {self.id}: {record.status}, {counts.read} passages read, {counts.embedded} embedded"
