"""The link to a SQLite file that processes of one machine share: one thread, in which all operations block."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from dspex.errors import CacheError, SharedError
from dspex.runtime import WorkerThread
from dspex.services.shared.address import Shared
from dspex.services.shared.link import SchemaPart
from dspex.services.shared.sqlite_cells import SharedFile

__all__ = ["FileLink", "OpenFile", "OpenPart"]

R = TypeVar("R")

_TROUBLES: Final = (sqlite3.Error, OSError, UnicodeDecodeError)
"""A file that cannot be used; the last one where SQLite's message quotes bytes of a damaged file."""

_AGAIN: Final = 0.01


class OpenPart(Protocol):
    """A connection for one use of the file; all of it is called in the thread of the file."""

    def close(self) -> None:
        """Close it."""
        ...


P = TypeVar("P", bound=OpenPart)


class _MadeByOther(Exception):
    """Another process makes the file just now."""


class OpenFile:
    """The open file, as ``work`` is called with it: its parts, each of which has a connection of its own."""

    def __init__(self, worker: WorkerThread, path: Path, wait: float) -> None:
        self._worker = worker
        self._path = path
        self._wait = wait
        self._parts: dict[Callable[[Path, float], Any], OpenPart] = {}
        self._identity: tuple[int, int] | None = None

    async def run(self, make: Callable[[Path, float], P], use: Callable[[P], R]) -> R:
        """
        Return ``use(part)``, called in the file's thread.

        Args:
            make: Opens the part the first time, for the path and the seconds for which others may hold the file.
            use: The operation, which blocks. Cancelled, it is carried out all the same, and its answer dropped.
        """
        while True:  # for as long as the caller waits
            try:
                return await self._worker.run(self._use, make, use)
            except _MadeByOther:
                await asyncio.sleep(_AGAIN)

    def _use(self, make: Callable[[Path, float], P], use: Callable[[P], R]) -> R:
        self._check_same()
        part = self._parts.get(make)
        if part is None:
            part = self._parts[make] = self._made(make)
            self._check_same()
        answer: R = use(part)  # type: ignore[arg-type]  # it was made by ``make``
        return answer

    def _made(self, make: Callable[[Path, float], P]) -> P:
        try:
            return make(self._path, self._wait)
        except (SharedError, CacheError) as error:
            if getattr(error.__cause__, "sqlite_errorcode", None) == sqlite3.SQLITE_BUSY:
                raise _MadeByOther from error  # who makes the file in the same moment is refused without waiting
            raise

    def _check_same(self) -> None:
        """A file that was removed or replaced would be used on, by us alone."""
        if self._identity is None and not self._parts:
            return
        found = self._path.stat()
        identity = (found.st_dev, found.st_ino)
        if self._identity is not None and identity != self._identity:
            raise OSError("another file has taken its place")
        self._identity = identity

    def close(self) -> None:
        """Close all parts."""
        parts, self._parts = self._parts, {}
        for part in parts.values():
            part.close()


class FileLink:
    """The file and its thread; ``work`` is called with an ``OpenFile``."""

    def __init__(self, shared: Shared) -> None:
        self._worker = WorkerThread("dspex-shared")
        self._file = OpenFile(self._worker, shared.path, shared.timeout)

    async def open(self, parts: Sequence[SchemaPart]) -> None:
        """Open the cells, which makes the file; every other part is made when it is used first."""
        await self.run(lambda file: file.run(SharedFile, _nothing))

    async def run(self, work: Callable[..., Awaitable[R]]) -> R:
        """Await ``work(file)``."""
        try:
            return await work(self._file)
        except (SharedError, CacheError) as error:
            if isinstance(error.__cause__, _TROUBLES):
                raise error.__cause__ from None  # of the file, and not of what is in a cell
            raise

    def is_down(self, error: Exception) -> bool:
        """True for a file that is damaged, gone or locked: it is opened anew."""
        return isinstance(error, _TROUBLES)

    async def close(self) -> None:
        """Close the file behind the operation that is under way."""
        await self._worker.aclose(self._file.close)


def _nothing(_part: OpenPart) -> None:
    pass
