"""A candidate that seems better but not surely so is looked at again, where answers move by themselves."""

from __future__ import annotations

import random

import pytest

import dspex
from dspex.evaluation import Row
from dspex.optimizers import Better, Candidate, NotShownBetter, Worse
from dspex.protocols.money import Budget
from dspex.testing.conformance import ScriptedWorld, Simulated, rows_of, simulate

ROWS = rows_of(160)
HOLD = range(100, 160)


def metric(example: dspex.Example, prediction: object) -> bool:
    return True


class Lucky(ScriptedWorld):
    """
    The student is right on rows that divide by two; the candidate on some more of those held out, at each look.

    Args:
        gains: How many more, look by look.
        moves: True when the student's own answers differ from run to run.
    """

    def __init__(self, *gains: int, moves: bool = True) -> None:
        self.gains = gains
        self.moves = moves

    def score(self, candidate: Candidate, row: Row, rollout: int) -> float:
        if candidate == Candidate():
            wrong = self.moves and row.index < 100 and rollout and row.index % 10 == 0
            return float(row.index % 2 == 0 and not wrong)
        if row.index not in HOLD:
            return float(row.index % 2 == 0)
        gain, odd = self.gains[min(rollout, len(self.gains) - 1)], (row.index - HOLD.start) // 2
        if row.index % 2:
            return float(odd < gain)
        return float(not odd < -gain)


def run(world: Lucky, limit: Budget | None = None) -> Simulated:
    return simulate(
        dspex.LabeledFewShot(4, metric=metric),
        world,
        order=random.Random(0),
        learn=ROWS[:100],
        hold=ROWS[100:],
        limit=limit,
    )


@pytest.mark.parametrize(
    ("gains", "kind", "times"),
    [
        ((2, -4), NotShownBetter, 2),  # the first look was luck
        ((2, -20), Worse, 2),
        ((2, 2, 2, 2), Better, 4),  # never sure: after the last look the mean decides
        ((3, 30), Better, 2),  # the second look makes it sure
        ((10, -20), Better, 1),  # sure at once
        ((-1, 20), NotShownBetter, 1),  # it does not even seem better
    ],
)
def test_it_is_looked_at_again_while_it_is_open(gains: tuple[int, ...], kind: type, times: int) -> None:
    outcome = run(Lucky(*gains)).outcome
    assert outcome is not None
    verdict = outcome.verdict

    assert isinstance(verdict, kind)
    assert isinstance(verdict, (Better, NotShownBetter, Worse))
    assert verdict.times == times
    assert (outcome.candidate != Candidate()) == (kind is Better)


def test_answers_that_do_not_move_are_not_asked_for_again() -> None:
    outcome = run(Lucky(1, moves=False)).outcome
    assert outcome is not None

    assert isinstance(outcome.verdict, Better)
    assert outcome.verdict.times == 1


@pytest.mark.parametrize(("calls", "times"), [(300, 1), (700, 2), (3000, 4)])
def test_a_budget_pays_for_a_part_of_the_looks(calls: int, times: int) -> None:
    found = run(Lucky(1), Budget(calls=calls))
    assert found.outcome is not None

    assert isinstance(found.outcome.verdict, Better)
    assert found.outcome.verdict.times == times
    assert found.spent.calls <= calls
