"""
A test that leaves a task, a thread, a socket or an open file behind fails, with the names of what it left.

Two fixtures, because a loop's tasks must be counted before the loop is closed (closing cancels them), while
threads and sockets can be counted only after (closing a loop ends its executor and frees its own sockets).
Neither lets the loop run, or collects garbage, unless something seems to be left. Inside a test,
``dspex.testing.assert_no_leaks`` is the same for a block.
"""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Generator, Iterable
from typing import Final

import pytest
from pytest_asyncio import is_async_test

from dspex.testing._leaks import OpenThings, left_behind, name_task
from dspex.testing._origins import Origins

__all__ = ["creations_noted", "nothing_left_open", "nothing_left_running", "runner_of"]

_origins: Final = Origins()


@pytest.fixture(scope="session", autouse=True)
def creations_noted() -> Generator[None]:
    """Note where each thread and socket comes from."""
    with _origins.noting_threads_and_sockets():
        yield


@pytest.fixture(autouse=True)
def nothing_left_open(request: pytest.FixtureRequest, creations_noted: None) -> Generator[None]:
    """Fail a test that leaves a thread, a socket or an open file."""
    if is_async_test(request.node) and request.node._loop_scope != "function":
        runner_of(request)  # a loop that outlives the test is not a leak
    opened = OpenThings(_origins)
    yield
    if opened.any_left():
        _fail(opened.left())


@pytest.fixture(autouse=True)
def nothing_left_running(request: pytest.FixtureRequest, nothing_left_open: None) -> Generator[None]:
    """Fail an asynchronous test that leaves a task on its loop."""
    if not is_async_test(request.node):
        yield
        return
    runner = runner_of(request)
    loop = runner.get_loop()
    before = asyncio.all_tasks(loop)
    with _origins.noting_results(loop, "create_task"):
        yield
    if loop.is_closed() or not (asyncio.all_tasks(loop) - before):
        return
    for collect in (False, True):
        for _ in range(3):  # a cancelled task needs a turn to end, what waits for it another
            runner.run(asyncio.sleep(0))
        if not (left := asyncio.all_tasks(loop) - before):
            return
        if not collect:
            gc.collect()
    _fail(name_task(task, _origins) for task in left)


def runner_of(request: pytest.FixtureRequest) -> asyncio.Runner:
    """Return what runs the asynchronous test that asks, made now if it is not there yet."""
    runner = request.getfixturevalue(f"_{request.node._loop_scope}_scoped_runner")
    assert isinstance(runner, asyncio.Runner)
    return runner


def _fail(left: Iterable[str]) -> None:
    if lines := list(left):
        pytest.fail(left_behind(lines), pytrace=False)
