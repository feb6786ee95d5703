"""Results of searches, kept in the App's cache under the version of the index."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable, Mapping, Sequence

from dspex.errors import RetrievalError
from dspex.protocols.cache import CacheMode, CacheService, Hit, Lead
from dspex.protocols.filters import Filter, filter_to_json
from dspex.protocols.lm import Completion, LMResponse, Usage
from dspex.protocols.retrieval import Passage
from dspex.services.retrieval.composites import AskPart, RetrieverLike

__all__ = ["Cached", "from_cache", "search_key"]

Version = Callable[[], Awaitable[str]]


class Cached:
    """
    Keeps what a retriever finds in the App's cache: ``App(retriever=Cached(VectorIndex(…)), cache="cache.db")``.

    The version of the index is a part of the key, so a changed index is never answered from the old one. The words of
    ``cache=`` mean what they mean for calls: ``use``, ``refresh``, ``bypass``, ``only``. Identical searches at once are
    one search. It is worth its while where a search costs more than a look into the cache: for large indexes, and where
    a model makes the vector of the query.

    Args:
        retriever: An index with a ``version``: ours that are files, or your own.
    """

    def __init__(self, retriever: RetrieverLike) -> None:
        self.parts: Mapping[str, RetrieverLike] = {"found": retriever}

    async def search_parts(self, ask: AskPart, query: str, k: int, filter: Filter | None) -> Sequence[Passage]:
        """Ask the retriever; the room looks into the cache before."""
        return await ask("found", query, k, filter)

    def __repr__(self) -> str:
        return f"Cached({self.parts['found']!r})"


def search_key(retriever: object, version: str, query: str, k: int, filter: Filter | None) -> str:
    """Return the digest of a search: same index, same content of it, same question, same key."""
    asked = ["search-1", repr(retriever), version, query, k, None if filter is None else filter_to_json(filter)]
    return hashlib.sha256(json.dumps(asked).encode()).hexdigest()


async def from_cache(
    cache: CacheService,
    key: str,
    mode: CacheMode,
    deadline: float,
    search: Callable[[], Awaitable[Sequence[Passage]]],
    is_current: Callable[[], Awaitable[bool]],
) -> Sequence[Passage]:
    """
    Return what is kept under a key, or search and keep it.

    Args:
        cache: The App's cache.
        key: That of ``search_key``.
        mode: ``use``, ``refresh`` or ``only``.
        deadline: Runtime clock seconds.
        search: Searches.
        is_current: Tells whether the index still is what the key says; what was found in another one is not kept.

    Raises:
        RetrievalError: The mode is ``only`` and nothing is kept; and what ``search`` raises.
    Cancellation: the lead passes to the next that waits.
    """
    reads = mode != "refresh"
    found = _passages(cache.peek(key)) if reads else None
    if found is not None:
        return found
    hit = await cache.lookup(key, deadline, read=reads)
    if isinstance(hit, Hit):
        found = _passages(hit.response)
        if found is not None:
            return found
        hit = await cache.lookup(key, deadline, read=False)  # a damaged one: nobody shall have it again
    lead = hit if isinstance(hit, Lead) else None
    try:
        if mode == "only":
            raise RetrievalError("the result is not in the cache and cache='only' forbids searching")
        found = tuple(await search())
        # Looked at behind the search: a change between the two would keep the new result under the old version.
        if lead is not None and await is_current():
            cache.fill(lead, _answer(found))
            lead = None
    finally:
        if lead is not None:
            cache.abandon(lead, None)
    return found


def _answer(passages: Sequence[Passage]) -> LMResponse:
    """Return passages in the form in which every tier of the cache keeps answers: as a text, JSON here."""
    rows = [[each.text, each.title, each.score, each.id, dict(each.metadata)] for each in passages]
    return LMResponse((Completion(json.dumps(rows), "stop"),), Usage(), "", None, {}, 0)


def _passages(answer: LMResponse | None) -> tuple[Passage, ...] | None:
    """Return the passages of an answer, or None where it holds none."""
    if answer is None or len(answer.completions) != 1:
        return None
    try:
        rows = json.loads(answer.completions[0].text)
        found = tuple(Passage(text, title, float(score), name, about) for text, title, score, name, about in rows)
    except (ValueError, TypeError, RecursionError):
        return None
    are_texts = all(isinstance(part, str) for each in found for part in (each.text, each.title, each.id))
    return found if are_texts else None
