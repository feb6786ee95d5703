"""A process that is killed while a model is trained: the next one finds the training, and submits none."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from dspex.simulator import FaultPlan, Latency, SimulatorProcess, TrainingPlan
from tests.fault.test_optimizer_kill import child

HOLD = 6


@pytest.mark.slow
@pytest.mark.parametrize("at", [1, 2, 3, 5])
async def test_a_killed_process_submits_nothing_twice(tmp_path: Path, at: int) -> None:
    """Killed when the submission begins, when the file is there, when it is submitted, and while it trains."""
    async with SimulatorProcess(training=TrainingPlan(looks=20)) as sim:
        async with child(sim.url, tmp_path, tmp_path / "result.json", "finetune", HOLD) as process:
            await process.until("training", at)
            await process.kill()
        async with child(sim.url, tmp_path, tmp_path / "result.json", "finetune", HOLD) as process:
            await process.end()
        runs = await sim.trainings()

    assert [run.status for run in runs] == ["succeeded"]
    assert f"openai/{runs[0].trained_model}" in (tmp_path / "result.json").read_text(encoding="utf-8")
    assert (tmp_path / "result.json.verdict").read_text(encoding="utf-8").startswith("better by about +1.000")


@pytest.mark.slow
async def test_killed_again_and_again_it_submits_once(tmp_path: Path) -> None:
    source = random.Random(7)
    async with SimulatorProcess(faults=FaultPlan(latency=Latency(median=0.01)), training=TrainingPlan(looks=40)) as sim:
        kills = 0
        for _ in range(8):
            async with child(sim.url, tmp_path, tmp_path / "result.json", "finetune", HOLD) as process:
                if not await process.lines(1 + source.randrange(30)):
                    break  # it had ended before
                await process.kill()
                kills += 1
        async with child(sim.url, tmp_path, tmp_path / "result.json", "finetune", HOLD) as process:
            await process.end()
        runs = await sim.trainings()

    assert kills >= 3
    assert [run.status for run in runs] == ["succeeded"]
