"""
The journal of one job: an append-only SQLite file that outlives whoever writes it.

A writer takes an epoch when it opens the journal, and every record carries it. A trigger rejects a record of any
epoch but the latest in the transaction that would have written it, so that a writer who has been replaced, and does
not know it yet, cannot spoil what its successor builds on. A committed entry survives the death of the process.
"""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dspex._clock import wall_time
from dspex._files import json_text, make_private
from dspex.errors import JobBusy, JobMismatch, OptimizationError

__all__ = ["VERSION", "Journal", "Record", "lives", "read_page"]

VERSION = 1
"""Raised when a journal of the release before can no longer be continued."""

_SCHEMA = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE writer (one INTEGER PRIMARY KEY CHECK (one = 1), epoch INTEGER NOT NULL, pid INTEGER, born TEXT NOT NULL);
CREATE TABLE records (
    seq INTEGER PRIMARY KEY, epoch INTEGER NOT NULL, at REAL NOT NULL, kind TEXT NOT NULL, key TEXT, data TEXT NOT NULL
);
CREATE UNIQUE INDEX records_key ON records (kind, key) WHERE key IS NOT NULL;
CREATE TRIGGER records_fenced BEFORE INSERT ON records WHEN NEW.epoch IS NOT (SELECT epoch FROM writer)
BEGIN SELECT RAISE(ABORT, 'stale epoch'); END;
CREATE TRIGGER records_kept BEFORE DELETE ON records BEGIN SELECT RAISE(ABORT, 'append only'); END;
CREATE TRIGGER records_unchanged BEFORE UPDATE ON records BEGIN SELECT RAISE(ABORT, 'append only'); END;
"""


@dataclass(frozen=True, slots=True)
class Record:
    """One line of the journal; ``key`` is unique among records of its kind, ``at`` is seconds since 1970."""

    seq: int
    epoch: int
    at: float
    kind: str
    key: str | None
    data: Mapping[str, Any]  # JSON values


class Journal:
    """
    An open journal; every method blocks and belongs in one worker thread.

    Args:
        path: The file; made, with its folder, when missing.
        job: The job's id, for messages.
        fingerprint: The inputs of the job, as hashes by name.

    Raises:
        JobMismatch: The file belongs to a job with other inputs; ``changed`` names them.
        OptimizationError: The file is not a journal, or cannot be opened.
    """

    def __init__(self, path: Path, job: str, fingerprint: Mapping[str, str]) -> None:
        self.job = job
        self.epoch = 0
        self.written: deque[Record] = deque()
        """The committed entries that nobody has taken yet; also when the caller of ``append`` is gone."""
        self._path = path
        self._mine = (os.getpid(), _born(os.getpid()))
        with _translated(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            make_private(path)
            self._db = sqlite3.connect(path, timeout=10.0, isolation_level=None, check_same_thread=False)
        try:
            with _translated(path):
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
                self._make_or_check(fingerprint)
        except BaseException:  # whatever it is: undone here, then raised on
            self._db.close()
            raise

    def _make_or_check(self, fingerprint: Mapping[str, str]) -> None:
        with self._transaction():
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0 and not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _statements(_SCHEMA):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {VERSION}")
                self._db.execute("INSERT INTO writer VALUES (1, 0, NULL, '')")
                self._db.execute("INSERT INTO meta VALUES ('fingerprint', ?)", (json.dumps(dict(fingerprint)),))
                return
            if version != VERSION:
                raise JobMismatch(self.job, ["journal version"])
            known = json.loads(self._db.execute("SELECT value FROM meta WHERE name = 'fingerprint'").fetchone()[0])
            changed = [name for name in {**known, **fingerprint} if known.get(name) != fingerprint.get(name)]
            if changed and self._is_empty():  # nothing has come of it: it is whoever comes first
                self._db.execute("UPDATE meta SET value = ? WHERE name = 'fingerprint'", (json.dumps(fingerprint),))
            elif changed:
                raise JobMismatch(self.job, changed)

    def _is_empty(self) -> bool:
        return self._db.execute("SELECT 1 FROM records LIMIT 1").fetchone() is None

    def take(self) -> int:
        """
        Become the writer: whoever wrote before can write no more. Return the epoch.

        Raises:
            JobBusy: The writer is another process that lives.
        """
        with _translated(self._path), self._transaction():
            epoch, pid, born = self._db.execute("SELECT epoch, pid, born FROM writer").fetchone()
            if pid is not None and pid != self._mine[0] and lives(pid, born):
                raise JobBusy(self.job, pid)
            self._db.execute("UPDATE writer SET epoch = ?, pid = ?, born = ?", (epoch + 1, *self._mine))
        self.epoch = epoch + 1
        return self.epoch

    def append(self, kind: str, data: Mapping[str, object], key: str | None = None) -> Record:
        """
        Write a record; when this returns it is there to stay.

        A key that has been written already keeps its first record, which is returned.

        Raises:
            JobBusy: Another writer has taken the journal.
        """
        text = json_text(data)  # in its order: what is saved from it is the same to the byte
        at = wall_time()
        with _translated(self._path):
            try:
                with self._transaction():
                    if key is not None and (found := self.find(kind, key)) is not None:
                        return found
                    row = (self.epoch, at, kind, key, text)
                    cursor = self._db.execute(
                        "INSERT INTO records (epoch, at, kind, key, data) VALUES (?, ?, ?, ?, ?)", row
                    )
            except sqlite3.IntegrityError as error:
                if "stale epoch" not in str(error):
                    raise
                pid = self._db.execute("SELECT pid FROM writer").fetchone()[0]
                raise JobBusy(self.job, pid if pid is not None else self._mine[0]) from error
        written = Record(cursor.lastrowid or 0, self.epoch, at, kind, key, json.loads(text))
        self.written.append(written)
        return written

    def find(self, kind: str, key: str) -> Record | None:
        """Return the record of this kind and key, if there is one."""
        row = self._db.execute(
            "SELECT seq, epoch, at, kind, key, data FROM records WHERE kind = ? AND key = ?", (kind, key)
        ).fetchone()
        return _record(row) if row is not None else None

    def find_all(self, kind: str, keys: Sequence[str]) -> dict[str, Mapping[str, Any]]:
        """Return the data of the records of this kind with these keys, by key."""
        found: dict[str, Mapping[str, Any]] = {}
        with _translated(self._path):
            for at in range(0, len(keys), 500):
                some = keys[at : at + 500]
                query = f"SELECT key, data FROM records WHERE kind = ? AND key IN ({','.join('?' * len(some))})"  # noqa: S608 - question marks alone
                found.update((key, json.loads(data)) for key, data in self._db.execute(query, (kind, *some)))
        return found

    def read(self, after: int = 0, limit: int = -1) -> list[Record]:
        """Return up to ``limit`` records after this number, oldest first; without a limit all of them."""
        query = "SELECT seq, epoch, at, kind, key, data FROM records WHERE seq > ? ORDER BY seq LIMIT ?"
        with _translated(self._path):
            return [_record(row) for row in self._db.execute(query, (after, limit))]

    def close(self) -> None:
        """Close the file, and let go of it if it is ours, so that another process may take it at once."""
        with contextlib.suppress(sqlite3.Error):
            if self.epoch:
                self._db.execute("UPDATE writer SET pid = NULL WHERE epoch = ?", (self.epoch,))
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


def read_page(path: Path, after: int, limit: int) -> list[Record]:
    """Return records of a journal that somebody else may be writing; blocks."""
    query = "SELECT seq, epoch, at, kind, key, data FROM records WHERE seq > ? ORDER BY seq LIMIT ?"
    with _translated(path), contextlib.closing(sqlite3.connect(path, timeout=10.0)) as db:
        return [_record(row) for row in db.execute(query, (after, limit))]


def _statements(script: str) -> Iterator[str]:
    """Split a script: ``executescript`` would commit before it begins."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _record(row: tuple[Any, ...]) -> Record:
    seq, epoch, at, kind, key, data = row
    return Record(seq, epoch, at, kind, key, json.loads(data))


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except (sqlite3.Error, OSError) as error:
        raise OptimizationError(f"the journal {path} cannot be used: {error}") from error


# --- who lives ----------------------------------------------------------------------------------------------


def lives(pid: int, born: str) -> bool:
    """True when that very process lives: a number may have gone to another since, where the system can tell."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass  # it exists and belongs to somebody else
    return _born(pid) == born


def _born(pid: int) -> str:
    """Return when a process was started, in the system's own ticks; empty where that cannot be read."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except OSError:
        return ""
    return "dead" if fields[0] in "ZX" else fields[19]
