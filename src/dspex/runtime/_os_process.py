"""An actor that owns a process of the operating system."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import socket
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from dspex.errors import OsProcessFailed, SpecError
from dspex.runtime._child_spec import check_seconds
from dspex.runtime._exit import NORMAL, ExitReason
from dspex.runtime._library_actor import LibraryActor
from dspex.runtime._log import get_logger
from dspex.runtime._messages import Call
from dspex.runtime._next import Next, Reply, Stop
from dspex.runtime._os_child import OsChild
from dspex.runtime._os_output import OutputLog
from dspex.runtime._process import is_cancellation

if TYPE_CHECKING:
    from dspex.runtime._messages import From

__all__ = ["GetOsProcess", "OsProcess", "OsProcessInfo"]

_log = get_logger("os_process")

_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.5
"""Seconds between two questions whether it is ready; twice as long each time."""

_HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class OsProcessInfo:
    """
    The known facts about a running program.

    Attributes:
        pid: Its process id in the operating system.
        port: The number that ``{port}`` stands for in this run; None without one.
        address: Where it can be reached: what ``ready_line`` has found as ``address``, or the port on this machine;
            empty where nothing says so.
    """

    pid: int
    port: int | None
    address: str


@dataclass(frozen=True, slots=True)
class GetOsProcess(Call[OsProcessInfo]):
    """Ask an ``OsProcess`` for its ``OsProcessInfo``."""


@dataclass(frozen=True, slots=True)
class _Ended:
    """The program has ended by itself."""

    code: int


class OsProcess(LibraryActor):
    """
    A program of the operating system that lives as long as its actor, and whose end is the actor's end.

    For example, a server that is started again when it dies, and that others call only once it answers::

        ChildSpec("server", OsProcess, (["my-server", "--port", "{port}"],), {"port": 8080, "ready": answers})

    The program and all it starts are one process group. Stopping sends SIGTERM to the group, and SIGKILL to who is left
    after ``stop_timeout``; a kill of the actor is a SIGKILL at once, and so is the death of this Python process, in
    whatever way it dies. When the program has ended, what it has started is killed. Its output goes to the logger
    ``dspex.os_process``, line by line, at level INFO. Its standard input is empty. A process that leaves the group, as
    daemons do, is out of reach. Needs a POSIX system.

    Args:
        argv: The program and its arguments, each as it is: there is no shell. ``{port}`` in an argument is replaced.
        env: The whole environment of the program; None hands on this process's.
        cwd: Where it runs.
        port: The number that ``{port}`` stands for; 0 takes a free one at each start.
        ready: Asked again and again, until it is true, whether the program can be used; what it raises means no.
        ready_line: A regular expression that a line of output has to contain first. A group of the name ``address``
            becomes ``OsProcessInfo.address``.
        start_timeout: Seconds until it has to be ready.
        stop_timeout: Seconds between SIGTERM and SIGKILL; a supervisor's ``shutdown`` should be longer.
        normal_exits: Exit codes that are a normal end; any other, and every signal that nobody sent through the actor,
            is a crash with ``OsProcessFailed``.

    Raises:
        SpecError: An argument is not valid; it names the field.
    """

    trap_exit: ClassVar[bool] = True
    terminate_timeout: ClassVar[float | None] = None  # `stop_timeout` bounds it

    def __init__(
        self,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        port: int | None = None,
        ready: Callable[[OsProcessInfo], Awaitable[bool]] | None = None,
        ready_line: str | None = None,
        start_timeout: float = 30.0,
        stop_timeout: float = 4.0,
        normal_exits: Collection[int] = (0,),
    ) -> None:
        if not isinstance(argv, (list, tuple)) or not argv or not all(isinstance(word, str) for word in argv):
            raise SpecError("argv", argv, "a list of the program and its arguments, all of them str")
        if port is not None and (isinstance(port, bool) or not isinstance(port, int) or not 0 <= port <= 65_535):
            raise SpecError("port", port, "None or a number from 0 to 65535")
        if ready is not None and not callable(ready):
            raise SpecError("ready", ready, "None or a coroutine function")
        check_seconds("start_timeout", start_timeout, minimum=0.0)
        check_seconds("stop_timeout", stop_timeout, minimum=0.0)
        try:
            self._ready_line = re.compile(ready_line) if ready_line is not None else None
        except (re.error, TypeError) as error:
            raise SpecError("ready_line", ready_line, f"a regular expression ({error})") from error
        self._argv = tuple(argv)
        self._program = Path(argv[0]).name
        self._env = dict(env) if env is not None else None
        self._cwd = os.fspath(cwd) if cwd is not None else None
        self._given_port = port
        self._ready = ready
        self._start_timeout = start_timeout
        self._stop_timeout = stop_timeout
        self._normal_exits = frozenset(normal_exits)
        self._port: int | None = None
        self._address = ""
        self._child: OsChild | None = None
        self._output: OutputLog | None = None
        self._state = "starting"
        self._failure: BaseException | None = None  # of the last question whether it is ready
        self._line_seen = asyncio.Event()
        self._started: asyncio.Future[OsProcessFailed | None]  # while ``init`` runs
        self._ended = asyncio.Event()

    async def init(self) -> None:
        """Start the program, and wait until it is ready; OsProcessFailed when it is not in time, or ends first."""
        runtime = self.runtime
        self._started = runtime.create_future()
        self._port = _free_port() if self._given_port == 0 else self._given_port
        self._address = f"{_HOST}:{self._port}" if self._port is not None else ""
        self._output = OutputLog(runtime.clock.now, self._say, self._say_dropped)
        self._output.match = self._look_at if self._ready_line is not None else None
        # owned before it is started: whenever a kill comes, nothing is left running
        self._child = self.own(OsChild(runtime, self._program, self._output, self._has_ended), OsChild.close)
        self._child.launch([self._with_port(word) for word in self._argv], self._env, self._cwd)
        timer = runtime.clock.call_later(self._start_timeout, self._too_slow, context=runtime.context)
        try:
            if self._ready is None and self._ready_line is None:
                self._settle_start(None)  # in this tick: however soon it ends, it has been started
            else:
                self.spawn_task(self._become_ready, label="readiness")
            failure = await self._started
        finally:
            timer.cancel()
            self._output.match = None
        if failure is not None:
            raise failure from self._failure
        self._state = "ready"

    async def handle_call(self, message: object, sender: From) -> Next:
        """Tell what is known of the program."""
        if issubclass(type(message), GetOsProcess):
            return Reply(self._info())
        return self.refuse(message, sender)

    async def handle_info(self, message: object) -> Next:
        """End when the program has ended."""
        if type(message) is not _Ended:
            return await super().handle_info(message)
        if message.code in self._normal_exits:
            return Stop(NORMAL)
        raise self._failed(_how(message.code), message.code)

    async def terminate(self, reason: ExitReason) -> None:
        """Ask the program to end, and wait for that; who does not end is killed."""
        child = self._child
        assert child is not None
        if self._ended.is_set():
            return
        self._state = "stopping"
        child.signal(signal.SIGTERM)
        timer = self.runtime.clock.call_later(self._stop_timeout, self._kill, child, context=self.runtime.context)
        try:
            await self._ended.wait()
        finally:
            timer.cancel()

    def describe(self) -> str:
        """Tell the process id, the state and the port."""
        pid = self._child.pid if self._child is not None else None
        facts = [f"pid {pid}"] if pid is not None else []
        facts += [self._state] if self._state != "ready" else []
        facts += [f"port {self._port}"] if self._port is not None else []
        return ", ".join(facts)

    # --- readiness ------------------------------------------------------------------------------------------

    async def _become_ready(self) -> None:
        """Wait for the line, then ask until the answer is yes; runs beside ``init``, which also waits for the end."""
        if self._ready_line is not None:
            await self._line_seen.wait()
        pause = _FIRST_PAUSE
        while self._ready is not None and not await self._says_yes(self._ready):
            await self.runtime.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)
        self._settle_start(None)

    async def _says_yes(self, ready: Callable[[OsProcessInfo], Awaitable[bool]]) -> bool:
        try:
            return bool(await ready(self._info()))
        except BaseException as error:  # whoever asks too early may be refused in any way
            if is_cancellation(error):
                raise
            self.runtime.contain(error)
            self._failure = error
            return False

    def _look_at(self, line: str) -> None:
        assert self._ready_line is not None
        assert self._output is not None
        found = self._ready_line.search(line)
        if found is not None:
            self._output.match = None
            self._address = found.groupdict().get("address") or self._address
            self._line_seen.set()

    def _too_slow(self) -> None:
        self._settle_start(self._failed(f"was not ready within {self._start_timeout:g} s"))

    def _settle_start(self, failure: OsProcessFailed | None) -> None:
        if not self._started.done():
            self._started.set_result(failure)

    # --- its life -------------------------------------------------------------------------------------------

    def _has_ended(self, code: int) -> None:
        """Take note of the end: it is the start's failure, what ``terminate`` waits for, or a message to ourselves."""
        self._state = "ended"
        self._ended.set()
        if not self._started.done():
            self._failure = None
            self._settle_start(self._failed(f"{_how(code)} before it was ready", code))
        else:
            self.ref.send(_Ended(code))

    def _kill(self, child: OsChild) -> None:
        label, seconds = self._dspex_process.label, self._stop_timeout
        _log.warning(f"{label}: {self._program} did not end within {seconds:g} s of SIGTERM: killed", actor=label)
        child.kill()

    def _failed(self, why: str, code: int | None = None) -> OsProcessFailed:
        assert self._output is not None
        return OsProcessFailed(self._program, why, code, self._output.last)

    def _info(self) -> OsProcessInfo:
        pid = self._child.pid if self._child is not None else None
        assert pid is not None
        return OsProcessInfo(pid, self._port, self._address)

    def _with_port(self, word: str) -> str:
        return word if self._port is None else word.replace("{port}", str(self._port))

    def _say(self, stream: str, line: str) -> None:
        _log.info(f"{self._dspex_process.label}: {line}", actor=self._dspex_process.label, stream=stream)

    def _say_dropped(self, count: int) -> None:
        label = self._dspex_process.label
        _log.warning(f"{label}: {count} more lines, too many to log", actor=label)


def _how(code: int) -> str:
    """Say how a program has ended."""
    if code >= 0:
        return f"ended with exit code {code}"
    try:
        return f"was ended by {signal.Signals(-code).name}"
    except ValueError:  # one of the real-time signals, which have no names
        return f"was ended by signal {-code}"


def _free_port() -> int:
    """Return a port that nobody listens at now."""
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port
