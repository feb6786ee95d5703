"""A view of an App: the calls that users make, with the options of the view."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, Unpack, cast

from dspex.app._map import MapPlan, MapRun, RowKey, Rows
from dspex.app._options import Options, changed, context_of_caller
from dspex.app._rows import RowJournal, names_of, result_type
from dspex.errors import ActorError, AppClosed, ConfigError, EvaluationError
from dspex.evaluation import Compared, Metric, OnProgress, Repeats, Report, evaluate
from dspex.evaluation.display import open_display
from dspex.evaluation.outage_gate import WAIT_OUT, gate_of_rows
from dspex.evaluation.progress import shown_on
from dspex.indexing import IndexJob, IndexMode, IndexSettings, target_of
from dspex.optimizers import Algorithm, HeadroomReport, Job, JobSettings
from dspex.optimizers.headroom import headroom_of, variants_of
from dspex.programs import Module, bind_inputs
from dspex.protocols.executor import RunOptions
from dspex.protocols.money import Account, DryRun, ProgramEstimate
from dspex.protocols.retrieval import Index, Passage
from dspex.requests import ProgramStream, Request

if TYPE_CHECKING:
    from dspex.app._app import App

__all__ = ["AppView", "RunnableProgram"]

P = ParamSpec("P")
R = TypeVar("R")
M = TypeVar("M", bound=Module)
R_co = TypeVar("R_co", covariant=True)


class RunnableProgram(Protocol[P, R_co]):
    """Anything with an async ``forward``: a Module, or an object of the user's own."""

    def forward(self, *args: P.args, **kwargs: P.kwargs) -> Coroutine[object, None, R_co]:
        """Answer the inputs."""
        ...


