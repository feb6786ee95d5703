"""The state of one model on one key, as numbers for whoever looks."""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["BookFacts", "BucketFacts"]


class BucketFacts(NamedTuple):
    """A bucket: ``requests`` or ``tokens``, how full it is, and the seconds in which it refills."""

    kind: str
    level: float
    capacity: float
    period: float


class BookFacts(NamedTuple):
    """
    The state of one model on one key.

    Attributes:
        limit: Attempts that may be in flight now, as learned; ``most`` is the user's own bound.
        in_flight: Leases that are out.
        waiting: Callers who wait for one.
        paused: Seconds that the provider asked us to wait.
        buckets: Requests and tokens a minute.
        breaker: ``closed``, ``open`` or ``half_open``.
        probe_in: Seconds until an open breaker lets one call through.
        key_error: The class of the provider's error about the key; empty while it is good.
        processes: Live processes that share the limits; 1 where they are this one's own.
        alone: Why the others cannot be asked, so that a fair share of the limits holds; empty while they can.
    """

    limit: int
    most: int
    in_flight: int
    waiting: int
    paused: float
    buckets: tuple[BucketFacts, ...]
    breaker: str
    probe_in: float
    key_error: str
    processes: int = 1
    alone: str = ""
