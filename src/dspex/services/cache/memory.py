"""The memory tier: aiocache's in-process backend, made bounded and readable without a wait."""

from __future__ import annotations

from collections import OrderedDict
from typing import cast

from aiocache import SimpleMemoryCache
from aiocache.serializers import NullSerializer

from dspex.protocols.lm import LMResponse

__all__ = ["MemoryTier"]


class MemoryTier(SimpleMemoryCache):  # type: ignore[misc]  # aiocache ships no types
    """
    An LRU of responses, bounded in number and bytes.

    aiocache's own memory backend grows for ever and its expiry timers outlive the values they were set for; so
    entries here leave by age of use alone, and are told apart by keys that carry a version.
    """

    def __init__(self, *, max_entries: int = 10_000, max_bytes: int = 256 * 2**20) -> None:
        super().__init__(serializer=NullSerializer(), timeout=None)
        self.max_entries = max_entries
        self.max_bytes = max_bytes
        self.bytes = 0
        self.evicted = 0
        self._cache: OrderedDict[str, LMResponse] = OrderedDict()

    def __len__(self) -> int:
        return len(self._cache)

    def get_nowait(self, key: str) -> LMResponse | None:
        """Return the response and count it as used just now."""
        found = self._cache.get(key)
        if found is not None:
            self._cache.move_to_end(key)
        return found

    def set_nowait(self, key: str, response: LMResponse) -> None:
        """Keep a response; the least recently used ones leave until the bounds hold."""
        old = self._cache.pop(key, None)
        if old is not None:
            self.bytes -= _size(old)
        self._cache[key] = response
        self.bytes += _size(response)
        while len(self._cache) > self.max_entries or (self.bytes > self.max_bytes and len(self._cache) > 1):
            _, gone = self._cache.popitem(last=False)
            self.bytes -= _size(gone)
            self.evicted += 1

    def remove_nowait(self, key: str, response: LMResponse) -> None:
        """Remove a response, if it is still the one that is kept under ``key``."""
        if self._cache.get(key) == response:
            self.bytes -= _size(self._cache.pop(key))

    async def _get(self, key: str, encoding: str = "utf-8", _conn: object = None) -> LMResponse | None:
        return self.get_nowait(key)

    async def _set(
        self, key: str, value: object, ttl: object = None, _cas_token: object = None, _conn: object = None
    ) -> bool:
        self.set_nowait(key, cast("LMResponse", value))
        return True

    async def _delete(self, key: str, _conn: object = None) -> int:
        old = self._cache.pop(key, None)
        if old is None:
            return 0
        self.bytes -= _size(old)
        return 1

    async def _clear(self, namespace: str | None = None, _conn: object = None) -> bool:
        self._cache.clear()
        self.bytes = 0
        return True


def _size(response: LMResponse) -> int:
    """Return about how many bytes a response takes."""
    return 600 + sum(len(each.text) for each in response.completions) + 40 * len(response.headers)
