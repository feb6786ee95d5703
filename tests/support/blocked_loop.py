"""
A test whose event loop stands still for a second fails, with the stack of what held it.

The loop is watched from outside: its selector says when the loop is at work and when it waits, and a thread looks
at a loop that has been at work for long. Nothing is scheduled on the loop, so a virtual clock sees no timer of ours.
A stall of the whole machine is not a blocked loop: either the thread must have seen it (it stood still as well), or
its own must have used the processor all the while (in code that does not release the interpreter lock). Nor is a
loop that could go on and waits for a processor, which others have: what the kernel knows of that does not count.
"""

from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Generator
from pathlib import Path
from typing import Any, Final

import pytest
from pytest_asyncio import is_async_test

from tests.support.leaks import runner_of

__all__ = ["blocked_loop_seconds", "loop_never_blocked", "loop_watcher"]

_LOOKS_PER_LIMIT: Final = 4
_LOOKS_NEEDED: Final = 2


class WatchedLoop:
    """One loop, and what held it for too long."""

    def __init__(self, loop: asyncio.AbstractEventLoop, limit: float, queued: Callable[[], float]) -> None:
        self.blocks: list[str] = []
        self._loop = loop
        self._limit = limit
        self._thread = threading.get_ident()
        self._busy_since: float | None = None
        self._turn = 0
        self._seen_turn = -1
        self._looks = 0
        self._cpu_before = time.thread_time()
        self._queued = queued
        self._queued_at_look = self._queued_before_turn = queued()
        self._stack = traceback.StackSummary()
        selector: Any = loop._selector  # type: ignore[attr-defined]  # the loop's own, of every loop written in Python
        self._selector = selector
        selector.select = self._around(selector.select, before=self._rest, after=self._work)
        loop.run_forever = self._around(loop.run_forever, before=self._work, after=self._rest)  # type: ignore[method-assign]  # for this loop only

    def release(self) -> None:
        """Take the watch off the loop."""
        del self._selector.select
        del self._loop.run_forever  # uncovers the class's own method

    def look(self) -> None:
        """See, from the watcher's thread, whether the loop still works on the turn it worked on at the last look."""
        turn = self._turn
        if self._busy_since is None or turn != self._seen_turn:
            self._looks = 0
            self._queued_before_turn = self._queued_at_look
        elif (frame := sys._current_frames().get(self._thread)) is not None:
            self._looks += 1
            walk = traceback.walk_stack(frame)  # the lines are read later: a file open in this thread would be a leak
            self._stack = traceback.StackSummary.extract(walk, limit=12, lookup_lines=False)
        self._seen_turn = turn
        self._queued_at_look = self._queued()

    def _around(
        self, function: Callable[..., Any], *, before: Callable[[], None], after: Callable[[], None]
    ) -> Callable[..., Any]:
        def watched(*args: Any) -> Any:
            before()
            try:
                return function(*args)
            finally:
                after()

        return watched

    def _work(self) -> None:
        self._turn += 1
        self._busy_since = time.monotonic()
        self._cpu_before = time.thread_time()

    def _rest(self) -> None:
        since, self._busy_since = self._busy_since, None
        if since is not None and (held := time.monotonic() - since) > self._limit:
            self._judge(held)

    def _judge(self, held: float) -> None:
        known = self._seen_turn == self._turn
        queued = self._queued() - self._queued_before_turn
        if known and self._looks >= _LOOKS_NEEDED and held - queued > self._limit:
            self._stack.reverse()
            self.blocks.append(f"the event loop stood still for {held:.2f} s, in\n{''.join(self._stack.format())}")
        elif time.thread_time() - self._cpu_before > 0.75 * self._limit:
            self.blocks.append(
                f"the event loop stood still for {held:.2f} s, in code that does not release the interpreter lock"
            )


class ProcessorQueue:
    """The kernel's record of the waits of the thread that makes this; a file that stays open, so no test's leak."""

    def __init__(self) -> None:
        path = Path(f"/proc/self/task/{threading.get_native_id()}/schedstat")
        self._file = path.open("rb", buffering=0) if path.exists() else None

    def seconds(self) -> float:
        """Return how long the thread could have run so far and had no processor; 0.0 where nobody counts."""
        if self._file is None:
            return 0.0
        return int(os.pread(self._file.fileno(), 100, 0).split()[1]) / 1e9

    def close(self) -> None:
        """Close the file."""
        if self._file is not None:
            self._file.close()


class LoopWatcher:
    """The thread that looks at watched loops, all of which run in the thread that makes it."""

    def __init__(self, limit: float) -> None:
        self.limit = limit
        self.watched: WatchedLoop | None = None
        self.queue = ProcessorQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="loop-watcher", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stopped.set()
        self._thread.join()
        self.queue.close()

    def _run(self) -> None:
        while not self._stopped.wait(self.limit / _LOOKS_PER_LIMIT):
            if (watched := self.watched) is not None:
                watched.look()


@pytest.fixture(scope="session")
def blocked_loop_seconds() -> float:
    """How long a loop may stand still: far longer than is good, for tests share their machine."""
    return 1.0


@pytest.fixture(scope="session", autouse=True)
def loop_watcher(request: pytest.FixtureRequest, blocked_loop_seconds: float) -> Generator[LoopWatcher | None]:
    """Watch loops for the whole session, unless a person stands in the debugger."""
    if request.config.getoption("usepdb") or request.config.getoption("trace"):
        yield None
        return
    watcher = LoopWatcher(blocked_loop_seconds)
    yield watcher
    watcher.stop()


@pytest.fixture(autouse=True)
def loop_never_blocked(
    request: pytest.FixtureRequest, loop_watcher: LoopWatcher | None, nothing_left_running: None
) -> Generator[None]:
    """Fail an asynchronous test that holds its loop, unless it is marked ``allow_blocking`` with a reason."""
    if (marker := request.node.get_closest_marker("allow_blocking")) and not (marker.args and marker.args[0]):
        pytest.fail("allow_blocking needs a reason", pytrace=False)
    if marker or loop_watcher is None or not is_async_test(request.node):
        yield
        return
    loop = runner_of(request).get_loop()
    if not hasattr(loop, "_selector"):  # uvloop waits in C, where nobody can look
        yield
        return
    watched = loop_watcher.watched = WatchedLoop(loop, loop_watcher.limit, loop_watcher.queue.seconds)
    yield
    loop_watcher.watched = None
    watched.release()
    if watched.blocks:
        pytest.fail("\n".join(watched.blocks), pytrace=False)
