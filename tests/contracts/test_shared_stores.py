"""The shared tiers keep the contract of every store of answers; they are asynchronous, so a loop in a thread asks."""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any, TypeVar

import pytest

from dspex._clock import wall_time
from dspex.protocols.cache import CacheStore
from dspex.protocols.lm import LMResponse
from dspex.runtime import Backoff, Runtime, Supervisor
from dspex.services.cache.envelope import CacheEntry, decode_entry, encode_entry
from dspex.services.cache.gateway import tier_in
from dspex.services.cache.postgres_tier import PostgresTier
from dspex.services.cache.shared_tier import NEWEST, Put
from dspex.services.shared.address import Shared
from dspex.services.shared.gateway import SharedGateway
from dspex.testing.conformance import CacheStoreContract
from tests.support.stores import PostgresServer, RedisServer

R = TypeVar("R")


class BlockingTier:
    """A ``CacheStore`` over the shared tier in a store."""

    def __init__(self, url: str) -> None:
        self._shared = Shared(url, namespace=secrets.token_hex(4), timeout=10.0)

    def open(self) -> BlockingTier:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self._stack = AsyncExitStack()
        self._run(self._begin())
        return self

    def get(self, key: str) -> LMResponse | None:
        (text,) = self._run(self._tier.get([key]))
        entry = decode_entry(text, wall_time()) if text is not None else None
        return entry.value if isinstance(entry, CacheEntry) and isinstance(entry.value, LMResponse) else None

    def set(self, key: str, response: LMResponse) -> int:
        envelope = encode_entry(CacheEntry(response, wall_time()))
        self._run(self._tier.put([Put(key, envelope, NEWEST)], "owner"))
        return 0

    def remove(self, key: str, response: LMResponse) -> None:
        (text,) = self._run(self._tier.get([key]))
        if text is not None and self.get(key) == response:
            self._run(self._tier.remove(key, text))

    def close(self) -> None:
        self._run(self._stack.aclose())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _begin(self) -> None:
        runtime = await self._stack.enter_async_context(Runtime())
        gateway = SharedGateway(runtime, self._shared, PostgresTier.parts)
        await runtime.start(Supervisor([gateway.spec()], backoff=Backoff()))
        self._tier = tier_in(gateway)

    def _run(self, work: Coroutine[Any, Any, R]) -> R:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


class TestRedis(CacheStoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, redis_server: RedisServer) -> None:
        self.url = redis_server.url

    def make_store(self) -> CacheStore:
        return BlockingTier(self.url)


class TestPostgres(CacheStoreContract):
    @pytest.fixture(autouse=True)
    def _server(self, postgres_server: PostgresServer) -> None:
        self.url = postgres_server.url

    def make_store(self) -> CacheStore:
        return BlockingTier(self.url)
