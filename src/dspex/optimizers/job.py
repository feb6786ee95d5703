"""The handle on a job: what it found, how it goes, and how to stop it."""

from __future__ import annotations

from collections import deque
from html import escape
from pathlib import Path
from types import TracebackType
from typing import Generic, Self, TypeVar, cast

from dspex.evaluation.display import open_display
from dspex.optimizers._optimizer_actor import PAGE
from dspex.optimizers._record import JobEvent, JobRecord, event_of
from dspex.optimizers.candidate import Candidate
from dspex.optimizers.jobs import CANCEL, PAUSE, RESUME, JobStatus
from dspex.optimizers.journal import read_page
from dspex.optimizers.pages import save_story
from dspex.optimizers.plans import Steer
from dspex.optimizers.steering import check_steer
from dspex.optimizers.verdict import Verdict
from dspex.programs import Module
from dspex.runtime import NamedRef, WorkerThread

__all__ = ["Job", "JobEvents"]

M = TypeVar("M", bound=Module)


class JobEvents:
    """
    The events of a job: those there have been, then those to come, until the job ends.

    Use it as ``async with job.events() as events: async for event in events``. A reader that falls far behind reads
    from the journal, so that memory stays bounded.
    """

    def __init__(self, record: JobRecord) -> None:
        self._record = record
        self._seen = 0
        self._ready: deque[JobEvent] = deque()
        self._open = False
        self._worker: WorkerThread | None = None

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open = False
        self._ready.clear()
        worker, self._worker = self._worker, None
        if worker is not None:
            await worker.aclose()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JobEvent:
        while self._open:
            if not self._ready:
                await self._more()
            if self._ready:
                event = self._ready.popleft()
                self._seen = event.seq
                return event
            if self._record.ended:
                break
            await self._record.changed()
        raise StopAsyncIteration

    async def _more(self) -> None:
        found = self._record.since(self._seen)
        if found is None:
            if self._worker is None:
                self._worker = WorkerThread("dspex-job-events")
            page = await self._worker.run(read_page, self._record.spec.path, self._seen, PAGE)
            found = [event_of(each) for each in page]
        self._ready.extend(found)


