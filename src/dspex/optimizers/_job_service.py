"""Where jobs are handed in: what they are made of is checked and hashed, then their supervisor is asked to start."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar, cast

from dspex._random import fresh_id
from dspex.errors import ActorExited, AppClosed, ConfigError, JobMismatch, NoSuchActor, StartFailed
from dspex.evaluation import check_metric, read_rows
from dspex.evaluation.rows_under_way import RowsUnderWay
from dspex.optimizers._optimizer_actor import DRAIN, OptimizerActor
from dspex.optimizers._record import JobRecord, JobSpec
from dspex.optimizers._sources import path_of, sources_of
from dspex.optimizers.candidate import named_among
from dspex.optimizers.control import is_job_name
from dspex.optimizers.fingerprint import (
    digest,
    fingerprint_examples,
    fingerprint_lms,
    fingerprint_metric,
    plain_options,
)
from dspex.optimizers.identity import Identity, differences, is_accepted, lm_text, program_identity
from dspex.optimizers.job import Job
from dspex.optimizers.jobs import JobsSupervisor, JobsTable
from dspex.optimizers.plans import Algorithm, Task
from dspex.optimizers.split import split_rows
from dspex.programs import DEFAULT_ADAPTER, Adapter, Module
from dspex.protocols.executor import Executor, RunOptions
from dspex.protocols.model import LM, LMChoice, LMPool
from dspex.protocols.money import Budget
from dspex.protocols.training import TrainingRoom
from dspex.runtime import ChildSpec, Runtime, SupervisorRef

__all__ = ["OPTIMIZERS", "JobService"]

M = TypeVar("M", bound=Module)

OPTIMIZERS = "optimizers"
"""The name under which the supervisor of these jobs is registered."""

PRIORITY = 10
"""Of an optimizer's requests: interactive ones go first."""

FORMAT = "plans 2"
"""Of a job's journal; raised when an older one cannot be continued."""


@dataclass(frozen=True, slots=True)
class JobSettings:
    """The arguments of ``App.compile`` beside the program, the optimizer and the rows."""

    job: str | None = None
    seed: int = 0
    metric_version: str | None = None
    holdset: Iterable[object] | None = None
    sure: float = 0.0
    limit: Budget | None = None
    minutes: float | None = None
    max_concurrency: int = 64
    progress: bool | None = False
    version: str | None = None
    accept_changed: Sequence[str] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.sure < 1:
            raise ConfigError(f"sure={self.sure!r} must be from 0, which asks for a better mean alone, to below 1")
        if self.minutes is not None and not self.minutes > 0:
            raise ConfigError(f"minutes={self.minutes!r} must be a positive number")
        if self.max_concurrency < 1:
            raise ConfigError(f"max_concurrency={self.max_concurrency} must be at least 1")


