"""Cells in Postgres: a text is read with the server's clock, and written if it is still the same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from dspex.services.shared.cells import TRIES, Step, contended
from dspex.services.shared.gateway import SharedGateway
from dspex.services.shared.link import SchemaPart

if TYPE_CHECKING:
    from asyncpg import Connection

__all__ = ["CELLS", "PostgresCells"]

R = TypeVar("R")

CELLS: Final = SchemaPart(
    "cells",
    1,
    """
    CREATE TABLE IF NOT EXISTS dspex.cells (name text PRIMARY KEY, text text NOT NULL, until timestamptz NOT NULL);
    """,
)
"""The table of cells."""

_READ: Final = """
SELECT (SELECT text FROM dspex.cells WHERE name = $1 AND until >= clock_timestamp()) AS text,
       extract(epoch FROM clock_timestamp())::float8 AS now
"""
_MAKE: Final = """
INSERT INTO dspex.cells VALUES ($1, $2, clock_timestamp() + make_interval(secs => $3))
ON CONFLICT (name) DO UPDATE SET text = excluded.text, until = excluded.until
WHERE dspex.cells.until < clock_timestamp() RETURNING true
"""
_SWAP: Final = """
UPDATE dspex.cells SET text = $2, until = clock_timestamp() + make_interval(secs => $3)
WHERE name = $1 AND text = $4 RETURNING true
"""
_SWEEP: Final = "DELETE FROM dspex.cells WHERE until < clock_timestamp()"


class PostgresCells:
    """
    Implements ``Cells`` on a Postgres.

    Every statement is a transaction of its own, so that a process that is killed leaves no lock behind.
    """

    def __init__(self, gateway: SharedGateway) -> None:
        self._gateway = gateway

    async def change(self, name: str, step: Step[R], keep: float) -> R:
        """Change one cell, as ``Cells.change`` says."""
        key = f"{self._gateway.shared.namespace}/{name}"
        for _ in range(TRIES):
            before, now = await self._gateway.run(lambda db: _read(db, key))
            text, answer = step(before, now)
            if await self._gateway.run(lambda db: _swap(db, key, before, text, keep)):  # noqa: B023 - awaited here
                return answer
        raise contended(name)


async def _read(db: Connection, key: str) -> tuple[str | None, float]:
    row = await db.fetchrow(_READ, key)
    return row["text"], row["now"]


async def _swap(db: Connection, key: str, before: str | None, text: str, keep: float) -> bool:
    if before is not None:
        return await db.fetchval(_SWAP, key, text, keep, before) is True
    await db.execute(_SWEEP)
    return await db.fetchval(_MAKE, key, text, keep) is True
