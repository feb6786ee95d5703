"""The duration of a call while others crash and are restarted."""

from __future__ import annotations

import asyncio
import time
from typing import Any

from benchmarks._contender import Figure, Run, Setup
from dspex.runtime import Actor, ChildSpec, Continue, From, Next, Reply, Runtime, Supervisor

__all__ = ["calm", "percentile", "storm"]

ANSWERING = 1_000
CRASHING = 100
EVERY = 0.001
"""Seconds from one burst of calls to the next."""
CALLS = 5
"""Calls of one burst, each of another actor."""


def percentile(values: list[float], share: float) -> float:
    """Return the value that so large a share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


class Answering(Actor):
    """Answers at once."""

    async def handle_call(self, message: Any, sender: From) -> Next:
        return Reply(message)


class Crashing(Actor):
    """Crashes as soon as it has started, while ``crashes`` holds any; then it is well."""

    def __init__(self, crashes: list[int], over: asyncio.Event) -> None:
        self.crashes = crashes
        self.over = over

    async def init(self) -> Continue | None:
        return Continue(None)

    async def handle_continue(self, argument: Any) -> Next:
        if self.crashes[0] > 0:
            self.crashes[0] -= 1
            raise RuntimeError("crash")
        self.over.set()
        return None


class _Prober:
    """Calls on a schedule, however late the loop is; notes how long each call took, and since when it was due."""

    def __init__(self, refs: list[Any]) -> None:
        self.refs = refs
        self.took: list[float] = []
        self.since_due: list[float] = []
        self._next = 0

    async def _call(self, due: float) -> None:
        ref = self.refs[self._next % len(self.refs)]
        self._next += 1
        began = time.perf_counter()
        await ref.call("ping", timeout=60.0)
        ended = time.perf_counter()
        self.took.append(ended - began)
        self.since_due.append(ended - due)

    async def probe(self, bursts: int, over: asyncio.Event | None) -> None:
        """Call in so many bursts at least, and until ``over``, if it is given, is set."""
        pending: set[asyncio.Task[None]] = set()
        due = time.perf_counter()
        while bursts > 0 or (over is not None and not over.is_set()):
            bursts -= 1
            due += EVERY
            await asyncio.sleep(max(0.0, due - time.perf_counter()))
            for _ in range(CALLS):
                task = asyncio.create_task(self._call(due))
                pending.add(task)
                task.add_done_callback(pending.discard)
        if pending:
            await asyncio.gather(*pending)


async def _prober(setup: Setup) -> tuple[Runtime, _Prober]:
    runtime = await setup.stack.enter_async_context(Runtime())
    return runtime, _Prober([await runtime.start(Answering()) for _ in range(ANSWERING)])


def _figure(prober: _Prober, **more: float) -> Figure:
    p99 = percentile(prober.took, 0.99)
    told = {
        "p50_us": percentile(prober.took, 0.5) * 1e6,
        "p99_us": p99 * 1e6,
        "p99_since_due_us": percentile(prober.since_due, 0.99) * 1e6,
        "calls": len(prober.took),
    }
    return Figure(p99, {**told, **more})


async def calm(setup: Setup) -> Run:
    """The latency of calls while nothing else happens."""
    _, prober = await _prober(setup)

    async def run(operations: int) -> Figure:
        prober.took, prober.since_due = [], []
        await prober.probe(max(200, operations // 5), None)
        return _figure(prober)

    return run


async def storm(setup: Setup) -> Run:
    """The same while the children of a supervisor crash over and over; an operation is a crash."""
    runtime, prober = await _prober(setup)

    async def run(operations: int) -> Figure:
        prober.took, prober.since_due = [], []
        crashes, over = [operations], asyncio.Event()
        specs = [ChildSpec(f"crashing {number}", Crashing, (crashes, over)) for number in range(CRASHING)]
        began = time.perf_counter()
        probing = asyncio.create_task(prober.probe(0, over))
        supervisor = await runtime.start(Supervisor(specs, max_restarts=10_000_000, max_seconds=0.001))
        await over.wait()
        seconds = time.perf_counter() - began
        await probing
        await supervisor.stop()
        return _figure(prober, restarts_per_second=operations / seconds)

    return run
