"""Passages for a query, or for several at once."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from dspex.errors import MissingInput, NotInRequest
from dspex.programs._attempts import side_by_side
from dspex.programs.module import Module
from dspex.protocols.executor import Failed
from dspex.protocols.filters import Filter, FilterLike, as_filter
from dspex.protocols.fusion import fused
from dspex.protocols.retrieval import Passage
from dspex.protocols.scope import Scope, current_scope

__all__ = ["Retrieve"]

_AT_ONCE: Final = 8
"""Queries of one call that are searched at the same time."""
_CANDIDATES: Final = 20
"""Passages, at least, that each of several queries is searched for, before they are fused."""


class Retrieve(Module):
    """
    Search one of the App's retrievers: ``passages = await self.retrieve(question)``.

    Args:
        retriever: A name of the App's ``retrievers``; None is its default one.
        k: The number of passages to ask for.
        filter: A filter by metadata for every search: ``{"year": 2020}``, or ``dspex.retrieval.Range(…)`` and others.

    Raises:
        ValueError: ``k`` is not a positive number.
        FilterInvalid: The filter cannot be asked.
    """

    def __init__(self, retriever: str | None = None, *, k: int = 3, filter: FilterLike | None = None) -> None:
        if k < 1:
            raise ValueError(f"k={k!r}: expected 1 or more passages")
        self.retriever = retriever
        self.k = k
        self.filter = as_filter(filter)

    async def forward(
        self, query: str | Sequence[str], *, k: int | None = None, filter: FilterLike | None = None
    ) -> list[Passage]:
        """
        Return the best passages, best first, with their scores; fewer when the index holds fewer.

        Several queries are searched at the same time and fused by their ranks (``dspex.retrieval.fused``): each passage
        is there once, and its score is the fused one. Queries that are the same count once.

        Args:
            query: A text, or several.
            k: The number of passages for this call; None takes the module's.
            filter: A filter for this call, instead of the module's.

        Raises:
            MissingInput: The query is not a text or a list of texts; nothing was searched.
            RetrievalError: The index cannot be searched, or cannot filter.
        Cancellation: the searches are cancelled; a worker thread's late result is dropped.
        """
        scope = current_scope.get(None)
        if scope is None:
            raise NotInRequest("Retrieve")
        queries = [query] if isinstance(query, str) else query
        if not isinstance(queries, (list, tuple)) or not queries or not all(isinstance(each, str) for each in queries):
            raise MissingInput("Retrieve", invalid=[f"query is of type {type(query).__name__}, expected str"])
        wanted = self.k if k is None else k
        if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
            raise MissingInput("Retrieve", invalid=[f"k={wanted!r:.60}: expected 1 or more passages"])
        chosen = self.filter if filter is None else as_filter(filter)
        if len(distinct := list(dict.fromkeys(queries))) == 1:
            return list(await self._search(scope, distinct[0], wanted, chosen))
        asked = max(wanted, _CANDIDATES)
        calls = [partial(self._search, scope, each, asked, chosen) for each in distinct]
        rankings: list[tuple[Passage, ...]] = []
        for outcome in await side_by_side(calls, max_concurrency=_AT_ONCE):
            if isinstance(outcome, Failed):
                raise outcome.reason
            rankings.append(outcome.value)
        return fused(rankings, wanted)

    async def _search(self, scope: Scope, query: str, k: int, filter: Filter | None) -> tuple[Passage, ...]:
        step = self.retriever or "retrieve"
        return await scope.retrieve(query, k, retriever=self.retriever, step=step, filter=filter)

    def __repr__(self) -> str:
        filtered = f", filter={self.filter!r}" if self.filter is not None else ""
        return f"Retrieve({f'{self.retriever!r}, ' if self.retriever else ''}k={self.k}{filtered})"
