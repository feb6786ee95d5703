"""Answers read piece by piece: who waits for whom, and how a stream ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

import dspex
from dspex.errors import AppNotRunning, DeadlineExceeded, MissingInput
from dspex.protocols.scope import Delta, current_scope
from tests.support.programs import until


class Counting(dspex.Module):
    """Puts ``count`` pieces, noting how far it came."""

    put: list[int] = []  # noqa: RUF012 - shared on purpose: a module is frozen

    def __init__(self, ending: str = "return") -> None:
        self.ending = ending

    async def forward(self, count: int) -> int:
        sink = current_scope.get().stream
        total = 0
        for number in range(count):
            if sink is not None:
                await sink.put(Delta("count", "number", f"{number} ", number))
            Counting.put.append(number)
            total += number
        if self.ending == "raise":
            raise ArithmeticError("the end")
        if self.ending == "hang":
            await asyncio.get_running_loop().create_future()
        return total


@pytest.fixture
async def app() -> AsyncIterator[dspex.App]:
    Counting.put.clear()
    async with dspex.App() as running:
        yield running


async def test_pieces_come_in_order_and_the_result_after_them(app: dspex.App) -> None:
    """All pieces, then the end; the result is what forward returned."""
    async with app.stream(Counting(), count=200) as stream:
        pieces = [delta.text async for delta in stream if isinstance(delta, Delta)]
        assert await stream.result() == sum(range(200))

    assert pieces == [f"{number} " for number in range(200)]
    assert stream.request.details.calls == 0


async def test_program_waits_for_a_slow_reader(app: dspex.App) -> None:
    """Back-pressure: the provider is read no faster than the user reads."""
    async with app.stream(Counting(), count=1_000) as stream:
        await until(lambda: len(Counting.put) >= 64, "the program to run ahead")
        for _ in range(1_000):
            await asyncio.sleep(0)
        assert len(Counting.put) <= 66
        for _ in range(100):
            await anext(stream)
        await until(lambda: len(Counting.put) >= 164, "the program to go on")
        assert len(Counting.put) <= 166


async def test_result_without_reading_does_not_wait_for_a_reader(app: dspex.App) -> None:
    """Who only wants the result gets it: the pieces are dropped."""
    async with app.stream(Counting(), count=1_000) as stream:
        assert await stream.result() == sum(range(1_000))
        assert [delta async for delta in stream] == []


async def test_error_of_the_program_follows_its_last_piece(app: dspex.App) -> None:
    """The pieces before the failure are read first; then the reader is told."""
    read = []
    with pytest.raises(ArithmeticError, match="the end"):
        async with app.stream(Counting("raise"), count=3) as stream:
            async for delta in stream:
                read.append(delta)  # noqa: PERF401 - what was read before the error is the point
    assert len(read) == 3


async def test_leaving_the_block_stops_the_request(app: dspex.App) -> None:
    """A reader who has seen enough pays for no more."""
    async with app.stream(Counting("hang"), count=3) as stream:
        await anext(stream)
    assert stream.request.done
    assert app.health()["running"] == 0


async def test_deadline_ends_a_stream_that_nobody_ends(app: dspex.App) -> None:
    """The one deadline holds for streams too."""
    with pytest.raises(DeadlineExceeded):
        async with app.options(deadline=0.05).stream(Counting("hang"), count=1) as stream:
            async for _ in stream:
                pass


async def test_cancelled_reader_stops_the_request(app: dspex.App) -> None:
    """The socket is closed before the cancellation travels on."""
    reading = asyncio.Event()

    async def read() -> None:
        async with app.stream(Counting("hang"), count=1) as stream:
            async for _ in stream:
                reading.set()

    task = asyncio.create_task(read())
    await reading.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert app.health()["running"] == 0


async def test_two_streams_do_not_mix(app: dspex.App) -> None:
    """Each request has a sink of its own."""

    async def read(count: int) -> int:
        async with app.stream(Counting(), count=count) as stream:
            return len([delta async for delta in stream])

    assert list(await asyncio.gather(read(150), read(90))) == [150, 90]


async def test_stream_is_entered_once_and_read_inside_its_block(app: dspex.App) -> None:
    """Misuse is told at once."""
    stream = app.stream(Counting(), count=1)
    with pytest.raises(RuntimeError, match="inside"):
        await anext(stream)
    async with stream:
        pass
    with pytest.raises(RuntimeError, match="once"):
        async with stream:
            pass


async def test_bad_inputs_and_a_closed_app_start_nothing() -> None:
    """Before anything runs."""
    with pytest.raises(MissingInput, match="count"):
        dspex.App().stream(Counting())  # type: ignore[call-arg]  # that is the point
    with pytest.raises(AppNotRunning):
        async with dspex.App().stream(Counting(), count=1):
            pass


async def test_runs_without_a_reader_have_no_sink(app: dspex.App) -> None:
    """``run`` is not a stream: predictors do not even parse pieces."""
    assert await app.run(Counting(), count=3) == 3
