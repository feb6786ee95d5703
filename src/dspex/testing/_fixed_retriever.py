"""An index that always finds the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from dspex.protocols.retrieval import Passage

__all__ = ["FixedRetriever"]


class FixedRetriever:
    """
    A ``Retriever`` for tests: ``App(retriever=FixedRetriever(["Ada wrote it."]))``.

    Args:
        passages: The result of every search, at most ``k`` passages: texts or Passages; or a function of the query.

    Attributes:
        queries: The searches, as (query, k), oldest first.
    """

    def __init__(self, passages: Sequence[str | Passage] | Callable[[str], Sequence[str | Passage]] = ()) -> None:
        self._passages = passages
        self.queries: list[tuple[str, int]] = []

    def search(self, query: str, k: int) -> Sequence[Passage]:
        """Return the first ``k`` passages."""
        self.queries.append((query, k))
        found = self._passages(query) if callable(self._passages) else self._passages
        return [each if isinstance(each, Passage) else Passage(each) for each in found[:k]]

    def close(self) -> None:
        """Nothing is open."""
