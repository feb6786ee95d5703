"""The actor of one job, and the supervisors above it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from dspex.errors import ActorError, JobBusy, JobCancelled, OptimizationError
from dspex.evaluation import RowRunner
from dspex.optimizers._gate import Gate
from dspex.optimizers._record import JobRecord, JobTable
from dspex.optimizers._writer import JobWriter
from dspex.optimizers.journal import Journal, Record
from dspex.optimizers.optimizer import Study, candidate_of, program_of
from dspex.protocols.executor import Executor
from dspex.protocols.money import Spending
from dspex.runtime import (
    NORMAL,
    Backoff,
    ChildSpec,
    Continue,
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

__all__ = ["CANCEL", "JobSupervisor", "OptimizerActor", "OptimizerSupervisor", "job_spec"]

CANCEL = "cancel"
"""Cast to a job's actor to end the job."""

PAUSES = Backoff(initial=0.5, maximum=60.0)
"""How long a search waits while the provider is down."""

_SETTLED = "settled"


class OptimizerActor(LibraryActor):
    """
    Runs one job's search in a task of its own, so that the mailbox always answers.

    ``init`` opens the journal, takes the next epoch and reads what predecessors have recorded; the search then runs
    from its beginning and finds every recorded evaluation done. It is restarted when it, or its search, is killed;
    what the search raises is the job's end.
    """

    def __init__(self, record: JobRecord, executor: Executor) -> None:
        self._record = record
        self._executor = executor
        self._worker: WorkerThread
        self._journal: Journal | None = None
        self._writer: JobWriter
        self._search: TaskProcess | None = None
        self._watched = 0  # the monitor of the search
        self._cancelling = False

    async def init(self) -> Continue | None:
        """Open the journal; fails with the job when it belongs to other inputs or to another process."""
        record = self._record
        record.incarnations += 1
        try:
            finished = await self._open()
        except OptimizationError as error:
            record.fail(error)
            raise
        if finished is not None:
            record.finish(program_of(record.spec.program, finished.data["_candidate"]))
        if record.settled:
            return Continue(_SETTLED)
        record.status = "running"
        context = record.spec.options.context
        own = context.copy() if context is not None else None
        self._search = self._dspex_process.spawn_task(self._run, label=f"search of {record.spec.id}", context=own)
        self._watched = self._search.ref.monitor()
        if record.cancel_wanted:
            self._cancel()
        return None

    async def _open(self) -> Record | None:
        """Take the journal and everything in it; return the result that a predecessor has found, if any."""
        self._worker = self.own(WorkerThread("dspex-job"), self._close)
        journal = await self._worker.run(self._open_journal)
        self._writer = JobWriter(self.runtime, self._worker, journal, self._record)
        records: list[Record] = await self._worker.run(journal.read)
        if not any(each.kind == "finished" for each in records):
            await self._worker.run(journal.take)
            records += await self._worker.run(journal.read, records[-1].seq if records else 0)
        for each in records:
            self._writer.learn(each)
        paying_account = self._record.spec.options.paying_account
        if paying_account is not None and self._record.incarnations == 1:
            paying_account.spent += sum((_paid(each.data) for each in records if each.kind == "evaluation"), Spending())
        return next((each for each in records if each.kind == "finished"), None)

    def _open_journal(self) -> Journal:
        """Open it in its thread, and note it there: it is closed even if we are killed before we hear of it."""
        spec = self._record.spec
        self._journal = Journal(spec.path, spec.id, spec.fingerprint)
        return self._journal

    async def _close(self, worker: WorkerThread) -> None:
        await worker.aclose(self._journal.close if self._journal is not None else None)

    # --- messages -------------------------------------------------------------------------------------------

    async def handle_continue(self, argument: Any) -> Next:
        """Leave: a predecessor had settled the job."""
        return Stop(NORMAL)

    async def handle_cast(self, message: Any) -> Next:
        """Cancel the job."""
        if message is not CANCEL:
            return await super().handle_cast(message)
        self._cancel()
        return None

    async def handle_info(self, message: Any) -> Next:
        """React to the end of the search: with the job's, or by dying of it, so that it is begun again."""
        if not issubclass(type(message), Down) or message.monitor != self._watched:
            return await super().handle_info(message)
        if self._record.settled or isinstance(message.reason, Normal):
            return Stop(NORMAL)
        if not self._record.cancel_wanted:
            why = message.reason
            return Stop(why if isinstance(why, Crashed) else Other(f"its search was {why}"))
        return None

    def _cancel(self) -> None:
        self._record.cancel_wanted = True
        if not self._cancelling:
            self._cancelling = True
            self.spawn_task(self._end_cancelled, label="cancel")

    async def _end_cancelled(self) -> None:
        record, search = self._record, self._search
        if record.settled or search is None:
            return
        search.ref.kill()
        await search.wait_exit(None)
        if not record.settled:
            await self._write_end("cancelled", {})
            record.fail(JobCancelled(record.spec.id), "cancelled")
        self._dspex_process.receive_exit(Shutdown("cancelled"), None)

    def describe(self) -> str:
        """Tell how the search stands."""
        done = len(self._writer.evaluations) if self._journal is not None else 0
        return f"{self._record.status}, {done} evaluations recorded"

    # --- the search -----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        record, spec = self._record, self._record.spec
        try:
            await self._note_start()
            gate = Gate(self.runtime, PAUSES, on_pause=self._note_pause, on_go=self._note_go)
            runner = RowRunner(self._executor, spec.options, gate)
            candidate = await spec.optimizer.search(Study(spec, self._writer, runner))
            program = program_of(spec.program, candidate)
            await self._writer.append("finished", {"_candidate": candidate_of(program)}, "result")
        except Exception as error:  # noqa: BLE001 - what a search raises is how its job ends
            if not isinstance(error, JobBusy):
                await self._write_end("failed", {"error": f"{type(error).__name__}: {error}"})
            record.fail(error)
        else:
            record.finish(program)

    async def _write_end(self, kind: str, data: dict[str, Any]) -> None:
        try:
            await self._writer.append(kind, data)
        except OptimizationError as error:
            self._record.fail(error)

    async def _note_start(self) -> None:
        spec, journal = self._record.spec, self._journal
        assert journal is not None
        about = {
            "optimizer": type(spec.optimizer).__name__,
            "program": type(spec.program).__name__,
            "train": len(spec.train),
            "val": len(spec.val),
            "seed": spec.seed,
        }
        if journal.epoch == 1:
            await self._writer.append("started", about)
        else:
            await self._writer.append("resumed", {**about, "recorded": len(self._writer.evaluations)})

    async def _note_pause(self, error: Exception, delay: float) -> None:
        self._record.status = "paused"
        await self._writer.append("paused", {"error": f"{type(error).__name__}: {error}", "delay": delay})

    def _note_go(self) -> None:
        self._record.status = "running"


