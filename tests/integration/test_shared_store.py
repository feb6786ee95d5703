"""The connection to a store that processes share, with real servers that are killed, stopped and started again."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import dspex
from dspex import App
from dspex.errors import SharedError
from dspex.runtime import Backoff, Runtime, Supervisor
from dspex.services.shared.address import Shared
from dspex.services.shared.gateway import SharedGateway
from dspex.services.shared.link import SchemaPart
from dspex.testing import ScriptedLM
from tests.support.programs import until
from tests.support.stores import PostgresServer, Store

PATIENT = 10.0
"""Seconds for an operation where it is not the timeout that is tested: this machine may be busy."""


@asynccontextmanager
async def opened(store: Store, *parts: SchemaPart, timeout: float = PATIENT) -> AsyncIterator[SharedGateway]:
    async with Runtime() as runtime:
        gateway = SharedGateway(runtime, Shared(store.url, timeout=timeout), parts)
        await runtime.start(Supervisor([gateway.spec()], backoff=Backoff()))
        yield gateway


async def alive(connection: Any) -> object:  # a client of Redis, or a connection of asyncpg
    """Ask for a sign of life, whatever the store is."""
    if hasattr(connection, "fetchval"):
        return await connection.fetchval("SELECT 1")
    return await connection.incr("alive")


def store_of(app: App) -> dict[str, Any]:
    stores: Any = app.health()["shared"]
    health: dict[str, Any] = stores[0]
    return health


async def test_operations_share_the_connections(shared_store: Store) -> None:
    """Twenty at once go over four connections, and all are answered."""
    async with opened(shared_store) as gateway:
        found = await asyncio.gather(*(gateway.run(alive) for _ in range(20)))

        assert len(found) == 20
        assert gateway.is_up
        assert gateway.health() == {"store": gateway.shared.address, "up": True}
        assert gateway.table.operations == 20


async def test_a_refused_operation_is_not_an_outage(shared_store: Store) -> None:
    async def nonsense(connection: Any) -> object:
        if hasattr(connection, "fetchval"):
            return await connection.fetchval("SELEKT 1")
        return await connection.execute_command("NONSENSE")

    async with opened(shared_store) as gateway:
        with pytest.raises(SharedError, match="refused"):
            await gateway.run(nonsense)

        assert await gateway.run(alive)


async def test_a_cancelled_operation_leaves_no_answer_for_the_next(shared_store: Store) -> None:
    """Its connection is closed: nobody reads what was meant for another."""

    async def slow(connection: Any) -> object:
        if hasattr(connection, "fetchval"):
            return await connection.fetchval("SELECT 'slow' FROM pg_sleep(5)")
        return await connection.blpop("nothing", timeout=5)

    async with opened(shared_store) as gateway:
        asked = asyncio.ensure_future(gateway.run(slow))
        await until(lambda: gateway.table.operations == 1)
        asked.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asked

        assert [type(each) for each in [await gateway.run(alive) for _ in range(6)]] == [int] * 6


async def test_a_store_that_was_killed_is_used_again(shared_store: Store) -> None:
    """The first operation afterwards fails, the next ones fail at once, and after the restart all is as before."""
    async with opened(shared_store) as gateway:
        await gateway.run(alive)
        shared_store.kill()
        try:
            with pytest.raises(SharedError, match="is down"):
                await gateway.run(alive)
            tried = gateway.table.operations
            with pytest.raises(SharedError, match="is down"):
                await gateway.run(alive)
            assert gateway.table.operations == tried
            assert gateway.health()["up"] is False
        finally:
            shared_store.start()

        await until(lambda: gateway.is_up, "the store to be used again")
        assert await gateway.run(alive)


async def test_a_hanging_store_is_waited_for_once(shared_store: Store) -> None:
    """Many wait for it together, for one timeout; who comes later waits for nothing."""
    async with opened(shared_store, timeout=0.3) as gateway:
        await gateway.run(alive)
        shared_store.stop()
        try:
            ends = await asyncio.gather(*(gateway.run(alive) for _ in range(20)), return_exceptions=True)
            assert {type(each) for each in ends} == {SharedError}
            assert gateway.table.operations <= 1 + gateway.shared.connections  # the others have not even been tried
            assert "no answer within 0.3 s" in str(ends[0])

            before = time.process_time()
            for _ in range(100):
                with pytest.raises(SharedError):
                    await gateway.run(alive)
            assert time.process_time() - before < 1.0
        finally:
            shared_store.go_on()

        await until(lambda: gateway.is_up, "the store to be used again")
        await until(lambda: gateway.table.reason is None)


async def test_an_app_starts_without_its_store_and_finds_it_later(shared_store: Store) -> None:
    """It says so in its tree, in its health and by an event, and answers all the same."""
    shared_store.kill()
    events: list[str] = []
    app = App(ScriptedLM(lambda _: {"answer": "a"}, model="scripted/m"), shared=shared_store.url)
    app.telemetry.attach("dspex.shared.", lambda name, numbers, facts: events.append(name))
    try:
        async with app:
            prediction = await app.run(dspex.Predict("question -> answer"), question="q")
            assert prediction.answer == "a"
            assert app.health()["ready"] is True
            assert store_of(app)["up"] is False
            assert "down" in app.tree().children[0].note

            shared_store.start()
            await until(lambda: store_of(app)["up"], "the store to be found")
            assert "up" in app.tree().children[0].note
    finally:
        shared_store.start()
    assert events == ["dspex.shared.down", "dspex.shared.up"]


async def test_a_killed_connection_is_opened_anew(shared_store: Store) -> None:
    """The actor's death closes the link; its successor opens another one."""
    async with opened(shared_store) as gateway:
        link = gateway.table.link
        actor = gateway._runtime.whereis("shared")
        assert actor is not None
        actor.kill()
        await actor.wait_exit()
        await until(lambda: gateway.is_up)

        assert gateway.table.link is not link
        assert await gateway.run(alive)


