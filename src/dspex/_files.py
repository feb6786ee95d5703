"""Files of ours on disk: made for their owner alone, written whole or not at all, by one process at a time."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

from dspex.errors import FileBusy, FileError

__all__ = ["FileLock", "Replacement", "json_text", "make_folder", "make_private", "parse_json", "write_private"]

_OWNER_ONLY = 0o600


def json_text(value: object, indent: int | None = None) -> str:
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


def parse_json(text: str | bytes) -> Any:
    """
    Return the value of JSON from a file that may be damaged.

    Raises:
        ValueError: It is not JSON, not UTF-8, or nested too deep; the message says which.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deep") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"it is not UTF-8 at byte {error.start}") from error


def make_folder(path: Path) -> None:
    """
    Make the folder that a file goes into.

    Raises:
        FileError: It cannot be made.
    """
    with _told(path):
        path.parent.mkdir(parents=True, exist_ok=True)


def make_private(path: Path) -> None:
    """
    Make an empty file that only its owner may read, where there is none; one that is there keeps its rights.

    SQLite gives a database's WAL and shared memory the rights of the database, so they need nothing else.

    Raises:
        OSError: It cannot be made.
    """
    if not path.exists():
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, _OWNER_ONLY))  # an open umask cannot widen it


class Replacement:
    """
    A file beside ``path`` that takes its place when the block ends well: ``with Replacement(path) as file: …``.

    No reader ever sees half a file. A file that is replaced keeps its rights; a link keeps pointing to it; a missing
    folder is made. Where the block raises, what was there is untouched.

    Args:
        path: The file to replace.
        beside: The name of the other file, for whoever holds a ``FileLock`` of ``path``: what a killed process has
            left there is written over. A fresh name by default.
        private: True where only the owner may read a new file; else it has the rights that the user's own files get.

    Raises:
        FileError: It cannot be written.
    """

    def __init__(self, path: Path, *, beside: str | None = None, private: bool = True) -> None:
        self._path = path
        self._place = path.resolve()
        self._beside = beside
        self._mode = _OWNER_ONLY if private else 0o666  # the umask takes its part
        self._temporary = self._place
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        make_folder(self._place)
        with _told(self._path):
            if self._beside is None:
                name = f".{self._place.name[:100]}."
                descriptor, temporary = tempfile.mkstemp(prefix=name, suffix=".tmp", dir=self._place.parent)
                self._temporary = Path(temporary)
            else:
                self._temporary = self._place.with_name(self._beside)
                flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC
                self._temporary.unlink(missing_ok=True)  # of a killed process: it may have other rights
                descriptor = os.open(self._temporary, flags, self._mode)
            self._file = os.fdopen(descriptor, "wb")
        return self

    def write(self, text: str) -> None:
        """
        Add text.

        Raises:
            FileError: It cannot be written.
            UnicodeEncodeError: Half of a surrogate pair is not text.
        """
        assert self._file is not None
        data = text.encode()
        with _told(self._path):
            self._file.write(data)

    def flush(self) -> None:
        """Let others read what was written so far, in the file beside; raises FileError."""
        assert self._file is not None
        with _told(self._path):
            self._file.flush()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._file is not None
        try:
            with self._file as file, _told(self._path):
                if kind is None:
                    # On the disk before it has the name: a machine that stops here leaves the old file, never half
                    # of a new one. So with the mode: nobody may read it who could not read the old one.
                    file.flush()
                    os.fsync(file.fileno())
                    if self._place.exists():
                        self._temporary.chmod(stat.S_IMODE(self._place.stat().st_mode))
                    self._temporary.replace(self._place)
        except FileError:
            self._forget()
            raise
        except OSError as failed:  # of closing: what was still to be written
            self._forget()
            if kind is None:
                raise FileError(self._path, f"it cannot be written: {failed.strerror or failed}") from failed
        if kind is not None:
            self._forget()

    def _forget(self) -> None:
        with contextlib.suppress(OSError):
            self._temporary.unlink(missing_ok=True)


def write_private(path: Path, text: str) -> None:
    """Write ``text`` as ``Replacement`` does; raises the same."""
    with Replacement(path) as file:
        file.write(text)


class FileLock:
    """
    Says that this process writes a file: ``with FileLock(path): …``. The system lets go of it when the process dies.

    The lock is on a file beside it, ``.NAME.lock``, because the file itself is replaced. Blocks.

    Raises:
        FileBusy: Another process writes the file, or another part of this one.
        FileError: There is no place for the lock.
    """

    __slots__ = ("_descriptor", "_lock", "_path", "_wait")

    def __init__(self, path: Path, *, wait: bool = False) -> None:
        self._path = path
        place = path.resolve()
        self._lock = place.with_name(f".{place.name}.lock")
        self._descriptor: int | None = None
        self._wait = wait

    def __enter__(self) -> Self:
        make_folder(self._lock)
        while True:
            with _told(self._path):
                descriptor = os.open(self._lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _OWNER_ONLY)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if self._wait else fcntl.LOCK_NB))
                if self._is_named(descriptor):
                    os.ftruncate(descriptor, 0)
                    os.write(descriptor, str(os.getpid()).encode())
                    self._descriptor = descriptor
                    return self
            except BlockingIOError:
                pid = _pid_in(descriptor)
                os.close(descriptor)
                raise FileBusy(self._path, pid) from None
            except OSError as error:
                os.close(descriptor)
                raise FileError(self._path, f"it cannot be locked: {error.strerror}") from error
            os.close(descriptor)  # its owner has removed it between our two calls: the next one is somebody's

    def _is_named(self, descriptor: int) -> bool:
        """True when the file that we have locked is the one that others will find."""
        try:
            return os.path.samestat(os.fstat(descriptor), self._lock.stat())
        except FileNotFoundError:
            return False

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            with contextlib.suppress(OSError):
                self._lock.unlink(missing_ok=True)  # while it is locked: nobody else can be holding it
            os.close(descriptor)


def _pid_in(descriptor: int) -> int | None:
    text = os.pread(descriptor, 20, 0).decode("ascii", "replace")
    return int(text) if text.isdecimal() else None


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Raise what the system refuses as an error of ours that names the file."""
    try:
        yield
    except FileError:
        raise
    except OSError as error:
        raise FileError(path, f"it cannot be written: {error.strerror or error}") from error
