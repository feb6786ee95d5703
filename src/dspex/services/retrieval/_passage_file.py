"""
Passages in a SQLite file: the tables, how they are opened, and the writes of one transaction.

A built file is one file that nobody needs rights to change. The first change in place turns it into WAL mode, in which
readers see the state before a transaction until it ends, and never wait for it.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dspex._files import make_private
from dspex.errors import IndexDamaged, RetrievalError
from dspex.protocols.retrieval import Passage
from dspex.services.retrieval._sql_filter import facts_of

__all__ = [
    "STATE",
    "FileKind",
    "Writer",
    "checked_state",
    "damage",
    "is_busy",
    "is_damage",
    "is_index",
    "make_tables",
    "new_file",
    "open_reader",
    "open_writer",
    "replace_content",
]

PATIENCE: Final = 10.0
"""Seconds to wait for another process that writes."""
_SWAP_TRIES: Final = 40
"""SQLite's backup tries again each quarter of a second."""


@dataclass(frozen=True, slots=True)
class FileKind:
    """
    The form of the files of one kind of index.

    Attributes:
        application_id: The mark in the file's header.
        version: Its format.
        tables: The statements that make the tables beside those of the passages.
        maker: Who makes such a file, for messages.
    """

    application_id: int
    version: int
    tables: tuple[str, ...]
    maker: str


_TABLES: Final = (
    """
    CREATE TABLE passages(
        number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, title TEXT NOT NULL, text TEXT NOT NULL,
        metadata TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE facts(
        passage INTEGER NOT NULL, name TEXT NOT NULL, kind INTEGER NOT NULL, value NOT NULL,
        PRIMARY KEY (passage, name, kind, value)
    ) WITHOUT ROWID
    """,
    "CREATE TABLE state(name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID",
    "INSERT INTO state VALUES ('version', '')",
)


_compact = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


STATE: Final = "SELECT name, value FROM state"
"""The query for all rows of that table."""


def checked_state(rows: Iterable[tuple[object, object]], names: Iterable[str]) -> dict[str, str]:
    """Return rows of the table ``state``; sqlite3.DatabaseError when one that must be there is missing, or no text."""
    state = {name: value for name, value in rows if isinstance(name, str) and isinstance(value, str)}
    for name in names:
        if name not in state:
            raise damage(f"it does not say its {name}")
    return state


class Writer:
    """
    Changes within one transaction of a connection; whoever holds it begins and ends the transaction.

    Subclasses keep tables of their own by ``added`` and ``removed``.

    The version of the content is a digest of all changes since the file was made: two files with the same history
    have the same one.
    """

    def __init__(self, connection: sqlite3.Connection) -> None:
        self.execute = connection.execute
        self.state = checked_state(self.execute(STATE).fetchall(), ("version",))
        self._digest = hashlib.sha256(self.state["version"].encode())

    def added(self, number: int, passage: Passage) -> None:
        """Note a passage that is there now."""

    def removed(self, number: int, title: str, text: str) -> None:
        """Forget a passage that is still there."""

    def put(self, passage: Passage) -> int:
        """Add a passage with an id, or write over the one that has it, and return its number, which stays."""
        metadata = _compact(dict(passage.metadata)) if passage.metadata else "{}"
        self._digest.update(_compact([passage.id, passage.title, passage.text, metadata]).encode())
        known = self.execute("SELECT number, title, text FROM passages WHERE id = ?", (passage.id,)).fetchone()
        if known is None:
            added = self.execute(
                "INSERT INTO passages(id, title, text, metadata) VALUES (?, ?, ?, ?)",
                (passage.id, passage.title, passage.text, metadata),
            )
            number = int(added.lastrowid or 0)
        else:
            number = int(known[0])
            self._forget(*known)
            self.execute(
                "UPDATE passages SET title = ?, text = ?, metadata = ? WHERE number = ?",
                (passage.title, passage.text, metadata, number),
            )
        for fact in facts_of(passage.metadata):
            self.execute("INSERT OR IGNORE INTO facts VALUES (?, ?, ?, ?)", (number, *fact))
        self.added(number, passage)
        return number

    def remove(self, identity: str) -> bool:
        """Remove a passage; False when there is none."""
        known = self.execute("SELECT number, title, text FROM passages WHERE id = ?", (identity,)).fetchone()
        if known is None:
            return False
        self._digest.update(_compact([identity]).encode())
        self._forget(*known)
        self.execute("DELETE FROM passages WHERE number = ?", (known[0],))
        return True

    def _forget(self, number: int, title: object, text: object) -> None:
        if not (isinstance(title, str) and isinstance(text, str)):
            raise damage("a passage is not text")
        self.removed(number, title, text)
        self.execute("DELETE FROM facts WHERE passage = ?", (number,))

    def finish(self) -> None:
        """Write the new version, as the last change of the transaction."""
        self.execute("UPDATE state SET value = ? WHERE name = 'version'", (self._digest.hexdigest()[:32],))

    def change_version(self, by: bytes) -> None:
        """Have something else than passages count for the version."""
        self._digest.update(by)


def damage(why: str) -> sqlite3.DatabaseError:
    """Return the error that SQLite raises for a damaged file."""
    error = sqlite3.DatabaseError(why)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT
    return error


class _Connection(sqlite3.Connection):
    """A connection that says of a damaged file that it is damaged, whatever bytes SQLite's message quotes from it."""

    def execute(self, *arguments: Any) -> sqlite3.Cursor:  # as sqlite3 declares it
        """Run a statement; only errors of sqlite3 tell of the file."""
        try:
            return super().execute(*arguments)
        except UnicodeDecodeError as error:  # of the message: it names a table in bytes that are not UTF-8
            raise damage("its table of contents is not text") from error


