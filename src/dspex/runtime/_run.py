"""A program: applications in a loop of their own, stopped by the signals of the system."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Final

from dspex.errors import LeakedTasks, StartFailed
from dspex.runtime._application import Application
from dspex.runtime._exit import KILL, SHUTDOWN
from dspex.runtime._log import get_logger
from dspex.runtime._runtime import Runtime

__all__ = ["run"]

_log = get_logger("application")

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)


def run(
    *applications: Application,
    runtime: Runtime | None = None,
    loop_factory: Callable[[], asyncio.AbstractEventLoop] | None = None,
) -> int:
    """
    Run applications in a loop of their own until one ends or a signal comes; return the exit code.

    They start in the order given and stop in reverse order. The first SIGTERM or SIGINT stops them in an orderly
    way, a second one kills everybody, a third one ends the process. If the loop is blocked when the second comes,
    that one ends the process. A KeyboardInterrupt in an actor counts as a SIGINT.

    Args:
        runtime: Where they live; a fresh one by default.
        loop_factory: For another loop than asyncio's own, such as ``uvloop.new_event_loop``.

    Returns:
        0 after an orderly end, 1 when a tree gave up or code ignored its cancellation, 128 plus the number of the
        signal that killed.

    Raises:
        StartFailed: An application did not start; those before it have been stopped.
        RuntimeError: Called in another thread than the main one, where no signals arrive.
    """
    if threading.current_thread() is not threading.main_thread():
        raise RuntimeError("run() owns the signals of the process: call it in the main thread, or use `async with`")
    runner = asyncio.Runner(loop_factory=loop_factory)
    loop = runner.get_loop()
    runtime = runtime if runtime is not None else Runtime()
    try:
        return runner.run(_run(applications, runtime, loop))
    finally:
        if runtime.zombies:
            loop.close()  # the runner would wait for them, and they do not end
        else:
            runner.close()


async def _run(applications: tuple[Application, ...], runtime: Runtime, loop: asyncio.AbstractEventLoop) -> int:
    signals = _Signals(loop, runtime)
    opened: list[Application] = []
    try:
        async with runtime:
            runtime.on_interrupt = signals.interrupted
            try:
                for application in applications:
                    await signals.open(application)
                    opened.append(application)
                await signals.wait(_first_end(opened, loop))
            except StartFailed:
                if not signals.stopping:
                    raise
            finally:
                for application in reversed(opened):
                    await application.close()
    except LeakedTasks as error:
        _log.error(
            "code ignored its cancellation",
            says="code ignored its cancellation and still runs: {whose}",
            whose=", ".join(stack.partition("\n")[0] for stack in error.stacks),
            stacks=error.stacks,
        )
        return 1
    finally:
        signals.release()
    if signals.killed_by:
        return 128 + signals.killed_by
    return int(any(application.failed for application in opened))


def _first_end(opened: list[Application], loop: asyncio.AbstractEventLoop) -> asyncio.Future[None]:
    ended: asyncio.Future[None] = loop.create_future()

    def note() -> None:
        if not ended.done():
            ended.set_result(None)

    for application in opened:
        assert application._process is not None
        application._process.on_dead(note)
    if not opened:
        note()
    return ended


class _Signals:
    """The meaning of the process's signals for the loop, from now until ``release``."""

    def __init__(self, loop: asyncio.AbstractEventLoop, runtime: Runtime) -> None:
        self.killed_by = 0
        self._loop = loop
        self._runtime = runtime
        self._count = 0
        self._stopped: asyncio.Future[None] = loop.create_future()
        self._opening: Application | None = None
        self._before = {number: signal.signal(number, self._arrived) for number in _SIGNALS}

    @property
    def stopping(self) -> bool:
        """True when a signal has come and has reached the loop."""
        return self._stopped.done()

    async def open(self, application: Application) -> None:
        """Open an application, which the first signal stops; StartFailed when one has come before."""
        if self.stopping:
            raise StartFailed(application.name, SHUTDOWN)
        self._opening = application
        try:
            await application.open(self._runtime)
        finally:
            self._opening = None

    async def wait(self, ended: asyncio.Future[None]) -> None:
        """Wait for a signal, or for this."""
        await asyncio.wait([ended, self._stopped], return_when=asyncio.FIRST_COMPLETED)

    def interrupted(self, _: KeyboardInterrupt) -> None:
        """Take an interrupt of an actor for a first signal."""
        self._stop()

    def release(self) -> None:
        """Give the signals back."""
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _arrived(self, number: int, _: FrameType | None) -> None:
        """Take a signal; this runs between any two instructions of the main thread, so it does next to nothing."""
        self._count += 1
        if self._count == 1:
            # Threadsafe also here in the loop's own thread: it wakes a loop that sleeps in its selector.
            self._loop.call_soon_threadsafe(self._stop)
            return
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_DFL)
        if not self.stopping:
            # The loop has not even heard of the first: it is blocked.
            os.kill(os.getpid(), number)  # pragma: no cover - the process ends here
        self._loop.call_soon_threadsafe(self._kill, number)

    def _stop(self) -> None:
        if not self._stopped.done():
            self._stopped.set_result(None)
        if self._opening is not None:
            self._opening.request_stop()

    def _kill(self, number: int) -> None:
        self.killed_by = number
        for process in self._runtime.roots():
            process.receive_exit(KILL, None)
