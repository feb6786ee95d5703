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

from dspex._clock import wall_time
from dspex._files import json_text, make_private, parse_json
from dspex.errors import JobBusy, JobMismatch, OptimizationError
from dspex.optimizers.fingerprint import digest
from dspex.optimizers.identity import Identity, differences, is_accepted, with_adapter
from dspex.protocols.json_values import Json

__all__ = ["VERSION", "Journal", "Record", "discard_failures", "lives", "read_page"]

VERSION = 2
"""Raised when a journal of the release before can no longer be continued."""

_VERSIONS = {
    1: "was begun by an older release of dspex, which did not write down the code behind its answers: use another "
    "name, or accept_changed=['journal version'] where nothing has changed since"
}

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
    data: Json


class Journal:
    """
    An open journal; every method blocks and belongs in one worker thread.

    Args:
        path: The file; made, with its folder, when missing.
        job: The job's id, for messages.
        fingerprint: The inputs of the job: an identity, or its hashes by name alone.
        accept: The parts, or groups of parts, that may have changed since: the journal takes them over.
        in_memory: True keeps nothing, and needs no file: for jobs that pay for nothing.

    Raises:
        JobMismatch: The file belongs to a job with other inputs; ``changed`` names them.
        OptimizationError: The file is not a journal, or cannot be opened.
    """

    def __init__(
        self,
        path: Path,
        job: str,
        fingerprint: Identity | Mapping[str, str],
        accept: Sequence[str] = (),
        *,
        in_memory: bool = False,
    ) -> None:
        self.job = job
        self.epoch = 0
        self.written: deque[Record] = deque()
        """The committed entries that nobody has taken yet; also when the caller of ``append`` is gone."""
        self._path = path
        self._mine = (os.getpid(), _born(os.getpid()))
        with _translated(path):
            if not in_memory:
                path.parent.mkdir(parents=True, exist_ok=True)
                make_private(path)
            name = ":memory:" if in_memory else path
            self._db = sqlite3.connect(name, timeout=10.0, isolation_level=None, check_same_thread=False)
        try:
            with _translated(path):
                self._refuse_others()
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.execute("PRAGMA synchronous = NORMAL")
                mine = fingerprint if isinstance(fingerprint, Identity) else Identity(fingerprint)
                self._make_or_check(mine, accept)
        except BaseException:  # whatever it is: undone here, then raised on
            self._db.close()
            raise

    def _refuse_others(self) -> None:
        """See that it is no other database, before anything in it is changed."""
        ((version,),) = self._db.execute("PRAGMA user_version").fetchall()
        tables = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master").fetchall()}
        if tables and not (version and {"meta", "writer", "records"} <= tables):
            raise ValueError(f"it is another database, with {', '.join(sorted(map(str, tables))[:3])}")

    def _make_or_check(self, mine: Identity, accept: Sequence[str]) -> None:
        with self._transaction():
            version = self._db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0 and not self._db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                for statement in _statements(_SCHEMA):
                    self._db.execute(statement)
                self._db.execute(f"PRAGMA user_version = {VERSION}")
                self._db.execute("INSERT INTO writer VALUES (1, 0, NULL, '')")
                self._describe(mine)
                return
            if version == 1 and is_accepted("journal version", accept):
                self._db.execute(f"PRAGMA user_version = {VERSION}")
                self._describe(mine)
                return
            if version != VERSION:
                raise JobMismatch(self.job, ["journal version"], _VERSIONS.get(version, ""))
            known, new = with_adapter(self._meta("fingerprint"), digest(["chat", {}])), mine.digests
            changed = [name for name in {**known, **new} if known.get(name) != new.get(name)]
            wrong = [name for name in changed if not is_accepted(name, accept)]
            if wrong and not self._is_empty():  # an empty one is whose who comes first: nothing has come of it
                told = with_adapter(self._meta("details"), "chat")
                raise JobMismatch(self.job, wrong, differences=differences(wrong, told, mine))
            if changed:
                self._describe(mine)

    def _meta(self, name: str) -> Json:
        row = self._db.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchone()
        found = parse_json(row[0]) if row is not None else {}
        if not isinstance(found, dict):
            raise TypeError(f"its {name} is not an object")
        return found

    def _describe(self, mine: Identity) -> None:
        for name, value in (("fingerprint", mine.digests), ("details", mine.details)):
            self._db.execute("INSERT OR REPLACE INTO meta VALUES (?, ?)", (name, json_text(dict(value))))

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
        query = "SELECT seq, epoch, at, kind, key, data FROM records WHERE kind = ? AND key = ?"
        with _translated(self._path):
            row = self._db.execute(query, (kind, key)).fetchone()
            return _record(row) if row is not None else None

    def find_all(self, kind: str, keys: Sequence[str]) -> dict[str, Json]:
        """Return the data of the records of this kind with these keys, by key."""
        found: dict[str, Json] = {}
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