def make_tables(connection: sqlite3.Connection, kind: FileKind) -> None:
    """Make the tables of an empty database."""
    connection.execute(f"PRAGMA application_id = {kind.application_id}")
    connection.execute(f"PRAGMA user_version = {kind.version}")
    for statement in (*_TABLES, *kind.tables):
        connection.execute(statement)


def new_file(
    path: Path, kind: FileKind, write: Callable[[sqlite3.Connection], object], *, last: Sequence[str] = ()
) -> None:
    """
    Write a new file, whole and on the disk.

    Args:
        path: Where nothing is yet.
        kind: Its kind.
        write: Fills the tables, within a transaction.
        last: Statements behind the transaction.

    Raises:
        OSError, sqlite3.Error: It cannot be written; and whatever ``write`` raises.
    """
    make_private(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for pragma in ("PRAGMA journal_mode = OFF", "PRAGMA synchronous = OFF"):
            connection.execute(pragma)  # a file that breaks off is nobody's
        make_tables(connection, kind)
        connection.execute("BEGIN")
        write(connection)
        connection.execute("COMMIT")
        for statement in last:
            connection.execute(statement)
    # Behind SQLite's last write, which does not sync here; the caller renames the file, or copies it, after that.
    with path.open("rb") as file:
        os.fsync(file.fileno())


def replace_content(source: Path, target: Path, kind: FileKind) -> bool:
    """
    Copy a new file's content over an index that others may be reading, in one transaction of its own.

    A rename would leave their write-ahead log beside a file that it does not belong to.

    Returns:
        False where the target is not an index of this format, or damaged; it may have to be replaced as a file.

    Raises:
        RetrievalError: Another process keeps writing it.
        sqlite3.Error, OSError: It cannot be written.
    """
    try:
        with closing(open_writer(target, kind)) as connection, closing(sqlite3.connect(source)) as fresh:
            tries = 0

            def tried(status: int, _left: int, _total: int) -> None:
                nonlocal tries
                tries += status in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                if tries > _SWAP_TRIES:
                    raise RetrievalError(f"the index {target} cannot be replaced: another process is writing it")

            fresh.backup(connection, progress=tried)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    except IndexDamaged:
        return False
    except sqlite3.DatabaseError as error:
        if is_damage(error):
            return False
        raise
    return True


def is_busy(error: sqlite3.Error) -> bool:
    """True where another connection holds what this one needs, and trying again may help."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def is_damage(error: sqlite3.Error) -> bool:
    """True where the file itself is not what it should be."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def is_index(path: Path, kind: FileKind) -> bool:
    """True for a file that was made by ``build``, of whichever format; an empty one may be replaced, too."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(72)
    return not head or (head[:16] == b"SQLite format 3\0" and head[68:72] == kind.application_id.to_bytes(4, "big"))


def open_reader(path: Path, kind: FileKind) -> sqlite3.Connection:
    """
    Open an index for reading, be it in a place where nothing can be written.

    Raises:
        RetrievalError: There is none at the path.
        IndexDamaged: It is not an index, or of another format.
    """
    _must_be_file(path, kind)
    uri = path.absolute().as_uri()
    if os.access(path, os.W_OK) and os.access(path.parent, os.W_OK):
        # Nothing is written but the files beside a database in WAL mode, which the last connection removes again.
        return _connect(path, kind, f"{uri}?mode=rw", "PRAGMA query_only = ON")
    try:
        return _connect(path, kind, f"{uri}?mode=ro")
    except IndexDamaged:
        if any(path.with_name(path.name + end).exists() for end in ("-wal", "-shm")):
            raise
        return _connect(path, kind, f"{uri}?immutable=1")  # in WAL mode, and nobody can be writing it


def open_writer(path: Path, kind: FileKind) -> sqlite3.Connection:
    """Open an index for writing, in WAL mode; raises as ``open_reader``, and sqlite3.Error when it is locked."""
    _must_be_file(path, kind)
    connection = _connect(path, kind, f"{path.absolute().as_uri()}?mode=rw")
    try:
        connection.execute("PRAGMA journal_mode = WAL").fetchall()
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def _must_be_file(path: Path, kind: FileKind) -> None:
    if not path.exists():
        raise RetrievalError(f"there is no index at {path}: make one with {kind.maker}")
    if not path.is_file():
        raise IndexDamaged(f"{path} is not an index but a folder or something else that is not a file")


def _connect(path: Path, kind: FileKind, uri: str, *pragmas: str) -> sqlite3.Connection:
    connection = sqlite3.connect(
        uri, uri=True, check_same_thread=False, isolation_level=None, timeout=PATIENCE, factory=_Connection
    )
    try:
        ((application,),) = connection.execute("PRAGMA application_id").fetchall()
        ((version,),) = connection.execute("PRAGMA user_version").fetchall()
        for pragma in pragmas:
            connection.execute(pragma)
    except sqlite3.Error as error:
        connection.close()
        refused = RetrievalError if is_busy(error) else IndexDamaged
        raise refused(f"{path} cannot be read as an index: {error}") from error
    if application != kind.application_id:
        connection.close()
        raise IndexDamaged(f"{path} is not an index made by {kind.maker}")
    if version != kind.version:
        connection.close()
        raise IndexDamaged(f"{path} is an index of format {version}, this dspex reads {kind.version}: build it again")
    return connection
