"""Passages in a collection of Qdrant: on a server, or embedded in this process."""

from __future__ import annotations

import asyncio
import math
import os
from collections.abc import Iterable, Sequence
from typing import Any, Final

from dspex.errors import ConfigError, MissingExtra, RetrievalError, VectorInvalid
from dspex.protocols.filters import Filter, FilterLike, as_filter, fits
from dspex.protocols.retrieval import Embedder, Passage, Vector, checked_passages, embedded_text
from dspex.runtime import WorkerThread
from dspex.services.retrieval._json_http import MAX_WAIT, TRY_AGAIN, Server, without_secrets
from dspex.services.retrieval._matrix import units
from dspex.services.retrieval._qdrant_points import FACTS, condition_of, passage_of, payload_of, point_id
from dspex.services.retrieval.embedding import (
    check_embedder,
    embed,
    embed_blocking,
    embedder_name,
    is_embedded_outside,
)

__all__ = ["QdrantIndex"]

_BATCH: Final = 500
"""Points of one change: what Qdrant makes whole or not at all."""
_FIRST_PAGE: Final = 64
_LONGEST_PAGE: Final = 2_048


class QdrantIndex:
    """
    A retriever over a collection of Qdrant's: the most alike first, by the cosine. It needs the extra ``qdrant``.

    ``QdrantIndex("birds", "openai/text-embedding-3-small", url="http://localhost:6333")``. The first passages make the
    collection. It holds what dspex puts there: a collection that something else has filled is refused.

    On a server, searches and changes run on the loop, many at a time, over connections that are kept; a question that
    got no answer, or 429 or 5xx, is asked again, which is safe for changes too: they are written over. Embedded
    (``path``), everything runs in a thread of the index's own, one call after the other; such a search compares every
    vector, a filter looks at every passage in Python, and Qdrant itself advises against more than 20,000.

    Args:
        collection: Its name.
        embedder: Makes the vectors, as for ``VectorIndex``.
        url: The address of a server; without a port, Qdrant's own 6333.
        path: A folder for an embedded Qdrant, which one process has at a time. Open only a folder that you trust:
            Qdrant's client keeps pickles there, and what reads a pickle can be made to run code. ``":memory:"`` for a
            store that is gone when the index closes, and when its actor is killed.
        api_key: Of the server; it is in no error and no ``repr``. Send it over https.
        exact: True has a server compare every vector, where it would find nearly all of the best by its graph.
        timeout: Seconds for one try.
        tries: How often a server is asked at most.
        backoff: Seconds before the second try, doubled with each.
        proxy: The address of a proxy; proxies of the environment are not used.

    Raises:
        MissingExtra: The extra ``qdrant`` is not installed.
        ConfigError: The embedder, the address or a number makes no sense, or there are both or neither of ``url`` and
            ``path``.
    """

    def __init__(
        self,
        collection: str,
        embedder: Embedder,
        *,
        url: str | None = None,
        path: str | os.PathLike[str] | None = None,
        api_key: str | None = None,
        exact: bool = False,
        timeout: float = 10.0,
        tries: int = 3,
        backoff: float = 0.2,
        proxy: str | None = None,
    ) -> None:
        check_embedder(embedder)
        if not isinstance(collection, str) or not collection:
            raise ConfigError(f"collection={collection!r:.60} must be a name")
        if (url is None) is (path is None):
            raise ConfigError("QdrantIndex needs one of url='http://…' (a server) and path='…' (a folder)")
        _library()
        self.embedder = embedder
        self._collection = collection
        self._server: Server | None = None
        if url is not None:
            headers = {"api-key": api_key} if api_key else {}
            self._server = Server(url, headers, timeout, tries, backoff, proxy=proxy)
        self._path = None if path is None else os.fspath(path)
        self._exact = exact
        self._client: Any = None  # Qdrant's blocking client where it is embedded, else its async one
        self._loop: asyncio.AbstractEventLoop | None = None
        self._worker: WorkerThread | None = None
        self._dimensions = 0

    async def search(
        self, query: str, k: int, filter: FilterLike | None = None, *, vector: Vector | None = None
    ) -> Sequence[Passage]:
        """
        Return the ``k`` passages most like ``query`` of those the filter fits, best first.

        A filter acts on the server. Ranges of texts, and of integers above 2**53, act there roughly, and here for good:
        such a search may ask for several pages.

        Args:
            query: The text; it is embedded where no ``vector`` is given.
            k: The most passages to return.
            filter: A condition on the metadata.
            vector: The query's vector, where it is there already.

        Raises:
            RetrievalError: The server cannot be reached or refuses, there is no such collection, or ``k`` is below 1.
            DimensionMismatch: The query's vector is longer or shorter than those of the collection.
            VectorInvalid: It is all zeros, or holds NaN or infinity.
        Cancellation: the question to a server is given up.
        """
        if k < 1:
            raise RetrievalError(f"k={k} must be at least 1")
        asked = as_filter(filter)
        if vector is None:
            (vector,) = await self._embedded([query])
        dimensions = await self._known_dimensions()
        if not dimensions:
            raise RetrievalError(f"there is no collection {self._collection!r} at {self._label}: add passages first")
        (row,) = units([vector], dimensions, "the query's vector").tolist()
        return await self._best(row, k, asked)

    async def add(self, passages: Iterable[Passage], *, vectors: Iterable[Vector] | None = None) -> None:
        """
        Add passages; one whose id is there already takes its place. The first ones make the collection.

        All are checked before the first is written. Up to 500 are one change, whole or none; more are several changes,
        and an error may leave the first of them done. To add them again is right in any case.

        Args:
            passages: The passages to add.
            vectors: One for each of the passages, where they are there already.

        Raises:
            PassageInvalid, VectorInvalid, DimensionMismatch: One cannot be kept; nothing was changed.
            RetrievalError: The server cannot be reached or refuses.
        """
        given = list(passages)
        kept = checked_passages(given)
        if not kept:
            return
        if vectors is None:
            found: Sequence[Vector] = [
                each
                for at in range(0, len(kept), _BATCH)
                for each in await self._embedded([embedded_text(one) for one in kept[at : at + _BATCH]])
            ]
        else:
            found = _of_kept(given, kept, list(vectors))
        rows = units(found, await self._known_dimensions(), "a passage's vector")
        if not self._dimensions:
            await self._make_collection(rows.shape[1])
        name = embedder_name(self.embedder)
        for at in range(0, len(kept), _BATCH):
            points = [
                _models().PointStruct(id=point_id(each.id), vector=row.tolist(), payload=payload_of(each, name))
                for each, row in zip(kept[at : at + _BATCH], rows[at : at + _BATCH], strict=True)
            ]
            await self._call("upsert", points=points, wait=True)

    async def delete(self, ids: Sequence[str]) -> int:
        """
        Remove passages by id and return how many there were; an unknown id is none.

        Raises:
            RetrievalError: The server cannot be reached or refuses.
        """
        if not await self._known_dimensions():
            return 0
        gone = 0
        for batch in _batches(map(point_id, ids)):
            there = await self._call("retrieve", ids=batch, with_payload=False, with_vectors=False)
            await self._call("delete", points_selector=_models().PointIdsList(points=batch), wait=True)
            gone += len(there)
        return gone

    async def get(self, ids: Iterable[str]) -> dict[str, Passage]:
        """Return the passages that there are, by id, as they were added; raises as ``delete``."""
        there = await self._stored(ids, vectors=False)
        return {each.id: each for each in (self._passage(point, 0.0) for point in there)}

    async def vectors(self, ids: Iterable[str]) -> dict[str, Vector]:
        """Return the vectors of the passages that there are, by id, of length 1; raises as ``delete``."""
        there = await self._stored(ids, vectors=True)
        return {self._passage(each, 0.0).id: each.vector for each in there}

    async def close(self) -> None:
        """Close the connections or the folder."""
        client, self._client = self._client, None
        worker, self._worker = self._worker, None
        self._dimensions = 0
        if worker is not None:
            await worker.aclose(client.close if client is not None and self._server is None else None)
        if client is not None and self._server is not None and self._loop is asyncio.get_running_loop():
            await client.close()

    def __repr__(self) -> str:
        return f"QdrantIndex({self._collection!r}, {self._label!r})"

    @property
    def _label(self) -> str:
        return self._server.label if self._server is not None else str(self._path)

    async def _stored(self, ids: Iterable[str], *, vectors: bool) -> list[Any]:  # records of Qdrant's client
        if not await self._known_dimensions():
            return []
        return [
            each
            for batch in _batches(map(point_id, ids))
            for each in await self._call("retrieve", ids=batch, with_payload=True, with_vectors=vectors)
        ]

    async def _best(self, row: list[float], k: int, asked: Filter | None) -> list[Passage]:
        """Return the best that the filter fits, page after page: its condition lets others through, too."""
        models = _models()
        condition = None if asked is None else models.Filter.model_validate(condition_of(asked))
        params = models.SearchParams(exact=True) if self._exact and self._server is not None else None
        found: dict[str, Passage] = {}
        at, page = 0, k if asked is None else max(k, _FIRST_PAGE)
        while True:
            answer = await self._call(
                "query_points", query=row, query_filter=condition, limit=page, offset=at, search_params=params
            )
            for each in answer.points:
                passage = self._passage(each, float(each.score))
                if fits(asked, passage.metadata):
                    found.setdefault(passage.id, passage)
            if len(found) >= k or len(answer.points) < page:
                return list(found.values())[:k]
            at, page = at + page, min(2 * page, _LONGEST_PAGE)

    def _passage(self, point: Any, score: float) -> Passage:  # a record of Qdrant's client
        try:
            passage = passage_of(point.payload, score)
        except RetrievalError as error:
            raise RetrievalError(f"{self._collection!r} at {self._label}: {error}") from error
        known, name = point.payload.get("embedder"), embedder_name(self.embedder)
        if known and name and known != name:
            raise RetrievalError(
                f"passages of {self._collection!r} at {self._label} were added with the embedder {known!s:.200}, and "
                f"{name} makes other vectors: use the first, or another collection"
            )
        return passage

    async def _embedded(self, texts: Sequence[str]) -> Sequence[Vector]:
        if is_embedded_outside(self.embedder):
            return await embed(self.embedder, texts)
        return await self._thread().run(embed_blocking, self.embedder, texts)

    async def _known_dimensions(self) -> int:
        """Return the length of the collection's vectors; 0 where there is no collection."""
        if self._dimensions or not await self._call("collection_exists"):
            return self._dimensions
        vectors = (await self._call("get_collection")).config.params.vectors
        size, distance = getattr(vectors, "size", None), getattr(vectors, "distance", None)
        if not isinstance(size, int) or distance != _models().Distance.DOT:
            raise RetrievalError(
                f"the collection {self._collection!r} at {self._label} has vectors of another kind than dspex makes"
            )
        self._dimensions = size
        return size

    async def _make_collection(self, dimensions: int) -> None:
        models = _models()
        # Of vectors of length 1 the dot product is the cosine. With Distance.COSINE an embedded Qdrant brings all to
        # length 1 again with every search, each time a little differently: the same search finds other scores.
        config = models.VectorParams(size=dimensions, distance=models.Distance.DOT)
        try:
            await self._call("create_collection", vectors_config=config)
        except RetrievalError:
            if not await self._known_dimensions():
                raise
            return  # somebody else has made it in between; a vector of another length is refused by Qdrant
        if self._server is not None:  # an embedded one has no indexes of payloads
            await self._call("create_payload_index", field_name=FACTS, field_schema="keyword", wait=True)
        self._dimensions = dimensions

    async def _call(self, method: str, **arguments: object) -> Any:
        """Call a method of Qdrant's client, in the thread where it is embedded; RetrievalError says where it failed."""
        if self._server is not None:
            return await self._ask(self._server, method, arguments)

        def call() -> Any:
            if self._client is None:  # here, in the one thread that uses it
                self._client = _library().QdrantClient(path=self._path)
            return getattr(self._client, method)(self._collection, **arguments)

        try:
            return await self._thread().run(call)
        except Exception as error:  # the client has no base class for what it raises
            self._dimensions = 0
            raise RetrievalError(f"Qdrant in {self._path}: {type(error).__name__}: {error}") from error

    async def _ask(self, server: Server, method: str, arguments: dict[str, object]) -> Any:
        for number in range(1, server.tries + 1):
            wait = server.backoff * 2.0 ** (number - 1)
            try:
                async with asyncio.timeout(server.timeout):
                    return await getattr(self._connected(server), method)(self._collection, **arguments)
            except Exception as error:  # the same, and what httpx and pydantic raise through it
                problem, again, after = _problem(error)
                if not again or number == server.tries:
                    self._dimensions = 0  # the collection may be another one when it is back
                    said = without_secrets(server, problem)
                    raise RetrievalError(f"Qdrant at {server.label} {said} ({number} tries)") from error
                wait = max(wait, min(MAX_WAIT, after))
            await asyncio.sleep(wait)
        raise AssertionError("unreachable")

    def _connected(self, server: Server) -> Any:
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:  # connections belong to one loop
            import httpx  # too heavy for ``import dspex``

            self._client = _library().AsyncQdrantClient(
                url=server.url,
                api_key=server.headers.get("api-key"),
                timeout=math.ceil(server.timeout),
                check_compatibility=False,  # or its constructor asks the server, and waits for it
                trust_env=False,
                proxy=server.proxy,
                limits=httpx.Limits(),
                verify=httpx.create_ssl_context(trust_env=False) if server.url.startswith("https") else False,
            )
            self._loop = loop
        return self._client

    def _thread(self) -> WorkerThread:
        if self._worker is None:
            self._worker = WorkerThread("dspex-qdrant")
        return self._worker


