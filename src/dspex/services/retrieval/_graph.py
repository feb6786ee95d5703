"""
A graph over vectors that finds nearly the most alike, and the file that it is kept in.

The algorithm is HNSW (Malkov and Yashunin, 2016), by the library usearch, over vectors rounded to eight bits. It finds
candidates; their scores are worked out from the vectors themselves.

The file is the library's own, with a last page behind it that says what it is, and has its digest: a library that reads
a damaged file may crash the process.
"""

from __future__ import annotations

import hashlib
import importlib
import json
import mmap
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Final

from dspex._files import make_private, parse_json
from dspex._random import fresh_id
from dspex.errors import FileError, MissingExtra
from dspex.services.retrieval._matrix import Floats, Numbers, library

__all__ = ["RECALL", "Graph", "GraphFacts", "graphs", "make_graph", "read_graph", "seal"]

RECALL: Final = 0.95
"""The least share of the ten most alike that a graph finds on average; one that finds fewer is not used."""
_TEN: Final = 10
_CANDIDATES: Final = 40
"""The candidates that are asked for where ten are wanted: eight bits confuse neighbours."""
_EXPANSIONS: Final = (64, 128, 256, 512)
"""How many places a search of the graph keeps in view: the first that finds enough is taken."""
_CONNECTIVITY: Final = 16
_EXPANSION_ADD: Final = 128
_ASKED: Final = 64
"""Searches by which a new graph is tried."""
_BATCH: Final = 256
"""Vectors between two looks at whether to go on."""
_MAGIC: Final = b"dspex graph 1\n"
_PAGE: Final = 4096


def graphs() -> ModuleType:
    """Return the library; MissingExtra where it is not installed."""
    try:
        return importlib.import_module("usearch.index")  # an extra
    except ImportError as error:
        raise MissingExtra("vectors", "searching vectors by a graph") from error


@dataclass(frozen=True, slots=True)
class GraphFacts:
    """
    The last page of a graph's file.

    Attributes:
        id: Its name, which the index names, too: a file that somebody has left there is not taken for it.
        mark: The file of the passages.
        stamp: The last change of the passages that it knows.
        count: Its vectors.
        dimensions: Their length.
        expansion: How many places a search keeps in view.
        recall: The share of the ten most alike that it found when it was made, on average.
    """

    id: str
    mark: str
    stamp: int
    count: int
    dimensions: int
    expansion: int
    recall: float


class Graph:
    """A graph that can be searched, by one thread at a time."""

    def __init__(self, facts: GraphFacts, index: Any, held: object = None) -> None:  # an index of the library
        self.facts = facts
        self._index = index
        self._held = held  # the memory that the index is in

    def near(self, vector: Floats, most: int) -> list[int]:
        """Return the numbers of so many vectors that are like one of length 1, in no order; fewer are an accident."""
        self._index.expansion_search = max(self.facts.expansion, most)
        found = self._index.search(_rounded(vector[None])[0], most, threads=1)
        numbers: list[int] = found.keys.astype("int64").tolist()
        return numbers


def make_graph(
    path: Path, rows: Floats, numbers: Numbers, mark: str, stamp: int, threads: int, stopped: Callable[[], bool]
) -> GraphFacts | None:
    """
    Write the graph over some vectors; blocks, for 0.3 ms of a core's time or more a vector.

    The memory of the vectors may change meanwhile: what is read then is another vector, no error.

    Args:
        path: The file; what is there is written over.
        rows: The vectors, of length 1.
        numbers: Their numbers.
        mark: The file of the passages.
        stamp: The last change that the vectors have.
        threads: The threads that work on it; 0 for as many as there are cores.
        stopped: Asked now and then; True gives up.

    Returns:
        The facts; None where it was given up.

    Raises:
        FileError: The file cannot be written.
    """
    count, dimensions = rows.shape
    index = _new_index(dimensions)
    for at in range(0, count, _BATCH):
        if stopped():
            return None
        index.add(numbers[at : at + _BATCH], _rounded(rows[at : at + _BATCH]), threads=threads)
    tried = _tried(index, rows, numbers, stopped)
    if tried is None:
        return None
    expansion, recall = tried
    facts = GraphFacts(fresh_id("graph"), mark, stamp, count, dimensions, expansion, recall)
    try:
        path.unlink(missing_ok=True)
        make_private(path)
        index.save(path)
        seal(path, facts)
    except (OSError, RuntimeError) as error:  # the library's own is RuntimeError
        raise FileError(path, f"it cannot be written: {error}") from error
    return facts


