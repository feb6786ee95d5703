"""The shared tier in a SQLite file: a cache file like any other, with leases and fences beside the values."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

from dspex._clock import wall_time
from dspex.services.cache.shared_tier import MAX_BYTES, NEWEST, Claim, Granted, Held, Put, Stored
from dspex.services.cache.sqlite import MAX_USED, ROW_BYTES, SqliteTable
from dspex.services.shared.gateway import SharedGateway
from dspex.services.shared.link import SchemaPart

__all__ = ["FileTable", "FileTier"]

R = TypeVar("R")

_MOST_BYTES: Final = 2 * 2**30
_SWEPT_AT_ONCE: Final = 500

_LEASES: Final = """
CREATE TABLE IF NOT EXISTS leases (
    namespace TEXT NOT NULL, key TEXT NOT NULL, owner TEXT NOT NULL, fence INTEGER NOT NULL, until REAL NOT NULL,
    PRIMARY KEY (namespace, key)
) WITHOUT ROWID
"""
_FENCE: Final = "ALTER TABLE entries ADD COLUMN fence INTEGER NOT NULL DEFAULT 0"

_FIND: Final = """
SELECT kind, model, value, created, until FROM entries
    WHERE namespace = ? AND key = ? AND bytes <= ? AND (until IS NULL OR until > ?)
"""
_PUT: Final = """
INSERT INTO entries (namespace, key, fence, kind, model, value, bytes, created, until, used)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (namespace, key) DO UPDATE SET fence = excluded.fence, kind = excluded.kind, model = excluded.model,
    value = excluded.value, bytes = excluded.bytes, created = excluded.created, until = excluded.until,
    used = excluded.used WHERE fence <= excluded.fence OR until <= excluded.used
"""

_STRANGE: Final = "strange"
"""The kind of a text that is not an envelope: it is kept as it is, and whoever reads it says so."""


class FileTable(SqliteTable):
    """
    An open file; every method blocks, all in one thread.

    Args:
        path: The file; a cache file that is there becomes one that is shared.
        wait: Seconds for which another process may hold it.
        namespace: Values and leases of others are not seen; their values count for the size.

    Raises:
        CacheError: It cannot be opened.
    """

    def __init__(self, path: Path, wait: float, namespace: str) -> None:
        super().__init__(path, _MOST_BYTES, namespace)
        self._db.execute(f"PRAGMA busy_timeout = {int(wait * 1000)}")
        try:
            if not self._has_fences():  # else nothing is written, and no other writer has to be waited for
                with self._writing():
                    self._db.execute(_LEASES)
                    if not self._has_fences():  # another process may have been faster
                        self._db.execute(_FENCE)
        except BaseException:  # whatever it is: undone here, then raised on
            self.close()
            raise

    def _has_fences(self) -> bool:
        return any(row[1] == "fence" for row in self._db.execute("PRAGMA table_info(entries)"))

    def claim(self, claims: Sequence[Claim], owner: str, seconds: float) -> list[Stored | Granted | Held]:
        """Return for each key its value, or a lease, or how long another has it; without leases nothing is written."""
        found = {each.key: self._stored(self._reader, each.key) for each in claims if each.read}
        there = [stored for each in claims if (stored := found.get(each.key)) is not None]
        if len(there) == len(claims):
            if self.has_much_to_note:
                self.note_used()
            return list(there)
        with self._writing():
            return [self._claim(each, owner, seconds) for each in claims]

    def renew(self, leases: Sequence[tuple[str, int]], owner: str, seconds: float) -> None:
        """Let leases last so many seconds from now."""
        with self._writing():
            self._db.executemany(
                "INSERT INTO leases VALUES (?, ?, ?, ?, ?) ON CONFLICT (namespace, key) DO UPDATE "
                "SET until = excluded.until WHERE owner = excluded.owner AND fence = excluded.fence",
                [(self._namespace, key, owner, fence, wall_time() + seconds) for key, fence in leases],
            )

    def store(self, values: Sequence[Put], owner: str) -> None:
        """Store values, give back their leases, and let the oldest leave where the file is too large."""
        with self._writing():
            self._note_used()
            for each in values:
                fence = self._new_fence(each.key) if each.fence == NEWEST else each.fence
                kind, value, created, until = _parts(each.envelope)
                now = wall_time()
                if each.ttl is None:
                    until = None
                elif until is None:
                    until = now + each.ttl
                size = len(value) + ROW_BYTES
                row = (self._namespace, each.key, fence, kind, each.model, value, size, created, until, now)
                self._db.execute(_PUT, row)
            self._release([(each.key, each.fence) for each in values], owner)
            self._evict()

    def release(self, leases: Sequence[tuple[str, int]], owner: str) -> None:
        """Give back leases that nothing came of."""
        with self._writing():
            self._release(leases, owner)

    def texts(self, keys: Sequence[str]) -> list[str | None]:
        """Return the envelopes of keys."""
        found = [self._stored(self._reader, key) for key in keys]
        return [each.envelope if each is not None else None for each in found]

    def remove_text(self, key: str, envelope: str) -> None:
        """Remove a value if it still is this very one."""
        with self._writing():
            found = self._stored(self._db, key)
            if found is not None and found.envelope == envelope:
                self._db.execute("DELETE FROM entries WHERE namespace = ? AND key = ?", (self._namespace, key))

    def sweep(self) -> int:
        """Remove some of what has expired; return how many values that were."""
        now = wall_time()
        with self._writing():
            self._db.execute("DELETE FROM leases WHERE until < ?", (now - 60.0,))
            which = "SELECT id FROM entries WHERE until <= ? ORDER BY until LIMIT ?"
            return self._db.execute(f"DELETE FROM entries WHERE id IN ({which})", (now, _SWEPT_AT_ONCE)).rowcount  # noqa: S608 - of constants

    def _claim(self, claim: Claim, owner: str, seconds: float) -> Stored | Granted | Held:
        if claim.read and (stored := self._stored(self._db, claim.key)) is not None:
            return stored
        now = wall_time()
        row = self._db.execute(
            "SELECT until FROM leases WHERE namespace = ? AND key = ?", (self._namespace, claim.key)
        ).fetchone()
        if row is not None and row[0] > now:
            return Held(min(row[0] - now, 600.0))
        fence = self._new_fence(claim.key)
        lease = (self._namespace, claim.key, owner, fence, now + seconds)
        self._db.execute("INSERT OR REPLACE INTO leases VALUES (?, ?, ?, ?, ?)", lease)
        return Granted(fence)

    def _new_fence(self, key: str) -> int:
        """Return the clock in microseconds, or more: the machine's may have been set back."""
        latest = self._db.execute(
            "SELECT max(fence) FROM (SELECT fence FROM entries WHERE namespace = ?1 AND key = ?2 "
            "UNION ALL SELECT fence FROM leases WHERE namespace = ?1 AND key = ?2)",
            (self._namespace, key),
        ).fetchone()[0]
        return max(int(wall_time() * 1e6), (latest or 0) + 1)

    def _release(self, leases: Sequence[tuple[str, int]], owner: str) -> None:
        self._db.executemany(
            "DELETE FROM leases WHERE namespace = ? AND key = ? AND owner = ? AND fence = ?",
            [(self._namespace, key, owner, fence) for key, fence in leases],
        )

    def _stored(self, db: sqlite3.Connection, key: str) -> Stored | None:
        now = wall_time()
        row = db.execute(_FIND, (self._namespace, key, MAX_BYTES, now)).fetchone()
        if row is None:
            return None
        if len(self._used) < MAX_USED:
            self._used[key] = now
        return Stored(_text(*row))


