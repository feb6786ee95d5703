"""Agents inside an App: tools side by side, in threads, out of time; and against every wire."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import dspex
from dspex.errors import DepsError, LeakedTasks, ToolTimeout
from dspex.protocols.content import ToolResult
from dspex.protocols.executor import RunOptions
from dspex.simulator import Simulator
from dspex.testing import ScriptedLM
from tests.support.programs import until

DONE = [{"tool": "finish", "arguments": {}}]
ANSWER = {"reasoning": "as seen", "answer": "Ada"}


def ask(tool: str, **arguments: Any) -> dict[str, Any]:
    return {"tool": tool, "arguments": arguments}


def scripted(*turns: Any) -> ScriptedLM:
    return ScriptedLM({"react": [*turns, *DONE], "extract": [ANSWER]})


@asynccontextmanager
async def running(*turns: Any) -> AsyncIterator[tuple[dspex.App, ScriptedLM]]:
    lm = scripted(*turns)
    async with dspex.App(lm=lm) as app:
        yield app, lm


def seen(prediction: object) -> list[str]:
    trajectory = dspex.details(prediction).trajectory
    assert trajectory is not None
    return [each.observation.text for each in trajectory if each.call.name != "finish"]


async def test_calls_of_one_turn_run_side_by_side_and_answer_in_their_order() -> None:
    """Each waits for the other; one after the other they would wait for ever."""
    meeting = asyncio.Barrier(3)

    async def meet(name: str) -> str:
        await meeting.wait()
        return name

    async with running([ask("meet", name=name) for name in "cab"]) as (app, lm):
        prediction = await app.run(dspex.ReAct("question -> answer", [meet]), question="Who?")

    assert prediction.answer == "Ada"
    assert seen(prediction) == ["c", "a", "b"]
    results = lm.requests[1].request.messages[-1]
    assert results.role == "tool"
    assert isinstance(results.content, tuple)
    assert [each.content for each in results.content if isinstance(each, ToolResult)] == ["c", "a", "b"]


async def test_blocking_tool_stalls_neither_the_loop_nor_other_tools() -> None:
    """It waits in a thread of its own for what another tool, and another blocking one, do."""
    from_loop, from_thread = threading.Event(), threading.Event()

    def block() -> str:
        return f"{from_loop.wait(10)} {from_thread.wait(10)}"

    def release() -> None:
        from_thread.set()

    async def release_too() -> None:
        from_loop.set()

    async with running([ask("block"), ask("release"), ask("release_too")]) as (app, _):
        agent = dspex.ReAct("question -> answer", [block, release, release_too])
        assert seen(await app.run(agent, question="Who?"))[0] == "True True"


async def test_tool_out_of_time_is_cancelled_and_observed() -> None:
    """The error says how long it had; the agent goes on."""
    ended = []

    async def hang() -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("hang")

    async with running([ask("hang")]) as (app, _):
        prediction = await app.run(dspex.ReAct("question -> answer", [dspex.tool(hang, timeout=0.01)]), question="Who?")

    assert ended == ["hang"]
    assert seen(prediction) == ["Error: ToolTimeout: hang did not end within 0.01 s"]
    trajectory = dspex.details(prediction).trajectory
    assert trajectory is not None
    assert isinstance(trajectory[0].observation.error, ToolTimeout)


async def test_blocking_tool_out_of_time_is_left_behind_and_reported_when_it_ends() -> None:
    """Its late result reaches nobody; an event tells of it."""
    gate, late = threading.Event(), []

    def hang() -> str:
        gate.wait(10)
        return "too late"

    async with running([ask("hang")]) as (app, _):
        app.telemetry.attach("dspex.tool.late", lambda _name, _numbers, facts: late.append(facts["tool"]))
        agent = dspex.ReAct("question -> answer", [dspex.tool(hang, timeout=0.01)])
        prediction = await app.run(agent, question="Who?")
        assert seen(prediction) == ["Error: ToolTimeout: hang did not end within 0.01 s"]
        assert late == []
        gate.set()
        await until(lambda: late, "the late end")
    assert late == ["hang"]


async def test_blocking_tool_that_never_ends_does_not_hold_the_close_up() -> None:
    """The App closes, and says where the thread stands."""
    gate, inside = threading.Event(), threading.Event()

    def hang() -> None:
        inside.set()
        gate.wait(30)

    app = dspex.App(lm=scripted([ask("hang")]))
    await app.start()
    request = app.start(dspex.ReAct("question -> answer", [hang]), question="Who?")
    await until(inside.is_set, "the tool")
    request.cancel()
    with pytest.raises(LeakedTasks, match="hang does not end") as caught:
        await app.aclose()
    gate.set()

    assert "gate.wait(30)" in str(caught.value)


async def test_cancelled_request_cancels_its_tools() -> None:
    """Nothing of it runs on."""
    began, ended = asyncio.Event(), []

    async def hang() -> None:
        began.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("hang")

    async with running([ask("hang"), ask("hang")]) as (app, _):
        request = app.start(dspex.ReAct("question -> answer", [hang]), question="Who?")
        await began.wait()
        request.cancel()
        with pytest.raises(asyncio.CancelledError):
            await request
        assert ended == ["hang", "hang"]


async def test_deps_reach_the_tools_and_wrong_ones_nobody() -> None:
    """The class is looked at before the model is asked."""

    async def balance(run: dspex.Run[dict[str, int]], name: str) -> int:
        return run.deps[name]

    agent = dspex.ReAct("question -> answer", [balance])
    async with running([ask("balance", name="Ada")]) as (app, lm):
        with pytest.raises(DepsError):
            await app.run(agent, question="Who?")
        assert lm.requests == []
        prediction = await app.options(deps={"Ada": 12}).run(agent, question="Who?")

    assert seen(prediction) == ["12"]


async def test_answer_is_streamed_and_its_predictor_named() -> None:
    """Whoever watches reads the answer as it is written."""

    def search(query: str) -> str:
        return query

    async with (
        running([ask("search", query="x")]) as (app, _),
        app.stream(dspex.ReAct("question -> answer", [search]), question="Who?") as stream,
    ):
        pieces = [each async for each in stream if isinstance(each, dspex.Delta)]
        prediction = await stream.result()

    assert {each.predictor for each in pieces} == {"extract.predict"}
    assert "".join(each.text for each in pieces if each.field == "answer") == prediction.answer == "Ada"


async def test_agent_can_be_a_tool_of_another() -> None:
    """A Module as a tool is a part of the same request: its calls count there."""

    def search(query: str) -> str:
        return f"pages on {query}"

    class Helper(dspex.Module):
        """Finds out."""

        def __init__(self) -> None:
            self.agent = dspex.ReAct("question -> answer", [search])

        async def forward(self, question: str) -> str:
            return str((await self.agent(question=question)).answer)

    def answer(request: Any) -> Any:
        last = request.messages[-1]
        text = request.messages[1].text
        if not request.tools:
            return ANSWER
        if last.role == "tool":
            return DONE[0]
        return ask("Helper", question="inner?") if "outer" in text else ask("search", query="x")

    async with dspex.App(lm=ScriptedLM(answer)) as app:
        request = app.start(dspex.ReAct("question -> answer", [Helper()]), question="outer?")
        prediction = await request

    assert seen(prediction) == ["Ada"]
    assert request.details.calls == 6


async def test_images_from_tools_reach_the_model() -> None:
    """As parts of the tool's result, and at their place for the answer."""
    picture = dspex.Image("image/png", b"\x89PNG\r\n\x1a\n")

    def look() -> dspex.Image:
        return picture

    async with running([ask("look")]) as (app, lm):
        await app.run(dspex.ReAct("question -> answer", [look]), question="Who?")

    result = lm.requests[1].request.messages[-1].content[0]
    assert isinstance(result, ToolResult)
    assert result.content == (picture,)
    assert picture in lm.requests[2].request.messages[-1].content


