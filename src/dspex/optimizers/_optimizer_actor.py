"""The actor of one job that compiles a program."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from functools import partial

from dspex.errors import JobBusy, JobMismatch, NoCandidate, OptimizationError
from dspex.evaluation import RowRunner
from dspex.evaluation.outage_gate import OutageGate
from dspex.optimizers._core import Core
from dspex.optimizers._driver import Driver
from dspex.optimizers._hands import Hands
from dspex.optimizers._job_plan import SEARCH, JobPlan, Outcome
from dspex.optimizers._record import JobRecord
from dspex.optimizers._trainings import Trainings
from dspex.optimizers._writer import JobWriter
from dspex.optimizers.candidate import Candidate
from dspex.optimizers.jobs import WorkingActor
from dspex.optimizers.journal import Journal, Record
from dspex.optimizers.plans import Steer, Task
from dspex.optimizers.steering import heard
from dspex.optimizers.verdict import plain_verdict, verdict_of
from dspex.protocols.executor import Executor
from dspex.runtime import (
    Backoff,
    Continue,
    Next,
    WorkerThread,
)

__all__ = ["DRAIN", "OptimizerActor"]

DRAIN = "drain"
"""Begin nothing more, since the App closes: what is under way ends, and the job goes on in another run of it."""

PAGE = 1_000
"""Records that are read from a journal at once."""

PAUSES = Backoff(initial=0.5, maximum=60.0)
"""The wait of a search while the provider is down, in seconds."""

_SETTLED = "settled"
_NO_PLACE = (OSError, sqlite3.OperationalError)
"""Causes of a journal that there is no place for."""


class OptimizerActor(WorkingActor[JobRecord]):
    """
    Runs one job's search in a task of its own, so that the mailbox always answers.

    ``init`` opens the journal, takes the next epoch and reads what predecessors have recorded; the search then runs
    from its beginning and finds every recorded evaluation done. It is restarted when it, or its search, is killed;
    what the search raises is the job's end.
    """

    def __init__(self, record: JobRecord, executor: Executor) -> None:
        super().__init__(record)
        self._executor = executor
        self._writer: JobWriter
        self._core: Core
        self._driver: Driver
        self._seen = 0
        self._trainings: Trainings | None = None

    async def init(self) -> Continue | None:
        """Open the journal; fails with the job when it belongs to other inputs or to another process."""
        record = self._record
        record.incarnations += 1
        try:
            finished = await self._open()
        except OptimizationError as error:
            record.fail(error)
            raise
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            damaged = f"the journal {record.spec.path} is damaged ({type(error).__name__}: {error})"
            record.fail(OptimizationError(f"{damaged}: move it away and start again, or name another job"))
            raise
        if finished is not None:
            outcome = outcome_of(finished)
            record.finish(record.spec.program_of(outcome.candidate), outcome)
        if record.settled:
            return Continue(_SETTLED)
        record.status = "running"
        self._driver = self._make_driver()
        self._begin(f"search of {record.spec.id}")
        return None

    async def _open(self) -> Record | None:
        """Take the journal and look through it; return the result that a predecessor has found, if any."""
        self._journals = self.own(WorkerThread("dspex-job"), self._close_journal)
        journal = await self._journals.run(self._open_journal)
        self._writer = JobWriter(self.runtime, self._journals, journal, self._record)
        self._core = Core(self._writer.shelf)
        finished = await self._look(journal, 0)
        if finished is None:
            await self._journals.run(journal.take)
            finished = await self._look(journal, self._seen)
        account = self._record.spec.options.paying_account
        if account is not None and self._record.incarnations == 1:
            account.spent += self._writer.spent  # what an earlier process has paid counts against the job's budget
        return finished

    async def _look(self, journal: Journal, after: int) -> Record | None:
        """Take over the records after a number, in pages; return the one that says how the job has finished."""
        finished, self._seen = None, after
        while page := await self._journals.run(journal.read, self._seen, PAGE):
            for each in page:
                self._writer.learn(each)
                if each.kind == "finished":
                    finished = each
                elif each.kind == "ended" and not each.data.get("exact"):
                    self._core.ends[each.data["search"]] = each.data["at"]
                elif each.kind == "steered":
                    steers = self._core.steers.setdefault((each.data["search"], each.data["at"]), [])
                    steers.append(Steer.of(each.data))
            self._seen = page[-1].seq
        return finished

    def _open_journal(self) -> Journal:
        """Open it in its thread, and note it there: it is closed even if we are killed before we hear of it."""
        spec = self._record.spec
        try:
            self._journal = Journal(spec.path, spec.id, spec.identity, spec.accept_changed)
        except JobMismatch as error:
            if "journal format" not in error.changed:
                raise
            advice = "was begun by another release of dspex: finish it with that release, or use another name"
            raise JobMismatch(spec.id, error.changed, advice) from error
        except OptimizationError as error:
            if spec.optimizer.asks or spec.optimizer.metric is not None or not isinstance(error.__cause__, _NO_PLACE):
                raise
            self._journal = Journal(spec.path, spec.id, spec.identity, in_memory=True)  # nothing in it was paid for
        return self._journal

    # --- messages -------------------------------------------------------------------------------------------

    async def handle_cast(self, message: object) -> Next:
        """Cancel, pause, resume or steer the job."""
        if message is DRAIN:
            if self._work is not None:
                self._driver.pause()
        elif isinstance(message, Steer):
            self.spawn_task(self._driver.steer, message, label="steer")
        else:
            return await super().handle_cast(message)
        return None

    def _go(self, go: bool) -> None:
        (self._driver.resume if go else self._driver.pause)()

    def _heard(self, word: str) -> object | None:
        return super()._heard(word) or heard(word, type(self._record.spec.optimizer))

    async def _stop_more(self) -> None:
        if self._record.cancel_training and self._trainings is not None:
            await self._trainings.stop()

    def describe(self) -> str:
        """Tell how the search stands."""
        done = self._writer.recorded if self._journal is not None else 0
        return f"{self._record.status}, {done} evaluations recorded"

    # --- the search -----------------------------------------------------------------------------------------

    async def _run(self) -> None:
        record, spec = self._record, self._record.spec
        try:
            await self._note_start()
            timer = self.spawn_task(self._watch_time, spec.minutes, label="time limit") if spec.minutes else None
            outcome = await self._outcome()
            if timer is not None:
                timer.ref.kill()
            program = spec.program_of(outcome.candidate)
            await self._writer.append("finished", plain_outcome(outcome), "result")
        except Exception as error:  # noqa: BLE001 - the error that a search raises is how its job ends
            if not isinstance(error, JobBusy):
                await self._try_append("failed", {"error": f"{type(error).__name__}: {error}"})
            record.fail(error)
        else:
            record.finish(program, outcome)

    def _make_driver(self) -> Driver:
        """Build the engine and whatever does its items."""
        spec = self._record.spec
        gate = OutageGate(self.runtime, PAUSES, on_pause=self._note_pause, on_go=self._note_go)
        runner = RowRunner(self._executor, spec.options, gate, insists=True, telemetry=self.runtime.telemetry)
        programs = {"": spec.program, **spec.optimizer.programs(spec.program)}
        if self._record.training is not None:
            self._trainings = Trainings(self._record.training, self.runtime, self._writer, gate, spec.options)
        train = self._trainings.train if self._trainings is not None else None
        hands = Hands(runner, self._writer, programs, spec.optimizer.metric, train, spec.named)
        context = spec.options.context
        do = partial(self._record.under_way.run, hands.do)
        driver = Driver(self._core, do, self._writer, max_concurrency=spec.max_concurrency, context=context)
        if self._record.held:
            driver.pause()
        return driver

    async def _outcome(self) -> Outcome:
        spec, core = self._record.spec, self._core
        self._record.best = self._best
        programs, held = spec.optimizer.programs(spec.program), len(spec.split.hold)
        rows = (spec.split.learn, spec.split.choose)
        task = Task(spec.program, *rows, programs=programs, seed=spec.seed, held=held)
        core.begin(JobPlan(spec.optimizer, spec.split, spec.sure, spec.limit, spec.seed), task)
        about = {"job": spec.id, "optimizer": type(spec.optimizer).__name__, "program": type(spec.program).__name__}
        with self.runtime.telemetry.within("dspex.job", about):
            await self._driver.run()
        outcome: Outcome = core.state
        for number, each in enumerate(outcome.summary):
            await self._writer.append("candidate", each, str(number))
        await self._writer.append("verdict", plain_verdict(outcome.verdict), "verdict")
        return outcome

    def _best(self) -> Candidate:
        lane = self._core.lane(SEARCH)
        if lane is None:
            return self._core.state.candidate if self._core.state is not None else Candidate()
        try:
            return lane.algorithm.best(lane.state)
        except NoCandidate:
            return Candidate()

    async def _watch_time(self, minutes: float) -> None:
        await self.runtime.sleep(minutes * 60)
        await self._driver.end_search("time")

    async def _note_start(self) -> None:
        spec, journal = self._record.spec, self._journal
        assert journal is not None
        about = {
            "optimizer": type(spec.optimizer).__name__,
            "program": type(spec.program).__name__,
            "learn": len(spec.split.learn),
            "choose": len(spec.split.choose),
            "hold": len(spec.split.hold),
            "seed": spec.seed,
        }
        if journal.epoch == 1:
            await self._writer.append("started", about)
        else:
            await self._writer.append("resumed", {**about, "recorded": self._writer.recorded})
        if self._record.held:
            await self._writer.append("held", {})

    async def _append(self, kind: str, data: Mapping[str, object]) -> None:
        await self._writer.append(kind, dict(data))


# --- how jobs are written down ------------------------------------------------------------------------------


def plain_outcome(outcome: Outcome) -> dict[str, object]:
    """Return what a job has come to, as JSON values."""
    return {
        "verdict": plain_verdict(outcome.verdict),
        "plans": outcome.plans,
        "_candidate": outcome.candidate.plain(),
        "_found": outcome.found.plain(),
    }


def outcome_of(record: Record) -> Outcome:
    """Return what ``plain_outcome`` wrote."""
    data = record.data
    candidate, found = Candidate.of(data["_candidate"]), Candidate.of(data["_found"])
    return Outcome(candidate, found, verdict_of(data["verdict"]), None, data["plans"])
