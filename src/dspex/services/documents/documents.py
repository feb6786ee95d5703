"""Files as passages: an iterable that can be read again, and tells what it has left out."""

from __future__ import annotations

import codecs
import hashlib
import importlib.util
import json
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Final, TypeVar

from dspex.errors import ConfigError, DocumentError, MissingExtra
from dspex.protocols.metadata import MetadataValue
from dspex.protocols.retrieval import Passage
from dspex.services.documents.files import FoundFile, find_files
from dspex.services.documents.json_lines import read_json_lines
from dspex.services.documents.limits import KINDS, PassageSizes, ReadLimits
from dspex.services.documents.reader import FileReader

__all__ = ["Documents"]

T = TypeVar("T")

_TOLD: Final = 1_000
"""Bad files, notes and files left out that are remembered one by one; beyond that they are counted."""
_NEEDS: Final = ("semantic_text_splitter", "bs4", "pypdf")


class Documents:
    """
    The passages of files and folders, to be iterated over: ``Documents("handbook/", "faq.md")``.

    Text, Markdown, HTML and PDF are split at headings, paragraphs and sentences. Each passage has the headings above it
    as its title, and ``source`` (the file), ``page`` (of a PDF) in its metadata. JSON Lines are ready passages, one a
    line: an object with ``text``, and ``title``, ``id`` and metadata where it likes. An id that is not given is made
    of file, title and text, so that the same passage has the same id whenever it is read.

    The files may be anybody's: each is read in another process, with bounds on its size, its time and its memory. Of
    a folder, names that begin with a dot are left out, and so are files whose names tell no kind (``left_out``).

    Args:
        *paths: Files and folders; in the given order, those of a folder by name.
        least: Characters that are gathered for a passage.
        most: Characters that no passage exceeds.
        overlap: Characters, at most, that are repeated at the beginning of the next passage.
        skip_bad: True goes on after a file or a line that cannot be read; ``bad`` counts them, ``skipped`` has them.
        kind: ``text``, ``markdown``, ``html``, ``pdf`` or ``json lines``, for named files whose names tell none.
        encoding: The encoding of text that does not tell its own.
        limits: The bounds of each file.

    Attributes:
        files: Files read, since the last beginning.
        passages: Passages handed out since then.
        bad: Files and lines that could not be read.
        skipped: The errors of the first thousand of them.
        left_out: Files of folders that nobody knows how to read, the first thousand of them.
        notes: Remarks about files that were read: pages without text, say.

    Raises:
        ConfigError: An argument makes no sense.
        DocumentError: While iterating, without ``skip_bad``: a file or a line cannot be read; it names it.
        MissingExtra: While iterating: a file needs the extra ``documents``; JSON Lines do not.
    """

    def __init__(
        self,
        *paths: str | os.PathLike[str],
        least: int = 400,
        most: int = 1_200,
        overlap: int = 0,
        skip_bad: bool = False,
        kind: str = "",
        encoding: str = "utf-8",
        limits: ReadLimits | None = None,
    ) -> None:
        if not paths:
            raise ConfigError("Documents() takes at least one file or folder")
        if kind and kind not in KINDS.values():
            raise ConfigError(f"kind={kind!r} must be one of {', '.join(dict.fromkeys(KINDS.values()))}")
        try:
            codecs.lookup(encoding)
        except LookupError as error:
            raise ConfigError(f"encoding={encoding!r}: there is no such encoding") from error
        self._paths = tuple(map(Path, paths))
        self._sizes = PassageSizes(least, most, overlap)
        self._skip_bad = skip_bad
        self._kind = kind
        self._encoding = encoding
        self._limits = limits if limits is not None else ReadLimits()
        self._readers: set[FileReader] = set()
        self._forget()

    def _forget(self) -> None:
        self.files = self.passages = self.bad = 0
        self.skipped: list[DocumentError] = []
        self.left_out: list[str] = []
        self.notes: list[str] = []

    def __iter__(self) -> Iterator[Passage]:
        """Read the files from the first on; blocks."""
        self._forget()
        reader = FileReader(self._encoding, self._limits, self._sizes)
        self._readers.add(reader)
        try:
            for found in find_files(self._paths, self._kind):
                for each in self._read(found, reader):
                    if isinstance(each, DocumentError):
                        self._note_bad(each)
                    else:
                        self.passages += 1
                        yield each
        finally:
            self._readers.discard(reader)
            reader.close()

    def close(self) -> None:
        """Stop whoever iterates, from any thread: the file that is being read is a DocumentError there."""
        for reader in tuple(self._readers):
            reader.close()

    def __repr__(self) -> str:
        return f"Documents({', '.join(repr(str(path)) for path in self._paths)})"

    def _read(self, found: FoundFile, reader: FileReader) -> Iterator[Passage | DocumentError]:
        if found.bad is not None:
            yield found.bad
        elif not found.kind:
            _add(self.left_out, str(found.path))
        elif found.kind == "json lines":
            yield from self._lines(found.path)
        else:
            _check_extra(found.path)
            try:
                whole = reader.read(
                    found.path, found.kind
                )  # a file is whole, or bad: nothing of a bad one is handed out
            except DocumentError as error:
                if reader.closed:
                    raise
                yield error
                return
            self.files += 1
            for note in whole["notes"]:
                _add(self.notes, f"{found.path}: {note}")
            yield from self._passages(found.path, whole["passages"])

    def _lines(self, path: Path) -> Iterator[Passage | DocumentError]:
        seen = Counter[str]()
        self.files += 1
        for each in read_json_lines(path, int(self._limits.line)):
            if isinstance(each, DocumentError):
                yield each
                continue
            given: dict[str, MetadataValue] = {"source": path.as_posix(), **each.metadata}
            identity = each.id or _identity(path, each.title, each.text, seen)
            yield Passage(each.text, each.title, id=identity, metadata=given)

    def _passages(self, path: Path, parts: list[tuple[list[str], str, int]]) -> Iterator[Passage]:
        seen = Counter[str]()
        for headings, text, page in parts:
            title = " > ".join(headings) or path.stem
            metadata: dict[str, MetadataValue] = {"source": path.as_posix(), **({"page": page} if page else {})}
            yield Passage(text, title, id=_identity(path, title, text, seen), metadata=metadata)

    def _note_bad(self, error: DocumentError) -> None:
        if not self._skip_bad:
            raise error
        self.bad += 1
        _add(self.skipped, error)


def _add(told: list[T], one: T) -> None:
    if len(told) < _TOLD:
        told.append(one)


def _check_extra(path: Path) -> None:
    if any(importlib.util.find_spec(name) is None for name in _NEEDS):
        raise MissingExtra("documents", f"reading {path}")


def _identity(path: Path, title: str, text: str, seen: Counter[str]) -> str:
    """Return the id of a passage; the second of the same words in one file has another one."""
    words = json.dumps([path.as_posix(), title, text])
    digest = hashlib.sha256(words.encode()).hexdigest()[:24]
    seen[digest] += 1
    return digest if seen[digest] == 1 else f"{digest}-{seen[digest]}"
