"""One key at one endpoint: what its part of the tree is built from, and the data that outlives its actors."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlsplit

from dspex._random import generator
from dspex.protocols.model import Secret
from dspex.runtime import NamedRef, Runtime
from dspex.services.lm.leases import LeaseTable
from dspex.services.lm.providers import Endpoint

__all__ = ["EMBEDDING", "LM_SUPERVISOR", "KeyedEndpoint"]

LM_SUPERVISOR = "lm"
"""The name under which the room's supervisor is registered."""


EMBEDDING: Final = " (embeddings)"
"""Stands behind a model's name in that of its client for embeddings."""


@dataclass(slots=True)
class KeyedEndpoint:
    """One (provider, endpoint, key): what its supervisor is built from, and the data that survives restarts."""

    id: str
    endpoint: Endpoint
    key: Secret | None
    table: LeaseTable = field(default_factory=LeaseTable)
    models: set[str] = field(default_factory=set)
    server: str = field(init=False)
    """The host and port that are asked."""
    mark: str = field(default_factory=lambda: f"{generator().getrandbits(64):016x}")
    """Begins every idempotency key: requests are numbered anew in each App, and no two calls may share a key."""

    clients: dict[str, NamedRef] = field(default_factory=dict)
    """A handle on the client of each model that was asked."""

    def __post_init__(self) -> None:
        url = urlsplit(self.endpoint.base_url)
        host = url.hostname or ""
        port = url.port or (80 if url.scheme == "http" else 443)
        self.server = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    @property
    def transport_name(self) -> str:
        """The name of the actor that owns the sockets."""
        return f"{LM_SUPERVISOR}/{self.id}/transport"

    @staticmethod
    def embedder(model: str) -> str:
        """Return what a model is called where it turns texts into vectors: a client, and a breaker, of its own."""
        return model + EMBEDDING

    def client_name(self, model: str) -> str:
        """Return the name of the actor that decides for ``model``."""
        return f"{LM_SUPERVISOR}/{self.id}/{model}"

    def cell_name(self, model: str) -> str:
        """Return the name under which processes share the limits of ``model``: the same key at the same address."""
        where = hashlib.sha256(self.endpoint.base_url.encode()).hexdigest()[:8]
        key = self.key.fingerprint if self.key is not None else "no-key"
        return f"limits/{self.endpoint.provider}/{where}/{key}/{model}"[:300]

    def client(self, runtime: Runtime, model: str) -> NamedRef:
        """Return a handle on the actor that decides for ``model``; it is asked until it answers, so it must wait."""
        handle = self.clients.get(model)
        if handle is None or handle.runtime is not runtime:
            handle = self.clients[model] = runtime.named(self.client_name(model), patient=True)
        return handle
