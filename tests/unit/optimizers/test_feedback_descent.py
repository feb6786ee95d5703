"""Feedback Descent: a judge's preferences alone move it, and its verdict is rows won and lost."""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

import dspex
from dspex.optimizers import FeedbackDescent, Write
from dspex.optimizers._core import Item
from dspex.programs import Module
from dspex.testing.conformance import ScriptedWorld, rows_of, simulate


class Tasteful(ScriptedWorld):
    """Challenger n writes instructions of level n; answers show their level, and the judge likes higher ones."""

    def __init__(self, *, honest: bool = True, better: bool = True) -> None:
        self.honest = honest
        self.better = better
        self.written = 0
        self.reasons: list[str] = []

    def write(self, ask: Write, key: str) -> Mapping[str, object] | None:
        if "reasons" in ask.inputs:
            self.reasons.append(str(ask.inputs["reasons"]))
            self.written += 1
            return {"instruction": f"level {self.written if self.better else -self.written}"}
        first, second = (_level(str(ask.inputs[each])) for each in ("first", "second"))
        if not self.honest:
            return {"reason": "it comes first", "better": "first"}
        better = "tie" if first == second else "first" if first > second else "second"
        return {"reason": f"level {max(first, second)} is better", "better": better}

    def answer(self, item: Item, program: Module) -> Mapping[str, object]:
        data = dict(super().answer(item, program))
        if "_trace" in data:
            words = program.predictors()["self"].signature.instructions
            data["_trace"] = [["self", {"question": "q", "answer": words}]]
        return data


def _level(answer: str) -> int:
    return int(answer.partition("level ")[2].partition('"')[0]) if "level " in answer else 0


def run(world: Tasteful, **options: Any) -> Any:
    rows = rows_of(100)
    algorithm = FeedbackDescent("Higher is better.", max_challengers=5, **options)
    return simulate(algorithm, world, order=random.Random(0), learn=rows[:40], hold=rows[40:]).outcome


def test_who_wins_takes_over_and_the_reasons_begin_anew() -> None:
    world = Tasteful()
    outcome = run(world)

    assert outcome.candidate.instructions == {"self": "level 5"}
    assert world.reasons == [""] * 5
    assert (outcome.verdict.kind, outcome.verdict.by, outcome.verdict.pairs) == ("better", 1.0, 60)


def test_who_loses_leaves_its_reasons() -> None:
    world = Tasteful(better=False)
    outcome = run(world)

    assert outcome.found.instructions == {}
    assert outcome.verdict.kind == "not shown better"
    assert "the champion was better: level 0 is better" in world.reasons[1]
    assert len(world.reasons[4].splitlines()) == 30


def test_a_judge_that_prefers_a_place_moves_nothing() -> None:
    outcome = run(Tasteful(honest=False))

    assert outcome.found.instructions == {}


def test_the_verdict_may_come_from_a_metric() -> None:
    def metric(example: dspex.Example, prediction: object) -> bool:
        return True

    outcome = run(Tasteful(), metric=metric)

    assert outcome.found.instructions == {"self": "level 5"}
    assert 0 < outcome.verdict.before < 1


def test_a_rubric_is_needed() -> None:
    with pytest.raises(dspex.ConfigError, match="rubric"):
        FeedbackDescent(" ")
    with pytest.raises(dspex.ConfigError, match="at least 1"):
        FeedbackDescent("x", batch_size=0)
