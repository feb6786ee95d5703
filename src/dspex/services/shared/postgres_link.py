"""The link to Postgres, through the package ``asyncpg``, which is loaded when the first one is opened."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeVar

from dspex.errors import SharedError
from dspex.services.shared.address import Shared
from dspex.services.shared.link import SchemaPart

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["PostgresLink"]

R = TypeVar("R")

_LOCK: Final = 0x64_73_70_65_78
"""The advisory lock under which processes make the schema one after the other."""

_TABLE: Final = """
CREATE SCHEMA IF NOT EXISTS dspex;
CREATE TABLE IF NOT EXISTS dspex.parts (part text PRIMARY KEY, version integer NOT NULL);
"""


_SETTINGS: Final = {"application_name": "dspex", "synchronous_commit": "on"}
"""The second one whatever the server's own says: a slice of a budget that it forgets would be spent twice."""


class PostgresLink:
    """
    Connections that are used in turn; ``work`` is called with one of them.

    There is no pool of asyncpg's: its release waits for a server that may hang.
    """

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._closed = False

    async def open(self, parts: Sequence[SchemaPart]) -> None:
        """Connect, and make the parts of the schema that are missing or older."""
        connection = await self._connect()
        self._busy.add(connection)
        try:
            await _make_schema(connection, parts)
        except BaseException:  # whatever it is: undone here, then raised on
            self._drop(connection)
            raise
        self._give_back(connection)

    async def run(self, work: Callable[..., Awaitable[R]]) -> R:
        """Await ``work(connection)``."""
        connection = self._idle.pop() if self._idle else None
        while connection is not None and connection.is_closed():
            connection = self._idle.pop() if self._idle else None
        if connection is None:
            connection = await self._connect()
        self._busy.add(connection)
        try:
            result = await work(connection)
        except Exception as error:  # whatever it is: the connection is looked at, then it is raised on
            if self.is_down(error) or connection.is_closed() or connection.is_in_transaction():
                self._drop(connection)
            else:
                self._give_back(connection)  # the statement was refused, the connection is sound
            raise
        except BaseException:  # cancelled, with the answer still on its way
            self._drop(connection)
            raise
        self._give_back(connection)
        return result

    def is_down(self, error: Exception) -> bool:
        """True for lost and refused connections, silence, and a schema that somebody has dropped."""
        from asyncpg import exceptions

        return isinstance(
            error,
            (
                OSError,
                TimeoutError,
                exceptions.InterfaceError,
                exceptions.PostgresConnectionError,
                exceptions.OperatorInterventionError,  # it is being shut down, or starting up
                exceptions.InsufficientResourcesError,
                exceptions.InvalidAuthorizationSpecificationError,
                exceptions.InvalidCatalogNameError,
                exceptions.UndefinedTableError,
                exceptions.UndefinedFunctionError,
                exceptions.InvalidSchemaNameError,
            ),
        )

    async def close(self) -> None:
        """Close all connections without a word to the server, which may hang."""
        self._closed = True
        for connection in (*self._idle, *self._busy):
            self._drop(connection)
        self._idle.clear()

    async def _connect(self) -> Connection:
        import asyncpg

        return await asyncpg.connect(self._shared.url, timeout=self._shared.timeout * 4, server_settings=_SETTINGS)

    def _give_back(self, connection: Connection) -> None:
        self._busy.discard(connection)
        if self._closed:
            connection.terminate()
        else:
            self._idle.append(connection)

    def _drop(self, connection: Connection) -> None:
        self._busy.discard(connection)
        connection.terminate()
        for task in tuple(getattr(connection, "_cancellations", ())):
            task.cancel()  # asyncpg asks the server over another connection to stop: this, too, may hang


async def _make_schema(connection: Connection, parts: Sequence[SchemaPart]) -> None:
    """Make what is missing; where all is there, nothing is locked and no right to create is needed."""
    wanted = {part.name: part.version for part in parts}
    if wanted.items() <= (await _versions(connection)).items():
        return
    async with connection.transaction():
        await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
        await connection.execute(_TABLE)
        there = await _versions(connection)  # another process may have been faster
        for part in parts:
            version = there.get(part.name, 0)
            if version > part.version:
                raise SharedError(
                    f"its part {part.name!r} was made by a newer dspex (version {version}; this one knows "
                    f"{part.version}): bring this process up to date, or give it another database",
                )
            if version < part.version:
                await connection.execute(part.script)
                await connection.execute(
                    "INSERT INTO dspex.parts VALUES ($1, $2) ON CONFLICT (part) DO UPDATE SET version = $2",
                    part.name,
                    part.version,
                )


async def _versions(connection: Connection) -> dict[str, int]:
    if await connection.fetchval("SELECT to_regclass('dspex.parts')") is None:
        return {}
    return {row["part"]: row["version"] for row in await connection.fetch("SELECT part, version FROM dspex.parts")}
