"""Passages in a file with an index of some kind over them: reading, changing and closing, the same for each kind."""

from __future__ import annotations

import json
import sqlite3
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar, Final, Generic, Self, TypeVar

from dspex._files import FileLock
from dspex.errors import FileBusy, IndexDamaged, PassageInvalid, RetrievalError, TargetExists
from dspex.protocols.retrieval import Passage, checked_passages
from dspex.services.retrieval import _passage_file as files

__all__ = ["StoredPassages", "batches_of", "checked_k", "write_file"]

W = TypeVar("W", bound=files.Writer)
BATCH: Final = 500
"""Passages that are written between two words about the progress."""


class StoredPassages(Generic[W]):
    """
    The part of an index that is its file.

    The file is opened at the first use, in the thread that uses it; after ``close`` the next use opens it again. A
    reader sees all of a change or nothing of it, and never waits for one, be it of another process.
    """

    writes_apart = True
    kind: ClassVar[files.FileKind]

    def __init__(self, path: Path) -> None:
        self._path = path
        self._reader: sqlite3.Connection | None = None
        self._writer: sqlite3.Connection | None = None
        self._reading = threading.RLock()
        self._writing = threading.RLock()

    @property
    def version(self) -> str:
        """A digest of everything that was ever written into the file; raises what ``search`` raises."""
        return self._state("version")["version"]

    def check(self) -> None:
        """Open the file, or raise what ``search`` would raise, early."""
        len(self)

    @property
    def path(self) -> Path:
        """The file."""
        return self._path

    def get(self, ids: Iterable[str]) -> dict[str, Passage]:
        """Return the passages that there are, by id, as they were added; raises what ``search`` raises."""
        columns = "SELECT text, title, 0.0, id, metadata FROM passages"
        return {each.id: each for each in (self._passage(*row) for row in self._rows_of(columns, ids))}

    def ids(self) -> Iterator[str]:
        """Yield the ids of all passages, in their order; what is added meanwhile may be among them."""
        after, statement = 0, "SELECT number, id FROM passages WHERE number > ? ORDER BY number LIMIT 1000"
        while rows := self._rows(statement, (after,)):
            yield from (str(identity) for _, identity in rows)
            after = int(rows[-1][0])

    def take_over(self, other: Self) -> None:
        """
        Hold what another index of this kind holds, and nothing else; searches see all of the old, or all of the new.

        The other one is closed, and its file may be gone.

        Raises:
            RetrievalError: The file cannot be written.
        """
        other.check()
        other.close()  # what is in its write-ahead log is in its file, then
        try:
            if not (self._path.exists() and files.replace_content(other.path, self._path, self.kind)):
                for end in ("-wal", "-shm"):  # of a damaged file: they must not be read with the new one
                    self._path.with_name(self._path.name + end).unlink(missing_ok=True)
                other.path.replace(self._path)
        except (OSError, sqlite3.Error) as error:
            raise self._failed("written", error) from error

    def _rows_of(self, columns: str, ids: Iterable[str]) -> list[Any]:  # by statement
        """Return rows of the passages with these ids, in no order."""
        wanted, found = checked_ids(ids), list[Any]()
        for at in range(0, len(wanted), BATCH):
            some = wanted[at : at + BATCH]
            found += self._rows(f"{columns} WHERE id IN ({','.join('?' * len(some))})", some)
        return found

    def delete(self, ids: Iterable[str]) -> int:
        """
        Remove passages by id, all or none of them, and return how many there were.

        Raises:
            RetrievalError: The file cannot be written; nothing was changed.
        """
        wanted = checked_ids(ids)
        with self._change() as writer:
            return sum(map(writer.remove, wanted))

    def __len__(self) -> int:
        """Return the number of passages; raises what ``search`` raises."""
        return int(self._rows("SELECT count(*) FROM passages")[0][0])

    def close(self) -> None:
        """Give back the file; a search under way in another thread ends with RetrievalError, a change is waited for."""
        reader = self._reader
        if reader is not None:
            reader.interrupt()
        with self._reading:
            if self._reader is not None:
                self._reader.close()
                self._reader = None
        with self._writing:  # closed last: the last connection that may write removes the files of the WAL
            self._forget_writer()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({str(self._path)!r})"

    # --- for the kinds of indexes ------------------------------------------------------------------------------

    def _writer_of(self, connection: sqlite3.Connection) -> W:
        raise NotImplementedError

    def _make_missing(self) -> None:
        """Make the file that is about to be written; blocks."""
        raise NotImplementedError

    def _rows(self, statement: str, arguments: Sequence[str | int | float] = ()) -> list[Any]:  # by statement
        """Run a query, opening the file first if need be."""
        with self._reading:
            try:
                if self._reader is None:
                    self._reader = files.open_reader(self._path, self.kind)
                return self._reader.execute(statement, tuple(arguments)).fetchall()
            except (OSError, sqlite3.Error) as error:
                raise self._failed("read", error) from error

    def _state(self, *names: str) -> dict[str, str]:
        """Return what the file says of itself; IndexDamaged when one of the names is not there."""
        rows = self._rows(files.STATE)
        try:
            return files.checked_state(rows, names)
        except sqlite3.Error as error:
            raise self._failed("read", error) from error

    @contextmanager
    def _one_state(self) -> Iterator[None]:
        """Have all queries of the block see the same state, whatever is written meanwhile."""
        with self._reading:
            self._rows("BEGIN")
            try:
                yield
            finally:
                if self._reader is not None and self._reader.in_transaction:
                    self._reader.execute("ROLLBACK")

    @contextmanager
    def _change(self) -> Iterator[W]:
        """Hold the one transaction that writes; it counts, with a new version, when the block ends well."""
        with self._writing:
            try:
                if self._writer is None:
                    if not self._path.exists():
                        self._make_missing()
                    self._writer = files.open_writer(self._path, self.kind)
                self._writer.execute("BEGIN IMMEDIATE")
                writer = self._writer_of(self._writer)
                yield writer
                writer.finish()
                self._writer.execute("COMMIT")
            except BaseException as error:  # whatever it is: undone, then raised on
                self._forget_writer()  # which rolls back, whatever has failed
                if isinstance(error, (OSError, sqlite3.Error, UnicodeEncodeError)):
                    raise self._failed("written", error) from error
                raise

    def _forget_writer(self) -> None:
        writer, self._writer = self._writer, None
        if writer is not None:
            writer.close()

    def _failed(self, done: str, error: Exception) -> RetrievalError:
        if isinstance(error, sqlite3.Error) and files.is_busy(error):
            return RetrievalError(f"the index {self._path} cannot be {done}: another process is writing it")
        kind = IndexDamaged if isinstance(error, sqlite3.Error) and files.is_damage(error) else RetrievalError
        return kind(f"the index {self._path} cannot be {done}: {error}; where it is damaged, build it again")

    def _passages(self, numbers: Sequence[int], scores: Sequence[float]) -> list[Passage]:
        """Return passages by their numbers, in that order, with scores; IndexDamaged when one is missing."""
        found: dict[int, tuple[object, object, object, object]] = {}
        for at in range(0, len(numbers), BATCH):
            some = numbers[at : at + BATCH]
            marks = ", ".join("?" * len(some))
            statement = f"SELECT number, text, title, id, metadata FROM passages WHERE number IN ({marks})"  # noqa: S608 - marks
            found.update((row[0], row[1:]) for row in self._rows(statement, some))
        if len(found) < len(numbers):
            raise self._damaged("a passage is missing")
        return [
            self._passage(found[number][0], found[number][1], score, *found[number][2:])
            for number, score in zip(numbers, scores, strict=True)
        ]

    def _passage(self, text: object, title: object, score: object, identity: object, metadata: object) -> Passage:
        if not (isinstance(text, str) and isinstance(title, str) and isinstance(score, float)):
            raise self._damaged("a passage is not text")
        if not (isinstance(identity, str) and isinstance(metadata, str)):
            raise self._damaged("an id is not text")
        try:
            return Passage(text, title, score, identity, json.loads(metadata) if metadata != "{}" else {})
        except (ValueError, RecursionError) as error:  # it is no JSON, or no metadata
            raise self._damaged("its metadata is none") from error

    def _damaged(self, why: str) -> IndexDamaged:
        return IndexDamaged(f"the index {self._path} is damaged: {why}; build it again")


