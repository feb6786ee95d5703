"""Leaks of a piece of code: tasks, timers, threads, sockets and open files, each with its origin."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import stat
import threading
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Final

from dspex._clock import monotonic
from dspex.runtime import Process, Runtime
from dspex.testing._origins import Origins
from dspex.testing._virtual_clock import VirtualClock

__all__ = ["OpenThings", "assert_no_leaks", "left_behind", "name_task"]

_FD_FOLDER: Final = "/dev/fd"
_THREAD_GRACE: Final = 0.5
"""Seconds a thread that is already ending may take; on a busy machine a few milliseconds are normal."""

_LOOK: Final = 0.005
_TURNS: Final = 3
"""Turns of the loop before something counts as left: a cancelled task needs one to end, who waits for it another."""


class OpenThings:
    """The threads, sockets and regular files of the process at one moment; what is there later was left since."""

    def __init__(self, origins: Origins, *, except_threads: str = "\0") -> None:
        self._origins = origins
        self._except = except_threads
        self._threads = set(threading.enumerate())
        self._files = _open_files()

    def threads_left(self, grace: float = 0.0) -> list[threading.Thread]:
        """Return the new threads that do not end within ``grace`` seconds, which this blocks for."""
        left = [each for each in threading.enumerate() if each not in self._threads and not self._excepted(each)]
        deadline = monotonic() + grace
        for thread in left:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - monotonic()))
        return [thread for thread in left if thread.is_alive()]

    def any_left(self) -> bool:
        """True when something new is open, ending threads and uncollected garbage included."""
        return bool(self.threads_left()) or bool(_open_files().keys() - self._files.keys())

    def left(self, grace: float = _THREAD_GRACE) -> list[str]:
        """Name what is new and stays, garbage collected first if need be; threads have ``grace`` seconds to end."""
        threads = self.threads_left(grace)
        if _open_files().keys() - self._files.keys():
            gc.collect()
        opened = {key[0]: kind for key, kind in _open_files().items() if key not in self._files}
        named = [f"thread {thread.name!r}; {self._origins.describe(thread)}" for thread in threads]
        return named + [self._name_file(descriptor, kind) for descriptor, kind in opened.items()]

    def _excepted(self, thread: threading.Thread) -> bool:
        return thread.name.startswith(self._except)

    def _name_file(self, descriptor: int, kind: str) -> str:
        if kind == "socket":
            owner = self._origins.socket_on(descriptor)
            if owner is not None:
                return f"socket {owner!r}; {self._origins.describe(owner)}"
            return f"socket on descriptor {descriptor}"
        try:
            return f"open file {Path(_FD_FOLDER, str(descriptor)).readlink()}"
        except OSError:
            return f"open file on descriptor {descriptor}"


@contextlib.asynccontextmanager
async def assert_no_leaks(*, runtime: Runtime | None = None, clock: VirtualClock | None = None) -> AsyncIterator[None]:
    """
    Fail unless everything that the block created is gone when it ends, and name what is not.

    Looked at are the tasks of the running loop, the processes of runtimes opened inside the block (and of
    ``runtime``), threads, sockets, open files, and timers: those of asyncio's own loop and of ``clock`` (no other
    loop shows its timers). Threads of the loop's default executor, which belong to
    the loop, are not leaks. Things about to end have a moment to do so, in real time. While the block runs, threads,
    sockets, tasks and timers are noted with their origin, by replacing the functions that make them; so blocks may
    be nested, but not overlap.

    When the block raises, that is the test's failure, and nothing is looked at.

    Args:
        runtime: One that was open before the block; what the block starts there is to end with it.
        clock: The clock of the runtime under test, whose timers are to be gone as well.

    Raises:
        AssertionError: Something was left; a line for each thing says what it is and where it was created.
    """
    loop, origins = asyncio.get_running_loop(), Origins()
    opened = OpenThings(origins, except_threads=await _executor_threads(loop))
    tasks, timers = asyncio.all_tasks(loop), _timers(loop, clock)
    processes = set(runtime.processes.values()) if runtime is not None else set()
    runtimes = [runtime] if runtime is not None else []
    with contextlib.ExitStack() as noting:
        noting.enter_context(origins.noting_threads_and_sockets())
        noting.enter_context(_noting_runtimes(runtimes))
        noting.enter_context(origins.noting_results(loop, "create_task", "call_at"))
        if clock is not None:
            noting.enter_context(origins.noting_results(clock, "call_later"))
        yield
        await _settle(loop, tasks, opened)
    known = set(map(id, timers))
    running = asyncio.all_tasks(loop) - tasks
    left = [name_task(task, origins) for task in running]
    alive = [process for each in runtimes for process in each.processes.values() if process not in processes]
    left += [repr(each) for each in dict.fromkeys(alive) if each._task not in running]  # noqa: SLF001 - that task is named
    left += opened.left(grace=0.0)
    left += [f"{each!r}; {origins.describe(each)}" for each in _timers(loop, clock) if id(each) not in known]
    if left:
        raise AssertionError(left_behind(left))


def left_behind(left: Iterable[str]) -> str:
    """Put a report together."""
    return "\n  ".join(["left behind:", *sorted(left)])


def name_task(task: asyncio.Task[object], origins: Origins) -> str:
    """Say what a task is, where it is and where it comes from; of a process, also which."""
    coroutine = task.get_coro()
    name = getattr(coroutine, "__qualname__", repr(coroutine))
    frames = task.get_stack(limit=1)
    at = f", now at {frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else ""
    process = frames[0].f_locals.get("self") if frames else None
    whose = f" of process {process.label!r}" if isinstance(process, Process) else ""
    return f"task {task.get_name()!r}{whose} running {name}{at}; {origins.describe(task)}"


@contextlib.contextmanager
def _noting_runtimes(found: list[Runtime]) -> Iterator[None]:
    """Add every runtime that is opened inside this block to ``found``."""
    before = Runtime.open

    def open_and_note(runtime: Runtime) -> None:
        before(runtime)
        found.append(runtime)

    Runtime.open = open_and_note  # type: ignore[assignment,method-assign]  # an idle actor has no task by which to find it
    try:
        yield
    finally:
        Runtime.open = before  # type: ignore[method-assign]  # as above


async def _settle(loop: asyncio.AbstractEventLoop, tasks: set[asyncio.Task[object]], opened: OpenThings) -> None:
    """Let end what is ending: a few turns of the loop, then a little time, then without its garbage."""
    for _ in range(_TURNS):
        await asyncio.sleep(0)
    deadline = monotonic() + _THREAD_GRACE
    while opened.threads_left() and monotonic() < deadline:  # noqa: ASYNC110 - the end of a thread is not an event
        await asyncio.sleep(_LOOK)  # the loop must turn: a thread may wait for it
    if asyncio.all_tasks(loop) - tasks:
        gc.collect()
        for _ in range(_TURNS):
            await asyncio.sleep(0)


async def _executor_threads(loop: asyncio.AbstractEventLoop) -> str:
    """Return what the names of the threads of the loop's default executor begin with."""
    name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
    return name.rpartition("_")[0] + "_"


def _timers(loop: asyncio.AbstractEventLoop, clock: VirtualClock | None) -> list[object]:
    own = [each for each in getattr(loop, "_scheduled", ()) if not each.cancelled()]
    return own + list(clock.timers() if clock is not None else ())


def _open_files() -> dict[tuple[int, int, int], str]:
    """Return the process's sockets and regular files: (descriptor, device, inode) to what kind it is."""
    found: dict[tuple[int, int, int], str] = {}
    for name in os.listdir(_FD_FOLDER):  # noqa: PTH208  # half the cost of Path.iterdir, and it may run often
        try:
            status = os.fstat(int(name))
        except OSError:  # the descriptor of this very listing
            continue
        if stat.S_ISSOCK(status.st_mode):
            found[int(name), status.st_dev, status.st_ino] = "socket"
        elif stat.S_ISREG(status.st_mode):
            found[int(name), status.st_dev, status.st_ino] = "file"
    return found
