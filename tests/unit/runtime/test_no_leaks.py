"""Things that a block leaves behind are named; those that end with it, or soon after, are not."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import socket
import threading
from pathlib import Path

import pytest

from dspex.runtime import Runtime
from dspex.testing import VirtualClock, assert_no_leaks
from tests.unit.runtime.doer import Doer, forever


def shows_tasks(loop: asyncio.AbstractEventLoop) -> bool:
    return hasattr(loop, "_scheduled")


async def test_a_whole_life_leaves_nothing(clock: VirtualClock) -> None:
    """Processes, calls with timeouts, threads, files and sockets, all gone by the end of the block."""
    async with assert_no_leaks(clock=clock):
        async with Runtime(clock=clock) as runtime:
            ref = await runtime.start(Doer())
            ref._process.spawn_task(forever)
        await asyncio.to_thread(gc.isenabled)
        one, two = socket.socketpair()
        one.close()
        two.close()
        thread = threading.Thread(target=gc.isenabled)
        thread.start()


async def test_a_task_is_named_with_its_place_and_origin() -> None:
    """One of a process says which process; it is enough that it would end only later."""
    runtime = Runtime()
    runtime.open()
    left = list[asyncio.Task[None]]()

    async def wait() -> None:
        await forever()

    with pytest.raises(AssertionError) as caught:
        async with assert_no_leaks():
            left.append(asyncio.create_task(wait(), name="the-left-one"))
            (await runtime.start(Doer(), label="somebody")).cast(forever)
            await asyncio.sleep(0)
    lines = str(caught.value).splitlines()
    assert lines[0] == "left behind:"
    assert len(lines) == 3
    assert "of process 'somebody' running ActorLoop._main, now at" in str(caught.value)
    assert "task 'the-left-one' running test_a_task_is_named" in str(caught.value)
    assert "test_no_leaks.py" in str(caught.value)
    if shows_tasks(asyncio.get_running_loop()):
        assert "in test_a_task_is_named_with_its_place_and_origin" in str(caught.value)
    left[0].cancel()
    await runtime.close()


async def test_idle_actors_are_named(clock: VirtualClock) -> None:
    """They have no task; of a runtime that was open before, only those that the block has started."""
    inner, outer = Runtime(clock=clock), Runtime(clock=clock)
    outer.open()
    await outer.start(Doer(), label="before")
    with pytest.raises(AssertionError) as caught:
        async with assert_no_leaks(runtime=outer):
            inner.open()
            await inner.start(Doer(), label="one")
            await outer.start(Doer(), label="two")
            await (await outer.start(Doer(), label="three")).stop()
    assert str(caught.value).splitlines() == [
        "left behind:",
        "  <ActorProcess one [alive]>",
        "  <ActorProcess two [alive]>",
    ]
    await inner.close()
    await outer.close()


async def test_timers_are_named(clock: VirtualClock) -> None:
    """Those of asyncio's own loop and of a virtual clock; what was set before the block is not meant."""
    loop = asyncio.get_running_loop()
    timers = [loop.call_later(900.0, gc.isenabled)]
    clock.call_later(5.0, gc.isenabled, context=contextvars.Context())
    async with assert_no_leaks(clock=clock):
        loop.call_later(900.0, gc.isenabled).cancel()
    with pytest.raises(AssertionError) as caught:
        async with assert_no_leaks(clock=clock):
            timers.append(loop.call_later(900.0, gc.isenabled))
            clock.call_later(7.0, gc.isenabled, context=contextvars.Context())
    assert "VirtualTimer at 7: isenabled" in str(caught.value)
    assert "VirtualTimer at 5" not in str(caught.value)
    assert "in test_timers_are_named" in str(caught.value)
    assert len(str(caught.value).splitlines()) == (3 if shows_tasks(loop) else 2)
    for timer in timers:
        timer.cancel()


async def test_sockets_files_and_threads_are_named(tmp_path: Path) -> None:
    """A thread that goes on, a socket nobody closed, and a file by its path."""
    go_on = threading.Event()
    with pytest.raises(AssertionError) as caught:
        async with assert_no_leaks():
            one, two = socket.socketpair()
            file = (tmp_path / "open.txt").open("w")
            thread = threading.Thread(target=go_on.wait, name="the-left-thread")
            thread.start()
    go_on.set()
    thread.join()
    for each in (one, two, file):
        each.close()
    report = str(caught.value)
    assert "thread 'the-left-thread'; created at" in report
    assert f"open file {tmp_path / 'open.txt'}" in report
    assert report.count("socket") >= 2


async def test_a_thread_that_waits_for_the_loop_may_end() -> None:
    """The loop goes on turning while it is waited for."""
    loop = asyncio.get_running_loop()
    began, done = threading.Event(), threading.Event()

    def ask_the_loop() -> None:
        began.set()
        loop.call_soon_threadsafe(done.set)
        done.wait()

    async with assert_no_leaks():
        thread = threading.Thread(target=ask_the_loop)
        thread.start()
        began.wait()


async def test_blocks_may_be_nested_and_leave_no_trace() -> None:
    """The functions that make threads, sockets and tasks are as they were."""
    loop = asyncio.get_running_loop()
    before = threading.Thread.start, socket.socket.__init__, loop.create_task, loop.call_at
    async with assert_no_leaks(), assert_no_leaks():
        await asyncio.create_task(asyncio.sleep(0))
    assert (threading.Thread.start, socket.socket.__init__, loop.create_task, loop.call_at) == before


async def test_the_blocks_own_failure_comes_first() -> None:
    """A test that has failed is not told about its leaks as well."""
    with pytest.raises(KeyError):
        async with assert_no_leaks():
            task = asyncio.create_task(forever())
            raise KeyError("own")
    task.cancel()
