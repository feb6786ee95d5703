"""The disk tier: one SQLite table of JSON, read in one worker thread and written in another."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Final

from dspex._clock import wall_time
from dspex._files import make_private
from dspex.errors import CacheError
from dspex.protocols.lm import LMResponse
from dspex.services.cache.codec import decode_stored, encode_value
from dspex.services.cache.envelope import CacheEntry, Unreadable, model_of

__all__ = ["MAX_USED", "ROW_BYTES", "SqliteCache", "SqliteTable"]

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS entries (
    id INTEGER PRIMARY KEY, namespace TEXT NOT NULL, key TEXT NOT NULL, kind TEXT NOT NULL, model TEXT NOT NULL,
    value TEXT NOT NULL, bytes INTEGER NOT NULL, created REAL NOT NULL, until REAL, used REAL NOT NULL,
    UNIQUE (namespace, key)
);
CREATE INDEX IF NOT EXISTS entries_used ON entries (used);
CREATE INDEX IF NOT EXISTS entries_until ON entries (until) WHERE until IS NOT NULL;
CREATE TABLE IF NOT EXISTS totals (bytes INTEGER NOT NULL, entries INTEGER NOT NULL);
INSERT INTO totals SELECT 0, 0 WHERE NOT EXISTS (SELECT 1 FROM totals);
CREATE TRIGGER IF NOT EXISTS entry_in AFTER INSERT ON entries BEGIN
    UPDATE totals SET bytes = bytes + new.bytes, entries = entries + 1;
END;
CREATE TRIGGER IF NOT EXISTS entry_out AFTER DELETE ON entries BEGIN
    UPDATE totals SET bytes = bytes - old.bytes, entries = entries - 1;
END;
CREATE TRIGGER IF NOT EXISTS entry_changed AFTER UPDATE OF bytes ON entries BEGIN
    UPDATE totals SET bytes = bytes + new.bytes - old.bytes;
END;
"""
# The file itself counts what it holds, so that every process that writes it keeps to the same bound.

_TAKE_OVER: Final = """
INSERT OR IGNORE INTO entries (namespace, key, kind, model, value, bytes, created, used)
    SELECT 'dspex', key, 'answer', coalesce(CASE WHEN json_valid(value) THEN json_extract(value, '$.model') END, ''),
        value, bytes, used, used FROM responses;
DROP TABLE responses;
"""

_SET: Final = """
INSERT INTO entries (namespace, key, kind, model, value, bytes, created, until, used) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (namespace, key) DO UPDATE SET kind = excluded.kind, model = excluded.model, value = excluded.value,
    bytes = excluded.bytes, created = excluded.created, until = excluded.until, used = excluded.used
"""

MAX_USED: Final = 100_000
_USED_AT_ONCE: Final = 1_000
_OUT_AT_ONCE: Final = 64
_TROUBLES: Final = (sqlite3.Error, UnicodeDecodeError)
"""A file that cannot be used; the last one where SQLite's message quotes bytes of a damaged file."""
ROW_BYTES: Final = 200
"""Bytes that a row takes beside its value."""


class SqliteCache:
    """
    Where answers are kept across runs, as a frozen record; the cache's actor opens it.

    Args:
        path: The file; made when missing. Several processes may share it.
        max_bytes: The least recently used answers leave beyond this size, whichever process stores the next one.
        namespace: Answers of other namespaces in the file are not seen, but count for its size.
    """

    __slots__ = ("max_bytes", "namespace", "path")

    def __init__(self, path: str | Path, max_bytes: int = 2 * 2**30, *, namespace: str = "dspex") -> None:
        self.path = Path(path)
        self.max_bytes = max_bytes
        self.namespace = namespace

    def open(self) -> SqliteTable:
        """Open or make the file; CacheError when it cannot be, or is something else. Blocks."""
        return SqliteTable(self.path, self.max_bytes, self.namespace)

    def __repr__(self) -> str:
        return f"SqliteCache({str(self.path)!r})"


