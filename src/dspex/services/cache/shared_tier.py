"""A shared tier, whichever store it is in: envelopes under keys, and leases on keys that nobody has yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from dspex.services.shared.link import SchemaPart

__all__ = ["MAX_BYTES", "NEWEST", "NO_LEASE", "Claim", "Granted", "Held", "Put", "SharedTier", "Stored"]

MAX_BYTES: Final = 16 * 2**20
"""The largest envelope that is stored, and that is read."""

NO_LEASE: Final = 0
"""The fence of a value that was made without a lease: it takes the place of nothing."""

NEWEST: Final = -1
"""The fence of a refresh: the store gives it one of this very moment."""


@dataclass(frozen=True, slots=True)
class Stored:
    """The envelope that is there."""

    envelope: str


@dataclass(frozen=True, slots=True)
class Granted:
    """Nobody has the value, and nobody else may make it until the lease ends; ``fence`` goes with what comes of it."""

    fence: int


@dataclass(frozen=True, slots=True)
class Held:
    """Another process makes the value, or has died with the lease, which then ends in ``seconds``."""

    seconds: float


class Claim(NamedTuple):
    """A key, and whether its value is wanted where there is one: not when it was there and could not be read."""

    key: str
    read: bool = True


class Put(NamedTuple):
    """A value to be stored; ``ttl`` in seconds."""

    key: str
    envelope: str
    fence: int = NO_LEASE
    ttl: float | None = None
    model: str = ""


class SharedTier(Protocol):
    """
    A tier that several processes share. Every method is one operation on the store, and raises SharedError.

    An owner is a text that no other process has. A fence is a number that grows with every lease on a key. A value
    replaces another only if its fence is not smaller: what a leader brings after its lease has passed to somebody else
    is dropped when that other one was faster.
    """

    parts: Sequence[SchemaPart]
    """The tables and functions that a Postgres needs for it."""

    async def claim(self, claims: Sequence[Claim], owner: str, seconds: float) -> list[Stored | Granted | Held]:
        """Return for each key its value, or a lease of so many seconds, or how long another has it."""
        ...

    async def renew(self, leases: Sequence[tuple[str, int]], owner: str, seconds: float) -> None:
        """Let leases (key and fence) last so many seconds from now, also those that the store has forgotten."""
        ...

    async def put(self, values: Sequence[Put], owner: str) -> None:
        """Store values, and give back the leases under which they were made."""
        ...

    async def release(self, leases: Sequence[tuple[str, int]], owner: str) -> None:
        """Give back leases that nothing came of; one that has passed to another stays."""
        ...

    async def get(self, keys: Sequence[str]) -> list[str | None]:
        """Return the envelopes of keys; no lease is looked at."""
        ...

    async def remove(self, key: str, envelope: str) -> None:
        """Remove a value if it still is this very one."""
        ...

    async def sweep(self) -> int:
        """Remove some of what has expired, where the store does not do so by itself; return how many values."""
        ...
