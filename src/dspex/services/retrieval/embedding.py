"""Vectors for texts, from whatever an index was given to make them."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Sequence
from typing import TypeGuard, cast

from dspex.errors import ConfigError, NotInRequest, VectorInvalid
from dspex.protocols.model import LM, LMPool
from dspex.protocols.retrieval import Embedder, Vector
from dspex.protocols.scope import current_scope
from dspex.services.retrieval.hashing import HashingEmbedder

__all__ = ["check_embedder", "embed", "embed_blocking", "embedder_name", "is_embedded_outside"]


def check_embedder(embedder: object) -> None:
    """Raise ConfigError for what cannot make vectors."""
    if isinstance(embedder, type) or not (_is_model(embedder) or callable(embedder)):
        raise ConfigError(
            f"embedder={embedder!r:.60} is neither a model such as 'openai/text-embedding-3-small', an LM, nor a "
            "function from texts to vectors"
        )


def is_embedded_outside(embedder: object) -> bool:
    """True for a model and an async function: they are asked in the request that searches, and not by the index."""
    if _is_model(embedder):
        return True
    return inspect.iscoroutinefunction(embedder) or inspect.iscoroutinefunction(getattr(embedder, "__call__", None))  # noqa: B004 - its kind is asked, not whether it is there


def embedder_name(embedder: Embedder) -> str:
    """Return a name that an index remembers its embedder by; empty for one that may be anything: a function, a pool."""
    if isinstance(embedder, str):
        return embedder
    if isinstance(embedder, LM):
        return embedder.model
    return repr(embedder) if isinstance(embedder, HashingEmbedder) else ""


async def embed(embedder: Embedder, texts: Sequence[str]) -> list[Vector]:
    """
    Return the vectors of texts, asked within the running request.

    Raises:
        NotInRequest: A model is asked outside of a request.
        VectorInvalid: There are more or fewer vectors than texts.
        LMError: The provider's last word.
    Cancellation: the call under way is cancelled.
    """
    if _is_model(embedder):
        scope = current_scope.get(None)
        if scope is None:
            raise NotInRequest("an embedder that is a model")
        return list(await scope.embed(texts, lm=embedder, step="embed"))
    found = embedder(texts)  # type: ignore[operator]  # a function, then
    return _as_many(texts, await found if inspect.isawaitable(found) else found)


def embed_blocking(embedder: Embedder, texts: Sequence[str]) -> list[Vector]:
    """
    Return the vectors of texts by a blocking function; raises VectorInvalid as ``embed``.

    Raises:
        ConfigError: The embedder is a model or async: only a request can ask it.
    """
    if is_embedded_outside(embedder):
        raise ConfigError(
            f"the embedder {embedder!r:.60} is asked within a request: search through an App "
            "(App(retriever=index), Retrieve), or give the vectors themselves"
        )
    found = embedder(texts)  # type: ignore[operator]  # a function, then
    if inspect.isawaitable(found):
        if inspect.iscoroutine(found):
            found.close()
        raise ConfigError(f"the embedder {embedder!r:.60} returns an awaitable: make it an async function")
    return _as_many(texts, cast("Sequence[Vector]", found))


def _is_model(embedder: object) -> TypeGuard[str | LM | LMPool]:
    return isinstance(embedder, (str, LM, LMPool))


def _as_many(texts: Sequence[str], vectors: Sequence[Vector] | Awaitable[Sequence[Vector]]) -> list[Vector]:
    try:
        found = list(cast("Sequence[Vector]", vectors))
    except TypeError as error:
        raise VectorInvalid(f"the embedder returned a {type(vectors).__name__}, expected a list of vectors") from error
    if len(found) != len(texts):
        raise VectorInvalid(f"the embedder returned {len(found)} vectors for {len(texts)} texts")
    return found
