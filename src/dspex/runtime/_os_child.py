"""A program and all that it starts, in one process group that cannot outlive this process."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Final

from dspex.errors import OsProcessFailed
from dspex.runtime._os_output import Lines, OutputLog

if TYPE_CHECKING:
    from dspex._clock import TimerHandle
    from dspex.runtime._runtime import Runtime

__all__ = ["OsChild"]

_GUARD: Final = ("/bin/sh", "-c", "read nothing; kill -KILL 0")
"""
Waits until its standard input closes, which is when this process closes it or is gone, and kills its own group.

It leads the group, and is the last of it to be reaped: as long as it is there, nobody else can get the group's number.
"""

_DRAIN: Final = 1.0
"""Seconds for what a program has written, when it has ended: somebody out of our reach may hold the pipe open."""


_CHUNK: Final = 65_536
"""Bytes that are read at a time: what a pipe holds."""


class OsChild:
    """
    One run of a program, started at most once and closed at least once.

    A thread waits for its end, on every loop alike; it kills what is left of the group before it reaps anything.

    Args:
        runtime: The process whose loop and clock it uses.
        program: Its name in errors.
        output: Takes its lines.
        ended: Called once in the loop with its exit code, when its last output has been read.
    """

    def __init__(self, runtime: Runtime, program: str, output: OutputLog, ended: Callable[[int], object]) -> None:
        self._runtime = runtime
        self._program = program
        self._output = output
        self._tell: Callable[[int], object] | None = ended
        self._child: subprocess.Popen[bytes] | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._group: int | None = None  # while it is ours
        self._gone = asyncio.Event()
        self._streams: dict[_Stream, None] = {}
        self._drain_timer: TimerHandle | None = None
        self.code: int | None = None

    @property
    def pid(self) -> int | None:
        """The program's process id; None before it is started."""
        return None if self._child is None else self._child.pid

    # --- starting -------------------------------------------------------------------------------------------

    def launch(self, argv: Sequence[str], env: Mapping[str, str] | None, cwd: str | None) -> None:
        """
        Start the program and begin to read what it writes; its standard input is empty.

        Raises:
            OsProcessFailed: It cannot be started; nothing is left running.
        """
        guard = self._start(_GUARD, stdin=subprocess.PIPE, env={}, cwd="/", process_group=0, deaf=True)
        try:
            child = self._start(argv, stdin=subprocess.DEVNULL, env=env, cwd=cwd, process_group=guard.pid)
        except OsProcessFailed:
            guard.kill()
            guard.communicate()
            raise
        self._child, self._group = child, guard.pid
        assert child.stdout is not None
        assert child.stderr is not None
        for name, pipe in (("stdout", child.stdout), ("stderr", child.stderr)):
            self._streams[_Stream(name, pipe, self)] = None
        self._thread = threading.Thread(
            target=self._attend, args=(child, guard), name=f"dspex-wait-{self._program}", daemon=True
        )
        self._thread.start()

    def _start(
        self,
        argv: Sequence[str],
        *,
        stdin: int,
        env: Mapping[str, str] | None,
        cwd: str | None,
        process_group: int,
        deaf: bool = False,
    ) -> subprocess.Popen[bytes]:
        """Start one program; a deaf one has every signal but SIGKILL blocked, from its first moment on."""
        out = subprocess.DEVNULL if deaf else subprocess.PIPE
        before = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals() if deaf else ())
        try:
            return subprocess.Popen(  # noqa: S603 - to start what it is given is its task; there is no shell
                argv, bufsize=0, stdin=stdin, stdout=out, stderr=out, env=env, cwd=cwd, process_group=process_group
            )
        except (OSError, ValueError) as error:
            raise OsProcessFailed(self._program, f"cannot be started: {error}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    # --- ending ---------------------------------------------------------------------------------------------

    def signal(self, number: int) -> None:
        """Send a signal to everything in the group, unless all of it has ended."""
        with self._lock:
            if self._group is not None:
                # PermissionError: macOS says so of a group in which all have ended
                with suppress(ProcessLookupError, PermissionError):
                    os.killpg(self._group, number)

    def kill(self) -> None:
        """End everything in the group at once."""
        self.signal(signal.SIGKILL)

    def close(self) -> Awaitable[None]:
        """Kill what still runs, in this tick; what it returns waits until nothing of it is left, not even a zombie."""
        self.kill()
        self._tell = None
        return self._all_gone()

    async def _all_gone(self) -> None:
        if self._thread is not None:
            await self._gone.wait()
            self._thread.join()  # telling us was the last thing it did
        if self._drain_timer is not None:
            self._drain_timer.cancel()
        for stream in tuple(self._streams):
            stream.close()

    def _attend(self, child: subprocess.Popen[bytes], guard: subprocess.Popen[bytes]) -> None:
        """Wait for the program's end, in a thread of its own."""
        code = child.wait()
        self.kill()
        with self._lock:
            self._group = None  # from here on its number may become somebody else's
        guard.communicate()
        with suppress(RuntimeError):  # the loop has ended first
            self._runtime.loop.call_soon_threadsafe(self._ended, code, context=self._runtime.context)

    def _ended(self, code: int) -> None:
        self.code = code
        self._gone.set()
        if self._streams:
            clock, context = self._runtime.clock, self._runtime.context
            self._drain_timer = clock.call_later(_DRAIN, self._tell_end, context=context)
        else:
            self._tell_end()

    def _tell_end(self) -> None:
        tell, self._tell = self._tell, None
        if tell is not None:
            assert self.code is not None
            self._output.tell_dropped()
            tell(self.code)

    # --- output ---------------------------------------------------------------------------------------------

    def heard(self, stream: str, lines: list[bytes]) -> None:
        """Take lines."""
        self._output.take(stream, lines)

    def silent(self, stream: _Stream) -> None:
        """Take note that a stream has ended; when the program has, too, and this was the last one, all is over."""
        del self._streams[stream]
        if not self._streams and self.code is not None:
            self._tell_end()


class _Stream:
    """
    One of the program's outputs, read whenever there is something.

    No transport of the loop's: uvloop's closes the descriptor of a pipe twice, and the second time it may already be
    somebody else's.
    """

    def __init__(self, name: str, pipe: IO[bytes], child: OsChild) -> None:
        self._name = name
        self._pipe = pipe
        self._child = child
        self._lines = Lines()
        self._loop = asyncio.get_running_loop()
        os.set_blocking(pipe.fileno(), False)
        self._loop.add_reader(pipe.fileno(), self._read)

    def _read(self) -> None:
        try:
            data = os.read(self._pipe.fileno(), _CHUNK)
        except BlockingIOError:  # a false alarm
            return
        if data:
            self._child.heard(self._name, self._lines.feed(data))
        else:
            self.close()

    def close(self) -> None:
        """Read no further."""
        self._loop.remove_reader(self._pipe.fileno())
        self._pipe.close()
        self._child.heard(self._name, self._lines.end())
        self._child.silent(self)
