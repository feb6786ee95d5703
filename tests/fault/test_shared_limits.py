"""Four processes, one limit that the provider enforces, and a real store: little is wasted and nothing is refused."""

from __future__ import annotations

import asyncio
from pathlib import Path

from dspex.simulator import FaultPlan, Latency, Simulator
from dspex.simulator.limits import Limits
from tests.support.sharing_worker import Worker, workers
from tests.support.stores import RedisServer

RPM = 600
BURST = RPM
CALLS = 200


async def finish(running: list[Worker]) -> None:
    for worker in running:
        worker.go()
    await asyncio.gather(*(worker.finished() for worker in running))


async def test_four_processes_keep_one_limit(redis_server: RedisServer, tmp_path: Path) -> None:
    """A full bucket goes out at once, then its refill; by the provider's own count nothing is too much."""
    async with Simulator(limits=Limits(rpm=RPM), faults=FaultPlan(latency=Latency(median=0.02))) as simulator:
        given = {"url": simulator.url, "home": tmp_path, "limits": {"rpm": RPM}, "calls": CALLS}
        loop = asyncio.get_running_loop()
        async with workers(4, shared=redis_server.url, **given) as running:
            began = loop.time()
            await finish(running)
            seconds = loop.time() - began
            assert [error for each in running for error in each.errors] == []
            assert sum(each.answered for each in running) == 4 * CALLS
        assert simulator.requests == {"ok": 4 * CALLS}, "the provider had to refuse"
        used = 4 * CALLS / (BURST + RPM / 60 * seconds)
        assert used >= 0.95, f"{used:.0%} of what was allowed in {seconds:.1f} s"
