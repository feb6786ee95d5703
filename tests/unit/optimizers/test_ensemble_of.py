"""Ensembles that are searched for: members that are wrong on different rows are right together."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

import dspex
from dspex.errors import ConfigError
from dspex.optimizers import DONE, Algorithm, Better, Candidate, EnsembleOf, NotShownBetter, Plan, Signal, Task
from dspex.protocols.lm import LMRequest
from dspex.testing import ScriptedLM

ROWS = [dspex.Example(question=f"number {n}.", answer=f"it is {n}") for n in range(60)]
metric = dspex.exact_match("answer")


@dataclass(frozen=True)
class Says(Algorithm[Candidate]):
    """Finds one instruction."""

    words: str
    metric: None = None

    def begin(self, task: Task) -> Candidate:
        (path,) = task.predictors
        return task.start.with_instructions({path: self.words})

    def plan(self, state: Candidate, k: int, chance: random.Random) -> Plan | Signal:
        return DONE

    def absorb(self, state: Candidate, k: int, result: object) -> Candidate:
        return state

    def best(self, state: Candidate) -> Candidate:
        return state


def answer(request: LMRequest) -> Mapping[str, str]:
    """A member is wrong on every third row, each on others, and says something else each time; the student is worse."""
    text = request.messages[-1].text
    number = next(n for n in range(60) if f"number {n}." in text)
    member = next((n for n in range(3) if f"member {n}" in request.messages[0].text), None)
    right = number % 2 if member is None else number % 3 != member
    return {"answer": f"it is {number}" if right else f"not this, says {member}"}


class Asked(dspex.Module):
    def __init__(self) -> None:
        self.ask = dspex.Predict("question -> answer")

    async def forward(self, question: str) -> object:
        return await self.ask(question=question)


@pytest.mark.parametrize("program", [dspex.Predict("question -> answer"), Asked()], ids=["predictor", "module"])
async def test_members_that_are_wrong_on_different_rows_are_handed_out_together(
    program: dspex.Module, tmp_path: Path
) -> None:
    search = EnsembleOf(metric, [Says(f"member {n}") for n in range(3)])
    async with dspex.App(ScriptedLM(answer), home=tmp_path) as app:
        job = await app.compile(program, search, trainset=ROWS[:10], valset=ROWS[10:40], holdset=ROWS[40:], job="j")
        found = await job.result()
        assert isinstance(job.verdict, Better)
        assert job.verdict.after == 1.0
        assert isinstance(found, dspex.Ensemble)
        assert len(found.programs) == 3
        assert sorted(each.signature.instructions for each in found.predictors().values()) == [
            "member 0",
            "member 1",
            "member 2",
        ]
        again = await app.compile(program, search, trainset=ROWS[:10], valset=ROWS[10:40], holdset=ROWS[40:], job="j")
        assert (await again.result()).dump_state() == found.dump_state()


async def test_equal_members_are_no_better_together_and_the_cheapest_is_found(tmp_path: Path) -> None:
    """The same words are one member; there is nothing to put together."""
    search = EnsembleOf(metric, [Says("member 1"), Says("member 1")])
    async with dspex.App(ScriptedLM(answer), home=tmp_path) as app:
        job = await app.compile(Asked(), search, trainset=ROWS[:10], valset=ROWS[10:40], holdset=ROWS[40:], job="j")
        await job.result()

    assert isinstance(job.found, Asked)
    assert isinstance(job.verdict, Better | NotShownBetter)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="two optimizers or more"):
        EnsembleOf(metric, [Says("a")])
    with pytest.raises(ConfigError, match="from 2 to 2"):
        EnsembleOf(metric, [Says("a"), Says("b")], most=3)
