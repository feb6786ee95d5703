"""Training data: good runs alone, each call at its predictor, in the form that each provider reads."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.evaluation import Report
from dspex.optimizers import save_training_data, training_data
from dspex.programs import AutoAdapter
from dspex.protocols.lm import LMRequest
from dspex.testing import ScriptedLM


class Answer(dspex.Signature):
    """Answer in one word."""

    question: str = dspex.InputField()
    query: str = dspex.InputField()
    answer: str = dspex.OutputField()


class Looping(dspex.Module):
    """Searches once or twice, then answers: the same predictor stands at different places of its runs."""

    def __init__(self) -> None:
        self.search = dspex.Predict("question -> query")
        self.answer = dspex.Predict(Answer)

    async def forward(self, question: str) -> Answer:
        for _ in range(1 + question.count("twice")):
            found = await self.search(question=question)
        return await self.answer(question=question, query=found.query)


ROWS = [{"question": each, "answer": "right"} for each in ("once <1>", "twice <2>", "wrong <3>")]


def answering(request: LMRequest) -> dict[str, str]:
    text = request.messages[-1].text
    return {"query": "look", "answer": "wrong" if "wrong <" in text else "right"}


@pytest.fixture
async def app() -> AsyncIterator[dspex.App]:
    script: Any = {"search": answering, "answer": answering}
    async with dspex.App(ScriptedLM(script)) as running:
        yield running


async def evaluated(app: dspex.App, *, trace: bool = True) -> Report:
    return await app.options(trace=trace).evaluate(Looping(), ROWS, dspex.exact_match())


async def test_every_call_of_a_good_run_is_an_example_of_its_own_predictor(app: dspex.App) -> None:
    lines: list[Any] = training_data(Looping(), await evaluated(app))
    told = [line["messages"][-1]["content"] for line in lines]

    assert len(lines) == 2 + 3  # the third run was wrong
    assert told == ["look", "right", "look", "look", "right"]
    assert all("wrong <3>" not in json.dumps(line) for line in lines)
    for line in lines:
        assert [each["role"] for each in line["messages"]] == ["system", "user", "assistant"]
        signature = Answer if "Answer in one word." in line["messages"][0]["content"] else None
        if signature is not None:
            parsed = AutoAdapter().parse(signature, line["messages"][-1]["content"])
            assert parsed.outputs == {"answer": "right"}


async def test_a_prompt_is_what_the_program_itself_would_send(app: dspex.App) -> None:
    """A model that is trained on another prompt than it is asked with has learned another task."""
    lm = ScriptedLM(lambda request: {"answer": "right"})
    predictor = dspex.Predict(Answer)
    async with dspex.App(lm) as own:
        report = await own.options(trace=True).evaluate(
            predictor, [{"question": "q", "query": "y", "answer": "right"}], dspex.exact_match()
        )
    (line,) = training_data(predictor, report)
    sent = [{"role": each.role, "content": each.text} for each in lm.requests[0].request.messages]

    assert line["messages"][:-1] == sent  # type: ignore[index]  # a JSON object


@pytest.mark.parametrize(
    ("form", "first", "answer"),
    [("anthropic", "system", "messages"), ("gemini", "systemInstruction", "contents")],
)
async def test_other_providers_have_the_system_apart(app: dspex.App, form: Any, first: str, answer: str) -> None:
    report = await evaluated(app)
    lines: list[Any] = training_data(Looping(), report, format=form)
    same: list[Any] = training_data(Looping(), report)

    assert list(lines[0]) == [first, answer]
    assert [each["role"] for each in lines[0][answer]] == ["user", "assistant" if form == "anthropic" else "model"]
    assert same[0]["messages"][0]["content"] in (
        lines[0]["system"] if form == "anthropic" else lines[0]["systemInstruction"]["parts"][0]["text"]
    )


async def test_demonstrations_are_left_out_unless_they_are_wanted(app: dspex.App) -> None:
    report = await evaluated(app)
    shown = Looping().with_demos([{"question": "shown", "query": "q", "answer": "a"}])

    assert all("shown" not in json.dumps(line) for line in training_data(shown, report))
    assert all("shown" in json.dumps(line) for line in training_data(shown, report, keep_demos=True))


async def test_what_teaches_nothing_is_an_error(app: dspex.App) -> None:
    with pytest.raises(dspex.ConfigError, match="trace=True"):
        training_data(Looping(), await evaluated(app, trace=False))
    with pytest.raises(dspex.ConfigError, match="nothing to learn from"):
        training_data(Looping(), await evaluated(app), threshold=2.0)
    with pytest.raises(dspex.ConfigError, match="must be one of openai"):
        training_data(Looping(), await evaluated(app), format="other")  # type: ignore[arg-type]


async def test_a_file_has_one_object_a_line(app: dspex.App, tmp_path: Path) -> None:
    lines = training_data(Looping(), await evaluated(app))

    assert save_training_data(tmp_path / "data.jsonl", lines) == 5
    assert [json.loads(line) for line in (tmp_path / "data.jsonl").read_text("utf-8").splitlines()] == lines
