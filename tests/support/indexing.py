"""Passages and an index with an embedder, and a process that fills it: what tests of indexing share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np  # before a loop runs, which it would hold up

import dspex
from dspex import App
from dspex.indexing import IndexReport
from dspex.retrieval import VectorIndex

__all__ = ["BATCH", "WORDS", "child", "content", "index_of", "passages", "simulated"]

BATCH = 5
WORDS = ("heron", "swift", "wren", "robin", "crane")


def passages(count: int, changed: int = 0) -> Iterator[dspex.Passage]:
    """Passages, the first so many of them in another version."""
    for number in range(count):
        text = f"The {WORDS[number % 5]} number {number} waits{' and sings' if number < changed else ''}."
        yield dspex.Passage(text, title=f"Bird {number}", id=f"b{number}", metadata={"number": number})


def simulated(url: str, home: Path) -> App:
    """An App without a cache, so that whatever is asked for twice arrives twice."""
    return App(lms={"embed": dspex.LM("openai/embed-1", api_base=url, api_key="none")}, home=home, cache=None)


def index_of(path: Path) -> VectorIndex:
    """An index whose vectors a model makes."""
    return VectorIndex(path, "embed")


def content(path: Path) -> list[tuple[object, ...]]:
    """All that an index file holds, vectors included."""
    index = index_of(path)
    try:
        ids = sorted(index.ids())
        found, vectors = index.get(ids), index.vectors(ids)
        return [
            (id_, found[id_].title, found[id_].text, dict(found[id_].metadata), np.asarray(vectors[id_]).tobytes())
            for id_ in ids
        ]
    finally:
        index.close()


def child(url: str, home: str, path: str, count: int, at_once: int) -> None:
    """Build the index; prints a line for each batch that is in it."""

    async def build() -> IndexReport:
        async with simulated(url, Path(home)) as app:
            app.telemetry.attach("dspex.index.progress", lambda *_: print("batch", flush=True))  # noqa: T201 - read by the test
            job = await app.index(passages(count), index_of(Path(path)), batch=BATCH, max_concurrency=at_once)
            print("started", flush=True)  # noqa: T201 - read by the test
            return await job.result()

    print(asyncio.run(build()), flush=True)  # noqa: T201 - read by the test
