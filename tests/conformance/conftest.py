"""Conformance is the same on every event loop: each asynchronous test runs on asyncio's and on uvloop's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest
import uvloop

from dspex.runtime import Runtime
from dspex.testing import VirtualClock


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
def clock() -> VirtualClock:
    return VirtualClock()


@pytest.fixture
async def runtime(clock: VirtualClock) -> AsyncIterator[Runtime]:
    runtime = Runtime(clock=clock)
    runtime.open()
    yield runtime
    async with clock.autojump():
        await runtime.close()
    assert not runtime.processes
    assert clock.pending == 0
