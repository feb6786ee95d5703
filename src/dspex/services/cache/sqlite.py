"""The disk tier: one SQLite table of JSON, read and written in a worker thread."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from dspex._clock import wall_time
from dspex.errors import CacheError
from dspex.protocols.lm import LMResponse
from dspex.services.cache.codec import decode_response, encode_response

__all__ = ["SqliteCache", "SqliteTable"]

_SCHEMA = """
CREATE TABLE IF NOT EXISTS responses (
    key TEXT PRIMARY KEY, value TEXT NOT NULL, bytes INTEGER NOT NULL, used REAL NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS responses_used ON responses (used);
"""


class SqliteCache:
    """
    Where answers are kept across runs, as a frozen record; the cache's actor opens it.

    Args:
        path: The file; made when missing. Several processes may share it.
        max_bytes: The least recently used answers leave beyond this size.
    """

    __slots__ = ("max_bytes", "path")

    def __init__(self, path: str | Path, max_bytes: int = 2 * 2**30) -> None:
        self.path = Path(path)
        self.max_bytes = max_bytes

    def open(self) -> SqliteTable:
        """Open or make the file; CacheError when it cannot be, or is something else. Blocks."""
        return SqliteTable(self.path, self.max_bytes)

    def __repr__(self) -> str:
        return f"SqliteCache({str(self.path)!r})"


class SqliteTable:
    """An open cache file; every method blocks and belongs in one worker thread."""

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        try:
            self._db = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
            try:
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=NORMAL")
                self._db.executescript(_SCHEMA)
                self._bytes = int(self._db.execute("SELECT coalesce(sum(bytes), 0) FROM responses").fetchone()[0])
            except BaseException:  # whatever it is: undone here, then raised on
                self._db.close()
                raise
        except sqlite3.Error as error:
            raise CacheError(f"the cache {path} cannot be opened: {error}") from error

    def get(self, key: str) -> LMResponse | None:
        """Return the stored response; one that cannot be read counts as absent."""
        try:
            row = self._db.execute("SELECT value FROM responses WHERE key = ?", (key,)).fetchone()
            if row is None:
                return None
            self._db.execute("UPDATE responses SET used = ? WHERE key = ?", (wall_time(), key))
        except sqlite3.Error as error:
            raise CacheError(f"the cache {self._path} cannot be read: {error}") from error
        return decode_response(row[0])

    def set(self, key: str, response: LMResponse) -> int:
        """Store a response; return how many old ones had to leave for it."""
        value = encode_response(response)
        size = len(value.encode())
        try:
            self._db.execute("BEGIN IMMEDIATE")
            old = self._db.execute("SELECT bytes FROM responses WHERE key = ?", (key,)).fetchone()
            row = (key, value, size, wall_time())
            self._db.execute("INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?)", row)
            self._bytes += size - (old[0] if old else 0)
            evicted = self._evict() if self._bytes > self._max_bytes else 0
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise CacheError(f"the cache {self._path} cannot be written: {error}") from error
        return evicted

    def _evict(self) -> int:
        """Drop the least recently used rows until nine tenths of the bound are left."""
        evicted = 0
        for key, size in self._db.execute("SELECT key, bytes FROM responses ORDER BY used").fetchall():
            if self._bytes <= self._max_bytes * 0.9:
                break
            self._db.execute("DELETE FROM responses WHERE key = ?", (key,))
            self._bytes -= size
            evicted += 1
        return evicted

    def close(self) -> None:
        """Close the file."""
        self._db.close()