class JobSupervisor(Supervisor):
    """
    Restarts one job's actor a bounded number of times; beyond, the job fails and its journal waits.

    Args:
        record: The job.
        table: Told when it is given up.
        executor: Where programs run.
    """

    def __init__(self, record: JobRecord, table: JobTable, executor: Executor) -> None:
        actor = ChildSpec(record.name, OptimizerActor, (record, executor), restart=Restart.TRANSIENT, name=record.name)
        super().__init__([actor], max_restarts=5, max_seconds=60.0)
        self._record = record
        self._table = table

    async def init(self) -> Stop | None:
        """Start the actor; see to it that nobody waits for a job that is given up."""
        self.own(self._record, self._leave)
        return await super().init()

    def _leave(self, record: JobRecord) -> None:
        if record.settled or isinstance(self._dspex_process.exit_reason, (Normal, Shutdown)):
            self._table.end(record)  # else we were killed, and shall be restarted

    async def _child_exited(self, message: Exit) -> Next:
        outcome = await super()._child_exited(message)
        return Stop(NORMAL) if outcome is None and self._record.settled else outcome


class OptimizerSupervisor(DynamicSupervisor):
    """Holds the jobs; when it is restarted it starts again those that had not ended."""

    def __init__(self, table: JobTable, executor: Executor) -> None:
        super().__init__(max_restarts=20, max_seconds=60.0)
        self._table = table
        self._executor = executor

    async def init(self) -> Stop | None:
        """Start what a predecessor left."""
        for record in self._table.unfinished():
            try:
                if not record.settled:
                    await self._add_child(job_spec(record, self._table, self._executor))
                    continue
            except ActorError as error:
                record.fail(error)
            self._table.end(record)
        return None


def job_spec(record: JobRecord, table: JobTable, executor: Executor) -> ChildSpec:
    """Return the child spec of one job."""
    return ChildSpec(
        f"supervisor of {record.name}",
        JobSupervisor,
        (record, table, executor),
        restart=Restart.TRANSIENT,
        kind="supervisor",
    )


def _paid(evaluation: Mapping[str, Any]) -> Spending:
    """Return what an earlier process paid for a recorded evaluation: it counts against the job's budget."""
    tokens = evaluation["usage"]["input_tokens"] + evaluation["usage"]["output_tokens"]
    cost = evaluation.get("cost", "0")
    return Spending(Decimal(cost or 0), tokens, evaluation.get("calls", 0), int(cost is None))
