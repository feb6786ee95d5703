"""A persistent full-text index in one SQLite file, with nothing but the standard library."""

from __future__ import annotations

import os
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeAlias

from dspex._files import FileLock, make_private
from dspex.errors import FileBusy, RetrievalError, TargetExists
from dspex.protocols.retrieval import Passage
from dspex.services.retrieval._pairs import searchable, terms

__all__ = ["SqliteIndex"]

_APPLICATION_ID: Final = 0x44535058  # "DSPX", in the file's header
_VERSION: Final = 2
_BATCH: Final = 500
_Row: TypeAlias = tuple[str, str, str, str | None, str | None]
_MAX_TERMS: Final = 500
"""More terms than any question has; a document pasted as a query is searched by its first ones."""

_SCHEMA: Final = (
    f"PRAGMA application_id = {_APPLICATION_ID}",
    f"PRAGMA user_version = {_VERSION}",
    "PRAGMA journal_mode = OFF",
    "PRAGMA synchronous = OFF",
    """
    CREATE VIRTUAL TABLE passages USING fts5(
        title, text, id UNINDEXED, given_title UNINDEXED, given_text UNINDEXED, tokenize = 'porter unicode61'
    )
    """,
    "INSERT INTO passages(passages, rank) VALUES ('rank', 'bm25(4.0, 1.0)')",
)
"""The first two columns are what is searched; what was given stands beside them only where it differs."""
_INSERT: Final = "INSERT INTO passages(title, text, id, given_title, given_text) VALUES (?, ?, ?, ?, ?)"
_OPTIMIZE: Final = "INSERT INTO passages(passages) VALUES ('optimize')"
_SEARCH: Final = """
SELECT coalesce(given_text, text), coalesce(given_title, title), -rank, id
FROM passages WHERE passages MATCH ? ORDER BY rank, rowid LIMIT ?
"""


class SqliteIndex:
    """
    A retriever over one file made by ``SqliteIndex.build``: BM25 over stemmed words, titles weighted four to one.

    Text in a script that puts no spaces between words (Chinese, Japanese, Korean, Thai and others) is searched by its
    pairs of neighbouring characters.

    The file is opened, for reading only, at the first search, in the thread that searches; after ``close`` the next
    search opens it again.

    Args:
        path: The index file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._path = Path(path)
        self._connection: sqlite3.Connection | None = None
        self._lock = threading.Lock()

    @classmethod
    def build(
        cls,
        path: str | os.PathLike[str],
        passages: Iterable[Passage],
        progress: Callable[[int], object] | None = None,
        *,
        overwrite: bool = False,
    ) -> SqliteIndex:
        """
        Write an index and return it; what was at ``path`` is replaced only when the new one is complete.

        Args:
            path: Where the file goes; a missing folder is made. An older index is replaced.
            passages: The passages to index; an empty ``id`` becomes the passage's number, from 1.
            progress: Called with the number of passages written so far, now and then.
            overwrite: True replaces a file that is not an index, too.

        Raises:
            RetrievalError: The file cannot be written, or a passage holds text that has no UTF-8 form.
            TargetExists: Something else than an index stands there; it is untouched.
            FileBusy: Another process is building it.
        """
        target = Path(path)
        if not overwrite and target.exists() and not _is_index(target):
            raise TargetExists(target, "it is not an index")
        try:
            with FileLock(target), tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
                temporary = Path(folder, target.name)
                _write(temporary, passages, progress)
                temporary.replace(target)
        except FileBusy:
            raise
        except (OSError, sqlite3.Error) as error:
            raise RetrievalError(f"no index can be written to {target}: {error}") from error
        return cls(target)

    def search(self, query: str, k: int) -> Sequence[Passage]:
        """
        Return the ``k`` passages that share the most telling words with ``query``; ties in the order of building.

        Any text is a query; one without a word finds nothing.

        Raises:
            RetrievalError: There is no index at the path, it cannot be read, or ``k`` is below 1.
        """
        if k < 1:
            raise RetrievalError(f"k={k} must be at least 1")
        expression = _expression(query)
        if not expression:
            return []
        with self._lock:
            rows = self._rows(_SEARCH, (expression, k))
        for text, title, score, identity in rows:
            if not (isinstance(text, str) and isinstance(title, str) and isinstance(score, float)):
                raise RetrievalError(f"the index {self._path} is damaged: a passage is not text; build it again")
            if not isinstance(identity, str):
                raise RetrievalError(f"the index {self._path} is damaged: an id is not text; build it again")
        return [Passage(text, title, score, identity) for text, title, score, identity in rows]

    def __len__(self) -> int:
        """Return the number of passages; raises what ``search`` raises."""
        with self._lock:
            rows = self._rows("SELECT count(*) FROM passages", ())
        return int(rows[0][0])

    def close(self) -> None:
        """Give back the file; a search under way in another thread ends with RetrievalError."""
        connection = self._connection
        if connection is not None:
            connection.interrupt()
        with self._lock:
            if self._connection is not None:
                self._connection.close()
                self._connection = None

    def __repr__(self) -> str:
        return f"SqliteIndex({str(self._path)!r})"

    def _rows(self, statement: str, arguments: tuple[str | int, ...]) -> list[Any]:  # by statement
        """Run a query, opening the file first if need be; the lock is held."""
        try:
            if self._connection is None:
                self._connection = _open(self._path)
            return self._connection.execute(statement, arguments).fetchall()
        except (OSError, sqlite3.Error) as error:
            raise RetrievalError(
                f"the index {self._path} cannot be read: {error}; where it is damaged, build it again"
            ) from error


def _is_index(path: Path) -> bool:
    """True for a file that was made by ``build``, of whichever format; an empty one may be replaced, too."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        head = file.read(72)
    return not head or (head[:16] == b"SQLite format 3\0" and head[68:72] == _APPLICATION_ID.to_bytes(4, "big"))


