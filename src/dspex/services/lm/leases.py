"""What is lent out: plain data of one key's supervisor, so that it outlives the client that lends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspex.runtime import ProcessRef
    from dspex.services.lm.channel import Channel

__all__ = ["Lease", "LeaseTable"]


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to make one attempt; recorded with its holder before it is granted."""

    id: int
    model: str
    holder: ProcessRef
    ticket: int
    """The circuit breaker's; a new client ignores the tickets of its predecessor."""


class LeaseTable:
    """The leases of all models on one key, and the channel they are for."""

    __slots__ = ("_last", "channel", "known", "leases")

    def __init__(self) -> None:
        self.leases: dict[int, Lease] = {}
        self.channel: Channel | None = None
        self.known: set[str] = set()
        """Models that have had a client: a second one of the same model is a successor."""
        self._last = 0

    def grant(self, model: str, holder: ProcessRef, ticket: int) -> Lease:
        """Record a new lease and return it."""
        self._last += 1
        lease = Lease(self._last, model, holder, ticket)
        self.leases[lease.id] = lease
        return lease

    def of(self, model: str) -> list[Lease]:
        """Return the leases that are out for ``model``."""
        return [lease for lease in self.leases.values() if lease.model == model]
