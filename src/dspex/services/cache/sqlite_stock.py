"""The stock of a cache file."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Final

from dspex._clock import wall_time
from dspex.errors import CacheError
from dspex.services.cache.codec import decode_stored, encode_value
from dspex.services.cache.envelope import CacheEntry, Unreadable, model_of
from dspex.services.cache.sqlite import ROW_BYTES, SqliteCache
from dspex.services.cache.stock import StockChoice, StockItem, StockStats

__all__ = ["SqliteStock"]

_PAGE: Final = 500

_FITS: Final = "(?1 IS NULL OR namespace = ?1) AND (?2 IS NULL OR instr(model, ?2)) AND (?3 IS NULL OR created < ?3)"


class SqliteStock:
    """Implements ``Stock``; its methods block, a page at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        SqliteCache(path).open().close()  # refuses what is something else, and brings an older file up to date
        self._db = sqlite3.connect(path, timeout=10.0, isolation_level=None)

    async def stats(self) -> Sequence[StockStats]:
        """Count the entries by namespace and model."""
        with self._told():
            rows = self._db.execute(
                "SELECT namespace, model, count(*), sum(bytes), min(created), max(created) FROM entries "
                "GROUP BY namespace, model ORDER BY namespace, model"
            ).fetchall()
        return [StockStats(*row) for row in rows]

    async def items(self, choice: StockChoice) -> AsyncIterator[StockItem | Unreadable]:
        """Yield the entries in the order in which they were first stored."""
        last = 0
        while True:
            with self._told():
                rows = self._db.execute(
                    "SELECT id, namespace, key, kind, value, created, until FROM entries "  # noqa: S608 - of constants
                    f"WHERE id > ?4 AND {_FITS} ORDER BY id LIMIT {_PAGE}",
                    (choice.namespace, choice.model, choice.before, last),
                ).fetchall()
            if not rows:
                return
            last = rows[-1][0]
            for _, namespace, key, kind, text, created, until in rows:
                if until is not None and until <= wall_time():
                    yield "expired"
                    continue
                value = decode_stored(kind, text) if isinstance(text, str) else None
                yield StockItem(namespace, key, CacheEntry(value, created, until)) if value is not None else "damaged"

    async def add(self, items: Sequence[StockItem]) -> int:
        """Store entries that are not there, or are older there."""
        added = 0
        with self._told(), self._transaction():
            for namespace, key, entry in items:
                kind, value = encode_value(entry.value)
                model = model_of(entry.value).encode(errors="replace").decode()
                row = (namespace, key, kind, model, value, len(value) + ROW_BYTES, entry.created, entry.until)
                added += self._db.execute(
                    "INSERT INTO entries (namespace, key, kind, model, value, bytes, created, until, used) "
                    "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (namespace, key) DO UPDATE SET "
                    "kind = excluded.kind, model = excluded.model, value = excluded.value, bytes = excluded.bytes, "
                    "created = excluded.created, until = excluded.until WHERE created < excluded.created",
                    (*row, wall_time()),
                ).rowcount
        return added

    async def clear(self, choice: StockChoice) -> int:
        """Remove entries, a page at a time: other processes write in between; then give their room back."""
        gone = 0
        while True:
            with self._told():
                count = self._db.execute(
                    f"DELETE FROM entries WHERE id IN (SELECT id FROM entries WHERE {_FITS} LIMIT {_PAGE})",  # noqa: S608 - of constants
                    (choice.namespace, choice.model, choice.before),
                ).rowcount
            gone += count
            if count < _PAGE:
                break
        with contextlib.suppress(sqlite3.Error):  # somebody else is at it: then the room is used again later
            self._db.execute("VACUUM")
        return gone

    async def aclose(self) -> None:
        """Close the file."""
        self._db.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:  # whatever it is: undone here, then raised on
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            raise CacheError(f"the cache {self._path} cannot be used: {error}") from error
