"""
One contender in a process of its own: ``python -m benchmarks._worker module:function@loop [url]``.

It sets the contender up, then waits for lines on standard input: ``calibrate SECONDS`` finds how many operations
fill a turn, ``operations NUMBER`` says how many, ``turn`` runs that many and writes what one of them cost, as a line of
JSON, ``profile`` tells where the time goes. It ends when the input does.
"""

from __future__ import annotations

import asyncio
import cProfile
import gc
import importlib
import inspect
import json
import os
import pstats
import sys
import time
from collections.abc import Awaitable, Callable
from typing import TextIO

from benchmarks._contender import Figure, Measured, Run, Setup

__all__ = ["main"]


async def _turn(run: Run, operations: int) -> tuple[Measured, Figure | None]:
    gc.collect()
    cpu, wall = time.process_time(), time.perf_counter()
    outcome = run(operations)
    if inspect.isawaitable(outcome):
        outcome = await outcome
    spent = Measured(time.process_time() - cpu, time.perf_counter() - wall)
    if isinstance(outcome, Figure):
        return spent, outcome
    return outcome if isinstance(outcome, Measured) else spent, None


async def _calibrate(run: Run, seconds: float) -> int:
    """Return how many operations take about so long; what is run here also warms the contender up."""
    await _turn(run, 1)  # not counted: the first one may import half a library
    operations = 1
    while True:
        spent = (await _turn(run, operations))[0].wall
        if spent >= seconds:
            return operations
        growth = seconds / spent if spent > 0.0 else 10.0
        operations = max(operations + 1, round(operations * min(10.0, growth * 1.1)))


async def _profile(run: Run, operations: int) -> dict[str, object]:
    """Write to standard error where a turn's time goes; the profiler itself makes small functions look dear."""
    profile = cProfile.Profile()
    with profile:
        await _turn(run, operations)
    stats = pstats.Stats(profile, stream=sys.stderr)
    stats.strip_dirs().sort_stats("tottime").print_stats(45)
    return {"operations": operations}


async def _serve(make: Callable[[Setup], Awaitable[Run]], url: str, answers: TextIO) -> None:
    setup = Setup(url)
    operations = 1
    async with setup.stack:
        run = await make(setup)
        for line in sys.stdin:
            command, *arguments = line.split()
            if command == "calibrate":
                operations = await _calibrate(run, float(arguments[0]))
                answer: dict[str, object] = {"operations": operations}
            elif command == "operations":
                operations = int(arguments[0])
                answer = {"operations": operations}
            elif command == "profile":
                answer = await _profile(run, operations)
            else:
                spent, figure = await _turn(run, operations)
                answer = {"cpu": spent.cpu / operations, "wall": spent.wall / operations}
                if figure is not None:
                    answer |= {"value": figure.value, "figures": dict(figure.figures)}
            answers.write(json.dumps(answer) + "\n")
            answers.flush()


def main(name: str, url: str = "") -> None:
    """Run the contender ``name``."""
    # Output of libraries goes to standard error: standard output carries answers only.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    where, _, loop = name.partition("@")
    module, _, function = where.partition(":")
    make = getattr(importlib.import_module(f"benchmarks.contenders.{module}"), function)
    if loop == "uvloop":
        import uvloop

        uvloop.run(_serve(make, url, answers))
    else:
        asyncio.run(_serve(make, url, answers))


if __name__ == "__main__":
    main(*sys.argv[1:])
