"""
Search by words at several sizes: ``python -m benchmarks.words 10000 1000000``.

``SqliteIndex`` and ``Bm25Index`` beside FTS5 alone and bm25s alone, all in this one process, each question asked of
each side in turn: a busy machine slows all sides alike. Times are the CPU time of a question, the least and the
median, and of building. The passages have 60 words, each as often as words of a language are. A question is the
first eight words of one, and most of these are in very many passages: this is the hard case.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import random
import resource
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from dspex import Passage, SqliteIndex
from dspex.retrieval import Bm25Index

WORDS, ASKED_WORDS, K = 60, 8, 10
QUESTIONS, ROUNDS = 12, 2
Search = Callable[[str], object]


def main() -> int:
    """Measure, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description="Measure searches by words.")
    parser.add_argument("sizes", type=int, nargs="*", default=[10_000], help="numbers of passages")
    options = parser.parse_args()
    print("| passages | search | least | median | CPU of building | on disk |\n|---|---|---|---|---|---|", flush=True)
    for size in options.sizes:
        with tempfile.TemporaryDirectory(prefix="dspex-") as folder, contextlib.ExitStack() as stack:
            measure(size, Path(folder), stack)
    print(f"\nThe most memory of the process: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:,.0f} MB")
    return 0


def measure(size: int, folder: Path, stack: contextlib.ExitStack) -> None:
    """Print the rows of one size."""
    asked = [" ".join(text.split()[:ASKED_WORDS]) for _, text in zip(range(QUESTIONS), texts(size), strict=False)]
    made: dict[str, tuple[Search, float, int]] = {}
    for name, side in {
        "`SqliteIndex`": sqlite_index,
        "FTS5 alone, in a file": fts5,
        "`Bm25Index`": bm25_index,
        "bm25s alone, in memory": bm25s,
    }.items():
        place = folder / str(len(made))
        place.mkdir()
        began = time.process_time()
        search = side(size, place, stack)
        spent = time.process_time() - began
        made[name] = (search, spent, sum(each.stat().st_size for each in place.rglob("*") if each.is_file()))
        print(f"{name}: built in {spent:,.0f} s", file=sys.stderr, flush=True)
    times: dict[str, list[float]] = {name: [] for name in made}
    for _ in range(ROUNDS):
        for question in asked:
            for name, (search, _, _) in made.items():
                began = time.process_time()
                search(question)
                times[name].append(time.process_time() - began)
    for name, each in times.items():
        each.sort()
        least, median = (f"{one * 1e3:,.2f} ms" for one in (each[0], each[len(each) // 2]))
        _, built, bytes_ = made[name]
        print(f"| {size:,} | {name} | {least} | {median} | {built:,.0f} s | {bytes_ / 1e6:,.0f} MB |", flush=True)


def texts(size: int) -> Iterator[str]:
    """Yield the texts of passages, the same each time, one by one: a million are not in memory at once."""
    chance = random.Random(1)
    vocabulary = [f"w{int(chance.paretovariate(1.0)) % 50_000}" for _ in range(100_000)]
    for _ in range(size):
        yield " ".join(chance.choices(vocabulary, k=WORDS))


def passages(size: int) -> Iterator[Passage]:
    return (Passage(text, id=str(number)) for number, text in enumerate(texts(size)))


def sqlite_index(size: int, folder: Path, stack: contextlib.ExitStack) -> Search:
    index = SqliteIndex.build(folder / "words.db", passages(size))
    stack.callback(index.close)
    return lambda question: index.search(question, K)


def fts5(size: int, folder: Path, stack: contextlib.ExitStack) -> Search:
    """A table that keeps its texts, as ours does; filled in one transaction."""
    database = stack.enter_context(contextlib.closing(sqlite3.connect(folder / "fts5.db")))
    with database:
        database.execute("CREATE VIRTUAL TABLE words USING fts5(title, text, tokenize = 'porter unicode61')")
        database.executemany("INSERT INTO words VALUES ('', ?)", ((text,) for text in texts(size)))
    statement = f"SELECT text, rank FROM words WHERE words MATCH ? ORDER BY rank LIMIT {K}"
    return lambda question: database.execute(statement, (" OR ".join(question.split()),)).fetchall()


def bm25_index(size: int, folder: Path, stack: contextlib.ExitStack) -> Search:
    index = Bm25Index.build(folder / "bm25", passages(size))
    stack.callback(index.close)
    return lambda question: index.search(question, K)


def bm25s(size: int, _folder: Path, _stack: contextlib.ExitStack) -> Search:
    """The library alone, with the texts' words split at spaces, and no texts to return."""
    library: Any = importlib.import_module("bm25s")
    index = library.BM25(method="lucene")
    words: Sequence[Sequence[str]] = [text.split() for text in texts(size)]
    index.index(words, show_progress=False)
    return lambda question: index.retrieve([question.split()], k=K, show_progress=False)


if __name__ == "__main__":
    sys.exit(main())
