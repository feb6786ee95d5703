"""Passages by the likeness of their vectors: search in memory over one file, exact or by a graph."""

from __future__ import annotations

import os
import re
import sqlite3
from array import array
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Final, Self

from dspex._random import fresh_id
from dspex.errors import ConfigError, FileError, MissingExtra, RetrievalError, VectorInvalid
from dspex.protocols.filters import Filter, FilterLike, as_filter
from dspex.protocols.retrieval import Embedder, Passage, Vector, checked_passages, embedded_text
from dspex.services.retrieval._matrix import Matrix, library, units
from dspex.services.retrieval._passage_file import FileKind, Writer, damage
from dspex.services.retrieval._sql_filter import sql_of
from dspex.services.retrieval._stored import BATCH, StoredPassages, batches_of, checked_k, write_file
from dspex.services.retrieval.embedding import check_embedder, embed_blocking, embedder_name
from dspex.services.retrieval.near import EXACT_UP_TO, GraphState, NearSearch, Snapshot

__all__ = ["VectorIndex"]

_KIND: Final = FileKind(
    application_id=0x44535056,  # "DSPV"
    version=1,
    tables=(
        # The stamp of a vector is the number of the change that wrote it: readers load what is newer than they are.
        "CREATE TABLE vectors(number INTEGER PRIMARY KEY, stamp INTEGER NOT NULL, vector BLOB NOT NULL)",
        "CREATE INDEX vectors_by_stamp ON vectors(stamp)",
        "CREATE INDEX facts_by_value ON facts(name, kind, value, passage)",
        "INSERT INTO state VALUES ('stamp', '0'), ('dimensions', '0'), ('embedder', '')",
    ),
    maker="VectorIndex.build(path, passages, embedder)",
)


_MOST: Final = 1_000_000
"""Numbers of a vector; more are damage."""
_TRIES: Final = 3
"""Graphs that are made because somebody else has made an older one meanwhile, or has changed the passages."""


class _VectorsWriter(Writer):
    """Keeps the vectors of the passages."""

    def __init__(self, connection: sqlite3.Connection, name: str, path: Path) -> None:
        super().__init__(connection)
        try:
            self._dimensions, stamp, embedder = _said(self.state)
        except ValueError as error:
            raise damage(str(error)) from error
        self._stamp = stamp + 1
        _check_embedder_is(embedder, name, path)
        self._name = name

    def put_vectors(self, passages: Sequence[Passage], vectors: Sequence[Vector]) -> None:
        """Add passages with a vector each; VectorInvalid when one is none, DimensionMismatch when it differs."""
        if not passages:
            return
        rows = units(vectors, self._dimensions, "a passage's vector")
        if not self._dimensions:
            self._dimensions = rows.shape[1]
        for passage, row in zip(passages, rows, strict=True):
            number, data = self.put(passage), row.tobytes()
            self.change_version(data)
            self.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", (number, self._stamp, data))

    def removed(self, number: int, title: str, text: str) -> None:
        self.execute("DELETE FROM vectors WHERE number = ?", (number,))

    def finish(self) -> None:
        written = {"stamp": str(self._stamp), "dimensions": str(self._dimensions), "embedder": self._name}
        for name, value in written.items():
            self.execute("UPDATE state SET value = ? WHERE name = ?", (value, name))
        super().finish()