def write_file(
    target: Path,
    kind: files.FileKind,
    write: Callable[[sqlite3.Connection], object],
    *,
    overwrite: bool = False,
    last: Sequence[str] = (),
) -> None:
    """
    Make an index file; what was at ``target`` is replaced only when the new one is complete.

    Raises:
        RetrievalError: The file cannot be written.
        TargetExists: Something else than an index of this kind stands there; it is untouched.
        FileBusy: Another process is building it.
    """
    if not overwrite and target.exists() and not files.is_index(target, kind):
        raise TargetExists(target, "it is not an index")
    try:
        with FileLock(target), tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            temporary = Path(folder, target.name)
            files.new_file(temporary, kind, write, last=last)
            if not (target.exists() and files.replace_content(temporary, target, kind)):
                for end in ("-wal", "-shm"):  # of a damaged file: they must not be read with the new one
                    target.with_name(target.name + end).unlink(missing_ok=True)
                temporary.replace(target)
    except FileBusy:
        raise
    except (OSError, sqlite3.Error) as error:
        raise RetrievalError(f"no index can be written to {target}: {error}") from error


def batches_of(passages: Iterable[Passage], progress: Callable[[int], object] | None = None) -> Iterator[list[Passage]]:
    """
    Yield passages as an index keeps them, in batches; ``progress`` hears how many were taken, once each is written.

    Raises:
        PassageInvalid: One cannot be kept; the message has its number.
    """
    rest, taken = iter(passages), 0
    while batch := list(islice(rest, BATCH)):
        yield checked_passages(batch, taken + 1)
        taken += len(batch)
        if progress is not None:
            progress(taken)


def checked_ids(ids: Iterable[str]) -> list[str]:
    """Return ids, each once; PassageInvalid when they are none."""
    if isinstance(ids, str):
        raise PassageInvalid(f"ids of type str: expected a list of ids, such as [{ids!r:.60}]")
    wanted = list(dict.fromkeys(ids))
    for each in wanted:
        if not isinstance(each, str):
            raise PassageInvalid(f"an id is of type {type(each).__name__}: expected str")
    return wanted


def checked_k(k: int) -> int:
    """Return ``k``; RetrievalError when it is below 1."""
    if k < 1:
        raise RetrievalError(f"k={k} must be at least 1")
    return k
