"""The retrieval room's door: searches and changes by the name of an index."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar, cast

from dspex.errors import CallTimeout, ConfigError, DeadlineExceeded, RetrieverLacks
from dspex.protocols.cache import CacheMode, CacheService
from dspex.protocols.filters import Filter
from dspex.protocols.retrieval import Embedder, Passage, RunStep, Vector, embedded_text
from dspex.runtime import Backoff, ChildSpec, Runtime, Supervisor
from dspex.services.retrieval.cached import Cached, from_cache, search_key
from dspex.services.retrieval.client import Add, Delete, OpenRetriever, RetrieverClient, Search, Version
from dspex.services.retrieval.composites import AskPart, Composite, Hybrid
from dspex.services.retrieval.embedding import embed, is_embedded_outside

__all__ = ["RETRIEVERS", "RetrieverGateway"]

R = TypeVar("R")
RETRIEVERS = "retrievers"
"""The name under which the room's supervisor is registered."""


async def _directly(_name: str, work: Callable[[], Awaitable[R]]) -> R:
    return await work()


class RetrieverGateway:
    """
    Implements ``protocols.RetrievalService`` over the supervised clients.

    Args:
        runtime: Where the clients live.
        retrievers: The function that opens each index, by name; ``"default"`` answers for ``None``. Its attribute
            ``embedder``, where it has one, makes the vectors of the index.
        composites: Retrievers without an actor, by name; a part of one is the retriever ``name/part``.
        cache: Where results of ``Cached`` retrievers are kept.
    """

    def __init__(
        self,
        runtime: Runtime,
        retrievers: Mapping[str, OpenRetriever],
        composites: Mapping[str, Composite] | None = None,
        cache: CacheService | None = None,
    ) -> None:
        self._runtime = runtime
        self._retrievers = dict(retrievers)
        self._composites = dict(composites or {})
        self._cache = cache

    def spec(self) -> ChildSpec:
        """Return the child spec of the room's supervisor."""
        return ChildSpec(RETRIEVERS, self._supervisor, kind="supervisor", name=RETRIEVERS)

    def _supervisor(self) -> Supervisor:
        children = [
            ChildSpec(name, RetrieverClient, (name, opener), name=f"{RETRIEVERS}/{name}")
            for name, opener in self._retrievers.items()
        ]
        return Supervisor(children, backoff=Backoff())

    async def search(
        self,
        retriever: str | None,
        query: str,
        k: int,
        deadline: float,
        filter: Filter | None = None,
        *,
        step: RunStep = _directly,
        cache: CacheMode = "use",
    ) -> tuple[Passage, ...]:
        """
        Search by name; a client that dies under the search ends it with ActorExited, for its step to repeat.

        A model's vector for the query is asked in the request that searches, before the step that searches: a step that
        is repeated does not ask for it again.
        """
        name = self._name(retriever)
        composite = self._composites.get(name)
        if composite is not None:

            async def ask(part: str, query: str, k: int, filter: Filter | None) -> Sequence[Passage]:
                return await self.search(f"{name}/{part}", query, k, deadline, filter, step=step, cache=cache)

            if isinstance(composite, Cached) and self._cache is not None and cache != "bypass":
                return await self._search_cached(name, composite, query, k, deadline, filter, ask, cache)
            return tuple(await composite.search_parts(ask, query, k, filter))
        embedder = self._outside(name)
        vector = None if embedder is None else (await embed(embedder, [query]))[0]
        search = partial(self._ask, name, Search(query, k, filter, vector), deadline)
        return cast("tuple[Passage, ...]", await step(name, search))

    async def add(
        self,
        retriever: str | None,
        passages: Sequence[Passage],
        deadline: float,
        *,
        vectors: Sequence[Vector] | None = None,
    ) -> None:
        """Add passages, to each part of a composite; after ActorExited it may be repeated: ids are written over."""
        name = self._name(retriever)
        if name in self._composites:
            for part in self._composites[name].parts:
                await self.add(f"{name}/{part}", passages, deadline)
            return
        embedder = self._outside(name)
        if vectors is None and embedder is not None and passages:
            vectors = await embed(embedder, [embedded_text(each) for each in passages])
        await self._ask(name, Add(tuple(passages), vectors), deadline)

    async def delete(self, retriever: str | None, ids: Sequence[str], deadline: float) -> int:
        """Remove passages by id, from each part of a composite; after ActorExited it may be repeated."""
        name = self._name(retriever)
        if name in self._composites:
            return max([await self.delete(f"{name}/{part}", ids, deadline) for part in self._composites[name].parts])
        return cast("int", await self._ask(name, Delete(tuple(ids)), deadline))

    async def _search_cached(
        self,
        name: str,
        cached: Cached,
        query: str,
        k: int,
        deadline: float,
        filter: Filter | None,
        ask: AskPart,
        mode: CacheMode,
    ) -> tuple[Passage, ...]:
        version = await self._version(f"{name}/found", deadline)
        key = search_key(cached.parts["found"], version, query, k, filter)

        async def is_current() -> bool:
            return await self._version(f"{name}/found", deadline) == version

        search = partial(cached.search_parts, ask, query, k, filter)
        assert self._cache is not None
        return tuple(await from_cache(self._cache, key, mode, deadline, search, is_current))

    async def _version(self, name: str, deadline: float) -> str:
        """Return the version of an index's content, of all parts where it has parts; RetrieverLacks without one."""
        composite = self._composites.get(name)
        if composite is None:
            found = str(await self._ask(name, Version(), deadline))
            if found:
                return found
        elif isinstance(composite, (Hybrid, Cached)):
            versions = [await self._version(f"{name}/{part}", deadline) for part in composite.parts]
            return " ".join(versions)
        raise RetrieverLacks(name, "be cached", "it has no version that tells of a change")

    def _outside(self, name: str) -> Embedder | None:
        """Return an index's embedder where it is asked in the request."""
        found = getattr(self._retrievers[name], "embedder", None)
        return found if is_embedded_outside(found) else None

    def _name(self, retriever: str | None) -> str:
        name = retriever if retriever is not None else "default"
        if name not in self._retrievers and name not in self._composites:
            known = ", ".join(sorted(self._retrievers.keys() | self._composites.keys())) or "none"
            raise ConfigError(
                f"the App has no retriever named {name!r} (configured: {known}); "
                f"give App(retriever=…) or App(retrievers={{…}})"
            )
        return name

    async def _ask(self, name: str, message: Search | Add | Delete | Version, deadline: float) -> object:
        left = max(0.0, deadline - self._runtime.clock.now())
        try:
            return await self._runtime.named(f"{RETRIEVERS}/{name}").call(message, timeout=left)
        except CallTimeout as error:
            raise DeadlineExceeded(left) from error