class VectorIndex(StoredPassages[_VectorsWriter]):
    """
    A retriever over one file of passages and their vectors: the most alike first, by the cosine.

    All vectors are held in memory, as float32: 4 bytes for each number, so 150 MB for 100,000 vectors of 384. Up to
    ``exact_up_to`` of them the search compares every one. Above it a graph finds candidates (HNSW, by usearch), whose
    scores are exact; ``graph`` tells how good it is. The graph is made by ``build``, or in a thread when it is missing,
    damaged or old, and the search is exact until it is there. A search with a filter is always exact. It needs the
    extra ``vectors``.

    Search and changes work as in ``SqliteIndex``, with filters, and never wait for each other. An embedder that is a
    model is asked by the request that searches, so that its calls are cached, limited and paid for there; a blocking
    function is called in the index's own thread.

    Args:
        path: The file.
        embedder: Makes the vectors: a model (``"openai/text-embedding-3-small"``), an ``LM``, a function from texts to
            vectors, async or blocking, or ``HashingEmbedder()``.
        exact_up_to: The most vectors that are compared one by one; None for any number, 0 for a graph in any case.

    Raises:
        MissingExtra: The extra ``vectors`` is not installed.
        ConfigError: The embedder is none of these, or the number is below 0.
    """

    kind = _KIND

    def __init__(
        self, path: str | os.PathLike[str], embedder: Embedder, *, exact_up_to: int | None = EXACT_UP_TO
    ) -> None:
        check_embedder(embedder)
        library()
        if exact_up_to is not None and exact_up_to < 0:
            raise ConfigError(f"exact_up_to={exact_up_to} must be at least 0, or None")
        super().__init__(Path(path))
        self.embedder = embedder
        self._exact_up_to = exact_up_to
        self._near = NearSearch(self._path, _KIND, exact_up_to)
        self._matrix: Matrix | None = None
        self._loaded = ("", "", 0, "")  # the file's mark, the version, the stamp and the graph of what is in memory

    @classmethod
    def build(
        cls,
        path: str | os.PathLike[str],
        passages: Iterable[Passage],
        embedder: Embedder,
        progress: Callable[[int], object] | None = None,
        *,
        vectors: Iterable[Vector] | None = None,
        overwrite: bool = False,
        exact_up_to: int | None = EXACT_UP_TO,
    ) -> VectorIndex:
        """
        Write an index and return it; what was at ``path`` is replaced only when the new one is complete.

        Args:
            path: Where the file goes; a missing folder is made. An older index is replaced.
            passages: The passages to index.
            embedder: Makes the vectors, in batches of 500; a model or an async function needs ``vectors`` here.
            progress: Called with the number of passages taken so far, now and then.
            vectors: The passages' vectors, where you have them.
            overwrite: True replaces a file that is not an index, too.
            exact_up_to: Of more vectors than these a graph is made, too: about 0.3 ms of a core's time each.

        Raises:
            PassageInvalid, VectorInvalid: A passage or a vector cannot be kept.
            RetrievalError: The file cannot be written.
            TargetExists: Something else than an index stands there; it is untouched.
            FileBusy: Another process is building it.
        """
        index = cls(path, embedder, exact_up_to=exact_up_to)
        given = None if vectors is None else iter(vectors)

        def write(connection: sqlite3.Connection) -> None:
            _make_mark(connection)
            writer = index._writer_of(connection)
            for batch in batches_of(passages, progress):
                found = index._vectors_of(batch) if given is None else _next(given, len(batch))
                writer.put_vectors(batch, found)
            writer.finish()

        write_file(Path(path), _KIND, write, overwrite=overwrite)
        if exact_up_to is not None and len(index) > exact_up_to:
            with suppress(MissingExtra):  # of the graph: the search stays exact
                index.prepare()
        return index

    def search(
        self, query: str, k: int, filter: FilterLike | None = None, *, vector: Vector | None = None
    ) -> Sequence[Passage]:
        """
        Return the ``k`` passages most like ``query`` of those the filter fits; ties in the order of building.

        Where a graph is used, a passage may be missing in favour of one that is a little less like the query.

        Args:
            query: The text; it is embedded where no ``vector`` is given.
            k: The most passages to return.
            filter: A condition on the metadata; it acts before the best are chosen.
            vector: The query's vector, where it is there already.

        Raises:
            RetrievalError: There is no index at the path, it cannot be read, or ``k`` is below 1.
            DimensionMismatch: The query's vector is longer or shorter than those of the index.
            VectorInvalid: It is all zeros, or holds NaN or infinity.
            IndexDamaged: The file is not an index, damaged, or of another format.
            ConfigError: The embedder is a model or async, and no vector was given.
        """
        checked_k(k)
        asked = as_filter(filter)
        if vector is None:
            (vector,) = embed_blocking(self.embedder, [query])
        with self._one_state():
            matrix = self._fresh()
            if matrix is None:
                return []
            found = self._near.best(matrix, vector, k) if asked is None else None
            if found is None:
                found = matrix.best(vector, k, None if asked is None else self._fitting(asked))
            return self._passages(*found)

    def add(self, passages: Iterable[Passage], *, vectors: Iterable[Vector] | None = None) -> None:
        """
        Add passages, all or none; one whose id is there already takes its place. A file that is missing is made.

        Args:
            passages: The passages to add, with ``SqliteIndex.add``'s rules for ids.
            vectors: One for each of the passages, where they are there already; else the embedder makes them.

        Raises:
            PassageInvalid, VectorInvalid, DimensionMismatch: One cannot be kept; nothing was changed.
            RetrievalError: The file cannot be written; nothing was changed.
            ConfigError: The embedder is a model or async, and no vectors were given.
        """
        given = list(passages)
        checked = [each for number, passage in enumerate(given, 1) for each in checked_passages([passage], number)]
        if vectors is None:
            kept = list({each.id: each for each in checked}.values())
            found = [v for at in range(0, len(kept), BATCH) for v in self._vectors_of(kept[at : at + BATCH])]
        else:
            taken = _next(iter(vectors), len(checked))
            pairs = {each.id: (each, vector) for each, vector in zip(checked, taken, strict=True)}
            kept, found = [each for each, _ in pairs.values()], [vector for _, vector in pairs.values()]
        with self._change() as writer:
            writer.put_vectors(kept, found)

    def check(self) -> None:
        """Open the file and load the vectors, or raise what ``search`` would raise, early."""
        with self._one_state():
            self._fresh(later=False)

    def prepare(self) -> None:
        """
        Make the graph now and wait for it, where the index is large enough for one and not all is in it.

        Raises:
            RetrievalError: There is no index at the path, or it cannot be read or written.
            MissingExtra: usearch is not installed; it comes with the extra ``vectors``.
        """
        for _ in range(_TRIES):
            with self._one_state():
                matrix = self._fresh(later=False)
                if matrix is None or self._near.is_whole(matrix):
                    return
                mark, _, stamp, graph = self._loaded
                snapshot = Snapshot(mark, stamp, graph, *matrix.snapshot())
            try:
                if not self._near.make_now(snapshot):
                    return
            except (FileError, sqlite3.Error) as error:
                raise self._failed("written", error) from error

    def interrupt(self) -> None:
        """Have ``prepare`` return soon, without a graph; from any thread."""
        self._near.stop()

    @property
    def graph(self) -> GraphState:
        """How a search without a filter works now; raises what ``search`` raises."""
        with self._one_state():
            matrix = self._fresh(later=False)
            return self._near.state(0 if matrix is None else len(matrix))

    @property
    def made_with(self) -> str:
        """The name of the embedder that made the vectors; empty for a function. Raises what ``search`` raises."""
        return self._said()[2]

    @property
    def dimensions(self) -> int:
        """The length of the vectors; 0 while there is none. Raises what ``search`` raises."""
        return self._said()[0]

    def close(self) -> None:
        """Give back the file and the memory."""
        super().close()
        with self._reading:  # which whoever starts the thread of the graph holds
            self._near.close()
            self._matrix, self._loaded = None, ("", "", 0, "")

    def _said(self, state: dict[str, str] | None = None) -> tuple[int, int, str]:
        try:
            return _said(self._state() if state is None else state)
        except ValueError as error:
            raise self._damaged(str(error)) from error

    def _fresh(self, *, later: bool = True) -> Matrix | None:
        """
        Return the vectors in memory, after loading what has changed in the file; None while there are none.

        A graph that is missing or old is made by and by, where it is to be made ``later``.
        """
        state = self._state("mark", "version")
        mark, version, graph = state["mark"], state["version"], state.get("graph", "")
        dimensions, stamp, embedder = self._said(state)
        if self._loaded != (mark, version, stamp, graph):
            _check_embedder_is(embedder, embedder_name(self.embedder), self._path)
            self._load(mark, dimensions)
            self._loaded = (mark, version, stamp, graph)
            if self._matrix is not None:
                self._near.renew(self._matrix, mark, stamp, graph, self._newer)
        if later and self._matrix is not None:
            self._near.make_later(self._matrix, mark, stamp)
        return self._matrix

    def _load(self, mark: str, dimensions: int) -> None:
        if self._matrix is None or self._loaded[0] != mark:
            self._matrix, self._loaded = None, ("", "", 0, "")
            matrix = Matrix(dimensions) if dimensions else None
        else:
            matrix = self._matrix
        if matrix is not None:
            changed = self._newer(self._loaded[2])
            if not matrix.put(*changed):
                raise self._damaged("a vector is none")
            self._near.changed(*changed)
            ((count,),) = self._rows("SELECT count(*) FROM vectors")
            if count != len(matrix):
                kept = [number for (number,) in self._rows("SELECT number FROM vectors")]
                matrix.keep(kept)
                self._near.kept(kept)
        self._matrix = matrix

    def _newer(self, stamp: int) -> tuple[list[int], list[bytes]]:
        rows = self._rows("SELECT number, vector FROM vectors WHERE stamp > ? ORDER BY number", (stamp,))
        return [number for number, _ in rows], [data for _, data in rows]

    def _fitting(self, filter: Filter) -> list[int]:
        condition, arguments = sql_of(filter, "number", each=False)
        statement = f"SELECT number FROM passages WHERE {condition}"  # noqa: S608 - values are arguments
        return [number for (number,) in self._rows(statement, arguments)]

    def take_over(self, other: Self) -> None:
        """Hold what another index holds, its graph with it; raises as ``SqliteIndex.take_over``."""
        other.check()
        self._near.take(other._near)
        super().take_over(other)

    def beside(self, path: str | os.PathLike[str]) -> VectorIndex:
        """Return an index with the same embedder in another file, which need not be there."""
        return VectorIndex(path, self.embedder, exact_up_to=self._exact_up_to)

    def vectors(self, ids: Iterable[str]) -> dict[str, array[float]]:
        """Return the vectors of the passages that there are, by id, as float32 of length 1; raises as ``search``."""
        dimensions, _, embedder = self._said()
        _check_embedder_is(embedder, embedder_name(self.embedder), self._path)
        rows = self._rows_of("SELECT id, vector FROM passages JOIN vectors USING (number)", ids)
        if any(not isinstance(data, bytes) or len(data) != 4 * dimensions for _, data in rows):
            raise self._damaged("a vector is none")
        return {str(identity): array("f", data) for identity, data in rows}

    def _vectors_of(self, passages: Sequence[Passage]) -> list[Vector]:
        return embed_blocking(self.embedder, [embedded_text(each) for each in passages])

    def _writer_of(self, connection: sqlite3.Connection) -> _VectorsWriter:
        return _VectorsWriter(connection, embedder_name(self.embedder), self._path)

    def _make_missing(self) -> None:
        self.build(self._path, (), self.embedder)


def _said(state: dict[str, str]) -> tuple[int, int, str]:
    """Return the length of the vectors, the number of the last change and the embedder; ValueError when damaged."""
    found = [state.get(name, "") for name in ("dimensions", "stamp")]
    if not all(re.fullmatch("[0-9]{1,15}", each) for each in found) or int(found[0]) > _MOST or "embedder" not in state:
        raise ValueError("it does not say which vectors it holds")
    return int(found[0]), int(found[1]), state["embedder"]


def _make_mark(connection: sqlite3.Connection) -> None:
    connection.execute("INSERT INTO state VALUES ('mark', ?)", (fresh_id("vectors"),))


def _next(vectors: Iterable[Vector], count: int) -> list[Vector]:
    found = list(islice(vectors, count))
    if len(found) != count:
        raise VectorInvalid(f"there are fewer vectors than passages: {len(found)} for the last {count}")
    return found


def _check_embedder_is(known: str, name: str, path: Path) -> None:
    if known and name and known != name:
        raise RetrievalError(
            f"the index {path} was made with the embedder {known:.200}, and {name} makes other vectors: use the "
            "first, or build the index again"
        )
