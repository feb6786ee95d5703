"""Calls that a model made by itself, in histories and demonstrations; and examples that nobody takes for turns."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter

import dspex
from dspex.programs import Observation
from dspex.protocols.content import TextPart, ToolCall, ToolResult
from dspex.protocols.lm import Completion, Message
from dspex.testing import ScriptedLM


def search(query: str) -> str:
    """Search."""
    return f"found {query}"


class Pick(dspex.Signature):
    """Pick."""

    question: str = dspex.InputField()
    history: dspex.History = dspex.InputField(default_factory=dspex.History)
    tools: list[dspex.Tool[..., Any]] = dspex.InputField(default_factory=lambda: [dspex.Tool(search)])
    answer: str | None = dspex.OutputField()
    calls: dspex.ToolCalls = dspex.OutputField()


class Talk(dspex.Signature):
    """Talk."""

    question: str = dspex.InputField()
    history: dspex.History = dspex.InputField(default_factory=dspex.History)
    answer: str = dspex.OutputField()


ASKED = Completion("", "tool_calls", (ToolCall("c1", "search", {"query": "x"}, '{"query":"x"}', {"signature": "s"}),))


async def asked(program: Any, lm: ScriptedLM, **inputs: Any) -> tuple[Message, ...]:
    async with dspex.App(lm, cache=None) as app:
        await app.run(program, **inputs)
    return tuple(lm.requests[-1].request.messages)


@pytest.mark.parametrize("adapter", ["chat", "json", "xml"])
async def test_a_turn_with_calls_and_results_stays_one(adapter: Any) -> None:
    """The call as it was, its provider's data included, and what came of it."""
    pick = dspex.Predict(Pick, adapter=adapter)
    async with dspex.App(ScriptedLM([ASKED]), cache=None) as app:
        first = await app.run(pick, question="Q1")
    history = dspex.History().with_turn(first).with_results(first.calls, [Observation("found x")])
    _, question, call, result, last = await asked(pick, ScriptedLM([ASKED]), question="Q2", history=history)

    assert (question.role, call.role, result.role, last.role) == ("user", "assistant", "tool", "user")
    assert call.content == ASKED.tool_calls
    assert result.content == (ToolResult("c1", "search", "found x"),)
    assert "Q1" in question.text
    assert "Q2" in last.text


SPOKEN = Completion("Let me look.", ASKED.finish_reason, ASKED.tool_calls)


@pytest.mark.parametrize("saved", [False, True])
async def test_words_beside_calls_stay_in_histories_and_demonstrations(saved: bool, tmp_path: Path) -> None:
    """Before the calls, as the model said them; as JSON and back too, and without the thoughts before them."""
    thought = Completion(f"<think>hm</think>{SPOKEN.text}", SPOKEN.finish_reason, SPOKEN.tool_calls)
    pick = dspex.Predict(Pick, adapter="chat")
    async with dspex.App(ScriptedLM([thought]), cache=None) as app:
        first = await app.run(pick, question="Q1")
    demo = {"question": "Q0", "tools": [dspex.Tool(search)], "calls": first.calls}
    history = dspex.History().with_turn(first)
    pick = pick.with_demos([demo])
    if saved:
        reading: TypeAdapter[dspex.History] = TypeAdapter(dspex.History)
        history = reading.validate_json(reading.dump_json(history))
        pick.save(tmp_path / "p.json")
        pick = dspex.Predict(Pick, adapter="chat").load(tmp_path / "p.json")
    messages = await asked(pick, ScriptedLM([ASKED]), question="Q2", history=history)
    shown, said = [each for each in messages if each.role == "assistant"]

    assert first.calls == dspex.ToolCalls(ASKED.tool_calls, "Let me look.")
    assert shown.content == said.content == (TextPart("Let me look."), *ASKED.tool_calls)


async def test_an_output_beside_calls_is_not_told_twice() -> None:
    written = Completion("[[ ## answer ## ]]\nI look.", "tool_calls", ASKED.tool_calls)
    pick = dspex.Predict(Pick, adapter="chat")
    async with dspex.App(ScriptedLM([written]), cache=None) as app:
        first = await app.run(pick, question="Q1")
    messages = await asked(pick, ScriptedLM([ASKED]), question="Q2", history=dspex.History().with_turn(first))

    assert (first.answer, first.calls.text) == ("I look.", "")
    assert messages[2].text.count("I look.") == 1


