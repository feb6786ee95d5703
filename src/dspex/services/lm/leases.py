"""The leases: plain data of one key's supervisor, so that they outlive the client that lends."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dspex.protocols.forms import FormMemory
from dspex.services.lm.buckets import TokenHold
from dspex.services.lm.key_health import KeyHealth

if TYPE_CHECKING:
    from dspex.protocols.wire import Headroom
    from dspex.runtime import ActorRef, From, ProcessRef
    from dspex.services.lm.channel import Channel
    from dspex.services.lm.lease_book import LeaseBook
    from dspex.services.lm.slices import ModelShare

__all__ = ["NOTHING_HELD", "Lease", "LeaseTable"]

NOTHING_HELD = TokenHold()


@dataclass(slots=True, eq=False)
class Lease:
    """
    The right to make one attempt; recorded with its holder before it is granted.

    The holder writes down what happens to the attempt in the tick it happens, so that whoever takes the lease back
    knows it, however the holder ended.

    Attributes:
        id: Counts up within a table.
        model: The process that has the lease.
        holder: The process that may make the attempt.
        ticket: The circuit breaker's; a new client ignores the tickets of its predecessor.
        key_ticket: The key's; 0 unless this attempt finds out whether the key is good again.
        held: The amounts taken out of the buckets for it.
        sent: Bytes were handed to the network: from then on it may have been charged.
        sent_at: When, by the runtime's clock.
        begun_at: When the answer began: a stream with its first piece, another with the first byte of its body.
        headroom: The rest of the provider's limits, by the answer's headers.
        deadline: When its caller's time is over.
    """

    id: int
    model: str
    holder: ProcessRef
    ticket: int
    key_ticket: int = 0
    held: TokenHold = NOTHING_HELD
    sent: bool = False
    sent_at: float = 0.0
    begun_at: float | None = None
    headroom: Headroom | None = None
    deadline: float = math.inf


class LeaseTable:
    """The leases of all models on one key, what is known of the key, and the channel they are for."""

    __slots__ = (
        "_last",
        "books",
        "channel",
        "clients",
        "forms",
        "has_answered",
        "key",
        "known",
        "leases",
        "pauses",
        "shares",
    )

    def __init__(self) -> None:
        self.leases: dict[int, Lease] = {}
        self.books: dict[str, LeaseBook[From]] = {}
        """The book of each model whose client is there."""
        self.channel: Channel | None = None
        self.key = KeyHealth()
        self.has_answered = False
        """True once the server has answered anybody anything."""
        self.clients: dict[str, ActorRef] = {}
        """The live client of each model: all are told when the key turns out to be refused, or good again."""
        self.known: set[str] = set()
        """Models that have had a client: a second one of the same model is a successor."""
        self.pauses: dict[str, float] = {}
        """Until when the provider asked us to wait, by model and the runtime's clock; a successor waits as well."""
        self.shares: dict[str, ModelShare] = {}
        """By model: what other processes share with this one; empty where nobody does."""
        self.forms: dict[str, FormMemory] = {}
        """By model: which forms of answers it cannot write, as its first turns showed."""
        self._last = 0

    def grant(
        self,
        model: str,
        holder: ProcessRef,
        ticket: int,
        key_ticket: int = 0,
        held: TokenHold = NOTHING_HELD,
        deadline: float = math.inf,
    ) -> Lease:
        """Record a new lease and return it."""
        self._last += 1
        lease = Lease(self._last, model, holder, ticket, key_ticket, held, deadline=deadline)
        self.leases[lease.id] = lease
        return lease

    def of(self, model: str) -> list[Lease]:
        """Return the leases that are out for ``model``."""
        return [lease for lease in self.leases.values() if lease.model == model]
