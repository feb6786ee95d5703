"""All that a store of answers holds, for commands: counted, written out line by line, read in, cleared."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from dspex.services.cache.envelope import CacheEntry, Unreadable, decode_entry, encode_entry

__all__ = ["HEADER", "VERSION", "Stock", "StockChoice", "StockItem", "StockStats", "header_of", "item_of", "line_of"]

VERSION: Final = 1
HEADER: Final = {"dspex": "cache", "v": VERSION}
"""The first line of a file of entries; ``v`` is raised when older ones can no longer be read as they are."""

_KEY = re.compile(r"[0-9a-f]{64}")
_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class StockItem(NamedTuple):
    """An entry and its place."""

    namespace: str
    key: str
    entry: CacheEntry


@dataclass(frozen=True, slots=True)
class StockChoice:
    """
    The entries that a command is about: those that fit everything that is given.

    Attributes:
        namespace: Theirs.
        model: A part of the name of theirs.
        before: They were made before that, in seconds since the epoch.
    """

    namespace: str | None = None
    model: str | None = None
    before: float | None = None

    def fits(self, namespace: str, model: str, created: float) -> bool:
        """True for an entry with these circumstances."""
        return (
            (self.namespace is None or namespace == self.namespace)
            and (self.model is None or self.model in model)
            and (self.before is None or created < self.before)
        )


@dataclass(slots=True)
class StockStats:
    """The entries of one namespace and model."""

    namespace: str
    model: str
    entries: int = 0
    bytes: int = 0
    oldest: float = 0.0
    newest: float = 0.0

    def count(self, size: int, created: float) -> None:
        """Count one entry."""
        self.oldest = min(self.oldest, created) if self.entries else created
        self.newest = max(self.newest, created)
        self.entries += 1
        self.bytes += size


class Stock(Protocol):
    """An open store; every method raises CacheError or SharedError when the store fails."""

    async def stats(self) -> Sequence[StockStats]:
        """Count the entries by namespace and model."""
        ...

    def items(self, choice: StockChoice) -> AsyncIterator[StockItem | Unreadable]:
        """Yield the entries, one after the other; what cannot be read is told as such."""
        ...

    async def add(self, items: Sequence[StockItem]) -> int:
        """Store entries that are not there, or are older there; return how many that were."""
        ...

    async def clear(self, choice: StockChoice) -> int:
        """Remove entries; return how many that were."""
        ...

    async def aclose(self) -> None:
        """Close the store."""
        ...


def line_of(item: StockItem) -> str:
    """Return the JSON line of an entry, without its end."""
    about = json.dumps({"namespace": item.namespace, "key": item.key}, separators=(",", ":"))
    return f"{about[:-1]},{encode_entry(item.entry)[1:]}"


def item_of(line: str, now: float) -> StockItem | Unreadable:
    """Return the entry of a line, or why there is none; never raises."""
    entry = decode_entry(line, now)
    if not isinstance(entry, CacheEntry):
        return entry
    fields = json.loads(line)  # it is an object, as the entry was read
    namespace, key = fields.get("namespace"), fields.get("key")
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        return "damaged"
    if not isinstance(namespace, str) or not _NAMESPACE.fullmatch(namespace):
        return "damaged"
    return StockItem(namespace, key, entry)


def header_of(line: str) -> int | None:
    """Return the version of a file of entries by its first line; None for any other file."""
    try:
        fields: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(fields, dict) or fields.get("dspex") != HEADER["dspex"]:
        return None
    version = fields.get("v")
    return version if isinstance(version, int) and not isinstance(version, bool) else None
