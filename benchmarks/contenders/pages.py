"""Calls while nobody can look, while nobody does, and while a browser's stream is read by a process of its own."""

from __future__ import annotations

import asyncio
import functools
import sys

import dspex
from benchmarks._contender import Run, Setup
from benchmarks.contenders.http import MODEL, in_flight
from dspex.app import _tree
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.transport import open_transport

__all__ = ["closed", "opened", "without"]

AT_ONCE = 64

_READER = """
import sys, urllib.request
with urllib.request.urlopen(sys.argv[1]) as answer:
    print(answer.readline(), flush=True)
    while answer.read(4096):
        pass
"""


async def _calls(setup: Setup, dashboard: str | None, *, looks: bool) -> Run:
    _tree.open_transport = functools.partial(open_transport, parser="httptools")
    lm = dspex.LM(MODEL, api_base=setup.url, api_key="benchmark")
    app = dspex.App(lm, cache=None, limits=ClientLimits(max_in_flight=AT_ONCE), dashboard=dashboard)
    await setup.stack.enter_async_context(app)
    if looks:
        url = app.dashboard_url.partition("#")[0] + "api/v1/events"
        reader = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _READER, url, stdout=asyncio.subprocess.PIPE
        )
        setup.stack.push_async_callback(reader.wait)
        setup.stack.callback(reader.kill)
        assert reader.stdout is not None
        await reader.stdout.readline()  # it has seen the first snapshot
    program = dspex.Predict("question -> answer")

    async def call(question: str) -> object:
        prediction = await app.run(program, question=question)
        return prediction.answer

    return in_flight(call, AT_ONCE)


async def without(setup: Setup) -> Run:
    """There is no page."""
    return await _calls(setup, None, looks=False)


async def closed(setup: Setup) -> Run:
    """There is a page, and nobody looks."""
    return await _calls(setup, "127.0.0.1:0", looks=False)


async def opened(setup: Setup) -> Run:
    """Somebody looks."""
    return await _calls(setup, "127.0.0.1:0", looks=True)
