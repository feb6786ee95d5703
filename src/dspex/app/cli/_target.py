"""The output of a command: looked at before anything is paid, and replaced as a whole when all of it is there."""

from __future__ import annotations

import contextlib
import hashlib
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Protocol

from dspex._files import FileLock, Replacement
from dspex.errors import ConfigError, FileError, TargetExists

__all__ = ["Target"]


class _Owner(Protocol):
    """Who knows which files were written from its rows."""

    async def has_written(self, digest: str) -> bool: ...

    async def note_output(self, digest: str) -> None: ...


class Target:
    """
    A file that a command writes: ``with target.locked(): … await target.check(owner) … async with target.writing``.

    ``-`` is standard output. It, and a path that is not a file, such as a pipe, are written as the lines come.

    Args:
        path: The file.
        overwrite: True when it may be replaced, whoever wrote it.
    """

    def __init__(self, path: Path, *, overwrite: bool) -> None:
        self.path = path
        self._overwrite = overwrite
        self._is_output = str(path) in ("-", "/dev/stdout")
        self.is_stream = self._is_output or path.parts[:2] == ("/", "dev") or (path.exists() and not path.is_file())
        if path.is_dir():
            raise ConfigError(f"{path} is a folder; name a file in it")

    @property
    def part(self) -> Path:
        """The file beside it that holds what was written so far, until it is whole."""
        return self.path.with_name(f"{self.path.name}.part")

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from writing it meanwhile; raises FileBusy, FileError."""
        if self.is_stream:
            yield
            return
        with FileLock(self.path):
            yield

    async def check(self, owner: _Owner) -> None:
        """
        See that what stands there may go.

        Raises:
            TargetExists: The owner's rows have not written it, and nobody said that it may be overwritten.
            FileError: It cannot be read.
        """
        if self._overwrite or self.is_stream or not self.path.exists():
            return
        try:
            with self.path.open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise FileError(self.path, f"it cannot be read: {error.strerror}") from error
        if not await owner.has_written(found):
            raise TargetExists(self.path, "it exists, and was not written by this run", "--overwrite")

    @contextlib.asynccontextmanager
    async def writing(self, owner: _Owner) -> AsyncIterator[Callable[[str], None]]:
        """
        Hand out what adds text, for readers of ``part`` at once; the file is there when the block ends well.

        Where it does not, what was there before is there still.

        Raises:
            FileError: It cannot be written.
        """
        if self.is_stream:
            with self._stream() as stream:
                yield stream
            return
        with Replacement(self.path, beside=self.part.name, private=False) as file:
            digest = hashlib.sha256()

            def write(text: str) -> None:
                digest.update(text.encode())
                file.write(text)
                file.flush()

            yield write
            # Noted first: killed between the two, the file that stands there is still one that was noted before.
            await owner.note_output(digest.hexdigest())

    @contextlib.contextmanager
    def _stream(self) -> Iterator[Callable[[str], None]]:
        try:
            with contextlib.ExitStack() as stack:
                # Never opened by its name, nor truncated: the shell may have pointed it at the end of a file.
                # Bytes: a terminal's encoding is not to change what a model has said.
                output = sys.stdout.buffer if self._is_output else stack.enter_context(self.path.open("ab"))

                def write(text: str) -> None:
                    output.write(text.encode())
                    output.flush()

                yield write
        except BrokenPipeError:
            raise
        except OSError as error:
            raise FileError(self.path, f"it cannot be written: {error.strerror or error}") from error