def seal(path: Path, facts: GraphFacts) -> None:
    """Write the last page behind the library's part of a file; raises OSError."""
    with path.open("r+b") as file:
        head = json.dumps(asdict(facts)).encode().ljust(_PAGE - len(_MAGIC) - 64)
        digest = hashlib.file_digest(file, "sha256")
        digest.update(head)
        file.seek(0, os.SEEK_END)
        file.write(head + digest.hexdigest().encode() + _MAGIC)
        file.flush()
        os.fsync(file.fileno())  # before the index names this file


def read_graph(path: Path, identity: str) -> Graph | str:
    """Return the graph of that name from its file, mapped into memory; or why there is none."""
    try:
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            if size <= _PAGE:
                return "its file is cut off"
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    except FileNotFoundError:
        return "its file is missing"
    except (OSError, ValueError) as error:
        return f"its file cannot be read: {error}"
    content = memoryview(mapped)
    head, digest, magic = content[-_PAGE:-78], bytes(content[-78:-14]), bytes(content[-14:])
    if magic != _MAGIC:
        return "its file is damaged, or of another format"
    if hashlib.sha256(content[:-78]).hexdigest().encode() != digest:
        return "its file is damaged"
    try:
        facts = GraphFacts(**parse_json(bytes(head)))  # as we wrote it: it has our digest
        if facts.id != identity:
            return "its file is that of another one"
        index = _new_index(facts.dimensions)
        index.view(content[:-_PAGE])
    except (RuntimeError, TypeError, ValueError) as error:  # of another version of the library
        return f"its file cannot be read: {error}"
    return Graph(facts, index, mapped) if len(index) == facts.count else "its file is damaged"


def _new_index(dimensions: int) -> Any:  # an index of the library
    return graphs().Index(
        ndim=dimensions,
        metric="cos",
        dtype="i8",
        connectivity=_CONNECTIVITY,
        expansion_add=_EXPANSION_ADD,
    )


def _rounded(rows: Floats) -> Any:  # an array of bytes of numpy's
    """Return vectors as whole numbers from -127 to 127, each stretched so that its largest is one of the two."""
    np = library()
    largest = np.abs(rows).max(axis=1, keepdims=True)
    return np.rint(rows * (127 / np.maximum(largest, 1e-30))).astype(np.int8)


def _tried(
    index: Any,  # of the library
    rows: Floats,
    numbers: Numbers,
    stopped: Callable[[], bool],
) -> tuple[int, float] | None:
    """
    Return how many places a search must keep in view, and the share of the ten most alike that are found then.

    The questions lie between two vectors of the index each. Of vectors that are equally alike any is right.
    """
    np = library()
    chance = np.random.default_rng(0)
    pairs = chance.integers(0, len(rows), (_ASKED, 2))
    asked = rows[pairs[:, 0]] + rows[pairs[:, 1]] / 2
    place = {int(number): at for at, number in enumerate(numbers)}
    ten = min(_TEN, len(rows))
    worst = []
    for question in asked:
        if stopped():
            return None
        scores = rows @ question
        worst.append(np.partition(scores, len(scores) - ten)[len(scores) - ten])
    facts = GraphFacts("", "", 0, len(rows), rows.shape[1], 0, 0.0)
    expansion, recall = 0, 0.0
    for expansion in _EXPANSIONS:
        graph = Graph(GraphFacts(**{**asdict(facts), "expansion": expansion}), index)
        found = 0
        for question, least in zip(asked, worst, strict=True):
            places = [place[each] for each in graph.near(question, min(_CANDIDATES, len(rows)))]
            found += min(ten, int((rows[places] @ question >= least - 1e-6).sum()))
        recall = found / (ten * _ASKED)
        if recall >= RECALL:
            break
    return expansion, recall