class SqliteTable:
    """
    An open cache file; every method blocks.

    ``get`` and ``find`` have a connection of their own and belong in one thread, all else in another: a reader of
    SQLite's WAL waits for nobody, while a writer waits for every other writer, of whatever process.
    """

    def __init__(self, path: Path, max_bytes: int, namespace: str = "dspex") -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._namespace = namespace
        self._used: dict[str, float] = {}
        """When answers were read that the file does not know of yet."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            make_private(path)
            self._db = sqlite3.connect(path, timeout=5.0, isolation_level=None, check_same_thread=False)
            try:
                self._prepare()
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
        there = self._names()
        if there and not there & {
            "entries",
            "responses",
            "cells",
        }:  # the last one of a shared store; before anything in it is changed
            raise ValueError(f"it is another database, with {', '.join(sorted(map(str, there))[:3])}")
        if self._db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
            self._db.execute("PRAGMA journal_mode=WAL")
        self._db.execute("PRAGMA synchronous=NORMAL")
        if not {"entries", "entry_changed"} <= there or "responses" in there:
            self._db.execute("BEGIN IMMEDIATE")
            try:
                for statement in _statements(_SCHEMA):
                    self._db.execute(statement)
                if "responses" in self._names():  # of an earlier version; another process may have been faster
                    for statement in _statements(_TAKE_OVER):
                        self._db.execute(statement)
                self._db.execute("COMMIT")
            except BaseException:  # whatever it is: undone here, then raised on
                self._db.execute("ROLLBACK")
                raise

    def _names(self) -> set[str]:
        return {name for (name,) in self._db.execute("SELECT name FROM sqlite_master").fetchall()}

    # --- in the reader's thread -----------------------------------------------------------------------------

    def get(self, key: str) -> LMResponse | None:
        """Return the stored response; one that cannot be read counts as absent. Nothing is written."""
        found = self.find(key)
        return found.value if isinstance(found, CacheEntry) else None

    def find(self, key: str) -> CacheEntry | Unreadable | None:
        """Return a stored value and its circumstances, or why it counts as absent. Nothing is written."""
        try:
            row = self._reader.execute(
                "SELECT kind, value, created, until FROM entries WHERE namespace = ? AND key = ?",
                (self._namespace, key),
            ).fetchone()
        except _TROUBLES as error:
            raise CacheError(f"the cache {self._path} cannot be read: {error}") from error
        if row is None:
            return None
        kind, text, created, until = row
        if isinstance(until, float) and until <= wall_time():
            return "expired"
        value = decode_stored(kind, text) if isinstance(kind, str) and isinstance(text, str) else None
        if value is None or not isinstance(created, float):
            return "damaged"
        if len(self._used) < MAX_USED:
            self._used[key] = wall_time()  # written along with the next answer: a statistic is worth no failure
        return CacheEntry(value, created, until if isinstance(until, float) else None)

    # --- in the writer's thread -----------------------------------------------------------------------------

    def set(self, key: str, response: LMResponse) -> int:
        """Store a response; return how many old ones had to leave for it."""
        return self.keep(key, CacheEntry(response, wall_time()))

    def keep(self, key: str, entry: CacheEntry) -> int:
        """Store a value; return how many old ones had to leave for it. One larger than the whole bound is not kept."""
        kind, value = encode_value(entry.value)
        size = len(value) + ROW_BYTES
        with self._writing():
            self._note_used()
            if size > self._max_bytes:
                self._db.execute("DELETE FROM entries WHERE namespace = ? AND key = ?", (self._namespace, key))
                return 0
            model = model_of(entry.value).encode(errors="replace").decode()
            row = (self._namespace, key, kind, model, value, size, entry.created, entry.until, wall_time())
            self._db.execute(_SET, row)
            return self._evict()

    def remove(self, key: str, value: LMResponse) -> None:
        """Remove a value, if it is still the one that is stored under ``key``."""
        with self._writing():
            row = self._db.execute(
                "SELECT id, kind, value FROM entries WHERE namespace = ? AND key = ?", (self._namespace, key)
            ).fetchone()
            if row is not None and row[1:] == encode_value(value):
                self._db.execute("DELETE FROM entries WHERE id = ?", (row[0],))

    def note_used(self) -> None:
        """Write when answers were read, some at a time, unless somebody else is writing just now."""
        with self._writing():
            self._note_used()

    @property
    def has_much_to_note(self) -> bool:
        """True when so many answers were read that they are worth a transaction of their own."""
        return len(self._used) >= _USED_AT_ONCE

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            self._db.execute("BEGIN IMMEDIATE")
            yield
            self._db.execute("COMMIT")
        except _TROUBLES as error:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise CacheError(f"the cache {self._path} cannot be written: {error}") from error

    def _note_used(self) -> None:
        # The reader's thread may add to it meanwhile: a key that is read again between the two steps is lost here, and
        # noted the next time.
        keys = list(islice(tuple(self._used), _USED_AT_ONCE))
        rows = [(at, self._namespace, key) for key in keys if (at := self._used.pop(key, None)) is not None]
        self._db.executemany("UPDATE entries SET used = ? WHERE namespace = ? AND key = ?", rows)

    def _evict(self) -> int:
        """Drop what has expired, then what was not used for longest, until the bound holds, and a little more."""
        total = self._total()
        if total <= self._max_bytes:
            return 0
        evicted = self._drop("SELECT id, bytes FROM entries WHERE until <= ? ORDER BY until LIMIT ?", wall_time())
        aim = self._max_bytes * 0.98
        while True:
            total = self._total()
            if total <= aim or not (gone := self._drop("SELECT id, bytes FROM entries ORDER BY used LIMIT ?")):
                return evicted
            evicted += gone
            aim = self._max_bytes  # the little more is one round: a writer holds up all others

    def _total(self) -> int:
        row = self._db.execute("SELECT bytes FROM totals").fetchone()
        if row is None or not isinstance(row[0], int):
            raise sqlite3.DatabaseError("it does not know its own size; delete it: what is lost is asked again")
        return row[0]

    def _drop(self, which: str, *arguments: float) -> int:
        """Drop some of the rows that a query gives, no more than the bound asks for."""
        total = self._total()
        gone = 0
        for row, size in self._db.execute(which, (*arguments, _OUT_AT_ONCE)).fetchall():
            if total <= self._max_bytes * 0.9:
                break
            self._db.execute("DELETE FROM entries WHERE id = ?", (row,))
            total -= size if isinstance(size, int) else 0  # else damaged, and gone now
            gone += 1
        return gone

    def close(self) -> None:
        """Note what was read, unless somebody else is writing just now, and close the file."""
        self._reader.close()
        with contextlib.suppress(CacheError, sqlite3.Error):
            self._db.execute("PRAGMA busy_timeout = 100")
            while self._used:
                self.note_used()
        self._db.close()


def _statements(script: str) -> Iterator[str]:
    """Yield the statements of a script: run one by one, they stay in one transaction."""
    statement = ""
    for line in script.splitlines(keepends=True):
        statement += line
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""
