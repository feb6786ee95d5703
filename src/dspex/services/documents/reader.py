"""The process that reads files, as its parent has it: one file at a time, each with its time, or an error."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import subprocess
import sys
import threading
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dspex._clock import monotonic
from dspex.errors import DocumentError
from dspex.services.documents.limits import PassageSizes, ReadLimits

__all__ = ["FileReader"]

_GRACE = 2.0
"""Seconds beyond a file's time for a process that is starting, or is ending itself."""
_PIECE = 1 << 16


class FileReader:
    """
    Reads files in a process of its own, so that no file takes more time or memory than it may, whatever is in it.

    The process is started for the first file, and again after one that has ended it.

    Args:
        encoding: The encoding of text that does not tell its own.
        limits: The bounds of each file.
        sizes: How long passages are.

    Attributes:
        closed: True when ``close`` was called.
    """

    def __init__(self, encoding: str, limits: ReadLimits, sizes: PassageSizes) -> None:
        self._encoding = encoding
        self._limits = limits
        self._sizes = sizes
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.Lock()
        self.closed = False

    def read(self, path: Path, kind: str) -> dict[str, Any]:  # as ``parse_file`` returns it
        """
        Return what ``parse_file`` returns; blocks.

        Raises:
            DocumentError: The file is bad.
        """
        request = {
            "path": str(path),
            "kind": kind,
            "encoding": self._encoding,
            "limits": asdict(self._limits),
            "sizes": asdict(self._sizes),
        }
        process = self._running(path)
        until = monotonic() + self._limits.seconds + _GRACE
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            answer = json.loads(self._line(process, path, until))
        except DocumentError:
            self._end()
            raise
        except (OSError, ValueError) as error:
            self._end()
            raise DocumentError(path, f"the process that reads files has failed ({error})") from error
        if "bad" in answer:
            raise DocumentError(path, answer["bad"])
        return dict(answer)

    def close(self) -> None:
        """End the process; from any thread, and a file that is being read is an error there."""
        self.closed = True
        self._end()

    def _running(self, path: Path) -> subprocess.Popen[bytes]:
        with self._lock:
            if self.closed:
                raise DocumentError(path, "reading was stopped")
            if self._process is None:
                # -P: files in the folder that somebody works in are not modules of ours
                command = [sys.executable, "-P", "-m", "dspex.services.documents"]
                pipe, nowhere = subprocess.PIPE, subprocess.DEVNULL
                try:
                    self._process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=nowhere)  # noqa: S603 - our own module
                except OSError as error:
                    raise DocumentError(path, f"no process can be started to read it: {error}") from error
                assert self._process.stdout is not None
                os.set_blocking(self._process.stdout.fileno(), False)
            return self._process

    def _line(self, process: subprocess.Popen[bytes], path: Path, until: float) -> bytes:
        """Return one line of the process's output, however long the limits let it become."""
        assert process.stdout is not None
        pieces, size, most = list[bytes](), 0, 16 * int(self._limits.bytes) + _PIECE
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            while True:
                left = until - monotonic()
                if left <= 0 or not selector.select(left):
                    raise DocumentError(path, self._late)
                piece = process.stdout.read(_PIECE)
                if piece is None:  # somebody else was told of the same bytes
                    continue
                if not piece:
                    raise DocumentError(path, self._died(process))
                pieces.append(piece)
                size += len(piece)
                if piece.endswith(b"\n"):
                    return b"".join(pieces)
                if size > most:
                    raise DocumentError(path, f"its text takes more than {most:,} bytes")

    @property
    def _late(self) -> str:
        return f"reading it takes more than {self._limits.seconds:g} s"

    def _died(self, process: subprocess.Popen[bytes]) -> str:
        if self.closed:
            return "reading was stopped"
        code = process.wait()
        if code == -14:  # SIGALRM: its time is over
            return self._late
        how = f"signal {-code}" if code < 0 else f"exit code {code}"
        return f"the process that reads files died of it ({how}): it takes more memory than it may, or is damaged"

    def _end(self) -> None:
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    _close_quietly(pipe)
            process.wait()


def _close_quietly(pipe: Any) -> None:  # a buffered pipe, whose types differ by direction
    with contextlib.suppress(OSError):  # what was still to be written has no reader any more
        pipe.close()
