"""An index that always finds the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import islice

from dspex.protocols.filters import Filter, fits
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

    def search(self, query: str, k: int, filter: Filter | None = None) -> Sequence[Passage]:
        """Return the first ``k`` passages that the filter fits."""
        self.queries.append((query, k))
        found = self._passages(query) if callable(self._passages) else self._passages
        passages = (each if isinstance(each, Passage) else Passage(each) for each in found)
        return list(islice((each for each in passages if fits(filter, each.metadata)), k))

    def close(self) -> None:
        """Nothing is open."""
