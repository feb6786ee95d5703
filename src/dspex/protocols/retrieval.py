"""Passages, and what a step needs of an index."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

__all__ = ["Passage", "RetrievalService", "Retriever"]


@dataclass(frozen=True, slots=True)
class Passage:
    """
    A piece of text found by a retriever; a model is shown ``title | text``.

    Attributes:
        text: The text itself.
        title: The document it is from.
        score: The score by which it fits the query; higher is better, comparable within one search only.
        id: Its key in its index.
    """

    text: str
    title: str = ""
    score: float = 0.0
    id: str = ""

    def __str__(self) -> str:
        return f"{self.title} | {self.text}" if self.title else self.text


@runtime_checkable
class Retriever(Protocol):
    """An index as a user brings it: blocking methods, called in a worker thread, one thread at a time."""

    def search(self, query: str, k: int) -> Sequence[Passage]:
        """Return the ``k`` best passages, best first; raise RetrievalError when the index cannot be searched."""
        ...

    def close(self) -> None:
        """Give back files and memory; called once, from any thread."""
        ...


@runtime_checkable
class RetrievalService(Protocol):
    """The retrieval room's interface for a step."""

    async def search(self, retriever: str | None, query: str, k: int, deadline: float) -> tuple[Passage, ...]:
        """Search the named retriever (``None``: the default) until ``deadline`` (runtime clock seconds)."""
        ...
