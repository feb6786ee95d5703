"""Demonstrations chosen for each input: the nearest ones, the most like it last, from one look-up."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.optimizers import NearestDemos
from dspex.protocols.lm import LMRequest
from dspex.testing import ScriptedLM

LOOKED_UP: list[int] = []


def vectors(texts: Sequence[str]) -> list[list[float]]:
    """Point a text at the angle of its number."""
    LOOKED_UP.append(len(texts))
    numbers = [int(text.partition("<")[2].partition(">")[0]) for text in texts]
    return [[1.0, number / 10] for number in numbers]


def row(number: int) -> dspex.Example:
    return dspex.Example(question=f"What is <{number}>?", answer=f"a{number}")


async def test_the_nearest_demonstrations_are_shown_the_most_like_last() -> None:
    prompts: list[LMRequest] = []
    program = dspex.Predict("question -> answer").with_demos([row(number) for number in range(0, 40, 10)])
    nearest = NearestDemos(program, 2, vectors)

    def answer(request: LMRequest) -> dict[str, str]:
        prompts.append(request)
        return {"answer": "x"}

    LOOKED_UP.clear()
    async with dspex.App(ScriptedLM(answer)) as app:
        for number in (21, 9):
            await app.run(nearest, question=f"What is <{number}>?")

    shown = [[turn.text for turn in prompt.messages if turn.role == "user"][:-1] for prompt in prompts]
    assert ["<30>" in shown[0][0], "<20>" in shown[0][1]] == [True, True]
    assert ["<20>" in shown[1][0], "<10>" in shown[1][1]] == [True, True]
    assert LOOKED_UP == [5, 1]  # the demonstrations' vectors are made once


async def test_with_few_demonstrations_all_are_shown() -> None:
    LOOKED_UP.clear()
    program = dspex.Predict("question -> answer").with_demos([row(1), row(2)])
    async with dspex.App(ScriptedLM(lambda request: {"answer": "x"})) as app:
        await app.run(NearestDemos(program, 2, vectors), question="What is <5>?")

    assert LOOKED_UP == []


async def test_it_is_compiled_like_any_program(tmp_path: Path) -> None:
    def right(example: dspex.Example, prediction: Any) -> bool:
        return True

    async with dspex.App(ScriptedLM(lambda request: {"answer": "x"}), home=tmp_path) as app:
        few = dspex.BootstrapFewShot(right, max_bootstrapped_demos=100, max_labeled_demos=0)
        job = await app.compile(
            NearestDemos(dspex.Predict("question -> answer"), 3, vectors), few, trainset=[row(n) for n in range(12)]
        )
        found = await job.result()

    assert len(found.predictors()["program"].demos) == 12
    assert isinstance(found, NearestDemos)


def test_a_number_that_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="k=0"):
        NearestDemos(dspex.Predict("question -> answer"), 0, vectors)
