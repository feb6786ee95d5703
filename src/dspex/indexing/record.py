"""A job that indexes passages, as it is known beside its journal: what is asked for, how far it is, how it ended."""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from dspex.errors import RetrievalError
from dspex.indexing.target import IndexTarget
from dspex.optimizers.identity import Identity
from dspex.optimizers.jobs import RecordOfJob
from dspex.protocols.executor import RunOptions
from dspex.protocols.retrieval import Passage

__all__ = [
    "IndexCounts",
    "IndexMode",
    "IndexRecord",
    "IndexReport",
    "IndexSpec",
    "plain_counts",
]

IndexMode = Literal["build", "add"]


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
class IndexRecord(RecordOfJob[IndexSpec]):
    """One job of this App that indexes passages."""

    counts: IndexCounts = IndexCounts()
    report: IndexReport | None = None

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

    def lost(self) -> Exception:
        """Return the error of a job whose actor has died too often."""
        return RetrievalError(
            f"job {self.spec.id} died {self.incarnations} times and is not started again; start the same job again to "
            f"continue it"
        )


def plain_counts(counts: IndexCounts) -> Mapping[str, int]:
    """Return counts as JSON values."""
    return {name: getattr(counts, name) for name in IndexCounts.__dataclass_fields__}