class JobService:
    """
    The jobs of one run of an App.

    Args:
        runtime: Where their actors live.
        executor: Where programs run.
        home: The folder for journals; made when first needed.
        lms: The App's models, by name.
        retrievers: Returns words about the App's retrievers, by name: which index, and how large.
        rows: Counts what is under way.
        training: Where models are trained; None trains none.
    """

    def __init__(
        self,
        runtime: Runtime,
        executor: Executor,
        home: Path,
        lms: Mapping[str, LM | LMPool],
        retrievers: Callable[[], Mapping[str, str]],
        rows: RowsUnderWay | None = None,
        training: TrainingRoom | None = None,
    ) -> None:
        self.table = JobsTable[JobRecord]()
        self._runtime = runtime
        self._executor = executor
        self._home = home
        self._lms = lms
        self._retrievers = retrievers
        self._rows = rows if rows is not None else RowsUnderWay()
        self._training = training

    def spec(self) -> ChildSpec:
        """Return the child spec of the supervisor."""
        arguments = (self.table, OptimizerActor, self._executor)
        return ChildSpec(OPTIMIZERS, JobsSupervisor, arguments, kind="supervisor", name=OPTIMIZERS)

    async def compile(
        self,
        program: M,
        optimizer: Algorithm,
        *,
        trainset: Iterable[object],
        valset: Iterable[object] | None,
        options: RunOptions,
        settings: JobSettings,
    ) -> Job[M]:
        """
        Start, continue or attach to a job, as ``App.compile`` says.

        Cancellation: the job is started all the same.
        """
        spec = self._spec(program, optimizer, tuple(trainset), tuple(valset or ()), options, settings)
        while True:
            if self.table.closing:
                raise AppClosed
            supervisor = cast("SupervisorRef", await self._runtime.wait_name(OPTIMIZERS, 5.0))
            known = self.table.jobs.get(spec.id)
            if known is None or (known.ended and known.error is not None):
                return await self._begin(
                    spec, supervisor, settings.progress
                )  # nothing may come between the look and the start
            old, new = known.spec.identity.digests, spec.identity.digests
            if changed := [
                name
                for name in {**old, **new}
                if old.get(name) != new.get(name) and not is_accepted(name, spec.accept_changed)
            ]:
                told = differences(changed, known.spec.identity.details, spec.identity)
                raise JobMismatch(spec.id, changed, differences=told)
            if known.error is None:
                return self._handle(known, settings.progress)
            await known.changed()

    async def _begin(self, spec: JobSpec, supervisor: SupervisorRef, progress: bool | None) -> Job[Any]:
        record = self.table.jobs[spec.id] = JobRecord(spec, under_way=self._rows, training=self._training)
        try:
            await supervisor.start_child(JobsSupervisor.spec(record, self.table, OptimizerActor, self._executor))
        except StartFailed as error:
            self.table.jobs.pop(spec.id, None)
            raise (record.error or error) from None
        except (ActorExited, NoSuchActor):
            if self.table.closing:
                raise AppClosed from None  # else the supervisor's successor starts what is in the table
        return self._handle(record, progress)

    def handle(self, job: str) -> Job[Module] | None:
        """Return the handle on a job of this run of the App; None where there is none of that name."""
        record = self.table.jobs.get(job)
        return self._handle(record) if record is not None else None

    def _handle(self, record: JobRecord, progress: bool | None = False) -> Job[Any]:
        return Job(record, self._runtime.named(record.name), progress)

    def _spec(
        self,
        program: Module,
        optimizer: Algorithm,
        train: tuple[object, ...],
        val: tuple[object, ...],
        options: RunOptions,
        settings: JobSettings,
    ) -> JobSpec:
        """Check what was handed in and write it down; nothing has been started or paid."""
        if not isinstance(program, Module) or not isinstance(optimizer, Algorithm):
            raise ConfigError("compile takes a Module and an optimizer such as BootstrapFewShot(metric)")
        if optimizer.metric is not None:
            check_metric(optimizer.metric)
        name = settings.job if settings.job is not None else fresh_id("job")
        if not is_job_name(name):
            raise ConfigError(f"job={name!r}: use up to 100 letters, digits, dots, dashes and underscores")
        hold = tuple(settings.holdset or ())
        rows = [read_rows(program, each) for each in (train, val, hold)]
        split = split_rows(*rows, chooses=optimizer.chooses, hold_out=settings.holdset is None)
        more = {
            "optimizer": digest(identity(optimizer)),
            "trainset": fingerprint_examples(train),
            "valset": fingerprint_examples(val),
            **({"holdset": fingerprint_examples(hold)} if hold else {}),
            "metric": fingerprint_metric(optimizer.metric, settings.metric_version),
            "seed": str(settings.seed),
            **({"sure": str(settings.sure)} if settings.sure else {}),
            "journal format": FORMAT,
        }
        told = {
            "optimizer": {
                "class": path_of(optimizer),
                **{name: repr(each)[:60] for name, each in optimizer.options().items()},
            },
            **{name: f"{len(rows)} rows" for name, rows in (("trainset", train), ("valset", val), ("holdset", hold))},
            "metric": path_of(optimizer.metric) if optimizer.metric is not None else "none",
            "seed": settings.seed,
            "sure": settings.sure,
        }
        identity_of_all = self.identity(program, options, settings.version).with_parts(more, told)
        account = options.paying_account or (self._training.account if self._training is not None else None)
        payers = account.chain() if account is not None else []
        in_dollars = any(each.budget is not None and each.budget.usd is not None for each in payers)
        task = Task(
            program,
            split.learn,
            split.choose,
            programs=optimizer.programs(program),
            seed=settings.seed,
            in_dollars=in_dollars,
            can_train=partial(self._can_train, options.lm),
        )
        optimizer.check(task)
        return JobSpec(
            id=name,
            path=self._home / "jobs" / f"{name}.db",
            program=program,
            optimizer=optimizer,
            split=split,
            seed=settings.seed,
            options=replace(options, priority=options.priority or PRIORITY, trace=True, learn_forms=False),
            identity=identity_of_all,
            accept_changed=tuple(settings.accept_changed),
            sure=settings.sure,
            limit=settings.limit,
            minutes=settings.minutes,
            max_concurrency=settings.max_concurrency,
            named=named_among(self._lms, options.lm),
        )

    def _can_train(self, default: LMChoice, lm: LMChoice) -> None:
        """Raise ConfigError for a model that cannot be trained."""
        if self._training is not None:
            self._training.service.record(lm if lm is not None else default)

    def identity(self, program: object, options: RunOptions, version: str | None = None) -> Identity:
        """Return what a program is, the models that answer it, and how they are asked; keys take no part."""
        lms = {**self._lms, **({"options": options.lm} if isinstance(options.lm, (LM, LMPool)) else {})}
        given = options.lm if isinstance(options.lm, str) else ""
        adapter: Adapter = options.adapter or DEFAULT_ADAPTER
        retrievers = dict(self._retrievers())
        return program_identity(program, version).with_parts(
            {
                "lm": digest([fingerprint_lms(lms), given, sources_of(lms.values())]),
                "adapter": digest([adapter.name, sources_of([adapter])]),
                **({"retrievers": digest(retrievers)} if retrievers else {}),
            },
            {
                "lm": {**{name: lm_text(each) for name, each in lms.items()}, **({"asked": given} if given else {})},
                "adapter": adapter.name,
                **({"retrievers": retrievers} if retrievers else {}),
            },
        )

    # --- closing --------------------------------------------------------------------------------------------

    def close(self) -> None:
        """Note that the App is closing: jobs begin nothing more, and are to be continued another time."""
        self.table.closing = True
        for record in self.table.unfinished():
            self._runtime.named(record.name).cast(DRAIN)

    def closed(self) -> None:
        """Release whoever still waits for a job."""
        for record in self.table.unfinished():
            self.table.end(record)


def identity(algorithm: Algorithm) -> list[object]:
    """Return what makes an algorithm the same algorithm: its class, its version and its options, as JSON values."""
    options = {name: _option(value) for name, value in algorithm.options().items()}
    return [path_of(type(algorithm)), algorithm.version, algorithm.width, options]


def _option(value: object) -> object:
    if isinstance(value, Algorithm):
        return identity(value)
    if isinstance(value, (list, tuple)):
        return [_option(each) for each in value]
    return plain_options(value)
