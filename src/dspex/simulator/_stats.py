"""The counters of a running simulator."""

import asyncio
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

__all__ = ["Counters", "SimulatorStats"]


@dataclass(frozen=True, slots=True)
class SimulatorStats:
    """
    A snapshot of what a simulator has seen since it started or was reset.

    Attributes:
        requests: Requests by outcome: ``ok``, the kind of the fault it met, such as ``429`` or ``reset``, ``limited``
            (over a configured limit), ``rejected`` (a 4xx that is not a fault) and ``cancelled`` (the client left
            before its answer).
        in_flight: Requests read and not yet answered.
        in_flight_high: The most there were at once.
        connections: Open connections.
        connections_high: The most there were at once.
        arrivals: The number of arrivals of each body, by the SHA-256 of its bytes in hexadecimal digits.
    """

    requests: Mapping[str, int]
    in_flight: int
    in_flight_high: int
    connections: int
    connections_high: int
    arrivals: Mapping[str, int]


@dataclass(slots=True)
class Counters:
    """The counts behind the snapshots; `bodies` and `paths` also number the arrivals faults are decided by."""

    requests: Counter[str] = field(default_factory=Counter)
    bodies: Counter[bytes] = field(default_factory=Counter)
    paths: Counter[str] = field(default_factory=Counter)
    in_flight: int = 0
    in_flight_high: int = 0
    connections: int = 0
    connections_high: int = 0
    connected: int = 0
    waiting: list[asyncio.Future[None]] = field(default_factory=list)

    def arrive(self, path: str, digest: bytes) -> tuple[int, int]:
        """Count a request; return how many had this body before, and how many came on this path."""
        before = self.bodies[digest], self.paths[path]
        self.bodies[digest] += 1
        self.paths[path] += 1
        self.in_flight += 1
        self.in_flight_high = max(self.in_flight_high, self.in_flight)
        self._tell()
        return before

    def leave(self, outcome: str) -> None:
        """Count how a request ended."""
        self.requests[outcome] += 1
        self.in_flight -= 1
        self._tell()

    def connect(self) -> int:
        """Count a connection; return which it is, from 1."""
        self.connections += 1
        self.connected += 1
        self.connections_high = max(self.connections_high, self.connections)
        self._tell()
        return self.connected

    def disconnect(self) -> None:
        """Count a connection that has ended."""
        self.connections -= 1
        self._tell()

    def _tell(self) -> None:
        """Wake whoever waits for a change."""
        for waiter in self.waiting:
            if not waiter.done():
                waiter.set_result(None)
        self.waiting.clear()

    def reset(self) -> None:
        """Forget everything but what is still open."""
        for counter in (self.requests, self.bodies, self.paths):
            counter.clear()
        self.in_flight_high = self.in_flight
        self.connections_high = self.connections

    def snapshot(self) -> SimulatorStats:
        """Copy the counts."""
        return SimulatorStats(
            requests=dict(self.requests),
            in_flight=self.in_flight,
            in_flight_high=self.in_flight_high,
            connections=self.connections,
            connections_high=self.connections_high,
            arrivals={digest.hex(): count for digest, count in self.bodies.items()},
        )
