"""A job that indexes passages, as it is known beside its journal: what is asked for, how far it is, how it ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from dspex.errors import AppClosed, RetrievalError
from dspex.indexing.target import IndexTarget
from dspex.optimizers.identity import Identity
from dspex.protocols.executor import RunOptions
from dspex.protocols.retrieval import Passage

__all__ = [
    "IndexCounts",
    "IndexMode",
    "IndexRecord",
    "IndexReport",
    "IndexSpec",
    "IndexStatus",
    "IndexTable",
    "plain_counts",
]

IndexMode = Literal["build", "add"]
IndexStatus = Literal["starting", "running", "paused", "finished", "failed", "cancelled"]


@dataclass(frozen=True, slots=True)
class IndexCounts:
    """
    The progress of a job.

    Attributes:
        read: Passages that were read.
        added: Those of them that were new or changed.
        unchanged: Those of them that were there already, also from an earlier start of the job.
        embedded: Texts that a model or a function was asked for vectors of.
        bad: Passages that could not be embedded and were left out.
    """

    read: int = 0
    added: int = 0
    unchanged: int = 0
    embedded: int = 0
    bad: int = 0

    def plus(self, **more: int) -> IndexCounts:
        """Return counts with so many more of each."""
        return replace(self, **{name: getattr(self, name) + count for name, count in more.items()})


@dataclass(frozen=True, slots=True)
class IndexReport:
    """
    The outcome of a job.

    Attributes:
        counts: The passages that were read, by their ends.
        removed: Passages that an unfinished build before had left and that are not among those that were read.
        size: Passages that the index holds now; None where it does not tell.
        skipped: Files and lines that could not be read, where the passages tell (``Documents`` do).
    """

    counts: IndexCounts
    removed: int = 0
    size: int | None = None
    skipped: int = 0

    def __str__(self) -> str:
        counts = self.counts
        told = [f"{counts.added} added", f"{counts.unchanged} unchanged"]
        told += [
            f"{count} {word}" for count, word in ((counts.embedded, "embedded"), (self.removed, "removed")) if count
        ]
        left = [f"{count} {word}" for count, word in ((counts.bad, "left out"), (self.skipped, "not read")) if count]
        held = f"; the index holds {self.size} passages" if self.size is not None else ""
        return f"{counts.read} passages read: {', '.join([*told, *left])}{held}"


@dataclass(frozen=True, slots=True)
class IndexSpec:
    """The arguments of a job."""

    id: str
    path: Path
    """Of its journal."""
    passages: Iterable[Passage] | AsyncIterable[Passage]
    target: IndexTarget
    mode: IndexMode
    options: RunOptions
    identity: Identity
    batch: int = 64
    max_concurrency: int = 4
    skip_bad: bool = False

    def __hash__(self) -> int:
        return hash(self.id)


@dataclass(slots=True)
class IndexRecord:
    """
    One job of this App: how far it is, how it ended, and who waits for either.

    An end is settled by the actor and published when the actor and its supervisor are gone: then the journal is
    closed, the index's file is free, and only then whoever waits is told.
    """

    spec: IndexSpec
    status: IndexStatus = "starting"
    counts: IndexCounts = IndexCounts()
    report: IndexReport | None = None
    error: Exception | None = None
    incarnations: int = 0
    cancel_wanted: bool = False
    held: bool = False
    ended: bool = False
    """True when the end has been published."""
    _waiting: list[asyncio.Future[None]] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The name under which the job's actor is registered."""
        return f"job {self.spec.id}"

    @property
    def settled(self) -> bool:
        """True when there is a report or an error; neither ever changes."""
        return self.report is not None or self.error is not None

    def note(self, counts: IndexCounts) -> None:
        """Say how far it is."""
        self.counts = counts
        self._wake()

    def finish(self, report: IndexReport) -> None:
        """Settle the report, unless something is settled already."""
        if not self.settled:
            self.report, self.status = report, "finished"

    def fail(self, error: Exception, status: IndexStatus = "failed") -> None:
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


class IndexTable:
    """The jobs of one run of an App, by id; data, not a process: it cannot crash."""

    __slots__ = ("closing", "jobs")

    def __init__(self) -> None:
        self.jobs: dict[str, IndexRecord] = {}
        self.closing = False

    def unfinished(self) -> list[IndexRecord]:
        """The jobs whose end has not been published, oldest first."""
        return [record for record in self.jobs.values() if not record.ended]

    def end(self, record: IndexRecord) -> None:
        """Publish the end of a job whose supervisor has ended for good; one that settled nothing has failed."""
        if self.closing:
            record.fail(AppClosed())
        record.fail(
            RetrievalError(
                f"job {record.spec.id} died {record.incarnations} times and is not started again; start the same job "
                f"again to continue it"
            )
        )
        record.publish()


def plain_counts(counts: IndexCounts) -> Mapping[str, int]:
    """Return counts as JSON values."""
    return {name: getattr(counts, name) for name in IndexCounts.__dataclass_fields__}
