"""The adapter of predictors that have none: the App's, or that of the options of a run."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import get_args

import pytest

import dspex
from dspex.app._view import AppView
from dspex.programs import AdapterName
from dspex.simulator import Simulator
from dspex.testing import ScriptedLM

FORMATS = {
    "auto": "\n\nanswer:",
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


@pytest.mark.parametrize("name", get_args(AdapterName))
async def test_predictors_without_an_adapter_use_the_apps(name: AdapterName) -> None:
    """The App's adapter holds where nothing nearer says otherwise: first the run's options, then the predictor."""
    ask = dspex.Predict("question -> answer")
    async with dspex.App(answering(), adapter=name, cache=None) as app:
        assert await asked_in(app, ask) == name
        assert await asked_in(app.options(adapter="xml"), ask) == "xml"
        assert await asked_in(app.options(adapter="xml").options(adapter=None), ask) == name
        assert await asked_in(app, ask.with_adapter("chat")) == "chat"
        assert await asked_in(app.options(adapter="xml"), ask.with_adapter("json")) == "json"
        assert await asked_in(app, ask) == name


async def test_app_without_an_adapter_asks_in_few_words() -> None:
    """Nothing said anywhere is ``auto``, and options go back to it."""
    ask = dspex.Predict("question -> answer")
    async with dspex.App(answering(), cache=None) as app:
        assert await asked_in(app, ask) == "auto"
        assert await asked_in(app.options(adapter="json"), ask) == "json"
        assert await asked_in(app.options(adapter="json").options(adapter=None), ask) == "auto"


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
        with pytest.raises(dspex.ConfigError, match="expected one of auto, chat, json, xml, tool"):
            dspex.App(answering(), adapter=refused)  # type: ignore[arg-type]  # on purpose
        with pytest.raises(dspex.ConfigError, match="expected one of auto, chat, json, xml, tool"):
            app.options(adapter=refused)  # type: ignore[arg-type]  # on purpose


async def test_rows_answered_in_another_format_are_another_journals(tmp_path: Path) -> None:
    """How a model is asked decides what it answers; the default is the same as its name."""
    ask = dspex.Predict("question -> answer")
    rows = [{"id": 1, "question": "Who?"}]
    async with dspex.App(answering(), cache=None) as app:
        for _ in range(2):
            async with app.map(ask, rows, journal=tmp_path / "rows.db") as results:
                assert [each.value.answer async for each in results if isinstance(each, dspex.Ok)] == ["Ada"]
        async with app.options(adapter="auto").map(ask, rows, journal=tmp_path / "rows.db") as results:
            assert [each async for each in results if isinstance(each, dspex.Ok) and each.recorded]
        with pytest.raises(dspex.JobMismatch, match="adapter: auto → json"):
            async with app.options(adapter="json").map(ask, rows, journal=tmp_path / "rows.db") as results:
                _ = [each async for each in results]


async def test_a_journal_of_a_release_whose_default_was_chat_goes_on_in_chat(tmp_path: Path) -> None:
    """It says nothing of an adapter where nobody had chosen one."""
    ask, file = dspex.Predict("question -> answer"), tmp_path / "rows.db"
    rows = [{"id": 1, "question": "Who?"}]
    async with dspex.App(answering(), cache=None) as app:
        async with app.options(adapter="chat").map(ask, rows, journal=file) as results:
            _ = [each async for each in results]
        with closing(sqlite3.connect(file)) as journal, journal:
            for name in ("fingerprint", "details"):
                ((text,),) = journal.execute("SELECT value FROM meta WHERE name = ?", (name,)).fetchall()
                parts = json.loads(text)
                del parts["adapter"]
                journal.execute("UPDATE meta SET value = ? WHERE name = ?", (json.dumps(parts), name))

        with pytest.raises(dspex.JobMismatch, match="adapter: chat → auto"):
            async with app.map(ask, rows, journal=file) as results:
                _ = [each async for each in results]
        async with app.options(adapter="chat").map(ask, rows, journal=file) as results:
            assert [each async for each in results if isinstance(each, dspex.Ok) and each.recorded]


@pytest.mark.parametrize("name", get_args(AdapterName))
async def test_a_model_that_only_a_predictor_names_is_asked(name: AdapterName) -> None:
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
