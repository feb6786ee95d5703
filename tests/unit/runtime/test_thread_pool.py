"""Threads for calls that block: bounded, in order, and never lost to a call that hangs."""

from __future__ import annotations

import asyncio
import threading

import pytest

from dspex.errors import ActorExited
from dspex.runtime import ThreadPool
from tests.support.programs import until


async def test_results_and_errors_come_back() -> None:
    """A call's return value or exception is its caller's, SystemExit included."""
    pool = ThreadPool("pool", on_late=print)

    def leave() -> None:
        raise SystemExit(3)

    assert await pool.run(lambda: 6 * 7) == 42
    assert await pool.run(threading.current_thread) is not threading.current_thread()
    with pytest.raises(ZeroDivisionError):
        await pool.run(lambda: 1 // 0)
    with pytest.raises(SystemExit):
        await pool.run(leave)
    assert await pool.aclose(5.0) == []


async def test_no_more_calls_run_than_the_limit_and_waiting_ones_are_served_in_order() -> None:
    """A third call waits while two run, and is first when one has ended."""
    pool = ThreadPool("pool", limit=2, on_late=print)
    gate = threading.Event()
    begun: list[int] = []

    def call(number: int) -> int:
        begun.append(number)
        gate.wait(10)
        return number

    calls = [asyncio.ensure_future(pool.run(lambda number=number: call(number))) for number in range(4)]  # type: ignore[misc]  # a default binds the number
    await until(lambda: len(begun) == 2)
    assert (pool.busy, sorted(begun)) == (2, [0, 1])
    gate.set()
    assert await asyncio.gather(*calls) == [0, 1, 2, 3]
    assert begun[2:] in ([2, 3], [3, 2])
    assert await pool.aclose(5.0) == []


async def test_hung_call_whose_caller_has_gone_gives_its_place_to_another_thread() -> None:
    """A pool of one serves the next caller at once; the late end is told, its result dropped."""
    late: list[str] = []
    pool = ThreadPool("pool", limit=1, spare=1, on_late=late.append)
    gate, inside = threading.Event(), threading.Event()

    def hang() -> str:
        inside.set()
        gate.wait(10)
        return "too late"

    hung = asyncio.ensure_future(pool.run(hang, "hang"))
    await until(inside.is_set)
    hung.cancel()
    assert await pool.run(lambda: "next") == "next"
    assert (pool.busy, pool.late, late) == (0, 1, [])
    gate.set()
    await until(lambda: pool.late == 0)
    assert late == ["hang"]
    with pytest.raises(asyncio.CancelledError):
        await hung
    assert await pool.aclose(5.0) == []


async def test_threads_are_bounded_even_when_every_call_hangs() -> None:
    """With all spare threads hung, the next caller waits until one ends."""
    pool = ThreadPool("pool", limit=1, spare=1, on_late=lambda _: None)
    gate = threading.Event()
    hung = []
    for _ in range(2):
        inside = threading.Event()

        def hang(inside: threading.Event = inside) -> None:
            inside.set()
            gate.wait(10)

        hung.append(asyncio.ensure_future(pool.run(hang)))
        await until(inside.is_set)
        hung[-1].cancel()
        await asyncio.wait(hung)
    waiting = asyncio.ensure_future(pool.run(lambda: "served"))
    await asyncio.sleep(0)
    assert not waiting.done()
    assert pool.late == 2
    gate.set()
    assert await waiting == "served"
    assert await pool.aclose(5.0) == []


async def test_caller_that_leaves_before_its_turn_is_never_called() -> None:
    """A waiting call has no thread to lose."""
    pool = ThreadPool("pool", limit=1, on_late=print)
    gate, inside, called = threading.Event(), threading.Event(), []

    def hold() -> None:
        inside.set()
        gate.wait(10)

    first = asyncio.ensure_future(pool.run(hold))
    await until(inside.is_set)
    second = asyncio.ensure_future(pool.run(lambda: called.append(2)))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait([second])
    gate.set()
    await first
    assert await pool.aclose(5.0) == []
    assert called == []


async def test_closing_sends_callers_away_and_says_which_thread_hangs() -> None:
    """A hung call does not hold the close up; where it stands is told."""
    pool = ThreadPool("pool", limit=1, on_late=print)
    gate, inside, gone = threading.Event(), threading.Event(), asyncio.Event()

    def hang() -> None:
        inside.set()
        gate.wait(10)

    running = asyncio.ensure_future(pool.run(hang, "hang"))
    waiting = asyncio.ensure_future(pool.run(lambda: None))
    await until(inside.is_set)
    [stuck] = await pool.aclose(0.0)
    assert "hang does not end" in stuck
    assert "gate.wait" in stuck
    for call in (running, waiting):
        with pytest.raises(ActorExited):
            await call
    with pytest.raises(ActorExited):
        await pool.run(lambda: None)
    pool.when_empty(gone.set)
    gate.set()
    await gone.wait()
