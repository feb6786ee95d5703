"""
Calls while nobody can look, while nobody does, and while somebody does.

The price of looking is small beside the differences of two processes, so it is measured within one: a viewer in a
process of its own comes and goes, and calls with and without it take turns.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import time
from contextlib import AsyncExitStack

import dspex
from benchmarks._contender import Figure, Measured, Run, Setup
from benchmarks.contenders.http import MODEL, in_flight
from dspex.app import _tree
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.transport import open_transport

__all__ = ["closed", "looked_at", "unseen", "without"]

AT_ONCE = 64

PAIRS = 6
"""Parts of a turn with a viewer, and as many without."""

SETTLED = 10 * AT_ONCE
"""Calls before a part is measured: a viewer that has just come takes its first snapshot and fills new buffers."""

_READER = """
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1]) as answer:
    print(answer.readline(), flush=True)
    while answer.read(4096):
        pass
"""


async def _app(setup: Setup, dashboard: str | None) -> dspex.App:
    _tree.open_transport = functools.partial(open_transport, parser="httptools")
    lm = dspex.LM(MODEL, api_base=setup.url, api_key="benchmark")
    app = dspex.App(lm, adapter="chat", cache=None, limits=ClientLimits(max_in_flight=AT_ONCE), dashboard=dashboard)
    return await setup.stack.enter_async_context(app)


def _calls(app: dspex.App) -> Run:
    program = dspex.Predict("question -> answer")

    async def call(question: str) -> object:
        prediction = await app.run(program, question=question)
        return prediction.answer

    return in_flight(call, AT_ONCE)


async def without(setup: Setup) -> Run:
    """There is no page."""
    return _calls(await _app(setup, None))


async def closed(setup: Setup) -> Run:
    """There is a page, and nobody looks."""
    return _calls(await _app(setup, "127.0.0.1:0"))


async def looked_at(setup: Setup) -> Run:
    """Somebody looks in every second part of a turn; the figure is the CPU time of those over that of the others."""
    app = await _app(setup, "127.0.0.1:0")
    calls, url = _calls(app), app.dashboard_url.partition("#")[0] + "api/v1/events"

    async def part(operations: int, *, seen: bool) -> Measured:
        async with AsyncExitStack() as stack:
            if seen:
                await _viewer(stack, url)
            await calls(SETTLED)
            cpu, wall = time.process_time(), time.perf_counter()
            await calls(operations)
            return Measured(time.process_time() - cpu, time.perf_counter() - wall)

    async def run(operations: int) -> Figure:
        each = max(AT_ONCE, operations // (2 * PAIRS))
        seen, unseen = Measured(0.0, 0.0), Measured(0.0, 0.0)
        for number in range(PAIRS):
            for looks in (True, False) if number % 2 else (False, True):
                spent = await part(each, seen=looks)
                if looks:
                    seen = Measured(seen.cpu + spent.cpu, seen.wall + spent.wall)
                else:
                    unseen = Measured(unseen.cpu + spent.cpu, unseen.wall + spent.wall)
        share = (seen.cpu - unseen.cpu) / seen.wall
        return Figure(seen.cpu / unseen.cpu, {"share of the time": share, "calls a second": PAIRS * each / seen.wall})

    return run


async def unseen(setup: Setup) -> Run:
    """The unit of ``looked_at``, which measures both sides itself."""
    del setup

    async def run(operations: int) -> Figure:
        del operations
        return Figure(1.0)

    return run


async def _viewer(stack: AsyncExitStack, url: str) -> None:
    """Have a process of its own read the page's stream, from its first snapshot on."""
    reader = await asyncio.create_subprocess_exec(sys.executable, "-c", _READER, url, stdout=asyncio.subprocess.PIPE)
    stack.push_async_callback(reader.wait)
    stack.callback(reader.kill)
    assert reader.stdout is not None
    await reader.stdout.readline()
