"""
Search by vectors at several sizes: ``python -m benchmarks.vectors 10000 100000``.

``VectorIndex`` with and without its graph, beside numpy alone, DSPy's Embeddings and sqlite-vec where they are
installed, all in this one process, each question asked of each side in turn: a busy machine slows all sides alike.
Times are the CPU time of a question, the least and the median. The vectors are of 384 numbers in 1,000 heaps, and lie
near 48 directions, as those of texts do; vectors without any order are found by no graph.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from dspex import Passage
from dspex.retrieval import VectorIndex

DIMENSIONS, HEAPS, DIRECTIONS, K = 384, 1_000, 48, 10
QUESTIONS, ROUNDS = 50, 3
Search = Callable[[Any], Sequence[int]]


def main() -> int:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description="Measure searches by vectors.")
    parser.add_argument("sizes", type=int, nargs="*", default=[10_000], help="numbers of vectors")
    options = parser.parse_args()
    print("| vectors | search | least | median | of the ten best | CPU of building |\n|---|---|---|---|---|---|")
    for size in options.sizes:
        with tempfile.TemporaryDirectory(prefix="dspex-") as folder, contextlib.ExitStack() as stack:
            measure(size, Path(folder), stack)
    return 0


def measure(size: int, folder: Path, stack: contextlib.ExitStack) -> None:
    """Print the rows of one size."""
    import numpy as np

    vectors, asked = heaps(size, 1), heaps(QUESTIONS, 2)
    made: dict[str, tuple[Search, float]] = {"numpy alone": (lambda vector: best_of(vectors @ vector), 0.0)}
    for name, limit in (("`VectorIndex`, exact", None), ("`VectorIndex`, graph", 0)):
        began = time.process_time()
        passages = (Passage("", id=str(number)) for number in range(size))
        path = folder / f"{limit}.db"
        index = VectorIndex.build(path, passages, "openai/none", vectors=vectors, exact_up_to=limit)
        made[name] = (searched(index), time.process_time() - began)
        stack.callback(index.close)
    for name, side in {"DSPy `Embeddings`": dspys, "sqlite-vec": sqlite_vec}.items():
        began = time.process_time()
        try:
            made[name] = (side(vectors, folder, stack), time.process_time() - began)
        except (ImportError, AttributeError) as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
    truth = [set(best_of(vectors @ vector)) for vector in asked]
    spent: dict[str, list[float]] = {name: [] for name in made}
    found = dict.fromkeys(made, 0)
    for turn in range(ROUNDS):
        for vector, wanted in zip(asked, truth, strict=True):
            for name, (search, _) in made.items():
                began = time.process_time()
                numbers = search(vector)
                spent[name].append(time.process_time() - began)
                found[name] += len(wanted.intersection(numbers)) if not turn else 0
    for name, times in spent.items():
        least, median = (f"{each * 1e3:,.2f} ms" for each in (min(times), float(np.median(times))))
        share = found[name] / K / QUESTIONS
        print(f"| {size:,} | {name} | {least} | {median} | {share:.1%} | {made[name][1]:,.1f} s |", flush=True)


def heaps(count: int, seed: int) -> Any:  # an array of numpy's
    """Return vectors of length 1 in heaps; the heaps are the same for each seed."""
    import numpy as np

    chance = np.random.default_rng(7)
    spread = chance.standard_normal((DIRECTIONS, DIMENSIONS), dtype=np.float32)
    middles = chance.standard_normal((HEAPS, DIRECTIONS), dtype=np.float32)
    chance = np.random.default_rng(seed)
    found = np.empty((count, DIMENSIONS), np.float32)
    for at in range(0, count, 50_000):  # or a million would be in memory several times
        some = min(50_000, count - at)
        points = middles[chance.integers(0, HEAPS, some)]
        points = points + 0.6 * chance.standard_normal((some, DIRECTIONS), dtype=np.float32)
        rows = points @ spread + 0.7 * chance.standard_normal((some, DIMENSIONS), dtype=np.float32)
        found[at : at + some] = rows / np.linalg.norm(rows, axis=1)[:, None]
    return found


def best_of(scores: Any) -> list[int]:  # an array of numpy's
    """Return the places of the ten highest."""
    import numpy as np

    best = np.argpartition(-scores, K)[:K]
    numbers: list[int] = best[np.argsort(-scores[best])].tolist()
    return numbers


def searched(index: VectorIndex) -> Search:
    index.check()
    return lambda vector: [int(each.id) for each in index.search("", K, vector=vector)]


def dspys(vectors: Any, _folder: Path, _stack: contextlib.ExitStack) -> Search:
    """DSPy's Embeddings without FAISS; it is asked with the vector, so that no embedder is measured."""
    dspy: Any = importlib.import_module("dspy")
    import numpy as np

    size, asked = len(vectors), [vectors[0]]

    def embed(texts: Sequence[str]) -> Any:  # an array of numpy's
        return np.asarray([vectors[int(text)] if text.isdecimal() else asked[0] for text in texts])

    index = dspy.Embeddings(
        corpus=[str(number) for number in range(size)],
        embedder=dspy.Embedder(embed, caching=False),
        k=K,
        cache=False,
        brute_force_threshold=size + 1,
    )

    def search(vector: Any) -> Sequence[int]:
        asked[0] = vector
        return list(index("the question").indices)

    return search


def sqlite_vec(vectors: Any, folder: Path, stack: contextlib.ExitStack) -> Search:
    """Its table of float32, which compares every vector; many a Python's SQLite loads no extension."""
    library: Any = importlib.import_module("sqlite_vec")

    database = stack.enter_context(contextlib.closing(sqlite3.connect(folder / "vec.db")))
    database.enable_load_extension(True)
    library.load(database)
    database.execute(f"CREATE VIRTUAL TABLE vectors USING vec0(vector float[{DIMENSIONS}] distance_metric=cosine)")
    with database:
        rows = ((number, each.tobytes()) for number, each in enumerate(vectors))
        database.executemany("INSERT INTO vectors(rowid, vector) VALUES (?, ?)", rows)
    statement = f"SELECT rowid FROM vectors WHERE vector MATCH ? AND k = {K}"
    return lambda vector: [number for (number,) in database.execute(statement, (vector.tobytes(),))]


if __name__ == "__main__":
    sys.exit(main())
