"""The retrieval room's door: searches and changes by the name of an index."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import TypeVar, cast

from dspex.errors import CallTimeout, ConfigError, DeadlineExceeded
from dspex.protocols.filters import Filter
from dspex.protocols.retrieval import Embedder, Passage, RunStep, Vector, embedded_text
from dspex.runtime import Backoff, ChildSpec, Runtime, Supervisor
from dspex.services.retrieval.client import Add, Delete, OpenRetriever, RetrieverClient, Search
from dspex.services.retrieval.composites import Composite
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
    """

    def __init__(
        self,
        runtime: Runtime,
        retrievers: Mapping[str, OpenRetriever],
        composites: Mapping[str, Composite] | None = None,
    ) -> None:
        self._runtime = runtime
        self._retrievers = dict(retrievers)
        self._composites = dict(composites or {})

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
                return await self.search(f"{name}/{part}", query, k, deadline, filter, step=step)

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

    async def _ask(self, name: str, message: Search | Add | Delete, deadline: float) -> object:
        left = max(0.0, deadline - self._runtime.clock.now())
        try:
            return await self._runtime.named(f"{RETRIEVERS}/{name}").call(message, timeout=left)
        except CallTimeout as error:
            raise DeadlineExceeded(left) from error
