"""DSPy 3.4.1's few-shot optimizers beside ours: the same model, rows and seed give the same demonstrations."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.optimizers import Algorithm, BootstrapFewShotWithRandomSearch
from dspex.protocols.lm import LMRequest
from dspex.testing import ScriptedLM
from tests.support.peer import ask_dspy

pytestmark = pytest.mark.slow

ROWS = [{"question": f"What is <{n}>?", "answer": f"a{n}"} for n in range(24)]
ANSWERS = {row["question"]: {"answer": row["answer"] if n % 3 else "?"} for n, row in enumerate(ROWS)}
"""The model is right on two rows of three, whatever it is shown."""


def right(example: dspex.Example, prediction: Any) -> bool:
    return bool(example.answer == prediction.answer)


def answer(request: LMRequest) -> dict[str, str]:
    (found,) = {question for question in ANSWERS if question in request.messages[-1].text}
    return ANSWERS[found]


@pytest.fixture(scope="module")
def theirs() -> dict[str, Any]:
    found: dict[str, Any] = ask_dspy({"do": "optimize", "rows": ROWS, "answers": ANSWERS})
    return found


async def ours(algorithm: Algorithm[Any], home: Path) -> tuple[list[list[Any]], list[dict[str, Any]]]:
    """Return what the result shows, and what is told of the candidates."""
    async with dspex.App(ScriptedLM(answer), home=home) as app:
        rows = [dspex.Example(row) for row in ROWS]
        job = await app.compile(dspex.Predict("question -> answer"), algorithm, trainset=rows, holdset=(), job="j")
        program = await job.result()
        async with job.events() as events:
            candidates = [dict(event.data) async for event in events if event.kind == "candidate"]
    demos = program.predictors()["self"].demos
    return [[demo["question"], bool(demo.get("augmented", False))] for demo in demos], candidates


async def test_labelled_rows_are_the_same(theirs: dict[str, Any], tmp_path: Path) -> None:
    shown, _ = await ours(dspex.LabeledFewShot(5), tmp_path)

    assert shown == theirs["labeled"]


async def test_bootstrapped_rows_are_the_same(theirs: dict[str, Any], tmp_path: Path) -> None:
    shown, _ = await ours(dspex.BootstrapFewShot(right, max_bootstrapped_demos=3, max_labeled_demos=6), tmp_path)

    assert shown == theirs["bootstrap"]


async def test_random_search_has_the_same_candidates_scores_and_choice(theirs: dict[str, Any], tmp_path: Path) -> None:
    search = BootstrapFewShotWithRandomSearch(
        right, max_bootstrapped_demos=3, max_labeled_demos=5, num_candidate_programs=6, race=False
    )
    shown, candidates = await ours(search, tmp_path)

    assert shown == theirs["best"]
    assert [round(100 * each["score"], 2) for each in candidates] == [score for _, score, _ in theirs["search"]]
    assert [each["demos"] for each in candidates] == [len(demos) for _, _, demos in theirs["search"]]
    for number in range(6):  # each in its own shuffled order, which seed 0 makes DSPy's
        rows = list(ROWS)
        random.Random(number).shuffle(rows)
        size = random.Random(number).randint(1, 3)
        worked = [row["question"] for row in rows if ANSWERS[row["question"]]["answer"] != "?"][:size]
        assert [question for question, augmented in theirs["search"][number + 3][2] if augmented] == worked