@pytest.mark.parametrize("provider", ["openai", "openai-responses", "anthropic", "gemini"])
async def test_every_wire_carries_the_conversation(provider: str) -> None:
    """Tools, calls and results over real sockets; the simulator answers once it has a result."""
    calls: list[str] = []

    def find_color(of: str) -> str:
        """Find the color of a bird."""
        calls.append(of)
        return "color: red"

    home = {"openai-responses": "openai"}.get(provider, provider)
    suffix = {"anthropic": "/v1", "gemini": "/v1beta"}.get(provider, "")
    async with Simulator() as simulator:
        base = simulator.urls[home]
        base += suffix if suffix and not base.endswith(suffix) else ""
        able = {"tools": True}
        lm = dspex.LM(f"{provider}/rules", api_base=base, api_key="key", capabilities=able)
        async with dspex.App(lm=lm) as app:
            agent = dspex.ReAct("question -> color", [find_color])
            prediction = await app.run(agent, question="find the color of the bird?")

    assert len(calls) == 1
    assert seen(prediction) == ["color: red"]
    assert isinstance(prediction.color, str)
    trajectory = dspex.details(prediction).trajectory
    assert trajectory is not None
    assert trajectory.finished


async def test_native_conversations_are_shortened_too() -> None:
    """Calls and results stay in pairs, as providers want them; only what the results say is left out."""

    def search(query: str) -> str:
        return f"pages on {query}"

    refused = dspex.ContextTooLong("too long")
    turns = [ask("search", query="a"), ask("search", query="b"), refused]
    async with running(*turns) as (app, lm):
        repairs: list[Any] = []
        app.telemetry.attach("dspex.parse.repair", lambda _name, _numbers, facts: repairs.append(facts["kind"]))
        prediction = await app.run(dspex.ReAct("question -> answer", [search]), question="Who?")

    assert prediction.answer == "Ada"
    assert repairs == ["shortened"]
    results = [part for message in lm.requests[3].request.messages[2:] for part in message.content]
    assert [each.content for each in results if isinstance(each, ToolResult)] == [
        "(left out: the conversation had become too long)",
        "pages on b",
    ]


