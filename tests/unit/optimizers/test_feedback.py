"""The metric's words reach every model that writes for an optimizer."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

import dspex
from dspex.evaluation import Row
from dspex.optimizers import COPRO, GEPA, SIMBA, Algorithm, Candidate, InferRules, MIPROv2, Write
from dspex.testing.conformance import ScriptedWorld, rows_of, simulate

WORDS = "the metric wants whole sentences"


def metric(example: dspex.Example, prediction: object) -> bool:
    return True


class Told(ScriptedWorld):
    """Keeps what models are shown."""

    def __init__(self) -> None:
        self.shown: dict[str, str] = {}

    def feedback(self, candidate: Candidate, row: Row, score: float | None) -> str:
        return WORDS if score != 1 else ""

    def write(self, ask: Write, key: str) -> Mapping[str, object] | None:
        name = ask.signature if isinstance(ask.signature, str) else ask.signature.__name__
        self.shown[name] = self.shown.get(name, "") + repr(dict(ask.inputs))
        return super().write(ask, key)


PROPOSERS: dict[str, Algorithm[Any]] = {
    "ProposeFromAttempts": COPRO(metric, breadth=3, depth=1),
    "FindRules": InferRules(metric, num_candidates=2),
    "ProposeInstruction": MIPROv2(metric, num_candidates=4, num_trials=2),
    "ImproveFromTraces": GEPA(metric, max_children=4),
    "OfferAdvice": SIMBA(metric, batch_size=8, num_candidates=3, max_steps=2),
}


@pytest.mark.parametrize("signature", PROPOSERS)
def test_feedback_reaches_who_writes(signature: str) -> None:
    world, rows = Told(), rows_of(60)
    simulate(PROPOSERS[signature], world, order=random.Random(0), learn=rows[:40], choose=rows[40:])

    assert WORDS in world.shown[signature]
