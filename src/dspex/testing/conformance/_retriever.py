"""The contract of a retriever: passages, best first, from any thread; hostile queries are answered or refused."""

from __future__ import annotations

from abc import ABC, abstractmethod
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from dspex.errors import RetrievalError
from dspex.protocols.retrieval import Passage, Retriever

__all__ = ["RetrieverContract"]

_HOSTILE: Final = (
    *("", " ", '"', "'", "*", "a*", "-", "NOT", "a AND", "OR OR", "(", ")", "a:b", "col:", "^", "{", "NEAR(", "%", "_"),
    *("\\", "\x00", "a\x00b", "\ud800", "é" * 3, "İ", "😀", "a\r\nb", "'; DROP TABLE passages; --", "word " * 5_000),
    "x" * 100_000,
)


class RetrieverContract(ABC):
    """The contract of every ``Retriever``; the subclass makes one that finds ``query``."""

    query: str = "heron"
    """A query that finds at least one passage."""

    @abstractmethod
    def make_retriever(self) -> Retriever:
        """Return a retriever with a few passages in it."""

    def test_it_has_both_methods(self) -> None:
        """``search`` and ``close``."""
        retriever = self.make_retriever()
        try:
            assert isinstance(retriever, Retriever), f"{type(retriever).__name__} lacks search() or close()"
        finally:
            retriever.close()

    def test_it_returns_at_most_k_passages(self) -> None:
        """And something at all for its query."""
        retriever = self.make_retriever()
        try:
            for k in (1, 2, 50):
                found = retriever.search(self.query, k)
                assert 1 <= len(found) <= k, f"search(..., {k}) returned {len(found)} passages"
                assert all(isinstance(each, Passage) for each in found), "what it returned are not all passages"
        finally:
            retriever.close()

    def test_the_best_come_first(self) -> None:
        """Scores never rise; fewer passages are the beginning of more."""
        retriever = self.make_retriever()
        try:
            found = list(retriever.search(self.query, 50))
            scores = [each.score for each in found]
            assert scores == sorted(scores, reverse=True), f"the scores rise: {scores}"
            assert list(retriever.search(self.query, 1)) == found[:1], "search(..., 1) is not the first of many"
        finally:
            retriever.close()

    def test_the_same_search_finds_the_same(self) -> None:
        """The evaluation of a program that retrieves could not be repeated otherwise."""
        retriever = self.make_retriever()
        try:
            assert list(retriever.search(self.query, 5)) == list(retriever.search(self.query, 5))
        finally:
            retriever.close()

    def test_it_works_in_another_thread(self) -> None:
        """It is made in one thread, searched in a second, and closed in a third."""
        retriever = self.make_retriever()
        with ThreadPoolExecutor(1) as searching, ThreadPoolExecutor(1) as closing:
            found = searching.submit(retriever.search, self.query, 3).result()
            closing.submit(retriever.close).result()
        assert found, "it found nothing from another thread"

    def test_a_hostile_query_is_answered_or_refused(self) -> None:
        """Queries come from models: passages, or ``RetrievalError``, and the next search works."""
        retriever = self.make_retriever()
        try:
            for query in _HOSTILE:
                try:
                    found = retriever.search(query, 3)
                except RetrievalError:
                    continue
                assert len(found) <= 3, f"{query[:20]!r} found more than k passages"
            assert retriever.search(self.query, 1), "after hostile queries it finds nothing"
        finally:
            retriever.close()
