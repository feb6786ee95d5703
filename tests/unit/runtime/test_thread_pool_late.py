"""A pool of threads at its edges: calls that end as their callers go, and a loop that has gone first."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from dspex.runtime import ThreadPool

PATIENCE = 20.0


async def hung_pool() -> tuple[ThreadPool, asyncio.Future[Any], threading.Event, threading.Event]:
    """Return a pool of one thread, its call, what lets that end, and what is set once the loop is to hear of it."""
    pool = ThreadPool("pool", limit=1, on_late=pytest.fail)
    gate, told = threading.Event(), threading.Event()
    call = asyncio.ensure_future(pool.run(lambda: gate.wait(PATIENCE)))
    await asyncio.sleep(0)
    (worker,) = pool._workers
    tell = worker._tell

    def tell_and_say(function: Callable[..., None], *args: object) -> bool:
        try:
            return tell(function, *args)
        finally:
            told.set()

    worker._tell = tell_and_say  # type: ignore[method-assign]  # to know when, not to do otherwise
    return pool, call, gate, told


async def test_a_pool_that_was_never_used_closes_at_once() -> None:
    """There is no thread to wait for."""
    assert await ThreadPool("pool", on_late=pytest.fail).aclose(0.0) == []


async def test_who_waits_for_a_thread_goes_as_one_is_free() -> None:
    """Its call is never made, and the next one has the thread."""
    pool, first, gate, told = await hung_pool()
    made = list[str]()
    second = asyncio.ensure_future(pool.run(lambda: made.append("second")))
    third = asyncio.ensure_future(pool.run(lambda: made.append("third")))
    await asyncio.sleep(0)
    gate.set()
    assert told.wait(PATIENCE)
    second.cancel()
    await asyncio.gather(first, third)
    assert second.cancelled()
    assert made == ["third"]
    assert await pool.aclose(PATIENCE) == []


async def test_a_caller_goes_as_its_call_ends() -> None:
    """The call was not late, and the thread is free."""
    pool, call, gate, told = await hung_pool()
    gate.set()
    assert told.wait(PATIENCE)
    asyncio.get_running_loop().call_soon(call.cancel)
    with pytest.raises(asyncio.CancelledError):
        await call
    assert (pool.busy, pool.late) == (0, 0)
    assert await pool.run(lambda: "free") == "free"
    assert await pool.aclose(PATIENCE) == []


def test_a_call_outlives_its_loop() -> None:
    """Its thread ends with it, for there is nobody to tell."""
    loop = asyncio.new_event_loop()
    pool, call, gate, _ = loop.run_until_complete(hung_pool())
    (worker,) = pool._workers
    call.cancel()
    loop.run_until_complete(asyncio.wait([call]))
    loop.close()
    gate.set()
    worker.thread.join(PATIENCE)
    assert not worker.thread.is_alive()
