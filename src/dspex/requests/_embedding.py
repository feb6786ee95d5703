"""Vectors from the cache, text by text: of a hundred texts with ninety known, ten are asked for."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import math
import sys
from array import array
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from dspex.errors import LMError, TransportFailed
from dspex.protocols.cache import CacheMode, CacheService, Hit, Lead
from dspex.protocols.headers import header_identity
from dspex.protocols.lm import Completion, EmbedRequest, EmbedResponse, LMResponse, Usage
from dspex.protocols.model import LM, LMPool

__all__ = ["CachedEmbedding", "embedding_key"]

_KEY_VERSION: Final = "embedding-1"
Pay = Callable[[EmbedRequest], Awaitable[EmbedResponse]]


def embedding_key(lm: LM | LMPool, request: EmbedRequest, text: str) -> str:
    """Return the digest of one text's question: same text, model, server and length of vectors, same key."""
    asked = [_KEY_VERSION, _identity(lm), request.dimensions, dict(request.extra_body), text]
    return hashlib.sha256(json.dumps(asked, sort_keys=True, default=repr).encode()).hexdigest()


class CachedEmbedding:
    """
    One request for vectors as a step runs it, and runs it again after its death.

    It looks every text up in the order of the keys, so that two requests for the same texts never wait for each other
    both ways, then asks for those that nobody has, in one request. Others who want one of them meanwhile wait for it.

    Args:
        cache: The App's cache.
        lm: The model.
        request: The texts.
        mode: ``use``, ``refresh`` or ``only``.
        deadline: Runtime clock seconds.
        pay: Asks the model.
    """

    def __init__(
        self, cache: CacheService, lm: LM | LMPool, request: EmbedRequest, mode: CacheMode, deadline: float, pay: Pay
    ) -> None:
        self._cache = cache
        self._model = str(getattr(lm, "model", ""))
        self._request = request
        self._mode: CacheMode = mode
        self._deadline = deadline
        self._pay = pay
        self._keys = {text: embedding_key(lm, request, text) for text in dict.fromkeys(request.texts)}
        self._found: dict[str, array[float]] = {}
        self._asked: tuple[str, ...] | None = None  # a step that is repeated asks for the same ones

    async def run(self) -> EmbedResponse:
        """
        Return all vectors, with the usage of those that were asked for.

        Raises:
            TransportFailed: The mode is ``only``, and a vector is not in the cache.
            LMError: The provider's last word.
        Cancellation: the leads pass to others that wait.
        """
        leads: dict[str, Lead] = {}
        usage, model = Usage(), self._model
        try:
            if self._asked is None:
                leads = await self._look_up()
                self._asked = tuple(text for text in self._keys if text not in self._found)
            if self._asked:
                if self._mode == "only":
                    raise TransportFailed(
                        f"{len(self._asked)} of {len(self._keys)} vectors are not in the cache and cache='only' "
                        "forbids asking the provider"
                    )
                answer = await self._pay(EmbedRequest(self._asked, self._request.dimensions, self._request.extra_body))
                usage, model = answer.usage, answer.model
                for text, vector in zip(self._asked, answer.vectors, strict=True):
                    self._found[text] = vector
                    lead = leads.pop(text, None)
                    if lead is not None:
                        self._cache.fill(lead, as_answer(vector))
        except LMError as error:
            for lead in leads.values():
                self._cache.abandon(lead, error if error.is_shared and not error.is_retryable else None)
            leads = {}
            raise
        finally:
            for lead in leads.values():
                self._cache.abandon(lead, None)
        return EmbedResponse(tuple(self._found[text] for text in self._request.texts), usage, model)

    async def _look_up(self) -> dict[str, Lead]:
        """Find what is there, and become the leader of the rest; what cannot be led is asked for nevertheless."""
        leads: dict[str, Lead] = {}
        reads = self._mode != "refresh"
        try:
            for text, key in sorted(self._keys.items(), key=lambda each: each[1]):
                vector = as_vector(self._cache.peek(key)) if reads else None
                found = None if vector is not None else await self._cache.lookup(key, self._deadline, read=reads)
                if isinstance(found, Hit):
                    vector = as_vector(found.response)
                    if vector is None:  # a damaged one: nobody shall have it again
                        found = await self._cache.lookup(key, self._deadline, read=False)
                        vector = as_vector(found.response) if isinstance(found, Hit) else None
                if isinstance(found, Lead):
                    leads[text] = found
                elif vector is not None:
                    self._found[text] = vector
        except BaseException:  # whatever it is: others shall not wait for us
            for lead in leads.values():
                self._cache.abandon(lead, None)
            raise
        return leads


def as_answer(vector: Sequence[float]) -> LMResponse:
    """Return a vector in the form in which every tier of the cache keeps answers: as a text, little-endian float32."""
    data = array("f", vector)
    if sys.byteorder == "big":
        data.byteswap()
    text = base64.b64encode(data.tobytes()).decode("ascii")
    return LMResponse((Completion(text, "stop"),), Usage(), "", None, {}, 0)


def as_vector(response: LMResponse | None) -> array[float] | None:
    """Return the vector of an answer, or None where it holds none."""
    if response is None or len(response.completions) != 1:
        return None
    try:
        data = base64.b64decode(response.completions[0].text, validate=True)
    except (binascii.Error, ValueError):
        return None
    if not data or len(data) % 4:
        return None
    vector = array("f")
    vector.frombytes(data)
    if sys.byteorder == "big":
        vector.byteswap()
    return vector if all(map(math.isfinite, vector)) else None


def _identity(lm: LM | LMPool) -> list[object]:
    if isinstance(lm, LMPool):
        return [repr(lm)]
    return [lm.model, lm.api_base, header_identity(lm.headers) if lm.headers else None]
