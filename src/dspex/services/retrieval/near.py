"""
The approximate part of a search by vectors: a graph over the vectors of some change, and beside it all that is newer.

The graph is never changed. Vectors that were added since are compared exactly, those that are gone or written over are
left out of its candidates, and when both have become many a new graph is made: in a thread, and meanwhile the search is
exact where the old one does not do. The index's file names its graph, so that a graph of other passages is never taken
for its own.
"""

from __future__ import annotations

import stat
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dspex._clock import monotonic
from dspex._files import FileLock
from dspex.errors import FileBusy, FileError, MissingExtra
from dspex.services.retrieval import _passage_file as files
from dspex.services.retrieval._graph import RECALL, Graph, GraphFacts, graphs, make_graph, read_graph
from dspex.services.retrieval._matrix import Floats, Matrix, Numbers, units

if TYPE_CHECKING:
    from dspex.protocols.retrieval import Vector

__all__ = ["EXACT_UP_TO", "GraphState", "NearSearch", "Snapshot"]

EXACT_UP_TO: Final = 100_000
"""Vectors: one core compares so many of 384 numbers in about the time in which a small model makes a query's vector."""
_CANDIDATES: Final = 40
"""The least candidates that are asked for: the graph's eight bits confuse neighbours, the vectors tell them apart."""
_MOST_WANTED: Final = 250
"""A search for more is exact."""
_NEWER: Final = 1_000
"""Vectors beside the graph that cost nothing much; above it, they may be an eighth of it."""
_SHARE: Final = 8
_AGAIN_BUSY: Final = 10.0
_AGAIN_FAILED: Final = 600.0

Newer = Callable[[int], tuple[Sequence[int], Sequence[bytes]]]


@dataclass(frozen=True, slots=True)
class GraphState:
    """
    How a ``VectorIndex`` searches without a filter now.

    Attributes:
        used: True where a graph finds the candidates; False where every vector is compared.
        covered: The vectors in the graph; newer ones are compared exactly beside it.
        recall: The share of the ten most alike that the graph found when it was made, on average; 0 without a graph.
        building: True while a graph is being made here.
        why: The reason for not using one; empty where one is used.
    """

    used: bool
    covered: int
    recall: float
    building: bool
    why: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """
    The vectors of one change, the change, and the graph that there is then.

    Rows that are written over later are newer than a graph that is made of these.
    """

    mark: str
    stamp: int
    graph: str
    rows: Floats
    numbers: Numbers


