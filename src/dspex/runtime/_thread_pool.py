"""A bounded pool of threads for code that blocks, which no hung call can fill for good."""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
import traceback
from collections import deque
from collections.abc import Callable
from typing import Any, Generic, TypeVar, cast

from dspex._guard import contained
from dspex.errors import ActorExited
from dspex.runtime._awaited import THREAD
from dspex.runtime._exit import SHUTDOWN
from dspex.runtime._log import get_logger

__all__ = ["ThreadPool"]

_log = get_logger("runtime")

R = TypeVar("R")


class ThreadPool:
    """
    Runs blocking calls in at most ``limit`` threads of its own; more calls wait, the first come first.

    A caller that is cancelled stops waiting. Its call cannot be stopped: its result is dropped, ``on_late`` is told
    when it ends, and until then another thread takes its place, up to ``spare`` of them. Threads are daemons: one that
    never ends keeps neither the pool nor the interpreter open.

    Everything but the calls themselves happens on the loop that makes the pool.

    Args:
        name: The prefix of the threads' names.
        limit: Calls at once that somebody waits for.
        spare: Threads beyond ``limit``, in place of those whose caller has gone.
        on_late: Told the label of a call that ended after its caller had gone.
    """

    def __init__(self, name: str, *, limit: int = 32, spare: int = 32, on_late: Callable[[str], object]) -> None:
        self._name = name
        self._limit = limit
        self._spare = spare
        self._on_late = on_late
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[_Job[Any]] = deque()
        self._idle: list[_Worker] = []
        self._workers: set[_Worker] = set()
        self._closing = False
        self._empty: asyncio.Future[None] = self._loop.create_future()
        self.busy = 0
        """Calls under way that somebody waits for."""
        self.late = 0
        """Calls under way whose caller has gone."""

    async def run(self, function: Callable[[], R], label: str = "") -> R:
        """
        Run ``function()`` in a thread and return its result, or raise its error.

        Raises:
            ActorExited: The pool was closed before the call had ended.
        Cancellation: the call is left to itself, and its result dropped.
        """
        if self._closing:
            raise ActorExited(self._name, SHUTDOWN)
        job = _Job(function, label, self._loop.create_future())
        self._waiting.append(job)
        self._serve()
        try:
            value, error = await job.answer
        except asyncio.CancelledError:
            self._leave(job)
            raise
        if error is not None:
            raise error
        return cast("R", value)

    async def aclose(self, grace: float) -> list[str]:
        """
        Send callers away, end the threads, and return where those stand that do not end within ``grace`` seconds.

        Cancellation: threads end when their calls do.
        """
        self._closing = True
        while self._waiting:
            self._waiting.popleft().settle(None, ActorExited(self._name, SHUTDOWN))
        for worker in self._workers:
            if worker.job is not None:
                worker.job.settle(None, ActorExited(self._name, SHUTDOWN))
            worker.jobs.put(None)
        if self._workers:
            await asyncio.wait([self._empty], timeout=grace)
        return [worker.where() for worker in self._workers]

    def when_empty(self, callback: Callable[[], object]) -> None:
        """Have ``callback`` called when the last thread of a closed pool has ended."""

        def empty(_: object) -> None:
            try:
                callback()
            except BaseException as error:  # noqa: BLE001 - as for on_late
                contained(error)
                says = "when_empty of the pool {pool} failed: {error}"
                _log.error("when_empty failed", says=says, pool=self._name, exc_info=error)

        self._empty.add_done_callback(empty)

    # --- on the loop ------------------------------------------------------------------------------------------

    def _serve(self) -> None:
        """Give waiting calls a thread each, as long as there are any."""
        while self._waiting and self.busy < self._limit and not self._closing:
            if not self._idle and len(self._workers) >= self._limit + self._spare:
                return
            job = self._waiting.popleft()
            if job.answer.done():
                continue
            worker = self._idle.pop() if self._idle else self._start()
            worker.job, job.begun = job, True
            self.busy += 1
            worker.jobs.put(job)

    def _start(self) -> _Worker:
        worker = _Worker(f"{self._name}-{len(self._workers) + 1}", self._loop, self._ended, self._gone)
        self._workers.add(worker)
        return worker

    def _leave(self, job: _Job[R]) -> None:
        """Note that nobody waits for a call any more."""
        if not job.begun:
            if job in self._waiting:
                self._waiting.remove(job)
        elif not job.ended:
            job.left = True
            self.busy -= 1
            self.late += 1
            self._serve()

    def _ended(self, worker: _Worker, job: _Job[object], value: object, error: BaseException | None) -> None:
        job.ended = True
        worker.job = None
        if job.left:
            self.late -= 1
        else:
            self.busy -= 1
        if not job.settle(value, error):
            try:
                self._on_late(job.label)
            except BaseException as failure:  # noqa: BLE001 - or the pool would lose this thread
                contained(failure)
                says = "on_late of the pool {pool} failed: {error}"
                _log.error("on_late failed", says=says, pool=self._name, exc_info=failure)
        if not self._closing:
            self._idle.append(worker)
            self._serve()

    def _gone(self, worker: _Worker) -> None:
        worker.thread.join()  # it has nothing left to do but to end
        self._workers.discard(worker)
        if self._closing and not self._workers and not self._empty.done():
            self._empty.set_result(None)


class _Job(Generic[R]):
    """One call; ``begun`` once a thread has it, ``left`` when its caller went while it ran."""

    __slots__ = ("answer", "begun", "ended", "function", "label", "left")

    def __init__(
        self, function: Callable[[], R], label: str, answer: asyncio.Future[tuple[object, BaseException | None]]
    ) -> None:
        self.function = function
        self.label = label
        self.answer = answer
        self.begun = self.ended = self.left = False

    def settle(self, value: object, error: BaseException | None) -> bool:
        """Answer the caller; False when it has gone or has its answer."""
        if self.answer.done():
            return False
        self.answer.set_result((value, error))
        return True


class _Worker:
    """One thread: calls from a queue, until there comes None."""

    def __init__(
        self,
        name: str,
        loop: asyncio.AbstractEventLoop,
        ended: Callable[[_Worker, _Job[object], object, BaseException | None], None],
        gone: Callable[[_Worker], None],
    ) -> None:
        self.jobs: queue.SimpleQueue[_Job[object] | None] = queue.SimpleQueue()
        self.job: _Job[object] | None = None
        self._loop = loop
        self._ended = ended
        self._gone = gone
        self.thread = threading.Thread(target=self._work, name=name, daemon=True)
        self.thread.start()

    def where(self) -> str:
        """Say what the thread is doing, with its stack."""
        frame = sys._current_frames().get(self.thread.ident or 0)
        stack = "".join(traceback.format_stack(frame)) if frame is not None else ""
        label = self.job.label if self.job is not None else "idle"
        return f"thread {self.thread.name}: {label} does not end\n{stack}"

    def _work(self) -> None:
        while (job := self.jobs.get()) is not None:
            value: object = None
            failure: BaseException | None = None
            THREAD.answer = job.answer  # a call back into the runtime is made for who waits for this
            try:
                value = job.function()
            except BaseException as error:  # noqa: BLE001 - whatever it is, it is the caller's to see
                failure = error
            THREAD.answer = None
            if not self._tell(self._ended, self, job, value, failure):
                return
            del job, value, failure
        self._tell(self._gone, self)

    def _tell(self, function: Callable[..., None], *args: object) -> bool:
        """Have ``function`` called on the loop; False when that is closed."""
        try:  # not asked first: the loop may be closed between the question and the call
            self._loop.call_soon_threadsafe(function, *args)
        except RuntimeError:
            return False
        return True
