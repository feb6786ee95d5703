"""
Real servers that processes share, for tests: Debian's Redis and Postgres in a folder of their own, one each a session.

``shared_store`` is both of them, one after the other; ``shared_place`` is a file, too. A test that kills or stops one
starts it again; whoever uses a namespace or a database of its own need not clean up.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import pwd
import select
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol, TypeVar

import pytest

from tests.support.missing import missing

__all__ = [
    "FileStore",
    "Place",
    "PostgresServer",
    "RedisServer",
    "Store",
    "postgres_server",
    "redis_server",
    "shared_place",
    "shared_store",
]

_POSTGRES = Path("/usr/lib/postgresql/15/bin")


class Place(Protocol):
    """Where a shared store is."""

    kind: str
    url: str


class Store(Place, Protocol):
    """A server that a test may kill and start again."""

    def start(self) -> None:
        """Start it and wait until it takes connections; does nothing while it runs."""

    def kill(self) -> None:
        """Kill all its processes with SIGKILL and wait until they are gone."""

    def stop(self) -> None:
        """Let it hang: its connections stay open and nothing answers (SIGSTOP)."""

    def go_on(self) -> None:
        """Let it go on after ``stop``."""


class _Server:
    """A server process and its children."""

    ready: bytes

    def __init__(self, command: list[str], folder: Path) -> None:
        self.folder = folder
        self._command = command
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pids(self) -> list[int]:
        """The server and its children; none while it does not run."""
        if self._process is None:
            return []
        pid = self._process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def start(self) -> None:
        if self._process is not None:
            return
        # It must not outlive the tests, whatever ends them.
        command = [_program("setpriv"), "--pdeathsig", "KILL", *self._command]
        process = subprocess.Popen(
            command, cwd=self.folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert process.stdout is not None
        said = b""
        with process.stdout as output:  # closed once it is ready: both servers live without a log
            for line in output:
                said += line
                if self.ready in line:
                    self._process = process
                    return
        process.kill()
        process.wait()
        raise RuntimeError(f"{self._command[0]} did not start: {said.decode(errors='replace')[-2000:]}")

    def kill(self) -> None:
        process, pids = self._process, self.pids
        self._process = None
        if process is None:
            return
        handles = [handle for pid in pids[1:] if (handle := _handle(pid)) is not None]
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        process.wait()
        for handle in handles:
            select.select([handle], [], [], 10)  # it can be read when the process is dead
            os.close(handle)

    def stop(self) -> None:
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        for pid in self.pids:  # the parent first: it makes no more children then
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


class RedisServer(_Server):
    """Redis on a socket, without a file: what it held is gone when it is killed."""

    kind = "redis"
    ready = b"eady to accept connections"

    def __init__(self, folder: Path) -> None:
        socket = folder / "redis.sock"
        options = ["--port", "0", "--unixsocket", str(socket), "--save", "", "--appendonly", "no"]
        super().__init__([_program("redis-server"), *options], folder)
        self.url = f"unix://{socket}"


class PostgresServer(_Server):
    """Postgres on a socket, quick and careless: it keeps what it held when it is killed, as far as it was written."""

    kind = "postgresql"
    ready = b"ready to accept connections"

    def __init__(self, folder: Path) -> None:
        if not _POSTGRES.is_dir():
            missing(f"there is no Postgres 15 in {_POSTGRES}: apt-get install postgresql")
        data = folder / "data"
        as_user: list[str] = []
        if os.geteuid() == 0:  # as whom it refuses to run
            user = pwd.getpwnam("postgres")
            os.chown(folder, user.pw_uid, user.pw_gid)
            as_user = [_program("setpriv"), f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
        init = [str(_POSTGRES / "initdb"), "-D", str(data), "-U", "postgres", "-A", "trust", "-E", "UTF8"]
        subprocess.run(
            [*as_user, *init, "--no-locale", "--no-sync", "--no-instructions"],
            check=True,
            capture_output=True,
            cwd=folder,
        )
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(folder),
            "fsync": "off",
            "full_page_writes": "off",
            "synchronous_commit": "off",
            "shared_buffers": "16MB",
            "max_connections": "90",
        }
        options = [text for name, value in settings.items() for text in ("-c", f"{name}={value}")]
        command = [_program("setpriv"), "--pdeathsig", "KILL", str(_POSTGRES / "postgres"), "-D", str(data), *options]
        super().__init__([*as_user, *command], folder)
        self.url = self.url_of("postgres")

    def url_of(self, database: str) -> str:
        """Return the address of a database."""
        return f"postgresql://postgres@/{database}?host={self.folder}"

    def start(self) -> None:
        if self._process is None:
            (self.folder / "data" / "postmaster.pid").unlink(missing_ok=True)  # of one that was killed
        super().start()


S = TypeVar("S", bound=_Server)


@pytest.fixture(scope="session")
def redis_server() -> Iterator[RedisServer]:
    """A Redis of this session's own."""
    importlib.import_module("redis.asyncio")  # not in a test's loop, which it would hold for a while
    with _folder() as folder:
        server = RedisServer(folder)
        yield from _running(server)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """A Postgres of this session's own; it takes a second to make."""
    importlib.import_module("asyncpg")
    with _folder(beside=_open_to_all()) as folder:  # its user is another one where the tests run as root
        server = PostgresServer(folder)
        yield from _running(server)


@pytest.fixture(scope="session", params=["redis", "postgres"])
def shared_store(request: pytest.FixtureRequest) -> Store:
    """Each of the servers; of the session, so that no test seems to have left it open."""
    store: Store = request.getfixturevalue(f"{request.param}_server")
    return store


class FileStore:
    """A file in a folder of the test's own."""

    kind = "sqlite"

    def __init__(self, folder: Path) -> None:
        self.url = f"sqlite:///{folder}/shared.db"


@pytest.fixture(params=["redis", "postgres", "file"])
def shared_place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """Each kind of store: for tests that need no server to die."""
    if request.param == "file":
        return FileStore(tmp_path)
    place: Place = request.getfixturevalue(f"{request.param}_server")
    return place


def _running(server: S) -> Iterator[S]:
    server.start()
    try:
        yield server
    finally:
        server.go_on()
        server.kill()


@contextlib.contextmanager
def _folder(beside: Path | None = None) -> Iterator[Path]:
    """Make a folder with a short name: a socket's path has a hundred letters at most."""
    folder = Path(tempfile.mkdtemp(prefix="dspex-", dir=beside))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _open_to_all() -> Path:
    """Return a folder for temporary files that every user may pass through: ``TMPDIR`` may be within a private one."""
    folders = [Path(each).absolute() for each in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm")]
    for each in folders:
        if each.is_dir() and all(one.stat().st_mode & stat.S_IXOTH for one in (each, *each.parents)):
            return each
    return missing("no folder for temporary files is open to the user of Postgres")


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        missing(f"there is no program {name}: apt-get install {name}")
    return found


def _handle(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None
