"""Requests and their steps."""

from __future__ import annotations

import dspex
from benchmarks._contender import Run, Setup
from dspex.protocols.scope import current_scope

__all__ = ["empty", "steps"]

STEPS = 200
"""Steps of one request: enough for the request's own cost to vanish among them."""


class Empty(dspex.Module):
    """Does nothing."""

    async def forward(self) -> int:
        return 1


class Steps(dspex.Module):
    """Takes so many empty steps, one after the other."""

    async def forward(self, number: int) -> None:
        scope = current_scope.get()
        for _ in range(number):
            await scope.call("nothing", _nothing, idempotent=False, timeout=None)


async def _nothing() -> int:
    return 1


async def empty(setup: Setup) -> Run:
    """One request after the other, each of a program that does nothing."""
    app = await setup.stack.enter_async_context(dspex.App())
    program = Empty()

    async def run(operations: int) -> None:
        for _ in range(operations):
            await app.run(program)

    return run


async def steps(setup: Setup) -> Run:
    """Steps, many to a request."""
    app = await setup.stack.enter_async_context(dspex.App())
    program = Steps()

    async def run(operations: int) -> None:
        left = operations
        while left > 0:
            await app.run(program, number=min(left, STEPS))
            left -= STEPS

    return run
