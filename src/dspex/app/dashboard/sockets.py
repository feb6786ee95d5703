"""
The sockets by which one user's Apps can be watched: where they are, how they are made, and which of them are dead.

Each is of mode 0600 in a folder of mode 0700 that belongs to the user. Its name tells the App's name and the process:
``shop.4711.sock``. A socket gets its name when it listens already, so one that refuses a connection is a dead one's.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import stat
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from dspex._random import fresh_id
from dspex.errors import ConfigError

__all__ = ["NAME", "Bound", "LocalApp", "bind", "connect", "find", "is_allowed"]

NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,39}")
"""The name of an App that can be watched."""

_FILE = re.compile(r"(?P<name>[A-Za-z0-9][A-Za-z0-9_-]{0,39})\.(?P<pid>\d{1,10})(\.\d{1,4})?\.sock")
_NEW = re.compile(r"\.new\.(?P<pid>\d{1,10})\.[A-Za-z0-9_-]+")
_MOST: Final = 1_000
"""Apps of one name in one process."""

PATIENCE: Final = 2.0
"""Seconds that an App has to say who it is; a busy one has a loop that is held up."""

MOST_GREETING: Final = 4_096


@dataclass(frozen=True, slots=True)
class Bound:
    """A socket that listens, and its file."""

    listening: socket.socket
    path: Path

    def close(self) -> None:
        """Take its file away and close it; a second time does nothing: the name may be another's by then."""
        if self.listening.fileno() < 0:
            return
        _forget(self.path)
        self.listening.close()


@dataclass(frozen=True, slots=True)
class LocalApp:
    """An App that can be watched: its name, its process, its socket, and what it has said of itself."""

    name: str
    pid: int
    path: Path
    greeting: dict[str, Any]

    @property
    def words(self) -> str:
        """One line that tells it from others."""
        return f"{self.name} (process {self.pid})"


def bind(folders: Sequence[Path], name: str) -> Bound:
    """
    Return a socket of this process that listens under a name of its own.

    Args:
        folders: Where it may be; the first that is the user's own is taken.
        name: The App's; a second App of this process with the same name gets a number.

    Raises:
        ConfigError: There is no such folder, or no socket can be made in it.
    """
    if not hasattr(socket, "AF_UNIX"):
        raise ConfigError("watch: this system has no local sockets; dashboard= shows the App on a page")
    refused = []
    for folder in folders:
        try:
            _own(folder)
            _sweep(folder)
            return _bound(folder, name)
        except OSError as error:
            refused.append(f"{folder}: {error.strerror or error}")
    raise ConfigError(f"watch: no socket can be made: {'; '.join(refused)}")


def _own(folder: Path) -> None:
    """Make the folder, or see that it is this user's alone; OSError otherwise."""
    if not folder.parent.is_dir():
        raise FileNotFoundError(0, "the folder above it is missing")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    if not _is_own(folder):
        raise PermissionError(0, "it must be a folder of yours with mode 0700")


def _is_own(folder: Path) -> bool:
    try:
        facts = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(facts.st_mode) and facts.st_uid == os.getuid() and not facts.st_mode & 0o077


def _bound(folder: Path, name: str) -> Bound:
    listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    fresh = folder / f".new.{os.getpid()}.{fresh_id('s')}"
    try:
        listening.bind(str(fresh))
        try:
            fresh.chmod(0o600)
            listening.listen(16)
            listening.setblocking(False)
            path = _named(fresh, folder, f"{name}.{os.getpid()}")
        finally:
            fresh.unlink()
        return Bound(listening, path)
    except BaseException:  # whatever it is: closed, then raised on
        listening.close()
        raise


def _named(fresh: Path, folder: Path, stem: str) -> Path:
    for number in range(1, _MOST):
        path = folder / (f"{stem}.sock" if number == 1 else f"{stem}.{number}.sock")
        with contextlib.suppress(FileExistsError):
            os.link(fresh, path)  # unlike a rename, it leaves one that is there alone
            return path
    raise FileExistsError(0, f"there are {_MOST} sockets of this name")


# --- finding --------------------------------------------------------------------------------------------------


def find(folders: Sequence[Path], patience: float = PATIENCE) -> list[LocalApp]:
    """Return the Apps that answer within ``patience`` seconds, by name and process; dead ones' sockets are removed."""
    found = []
    for folder in folders:
        if not _is_own(folder):
            continue
        _sweep(folder)
        for path, name, pid in _files(folder):
            greeting = _greeting(path, patience)
            if greeting is not None:
                found.append(LocalApp(name, pid, path, greeting))
            elif not _is_alive(pid):  # held open by a child of the dead: nobody will ever answer
                _forget(path)
    return sorted(found, key=lambda each: (each.name, each.pid, each.path.name))


def connect(path: Path, seconds: float = PATIENCE) -> socket.socket:
    """Return a connection to a socket, blocking for ``seconds`` at most; OSError when nobody listens."""
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        connection.settimeout(seconds)
        connection.connect(str(path))
    except BaseException:  # whatever it is: closed, then raised on
        connection.close()
        raise
    return connection


def _greeting(path: Path, patience: float) -> dict[str, Any] | None:
    try:
        with connect(path, patience) as connection, connection.makefile("rb") as lines:
            told = json.loads(lines.readline(MOST_GREETING))
    except (OSError, ValueError):
        return None
    return told if isinstance(told, dict) else None


def _files(folder: Path) -> Iterator[tuple[Path, str, int]]:
    for path in sorted(folder.iterdir()):
        told = _FILE.fullmatch(path.name)
        if told is not None:
            yield path, told["name"], int(told["pid"])


def _sweep(folder: Path) -> None:
    """Take away what dead processes have left."""
    for path in list(folder.iterdir()):
        told = _NEW.fullmatch(path.name)
        if told is not None:
            if not _is_alive(int(told["pid"])):
                _forget(path)
        elif _FILE.fullmatch(path.name) and _refuses(path):
            _forget(path)


def _refuses(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.setblocking(False)  # one whose queue is full lives
        try:
            connection.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def _forget(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink()


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True


def is_allowed(connection: socket.socket) -> bool:
    """True when this user or root has connected, as far as the system can tell; the folder keeps others out."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    _, user, _ = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return user in (os.getuid(), 0)
