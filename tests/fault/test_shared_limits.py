"""Four processes, one limit that the provider enforces, and a real store: little is wasted and nothing is refused."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dspex._random import fresh_id
from dspex.simulator import FaultPlan, Latency, Simulator
from dspex.simulator.limits import Limits
from tests.support.sharing_worker import Worker, workers
from tests.support.stores import RedisServer, Store

pytestmark = pytest.mark.timeout(240)  # processes of their own start slowly on a busy machine


@contextlib.asynccontextmanager
async def limited(rpm: int) -> AsyncIterator[Simulator]:
    async with Simulator(limits=Limits(rpm=rpm), faults=FaultPlan(latency=Latency(median=0.02))) as simulator:
        yield simulator


def given(simulator: Simulator, store: Store, home: Path, rpm: int, calls: int) -> dict[str, object]:
    return {"url": simulator.url, "shared": store.url, "home": home, "limits": {"rpm": rpm}, "calls": calls}


async def finish(running: list[Worker]) -> None:
    for worker in running:
        worker.go()
    await asyncio.gather(*(worker.finished() for worker in running))


@pytest.mark.slow
async def test_four_processes_keep_one_limit(redis_server: RedisServer, tmp_path: Path) -> None:
    """A full bucket goes out at once, then its refill; by the provider's own count nothing is too much."""
    async with (
        limited(60) as simulator,
        workers(4, **given(simulator, redis_server, tmp_path, 60, 16)) as running,
    ):
        await finish(running)
        assert [error for each in running for error in each.errors] == []
        assert simulator.requests == {"ok": 64}, "the provider had to refuse"


@pytest.mark.slow
async def test_nearly_all_of_the_limit_is_used(redis_server: RedisServer, tmp_path: Path) -> None:
    """At least 95 % of what the provider allows from the first call to the last one."""
    rpm, each = 240, 75
    async with (
        limited(rpm) as simulator,
        workers(4, **given(simulator, redis_server, tmp_path, rpm, each)) as running,
    ):
        loop = asyncio.get_running_loop()
        began = loop.time()
        await finish(running)
        seconds = loop.time() - began
        assert simulator.requests == {"ok": 4 * each}
        used = 4 * each / (rpm + rpm / 60 * seconds)
        assert used >= 0.95, f"{used:.0%} of what was allowed in {seconds:.1f} s"


@pytest.mark.slow
async def test_a_killed_process_and_a_killed_store_lose_nothing(shared_store: Store, tmp_path: Path) -> None:
    """SIGKILL for one, then for the store: all calls of the living end well, and the provider refuses none."""
    rpm, calls = 240, 75
    async with (
        limited(rpm) as simulator,
        workers(4, **given(simulator, shared_store, tmp_path, rpm, calls)) as running,
    ):
        for worker in running:
            worker.go()
        living = running[1:]
        await running[0].hear_until(20)
        running[0].process.kill()
        await living[0].hear_until(living[0].answered + 5)
        try:
            shared_store.kill()
            await asyncio.gather(*(worker.hear_until(65) for worker in living))
        finally:
            shared_store.start()
        await asyncio.gather(*(worker.finished() for worker in living))
        assert [error for each in living for error in each.errors] == []
        assert sum(each.answered for each in living) == 3 * calls
        assert set(simulator.requests) <= {"ok", "cancelled"}, "the provider had to refuse"


@pytest.mark.slow
@pytest.mark.parametrize("away", ["hangs", "is killed"])
async def test_a_process_that_dies_while_the_store_is_away(shared_store: Store, tmp_path: Path, away: str) -> None:
    """
    Its slices come back where they may: of the limit all, of the budget none, for nobody knows what it has sent.

    The provider never refuses, the budget is never passed, and the living spend the rest once the store is back. A
    Redis that is killed has lost what it was told last: a slice that nobody else has heard of may then be spent again.
    """
    budget, calls = 90, 60
    given: dict[str, object] = {"shared": shared_store.url, "home": tmp_path, "limits": {"rpm": 1_200}}
    given |= {"namespace": fresh_id("away"), "timeout": 1.0}
    loses = away == "is killed" and shared_store.kind == "redis"
    async with (
        limited(1_200) as simulator,
        workers(3, url=simulator.url, calls=calls, at_once=2, budget={"calls": budget}, **given) as running,
    ):
        for worker in running:
            worker.go()
        await asyncio.gather(*(worker.hear_until(4) for worker in running))
        try:
            shared_store.stop() if away == "hangs" else shared_store.kill()
            # Of its slice. It may have none left; it would then wait for the store as long as the others have patience.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(3):
                    await running[0].hear_until(6)
            running[0].process.kill()
            await running[0].process.wait()
        finally:
            shared_store.go_on()
            shared_store.start()
        await asyncio.gather(*(worker.finished() for worker in running[1:]))
        errors = [error for worker in running[1:] for error in worker.errors]
        assert {error.partition(":")[0] for error in errors} <= {"BudgetExceeded"}, sorted(set(errors))
        assert set(simulator.requests) <= {"ok", "cancelled"}, "the provider had to refuse"
        sent = sum(simulator.requests.values())
        assert sent <= budget + (running[0].answered if loses else 0), "the budget was passed"
        account = running[1].last["health"]["budgets"][0]["calls"]
        assert account["left"] == 0
        assert sum(worker.answered for worker in running[1:]) >= budget / 2
