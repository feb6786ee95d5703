"""Files of ours on disk: made for their owner alone, and written whole or not at all."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["json_text", "make_private", "write_private"]

_OWNER_ONLY = 0o600


def json_text(value: Any, indent: int | None = None) -> str:
    """
    Return JSON that any file can hold: as it reads, or in ASCII where it has half of a surrogate pair in it.

    Raises:
        TypeError, ValueError: It has no JSON form.
    """
    text = json.dumps(value, ensure_ascii=False, indent=indent)
    try:
        text.encode()
    except UnicodeEncodeError:  # a file has no form for it, JSON has one
        return json.dumps(value, indent=indent)
    return text


def make_private(path: Path) -> None:
    """
    Make an empty file that only its owner may read, where there is none; one that is there keeps its rights.

    SQLite gives a database's WAL and shared memory the rights of the database, so they need nothing else.

    Raises:
        OSError: It cannot be made.
    """
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, _OWNER_ONLY))  # an open umask cannot widen it


def write_private(path: Path, text: str) -> None:
    """
    Write ``text`` to a file beside ``path`` and rename it: no reader ever sees half a file.

    A file that is replaced keeps its rights; a link keeps pointing to it.

    Raises:
        OSError: It cannot be written; what was there is untouched.
        UnicodeEncodeError: Half of a surrogate pair is not text; what was there is untouched.
    """
    path = path.resolve()
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        if path.exists():
            temporary.chmod(stat.S_IMODE(path.stat().st_mode))
        temporary.replace(path)
    except BaseException:  # whatever it is: undone here, then raised on
        temporary.unlink(missing_ok=True)
        raise
