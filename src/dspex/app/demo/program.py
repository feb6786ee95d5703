"""The program of the demo: retrieval, then an answer from what was found."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dspex.programs import ChainOfThought, InputField, Module, OutputField, Retrieve, Signature
from dspex.protocols.retrieval import Passage
from dspex.services.retrieval.sqlite_index import SqliteIndex

__all__ = ["RAG", "NameFromPassages", "WithGold"]


class NameFromPassages(Signature):
    """Name what the question describes."""

    passages: list[Passage] = InputField()
    question: str = InputField()
    answer: str = OutputField(desc="the dotted name of a function, class or method")


class RAG(Module):
    """
    Answer questions from an index.

    Args:
        retriever: A name of the App's retrievers; None is its default one.
        k: The number of passages that are read for one question.
    """

    def __init__(self, retriever: str | None = None, *, k: int = 3) -> None:
        self.retrieve = Retrieve(retriever, k=k)
        self.answer = ChainOfThought(NameFromPassages)

    async def forward(self, question: str) -> NameFromPassages:
        """Find passages and read the answer from them."""
        passages = await self.retrieve(question)
        return await self.answer(passages=passages, question=question)


class WithGold:
    """
    A retriever that never misses: where the search leaves the right passage out, it takes the last one's place.

    It shows how far the answers could get if retrieval were perfect.

    Args:
        retriever: The retriever.
        gold: The right passage by question.
    """

    def __init__(self, retriever: SqliteIndex, gold: Mapping[str, Passage]) -> None:
        self._retriever = retriever
        self._gold = gold

    def search(self, query: str, k: int) -> Sequence[Passage]:
        """Return what was found, the right passage among it."""
        found = list(self._retriever.search(query, k))
        gold = self._gold.get(query)
        if gold is None or any(passage.title == gold.title for passage in found):
            return found
        return [*found[: k - 1], gold]

    def close(self) -> None:
        """Close what searches."""
        self._retriever.close()