class FileTier:
    """Implements ``SharedTier`` over the file that a gateway opens."""

    parts: Sequence[SchemaPart] = ()

    def __init__(self, gateway: SharedGateway) -> None:
        self._gateway = gateway
        namespace = gateway.shared.namespace
        self._open: Callable[[Path, float], FileTable] = lambda path, wait: FileTable(path, wait, namespace)

    async def claim(self, claims: Sequence[Claim], owner: str, seconds: float) -> list[Stored | Granted | Held]:
        """Return for each key its value, or a lease, or how long another has it."""
        return await self._run(lambda table: table.claim(claims, owner, seconds))

    async def renew(self, leases: Sequence[tuple[str, int]], owner: str, seconds: float) -> None:
        """Let leases last so many seconds from now."""
        await self._run(lambda table: table.renew(leases, owner, seconds))

    async def put(self, values: Sequence[Put], owner: str) -> None:
        """Store values, and give back the leases under which they were made."""
        await self._run(lambda table: table.store(values, owner))

    async def release(self, leases: Sequence[tuple[str, int]], owner: str) -> None:
        """Give back leases that nothing came of."""
        await self._run(lambda table: table.release(leases, owner))

    async def get(self, keys: Sequence[str]) -> list[str | None]:
        """Return the envelopes of keys."""
        return await self._run(lambda table: table.texts(keys))

    async def remove(self, key: str, envelope: str) -> None:
        """Remove a value if it still is this very one."""
        await self._run(lambda table: table.remove_text(key, envelope))

    async def sweep(self) -> int:
        """Remove some of what has expired; return how many values that were."""
        return await self._run(FileTable.sweep)

    async def _run(self, use: Callable[[FileTable], R]) -> R:
        return await self._gateway.run(lambda file: file.run(self._open, use))


def _parts(envelope: str) -> tuple[str, str, float, float | None]:
    """Return kind and value of an envelope, when it was made and when it ends."""
    about, found, value = envelope.partition(',"value":')
    try:
        fields: Any = json.loads(f"{about}}}") if found else None
        if isinstance(fields, dict) and fields.keys() == {"v", "kind", "model", "at", "until"} and fields["v"] == 1:
            ends = fields["until"]
            return str(fields["kind"]), value[:-1], float(fields["at"]), None if ends is None else float(ends)
    except (ValueError, TypeError, RecursionError):
        pass
    return _STRANGE, envelope, wall_time(), None


def _text(kind: object, model: object, value: object, created: object, until: object) -> str:
    """Return the envelope of a row."""
    if kind == _STRANGE or not isinstance(value, str):
        return value if isinstance(value, str) else ""
    about = {"v": 1, "kind": kind, "model": model, "at": created, "until": until}
    return f'{json.dumps(about, separators=(",", ":"), default=str)[:-1]},"value":{value}}}'
