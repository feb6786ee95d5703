"""Four processes with one budget: never passed, whoever is killed, and spent to the end when nobody is."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from dspex.simulator import FaultPlan, Latency, Simulator
from tests.support.sharing_worker import Worker, workers

pytestmark = pytest.mark.timeout(240)  # processes of their own start slowly on a busy machine

CALLS = 50


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(faults=FaultPlan(latency=Latency(median=0.03))) as running:
        yield running


async def all_finished(each: list[Worker]) -> None:
    for worker in each:
        worker.go()
    await asyncio.gather(*(worker.finished() for worker in each))


async def test_four_processes_spend_a_budget_to_the_last_call(simulator: Simulator, tmp_path: Path) -> None:
    """In a file, without a server: fifty calls are fifty, though eighty are wanted at once."""
    given = {"url": simulator.url, "home": tmp_path, "budget": {"calls": CALLS, "per": "day"}, "calls": 20}
    async with workers(4, **given) as running:
        await all_finished(running)
        assert sum(each.answered for each in running) == CALLS
        errors = [error for each in running for error in each.errors]
        assert all(error.startswith("BudgetExceeded: this day") for error in errors), errors
        assert len(errors) == 30
    assert simulator.requests["ok"] == CALLS


@pytest.mark.slow
async def test_a_killed_process_leaves_a_hole_and_no_debt(simulator: Simulator, tmp_path: Path) -> None:
    """SIGKILL in the middle: its slice counts as spent, the others spend the rest."""
    given = {
        "url": simulator.url,
        "home": tmp_path,
        "budget": {"calls": CALLS, "per": "day"},
        "calls": 40,
        "at_once": 4,
    }
    async with workers(4, **given) as running:
        for worker in running:
            worker.go()
        await running[0].hear_until(3)
        running[0].process.kill()
        await asyncio.gather(*(worker.finished() for worker in running[1:]))
        (told,) = running[1].last["health"]["budgets"]
        lost = told.get("lost", {"calls": 0})["calls"]
        assert told["calls"]["left"] == 0
        assert told["calls"]["spent"] + lost == CALLS
        assert lost <= CALLS // 4, "a slice is small"
    assert CALLS - lost <= simulator.requests["ok"] <= CALLS
