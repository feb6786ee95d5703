"""The handle on a job: what it found, how it goes, and how to stop it."""

from __future__ import annotations

from types import TracebackType
from typing import Generic, Self, TypeVar, cast

from dspex.optimizers._optimizer_actor import CANCEL
from dspex.optimizers._record import JobEvent, JobRecord, JobStatus
from dspex.programs import Module
from dspex.runtime import NamedRef

__all__ = ["Job", "JobEvents"]

M = TypeVar("M", bound=Module)


class JobEvents:
    """
    The events of a job: those there have been, then those to come, until the job ends.

    Use it as ``async with job.events() as events: async for event in events``.
    """

    def __init__(self, record: JobRecord) -> None:
        self._record = record
        self._next = 0
        self._open = False

    async def __aenter__(self) -> Self:
        self._open = True
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> JobEvent:
        while self._open:
            if self._next < len(self._record.events):
                self._next += 1
                return self._record.events[self._next - 1]
            if self._record.ended:
                break
            await self._record.changed()
        raise StopAsyncIteration


class Job(Generic[M]):
    """
    An optimizer's run, known by its id: it goes on when this handle is dropped, and when its actor is restarted.

    Compiling the same job again, in this process or a later one, attaches to it, continues it or returns what it
    has found.
    """

    __slots__ = ("_actor", "_record")

    def __init__(self, record: JobRecord, actor: NamedRef) -> None:
        self._record = record
        self._actor = actor

    @property
    def id(self) -> str:
        """The name to compile it under again."""
        return self._record.spec.id

    @property
    def status(self) -> JobStatus:
        """``starting``, ``running``, ``paused`` (the provider is down), ``finished``, ``failed`` or ``cancelled``."""
        return self._record.status

    async def result(self) -> M:
        """
        Wait for the end and return the new program; the one that was given is untouched.

        Raises:
            JobCancelled: ``cancel`` was called.
            JobBusy: Another writer has taken the journal.
            NoCandidate: The search found nothing.
            AppClosed: The App closed first; the same job continues where it was.
            OptimizationError: The optimizer died too often, or its journal cannot be used.
            Exception: Whatever ended the search, for example AuthFailed.
        Cancellation: the job goes on.
        """
        record = self._record
        while not record.ended:
            await record.changed()
        if record.error is not None:
            raise record.error
        return cast("M", record.result)

    def events(self) -> JobEvents:
        """
        Return the job's events, from its first: an async context manager that is an async iterator.

        ======================  =====================================================================================
        ``kind``                ``data``
        ======================  =====================================================================================
        ``started``             ``optimizer``, ``program``, ``train``, ``val`` (rows), ``seed``
        ``resumed``             the same, and ``recorded``: evaluations that need not be paid again
        ``evaluation``          ``key``, ``row``, ``score`` (None: failed), ``error``, ``usage``, ``seconds``
        ``progress``            ``row``, ``score``, ``found`` and ``wanted``, or what else the algorithm counts
        ``candidate``           ``name``, ``score``, ``interval``, ``rows``, ``failed``
        ``paused``              ``error``, ``delay`` in seconds
        ``finished``            nothing: the result is there
        ``failed``              ``error``
        ``cancelled``           nothing
        ======================  =====================================================================================
        """
        return JobEvents(self._record)

    def cancel(self) -> None:
        """Stop the job; what it has recorded is kept, and compiling it again continues it."""
        if not self._record.ended:
            self._record.cancel_wanted = True
            self._actor.cast(CANCEL)

    def __repr__(self) -> str:
        return f"<Job {self.id} [{self.status}]>"
