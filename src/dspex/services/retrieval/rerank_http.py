"""A cross-encoder on a server, as the ranker of ``Reranked``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from dspex.errors import ConfigError, RetrievalError
from dspex.protocols.retrieval import Passage
from dspex.services.retrieval._json_http import Server, json_of, open_client

__all__ = ["HttpReranker"]


class HttpReranker:
    """
    Has a server score passages: ``Reranked("books.db", by=HttpReranker("http://localhost:8080/rerank"))``.

    Without a model it asks as Text Embeddings Inference is asked (``{"query": …, "texts": […]}``), with one as Cohere,
    Jina, vLLM and others are (``{"model": …, "query": …, "documents": […]}``). Both forms of answer are read.

    Args:
        url: The whole address, ``/rerank`` or whatever it ends with.
        model: The model's name, where the server wants one.
        api_key: Sent as ``Authorization: Bearer …``; it is in no error and no ``repr``.
        headers: More headers.
        batch: The most passages of one question; servers have a limit.
        timeout: Seconds for one try.
        tries: How often a question is sent at most; scoring changes nothing.
        proxy: The address of a proxy; proxies of the environment are not used.

    Raises:
        ConfigError: An address or a number makes no sense.
    """

    def __init__(
        self,
        url: str,
        *,
        model: str | None = None,
        api_key: str | None = None,
        headers: Mapping[str, str] | None = None,
        batch: int = 32,
        timeout: float = 30.0,
        tries: int = 3,
        backoff: float = 0.2,
        proxy: str | None = None,
    ) -> None:
        if batch < 1:
            raise ConfigError(f"batch={batch} must be at least 1")
        given = {**(headers or {}), **({"authorization": f"Bearer {api_key}"} if api_key else {})}
        self._server = Server(url, given, timeout, tries, backoff, proxy=proxy)
        self._model = model
        self._batch = batch

    async def __call__(self, query: str, passages: Sequence[Passage]) -> list[float]:
        """
        Return a score for each passage, higher is better.

        Raises:
            RetrievalError: The server cannot be reached, refuses, or does not score every passage once.
        Cancellation: the connection is closed.
        """
        texts = [str(each) for each in passages]
        scores: list[float] = []
        async with open_client(self._server) as client:
            for at in range(0, len(texts), self._batch):
                batch = texts[at : at + self._batch]
                answer = await json_of(client, self._server, body=self._body(query, batch))
                scores += self._scores(answer, len(batch))
        return scores

    def __repr__(self) -> str:
        return f"HttpReranker({self._server.label!r})"

    def _body(self, query: str, texts: Sequence[str]) -> dict[str, object]:
        if self._model is None:
            return {"query": query, "texts": texts}
        return {
            "model": self._model,
            "query": query,
            "documents": texts,
            "top_n": len(texts),
            "return_documents": False,
        }

    def _scores(self, answer: object, count: int) -> list[float]:
        entries = answer.get("results") if isinstance(answer, dict) else answer
        found: dict[int, float] = {}
        for entry in entries if isinstance(entries, list) else ():
            score = entry.get("relevance_score", entry.get("score")) if isinstance(entry, dict) else None
            index = entry.get("index") if isinstance(entry, dict) else None
            if type(index) is int and isinstance(score, (int, float)) and not isinstance(score, bool):
                found[index] = float(score)
        if sorted(found) != list(range(count)) or not all(abs(each) < float("inf") for each in found.values()):
            raise RetrievalError(f"{self._server.label} did not score each of {count} passages: {str(answer)[:200]}")
        return [found[number] for number in range(count)]
