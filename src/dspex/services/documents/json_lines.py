"""Ready passages from a file with one JSON object a line."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

from dspex._files import parse_json
from dspex.errors import DocumentError
from dspex.protocols.metadata import MetadataValue
from dspex.protocols.retrieval import Passage

__all__ = ["read_json_lines"]

_PIECE: Final = 1 << 20


def read_json_lines(path: Path, most: int) -> Iterator[Passage | DocumentError]:
    """
    Yield a passage for each line, or the reason why it is none; empty lines are left out. The file may have any size.

    A line is an object with ``text``, and ``title``, ``id`` and ``metadata`` where it likes; its other values are
    metadata, too, where they are texts, numbers, truth values or lists of these.

    Args:
        path: The file.
        most: Bytes of one line.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                yield DocumentError(path, "it is not a file")
                return
            number = 0
            while line := file.readline(most + 1):
                number += 1
                where = f"line {number}"
                if len(line) > most:
                    yield DocumentError(path, f"{where} has more than {most:,} bytes")
                    _skip_line(file, line)
                elif line.strip():
                    yield _passage(path, where, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line)
    except OSError as error:
        yield DocumentError(path, f"it cannot be read: {error.strerror or error}")


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file; a pipe that has taken its place meanwhile does not hold us."""
    return os.open(path, flags | os.O_NONBLOCK)


def _skip_line(file: BinaryIO, line: bytes) -> None:
    """Read on to the end of a line that is too long, and keep nothing of it."""
    while line and not line.endswith(b"\n"):
        line = file.readline(_PIECE)


def _passage(path: Path, where: str, line: bytes) -> Passage | DocumentError:
    try:
        row = parse_json(line)
        if not isinstance(row, dict):
            return DocumentError(path, f"{where} is not a JSON object")
        text, title, identity = (row.pop(name, "") for name in ("text", "title", "id"))
        if isinstance(identity, int) and not isinstance(identity, bool):
            identity = str(identity)
        for name, value in (("text", text), ("title", title), ("id", identity)):
            if not isinstance(value, str):
                return DocumentError(path, f"{where}: its {name} is not a text")
        if not text.strip():
            return DocumentError(path, f"{where} has no text under 'text'")
        own = row.pop("metadata", {})
        if not isinstance(own, dict):
            return DocumentError(path, f"{where}: its metadata is not an object")
        metadata: dict[str, MetadataValue] = {**row, **own}
        return Passage(text, title, id=identity, metadata=metadata)
    except ValueError as error:  # not JSON; or metadata that no index can hold
        return DocumentError(path, f"{where}: {error}")