def _library() -> Any:  # of an extra, and 0.8 s to import
    try:
        import qdrant_client
    except ImportError as error:
        raise MissingExtra("qdrant", "QdrantIndex") from error
    return qdrant_client


def _models() -> Any:  # of an extra
    return _library().models


def _problem(error: Exception) -> tuple[str, bool, float]:
    """Return what went wrong, whether asking again may help, and the seconds that the server asks for."""
    from qdrant_client.common.client_exceptions import ResourceExhaustedResponse
    from qdrant_client.http.exceptions import ResponseHandlingException, UnexpectedResponse

    if isinstance(error, ResourceExhaustedResponse):
        return f"answered 429: {error}", True, float(error.retry_after_s)
    if isinstance(error, UnexpectedResponse):
        said = " ".join(error.content[:300].decode("utf-8", "replace").split())
        return f"answered {error.status_code}: {said}", error.status_code in TRY_AGAIN, 0.0
    cause: Exception = error.source if isinstance(error, ResponseHandlingException) else error
    said = f"{type(cause).__name__}: {str(cause).splitlines()[0]}" if str(cause) else type(cause).__name__
    if isinstance(cause, (ValueError, TypeError)) and not isinstance(cause, UnicodeError):
        return f"answered something else than Qdrant does: {said}", False, 0.0
    return f"did not answer: {said}", True, 0.0


def _batches(points: Iterable[str]) -> list[list[str]]:
    """Return each point once, in lists of what is asked at once."""
    each = list(dict.fromkeys(points))
    return [each[at : at + _BATCH] for at in range(0, len(each), _BATCH)]


def _of_kept(given: Sequence[Passage], kept: Sequence[Passage], vectors: Sequence[Vector]) -> list[Vector]:
    """Return the vectors of the passages that stay, where one stands for several with its id."""
    if len(vectors) != len(given):
        raise VectorInvalid(f"there are {len(vectors)} vectors for {len(given)} passages")
    last = {checked_passages([each])[0].id: vector for each, vector in zip(given, vectors, strict=True)}
    return [last[each.id] for each in kept]