def _open(path: Path) -> sqlite3.Connection:
    """Open an index for reading; it never changes in place, so that no locks are needed."""
    if not path.exists():
        raise RetrievalError(f"there is no index at {path}: make one with SqliteIndex.build(path, passages)")
    if not path.is_file():
        raise RetrievalError(f"{path} is not an index but a folder or something else that is not a file")
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True, check_same_thread=False, isolation_level=None)
    try:
        ((application,),) = connection.execute("PRAGMA application_id").fetchall()
        ((version,),) = connection.execute("PRAGMA user_version").fetchall()
    except sqlite3.Error as error:
        connection.close()
        raise RetrievalError(f"{path} cannot be read as an index: {error}") from error
    if application != _APPLICATION_ID:
        connection.close()
        raise RetrievalError(f"{path} is not an index made by SqliteIndex.build")
    if version != _VERSION:
        connection.close()
        raise RetrievalError(f"{path} is an index of format {version}, this dspex reads {_VERSION}: build it again")
    return connection


def _write(path: Path, passages: Iterable[Passage], progress: Callable[[int], object] | None) -> None:
    make_private(path)
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for statement in _SCHEMA:
            connection.execute(statement)
        connection.execute("BEGIN")
        written = 0
        for batch in _batches(_checked_rows(passages)):
            connection.executemany(_INSERT, batch)
            written += len(batch)
            if progress is not None:
                progress(written)
        connection.execute("COMMIT")
        connection.execute(_OPTIMIZE)
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _checked_rows(passages: Iterable[Passage]) -> Iterator[_Row]:
    for number, passage in enumerate(passages, 1):
        given = (passage.title, passage.text, passage.id or str(number))
        try:
            "".join(given).encode()
        except UnicodeEncodeError as error:
            raise RetrievalError(f"passage {number} ({passage.title!r}) holds text without a UTF-8 form") from error
        title, text = searchable(passage.title), searchable(passage.text)
        yield (
            title,
            text,
            given[2],
            None if title == passage.title else passage.title,
            None if text == passage.text else passage.text,
        )


def _batches(rows: Iterator[_Row]) -> Iterator[list[_Row]]:
    while batch := list(islice(rows, _BATCH)):
        yield batch


def _expression(query: str) -> str:
    """Return an FTS5 expression that matches any term of ``query``; each is quoted, so none is an operator."""
    return " OR ".join(islice(dict.fromkeys(terms(query)), _MAX_TERMS))
