"""Retrievers made of others: hybrid search and reranking. They hold nothing themselves; their parts have the actors."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from os import PathLike
from typing import TYPE_CHECKING, Protocol, TypeAlias, cast, runtime_checkable

from dspex.errors import ConfigError, RetrievalError
from dspex.protocols.filters import Filter
from dspex.protocols.fusion import RANK_CONSTANT, fused
from dspex.protocols.retrieval import Passage, Retriever
from dspex.protocols.scope import current_scope

if TYPE_CHECKING:
    from dspex.services.retrieval.rerank_http import HttpReranker

__all__ = ["AskPart", "Composite", "Hybrid", "Ranker", "Reranked", "RetrieverLike"]

RetrieverLike: TypeAlias = "str | PathLike[str] | Retriever | Composite"
"""A path of an index, or a retriever: an App takes any of them."""
AskPart: TypeAlias = Callable[[str, str, int, Filter | None], Awaitable[Sequence[Passage]]]
"""Searches a part: its name, the query, the number of passages, the filter."""
Ranker: TypeAlias = Callable[[str, Sequence[Passage]], Sequence[float] | Awaitable[Sequence[float]]]
"""Scores passages for a query, one number for each, higher is better; blocking, or async: a program of yours, say."""


@runtime_checkable
class Composite(Protocol):
    """A retriever whose parts are searched for it, each by its own actor, in steps of the request."""

    @property
    def parts(self) -> Mapping[str, RetrieverLike]:
        """The parts by name."""
        ...

    async def search_parts(self, ask: AskPart, query: str, k: int, filter: Filter | None) -> Sequence[Passage]:
        """Return the ``k`` best passages, best first, by asking the parts; raises what they raise."""
        ...


class Hybrid:
    """
    Asks several retrievers at once and fuses what they find by rank: words find names, vectors find meaning.

    ``App(retriever=Hybrid({"words": "books.db", "meaning": VectorIndex(…)}))``. Passages are the same when their ids
    are, so give both indexes the same passages. Adding and deleting goes to every part. See ``fused`` for the formula.

    Args:
        parts: The retrievers by name, paths of indexes included.
        candidates: How many passages each part is asked for at least; more than ``k``, so that a passage that is
            nowhere at the top but everywhere found has a chance.
        weights: How much the rank in each part counts; 1 for a part that is not named.
        constant: The constant of the formula.

    Raises:
        ConfigError: There are no parts, or a weight is none.
    """

    def __init__(
        self,
        parts: Mapping[str, RetrieverLike],
        *,
        candidates: int = 50,
        weights: Mapping[str, float] | None = None,
        constant: int = RANK_CONSTANT,
    ) -> None:
        self.parts = dict(parts)
        self._candidates = candidates
        self._constant = constant
        given = dict(weights or {})
        if not self.parts or candidates < 1:
            raise ConfigError(f"Hybrid needs parts and candidates={candidates} of at least 1")
        if unknown := sorted(given.keys() - self.parts.keys()):
            raise ConfigError(f"Hybrid has weights for {', '.join(unknown)}, which are not its parts")
        self._weights = [float(given.get(name, 1.0)) for name in self.parts]
        try:
            fused([()] * len(self.parts), 1, weights=self._weights, constant=constant)
        except ValueError as error:
            raise ConfigError(f"Hybrid: {error}") from error

    async def search_parts(self, ask: AskPart, query: str, k: int, filter: Filter | None) -> Sequence[Passage]:
        """Ask all parts at once and return the ``k`` best by rank; the first part that fails fails the search."""
        asked = max(k, self._candidates)
        rankings = await _all_of([partial(ask, name, query, asked, filter) for name in self.parts])
        return fused(rankings, k, weights=self._weights, constant=self._constant)

    def __repr__(self) -> str:
        more = f"candidates={self._candidates}, weights={self._weights}, constant={self._constant}"
        return f"Hybrid({self.parts!r}, {more})"


class Reranked:
    """
    Asks a retriever for more than is wanted, and has the passages put into order by something that reads them.

    ``App(retriever=Reranked("books.db", by=Judge()))``. The ranker runs in the request that searches: a program of
    yours asks its models there, with the request's budget and deadline.

    Args:
        retriever: Finds the candidates.
        by: A function of the query and the passages that returns a score for each, blocking (it runs in a thread) or
            async, such as a module of yours or ``HttpReranker``.
        candidates: How many passages are looked at, at least.

    Raises:
        ConfigError: ``by`` cannot be called, or ``candidates`` is below 1.
    """

    def __init__(self, retriever: RetrieverLike, by: Ranker | HttpReranker, *, candidates: int = 50) -> None:
        if not callable(by) or candidates < 1:
            raise ConfigError(f"by={by!r:.60} must be a function, and candidates={candidates} at least 1")
        self.parts: Mapping[str, RetrieverLike] = {"found": retriever}
        self._ranker = by
        self._candidates = candidates

    async def search_parts(self, ask: AskPart, query: str, k: int, filter: Filter | None) -> Sequence[Passage]:
        """
        Return the ``k`` passages with the highest scores of the ranker, equals in the order in which they were found.

        Raises:
            RetrievalError: The ranker returned something else than a finite number for each passage.
        """
        found = list(await ask("found", query, max(k, self._candidates), filter))
        if not found:
            return []
        scores = await self._scores(query, found)
        order = sorted(range(len(found)), key=lambda at: -scores[at])
        return [replace(found[at], score=scores[at]) for at in order[:k]]

    async def _scores(self, query: str, found: Sequence[Passage]) -> list[float]:
        given = await _called(partial(self._ranker, query, found), self._ranker)
        try:
            scores = [float(each) for each in cast("Sequence[float]", given)]
        except (TypeError, ValueError) as error:
            raise RetrievalError(f"the ranker {self._ranker!r:.60} did not return numbers: {error}") from error
        if len(scores) != len(found) or not all(abs(each) < float("inf") for each in scores):
            raise RetrievalError(
                f"the ranker {self._ranker!r:.60} returned {len(scores)} scores for {len(found)} passages: expected a "
                "finite number for each"
            )
        return scores

    def __repr__(self) -> str:
        return f"Reranked({self.parts['found']!r}, by={self._ranker!r})"


async def _called(call: Callable[[], object], function: object) -> object:
    """Call a function of the user's: an async one here, a blocking one in a step with a thread of the App."""
    is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004 - its kind is asked, not whether it is there
    scope = current_scope.get(None)
    if is_async or scope is None:
        result = call()
    else:
        result = await scope.call("rank", lambda: scope.in_thread(call, "rank"), idempotent=True, timeout=None)
    return await result if inspect.isawaitable(result) else result


async def _all_of(calls: Sequence[Callable[[], Awaitable[Sequence[Passage]]]]) -> list[Sequence[Passage]]:
    """Await all calls at the same time; the first failure cancels the others and is raised as it is."""
    import anyio  # too heavy for ``import dspex``

    results: list[Sequence[Passage]] = [()] * len(calls)
    failures: list[Exception] = []

    async def one(number: int, call: Callable[[], Awaitable[Sequence[Passage]]]) -> None:
        try:
            results[number] = await call()
        except Exception as error:  # noqa: BLE001 - it is raised below, without a group around it
            failures.append(error)
            group.cancel_scope.cancel()

    async with anyio.create_task_group() as group:
        for number, call in enumerate(calls):
            group.start_soon(one, number, call)
    if failures:
        raise failures[0]
    return results