async def test_a_turn_whose_results_are_not_there_says_so() -> None:
    """Providers refuse a call without a result."""
    calls = dspex.ToolCalls([("search", {"query": "x"}), ToolCall("c2", "search", None, '{"broken')])
    history = dspex.History([{"question": "Q1", "calls": calls, "answer": "I look."}])
    _, _, call, result, _ = await asked(
        dspex.Predict(Pick, adapter="chat"), ScriptedLM([ASKED]), question="Q2", history=history
    )

    assert isinstance(call.content[0], TextPart)
    assert "I look." in call.content[0].text
    assert [each.name for each in call.content if isinstance(each, ToolCall)] == [
        "search"
    ]  # a broken one is not repeated
    told = result.content[0]
    assert isinstance(told, ToolResult)
    assert (told.call_id, told.is_error) == ("call_1", False)


@pytest.mark.parametrize("saved", [False, True])
async def test_a_demonstration_shows_calls(saved: bool, tmp_path: Path) -> None:
    """As the model makes them, and after the program was saved and loaded."""
    demos = [{"question": "Q1", "tools": [dspex.Tool(search)], "calls": dspex.ToolCalls(ASKED.tool_calls)}]
    program = dspex.Predict(Pick, adapter="chat", demos=demos)
    if saved:
        program.save(tmp_path / "p.json")
        program = dspex.Predict(Pick, adapter="chat").load(tmp_path / "p.json")
        assert json.loads((tmp_path / "p.json").read_text())
    _, question, call, result, _ = await asked(program, ScriptedLM([ASKED]), question="Q2")

    assert "example" in question.text
    assert call.content == ASKED.tool_calls
    assert result.role == "tool"


async def test_a_model_without_calls_is_shown_text() -> None:
    """The same demonstration and history, as lists of names and arguments, without what only a wire needs."""
    lm = ScriptedLM([{"calls": []}], capabilities={"tools": False})
    history = [{"question": "Q0", "calls": dspex.ToolCalls(ASKED.tool_calls)}]
    program = dspex.Predict(
        Pick, adapter="chat", demos=[{"question": "Q1", "calls": dspex.ToolCalls(ASKED.tool_calls)}]
    )
    _, _, shown, _, turn, _ = await asked(program, lm, question="Q2", history=history)

    for each in (shown, turn):
        assert '"args":{"query":"x"}' in each.text
        assert "signature" not in each.text
        assert "raw" not in each.text


@pytest.mark.parametrize("adapter", ["chat", "json", "xml", "tool"])
async def test_examples_are_told_apart_from_turns(adapter: Any) -> None:
    """Whole ones and incomplete ones; where no conversation is, nothing is added."""
    fields = {"question": "my name is Ada", "answer": "hello Ada"}
    talk = dspex.Predict(Talk, adapter=adapter)
    as_demo = await asked(talk.with_demos([fields]), ScriptedLM([{"answer": "x"}]), question="who am I?")
    as_turn = await asked(talk, ScriptedLM([{"answer": "x"}]), question="who am I?", history=[fields])
    assert as_demo != as_turn
    assert "not part of the conversation" in as_demo[1].text
    assert "not part of the conversation" not in as_turn[1].text
    plain = dspex.Predict("question, place -> answer", adapter=adapter)
    (_, whole, *_) = await asked(
        plain.with_demos([{**fields, "place": "p"}]), ScriptedLM([{"answer": "x"}]), question="q", place="p"
    )
    (_, part, *_) = await asked(plain.with_demos([fields]), ScriptedLM([{"answer": "x"}]), question="q", place="p")
    assert "xample" not in whole.text
    assert part.text.startswith("An incomplete example;")


async def test_both_at_once_stay_in_order() -> None:
    """Examples first, then what was said, then the question."""
    fields = {"question": "example", "answer": "a"}
    talk = dspex.Predict(Talk, adapter="chat").with_demos([fields])
    history = [{"question": "said", "answer": "b"}]
    messages = await asked(talk, ScriptedLM([{"answer": "x"}]), question="now", history=history)
    assert ["example" in messages[1].text, "said" in messages[3].text, "now" in messages[5].text] == [True] * 3
