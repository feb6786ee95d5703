"""Retrievers on servers: any search that answers in JSON, and ColBERTv2's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from dspex.errors import PassageInvalid, RetrievalError
from dspex.protocols.metadata import MetadataValue, problem_of_scalar
from dspex.protocols.retrieval import Passage
from dspex.services.retrieval._json_http import Server, json_of, open_client

if TYPE_CHECKING:
    import httpx

__all__ = ["ColBERTv2", "HttpRetriever"]


class HttpRetriever:
    """
    Asks a server that answers with JSON: ``HttpRetriever("https://search.example/v1", passages="hits", text="body")``.

    It runs on the loop, many searches at a time, over connections that are kept. A question that got no answer, or 429
    or 5xx, is asked again; searching changes nothing. Metadata values that are neither scalars nor lists are left out.
    It cannot filter: a server's filters are its own; put what you need into ``body``.

    Args:
        url: The address of the search.
        body: Makes the JSON of a POST from the query and ``k``; by default ``{"query": …, "k": …}``.
        passages: Where the list of passages stands in the answer: names joined by dots, ``"hits.hits"``; empty for the
            answer itself.
        text: Where the text stands in one of them; ``title``, ``score``, ``id`` and ``metadata`` likewise, and what is
            not there is empty. Without scores, passages count down from 0 in the server's order.
        api_key: Sent as ``Authorization: Bearer …``; it is in no error and no ``repr``.
        headers: More headers.
        timeout: Seconds for one try.
        tries: How often a question is sent at most.
        proxy: The address of a proxy; proxies of the environment are not used.

    Raises:
        ConfigError: An address or a number makes no sense.
    """

    def __init__(
        self,
        url: str,
        *,
        body: Callable[[str, int], object] | None = None,
        passages: str = "passages",
        text: str = "text",
        title: str = "title",
        score: str = "score",
        id: str = "id",
        metadata: str = "metadata",
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float = 10.0,
        tries: int = 3,
        backoff: float = 0.2,
        proxy: str | None = None,
    ) -> None:
        given = {**(headers or {}), **({"authorization": f"Bearer {api_key}"} if api_key else {})}
        self._server = Server(url, given, timeout, tries, backoff, proxy=proxy)
        self._body = body
        self._passages = passages
        self._parts = {"text": text, "title": title, "score": score, "id": id, "metadata": metadata}
        self._client: httpx.AsyncClient | None = None
        self._loop: asyncio.AbstractEventLoop | None = None

    async def search(self, query: str, k: int) -> Sequence[Passage]:
        """
        Return what the server found, at most ``k`` passages, in its order.

        Raises:
            RetrievalError: The server cannot be reached, refuses, or answers something else than passages.
        Cancellation: the connection is closed.
        """
        if k < 1:
            raise RetrievalError(f"k={k} must be at least 1")
        answer = await self._ask(query, k)
        entries = _at(answer, self._passages)
        if not isinstance(entries, list):
            raise RetrievalError(f"{self._server.label} answered without a list at {self._passages!r}")
        return [self._passage(entry, number) for number, entry in enumerate(entries[:k])]

    async def close(self) -> None:
        """Close the connections."""
        client, self._client = self._client, None
        if client is not None and self._loop is asyncio.get_running_loop():
            await client.aclose()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._server.label!r})"

    async def _ask(self, query: str, k: int) -> object:
        body = {"query": query, "k": k} if self._body is None else self._body(query, k)
        return await json_of(self._connected(), self._server, body=body)

    def _connected(self) -> httpx.AsyncClient:
        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:  # connections belong to one loop
            self._client, self._loop = open_client(self._server), loop
        return self._client

    def _passage(self, entry: object, number: int) -> Passage:
        text = entry if isinstance(entry, str) else _at(entry, self._parts["text"])
        if not isinstance(text, str):
            raise RetrievalError(f"{self._server.label}: passage {number + 1} has no text at {self._parts['text']!r}")
        title, identity = (_at(entry, self._parts[part]) for part in ("title", "id"))
        score = _at(entry, self._parts["score"])
        has_score = isinstance(score, (int, float)) and not isinstance(score, bool) and abs(score) < float("inf")
        try:
            return Passage(
                text,
                title if isinstance(title, str) else "",
                float(score) if has_score else -float(number),  # type: ignore[arg-type]  # looked at in the line above
                str(identity) if isinstance(identity, (str, int)) else "",
                _small(_at(entry, self._parts["metadata"])),
            )
        except PassageInvalid as error:
            raise RetrievalError(f"{self._server.label}: passage {number + 1}: {error}") from error


class ColBERTv2(HttpRetriever):
    """
    Asks a ColBERTv2 server as DSPy does: ``GET url?query=…&k=…``, answered by ``{"topk": [{"text": …, "score": …}]}``.

    A text ``title | text`` is taken apart at the first bar.

    Args:
        url: The address, such as ``http://localhost:8893/api/search``.
        timeout: Seconds for one try.
        tries: How often a question is sent at most.

    Raises:
        ConfigError: An address or a number makes no sense.
    """

    def __init__(self, url: str, *, timeout: float = 10.0, tries: int = 3, backoff: float = 0.2) -> None:
        super().__init__(url, passages="topk", id="pid", timeout=timeout, tries=tries, backoff=backoff)

    async def _ask(self, query: str, k: int) -> object:
        answer = await json_of(self._connected(), self._server, query={"query": query, "k": k})
        if isinstance(answer, dict) and answer.get("error"):
            raise RetrievalError(f"{self._server.label} refused: {str(answer.get('message'))[:300]}")
        return answer

    def _passage(self, entry: object, number: int) -> Passage:
        found = super()._passage(entry, number)
        title, bar, text = found.text.partition(" | ")
        return Passage(text, title, found.score, found.id, found.metadata) if bar and not found.title else found


def _at(value: object, path: str) -> object:
    """Return what stands at a path of names, or None."""
    for name in path.split(".") if path else ():
        if not isinstance(value, dict):
            return None
        value = value.get(name)
    return value


def _small(given: object) -> dict[str, MetadataValue]:
    """Return the part of a server's metadata that metadata can hold."""
    if not isinstance(given, dict):
        return {}
    return {
        name: value
        for name, value in given.items()
        if not any(map(problem_of_scalar, value if isinstance(value, list) else (value,)))
    }