PART = SchemaPart(
    "test",
    1,
    "CREATE TABLE dspex.test_things (number integer); INSERT INTO dspex.test_things VALUES (1);",
)


async def test_many_make_the_schema_at_once(postgres_server: PostgresServer) -> None:
    """Eight open a fresh database in the same moment: the script has run once."""
    async with opened(postgres_server) as first:
        await first.run(lambda connection: connection.execute("DROP SCHEMA IF EXISTS dspex CASCADE"))
    async with Runtime() as runtime:
        gateways = [
            SharedGateway(runtime, Shared(postgres_server.url, timeout=PATIENT), [PART], name=f"store {number}")
            for number in range(8)
        ]
        await runtime.start(Supervisor([each.spec() for each in gateways], backoff=Backoff()))
        await until(lambda: all(each.is_up for each in gateways))

        count = await gateways[0].run(lambda connection: connection.fetchval("SELECT count(*) FROM dspex.test_things"))
        assert count == 1


async def test_a_schema_of_a_newer_version_is_left_alone(postgres_server: PostgresServer) -> None:
    """An older process goes without, and says what to do."""
    newer = PART._replace(name="newer", version=2, script="SELECT 1")
    async with opened(postgres_server, newer) as gateway:
        assert gateway.is_up
    async with opened(postgres_server, newer._replace(version=1)) as gateway:
        assert not gateway.is_up
        assert "newer dspex" in str(gateway.table.reason)


async def test_a_schema_that_was_dropped_is_made_again(postgres_server: PostgresServer) -> None:
    part = PART._replace(name="dropped", script="CREATE TABLE dspex.dropped (number integer)")
    async with opened(postgres_server, part) as gateway:
        await gateway.run(lambda connection: connection.execute("DROP SCHEMA dspex CASCADE"))
        with pytest.raises(SharedError, match="is down"):
            await gateway.run(lambda connection: connection.fetchval("SELECT count(*) FROM dspex.dropped"))

        await until(lambda: gateway.is_up)
        assert await gateway.run(lambda connection: connection.fetchval("SELECT count(*) FROM dspex.dropped")) == 0