class AppView:
    """
    An App's programs with the options of this view.

    ``app.options(…)`` makes another one; the App itself is the view with the default options.
    """

    __slots__ = ("_app", "_options")

    def __init__(self, app: App, options: RunOptions) -> None:
        self._app = app
        self._options = options

    def options(self, **changes: Unpack[Options]) -> AppView:
        """
        Return a frozen view with other options.

        Args:
            **changes: ``deadline`` (seconds), ``lm`` (name or record), ``adapter`` (name or Adapter, for predictors
                without one of their own), ``cache`` (``use``, ``refresh``, ``bypass``, ``only``), ``priority`` (lower
                goes first), ``budget`` (a Budget: of one request, or of a whole map, evaluation or job), ``deps`` (for
                tools), ``on_interrupt`` (``raise`` or ``reset``: streams), ``learn_forms`` (False: as
                ``App(learn_forms=False)``), ``trace``. ``lm=None`` and ``adapter=None`` are the App's.

        Raises:
            ConfigError: An option is unknown or makes no sense.
        """
        if "adapter" in changes and changes["adapter"] is None:
            changes["adapter"] = self._app._options.adapter  # noqa: SLF001 - an App is a view too
        return AppView(self._app, changed(self._options, changes))

    async def run(self, program: RunnableProgram[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """
        Run ``program`` on inputs, as its own supervised request, and return what its ``forward`` returns.

        Raises:
            MissingInput: Inputs are missing, unknown or of the wrong type; nothing was started.
            AppNotRunning, AppClosed, Overloaded: Nothing was started.
            DeadlineExceeded: Time is over; everything below has been stopped.
            RequestKilled: Its process was killed after ``forward`` had begun.
            Exception: Any exception of ``forward``.
        Cancellation: everything below is stopped, sockets closed, before the cancellation travels on.
        """
        return await self.begin(program, args, kwargs)

    def start(self, program: RunnableProgram[P, R], /, *args: P.args, **kwargs: P.kwargs) -> Request[R]:
        """
        Start a request and return its handle at once.

        ``await request`` is the result; ``request.details`` what it took; ``request.cancel()`` stops it.

        Raises:
            MissingInput, AppNotRunning, AppClosed, Overloaded: Nothing was started.
        """
        return self.begin(program, args, kwargs)

    def bind(self, program: RunnableProgram[P, R]) -> Callable[P, Coroutine[object, None, R]]:
        """Return ``program`` as an async function of its inputs; it may be bound before the App is started."""

        async def bound(*args: P.args, **kwargs: P.kwargs) -> R:
            return await self.begin(program, args, kwargs)

        return bound

    def stream(self, program: RunnableProgram[P, R], *args: P.args, **kwargs: P.kwargs) -> ProgramStream[R]:
        """
        Run ``program`` and read its answers as they are written.

        For example::

            async with app.stream(rag, question="Who wrote it?") as stream:
                async for delta in stream:
                    print(delta.text, end="")
                prediction = await stream.result()

        The request starts when the block is entered; leaving it stops what still runs and closes its socket. After the
        first piece of a call nothing is tried again: ``StreamInterrupted``, or with ``options(on_interrupt='reset')`` a
        ``Reset`` and the call from its beginning.

        Raises:
            MissingInput: Inputs are missing or unknown.
        """
        inputs = bind_inputs(program, args, kwargs)

        def start(sink: ProgramStream[R]) -> Request[R]:
            return self._app.running_tree().runner.start(program, inputs, replace(self._options, stream=sink))

        return ProgramStream(start, self._options.on_interrupt)

    async def estimate(self, program: RunnableProgram[P, R], *args: P.args, **kwargs: P.kwargs) -> ProgramEstimate:
        """
        Return what a run may come to, without asking a model: ``(await app.estimate(rag, question="…")).usd``.

        ``forward`` runs with made-up answers of the right types (a text is 50 words, a choice its first, a truth value
        True), retrievals run as they are, tools are not called. Where the answers decide what is asked next, this is
        the estimate of one way through the program. Prompts are counted roughly, answers with what ``max_tokens``
        allows; retries, repair turns and the cache are left out.

        Raises:
            MissingInput, AppNotRunning, AppClosed, Overloaded: Nothing was started.
            ConfigError: An answer cannot be made up; or a model is not configured.
            Exception: Any exception of ``forward`` over answers without meaning.
        Cancellation: as ``run``.
        """
        dry = DryRun()
        inputs = bind_inputs(program, args, kwargs)
        await self._app.running_tree().runner.start(program, inputs, replace(self._options, dry=dry))
        return dry.total()

    def map(
        self,
        program: RunnableProgram[..., R],
        rows: Rows,
        *,
        journal: str | Path | None = None,
        key: RowKey = "id",
        max_concurrency: int = 64,
        ordered: bool = False,
        retry_failed: bool = False,
        progress: bool | None = None,
        version: str | None = None,
        accept_changed: Sequence[str] = (),
        wait_out: float = WAIT_OUT,
    ) -> MapRun[R]:
        """
        Run ``program`` on every row, and hand out the outcomes: ``Ok(value, row)`` or ``Failed(reason, row)``.

        For example::

            async with app.map(rag, rows, journal="answers.db") as results:
                async for result in results:
                    match result:
                        case Ok(value=answer, row=row): ...
                        case Failed(reason=error, row=row): ...

        Args:
            program: A Module, or any object with an async ``forward``.
            rows: Examples, mappings or dataclasses, from any iterable, synchronous or not; it is read no faster than
                results are taken. ``forward``'s parameters are picked from each.
            journal: A file in which each outcome is written before it is handed out. A second start runs only what is
                missing and hands out the rest from the file (``recorded``).
            key: With a journal: the field, or a function of the row, that tells rows apart.
            max_concurrency: Rows under way at once.
            ordered: Outcomes come in the order of the rows, not as they end.
            retry_failed: Rows that failed in an earlier run are run again.
            progress: None shows a line on terminals and a bar in notebooks; False shows nothing.
            version: Stands for the code of the program in the journal: you change it when the code matters.
            accept_changed: Parts of the journal's identity that may have changed, as JobMismatch names them, or the
                first word of such a name for all of its kind: ``["source"]``.
            wait_out: Seconds of an outage that rows wait out: the map pauses, and goes on when the provider answers
                again. A provider that has answered none of them is waited for at most 10 s. 0 fails them at once.

        Raises:
            ConfigError: Two rows have one key, or a row has none; or an argument makes no sense.
            JobMismatch: The journal belongs to another program, code, argument or model; it names which.
            JobBusy: Another process writes the journal.
            AppNotRunning, AppClosed: The App is not there, or closed meanwhile.
        """
        options = self._for_many(f"map of {type(program).__name__}")
        plan = MapPlan(program, rows, key, max_concurrency, ordered, options, progress, wait_out)
        if journal is None:
            return MapRun(self._app.running_tree, plan, None)

        def open_journal() -> RowJournal:
            identity = self._app.running_tree().job_service.identity(program, self._options, version)
            return RowJournal(
                Path(journal),
                identity,
                result_type(program),
                retry_failed=retry_failed,
                accept_changed=names_of(accept_changed),
            )

        return MapRun(self._app.running_tree, plan, open_journal)

    async def evaluate(
        self,
        program: RunnableProgram[..., R],
        examples: Iterable[object],
        metric: Metric[R],
        *,
        max_concurrency: int = 64,
        max_failed: float = 0.05,
        on_progress: OnProgress | None = None,
        progress: bool | None = None,
        wait_out: float = WAIT_OUT,
    ) -> Report[R]:
        """
        Run ``program`` on every example and score the answers: ``print(await app.evaluate(rag, dev, exact_match()))``.

        Args:
            program: The program to evaluate.
            examples: Examples, mappings or dataclasses; ``forward``'s parameters are picked from each.
            metric: Called with an example and what ``forward`` returned; sync or async.
            max_concurrency: Rows under way at once.
            max_failed: The share of rows that may fail; failed rows are not part of the score.
            on_progress: Called after each row with a ``Progress``: ``on_progress=print`` will do. It must be quick;
                what it raises ends the evaluation.
            progress: None shows a line on terminals and a bar in notebooks; False shows nothing.
            wait_out: Seconds of an outage that rows wait out, as in ``map``.

        Raises:
            MissingInput, ConfigError: A row lacks inputs, there are none, or the metric is none; nothing was started.
            EvaluationError: Too many rows failed; ``partial`` is the report.
            Exception: Any exception of ``on_progress``; every row under way has been stopped.
            AppNotRunning, AppClosed: The App is not there, or closed meanwhile.
        Cancellation: every row under way is stopped before the cancellation travels on.
        """
        tree = self._app.running_tree()
        stream = await tree.open_stream()
        what = f"evaluation of {type(program).__name__}"
        telemetry = tree.runtime.telemetry
        about = {"program": type(program).__name__}
        # The rows' requests copy the context that is made inside, and so have the evaluation's span around them.
        with telemetry.within("dspex.evaluate", about) if telemetry.active else contextlib.nullcontext() as span:
            options = replace(self._for_many(what), learn_forms=False)  # a score is of one form, whoever was first
            note = tree.notes.evaluating(type(program).__name__) if tree.notes is not None else None
            report: Report[R] | None = None
            display = open_display(progress if on_progress is None else progress or False)
            told = on_progress if display is None else shown_on(display, on_progress)
            try:
                report = await evaluate(
                    tree.runner,
                    stream,
                    program,
                    examples,
                    metric,
                    options=options,
                    max_concurrency=max_concurrency,
                    max_failed=max_failed,
                    on_progress=note.telling(told) if note is not None else told,
                    gate=gate_of_rows(tree.runtime, wait_out, what),
                    telemetry=telemetry,
                )
                if span is not None:
                    span.measurements |= {"rows": float(len(report.outcomes)), "score": float(report.score)}
                    span.measurements["failed"] = float(len(report.failed))
                return report
            except (ActorError, EvaluationError) as error:
                if isinstance(error, EvaluationError):
                    report = cast("Report[R] | None", error.partial)
                if tree.closing:
                    raise AppClosed("the evaluation was interrupted") from error
                raise
            finally:
                if display is not None:
                    display.close()
                if note is not None:
                    note.ended(report, tree.runtime.clock.now() - note.origin)

    async def repeat(
        self,
        program: RunnableProgram[..., R],
        examples: Iterable[object],
        metric: Metric[R],
        *,
        times: int = 3,
        max_concurrency: int = 64,
        max_failed: float = 0.05,
    ) -> Repeats:
        """
        Evaluate a program several times on the same rows: how much does its score move by itself?

        The first time is the program as it is; each further one has a seed of its own, so that no cache answers it. A
        model at temperature 0 may answer the same each time.

        Args:
            program: A Module, when it is more than one time: others cannot be sampled afresh.
            examples: As for ``evaluate``.
            metric: As for ``evaluate``.
            times: How many times.
            max_concurrency: Rows under way at once.
            max_failed: The share of rows that may fail each time.

        Raises:
            ConfigError: ``times`` is below 1, or the program is not a Module.
            MissingInput, EvaluationError, AppNotRunning, AppClosed: As ``evaluate``.
        Cancellation: every row under way is stopped before the cancellation travels on.
        """
        if times < 1 or (times > 1 and not isinstance(program, Module)):
            raise ConfigError(f"times={times}: at least 1, and more than 1 for a Module alone, whose seeds can differ")
        rows = list(examples)
        runs: list[RunnableProgram[..., R]] = [program]
        if isinstance(program, Module):
            runs += [program.with_config(seed=number) for number in range(1, times)]
        reports = [
            await self.evaluate(each, rows, metric, max_concurrency=max_concurrency, max_failed=max_failed)
            for each in runs
        ]
        return Repeats(tuple(reports))

    async def compare(
        self,
        first: RunnableProgram[..., R],
        second: RunnableProgram[..., R],
        examples: Iterable[object],
        metric: Metric[R],
        *,
        times: int = 1,
        max_concurrency: int = 64,
        max_failed: float = 0.05,
    ) -> Compared:
        """
        Run two programs on the same rows and say which is better, by how much and how surely: ``print`` the answer.

        For two models give the same program twice: ``rag.with_lm("one")`` and ``rag.with_lm("two")``. Scores are paired
        row by row; a row that one of them fails on is excluded and counted.

        Args:
            first: A program.
            second: Another; a positive difference means that it is the better one.
            examples: As for ``evaluate``.
            metric: As for ``evaluate``.
            times: How many times each of them runs; a row then counts with its mean.
            max_concurrency: Rows under way at once.
            max_failed: The share of rows that either may fail on.

        Raises:
            ConfigError, MissingInput, EvaluationError, AppNotRunning, AppClosed: As ``repeat``.
        Cancellation: every row under way is stopped before the cancellation travels on.
        """
        rows = list(examples)
        one, two = [
            await self.repeat(each, rows, metric, times=times, max_concurrency=max_concurrency, max_failed=max_failed)
            for each in (first, second)
        ]
        return Compared(one, two, two.compare(one))

    async def headroom(
        self,
        program: Module,
        metric: Metric,
        rows: Iterable[object],
        *,
        max_concurrency: int = 64,
    ) -> HeadroomReport:
        """
        Try a handful of formats and words, and say whether any of them moves the score: ``print`` the answer.

        If nothing simple helps, an optimizer seldom does (after arXiv 2604.14585). It costs seven evaluations of the
        rows; the program's own is shared by all comparisons.

        Args:
            program: The program to improve.
            metric: The metric.
            rows: Examples, 50 or more, that you do not mean to hold out.
            max_concurrency: Rows under way at once.

        Raises:
            ConfigError: The program has no predictors, or there are no rows; nothing was started.
            EvaluationError: Too many rows of the program itself failed; a variant that fails is left out.
        Cancellation: every row under way is stopped before the cancellation travels on.
        """
        # what is a Module by its type has a forward all the same
        variants: dict[str, Any] = {**variants_of(program, self._options.adapter)}
        examples, given = list(rows), cast("Any", program)
        base = await self.evaluate(given, examples, metric, max_concurrency=max_concurrency)
        reports = {}
        for name, variant in variants.items():
            with contextlib.suppress(EvaluationError):
                reports[name] = await self.evaluate(variant, examples, metric, max_concurrency=max_concurrency)
        return headroom_of(base, reports)

    async def compile(
        self,
        program: M,
        optimizer: Algorithm,
        *,
        trainset: Iterable[object],
        valset: Iterable[object] | None = None,
        holdset: Iterable[object] | None = None,
        job: str | None = None,
        seed: int = 0,
        sure: float = 0.0,
        minutes: float | None = None,
        max_concurrency: int = 64,
        metric_version: str | None = None,
        progress: bool | None = None,
        version: str | None = None,
        accept_changed: Sequence[str] = (),
    ) -> Job[M]:
        """
        Start a job that looks for a better program, and return its handle: ``await job.result()`` is the program.

        The new program is handed out when it is better on rows that the search has never read; ``job.verdict`` says by
        how much. A budget of ``options(budget=…)`` covers all of it, the verdict included, and is never exceeded.

        Everything the job has evaluated is in its journal below ``home``. The same job again attaches to the one that
        runs, continues one that was interrupted, or returns what it has found; no evaluation is paid twice.

        Args:
            program: The program to start from; it is never changed.
            optimizer: For example ``BootstrapFewShot(metric)``.
            trainset: Examples, mappings or dataclasses to learn from. With 250 or more, and no other sets given, a
                part of them is held out for the verdict, and another is chosen by.
            valset: Others to choose by; optimizers that do not choose leave them for the verdict.
            holdset: Others that only the verdict reads; an empty one holds nothing out.
            job: Its name; None makes a fresh one.
            seed: Where all its random choices come from.
            sure: 0 hands the new program out when its held-out mean is better; 0.9 demands p < 0.1 as well.
            minutes: The minutes that the search may run in this process; then its best so far gets its verdict.
            max_concurrency: Rows and proposals under way at once; it changes nothing in the result.
            metric_version: Stands for the metric's source, where that cannot be read.
            progress: None shows a line on terminals and a bar in notebooks while ``job.result()`` is awaited; False
                shows nothing.
            version: Stands for the code of the program: you change it when the code matters.
            accept_changed: Parts of the job's identity that may have changed, as JobMismatch names them.

        Raises:
            MissingInput, ConfigError: The arguments make no job; nothing was started.
            JobMismatch: The name belongs to a job with other inputs.
            JobBusy: Another process runs it.
            AppNotRunning, AppClosed: The App is not there, or closing.
        Cancellation: the job is started all the same.
        """
        return await self._app.running_tree().job_service.compile(
            program,
            optimizer,
            trainset=trainset,
            valset=valset,
            options=self._for_many(f"job {job or ''}".strip()),
            settings=JobSettings(
                job=job,
                seed=seed,
                metric_version=metric_version,
                version=version,
                accept_changed=names_of(accept_changed),
                holdset=holdset,
                sure=sure,
                limit=self._options.budget,
                minutes=minutes,
                max_concurrency=max_concurrency,
                progress=progress,
            ),
        )

    async def index(
        self,
        passages: Iterable[Passage] | AsyncIterable[Passage],
        into: str | Path | Index,
        *,
        mode: IndexMode = "build",
        job: str | None = None,
        batch: int = 64,
        max_concurrency: int = 4,
        skip_bad: bool = False,
        progress: bool | None = None,
    ) -> IndexJob:
        """
        Start a job that indexes passages, and return its handle: ``print(await job.result())``.

        For example ``await app.index(dspex.retrieval.Documents("handbook/"), "handbook.db")``. Passages that the index
        holds already, unchanged, are not embedded again. A job that was broken off, by whatever, goes on when it is
        started again. A budget of ``options(budget=…)`` covers all that embedding costs, earlier starts included.

        Args:
            passages: ``Documents``, or any iterable of Passage. One that can be read only once, such as a generator, is
                not read again when a part of the job is killed: the job ends, and is to be started again.
            into: The file of a SqliteIndex, or an index with ``add``; an object of yours is not closed.
            mode: ``build`` has the index hold these passages and no others: they are written beside it, and take its
                place when all are there; searches see the old index whole until then. ``add`` changes it in place.
            job: Its name, for ``dspex jobs``; None makes one of the index's, so that the same index is continued.
            batch: Passages that are read, embedded and written together.
            max_concurrency: Batches that are being embedded at once.
            skip_bad: Passages that the model refuses are left out and counted, instead of ending the job.
            progress: None shows a line on terminals and a bar in notebooks while ``job.result()`` is awaited; False
                shows nothing.

        Raises:
            ConfigError: The arguments make no job, or the same job is writing another index; nothing was started.
            JobMismatch: The name belongs to another job.
            JobBusy: Another process runs it.
            AppNotRunning, AppClosed: The App is not there, or closing.
        Cancellation: the job is started all the same.
        """
        settings = IndexSettings(mode, job, batch, max_concurrency, skip_bad, progress)
        options = self._for_many(f"job {job or ''}".strip())
        return await self._app.running_tree().index_service.start(passages, target_of(into), options, settings)

    def _for_many(self, name: str) -> RunOptions:
        """Return the options of many requests: they see the caller's context variables and share one budget."""
        options = replace(self._options, context=context_of_caller())
        if options.budget is None:
            return options
        above = options.paying_account or self._app.running_tree().book.root
        return replace(options, budget=None, paying_account=Account(name, options.budget, above))

    def begin(
        self, program: RunnableProgram[P, R], args: tuple[object, ...], kwargs: Mapping[str, object]
    ) -> Request[R]:
        """Start a request on inputs by position and by name: what ``run``, ``start`` and ``bind`` have in common."""
        tree = self._app.running_tree()
        return tree.runner.start(program, bind_inputs(program, args, kwargs), self._options)
