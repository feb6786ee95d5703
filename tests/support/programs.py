"""Programs, indexes and helpers that whole-tree tests share."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import dspex
from dspex.runtime import Process, Runtime

__all__ = ["RAG", "Ask", "Question", "build_index", "collect", "living", "until"]


class Question(dspex.Signature):
    """Answer the question."""

    question: str = dspex.InputField()
    answer: str = dspex.OutputField()


class FromPassages(dspex.Signature):
    """Answer the question from the passages."""

    passages: list[dspex.Passage] = dspex.InputField()
    question: str = dspex.InputField()
    answer: str = dspex.OutputField()


class Ask(dspex.Module):
    """One LM call."""

    def __init__(self) -> None:
        self.answer = dspex.Predict(Question)

    async def forward(self, question: str) -> Question:
        return await self.answer(question=question)


class RAG(dspex.Module):
    """A retrieval and an LM call."""

    def __init__(self, k: int = 3) -> None:
        self.retrieve = dspex.Retrieve(k=k)
        self.answer = dspex.Predict(FromPassages)

    async def forward(self, question: str) -> FromPassages:
        passages = await self.retrieve(question)
        return await self.answer(passages=passages, question=question)


def build_index(folder: Path, rows: int = 100) -> dspex.SqliteIndex:
    """Index passages that each have one word of their own, ``zebra<number>``."""
    passages = [dspex.Passage(text=f"This does thing {i} with zebra{i}", title=f"mod.fn{i}") for i in range(rows)]
    return dspex.SqliteIndex.build(folder / "index.db", passages)


async def until(condition: Callable[[], object], what: str = "the condition", seconds: float = 10.0) -> None:
    """Let the loop run until ``condition()`` holds; fail after ``seconds``."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - the condition is any state, not an event
            await asyncio.sleep(0)


def living(runtime: Runtime, prefix: str) -> list[Process]:
    """Return the live processes whose label begins with ``prefix``."""
    return [each for each in runtime.processes.values() if each.label.startswith(prefix) and each.alive]


@contextlib.contextmanager
def collect(app: dspex.App, prefix: str) -> Iterator[list[tuple[str, dict[str, Any]]]]:
    """Collect the events whose names begin with ``prefix``, measurements and metadata together."""
    events: list[tuple[str, dict[str, Any]]] = []
    detach = app.telemetry.attach(prefix, lambda name, numbers, facts: events.append((name, {**numbers, **facts})))
    try:
        yield events
    finally:
        detach()
