"""
A test that leaves a task, a thread, a socket or an open file behind fails, with the names of what it left.

Two fixtures, because a loop's tasks must be counted before the loop is closed (closing cancels them), while
threads and sockets can be counted only after (closing a loop ends its executor and frees its own sockets).
Neither lets the loop run, or collects garbage, unless something seems to be left.
"""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import socket
import stat
import threading
import time
from collections.abc import Callable, Generator, Iterable
from pathlib import Path
from typing import Any, Final
from weakref import WeakKeyDictionary

import pytest
from pytest_asyncio import is_async_test

from tests.support.origins import Origin, describe, origin

__all__ = ["creations_noted", "nothing_left_open", "nothing_left_running", "runner_of"]

_FD_FOLDER: Final = "/dev/fd"
_THREAD_GRACE: Final = 0.5
"""How long a thread that is already ending may take; on a busy machine a few milliseconds are normal."""

_origins: Final[WeakKeyDictionary[object, Origin]] = WeakKeyDictionary()


@pytest.fixture(scope="session", autouse=True)
def creations_noted() -> Generator[None]:
    """Note where each thread and socket comes from."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", _noting(threading.Thread.start))
        patch.setattr(socket.socket, "__init__", _noting(socket.socket.__init__))
        yield


@pytest.fixture(autouse=True)
def nothing_left_open(request: pytest.FixtureRequest, creations_noted: None) -> Generator[None]:
    """Fail a test that leaves a thread, a socket or an open file."""
    if is_async_test(request.node) and request.node._loop_scope != "function":
        runner_of(request)  # a loop that outlives the test is no leak
    threads, files = set(threading.enumerate()), _open_files()
    yield
    if (left := _threads_left(threads)) or _open_files().keys() - files.keys():
        gc.collect()
        opened = {key: text for key, text in _open_files().items() if key not in files}
        _fail([*map(_name_thread, left), *(_name_file(key[0], text) for key, text in opened.items())])


@pytest.fixture(autouse=True)
def nothing_left_running(request: pytest.FixtureRequest, nothing_left_open: None) -> Generator[None]:
    """Fail an asynchronous test that leaves a task on its loop."""
    if not is_async_test(request.node):
        yield
        return
    runner = runner_of(request)
    loop = runner.get_loop()
    before = asyncio.all_tasks(loop)
    noted = _note_tasks(loop)
    yield
    if noted:
        del loop.create_task  # uncovers the class's own method
    if loop.is_closed() or not (asyncio.all_tasks(loop) - before):
        return
    for collect in (False, True):
        for _ in range(3):  # a cancelled task needs a turn to end, what waits for it another
            runner.run(asyncio.sleep(0))
        if not (left := asyncio.all_tasks(loop) - before):
            return
        if not collect:
            gc.collect()
    _fail(map(_name_task, left))


def runner_of(request: pytest.FixtureRequest) -> asyncio.Runner:
    """Return what runs the asynchronous test that asks, made now if it is not there yet."""
    runner = request.getfixturevalue(f"_{request.node._loop_scope}_scoped_runner")
    assert isinstance(runner, asyncio.Runner)
    return runner


def _noting(function: Callable[..., Any]) -> Callable[..., Any]:  # whatever it takes and returns
    @functools.wraps(function)
    def noting(self: object, *args: Any, **kwargs: Any) -> Any:
        _origins[self] = origin()
        return function(self, *args, **kwargs)

    return noting


def _note_tasks(loop: asyncio.AbstractEventLoop) -> bool:
    """Note where the loop's tasks come from; a loop in C takes no such attribute and stays without."""
    create_task = loop.create_task

    def noting(*args: Any, **kwargs: Any) -> asyncio.Task[Any]:
        task = create_task(*args, **kwargs)
        _origins[task] = origin()
        return task

    try:
        loop.create_task = noting  # type: ignore[method-assign]  # the code under test could see a task factory
    except AttributeError:
        return False
    return True


def _threads_left(before: set[threading.Thread]) -> list[threading.Thread]:
    left = [thread for thread in threading.enumerate() if thread not in before]
    deadline = time.monotonic() + _THREAD_GRACE
    for thread in left:
        if thread is not threading.current_thread():
            thread.join(max(0.0, deadline - time.monotonic()))
    return [thread for thread in left if thread.is_alive()]


def _open_files() -> dict[tuple[int, int, int], str]:
    """Return the process's sockets and regular files: (descriptor, device, inode) to what kind it is."""
    found: dict[tuple[int, int, int], str] = {}
    for name in os.listdir(_FD_FOLDER):  # noqa: PTH208  # half the cost of Path.iterdir, and it runs twice a test
        try:
            status = os.fstat(int(name))
        except OSError:  # the descriptor of this very listing
            continue
        if stat.S_ISSOCK(status.st_mode):
            found[int(name), status.st_dev, status.st_ino] = "socket"
        elif stat.S_ISREG(status.st_mode):
            found[int(name), status.st_dev, status.st_ino] = "file"
    return found


def _name_task(task: asyncio.Task[Any]) -> str:
    coroutine = task.get_coro()
    name = getattr(coroutine, "__qualname__", repr(coroutine))
    frames = task.get_stack(limit=1)
    at = f", now at {frames[0].f_code.co_filename}:{frames[0].f_lineno}" if frames else ""
    return f"task {task.get_name()!r} running {name}{at}; {describe(_origins.get(task))}"


def _name_thread(thread: threading.Thread) -> str:
    return f"thread {thread.name!r}; {describe(_origins.get(thread))}"


def _name_file(descriptor: int, kind: str) -> str:
    if kind == "socket":
        for owner, where in list(_origins.items()):
            if isinstance(owner, socket.socket) and owner.fileno() == descriptor:
                return f"socket {owner!r}; {describe(where)}"
        return f"socket on descriptor {descriptor}"
    try:
        return f"open file {Path(_FD_FOLDER, str(descriptor)).readlink()}"
    except OSError:
        return f"open file on descriptor {descriptor}"


def _fail(left: Iterable[str]) -> None:
    if lines := sorted(left):
        pytest.fail("\n  ".join(["left behind:", *lines]), pytrace=False)
