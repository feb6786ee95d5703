"""Passages for a query."""

from __future__ import annotations

from dspex.errors import MissingInput, NotInRequest
from dspex.programs.module import Module
from dspex.protocols.retrieval import Passage
from dspex.protocols.scope import current_scope

__all__ = ["Retrieve"]


class Retrieve(Module):
    """
    Search one of the App's retrievers: ``passages = await self.retrieve(question)``.

    Args:
        retriever: A name of the App's ``retrievers``; None is its default one.
        k: The number of passages to ask for.

    Raises:
        ValueError: ``k`` is not a positive number.
    """

    def __init__(self, retriever: str | None = None, *, k: int = 3) -> None:
        if k < 1:
            raise ValueError(f"k={k!r}: expected 1 or more passages")
        self.retriever = retriever
        self.k = k

    async def forward(self, query: str) -> list[Passage]:
        """
        Return the best passages, best first; fewer when the index holds fewer.

        Raises:
            MissingInput: The query is not a text; nothing was searched.
            RetrievalError: The index cannot be searched.
        Cancellation: the search is cancelled; a worker thread's late result is dropped.
        """
        scope = current_scope.get(None)
        if scope is None:
            raise NotInRequest("Retrieve")
        if not isinstance(query, str):
            raise MissingInput("Retrieve", invalid=[f"query is of type {type(query).__name__}, expected str"])
        return list(await scope.retrieve(query, self.k, retriever=self.retriever, step=self.retriever or "retrieve"))

    def __repr__(self) -> str:
        return f"Retrieve({f'{self.retriever!r}, ' if self.retriever else ''}k={self.k})"
