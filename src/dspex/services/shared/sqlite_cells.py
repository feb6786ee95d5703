"""Cells in a SQLite file: for several processes of one machine, without a server."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path
from typing import TypeVar

from dspex._clock import wall_time
from dspex._files import make_folder, make_private
from dspex.errors import SharedError
from dspex.runtime import WorkerThread
from dspex.services.shared.cells import Step

__all__ = ["FileCells", "SharedFile", "SqliteFile"]

R = TypeVar("R")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS cells (name TEXT PRIMARY KEY, text TEXT NOT NULL, until REAL NOT NULL) WITHOUT ROWID
"""

_WAIT = 10.0
"""Seconds for which another process may hold the file."""


class SqliteFile:
    """
    The file; every method blocks, and all are called in one thread after the other.

    A change is one transaction, so a process that is killed leaves it made or not made. The clock is the machine's,
    which all processes have in common.

    Args:
        path: The file; made when missing.
        wait: Seconds for which another process may hold the file.

    Raises:
        SharedError: It cannot be used.
    """

    def __init__(self, path: Path, wait: float = _WAIT) -> None:
        self._path = path
        self._wait = wait
        self._db: sqlite3.Connection | None = None
        try:
            make_folder(path)
            make_private(path)
        except OSError as error:
            raise self._error(error) from error
        with self._opened() as db:
            db.execute(_SCHEMA)

    def change(self, name: str, step: Step[R], keep: float) -> R:
        """Change one cell in a transaction, as ``Cells.change`` says."""
        with self._opened() as db:
            db.execute("BEGIN IMMEDIATE")
            now = wall_time()
            row = db.execute("SELECT text FROM cells WHERE name = ? AND until >= ?", (name, now)).fetchone()
            text, answer = step(row[0] if row is not None else self.first(db, name), now)
            if row is None:
                db.execute("DELETE FROM cells WHERE until < ?", (now,))
            db.execute("INSERT OR REPLACE INTO cells VALUES (?, ?, ?)", (name, text, now + keep))
            db.execute("COMMIT")
        return answer

    def first(self, db: sqlite3.Connection, name: str) -> str | None:
        """Return the text of a cell that is not there yet: None, unless another table knows what it stood for."""
        del db, name
        return None

    def close(self) -> None:
        """Close the file."""
        db, self._db = self._db, None
        if db is not None:
            db.close()

    @contextlib.contextmanager
    def _opened(self):  # type: ignore[no-untyped-def]
        try:
            if self._db is None:
                self._db = sqlite3.connect(
                    self._path, timeout=self._wait, isolation_level=None, check_same_thread=False
                )
            yield self._db
        except (sqlite3.Error, OSError, UnicodeDecodeError) as error:  # the last one: SQLite quotes a damaged file
            self.close()  # whatever is wrong with it: the next change opens the file anew
            raise self._error(error) from error
        except BaseException:  # of the step: its transaction has changed nothing
            if self._db is not None and self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise

    def _error(self, error: BaseException) -> SharedError:
        return SharedError(f"the file {self._path} cannot be used: {error}")


class SharedFile(SqliteFile):
    """The cells of a file that is a shared store, in which other things are read and written as well."""

    def __init__(self, path: Path, wait: float) -> None:
        super().__init__(path, wait)
        with self._opened() as db:
            if db.execute("PRAGMA journal_mode").fetchone()[0] != "wal":
                db.execute("PRAGMA journal_mode=WAL")  # and each change reaches the disk: it may be of money
            db.execute("SELECT sum(length(text)) FROM cells").fetchone()  # or a damaged one is found only by a change


class FileCells:
    """Implements ``Cells`` over a file and the thread that blocks for it."""

    def __init__(self, worker: WorkerThread, file: SqliteFile) -> None:
        self._worker = worker
        self._file = file

    async def change(self, name: str, step: Step[R], keep: float) -> R:
        """Change one cell; cancelled, the change is made all the same, and its answer dropped."""
        return await self._worker.run(self._file.change, name, step, keep)
