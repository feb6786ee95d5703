"""Searching and indexing passages: ours, the libraries below, and DSPy's."""

from __future__ import annotations

import asyncio
import random
import sqlite3
import tempfile
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Any

import dspex
from benchmarks._contender import Run, Setup
from dspex.retrieval import Bm25Index, VectorIndex
from dspex.testing import FixedRetriever

PASSAGES = 10_000
WORDS = 60
DIMENSIONS = 384
K = 10


def passages(number: int = PASSAGES) -> list[dspex.Passage]:
    """Return passages of words that are as often as words are; the same each time."""
    chance = random.Random(1)
    vocabulary = [f"w{int(chance.paretovariate(1.0)) % 50_000}" for _ in range(100_000)]
    return [
        dspex.Passage(" ".join(chance.choices(vocabulary, k=WORDS)), id=str(at), metadata={"year": at % 30})
        for at in range(number)
    ]


def queries() -> list[str]:
    """Return questions: parts of passages."""
    return [" ".join(each.text.split()[:8]) for each in passages(64)]


def points(number: int, seed: int) -> Any:  # an array of numpy's
    import numpy as np

    return np.random.default_rng(seed).standard_normal((number, DIMENSIONS), dtype=np.float32)


def folder(setup: Setup) -> Path:
    return Path(setup.stack.enter_context(tempfile.TemporaryDirectory()))


def _each(search: Any) -> Run:
    """Return what calls a blocking search so often, with the queries in turn."""
    asked, number = queries(), count()

    def run(operations: int) -> None:
        for _ in range(operations):
            search(asked[next(number) % len(asked)])

    return run


# --- words ---------------------------------------------------------------------------------------------------


async def words(setup: Setup) -> Run:
    index = dspex.SqliteIndex.build(folder(setup) / "words.db", passages())
    setup.stack.callback(index.close)
    return _each(lambda query: index.search(query, K))


async def words_filtered(setup: Setup) -> Run:
    index = dspex.SqliteIndex.build(folder(setup) / "words.db", passages())
    setup.stack.callback(index.close)
    return _each(lambda query: index.search(query, K, {"year": [1, 2, 3]}))


async def fts5(_setup: Setup) -> Run:
    """SQLite's own table in memory, asked for texts and scores."""
    database = sqlite3.connect(":memory:")
    database.execute("CREATE VIRTUAL TABLE words USING fts5(text, tokenize = 'porter unicode61')")
    database.executemany("INSERT INTO words VALUES (?)", [(each.text,) for each in passages()])
    statement = "SELECT text, rank FROM words WHERE words MATCH ? ORDER BY rank LIMIT 10"
    return _each(lambda query: database.execute(statement, (" OR ".join(query.split()),)).fetchall())


async def bm25(setup: Setup) -> Run:
    index = Bm25Index.build(folder(setup) / "bm25", passages())
    setup.stack.callback(index.close)
    return _each(lambda query: index.search(query, K))


async def bm25s(_setup: Setup) -> Run:
    """The library alone, in memory, asked for numbers and scores."""
    import bm25s as library

    index = library.BM25(method="lucene")
    index.index([each.text.split() for each in passages()], show_progress=False)
    return _each(lambda query: index.retrieve([query.split()], k=K, show_progress=False))


# --- vectors -------------------------------------------------------------------------------------------------


class _Known:
    """An embedder that has made all vectors before."""

    def __init__(self) -> None:
        self.of = dict(zip(queries(), points(64, 2), strict=True))
        self.rest = iter(points(PASSAGES, 1))

    def __call__(self, texts: Sequence[str]) -> list[Any]:  # arrays of numpy's
        return [self.of[each] if each in self.of else next(self.rest) for each in texts]


async def vectors(setup: Setup) -> Run:
    index = VectorIndex.build(folder(setup) / "vectors.db", passages(), _Known())
    setup.stack.callback(index.close)
    return _each(lambda query: index.search(query, K))


async def numpy(_setup: Setup) -> Run:
    """The product and the best ten of it, nothing else."""
    import numpy as np

    matrix, asked = points(PASSAGES, 1), dict(zip(queries(), points(64, 2), strict=True))

    def search(query: str) -> Any:  # an array of numpy's
        scores = matrix @ asked[query]
        best = np.argpartition(-scores, K)[:K]
        return best[np.argsort(-scores[best])]

    return _each(search)


async def dspy_embeddings(_setup: Setup) -> Run:
    """DSPy's Embeddings without FAISS, which is what it does at this size."""
    import dspy
    import numpy as np

    known = _Known()
    embedder = dspy.Embedder(lambda texts: np.asarray(known(texts)), caching=False)
    search = dspy.Embeddings(corpus=[each.text for each in passages()], embedder=embedder, k=K, cache=False)
    return _each(search)


# --- indexing: an operation is a whole index ------------------------------------------------------------------


async def build_words(setup: Setup) -> Run:
    path, given = folder(setup) / "words.db", passages()

    def run(operations: int) -> None:
        for _ in range(operations):
            dspex.SqliteIndex.build(path, given).close()

    return run


async def build_fts5(setup: Setup) -> Run:
    """SQLite's own table in a file, filled in one transaction."""
    path, given = folder(setup) / "words.db", passages()

    def run(operations: int) -> None:
        for _ in range(operations):
            path.unlink(missing_ok=True)
            with sqlite3.connect(path) as database:
                database.execute("CREATE VIRTUAL TABLE words USING fts5(title, text, tokenize = 'porter unicode61')")
                database.executemany("INSERT INTO words VALUES ('', ?)", [(each.text,) for each in given])
            database.close()

    return run


async def build_bm25(setup: Setup) -> Run:
    path, given = folder(setup) / "bm25", passages()

    def run(operations: int) -> None:
        for _ in range(operations):
            Bm25Index.build(path, given).close()

    return run


async def build_bm25s(setup: Setup) -> Run:
    """The library alone, saved."""
    import bm25s as library

    path, given = folder(setup) / "bm25s", passages()

    def run(operations: int) -> None:
        for _ in range(operations):
            index = library.BM25(method="lucene")
            index.index([each.text.split() for each in given], show_progress=False)
            index.save(path, show_progress=False)

    return run


# --- the way to an index --------------------------------------------------------------------------------------


async def hop(setup: Setup) -> Run:
    """A search that costs nothing, through the App's actor and its thread."""
    app = await setup.stack.enter_async_context(dspex.App(retriever=FixedRetriever(["a"]), cache=None))
    tree = app.running_tree()

    async def run(operations: int) -> None:
        for _ in range(operations):
            await tree.retrieval.search(None, "query", 1, tree.runtime.clock.now() + 60.0)

    return run


async def to_thread(_setup: Setup) -> Run:
    index = FixedRetriever(["a"])

    async def run(operations: int) -> None:
        for _ in range(operations):
            await asyncio.to_thread(index.search, "query", 1)

    return run
