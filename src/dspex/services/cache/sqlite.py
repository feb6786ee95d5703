"""The disk tier: one SQLite table of JSON, read in one worker thread and written in another."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from dspex._clock import wall_time
from dspex._files import make_private
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

_MAX_USED = 100_000


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
    """
    An open cache file; every method blocks.

    ``get`` has a connection of its own and belongs in one thread, all else in another: a reader of SQLite's WAL
    waits for nobody, while a writer waits for every other writer, of whatever process.
    """

    def __init__(self, path: Path, max_bytes: int) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._used: dict[str, float] = {}
        """When answers were read that the file does not know of yet."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            make_private(path)
            self._db = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
                self._bytes = int(self._db.execute("SELECT coalesce(sum(bytes), 0) FROM responses").fetchone()[0])
                self._reader = sqlite3.connect(path, timeout=1.0, isolation_level=None, check_same_thread=False)
            except BaseException:  # whatever it is: undone here, then raised on
                self._db.close()
                raise
        except (sqlite3.Error, OSError, ValueError, TypeError) as error:
            raise CacheError(
                f"the cache {path} cannot be opened: {error}. Where it is damaged or something else, name another file "
                f"or delete it: what is lost is asked again"
            ) from error

    def _prepare(self) -> None:
        """Make the table; where it is there, nothing is written, so that no other writer has to be waited for."""
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master").fetchall()}
        if tables and "responses" not in tables:  # before anything in it is changed
            raise ValueError(f"it is another database, with {', '.join(sorted(map(str, tables))[:3])}")
        if self._db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        if "responses_used" not in tables:
            self._db.executescript(_SCHEMA)

    def get(self, key: str) -> LMResponse | None:
        """Return the stored response; one that cannot be read counts as absent. Nothing is written."""
        try:
            row = self._reader.execute("SELECT value FROM responses WHERE key = ?", (key,)).fetchone()
        except sqlite3.Error as error:
            raise CacheError(f"the cache {self._path} cannot be read: {error}") from error
        if row is None:
            return None
        if len(self._used) < _MAX_USED:
            self._used[key] = wall_time()  # written along with the next answer: a statistic is worth no failure
        return decode_response(row[0])

    def set(self, key: str, response: LMResponse) -> int:
        """Store a response; return how many old ones had to leave for it."""
        value = encode_response(response)
        size = len(value.encode())
        with self._writing():
            self._note_used()
            old = self._db.execute("SELECT bytes FROM responses WHERE key = ?", (key,)).fetchone()
            row = (key, value, size, wall_time())
            self._db.execute("INSERT OR REPLACE INTO responses VALUES (?, ?, ?, ?)", row)
            self._bytes += size - (old[0] if old else 0)
            return self._evict() if self._bytes > self._max_bytes else 0

    def remove(self, key: str, response: LMResponse) -> None:
        """Remove a response, if it is still the one that is stored under ``key``."""
        with self._writing():
            row = self._db.execute("SELECT value, bytes FROM responses WHERE key = ?", (key,)).fetchone()
            if row is not None and row[0] == encode_response(response):
                self._db.execute("DELETE FROM responses WHERE key = ?", (key,))
                self._bytes -= row[1]

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Write in a transaction, and count the bytes again where it failed."""
        before = self._bytes
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except sqlite3.Error as error:
            self._bytes = before
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise CacheError(f"the cache {self._path} cannot be written: {error}") from error

    def _note_used(self) -> None:
        # The reader's thread may add to it meanwhile: a note that goes into the old one is lost, and no answer.
        used, self._used = self._used, {}
        self._db.executemany("UPDATE responses SET used = ? WHERE key = ?", [(at, key) for key, at in used.items()])

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
        """Note what was read, unless somebody else is writing just now, and close the file."""
        self._reader.close()
        with contextlib.suppress(CacheError, sqlite3.Error):
            if self._used:
                self._db.execute("PRAGMA busy_timeout = 100")
                with self._writing():
                    self._note_used()
        self._db.close()
