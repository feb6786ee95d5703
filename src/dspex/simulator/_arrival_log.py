"""The log of arrivals and their ends, by which a client is judged."""

from collections import deque
from collections.abc import Mapping
from typing import Any

from dspex.simulator.judge import Arrival

__all__ = ["ArrivalLog", "attempt_of", "call_of"]

_KEPT = 20_000
_NAMES = ("idempotency-key", "x-client-request-id")
_ATTEMPTS = ("x-attempt", "x-stainless-retry-count")


class ArrivalLog:
    """The arrivals since the simulator started or was reset, the oldest forgotten first."""

    def __init__(self) -> None:
        # Members of `Arrival` by name: one is made only when it is asked for, since a server under load notes many.
        self._ended: deque[dict[str, Any]] = deque(maxlen=_KEPT)  # Any: each member has its own type
        self._open: dict[int, dict[str, Any]] = {}  # Any: likewise
        self._count = 0

    def begin(self, **members: Any) -> int:  # Any: those of `Arrival`
        """Note a request; return the number it has from now on."""
        self._count += 1
        self._open[self._count] = members
        members["number"] = self._count
        return self._count

    def end(self, number: int, at: float, outcome: str) -> None:
        """Note how a request ended; one from before a reset is forgotten."""
        begun = self._open.pop(number, None)
        if begun is not None:
            begun["ended"] = at
            begun["outcome"] = outcome
            self._ended.append(begun)

    def arrivals(self) -> tuple[Arrival, ...]:
        """Return all of them, in the order in which they came."""
        found = [Arrival(**members) for members in (*self._ended, *self._open.values())]
        return tuple(sorted(found, key=lambda one: one.number))

    def reset(self) -> None:
        """Forget everything."""
        self._ended.clear()
        self._open.clear()


def call_of(headers: Mapping[str, str], digest: bytes) -> tuple[str, str]:
    """Return what names the logical call that a request belongs to, and its name."""
    for name in _NAMES:
        if headers.get(name):
            return name, headers[name]
    return "body", digest.hex()


def attempt_of(headers: Mapping[str, str]) -> int | None:
    """Return which attempt of its call a request says it is."""
    found = next((headers[name] for name in _ATTEMPTS if name in headers), "")
    return int(found) if found.isascii() and found.isdigit() else None
