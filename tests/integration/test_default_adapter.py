"""The adapter of predictors that have none: the App's, or that of the options of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import pytest

import dspex
from dspex.app._view import AppView
from dspex.simulator import Simulator
from dspex.testing import ScriptedLM

FORMATS = {
    "chat": "and end with `[[ ## completed ## ]]`.",
    "json": "Answer with one JSON object and nothing else: `answer` (str).",
    "xml": "Now write <answer> (str), each with its closing tag.",
    "tool": "Now give `answer` (str).",
}


def answering() -> ScriptedLM:
    return ScriptedLM(lambda request: {"answer": "Ada"})


async def asked_in(app: dspex.App | AppView, program: dspex.Predict[dspex.Prediction, ...]) -> str:
    prediction = await app.run(program, question="Who?")
    assert prediction.answer == "Ada"
    prompt = dspex.details(prediction).messages[-1].text
    return next(name for name, last in FORMATS.items() if prompt.endswith(last))


@pytest.mark.parametrize("name", ["chat", "json", "xml", "tool"])
async def test_predictors_without_an_adapter_use_the_apps(name: Literal["chat", "json", "xml", "tool"]) -> None:
    """The App's adapter holds where nothing nearer says otherwise: first the run's options, then the predictor."""
    ask = dspex.Predict("question -> answer")
    async with dspex.App(answering(), adapter=name, cache=None) as app:
        assert await asked_in(app, ask) == name
        assert await asked_in(app.options(adapter="xml"), ask) == "xml"
        assert await asked_in(app.options(adapter="xml").options(adapter=None), ask) == name
        assert await asked_in(app, ask.with_adapter("chat")) == "chat"
        assert await asked_in(app.options(adapter="xml"), ask.with_adapter("json")) == "json"
        assert await asked_in(app, ask) == name


async def test_app_without_an_adapter_asks_in_the_chat_format() -> None:
    """Nothing said anywhere is the chat format, and options go back to it."""
    ask = dspex.Predict("question -> answer")
    async with dspex.App(answering(), cache=None) as app:
        assert await asked_in(app, ask) == "chat"
        assert await asked_in(app.options(adapter="json"), ask) == "json"
        assert await asked_in(app.options(adapter="json").options(adapter=None), ask) == "chat"


async def test_changed_copies_bring_their_own_demonstrations_to_the_apps_format() -> None:
    """The text before the turn is kept for the App's format too, and is never another copy's."""
    ask = dspex.Predict("question -> answer")
    shown = ask.with_demos([{"question": "Where?", "answer": "Here"}])
    async with dspex.App(answering(), adapter="xml", cache=None) as app:
        lengths = []
        for each in (ask, shown, ask, shown.with_instructions("Be brief."), shown):
            prediction = await app.run(each, question="Who?")
            lengths.append(len(dspex.details(prediction).messages))
        prompt = dspex.details(await app.run(shown.with_instructions("Be brief."), question="Who?")).messages

    assert lengths == [2, 4, 2, 4, 4]
    assert prompt[0].text.endswith("Be brief.")
    assert prompt[2].text == "<answer>\nHere\n</answer>"


async def test_agents_go_by_the_apps_adapter_too() -> None:
    """An adapter that writes tools as text keeps an agent from asking the model for its own tool calls."""
    lm = ScriptedLM(
        {
            "react": [{"next_thought": "easy", "next_tool_name": "finish", "next_tool_args": {}}],
            "extract": [{"reasoning": "so", "answer": "Ada"}],
        }
    )
    agent = dspex.ReAct("question -> answer", tools=[len])
    async with dspex.App(lm, adapter="tool", cache=None) as app:
        assert (await app.run(agent, question="Who?")).answer == "Ada"
        assert (await app.estimate(agent, question="Who?")).calls > 1

    assert [each.request.tool_choice for each in lm.requests] == ["give_outputs", "give_outputs"]


def test_unknown_adapters_are_refused_at_once() -> None:
    """Before anything is started, and in the words that a predictor has for it."""
    app = dspex.App(answering())
    for refused in ("jsn", dspex.JSONAdapter):
        with pytest.raises(dspex.ConfigError, match="expected one of chat, json, xml, tool"):
            dspex.App(answering(), adapter=refused)  # type: ignore[arg-type]  # on purpose
        with pytest.raises(dspex.ConfigError, match="expected one of chat, json, xml, tool"):
            app.options(adapter=refused)  # type: ignore[arg-type]  # on purpose


async def test_rows_answered_in_another_format_are_another_journals(tmp_path: Path) -> None:
    """How a model is asked decides what it answers; a journal written before there was a choice stays good."""
    ask = dspex.Predict("question -> answer")
    rows = [{"id": 1, "question": "Who?"}]
    async with dspex.App(answering(), cache=None) as app:
        for _ in range(2):
            async with app.map(ask, rows, journal=tmp_path / "rows.db") as results:
                assert [each.value.answer async for each in results if isinstance(each, dspex.Ok)] == ["Ada"]
        with pytest.raises(dspex.JobMismatch, match="adapter"):
            async with app.options(adapter="json").map(ask, rows, journal=tmp_path / "rows.db") as results:
                _ = [each async for each in results]


@pytest.mark.parametrize("name", ["chat", "json", "xml", "tool"])
async def test_a_model_that_only_a_predictor_names_is_asked(name: Literal["chat", "json", "xml", "tool"]) -> None:
    """Some adapters look at what it can do before it is asked for the first time, which does not bring it up."""
    async with Simulator() as simulator, dspex.App(cache=None, deadline=20.0) as app:
        lm = dspex.LM("llamacpp/of-its-own", api_base=simulator.url)
        one = dspex.Predict("question -> answer", lm=lm, adapter=name)
        two = dspex.Predict(
            "question -> answer", lm=dspex.LM("llamacpp/of-its-own", api_base=simulator.url, max_tokens=7), adapter=name
        )

        for ask in (one, two):
            prediction = await app.run(ask, question="Who?")
            assert prediction.answer