class Job(Generic[M]):
    """
    An optimizer's run, known by its id: it goes on when this handle is dropped, and when its actor is restarted.

    Compiling the same job again, in this process or a later one, attaches to it, continues it or returns what it
    has found.
    """

    __slots__ = ("_actor", "_progress", "_record")

    def __init__(self, record: JobRecord, actor: NamedRef, progress: bool | None = False) -> None:
        self._record = record
        self._actor = actor
        self._progress = progress

    @property
    def id(self) -> str:
        """The name to compile it under again."""
        return self._record.spec.id

    @property
    def status(self) -> JobStatus:
        """``starting``, ``running``, ``paused`` (also by an outage), ``finished``, ``failed`` or ``cancelled``."""
        return self._record.status

    async def result(self) -> M:
        """
        Wait for the end and return the program to use: the new one, or the given one where ``verdict`` says so.

        Programs are values: the one that was given is untouched.

        Raises:
            JobCancelled: ``cancel`` was called.
            JobBusy: Another writer has taken the journal.
            NoCandidate: The search found nothing.
            AppClosed: The App closed first; the same job continues where it was.
            OptimizationError: The optimizer died too often, or its journal cannot be used.
            Exception: Any error that ended the search, for example AuthFailed.
        Cancellation: the job goes on.
        """
        record = self._record
        display = open_display(self._progress) if not record.ended else None
        try:
            while not record.ended:
                await record.changed()
                if display is not None:
                    display.show(f"job {self.id}: {record.status}, {record.rows} rows run")
        finally:
            if display is not None:
                display.close()
        if record.error is not None:
            raise record.error
        return cast("M", record.result)

    @property
    def verdict(self) -> Verdict | None:
        """
        True when the search helped, by rows that it never read; None before the job has finished.

        ``Better``: the new program is handed out. ``NotShownBetter``, ``NoHeadroom``, ``Worse``: the program that was
        given is handed out. ``Unmeasured``: no rows were held out, and the new program is handed out.
        """
        return self._record.outcome.verdict if self._record.outcome is not None else None

    @property
    def found(self) -> M | None:
        """The best program that the search found, whatever the verdict on it; None before the job has finished."""
        outcome = self._record.outcome
        spec = self._record.spec
        return cast("M", spec.program_of(outcome.found)) if outcome is not None else None

    async def best(self) -> M:
        """
        Return the best program so far; before there is one, the program that was given.

        This is the search's own choice: only ``verdict`` says whether it is really better.

        Raises:
            StateError: The search's best candidate does not fit the program.
        """
        record = self._record
        if record.result is not None:
            return cast("M", record.result)
        spec = record.spec
        return cast("M", spec.program_of(record.best()) if record.best is not None else spec.program)

    def events(self) -> JobEvents:
        """
        Return the job's events, from its first: an async context manager that is an async iterator.

        ======================  =====================================================================================
        ``kind``                ``data``
        ======================  =====================================================================================
        ``started``             ``optimizer``, ``program``, ``learn``, ``choose``, ``hold`` (rows), ``seed``
        ``resumed``             the same, and ``recorded``: evaluations that need not be paid again
        ``proposed``            ``candidate``: the key of one whose first row comes next
        ``evaluation``          ``key``, ``candidate``, ``row``, ``score`` (None: failed), ``error``, ``usage``,
                                ``spent``, ``seconds``
        ``answer``              ``key``, ``outputs`` of a proposal, ``error``, ``usage``, ``spent``, ``seconds``
        ``progress``            ``plan``, the number of a plan that is absorbed, and what else the algorithm counts
        ``steered``             ``hint``, ``add``, ``drop``, and ``at``: the plan after which the word counts
        ``ended``               ``why`` (``budget`` or ``time``) the search was ended, and ``at`` which plan
        ``candidate``           what the algorithm tells of each candidate: ``name``, ``score``, ``rows``
        ``verdict``             ``kind``, ``by``, ``interval``, ``p``, ``shrunken``, ``pairs``, ``failed``
        ``training``            ``step`` (``begun``, ``uploaded``, ``submitted``, ``told``, ``stopped``), ``training``:
                                its name at the provider, ``told``: the provider's words
        ``paused``              ``error``, ``delay`` in seconds: the provider is down
        ``held``, ``released``  nothing: somebody has paused the job, or let it go on
        ``finished``            ``verdict``, ``plans``: the result is there
        ``failed``              ``error``
        ``cancelled``           nothing
        ======================  =====================================================================================
        """
        return JobEvents(self._record)

    async def save_html(self, path: str | Path, *, overwrite: bool = False) -> None:
        """
        Write how the job stands as one HTML file that needs nothing else.

        It begins with the verdict; then come the score by money spent, the candidates with what they change of
        instructions and demonstrations, the scores of rows and candidates, and the cost. It opens without a network,
        and what models wrote is text in it. ``dspex jobs show NAME --html FILE`` writes the same in any process.

        Args:
            path: The file; it is the old one or the whole new one.
            overwrite: True replaces a file that is not a page of dspex, too.

        Raises:
            OptimizationError: The journal cannot be read.
            TargetExists: Something else stands there; it is untouched.
            FileError: The file cannot be written.
        Cancellation: the file is the old one, or the whole new one.
        """
        worker = WorkerThread("dspex-job-page")
        try:
            await worker.run(save_story, self._record.spec.path, self.id, self.status, Path(path), overwrite)
        finally:
            await worker.aclose()

    def cancel(self, *, training: bool = False) -> None:
        """
        Stop the job; what it has recorded is kept, and compiling it again continues it.

        Args:
            training: True stops trainings under way at their providers, too; the same job then submits them anew.
                False leaves them: they go on, and are paid for, and the same job finds them again.
        """
        if not self._record.ended:
            self._record.cancel_training = training
            self._record.cancel_wanted = True
            self._actor.cast(CANCEL)

    def pause(self) -> None:
        """Begin nothing more until ``resume``; what is under way ends, and is recorded."""
        if not self._record.ended:
            self._actor.cast(PAUSE)

    def resume(self) -> None:
        """Go on after ``pause``."""
        if not self._record.ended:
            self._actor.cast(RESUME)

    def steer(self, *, hint: str = "", add: Candidate | None = None, drop: str = "") -> None:
        """
        Tell the search something: words for those who write, a candidate to consider, or the key of one to drop.

        It is recorded, and counts at one definite point of the search, so that the run stays exact. Once the search is
        over it changes nothing. ``GEPA`` uses all three; ``MIPROv2``, ``COPRO``, ``SIMBA``, ``Playbook`` and
        ``FeedbackDescent`` use hints.

        Raises:
            ConfigError: Nothing was said, or something that the optimizer has no use for.
        """
        steer = Steer(hint, add, drop)
        check_steer(steer, type(self._record.spec.optimizer))
        if not self._record.ended:
            self._actor.cast(steer)

    def __repr__(self) -> str:
        return f"<Job {self.id} [{self.status}]>"

    def _repr_html_(self) -> str:
        """Return the job for a notebook: how it stands, and its candidates; every text in it is escaped."""
        outcome = self._record.outcome
        names = list(dict.fromkeys(name for each in outcome.summary for name in each)) if outcome is not None else []
        head = "".join(f"<th>{escape(name)}</th>" for name in names)
        body = "".join(
            f"<tr>{''.join(f'<td>{escape(str(each.get(name, str())))}</td>' for name in names)}</tr>"
            for each in (outcome.summary if outcome is not None else ())
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>" if names else ""
        return f"<pre>{escape(str(self))}, {self._record.rows} rows run</pre>{table}"

    def __str__(self) -> str:
        verdict = self.verdict
        return f"job {self.id}: {self.status}" + (f"; {verdict}" if verdict is not None else "")