async def test_answer_without_calls_is_the_last_turn() -> None:
    """The model's words are its last thought."""
    async with running("I know it already.") as (app, lm):
        prediction = await app.run(dspex.ReAct("question -> answer", [len_of]), question="Who?")

    trajectory = dspex.details(prediction).trajectory
    assert trajectory is not None
    assert (trajectory[0].thought, trajectory.finished) == ("I know it already.", True)
    assert "I know it already." in lm.requests[-1].prompt


def len_of(text: str) -> int:
    """Count letters."""
    return len(text)


async def test_too_many_calls_at_once_are_not_made_and_told() -> None:
    """A model cannot start any number of steps by one answer."""
    async with running([ask("len_of", text="x" * n) for n in range(70)]) as (app, _):
        prediction = await app.run(dspex.ReAct("question -> answer", [len_of]), question="Who?")

    observed = seen(prediction)
    assert observed[:64] == [str(n) for n in range(64)]
    assert set(observed[64:]) == {"Error: not called; ask for at most 64 calls at once"}


async def test_what_an_agent_did_is_a_demonstration_for_both_protocols() -> None:
    """Recorded natively, saved as text, loaded, and shown to models of either kind."""

    agent = dspex.ReAct("question -> answer", [len_of])
    async with running(ask("len_of", text="abc")) as (app, _):
        runner = app.running_tree().runner
        outcome = await runner.run(agent, {"question": "Who?"}, RunOptions(trace=True))
    assert isinstance(outcome, dspex.Ok)
    steps = [each for each in outcome.trace if each.path == "react"]
    assert [each.outputs["next_tool_name"] for each in steps] == ["len_of", "finish"]
    taught = agent.with_demos({"react": [{**each.inputs, **each.outputs} for each in steps]})
    loaded = agent.load_state(taught.dump_state())

    for able in (True, False):
        answers: list[Any] = (
            [*DONE] if able else [{"next_thought": "t", "next_tool_name": "finish", "next_tool_args": {}}]
        )
        lm = ScriptedLM({"react": answers, "extract": [ANSWER]}, capabilities={"tools": able})
        async with dspex.App(lm=lm) as app:
            assert (await app.run(loaded, question="And now?")).answer == "Ada"
        prompt = "".join(message.text for message in lm.requests[0].request.messages)
        assert 'Call: len_of {"text": "abc"}\nObservation: 3' in prompt


class Talk(dspex.Signature):
    """Answer."""

    history: dspex.History = dspex.InputField(default_factory=dspex.History)
    question: str = dspex.InputField()
    answer: str = dspex.OutputField()


@pytest.mark.parametrize("able", [True, False], ids=["native", "text"])
async def test_earlier_answers_are_told_to_whoever_chooses_too(able: bool) -> None:
    """The answer is not a field of the predictor that chooses; it is a turn of the conversation all the same."""
    done: Any = DONE[0] if able else {"next_thought": "t", "next_tool_name": "finish", "next_tool_args": {}}
    lm = ScriptedLM({"react": [done], "extract": [ANSWER]}, capabilities={"tools": able})
    async with dspex.App(lm=lm) as app:
        agent = dspex.ReAct(Talk, [len_of])
        await app.run(agent, question="And now?", history=dspex.History([{"question": "Who?", "answer": "Ada"}]))
        with pytest.raises(dspex.MissingInput, match="turn 0 has none of question, answer; it has qestion"):
            await app.run(agent, question="And now?", history=dspex.History([{"qestion": "Who?"}]))

    told = [[(turn.role, turn.text) for turn in each.request.messages[1:3]] for each in lm.requests]
    assert told == [
        [("user", "question: Who?"), ("assistant", "Ada")],
        [("user", "question: Who?"), ("assistant", "answer: Ada")],  # behind its thoughts
    ]


async def test_programs_call_tools_themselves() -> None:
    """A ToolCalls output and ``call_tools``: the same steps, without an agent around them."""

    class Own(dspex.Module):
        def __init__(self) -> None:
            types = {"Tool": dspex.Tool, "ToolCalls": dspex.ToolCalls}
            spec = "question, tools: list[Tool] -> calls: ToolCalls"
            self.choose = dspex.Predict(dspex.Signature.from_string(spec, types=types))

        async def forward(self, question: str) -> list[str]:
            tools = [dspex.tool(len_of)]
            chosen = await self.choose(question=question, tools=tools)
            return [each.text for each in await dspex.call_tools(tools, chosen.calls)]

    lm = ScriptedLM([[ask("len_of", text="abc"), ask("nix"), ask("len_of", text="")]])
    async with dspex.App(lm=lm) as app:
        observed = await app.run(Own(), question="Who?")

    assert observed == ["3", "Error: LookupError: there is no tool 'nix'; there are len_of", "0"]
    with pytest.raises(dspex.NotInRequest):
        await dspex.call_tools([len_of], [])
