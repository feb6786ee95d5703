"""Labelled demonstrations: which rows, whose fields, and the same ones for the same seed."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

import dspex


class Question(dspex.Signature):
    question: str = dspex.InputField()
    query: str = dspex.OutputField()


class Answer(dspex.Signature):
    question: str = dspex.InputField()
    answer: str = dspex.OutputField()


class TwoSteps(dspex.Module):
    def __init__(self) -> None:
        self.search = dspex.Predict(Question)
        self.answer = dspex.Predict(Answer)

    async def forward(self, question: str) -> Answer:
        return await self.answer(question=question)


ROWS = [dspex.Example(question=f"q{n}", answer=f"a{n}", id=n) for n in range(10)]


@pytest.fixture
async def app(tmp_path: Path) -> AsyncIterator[dspex.App]:
    async with dspex.App(home=tmp_path) as running:
        yield running


async def compiled(app: dspex.App, optimizer: dspex.LabeledFewShot, seed: int = 0) -> TwoSteps:
    return await (await app.compile(TwoSteps(), optimizer, trainset=ROWS, seed=seed)).result()


async def test_a_predictor_gets_its_own_fields_of_rows_that_have_an_output(app: dspex.App) -> None:
    program = await compiled(app, dspex.LabeledFewShot(3))

    assert [set(demo) for demo in program.answer.demos] == [{"question", "answer"}] * 3
    assert program.search.demos == ()


async def test_the_same_seed_draws_the_same_rows(app: dspex.App) -> None:
    one = await compiled(app, dspex.LabeledFewShot(5), seed=3)
    two = await compiled(app, dspex.LabeledFewShot(5), seed=3)

    assert one.answer.demos == two.answer.demos


async def test_another_seed_draws_others(app: dspex.App) -> None:
    one = await compiled(app, dspex.LabeledFewShot(5), seed=1)
    two = await compiled(app, dspex.LabeledFewShot(5), seed=2)

    assert one.answer.demos != two.answer.demos


async def test_without_sampling_the_first_rows_are_taken(app: dspex.App) -> None:
    program = await compiled(app, dspex.LabeledFewShot(2, sample=False))

    assert [demo["question"] for demo in program.answer.demos] == ["q0", "q1"]


async def test_no_more_are_drawn_than_there_are(app: dspex.App) -> None:
    program = await compiled(app, dspex.LabeledFewShot(99))

    assert {demo["question"] for demo in program.answer.demos} == {f"q{n}" for n in range(10)}


async def test_without_rows_nothing_changes(app: dspex.App) -> None:
    given = TwoSteps().with_demos({"answer": ROWS[:1]})
    program = await (await app.compile(given, dspex.LabeledFewShot(), trainset=[])).result()

    assert program.dump_state() == given.dump_state()


def test_a_negative_number_is_refused() -> None:
    with pytest.raises(dspex.ConfigError, match="k=-1"):
        dspex.LabeledFewShot(-1)
