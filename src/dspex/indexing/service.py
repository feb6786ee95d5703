"""Where jobs that index passages are handed in: checked, then their supervisor is asked to start."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from dspex.errors import ActorExited, AppClosed, ConfigError, NoSuchActor, StartFailed
from dspex.indexing.actor import IndexActor, IndexServices
from dspex.indexing.job import IndexJob
from dspex.indexing.record import IndexMode, IndexRecord, IndexSpec
from dspex.indexing.target import IndexTarget
from dspex.optimizers.control import is_job_name
from dspex.optimizers.identity import Identity
from dspex.optimizers.jobs import JobsSupervisor, JobsTable
from dspex.protocols.executor import Executor, RunOptions
from dspex.protocols.retrieval import Passage
from dspex.runtime import ChildSpec, Runtime, SupervisorRef

__all__ = ["INDEXINGS", "IndexService", "IndexSettings"]

INDEXINGS = "indexings"
"""The name under which the supervisor of these jobs is registered."""

FORMAT = "indexing 1"
"""Of a job's journal; raised when an older one cannot be continued."""


@dataclass(frozen=True, slots=True)
class IndexSettings:
    """The arguments of ``App.index`` beside the passages and the index."""

    mode: IndexMode = "build"
    job: str | None = None
    batch: int = 64
    max_concurrency: int = 4
    skip_bad: bool = False
    progress: bool | None = False

    def __post_init__(self) -> None:
        if self.mode not in ("build", "add"):
            raise ConfigError(f"mode={self.mode!r:.60} must be 'build' or 'add'")
        for name in ("batch", "max_concurrency"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < 1:
                raise ConfigError(f"{name}={value!r} must be a whole number from 1 on")


class IndexService:
    """
    The jobs of one run of an App.

    Args:
        runtime: Where their actors live.
        executor: Where texts are embedded.
        open_stream: Returns what opens streams of tasks.
        home: The folder for journals; made when first needed.
    """

    def __init__(
        self,
        runtime: Runtime,
        executor: Executor,
        open_stream: Any,  # an async function that returns an OpenStream
        home: Path,
    ) -> None:
        self.table = JobsTable[IndexRecord]()
        self._runtime = runtime
        self._services = IndexServices(executor, open_stream)
        self._home = home

    def spec(self) -> ChildSpec:
        """Return the child spec of the supervisor."""
        arguments = (self.table, IndexActor, self._services)
        return ChildSpec(INDEXINGS, JobsSupervisor, arguments, kind="supervisor", name=INDEXINGS)

    async def start(
        self,
        passages: Iterable[Passage] | AsyncIterable[Passage],
        target: IndexTarget,
        options: RunOptions,
        settings: IndexSettings,
    ) -> IndexJob:
        """
        Start, continue or attach to a job, as ``App.index`` says.

        Cancellation: the job is started all the same.
        """
        spec = self._spec(passages, target, options, settings)
        while True:
            if self.table.closing:
                raise AppClosed
            supervisor = cast("SupervisorRef", await self._runtime.wait_name(INDEXINGS, 5.0))
            known = self.table.jobs.get(spec.id)
            if known is None or known.ended:
                return await self._begin(spec, supervisor, settings.progress)  # nothing may come in between
            if known.spec.identity.digests != spec.identity.digests:
                raise ConfigError(
                    f"job {spec.id} is running, and indexes {known.spec.target.name}: give job= another name"
                )
            if not known.settled:
                return self._handle(known, settings.progress)
            await known.changed()

    def handle(self, job_id: str) -> IndexJob | None:
        """Return the handle of a job of this run; None when there is none."""
        record = self.table.jobs.get(job_id)
        return self._handle(record) if record is not None else None

    async def _begin(self, spec: IndexSpec, supervisor: SupervisorRef, progress: bool | None) -> IndexJob:
        record = self.table.jobs[spec.id] = IndexRecord(spec)
        try:
            await supervisor.start_child(JobsSupervisor.spec(record, self.table, IndexActor, self._services))
        except StartFailed as error:
            self.table.jobs.pop(spec.id, None)
            raise (record.error or error) from None
        except (ActorExited, NoSuchActor):
            if self.table.closing:
                raise AppClosed from None  # else the supervisor's successor starts what is in the table
        return self._handle(record, progress)

    def _handle(self, record: IndexRecord, progress: bool | None = False) -> IndexJob:
        return IndexJob(record, self._runtime.named(record.name), progress)

    def _spec(
        self,
        passages: Iterable[Passage] | AsyncIterable[Passage],
        target: IndexTarget,
        options: RunOptions,
        settings: IndexSettings,
    ) -> IndexSpec:
        if isinstance(passages, (str, bytes)) or not isinstance(passages, (Iterable, AsyncIterable)):
            raise ConfigError(
                f"{passages!r:.60} is not passages: give Documents(…), a list, or any iterable of Passage"
            )
        name = settings.job if settings.job is not None else _default_name(target.name)
        if not is_job_name(name):
            raise ConfigError(f"job={name!r}: use up to 100 letters, digits, dots, dashes and underscores")
        where = str(target.file.resolve()) if target.file is not None else target.name
        return IndexSpec(
            id=name,
            path=self._home / "jobs" / f"{name}.db",
            passages=passages,
            target=target,
            mode=settings.mode,
            options=options,
            identity=Identity({"index": where, "journal format": FORMAT}, {"index": target.name}),
            batch=settings.batch,
            max_concurrency=settings.max_concurrency,
            skip_bad=settings.skip_bad,
        )

    # --- closing --------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Note that the App is closing: jobs that end from now on are to be continued another time."""
        self.table.closing = True

    def closed(self) -> None:
        """Release whoever still waits for a job."""
        for record in self.table.unfinished():
            self.table.end(record)


def _default_name(target: str) -> str:
    """Return a job's name that is the same for the same index, so that it is continued without a name."""
    stem = Path(target).name.partition(".")[0]
    kept = "".join(char if char.isascii() and (char.isalnum() or char in "-_") else "-" for char in stem)
    return f"index-{kept}"[:100]
