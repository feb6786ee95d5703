"""The weight of something idle, measured in a fresh interpreter each time."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from benchmarks._contender import Figure, Run, Setup

__all__ = ["ERLANG_PROCESS", "idle_actors", "idle_tasks", "published_erlang_process", "waiting_requests"]

ERLANG_PROCESS = 2.6 * 1024
"""Bytes of an Erlang process: 327 words of 8 bytes."""

ROOT = Path(__file__).resolve().parents[2]


TRACED = 20_000
"""The largest number that is started under tracemalloc."""


def _fresh(what: str) -> Run:
    def measure(number: int, *how: str) -> dict[str, float]:
        command = [sys.executable, "-m", "benchmarks._idle", what, str(number), *how]
        output = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, cwd=ROOT).stdout
        answer: dict[str, float] = json.loads(output)
        return answer

    def run(operations: int) -> Figure:
        figures = measure(operations)
        traced = measure(min(operations, TRACED), "traced")
        return Figure(figures["bytes"], {**figures, "traced_bytes": traced["bytes"]})

    return run


async def idle_actors(_setup: Setup) -> Run:
    """Children of a DynamicSupervisor, initialised and waiting, with the supervisor's records of them."""
    return _fresh("actors")


async def idle_tasks(_setup: Setup) -> Run:
    """Tasks, each asleep on a Future of its own."""
    return _fresh("tasks")


async def waiting_requests(_setup: Setup) -> Run:
    """Requests of an App whose model takes one call at a time and never answers it."""
    return _fresh("requests")


async def published_erlang_process(_setup: Setup) -> Run:
    """The size of a process by Erlang's documentation."""
    return lambda _operations: Figure(ERLANG_PROCESS, {"bytes": ERLANG_PROCESS})
