"""The price of length: a long prompt must earn what it takes."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pytest

import dspex
from dspex.errors import ConfigError
from dspex.evaluation import Row
from dspex.optimizers import GEPA, Candidate, Write
from dspex.testing.conformance import ScriptedWorld, rows_of, simulate


def metric(example: dspex.Example, prediction: object) -> bool:
    return True


class LongWords(ScriptedWorld):
    """A long instruction is right on one row in ten more than a short one."""

    def score(self, candidate: Candidate, row: Row, rollout: int) -> float:
        return float(row.index % 10 < 6 + bool(candidate.instructions))

    def write(self, ask: Write, key: str) -> Mapping[str, object]:
        return {"instruction": f"{key} " + "Mind this. " * 200}


def found(length_price: float, program: dspex.Module | None = None) -> Candidate:
    rows = rows_of(100)
    search = GEPA(metric, max_children=6, length_price=length_price)
    end = simulate(
        search, LongWords(), order=random.Random(0), learn=rows[:40], choose=rows[40:], program=program
    ).outcome
    assert end is not None
    return end.found


@pytest.mark.parametrize(("price", "changed"), [(0.0, True), (0.02, True), (0.06, False)])
def test_two_thousand_characters_for_ten_points_are_worth_it_below_five_points_a_thousand(
    price: float, changed: bool
) -> None:
    assert bool(found(price).instructions) is changed


def test_who_is_long_already_is_not_the_dearer_for_it() -> None:
    long = dspex.Predict("question -> answer", demos=[{"question": "q" * 3000, "answer": "a"}])

    assert found(0.02, long).instructions


@pytest.mark.parametrize("price", [-0.1, float("inf"), float("nan")])
def test_a_price_is_a_number(price: float) -> None:
    with pytest.raises(ConfigError, match="length_price"):
        GEPA(metric, length_price=price)
