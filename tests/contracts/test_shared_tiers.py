"""The cache's tiers in a file, in Redis and in Postgres keep one contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dspex._random import fresh_id
from dspex.runtime import Backoff, Runtime, Supervisor
from dspex.services.cache.gateway import tier_in
from dspex.services.cache.postgres_tier import PostgresTier
from dspex.services.cache.shared_tier import SharedTier
from dspex.services.shared.address import Shared
from dspex.services.shared.gateway import SharedGateway
from dspex.testing.conformance import SharedTierContract
from tests.support.stores import Store


class OfStore(SharedTierContract):
    shared: Shared

    @asynccontextmanager
    async def open_tier(self) -> AsyncIterator[SharedTier]:
        async with Runtime() as runtime:
            gateway = SharedGateway(runtime, self.shared, PostgresTier.parts)
            await runtime.start(Supervisor([gateway.spec()], backoff=Backoff()))
            yield tier_in(gateway)


class TestServer(OfStore):
    @pytest.fixture(autouse=True)
    def _store(self, shared_store: Store) -> None:
        self.shared = Shared(shared_store.url, namespace=fresh_id("tier"), timeout=10.0)


class TestFile(OfStore):
    @pytest.fixture(autouse=True)
    def _store(self, tmp_path: Path) -> None:
        self.shared = Shared(f"sqlite:///{tmp_path}/shared.db", timeout=10.0)
