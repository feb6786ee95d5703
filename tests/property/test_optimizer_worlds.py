"""How often a program that is worse than the student is handed out, in worlds whose truth is known."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest

import dspex
from dspex.evaluation import Row
from dspex.optimizers import (
    COPRO,
    GEPA,
    SIMBA,
    Algorithm,
    BootstrapFewShotWithRandomSearch,
    Candidate,
    InferRules,
    MIPROv2,
)
from dspex.testing.conformance import ScriptedWorld, rows_of, simulate

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1500)]


def metric(example: dspex.Example, prediction: object) -> bool:
    return True


class World(ScriptedWorld):
    """
    Each candidate's true gain over the student is normal; rows are easy or hard for all alike.

    Args:
        mean: The gain of a candidate on average.
        spread: The standard deviation of the gains.
        seed: Of this world.
    """

    def __init__(self, mean: float, spread: float, seed: int) -> None:
        self.mean = mean
        self.spread = spread
        self.seed = seed

    def gain(self, candidate: Candidate) -> float:
        """Return how much better a candidate truly is than the student."""
        if candidate == Candidate():
            return 0.0
        return random.Random(f"{self.seed} {candidate.key}").gauss(self.mean, self.spread)

    def quality(self, candidate: Candidate) -> float:
        return min(0.98, max(0.02, 0.6 + self.gain(candidate)))

    def score(self, candidate: Candidate, row: Row, rollout: int) -> float:
        source = random.Random(f"{self.seed} {candidate.key} {row.index} {rollout}")
        hard = random.Random(f"{self.seed} {row.index}").random()
        return float((hard if source.random() < 0.5 else source.random()) < self.quality(candidate))


METHODS: dict[str, Callable[[], Algorithm[Any]]] = {
    "random search": lambda: BootstrapFewShotWithRandomSearch(metric, num_candidate_programs=8),
    "COPRO": lambda: COPRO(metric, breadth=6, depth=2),
    "InferRules": lambda: InferRules(metric, num_candidates=8),
    "MIPROv2": lambda: MIPROv2(metric, num_candidates=6, num_trials=10),
    "GEPA": lambda: GEPA(metric, max_children=15),
    "SIMBA": lambda: SIMBA(metric, batch_size=16, num_candidates=4, max_steps=4),
}
WORLDS = {"all worse": (-0.03, 0.02), "no effect": (0.0, 0.0), "small effects": (0.0, 0.02), "effects": (0.0, 0.05)}
SEEDS = 10


def outcome(method: str, world: str, seed: int, sure: float) -> tuple[bool, float, float]:
    """Return if a worse program was handed out, what was claimed, and what is true."""
    truth = World(*WORLDS[world], seed)
    rows = rows_of(280)
    found = simulate(
        METHODS[method](),
        truth,
        order=random.Random(seed),
        learn=rows[:60],
        choose=rows[60:160],
        hold=rows[160:],
        seed=seed,
        pool=64,
        sure=sure,
    ).outcome
    assert found is not None
    real = truth.gain(found.candidate)
    claimed = getattr(found.verdict, "shrunken", 0.0) if found.candidate != Candidate() else 0.0
    return real < -1e-9, claimed, real


@pytest.mark.parametrize(("sure", "allowed"), [(0.0, 0.05), (0.9, 0.03)])
def test_a_worse_program_is_seldom_handed_out(sure: float, allowed: float) -> None:
    """
    Whoever takes the best of what was tried hands a worse one out in up to half of all runs.

    The gain that a verdict opens with is, on average, the real one within a point.
    """
    table: dict[tuple[str, str], tuple[int, float, float]] = {}
    for world in WORLDS:
        for method in METHODS:
            found = [outcome(method, world, seed, sure) for seed in range(SEEDS)]
            claimed, real = (sum(each[at] for each in found) / SEEDS for at in (1, 2))
            table[world, method] = (sum(each[0] for each in found), claimed, real)

    assert sum(worse for worse, _, _ in table.values()) <= allowed * len(table) * SEEDS, table
    gap = sum(claimed - real for _, claimed, real in table.values()) / len(table)
    assert -0.01 <= gap <= 0.01, f"the gain that a verdict opens with is {100 * gap:+.2f} points beside the real one"
