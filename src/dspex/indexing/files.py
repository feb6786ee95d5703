"""The index of a job, in the thread that writes it: what is there already, what is added, and the swap at the end."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
from collections.abc import Awaitable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol, Self, TypeVar, cast, runtime_checkable

from dspex._files import FileLock
from dspex.errors import ConfigError, MissingExtra, RetrievalError, RetrieverLacks
from dspex.indexing.record import IndexMode
from dspex.indexing.target import IndexTarget
from dspex.protocols.retrieval import Index, Passage, Vector, abilities_of, checked_passages, embedded_text

__all__ = ["Batch", "IndexFiles", "StoredIndex", "SwappedIndex"]

R = TypeVar("R")


@runtime_checkable
class StoredIndex(Protocol):
    """An index that tells what it holds, so that nothing unchanged is embedded or written again."""

    def get(self, ids: Sequence[str]) -> Mapping[str, Passage] | Awaitable[Mapping[str, Passage]]:
        """Return the passages that there are, by id, as they were added."""
        ...


@runtime_checkable
class SwappedIndex(StoredIndex, Protocol):
    """An index in a file, which another one can take the place of while it is searched."""

    def beside(self, path: Path) -> Self:
        """Return an index with the same settings in another file, which need not be there."""
        ...

    def ids(self) -> Iterator[str]:
        """Yield the ids of all passages."""
        ...

    def take_over(self, other: Self) -> None:
        """Hold what another one holds, and nothing else: searches see all of the old content, or all of the new."""
        ...


@dataclass(frozen=True, slots=True)
class Batch:
    """
    Passages that were read together.

    Attributes:
        read: How many there were.
        fresh: Those that are to be written, with ids.
        vectors: Vectors of those of them whose words have not changed, by id.
    """

    read: int
    fresh: Sequence[Passage]
    vectors: Mapping[str, Vector] = field(default_factory=dict)


class IndexFiles:
    """
    The index that a job writes; every method blocks and belongs in one thread, which is not the loop's.

    Async methods of an index are awaited on the loop while the thread waits for them.

    A build is written beside the index, and takes its place when it is complete. A build that breaks off leaves the
    index as it was, and its own part for the next start.

    Args:
        target: The index.
        mode: ``build`` or ``add``.
        loop: Where async methods are awaited.

    Raises:
        ConfigError, RetrieverLacks: The index cannot be built, or cannot be added to.
        FileBusy: Another job writes it.
    """

    def __init__(self, target: IndexTarget, mode: IndexMode, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        file = target.file
        self._is_ours = target.is_ours
        self._lock = FileLock(file.with_name(f"{file.name}.index")) if file is not None else None
        self._seen: set[bytes] = set()
        self._staged: Path | None = None
        if self._lock is not None:
            self._lock.__enter__()
        try:
            self.index = self._into = target.open()
            self.abilities = abilities_of(self.index)
            if not self.abilities.adds:
                raise RetrieverLacks(type(self.index).__name__, "add", "it has no method add()")
            if mode == "build":
                if file is None or not isinstance(self.index, SwappedIndex):
                    raise ConfigError(
                        f"a {type(self.index).__name__} cannot be built anew while it is searched: mode='add' changes "
                        f"it in place"
                    )
                self._staged = file.with_name(f".{file.name}.building")
                self._into = cast("Index", self.index.beside(self._staged))
        except BaseException:  # whatever it is: undone here, then raised on
            self.close()
            raise

    def look(self, passages: Sequence[Passage]) -> Batch:
        """Return what of some passages is new or changed."""
        kept = checked_passages(passages)
        ids = [each.id for each in kept]
        if self._staged is not None:
            self._seen.update(map(_mark, ids))
        there = self._get(self._into, ids)
        fresh = [each for each in kept if each.id not in there or not _same(each, there[each.id])]
        vectors: dict[str, Vector] = {}
        if fresh and self.abilities.embeds:
            wanted = {each.id: each for each in fresh}
            for index in dict.fromkeys((self._into, self.index)):
                vectors |= self._known(index, {id_: each for id_, each in wanted.items() if id_ not in vectors})
        return Batch(len(passages), fresh, vectors)

    def _known(self, index: Index, wanted: Mapping[str, Passage]) -> Mapping[str, Vector]:
        """Return the vectors that an index has of passages with the same words."""
        vectors_of = getattr(index, "vectors", None)
        if not callable(vectors_of):
            return {}
        try:
            there = self._get(index, list(wanted))
            same = [id_ for id_, each in wanted.items() if id_ in there and _has_words_of(each, there[id_])]
            return dict(self._done(vectors_of(same))) if same else {}
        except RetrievalError:
            if index is self._into:
                raise
            return {}  # the old index of a build: damaged, or made with another embedder

    def _get(self, index: Index, ids: Sequence[str]) -> Mapping[str, Passage]:
        file = getattr(index, "path", None)
        is_missing = isinstance(file, Path) and not file.exists()
        return self._done(index.get(ids)) if isinstance(index, StoredIndex) and not is_missing else {}

    def write(self, passages: Sequence[Passage], vectors: Sequence[Vector] | None) -> None:
        """Add passages; raises what ``Index.add`` raises."""
        if passages:
            if vectors is None:
                self._done(self._into.add(passages))
            else:
                self._done(self._into.add(passages, vectors=vectors))  # type: ignore[call-arg]  # its abilities say so

    def finish(self) -> tuple[int, int | None]:
        """Put a build in the place of the index; return the passages that were removed, and those there are now."""
        removed = 0
        if self._staged is not None:
            if not self._staged.exists():  # nothing was read: an index of nothing is one, too
                self._into.add([])
            stale = [id_ for id_ in self._into.ids() if _mark(id_) not in self._seen]  # type: ignore[attr-defined]  # a SwappedIndex
            for at in range(0, len(stale), 500):
                removed += cast("int", self._into.delete(stale[at : at + 500]))
            prepare = getattr(self._into, "prepare", None)  # what a search would have to wait for
            if prepare is not None:
                with suppress(MissingExtra):
                    prepare()
            self.index.take_over(self._into)  # type: ignore[attr-defined]  # a SwappedIndex
            self._into.close()
            self._forget_staged()
        size = getattr(self.index, "__len__", None)
        return removed, size() if size is not None else None

    def _done(self, result: R | Awaitable[R]) -> R:
        """Return what a method has returned; that of an async one is awaited on the loop."""
        if not inspect.isawaitable(result):
            return result

        async def awaited() -> R:
            return await result

        return asyncio.run_coroutine_threadsafe(awaited(), self._loop).result()

    def _forget_staged(self) -> None:
        assert self._staged is not None
        for path in self._staged.parent.glob(f"{self._staged.name}*"):
            path.unlink(missing_ok=True)

    def interrupt(self) -> None:
        """Have what takes long in ``finish`` end early; from any thread."""
        interrupt = getattr(self._into, "interrupt", None)
        if interrupt is not None:
            interrupt()

    def close(self) -> None:
        """Close the index, and let others write it."""
        try:
            index, into = getattr(self, "index", None), getattr(self, "_into", None)
            if into is not None and into is not index:
                into.close()
            if index is not None and self._is_ours:
                self._done(index.close())
        finally:
            if self._lock is not None:
                self._lock.__exit__(None, None, None)


def _mark(id_: str) -> bytes:
    return hashlib.blake2b(id_.encode(), digest_size=12).digest()


def _has_words_of(one: Passage, other: Passage) -> bool:
    return embedded_text(one) == embedded_text(other)


def _same(one: Passage, other: Passage) -> bool:
    return (one.title, one.text, dict(one.metadata)) == (other.title, other.text, dict(other.metadata))
