"""
Jobs of any kind: their records and tables, the part of their actors that listens, and the supervisors above these.

A job is a record, an actor that does its work in a task of its own, and a supervisor that restarts the actor.
"""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Generic, Literal, Protocol, TypeVar

from dspex.errors import ActorError, AppClosed, JobCancelled, OptimizationError
from dspex.optimizers.control import JobFolder
from dspex.optimizers.journal import Journal
from dspex.runtime import (
    NORMAL,
    ChildSpec,
    Crashed,
    Down,
    DynamicSupervisor,
    Exit,
    LibraryActor,
    Next,
    Normal,
    Other,
    Restart,
    Shutdown,
    Stop,
    Supervisor,
    TaskProcess,
    WorkerThread,
)

__all__ = ["CANCEL", "PAUSE", "RESUME", "JobStatus", "JobsSupervisor", "JobsTable", "RecordOfJob", "WorkingActor"]

CANCEL: Final = "cancel"
"""Cast to a job's actor to end the job."""

PAUSE: Final = "pause"
"""Cast to a job's actor to begin nothing more for a while."""

RESUME: Final = "resume"
"""Cast to a job's actor to go on."""

LISTENING: Final = 0.5
"""Seconds between two looks for words from other processes."""

_WORDS: Final = {"pause": PAUSE, "resume": RESUME, "cancel": CANCEL}

JobStatus = Literal["starting", "running", "paused", "finished", "failed", "cancelled"]


class _Spec(Protocol):
    """The least that is known of a job."""

    @property
    def id(self) -> str: ...

    @property
    def path(self) -> Path: ...


S = TypeVar("S", bound=_Spec)


@dataclass(slots=True)
class RecordOfJob(Generic[S]):
    """
    One job of this App: how far it is, how it ended, and who waits for either.

    An end is settled by the actor and published when the actor and its supervisor are gone: then the journal is
    closed, the job's name and its files are free, and only then whoever waits is told.
    """

    spec: S
    status: JobStatus = "starting"
    error: Exception | None = None
    incarnations: int = 0
    cancel_wanted: bool = False
    held: bool = False
    """True when somebody has paused it."""
    ended: bool = False
    """True when the end has been published."""
    _waiting: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name under which the job's actor is registered."""
        return f"job {self.spec.id}"

    @property
    def settled(self) -> bool:
        """True when there is a result or an error; neither ever changes."""
        return self.error is not None

    def lost(self) -> Exception:
        """Return the error of a job whose actor has died too often."""
        raise NotImplementedError

    def fail(self, error: Exception, status: JobStatus = "failed") -> None:
        """Settle the error, unless something is settled already."""
        if not self.settled:
            self.error, self.status = error, status

    def publish(self) -> None:
        """Tell whoever waits how the job ended."""
        self.ended = True
        self._wake()

    async def changed(self) -> None:
        """Wait for the next step or the end. Cancellation: nothing stays behind."""
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


R = TypeVar("R", bound=RecordOfJob)  # type: ignore[type-arg]  # of whatever is asked for


class JobsTable(Generic[R]):
    """The jobs of one run of an App, by id; data, not a process: it cannot crash."""

    __slots__ = ("closing", "jobs")

    def __init__(self) -> None:
        self.jobs: dict[str, R] = {}
        self.closing = False

    def unfinished(self) -> list[R]:
        """The jobs whose end has not been published, oldest first."""
        return [record for record in self.jobs.values() if not record.ended]

    def end(self, record: R) -> None:
        """Publish the end of a job whose supervisor has ended for good; one that settled nothing has failed."""
        if self.closing:
            record.fail(AppClosed())
        record.fail(record.lost())
        record.publish()


