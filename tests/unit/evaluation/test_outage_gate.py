"""The gate where rows wait out an outage, by a clock that tests move."""

from __future__ import annotations

import asyncio
import logging
import math
from typing import Any

import pytest

from dspex.errors import ConfigError, TransportFailed
from dspex.evaluation.outage_gate import OutageGate, gate_of_rows
from dspex.runtime import Backoff, Runtime
from dspex.testing import VirtualClock

DOWN = TransportFailed("nobody there")


class World:
    def __init__(self, **limits: float) -> None:
        self.clock = VirtualClock()
        self.runtime = Runtime(clock=self.clock)
        self.runtime.open()
        self.told: list[object] = []
        self.gate = OutageGate(
            self.runtime, Backoff(initial=1.0, maximum=4.0), on_pause=self._pause, on_go=self._go, **limits
        )

    async def _pause(self, error: Exception, delay: float) -> None:
        self.told.append(delay)

    def _go(self) -> None:
        self.told.append("go")


async def test_it_closes_for_twice_as_long_each_time_and_tells_when_it_is_over() -> None:
    """All who had entered before the closing share it."""
    world = World()
    first, second = await world.gate.enter(), await world.gate.enter()
    assert await world.gate.close(first, DOWN)
    assert await world.gate.close(second, DOWN)
    waiting = asyncio.ensure_future(world.gate.enter())
    await world.clock.advance(0.9)
    assert not waiting.done()
    await world.clock.advance(0.1)
    ticket = await waiting
    assert await world.gate.close(ticket, DOWN)
    await world.clock.advance(2.0)
    world.gate.succeeded(await world.gate.enter())
    assert world.told == [1.0, 2.0, "go"]
    await world.runtime.close()


async def test_patience_is_over_after_so_many_seconds_of_one_outage() -> None:
    """A success in between begins them anew."""
    world = World(wait_out=10.0)
    world.gate.succeeded(await world.gate.enter())
    for _ in range(2):
        assert await world.gate.close(await world.gate.enter(), DOWN)
        await world.clock.advance(9.0)
        assert await world.gate.close(await world.gate.enter(), DOWN)
        await world.clock.advance(2.0)
        assert not await world.gate.close(await world.gate.enter(), DOWN)
        world.gate.succeeded(await world.gate.enter())
    await world.runtime.close()


async def test_a_provider_that_never_answered_is_waited_for_less() -> None:
    """Its address may be wrong: nobody is to look at a silent program for ten minutes."""
    world = World(wait_out=600.0, untried=10.0)
    assert await world.gate.close(await world.gate.enter(), DOWN)
    await world.clock.advance(10.0)
    assert not await world.gate.close(await world.gate.enter(), DOWN)
    world.gate.succeeded(await world.gate.enter())
    assert await world.gate.close(await world.gate.enter(), DOWN)
    await world.clock.advance(599.0)
    assert await world.gate.close(await world.gate.enter(), DOWN)
    await world.runtime.close()


async def test_a_pause_is_logged_once_and_told_each_time(caplog: pytest.LogCaptureFixture) -> None:
    world = World()
    events: list[str] = []
    world.runtime.telemetry.attach("dspex.rows.", lambda name, *_: events.append(name))
    gate = gate_of_rows(world.runtime, 600.0, "map of Ask")
    assert gate is not None
    with caplog.at_level(logging.WARNING, "dspex.evaluation"):
        for _ in range(2):
            await gate.close(await gate.enter(), DOWN)
            await world.clock.advance(2.0)
        gate.succeeded(await gate.enter())
    assert [record.message for record in caplog.records] == [
        "map of Ask pauses, for up to 600 s of outage: TransportFailed: nobody there",
        "map of Ask goes on: the provider answers again",
    ]
    assert events == ["dspex.rows.pause", "dspex.rows.pause", "dspex.rows.go"]
    await world.runtime.close()


async def test_no_patience_is_no_gate() -> None:
    world = World()
    assert gate_of_rows(world.runtime, 0, "map") is None
    assert gate_of_rows(world.runtime, math.inf, "map") is not None
    wrong: Any
    for wrong in (-1, math.nan, "1", True, None):
        with pytest.raises(ConfigError, match="wait_out="):
            gate_of_rows(world.runtime, wrong, "map")
    await world.runtime.close()
