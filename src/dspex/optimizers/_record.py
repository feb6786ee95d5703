"""What is kept of a job beside its journal: it survives the actor that runs it, and is what ``Job`` looks at."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from dspex.errors import AppClosed, OptimizationError
from dspex.evaluation import Row
from dspex.optimizers.journal import Record
from dspex.programs import Module
from dspex.protocols.executor import RunOptions

if TYPE_CHECKING:
    from dspex.optimizers.optimizer import Optimizer

__all__ = ["JobEvent", "JobRecord", "JobSpec", "JobStatus", "JobTable", "event_of"]

JobStatus = Literal["starting", "running", "paused", "finished", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class JobEvent:
    """
    Something that happened in a job; the same events in the same order for whoever asks, and after a restart.

    Attributes:
        seq: Its number in the journal, rising.
        at: Seconds since 1970.
        epoch: Which incarnation of the optimizer wrote it, from 1.
        kind: ``started``, ``resumed``, ``evaluation``, ``paused``, ``progress``, ``candidate``, ``finished``,
            ``failed``, ``cancelled``.
        data: JSON values, by kind; see ``Job.events``.
    """

    seq: int
    at: float
    epoch: int
    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class JobSpec:
    """What a job was started with; its result depends on nothing else."""

    id: str
    path: Path
    program: Module
    optimizer: Optimizer
    train: tuple[Row, ...]
    val: tuple[Row, ...]
    seed: int
    options: RunOptions
    fingerprint: Mapping[str, str]


@dataclass(slots=True)
class JobRecord:
    """
    One job of this App: its events so far, how it ended, and who waits for either.

    An end is settled by the actor and published when the actor and its supervisor are gone: then the journal is
    closed and the job's name is free, and only then whoever waits is told.
    """

    spec: JobSpec
    status: JobStatus = "starting"
    events: list[JobEvent] = field(default_factory=list)
    result: Module | None = None
    error: Exception | None = None
    incarnations: int = 0
    cancel_wanted: bool = False
    ended: bool = False
    """Whether the end has been published."""
    _waiting: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name under which the job's actor is registered."""
        return f"job {self.spec.id}"

    @property
    def settled(self) -> bool:
        """Whether there is a result or an error; neither ever changes."""
        return self.result is not None or self.error is not None

    def add(self, event: JobEvent) -> bool:
        """Add an event that the journal has; False when it is known already."""
        if self.events and event.seq <= self.events[-1].seq:
            return False
        self.events.append(event)
        self._wake()
        return True

    def finish(self, program: Module) -> None:
        """Settle the result, unless something is settled already."""
        if not self.settled:
            self.result, self.status = program, "finished"

    def fail(self, error: Exception, status: JobStatus = "failed") -> None:
        """Settle the error, unless something is settled already."""
        if not self.settled:
            self.error, self.status = error, status

    def publish(self) -> None:
        """Tell whoever waits how the job ended."""
        self.ended = True
        self._wake()

    async def changed(self) -> None:
        """Wait for the next event or the end. Cancellation: nothing stays behind."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        try:
            await future
        finally:
            if future in self._waiting:
                self._waiting.remove(future)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


class JobTable:
    """The jobs of one run of an App, by id; data, not a process: it cannot crash."""

    __slots__ = ("closing", "jobs")

    def __init__(self) -> None:
        self.jobs: dict[str, JobRecord] = {}
        self.closing = False

    def unfinished(self) -> Sequence[JobRecord]:
        """The jobs whose end has not been published, oldest first."""
        return [record for record in self.jobs.values() if not record.ended]

    def end(self, record: JobRecord) -> None:
        """Publish the end of a job whose supervisor has ended for good; one that settled nothing has failed."""
        if self.closing:
            record.fail(AppClosed())
        record.fail(
            OptimizationError(
                f"the optimizer of job {record.spec.id} died {record.incarnations} times and is not started again; "
                f"compile the same job again to continue it"
            )
        )
        record.publish()


def event_of(record: Record) -> JobEvent:
    """Return what a journal's record tells the user; what only a restart needs is left out."""
    data = {name: value for name, value in record.data.items() if not name.startswith("_")}
    if record.kind == "evaluation":
        data["key"] = record.key
    return JobEvent(record.seq, record.at, record.epoch, record.kind, data)