def read_keyed(path: Path, kind: str, beginning: str, limit: int) -> list[Record]:
    """Return records of this kind whose keys begin so, of a journal that somebody else may be writing; blocks."""
    columns = "SELECT seq, epoch, at, kind, key, data FROM records"
    query = f"{columns} WHERE kind = ? AND substr(key, 1, ?) = ? ORDER BY seq LIMIT ?"
    with _translated(path), contextlib.closing(sqlite3.connect(path, timeout=10.0)) as db:
        return [_record(row) for row in db.execute(query, (kind, len(beginning), beginning, limit))]


def discard_failures(path: Path) -> bool:
    """
    Remove a journal in which nothing but failures was written, and that no living process writes; False for others.

    Blocks. The record of it must not hold up a person who has corrected what made every row fail.
    """
    with _translated(path), contextlib.closing(sqlite3.connect(path, timeout=10.0, isolation_level=None)) as db:
        # Until it is removed nobody else can become its writer, or write.
        db.execute("BEGIN EXCLUSIVE")
        (version,) = db.execute("PRAGMA user_version").fetchone()
        pid, born = db.execute("SELECT pid, born FROM writer").fetchone()
        kept = db.execute("SELECT 1 FROM records WHERE kind != 'failed' LIMIT 1").fetchone()
        if version != VERSION or kept is not None or (pid is not None and lives(pid, born)):
            return False
        for each in (path, path.with_name(f"{path.name}-wal"), path.with_name(f"{path.name}-shm")):
            each.unlink(missing_ok=True)
    return True


def _statements(script: str) -> Iterator[str]:
    """Split a script: ``executescript`` would commit before it begins."""
    statement = ""
    for line in script.splitlines():
        statement += line + "\n"
        if sqlite3.complete_statement(statement):
            yield statement
            statement = ""


def _record(row: tuple[object, ...]) -> Record:
    seq, epoch, at, kind, key, text = row
    data = parse_json(text) if isinstance(text, (str, bytes)) else None
    if not (isinstance(seq, int) and isinstance(epoch, int) and isinstance(at, float) and isinstance(data, dict)):
        raise TypeError("a record of it has values of other types")
    if not (isinstance(kind, str) and (key is None or isinstance(key, str))):
        raise TypeError("a record of it has a kind or a key that is not text")
    return Record(seq, epoch, at, kind, key, data)


@contextlib.contextmanager
def _translated(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and getattr(error, "sqlite_errorname", "") in _NO_PLACE:
            raise _no_place(path, error) from error
        raise OptimizationError(
            f"the journal {path} is damaged or not a journal ({error}): move it away and start again, or name another"
        ) from error
    except OSError as error:
        raise _no_place(path, error.strerror or error) from error
    except (ValueError, TypeError, LookupError, RecursionError, sqlite3.Error) as error:
        raise OptimizationError(
            f"the journal {path} is damaged ({type(error).__name__}: {error}): move it away and start again"
        ) from error


_NO_PLACE = frozenset(
    {
        *("SQLITE_CANTOPEN", "SQLITE_READONLY", "SQLITE_READONLY_DIRECTORY", "SQLITE_FULL", "SQLITE_IOERR_WRITE"),
        *("SQLITE_PERM", "SQLITE_READONLY_DBMOVED", "SQLITE_IOERR", "SQLITE_IOERR_SHMSIZE", "SQLITE_IOERR_TRUNCATE"),
        *("SQLITE_BUSY", "SQLITE_IOERR_SHMOPEN", "SQLITE_IOERR_FSYNC", "SQLITE_READONLY_CANTINIT"),
    }
)


def _no_place(path: Path, error: object) -> OptimizationError:
    return OptimizationError(
        f"the journal {path} cannot be used: {error}. It needs a folder that can be written, with room: App(home=…) "
        f"says where journals of jobs go, journal= where that of a map does"
    )


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
