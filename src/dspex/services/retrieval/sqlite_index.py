"""A persistent full-text index in one SQLite file, with nothing but the standard library."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from pathlib import Path
from typing import Final

from dspex.protocols.filters import FilterLike, as_filter
from dspex.protocols.retrieval import Passage, checked_passages
from dspex.services.retrieval._pairs import searchable, terms
from dspex.services.retrieval._passage_file import FileKind, Writer
from dspex.services.retrieval._sql_filter import sql_of
from dspex.services.retrieval._stored import StoredPassages, batches_of, checked_k, write_file

__all__ = ["SqliteIndex"]

_KIND: Final = FileKind(
    application_id=0x44535058,  # "DSPX"
    version=3,
    tables=(
        # It holds no text of its own: what a passage was indexed by is made again from the passage.
        "CREATE VIRTUAL TABLE words USING fts5(title, text, content = '', tokenize = 'porter unicode61')",
        "INSERT INTO words(words, rank) VALUES ('rank', 'bm25(4.0, 1.0)')",
    ),
    maker="SqliteIndex.build(path, passages)",
)
_OPTIMIZE: Final = "INSERT INTO words(words) VALUES ('optimize')"
_MAX_TERMS: Final = 500
"""More terms than any question has; a document pasted as a query is searched by its first ones."""


class _WordsWriter(Writer):
    """Keeps the words of the passages."""

    def added(self, number: int, passage: Passage) -> None:
        words = (number, searchable(passage.title), searchable(passage.text))
        self.execute("INSERT INTO words(rowid, title, text) VALUES (?, ?, ?)", words)

    def removed(self, number: int, title: str, text: str) -> None:
        words = (number, searchable(title), searchable(text))
        self.execute("INSERT INTO words(words, rowid, title, text) VALUES ('delete', ?, ?, ?)", words)


class SqliteIndex(StoredPassages[_WordsWriter]):
    """
    A retriever over one file: BM25 over stemmed words, titles weighted four to one, with filters and changes in place.

    Text in a script that puts no spaces between words (Chinese, Japanese, Korean, Thai and others) is searched by its
    pairs of neighbouring characters.

    The file is opened at the first search, in the thread that searches; after ``close`` the next one opens it again.
    A search sees all of a change or nothing of it, and never waits for one, be it of another process.

    Args:
        path: The index file.
        operators: True reads ``"a phrase"`` as a phrase and ``begin*`` as the beginning of words. By default every
            query is words alone, since a model's question may hold quotes and stars that mean nothing.
    """

    kind = _KIND

    def __init__(self, path: str | os.PathLike[str], *, operators: bool = False) -> None:
        super().__init__(Path(path))
        self._operators = operators

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

        Readers that have the older index open find the new content with their next search.

        Args:
            path: Where the file goes; a missing folder is made. An older index is replaced.
            passages: The passages to index, with ``add``'s rules for ids.
            progress: Called with the number of passages taken so far, now and then.
            overwrite: True replaces a file that is not an index, too.

        Raises:
            PassageInvalid: A passage cannot be kept.
            RetrievalError: The file cannot be written.
            TargetExists: Something else than an index stands there; it is untouched.
            FileBusy: Another process is building it.
        """

        def write(connection: sqlite3.Connection) -> None:
            writer = _WordsWriter(connection)
            for batch in batches_of(passages, progress):
                for passage in batch:
                    writer.put(passage)
            writer.finish()

        write_file(Path(path), _KIND, write, overwrite=overwrite, last=(_OPTIMIZE,))
        return cls(path)

    def search(self, query: str, k: int, filter: FilterLike | None = None) -> Sequence[Passage]:
        """
        Return the ``k`` passages that share the most telling words with ``query``; ties in the order of building.

        Any text is a query; one without a word finds nothing.

        Raises:
            RetrievalError: There is no index at the path, it cannot be read, or ``k`` is below 1.
            IndexDamaged: The file is not an index, damaged, or of another format.
            FilterInvalid: The filter cannot be asked.
        """
        checked_k(k)
        asked = as_filter(filter)
        # Each term is quoted, so that none is an operator of FTS5.
        found = islice(dict.fromkeys(terms(query, operators=self._operators)), _MAX_TERMS)
        expression = " OR ".join(found)
        if not expression:
            return []
        condition, arguments = ("1", []) if asked is None else sql_of(asked, "words.rowid", each=True)
        # The best are chosen first, and only then are their texts read.
        best = (
            f"SELECT rowid AS found, rank AS score FROM words WHERE words MATCH ? AND {condition} ORDER BY rank, rowid"  # noqa: S608 - values are arguments
        )
        columns = "text, title, -score, id, metadata"
        statement = f"SELECT {columns} FROM ({best} LIMIT ?) JOIN passages ON number = found ORDER BY score, found"  # noqa: S608 - as above
        return [self._passage(*row) for row in self._rows(statement, (expression, *arguments, k))]

    def add(self, passages: Iterable[Passage]) -> None:
        """
        Add passages, all or none; one whose id is there already takes its place. A file that is missing is made.

        A passage without an id gets a digest of its content; of several with one id the last one stays.

        Raises:
            PassageInvalid: A passage cannot be kept; nothing was changed.
            RetrievalError: The file cannot be written; nothing was changed.
        """
        kept = checked_passages(list(passages))
        with self._change() as writer:
            for passage in kept:
                writer.put(passage)

    def beside(self, path: str | os.PathLike[str]) -> SqliteIndex:
        """Return an index with the same settings in another file, which need not be there."""
        return SqliteIndex(path, operators=self._operators)

    def __repr__(self) -> str:
        return f"SqliteIndex({str(self._path)!r}{', operators=True' if self._operators else ''})"

    def _writer_of(self, connection: sqlite3.Connection) -> _WordsWriter:
        return _WordsWriter(connection)

    def _make_missing(self) -> None:
        self.build(self._path, ())