class NearSearch:
    """
    The graph of one index; all methods but ``close`` and ``make_now`` are called by whoever holds the index's lock.

    Args:
        path: The index's file; the graph is beside it.
        kind: Its kind.
        exact_up_to: The most vectors that are compared one by one; None for any number.
    """

    def __init__(self, path: Path, kind: files.FileKind, exact_up_to: int | None) -> None:
        self.file = path.with_name(f"{path.name}.graph")
        self._path = path
        self._kind = kind
        self._exact_up_to = exact_up_to
        self._graph: Graph | None = None
        self._tail: Matrix | None = None  # the vectors that are newer than the graph
        self._read: str | None = None  # the name of the graph that was read last, or refused
        self._why = ""
        self._thread: threading.Thread | None = None
        self._stopped = threading.Event()
        self._next_try = 0.0

    def state(self, count: int) -> GraphState:
        """Return how an index of so many vectors is searched."""
        building = self._thread is not None and self._thread.is_alive()
        if not self._wanted(count):
            most = "any number" if self._exact_up_to is None else f"up to {self._exact_up_to:,}"
            return GraphState(used=False, covered=0, recall=0.0, building=building, why=f"{most} are compared exactly")
        if self._graph is None:
            return GraphState(used=False, covered=0, recall=0.0, building=building, why=self._why)
        facts = self._graph.facts
        return GraphState(self._is_good(), facts.count, facts.recall, building, self._why)

    def renew(self, matrix: Matrix, mark: str, stamp: int, named: str, newer: Newer) -> None:
        """
        Take the graph that the index's file names.

        Args:
            matrix: All vectors.
            mark: The file's mark.
            stamp: The number of the last change.
            named: The name of the graph; empty for none.
            newer: Returns the numbers and the vectors of all changes behind one.
        """
        if not self._wanted(len(matrix)):
            self._forget()
        elif named != self._read or (self._graph is not None and self._graph.facts.mark != mark):
            self._forget()
            try:
                graphs()
            except MissingExtra as error:
                self._why = str(error)
                return
            found = read_graph(self.file, named) if named else "it is not made yet"
            if isinstance(found, Graph):
                facts = found.facts
                if (facts.mark, facts.dimensions) != (mark, matrix.dimensions) or facts.stamp > stamp:
                    found = "its file is that of other passages"
            self._read, tail = named, Matrix(matrix.dimensions)
            if isinstance(found, Graph) and not tail.put(*newer(found.facts.stamp)):
                found = "a vector is damaged"
            if isinstance(found, str):
                self._why = f"there is no graph: {found}"
            else:
                self._graph, self._tail = found, tail
                poor = f"the graph finds {found.facts.recall:.0%} of the ten most alike, {RECALL:.0%} are wanted"
                self._why = "" if self._is_good() else poor

    def changed(self, numbers: Sequence[int], data: Sequence[bytes]) -> None:
        """Hear of vectors that were added or written over."""
        if self._tail is not None:
            self._tail.put(numbers, data)

    def kept(self, numbers: Sequence[int]) -> None:
        """Hear that there are no others."""
        if self._tail is not None:
            self._tail.keep(numbers)

    def make_later(self, matrix: Matrix, mark: str, stamp: int) -> None:
        """Begin to make a graph where one is missing or old, unless one is being made."""
        if not self._is_due(len(matrix)) or monotonic() < self._next_try:
            return
        if self._thread is not None and self._thread.is_alive():
            return
        try:
            graphs()
        except MissingExtra:
            return
        self._stopped.clear()
        snapshot = Snapshot(mark, stamp, self._read or "", *matrix.snapshot())
        self._thread = threading.Thread(
            target=self._make, args=(snapshot,), name=f"dspex-graph-{self._path.name}", daemon=True
        )
        self._thread.start()

    def best(self, matrix: Matrix, vector: Vector, k: int) -> tuple[list[int], list[float]] | None:
        """Return what ``Matrix.best`` returns for all, nearly; None where the search must be exact."""
        graph, tail = self._graph, self._tail
        if graph is None or tail is None or k > _MOST_WANTED or not self._is_good():
            return None
        (asked,) = units([vector], matrix.dimensions, "the query's vector")
        asked_for = min(max(_CANDIDATES, 4 * k), graph.facts.count)
        among = [each for each in graph.near(asked, asked_for) if each in matrix and each not in tail]
        if len(among) < min(2 * k, len(matrix) - len(tail)):
            return None  # too many of the candidates are gone
        found = matrix.best(vector, k, among)
        if not len(tail):
            return found
        newer = tail.best(vector, k, None)
        both = sorted(zip([*found[0], *newer[0]], [*found[1], *newer[1]], strict=True), key=lambda each: each[0])
        both.sort(key=lambda each: -each[1])
        return [number for number, _ in both[:k]], [score for _, score in both[:k]]

    def is_whole(self, matrix: Matrix) -> bool:
        """True where a new graph would be the same, or is not wanted."""
        if not self._wanted(len(matrix)):
            return True
        return self._graph is not None and not self._beside(len(matrix))

    def make_now(self, snapshot: Snapshot) -> bool:
        """
        Make a graph and wait for it; one that another process is making is waited for, and may do as well.

        Returns:
            False where it was stopped.

        Raises:
            MissingExtra: The library is not installed.
            FileError, RetrievalError: The files cannot be written.
        """
        graphs()
        self._stopped.clear()
        if self._thread is not None:
            self._thread.join()
        with FileLock(self.file, wait=True):
            if self._named() == snapshot.graph:
                self._write(snapshot, threads=0)
        return not self._stopped.is_set()

    def stop(self) -> None:
        """Have ``make_now`` return soon; from any thread."""
        self._stopped.set()

    def take(self, other: NearSearch) -> None:
        """Put another index's graph into the place of this one, before its passages come."""
        with suppress(FileError, OSError), FileLock(self.file):  # a graph that is missing is made again
            other.file.replace(self.file)

    def close(self) -> None:
        """Stop what is being made, and give back the memory."""
        self._stopped.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._forget()

    # --- the thread ---------------------------------------------------------------------------------------------

    def _make(self, snapshot: Snapshot) -> None:
        try:
            with FileLock(self.file):
                if self._named() == snapshot.graph:  # or somebody was faster
                    self._write(snapshot, threads=1)
        except FileBusy:
            self._next_try = monotonic() + _AGAIN_BUSY
        except Exception as error:  # noqa: BLE001 - whatever it is, the search stays exact and tells why
            self._why, self._next_try = f"no graph can be made: {error}", monotonic() + _AGAIN_FAILED

    def _write(self, snapshot: Snapshot, threads: int) -> None:
        made = self.file.with_name(f".{self.file.name}.new")
        try:
            facts = make_graph(
                made, snapshot.rows, snapshot.numbers, snapshot.mark, snapshot.stamp, threads, self._stopped.is_set
            )
            if facts is not None:
                made.chmod(stat.S_IMODE(self._path.stat().st_mode))
                self._name(facts, made)
        except OSError as error:
            raise FileError(self.file, f"it cannot be written: {error}") from error
        finally:
            made.unlink(missing_ok=True)

    def _name(self, facts: GraphFacts, made: Path) -> None:
        """
        Have the index's file name the graph.

        The graph's file is in its place before it is named: whoever reads between the two finds a name that differs,
        and goes on without. The transaction keeps the passages from being replaced between the look at the mark and
        the end.
        """
        with closing(files.open_writer(self._path, self._kind)) as connection:
            connection.execute("BEGIN IMMEDIATE")
            state = files.checked_state(connection.execute(files.STATE).fetchall(), ("mark",))
            if state["mark"] == facts.mark:
                made.replace(self.file)
                connection.execute("INSERT OR REPLACE INTO state VALUES ('graph', ?)", (facts.id,))
            connection.execute("COMMIT")

    def _named(self) -> str:
        with closing(files.open_reader(self._path, self._kind)) as connection:
            return files.checked_state(connection.execute(files.STATE).fetchall(), ()).get("graph", "")

    # --- what is so ---------------------------------------------------------------------------------------------

    def _wanted(self, count: int) -> bool:
        return self._exact_up_to is not None and count > self._exact_up_to

    def _is_good(self) -> bool:
        return self._graph is not None and self._graph.facts.recall >= RECALL

    def _beside(self, count: int) -> int:
        """Return how many vectors are newer than the graph, and how many of the graph are no more."""
        assert self._graph is not None
        assert self._tail is not None
        newer = len(self._tail)
        return newer + self._graph.facts.count - (count - newer)

    def _is_due(self, count: int) -> bool:
        if not self._wanted(count):
            return False
        return self._graph is None or self._beside(count) > max(_NEWER, self._graph.facts.count // _SHARE)

    def _forget(self) -> None:
        self._graph, self._tail, self._read, self._why = None, None, None, ""
