"""Snapshots as a file that can be played again: JSON Lines of whole snapshots and of changes. It stays bounded."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import IO, Any, Final

from dspex.app.dashboard.delta import delta
from dspex.app.dashboard.shapes import VERSION, Plain
from dspex.errors import TargetExists

__all__ = ["EVERY", "WHOLE", "Recorder"]

EVERY: Final = 0.5
"""Seconds between two pictures that are written, at least."""

WHOLE: Final = 30.0
"""Seconds after which a whole snapshot is written: whoever plays the file can begin there."""


class Recorder:
    """
    Writes pictures, at most one every half second, until the file has its size.

    Args:
        path: Where they go. The file is begun with the first picture, and flushed after each: a recording that is
            killed has all but the last.
        most: Bytes.
        title: Whom they are of.

    Raises:
        TargetExists: Something else than a recording stands there.
    """

    def __init__(self, path: Path, most: int, title: str) -> None:
        if path.exists() and not _is_trace(path):
            raise TargetExists(path, "it is not a recording", "another --record")
        self._path = path
        self._title = title
        self._file: IO[bytes] | None = None
        self._most = most
        self._last: Plain | None = None
        self._whole_at = 0.0
        self.size = 0
        self.full = False
        """True when nothing more is written: the file has its size, or cannot be written."""
        self.problem = ""

    def take(self, snapshot: Plain) -> None:
        """Write what has changed since the last picture, if that is long enough ago."""
        last, at = self._last, snapshot["at"]
        if self.full or (last is not None and 0 <= at - last["at"] < EVERY):
            return
        if last is None or not 0 <= at - self._whole_at < WHOLE:
            self._write({"at": at, "snapshot": snapshot})
            self._whole_at = at
        else:
            self._write({"at": at, "delta": delta(last, snapshot)})
        self._last = snapshot

    def _write(self, told: Any) -> None:
        line = json.dumps(told, ensure_ascii=True, separators=(",", ":")).encode() + b"\n"
        if self._file is None:
            begin = json.dumps({"dspex": "trace", "version": VERSION, "title": self._title}, separators=(",", ":"))
            line = begin.encode() + b"\n" + line
        if self.size + len(line) > self._most:
            self.full, self.problem = True, "it has its size"
            return
        try:
            if self._file is None:
                self._file = os.fdopen(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
            self._file.write(line)
            self._file.flush()
        except OSError as error:  # the disk is full, say: whoever looks goes on
            self.full, self.problem = True, error.strerror or str(error)
            return
        self.size += len(line)

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            with contextlib.suppress(OSError):  # told when it was written
                self._file.close()


def _is_trace(path: Path) -> bool:
    """True when a file begins as a recording does, or is empty: one of these may be written anew."""
    with path.open("rb") as file:
        begin = file.read(64)
    return not begin or begin.startswith(b'{"dspex":"trace"')
