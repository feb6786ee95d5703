"""What a step needs of the cache: look up, lead or wait, fill or give the lead away."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from dspex.protocols.lm import LM, LMParams, LMRequest, LMResponse

__all__ = ["CacheMode", "CacheService", "Hit", "Lead", "cache_key"]

KEY_VERSION = "1"
"""Part of every key: raised when the meaning of a stored answer changes, which empties all caches at once."""

_canonical = json.JSONEncoder(ensure_ascii=True, sort_keys=True, separators=(",", ":"), default=repr).encode


def cache_key(lm: LM, request: LMRequest) -> str:
    """
    Return the canonical digest of a request: same question, same model, same server, same key.

    ``request.params`` must be complete (the model's defaults merged in). The API key is no part of it.
    """
    params = request.params
    fields = [getattr(params, name) for name in LMParams.__dataclass_fields__]
    turns = [(message.role, message.content) for message in request.messages]
    text = _canonical([KEY_VERSION, lm.model, lm.api_base, turns, fields])
    return hashlib.sha256(text.encode()).hexdigest()


CacheMode = Literal["use", "refresh", "bypass", "only"]
"""``use`` reads and writes, ``refresh`` only writes, ``bypass`` does neither, ``only`` never calls the provider."""


@dataclass(frozen=True, slots=True)
class Hit:
    """The answer was there (``tier`` says where) or another caller's flight brought it (``coalesced``)."""

    response: LMResponse
    tier: Literal["memory", "disk", "coalesced"]


@dataclass(frozen=True, slots=True)
class Lead:
    """Nobody has the answer: the holder computes it and must ``fill`` or ``abandon`` ``token``."""

    key: str
    token: int


@runtime_checkable
class CacheService(Protocol):
    """Single-flight caching of deterministic LM answers."""

    def peek(self, key: str) -> LMResponse | None:
        """Return the memory tier's answer at once, or None."""
        ...

    async def lookup(self, key: str, deadline: float, *, read: bool = True) -> Hit | Lead | None:
        """
        Find the answer or become its leader; waits while another process leads, until ``deadline``.

        Args:
            key: The canonical digest of model and request.
            deadline: Runtime clock seconds.
            read: False skips the tiers (``refresh``) but still joins a flight.

        Returns:
            ``None`` when the cache is down for longer than it is worth waiting: compute without it.
        """
        ...

    def fill(self, lead: Lead, response: LMResponse) -> None:
        """Store the leader's answer and hand it to everyone waiting."""
        ...

    def abandon(self, lead: Lead, error: Exception | None) -> None:
        """
        End the flight without an answer.

        ``error`` is shared with the waiters when it does not depend on the caller; with ``None`` the lead passes
        to the next waiter.
        """
        ...
