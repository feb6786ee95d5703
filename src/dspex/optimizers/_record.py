"""The record of a job beside its journal: it survives the actor that runs it, and ``Job`` reads it."""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from dspex.errors import OptimizationError
from dspex.evaluation.rows_under_way import RowsUnderWay
from dspex.optimizers._job_plan import Outcome
from dspex.optimizers.candidate import Candidate, Named
from dspex.optimizers.identity import Identity
from dspex.optimizers.jobs import RecordOfJob
from dspex.optimizers.journal import Record
from dspex.optimizers.plans import Algorithm
from dspex.optimizers.split import Split
from dspex.programs import Module
from dspex.protocols.executor import RunOptions
from dspex.protocols.json_values import Json
from dspex.protocols.money import Budget
from dspex.protocols.training import TrainingRoom

__all__ = ["JobEvent", "JobRecord", "JobSpec", "event_of"]

EVENTS_KEPT = 5_000
"""Events of a job that are kept in memory."""


@dataclass(frozen=True, slots=True)
class JobEvent:
    """
    Something that happened in a job; the same events in the same order for whoever asks, and after a restart.

    Attributes:
        seq: Its number in the journal, rising.
        at: Seconds since 1970.
        epoch: Which incarnation of the optimizer wrote it, from 1.
        kind: ``started``, ``evaluation``, ``progress``, ``finished`` and others; ``Job.events`` has the table.
        data: JSON values, by kind; see ``Job.events``.
    """

    seq: int
    at: float
    epoch: int
    kind: str
    data: Json


@dataclass(frozen=True, slots=True)
class JobSpec:
    """The arguments of a job; its result depends on nothing else."""

    id: str
    path: Path
    program: Module
    optimizer: Algorithm
    split: Split
    seed: int
    options: RunOptions
    identity: Identity
    sure: float = 0.0
    limit: Budget | None = None
    minutes: float | None = None
    max_concurrency: int = 64
    accept_changed: tuple[str, ...] = ()
    named: Named | None = None
    """Finds the models that candidates name."""

    def __hash__(self) -> int:
        return hash(self.id)

    def program_of(self, candidate: Candidate) -> Module:
        """Return what a candidate makes: of the student, or of the optimizer's program that it names."""
        program = self.optimizer.programs(self.program)[candidate.program] if candidate.program else self.program
        return candidate.applied(program, self.named)


@dataclass(slots=True)
class JobRecord(RecordOfJob[JobSpec]):
    """One job of this App that compiles a program: its events so far, and its result."""

    under_way: RowsUnderWay = field(default_factory=RowsUnderWay)
    """Counts what the job has begun, with the App's other rows."""
    training: TrainingRoom | None = None
    """Where models are trained."""
    events: deque[JobEvent] = field(default_factory=lambda: deque(maxlen=EVENTS_KEPT))
    """The latest events; older ones are in the journal."""
    result: Module | None = None
    outcome: Outcome | None = None
    best: Callable[[], Candidate] | None = None
    """Returns the best candidate so far; set while the search runs."""
    rows: int = 0
    """Runs of rows that have been told of."""
    cancel_training: bool = False
    """True when trainings under way are to be stopped with the job."""

    @property
    def settled(self) -> bool:
        """True when there is a result or an error; neither ever changes."""
        return self.result is not None or self.error is not None

    def lost(self) -> Exception:
        """Return the error of a job whose actor has died too often."""
        return OptimizationError(
            f"the optimizer of job {self.spec.id} died {self.incarnations} times and is not started again; "
            f"compile the same job again to continue it"
        )

    def add(self, event: JobEvent) -> bool:
        """Add an event that the journal has; False when it is known already."""
        if self.events and event.seq <= self.events[-1].seq:
            return False
        self.events.append(event)
        self.rows += event.kind == "evaluation"
        self._wake()
        return True

    def since(self, seq: int) -> list[JobEvent] | None:
        """Return the events after a number, oldest first; None when they are older than those kept here."""
        events = self.events
        if not events or events[-1].seq <= seq:
            return []
        missing = events[0].seq - seq - 1
        return None if missing > 0 else list(itertools.islice(events, -missing, None))

    def finish(self, program: Module, outcome: Outcome) -> None:
        """Settle the result, unless something is settled already."""
        if not self.settled:
            self.result, self.outcome, self.status = program, outcome, "finished"


def event_of(record: Record) -> JobEvent:
    """Return what a journal's record tells the user; what only a restart needs is left out."""
    data = {name: value for name, value in record.data.items() if not name.startswith("_")}
    if record.kind in ("evaluation", "answer"):
        data["key"] = record.key
    return JobEvent(record.seq, record.at, record.epoch, record.kind, data)
