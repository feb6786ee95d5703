"""The memory tier: bounded, and read without a wait."""

from __future__ import annotations

from collections import OrderedDict
from math import inf

from dspex._clock import wall_time
from dspex.protocols.lm import LMResponse

__all__ = ["MemoryTier"]


class MemoryTier:
    """
    An LRU of values, bounded in number and bytes.

    Entries leave by age of use, or are found to have expired when they are asked for: no timer outlives them. (The
    memory backend of aiocache grows for ever, and importing it imports every server's client that is installed.)
    """

    def __init__(self, *, max_entries: int = 10_000, max_bytes: int = 256 * 2**20) -> None:
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.bytes = 0
        self.evicted = 0
        self._cache: OrderedDict[str, LMResponse] = OrderedDict()
        self._until: dict[str, float] = {}  # of those that expire

    def __len__(self) -> int:
        return len(self._cache)

    def get_nowait(self, key: str) -> LMResponse | None:
        """Return the value and count it as used just now."""
        found = self._cache.get(key)
        if found is not None:
            if self._until and self._until.get(key, inf) <= wall_time():
                self._drop(key)
                return None
            self._cache.move_to_end(key)
        return found

    def set_nowait(self, key: str, value: LMResponse, until: float | None = None) -> None:
        """
        Keep a value; the least recently used ones leave until the bounds hold.

        Args:
            until: When it stops being served, in seconds since the epoch; None where only others make it leave.
        """
        self._drop(key)
        self._cache[key] = value
        self.bytes += _size(value)
        if until is not None:
            self._until[key] = until
        while len(self._cache) > self.max_entries or (self.bytes > self.max_bytes and len(self._cache) > 1):
            self._drop(next(iter(self._cache)))
            self.evicted += 1

    def remove_nowait(self, key: str, value: LMResponse) -> None:
        """Remove a value, if it is still the one that is kept under ``key``."""
        if self._cache.get(key) == value:
            self._drop(key)

    def _drop(self, key: str) -> None:
        old = self._cache.pop(key, None)
        if old is not None:
            self.bytes -= _size(old)
            if self._until:
                self._until.pop(key, None)


def _size(value: LMResponse) -> int:
    """Return about how many bytes a value takes."""
    return 600 + sum(len(each.text) for each in value.completions) + 40 * len(value.headers)
