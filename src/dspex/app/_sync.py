"""An App for code that is not asynchronous: its tree lives on a loop in a thread of its own."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import AbstractAsyncContextManager, AbstractContextManager, suppress
from functools import partial
from inspect import isawaitable
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Generic, ParamSpec, Self, TypeVar, TypeVarTuple, Unpack, overload

import anyio
from anyio.from_thread import BlockingPortal

from dspex.app._options import Options
from dspex.errors import AppAlreadyRunning, AppNotRunning, WrongProcess
from dspex.evaluation import Compared, Metric, OnProgress, Repeats, Report
from dspex.evaluation.outage_gate import WAIT_OUT
from dspex.indexing import IndexCounts, IndexJob, IndexMode, IndexReport
from dspex.optimizers import Algorithm, HeadroomReport, Job, JobEvent, JobStatus, Verdict
from dspex.programs import Module
from dspex.protocols.executor import Failed, Ok
from dspex.protocols.money import ProgramEstimate
from dspex.protocols.retrieval import Index, Passage
from dspex.protocols.scope import Delta, RequestTotals, Reset

if TYPE_CHECKING:
    from dspex.app._app import App
    from dspex.app._map import RowKey, Rows
    from dspex.app._view import AppView, RunnableProgram
    from dspex.requests import ProgramStream, Request
    from dspex.runtime import TreeNode

__all__ = ["SyncApp", "SyncJob", "SyncRequest", "SyncStream", "SyncView"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")
Ts = TypeVarTuple("Ts")
M = TypeVar("M", bound=Module)

_ENDING: Final = 5.0
"""Seconds that an interrupt waits for what it has cancelled: a second one waits for nothing."""


class _Loop:
    """
    The App's thread, its loop, and the portal to it while it is open.

    Nothing here cleans up when it is collected: in a forked process there is no thread to clean up, and waiting for
    it would be waiting for ever.
    """

    __slots__ = ("_pid", "_thread", "portal")

    def __init__(self) -> None:
        self._pid = 0
        self._thread: threading.Thread | None = None
        self.portal: BlockingPortal | None = None

    def open(self, name: str) -> BlockingPortal:
        if self._thread is not None:
            self._check_process()
            raise AppAlreadyRunning
        opened: Future[BlockingPortal] = Future()
        self._pid = os.getpid()
        self._thread = threading.Thread(target=_run_loop, args=(opened,), name=name, daemon=True)
        self._thread.start()
        self.portal = opened.result()
        return self.portal

    def close(self) -> None:
        thread, portal = self._thread, self.portal
        self._thread = self.portal = None
        if thread is not None and portal is not None and self.is_of_this_process:
            with suppress(RuntimeError):  # its loop has ended
                portal.call(portal.stop, False)
            thread.join()

    @property
    def is_of_this_process(self) -> bool:
        """False in a process that was forked from the one that opened it."""
        return self._pid == os.getpid()

    def _check_process(self) -> None:
        if not self.is_of_this_process:
            raise WrongProcess(self._pid)

    @overload
    def call(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T: ...
    @overload
    def call(self, function: Callable[[*Ts], T], *args: *Ts) -> T: ...
    def call(self, function: Callable[..., object], *args: object) -> object:
        """
        Run an async or plain function in the App's thread and wait for what it returns.

        A KeyboardInterrupt meanwhile cancels it, and is raised when it has ended, or ``_ENDING`` seconds later.

        Raises:
            AppNotRunning: It has not been opened.
            WrongProcess: It was opened before a fork.
            Exception: Any exception of the function.
        """
        if self.portal is None:
            raise AppNotRunning
        self._check_process()
        is_over, ended, tasks = False, threading.Event(), list[asyncio.Task[Any]]()

        async def whole() -> object:
            try:
                if is_over:  # the interrupt came before this began
                    raise asyncio.CancelledError
                tasks.extend(filter(None, [asyncio.current_task()]))
                found = function(*args)
                return await found if isawaitable(found) else found
            finally:
                ended.set()

        def stop() -> None:
            for task in tasks:
                task.cancel()
            if not tasks:
                ended.set()  # it will find that it is over, if it comes at all

        portal = self.portal
        try:
            future: Future[object] = portal.start_task_soon(whole)
            return future.result()
        except BaseException:  # KeyboardInterrupt above all, at any line: nothing goes on behind the user's back
            is_over = True
            if not ended.is_set():
                portal.start_task_soon(stop)
                ended.wait(_ENDING)
            raise


def _run_loop(opened: Future[BlockingPortal]) -> None:
    """Run a loop in this thread until its portal is stopped; what keeps it from starting is told to the opener."""

    async def serve() -> None:
        async with BlockingPortal() as portal:
            opened.set_result(portal)
            await portal.sleep_until_stopped()

    try:
        anyio.run(serve, backend="asyncio")
    except BaseException as error:  # noqa: BLE001 - a thread has nobody above it
        if not opened.done():
            opened.set_exception(error)


class SyncView:
    """
    An App's programs for plain code; every method blocks until the answer is there.

    ``options(…)`` makes another one, as ``App.options`` does.
    """

    __slots__ = ("_loop", "_view")

    def __init__(self, view: AppView, loop: _Loop) -> None:
        self._view = view
        self._loop = loop

    def options(self, **changes: Unpack[Options]) -> SyncView:
        """Return a frozen view with other options; raises ConfigError as ``App.options``."""
        return SyncView(self._view.options(**changes), self._loop)

    def run(self, program: RunnableProgram[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """
        Run ``program`` on inputs and return what its ``forward`` returns; raises as ``App.run``.

        Ctrl-C stops the request, its sockets closed, before KeyboardInterrupt is raised.
        """

        async def whole() -> R:
            return await self._view.begin(program, args, kwargs)

        return self._loop.call(whole)

    def start(self, program: RunnableProgram[P, R], *args: P.args, **kwargs: P.kwargs) -> SyncRequest[R]:
        """Start a request and return its handle at once; raises as ``App.start``."""

        async def begin() -> Request[R]:
            return self._view.begin(program, args, kwargs)

        return SyncRequest(self._loop.call(begin), self._loop)

    def bind(self, program: RunnableProgram[P, R]) -> Callable[P, R]:
        """Return ``program`` as a function of its inputs; it may be bound before the App is opened."""

        def bound(*args: P.args, **kwargs: P.kwargs) -> R:
            return self.run(program, *args, **kwargs)

        return bound

    def stream(self, program: RunnableProgram[P, R], *args: P.args, **kwargs: P.kwargs) -> SyncStream[R]:
        """Run ``program`` and read its answers as they are written: a context manager, as ``App.stream``."""

        async def make() -> ProgramStream[R]:
            return self._view.stream(program, *args, **kwargs)

        return SyncStream(self._loop.call(make), self._loop)

    def estimate(self, program: RunnableProgram[P, R], *args: P.args, **kwargs: P.kwargs) -> ProgramEstimate:
        """Return what a run may come to, without asking a model; raises as ``App.estimate``."""
        return self._loop.call(lambda: self._view.estimate(program, *args, **kwargs))

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
        wait_out: float = WAIT_OUT,
    ) -> AbstractContextManager[Iterator[Ok[R] | Failed]]:
        """Run ``program`` on every row: a context manager that is iterated, as ``App.map``."""
        run = self._view.map(
            program,
            rows,
            journal=journal,
            key=key,
            max_concurrency=max_concurrency,
            ordered=ordered,
            retry_failed=retry_failed,
            progress=progress,
            wait_out=wait_out,
        )
        return _Iterating(run, self._loop)

    def evaluate(
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
        Run ``program`` on every example and score the answers; raises as ``App.evaluate``.

        ``on_progress`` is called in the App's thread.
        """
        return self._loop.call(
            lambda: self._view.evaluate(
                program,
                examples,
                metric,
                max_concurrency=max_concurrency,
                max_failed=max_failed,
                on_progress=on_progress,
                progress=progress,
                wait_out=wait_out,
            )
        )

    def repeat(
        self,
        program: RunnableProgram[..., R],
        examples: Iterable[object],
        metric: Metric[R],
        *,
        times: int = 3,
        max_concurrency: int = 64,
        max_failed: float = 0.05,
    ) -> Repeats:
        """Evaluate a program several times; all as ``App.repeat``."""
        return self._loop.call(
            lambda: self._view.repeat(
                program, examples, metric, times=times, max_concurrency=max_concurrency, max_failed=max_failed
            )
        )

    def compare(
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
        """Compare two programs on the same rows; all as ``App.compare``."""
        return self._loop.call(
            lambda: self._view.compare(
                first, second, examples, metric, times=times, max_concurrency=max_concurrency, max_failed=max_failed
            )
        )

    def headroom(
        self, program: Module, metric: Metric, rows: Iterable[object], *, max_concurrency: int = 64
    ) -> HeadroomReport:
        """Say whether simple changes move the score; all as ``App.headroom``."""
        return self._loop.call(lambda: self._view.headroom(program, metric, rows, max_concurrency=max_concurrency))

    def compile(
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
    ) -> SyncJob[M]:
        """Start a job that looks for a better program and return its handle; all as ``App.compile``."""
        found = self._loop.call(
            lambda: self._view.compile(
                program,
                optimizer,
                trainset=trainset,
                valset=valset,
                holdset=holdset,
                job=job,
                seed=seed,
                sure=sure,
                minutes=minutes,
                max_concurrency=max_concurrency,
                metric_version=metric_version,
                progress=progress,
            )
        )
        return SyncJob(found, self._loop)

    def index(
        self, passages: Iterable[Passage], into: str | Path | Index, *, mode: IndexMode = "build", **options: Any
    ) -> SyncIndexJob:
        """Start a job that indexes passages and return its handle; all as ``App.index``."""
        return SyncIndexJob(self._loop.call(lambda: self._view.index(passages, into, mode=mode, **options)), self._loop)


class SyncApp(SyncView):
    """
    An App for notebooks, scripts, Flask and Celery: ``with App(…).sync() as app: app.run(program, question=…)``.

    The tree lives on an event loop in a thread of its own, so that it does not matter whether a loop runs already where
    it is used, and any number of threads may use it at once. In a notebook, ``app = App(…).sync().open()`` in one cell
    and ``app.close()`` in another. Its methods take and return what the App's do, without ``await``.
    """

    __slots__ = ("_app",)

    def __init__(self, app: App) -> None:
        super().__init__(app, _Loop())
        self._app = app

    def open(self) -> Self:
        """
        Start the thread, its loop and the tree.

        Raises:
            AppAlreadyRunning: It is open, or the App runs elsewhere.
            CacheError, RetrievalError, ConfigError: A service cannot start; nothing is left running.
        """
        self._loop.open("dspex-app")
        try:
            self._loop.call(self._app.start)
        except BaseException:  # whatever it is: undone here, then raised on
            self._loop.close()
            raise
        return self

    def close(self, *, drain: float | None = None) -> None:
        """
        Close the App as ``App.aclose`` does, and end its thread; a second call does nothing.

        Args:
            drain: Seconds that running requests may take to finish; None for the App's own.

        Raises:
            LeakedTasks: Code swallowed its cancellation and still runs.
        """
        if self._loop.portal is None:
            return
        if not self._loop.is_of_this_process:  # its owner will close it
            self._loop.close()
            return
        try:
            self._loop.call(partial(self._app.aclose, drain=drain))
        finally:
            self._loop.close()

    def __enter__(self) -> Self:
        return self.open()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._loop.portal is None or not self._loop.is_of_this_process:
            self.close()
            return
        try:
            self._loop.call(self._app.__aexit__, kind, error, traceback)  # which knows how patient to be
        finally:
            self._loop.close()

    def tree(self) -> TreeNode:
        """Return a snapshot of every process, as ``App.tree``."""
        return self._loop.call(self._app.tree)

    def health(self) -> Mapping[str, object]:
        """Return a few numbers for a health endpoint, as ``App.health``."""
        if self._loop.portal is None or not self._loop.is_of_this_process:
            return self._app.health()
        return self._loop.call(self._app.health)

    def __repr__(self) -> str:
        return f"<SyncApp of {getattr(self, '_app', None)!r}>"


class SyncRequest(Generic[R]):
    """A request that has been accepted: ``result()`` waits for it."""

    __slots__ = ("_loop", "_request")

    def __init__(self, request: Request[R], loop: _Loop) -> None:
        self._request = request
        self._loop = loop

    def result(self) -> R:
        """Wait for the end and return the result, or raise what the request ended with; Ctrl-C stops it."""

        async def wait() -> R:
            return await self._request

        try:
            value: R = self._loop.call(wait)
        except KeyboardInterrupt:
            self._loop.call(self._request.stop)
            raise
        return value

    def cancel(self) -> None:
        """Stop the request and return when it has ended."""
        self._loop.call(self._request.stop)

    @property
    def done(self) -> bool:
        """True when it has ended."""
        return self._request.done

    @property
    def details(self) -> RequestTotals:
        """The usage of the whole request so far; final once it has ended."""
        return self._loop.call(lambda: self._request.details)

    def __repr__(self) -> str:
        return f"<Sync{repr(self._request)[1:]}"


class _Iterating(Generic[T]):
    """An async context manager that is an async iterator, for plain code."""

    __slots__ = ("_entered", "_inner", "_loop")

    def __init__(self, inner: AbstractAsyncContextManager[AsyncIterator[T]], loop: _Loop) -> None:
        self._inner = inner
        self._loop = loop
        self._entered: AsyncIterator[T] | None = None

    def __enter__(self) -> Self:
        self._entered = self._loop.call(self._inner.__aenter__)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._loop.call(self._inner.__aexit__, kind, error, traceback)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        if self._entered is None:
            raise RuntimeError("this is iterated inside its `with` block")
        try:
            return self._loop.call(self._entered.__anext__)
        except StopAsyncIteration:
            raise StopIteration from None


class SyncStream(_Iterating[Delta | Reset], Generic[R]):
    """The pieces of a program's answers as they arrive: ``with app.stream(program, …) as stream`` is iterated."""

    __slots__ = ("_stream",)

    def __init__(self, stream: ProgramStream[R], loop: _Loop) -> None:
        super().__init__(stream, loop)
        self._stream = stream

    def result(self) -> R:
        """Return what ``forward`` returned; pieces that were not read by now are dropped."""
        return self._loop.call(self._stream.result)


class SyncJob(Generic[M]):
    """An optimizer's run, known by its id; it goes on when this handle is dropped."""

    __slots__ = ("_job", "_loop")

    def __init__(self, job: Job[M], loop: _Loop) -> None:
        self._job = job
        self._loop = loop

    @property
    def id(self) -> str:
        """The name to compile it under again."""
        return self._job.id

    @property
    def status(self) -> JobStatus:
        """As ``Job.status``."""
        return self._job.status

    def result(self) -> M:
        """Wait for the end and return the new program; raises as ``Job.result``. Ctrl-C leaves the job running."""
        return self._loop.call(self._job.result)

    def events(self) -> AbstractContextManager[Iterator[JobEvent]]:
        """Return the job's events, from its first to its end: a context manager that is iterated."""
        return _Iterating(self._job.events(), self._loop)

    @property
    def verdict(self) -> Verdict | None:
        """As ``Job.verdict``."""
        return self._job.verdict

    def best(self) -> M:
        """Return the best program so far; as ``Job.best``."""
        return self._loop.call(self._job.best)

    def cancel(self, *, training: bool = False) -> None:
        """Stop the job; compiling it again continues it; all as ``Job.cancel``."""
        self._loop.call(lambda: self._job.cancel(training=training))

    def __repr__(self) -> str:
        return f"<Sync{repr(self._job)[1:]}"


class SyncIndexJob:
    """Passages on their way into an index, known by the job's id; it goes on when this handle is dropped."""

    __slots__ = ("_job", "_loop")

    def __init__(self, job: IndexJob, loop: _Loop) -> None:
        self._job = job
        self._loop = loop

    @property
    def id(self) -> str:
        """The name to start it under again."""
        return self._job.id

    @property
    def counts(self) -> IndexCounts:
        """As ``IndexJob.counts``."""
        return self._job.counts

    def result(self) -> IndexReport:
        """Wait for the end and return what was done; raises as ``IndexJob.result``. Ctrl-C leaves the job running."""
        return self._loop.call(self._job.result)

    def cancel(self) -> None:
        """Stop the job; starting it again continues it."""
        self._loop.call(self._job.cancel)

    def __repr__(self) -> str:
        return f"<Sync{repr(self._job)[1:]}"
