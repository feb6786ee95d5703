"""Cells in a file, in Redis and in Postgres keep one contract."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from dspex._random import fresh_id
from dspex.errors import SharedError
from dspex.runtime import Backoff, Runtime, Supervisor, WorkerThread
from dspex.services.shared.address import Shared
from dspex.services.shared.cells import Cells
from dspex.services.shared.gateway import SharedGateway
from dspex.services.shared.postgres_cells import CELLS
from dspex.services.shared.sqlite_cells import FileCells, SqliteFile
from dspex.services.shared.store_cells import cells_of
from dspex.testing.conformance import CellsContract
from tests.support.stores import RedisServer, Store


class TestFile(CellsContract):
    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.path = tmp_path / "cells.db"

    @asynccontextmanager
    async def open_cells(self) -> AsyncIterator[Cells]:
        worker = WorkerThread("cells")
        file = SqliteFile(self.path)
        try:
            yield FileCells(worker, file)
        finally:
            await worker.aclose(file.close)


class StoreContract(CellsContract):
    shared: Shared

    @asynccontextmanager
    async def open_cells(self) -> AsyncIterator[Cells]:
        async with Runtime() as runtime:
            gateway = SharedGateway(runtime, self.shared, [CELLS])
            await runtime.start(Supervisor([gateway.spec()], backoff=Backoff()))
            yield cells_of(gateway)


class TestServer(StoreContract):
    @pytest.fixture(autouse=True)
    def _store(self, shared_store: Store) -> None:
        self.shared = Shared(shared_store.url, namespace=fresh_id("cells"), timeout=10.0)


class TestSharedFile(StoreContract):
    @pytest.fixture(autouse=True)
    def _store(self, tmp_path: Path) -> None:
        self.shared = Shared(f"sqlite:///{tmp_path}/shared.db", timeout=10.0)


def test_another_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "text.db").write_bytes(b"no database" * 100)
    with pytest.raises(SharedError, match=r"text\.db cannot be used"):
        SqliteFile(tmp_path / "text.db")


async def test_scripts_are_sent_again_when_redis_has_forgotten_them(redis_server: RedisServer) -> None:
    async with Runtime() as runtime:
        gateway = SharedGateway(runtime, Shared(redis_server.url, namespace=fresh_id("cells"), timeout=10.0))
        await runtime.start(Supervisor([gateway.spec()], backoff=Backoff()))
        cells = cells_of(gateway)
        await cells.change("a", lambda text, now: ("one", text), 60.0)
        await gateway.run(lambda client: client.script_flush())
        assert await cells.change("a", lambda text, now: ("two", text), 60.0) == "one"
