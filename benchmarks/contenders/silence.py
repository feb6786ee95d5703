"""Calls and requests while nobody listens to telemetry: since ever, or since a handler was detached."""

from __future__ import annotations

import dspex
from benchmarks._contender import Run, Setup
from benchmarks.contenders.requests import Empty
from benchmarks.contenders.runtime import Echo
from dspex.runtime import Runtime
from dspex.telemetry import Telemetry

__all__ = ["call", "call_detached", "run", "run_detached"]


def _attach_and_detach(telemetry: Telemetry) -> None:
    heard: list[str] = []
    detach = telemetry.attach("", lambda name, _measurements, _metadata: heard.append(name))
    telemetry.emit("benchmark")
    detach()
    telemetry.emit("benchmark")
    assert heard == ["benchmark"]


async def _call(setup: Setup, *, heard: bool) -> Run:
    runtime = await setup.stack.enter_async_context(Runtime())
    if heard:
        _attach_and_detach(runtime.telemetry)
    ref = await runtime.start(Echo())

    async def run(operations: int) -> None:
        for _ in range(operations):
            await ref.call("ping", timeout=5.0)

    return run


async def _run(setup: Setup, *, heard: bool) -> Run:
    telemetry = Telemetry()
    if heard:
        _attach_and_detach(telemetry)
    app = await setup.stack.enter_async_context(dspex.App(telemetry=telemetry))
    program = Empty()

    async def run(operations: int) -> None:
        for _ in range(operations):
            await app.run(program)

    return run


async def call(setup: Setup) -> Run:
    """Calls; no handler was ever attached."""
    return await _call(setup, heard=False)


async def call_detached(setup: Setup) -> Run:
    """Calls; a handler was attached and detached."""
    return await _call(setup, heard=True)


async def run(setup: Setup) -> Run:
    """Requests; no handler was ever attached."""
    return await _run(setup, heard=False)


async def run_detached(setup: Setup) -> Run:
    """Requests; a handler was attached and detached."""
    return await _run(setup, heard=True)
