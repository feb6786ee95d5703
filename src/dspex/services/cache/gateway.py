"""The cache's door: a synchronous look into memory, and the single-flight protocol by name."""

from __future__ import annotations

from dspex.errors import CallTimeout, ServiceUnavailable
from dspex.protocols.cache import CacheStore, Hit, Lead
from dspex.protocols.lm import LMResponse
from dspex.runtime import ChildSpec, Runtime, calling_process
from dspex.services.cache.file_tier import FileTier
from dspex.services.cache.memory import MemoryTier
from dspex.services.cache.postgres_tier import PostgresTier
from dspex.services.cache.redis_tier import RedisTier
from dspex.services.cache.server import Abandon, CacheServer, CacheTable, Fill, Lookup, Remove
from dspex.services.cache.shared_tier import SharedTier
from dspex.services.shared.gateway import SharedGateway

__all__ = ["CACHE", "CacheGateway", "tier_in"]

CACHE = "cache"
"""The name under which the cache's actor is registered."""

PATIENCE = 0.1
"""Seconds a lookup waits for a cache that is being restarted before it goes without."""


class CacheGateway:
    """Implements ``protocols.CacheService`` over the supervised ``CacheServer``."""

    def __init__(
        self,
        runtime: Runtime,
        *,
        memory: MemoryTier,
        disk: CacheStore | None,
        shared: SharedGateway | None = None,
        ttl: float | None = None,
    ) -> None:
        self._runtime = runtime
        self._disk = disk
        self._shared = shared
        self._server = runtime.named(CACHE)
        self.table = CacheTable(memory, ttl)

    def spec(self) -> ChildSpec:
        """Return the child spec of the cache's actor."""
        shared = self._shared
        tier = tier_in(shared) if shared is not None else None
        lease = shared.shared.lease if shared is not None else 0.0
        return ChildSpec(CACHE, CacheServer, (self.table, self._disk, tier, lease), name=CACHE)

    def peek(self, key: str) -> LMResponse | None:
        """Return what memory holds, at once."""
        found = self.table.memory.get_nowait(key)
        if found is None:
            return None
        self._count_hit("memory")
        return found

    async def lookup(self, key: str, deadline: float, *, read: bool = True) -> Hit | Lead | None:
        """Find the answer, wait for it, or become its leader; None when the cache is down for too long."""
        message = Lookup(key, calling_process().ref, read)
        try:  # one that dies with our question has a successor, which knows the flight
            found: Hit | Lead = await self._server.ask(message, patience=PATIENCE)
        except (CallTimeout, ServiceUnavailable) as error:
            self._emit("dspex.cache.bypass", {"reason": str(error)})
            return None
        if isinstance(found, Hit):
            self._count_hit(found.tier)
        else:
            self.table.misses += 1
            self._emit("dspex.cache.miss", {})
        return found

    def fill(self, lead: Lead, response: LMResponse) -> None:
        """Store the answer in memory, where everybody looks first, and have the server store it for longer."""
        # First here: a server that is killed with the message in its mailbox would lose the answer.
        memory, before = self.table.memory, self.table.memory.evicted
        memory.set_nowait(lead.key, response, self.table.until())
        evicted = memory.evicted - before
        if evicted and self._runtime.telemetry.active:
            self._runtime.telemetry.emit("dspex.cache.evict", {"count": evicted}, {"tier": "memory"})
        self._server.cast(Fill(lead, response))

    def remove(self, key: str, response: LMResponse) -> None:
        """Take an answer out of every tier, if it is still the one that is kept."""
        self.table.memory.remove_nowait(key, response)
        removal = self.table.refused.add(
            key, response
        )  # a server that is killed before it hears of it leaves it to the next
        self._server.cast(Remove(removal))
        self._emit("dspex.cache.remove", {})

    def abandon(self, lead: Lead, error: Exception | None) -> None:
        """End the flight or hand on its lead; a server that is down sees it from our death."""
        self._server.cast(Abandon(lead, error))

    def _count_hit(self, tier: str) -> None:
        self.table.hits[tier] += 1
        if self._runtime.telemetry.active:
            name = "dspex.cache.coalesced" if tier == "coalesced" else "dspex.cache.hit"
            self._runtime.telemetry.emit(name, {}, {"tier": tier})

    def _emit(self, name: str, metadata: dict[str, object]) -> None:
        if self._runtime.telemetry.active:
            self._runtime.telemetry.emit(name, {}, metadata)


def tier_in(shared: SharedGateway) -> SharedTier:
    """Return the cache's tier in a store."""
    if shared.shared.kind == "sqlite":
        return FileTier(shared)
    return RedisTier(shared) if shared.shared.kind == "redis" else PostgresTier(shared)