class WorkingActor(LibraryActor, Generic[R]):
    """
    The part of a job's actor that answers, while the work runs in a task of its own.

    The actor ends with its work: in peace when the job is settled, else by dying of it, so that it is begun again.
    """

    def __init__(self, record: R) -> None:
        self._record = record
        self._journal: Journal | None = None
        self._journals: WorkerThread
        self._work: TaskProcess | None = None
        self._watched = 0  # the monitor of the work
        self._cancelling = False

    @abstractmethod
    async def _run(self) -> None:
        """Do the work, and settle the record."""

    @abstractmethod
    async def _append(self, kind: str, data: Mapping[str, object]) -> None:
        """Write into the journal; raises OptimizationError."""

    @abstractmethod
    def _go(self, go: bool) -> None:
        """Go on with the work, or begin nothing more."""

    def _heard(self, word: str) -> object | None:
        """Return the message that a word from another process stands for."""
        return _WORDS.get(word)

    async def _stop_more(self) -> None:
        """End what a cancelled job has running elsewhere."""

    async def _try_append(self, kind: str, data: Mapping[str, object]) -> None:
        try:
            await self._append(kind, data)
        except OptimizationError as error:
            self._record.fail(error)

    def _begin(self, label: str) -> None:
        """Start the work, and listen."""
        options = self._record.spec.options
        own = options.context.copy() if options.context is not None else None
        self._work = self._dspex_process.spawn_task(self._run, label=label, context=own)
        self._watched = self._work.ref.monitor()
        self.spawn_task(self._listen, label="words from outside")
        if self._record.cancel_wanted:
            self._cancel()

    async def _close_journal(self, worker: WorkerThread) -> None:
        await worker.aclose(self._journal.close if self._journal is not None else None)

    async def handle_continue(self, argument: object) -> Next:
        """Leave: a predecessor had settled the job."""
        return Stop(NORMAL)

    async def handle_cast(self, message: object) -> Next:
        """Cancel, pause or resume the job."""
        if message is CANCEL:
            self._cancel()
        elif message is PAUSE or message is RESUME:
            self._hold(message is PAUSE)
        else:
            return await super().handle_cast(message)
        return None

    def _hold(self, hold: bool) -> None:
        if self._record.settled or self._work is None:
            return
        changed, self._record.held = self._record.held is not hold, hold
        self._record.status = "paused" if hold else "running"
        self._go(not hold)
        if changed:
            self.spawn_task(self._try_append, "held" if hold else "released", {}, label="note")

    async def _listen(self) -> None:
        """Do what other processes ask for, in their order, as if the handle of the job had been told."""
        assert self._journal is not None
        folder = JobFolder(self._record.spec.path.parent)
        while True:
            await self.runtime.sleep(LISTENING)
            for word in await self._journals.run(folder.take, self._record.spec.id, self._journal.epoch):
                message = self._heard(word)
                if message is not None:
                    self.ref.cast(message)

    async def handle_info(self, message: object) -> Next:
        """React to the end of the work: with the job's, or by dying of it, so that it is begun again."""
        if type(message) is not Down or message.monitor != self._watched:
            return await super().handle_info(message)
        if self._record.settled or isinstance(message.reason, Normal):
            return Stop(NORMAL)
        if not self._record.cancel_wanted:
            why = message.reason
            return Stop(why if isinstance(why, Crashed) else Other(f"its work was {why}"))
        return None

    def _cancel(self) -> None:
        self._record.cancel_wanted = True
        if not self._cancelling:
            self._cancelling = True
            self.spawn_task(self._end_cancelled, label="cancel")

    async def _end_cancelled(self) -> None:
        record, work = self._record, self._work
        if record.settled or work is None:
            return
        work.ref.kill()
        await work.wait_exit(None)
        await self._stop_more()
        if not record.settled:
            await self._try_append("cancelled", {})
            record.fail(JobCancelled(record.spec.id), "cancelled")
        self._dspex_process.receive_exit(Shutdown("cancelled"), None)

    async def _note_pause(self, error: Exception, delay: float) -> None:
        self._record.status = "paused"
        await self._append("paused", {"error": f"{type(error).__name__}: {error}", "delay": delay})

    def _note_go(self) -> None:
        if not self._record.held:
            self._record.status = "running"


class _JobSupervisor(Supervisor, Generic[R]):
    """
    Restarts one job's actor a bounded number of times; beyond, the job fails and its journal waits.

    Args:
        record: The job.
        table: Told when it is given up.
        actor: The class of the actor.
        services: The second argument of an actor.
    """

    def __init__(self, record: R, table: JobsTable[R], actor: type[WorkingActor[R]], services: object) -> None:
        child = ChildSpec(record.name, actor, (record, services), restart=Restart.TRANSIENT, name=record.name)
        super().__init__([child], max_restarts=5, max_seconds=60.0)
        self._record = record
        self._table = table

    async def init(self) -> Stop | None:
        """Start the actor; see to it that nobody waits for a job that is given up."""
        self.own(self._record, self._leave)
        return await super().init()

    def _leave(self, record: R) -> None:
        if record.settled or isinstance(self._dspex_process.exit_reason, (Normal, Shutdown)):
            self._table.end(record)  # else we were killed, and shall be restarted

    async def _child_exited(self, message: Exit) -> Next:
        outcome = await super()._child_exited(message)
        return Stop(NORMAL) if outcome is None and self._record.settled else outcome


class JobsSupervisor(DynamicSupervisor, Generic[R]):
    """
    Holds the jobs; when it is restarted it starts again those that had not ended.

    Args:
        table: The jobs.
        actor: The class of their actors.
        services: The second argument of an actor.
    """

    def __init__(self, table: JobsTable[R], actor: type[WorkingActor[R]], services: object) -> None:
        super().__init__(max_restarts=20, max_seconds=60.0)
        self._table = table
        self._actor = actor
        self._services = services

    async def init(self) -> Stop | None:
        """Start what a predecessor left."""
        for record in self._table.unfinished():
            try:
                if not record.settled:
                    await self._add_child(self.spec(record, self._table, self._actor, self._services))
                    continue
            except ActorError as error:
                record.fail(error)
            self._table.end(record)
        return None

    @staticmethod
    def spec(record: R, table: JobsTable[R], actor: type[WorkingActor[R]], services: object) -> ChildSpec:
        """Return the child spec of one job."""
        return ChildSpec(
            f"supervisor of {record.name}",
            _JobSupervisor,
            (record, table, actor, services),
            restart=Restart.TRANSIENT,
            kind="supervisor",
        )
