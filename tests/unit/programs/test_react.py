"""The agent as a program: what it asks for, shows, keeps and saves."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.errors import (
    AgentBudgetSpent,
    ContextTooLong,
    DepsError,
    MissingInput,
    NotInRequest,
    SignatureError,
    ToolInvalid,
)
from dspex.protocols.content import ToolCall
from dspex.testing import ScriptedScope

FINISH: dict[str, Any] = {"next_thought": "enough", "next_tool_name": "finish", "next_tool_args": {}}
ANSWER: dict[str, Any] = {"reasoning": "as seen", "answer": "Ada"}


def search(query: str) -> str:
    """Find pages."""
    return f"pages on {query}"


def step(tool: str = "search", **arguments: Any) -> dict[str, Any]:
    return {"next_thought": f"I need {tool}", "next_tool_name": tool, "next_tool_args": arguments}


def agent(**settings: Any) -> dspex.ReAct[Any, ...]:
    return dspex.ReAct("question -> answer", [search], **settings)


async def test_text_protocol_calls_and_answers() -> None:
    """Thought, call, observation; then the answer from what was seen."""
    scope = ScriptedScope({"react": [step(query="engines"), FINISH], "extract.predict": [ANSWER]})

    prediction = await scope.run(agent(), question="Who?")

    assert (prediction.answer, prediction.reasoning) == ("Ada", "as seen")
    trajectory = dspex.details(prediction).trajectory
    assert trajectory is not None
    assert trajectory.finished
    assert [(each.call.name, each.observation.text) for each in trajectory] == [
        ("search", "pages on engines"),
        ("finish", "(finished)"),
    ]
    second, last = scope.asked[1].request.messages, scope.asked[2].request.messages
    assert 'Call: search {"query": "engines"}\nObservation: pages on engines' in second[-1].text
    assert "- `search`: Find pages.\n  arguments: {" in second[0].text
    assert "pages on engines" in last[-1].text
    assert [(each.path, set(each.outputs)) for each in scope.trace][:1] == [
        ("react", {"next_thought", "next_tool_name", "next_tool_args"})
    ]


async def test_record_is_of_the_signature_and_has_no_trajectory() -> None:
    """Facts about the call are in its details."""

    class Ask(dspex.Signature):
        """Answer."""

        question: str = dspex.InputField()
        answer: str = dspex.OutputField()

    scope = ScriptedScope({"react": [FINISH], "extract": [ANSWER], "extract.predict": [ANSWER]})
    prediction = await scope.run(dspex.ReAct(Ask, [search]), question="Who?")

    assert type(prediction) is Ask
    assert prediction.to_dict() == {"question": "Who?", "answer": "Ada"}


async def test_spent_budget_is_an_answer_or_an_error() -> None:
    """By default from what is there; with extract=False an error that carries it."""
    script: Mapping[str, Any] = {"react": [step(query="a")] * 4, "extract.predict": [ANSWER]}

    prediction = await ScriptedScope(script).run(agent(max_steps=2), question="Who?")
    trajectory = dspex.details(prediction).trajectory
    assert trajectory is not None
    assert (len(trajectory), trajectory.finished) == (2, False)
    with pytest.raises(AgentBudgetSpent, match="within 2 steps") as caught:
        await ScriptedScope(script).run(agent(max_steps=2, extract=False), question="Who?")
    assert isinstance(caught.value.trajectory, dspex.Trajectory)
    assert len(caught.value.trajectory) == 2


async def test_long_conversations_lose_their_oldest_observations_and_say_so() -> None:
    """The older half goes, then half of the rest; thoughts and calls stay."""
    refused = ContextTooLong("too long")
    scope = ScriptedScope(
        {
            "react": [*[step(query=word) for word in "abcd"], refused, refused, FINISH],
            "extract.predict": [ContextTooLong("too long"), ANSWER],
        }
    )

    prediction = await scope.run(agent(), question="Who?")

    shown = scope.asked[6].request.messages[-1].text
    assert [f"pages on {word}" in shown for word in "abcd"] == [False, False, False, True]
    assert shown.count("(left out: the conversation had become too long)") == 3
    assert scope.repairs == [("AnswerFromQuestion", "trajectory", "shortened")] * 3
    trajectory = dspex.details(prediction).trajectory
    assert trajectory is not None
    assert trajectory[0].observation.text == "pages on a"


async def test_conversation_that_does_not_fit_even_without_observations_is_an_error() -> None:
    """Shortening is bounded: there is nothing left to leave out."""
    scope = ScriptedScope({"react": [step(query="a"), *[ContextTooLong("too long")] * 9]})

    with pytest.raises(ContextTooLong):
        await scope.run(agent(), question="Who?")
    assert len(scope.asked) == 3


async def test_unknown_tools_are_corrected_by_the_predictor() -> None:
    """A name that is not a choice is an unreadable answer: the model is asked again."""
    scope = ScriptedScope({"react": [step("nix"), step(query="a"), FINISH], "extract.predict": [ANSWER]})

    prediction = await scope.run(agent(), question="Who?")

    trajectory = dspex.details(prediction).trajectory
    assert trajectory is not None
    assert [each.call.name for each in trajectory] == ["search", "finish"]


async def test_wrong_use_is_told_before_anything_is_asked() -> None:
    """Inputs, deps, and being outside a request."""

    def pay(run: dspex.Run[dict[str, int]], amount: int) -> None: ...

    with pytest.raises(NotInRequest):
        await agent().forward(question="Who?")
    scope = ScriptedScope(deps=3)
    with pytest.raises(MissingInput):
        await scope.run(agent(), quest="Who?")
    with pytest.raises(DepsError):
        await scope.run(dspex.ReAct("question -> answer", [pay]), question="Who?")
    assert scope.asked == []


@pytest.mark.parametrize(
    ("make", "error"),
    [
        (lambda: dspex.ReAct("question -> answer", [search, search]), ToolInvalid),
        (lambda: dspex.ReAct("question -> answer", [dspex.tool(search, name="finish")]), ToolInvalid),
        (lambda: dspex.ReAct("question, trajectory -> answer", [search]), SignatureError),
        (lambda: dspex.ReAct("question -> answer", [search], max_steps=0), ValueError),
        (lambda: dspex.ReAct("question", [search]), SignatureError),
    ],
)
def test_agents_that_make_no_sense_are_refused(make: Any, error: type[Exception]) -> None:
    """At construction."""
    with pytest.raises(error):
        make()


def test_wrong_words_are_told_where_they_are_written() -> None:
    """A tool that stands alone, and what DSPy calls the steps."""
    with pytest.raises(ToolInvalid, match="give the agent a list of tools"):
        dspex.ReAct("question -> answer", search)  # type: ignore[call-overload]  # on purpose
    with pytest.raises(ValueError, match="an agent's steps are max_steps="):
        dspex.ReAct("question -> answer", [search], max_iters=3)  # type: ignore[call-overload]  # on purpose


def test_parameters_are_those_that_dspy_saves(tmp_path: Path) -> None:
    """Two predictors by the same names, with the same fields in the same order."""
    state = agent().dump_state()
    assert {path: len(each["signature"]["fields"]) for path, each in state.items() if path != "metadata"} == {
        "react": 5,
        "extract.predict": 4,
    }
    prefixes = [each["prefix"] for each in state["react"]["signature"]["fields"]]
    assert prefixes == ["Question:", "Trajectory:", "Next Thought:", "Next Tool Name:", "Next Tool Args:"]
    theirs = _dspy_state(state)
    path = tmp_path / "agent.json"
    path.write_text(json.dumps(theirs))

    loaded = agent().load(path)

    react = loaded.react
    assert react.signature.instructions == "You are an Agent."
    assert react.demos[0]["next_tool_name"] == "search"
    assert isinstance(react.demos[0]["trajectory"], dspex.Trajectory)
    assert loaded.extract.predict.signature.instructions == "Answer it."


def _dspy_state(state: dict[str, Any]) -> dict[str, Any]:
    """Return a file as DSPy writes it: no descriptions of ours, its own instructions, a demonstration."""
    demo = {"question": "q", "trajectory": "[[ ## thought_0 ## ]]\nt", **step(query="x"), "augmented": True}
    theirs: dict[str, Any] = {"metadata": {"dependency_versions": {"python": "3.12", "dspy": "3.4.1"}}}
    for path, instructions, demos in (("react", "You are an Agent.", [demo]), ("extract.predict", "Answer it.", [])):
        fields = [{**each, "description": "${x}"} for each in state[path]["signature"]["fields"]]
        theirs[path] = {
            "traces": [],
            "train": [],
            "demos": demos,
            "signature": {"instructions": instructions, "fields": fields},
            "lm": None,
        }
    return theirs


async def test_changed_copies_work_and_leave_the_agent_as_it_was() -> None:
    """Another instruction reaches the prompt of both protocols' predictor; the tools stay described."""
    first = agent()
    second = first.replace({"react": first.react.with_instructions("Be quick.")})
    scope = ScriptedScope({"react": [FINISH], "extract.predict": [ANSWER]})

    await scope.run(second, question="Who?")

    system = scope.asked[0].request.messages[0].text
    assert "Be quick." in system
    assert "- `search`" in system
    assert "Be quick." not in first.react.signature.instructions


def test_trajectory_reads_as_text() -> None:
    """As a demonstration it is saved and loaded as its text."""
    from dspex.programs import Observation, ToolStep

    seen = dspex.Trajectory([ToolStep("t", ToolCall("1", "search", {"query": "ä"}), Observation("o"), 0)])

    assert seen.to_text() == 'Step 1\nThought: t\nCall: search {"query": "ä"}\nObservation: o'
    assert dspex.Trajectory.from_text(seen.to_text()) == seen
    assert hash(dspex.Trajectory.from_text(seen.to_text())) == hash(seen)
    assert dspex.Trajectory().to_text() == "(nothing was done yet)"
