"""Every asynchronous test of the runtime runs on all of ``LOOPS``, on virtual time."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping

import pytest

from dspex.runtime import Runtime
from dspex.testing import VirtualClock
from tests.support.loops import LOOPS


def pytest_asyncio_loop_factories(
    config: pytest.Config, item: pytest.Item
) -> Mapping[str, Callable[[], asyncio.AbstractEventLoop]]:
    return LOOPS


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
