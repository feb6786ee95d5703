"""Events of modules, predictors, adapters, tools and LM calls: a tree of spans in the caller's context."""

from __future__ import annotations

import contextvars
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest

import dspex
from dspex.simulator import Fault, FaultKind, FaultPlan, Simulator
from dspex.testing import ScriptedLM
from tests.support.programs import Ask

TRACE = contextvars.ContextVar("trace", default="nobody")
KINDS = ("request", "module", "predictor", "adapter.format", "adapter.parse", "tool", "lm.call")


class Outer(dspex.Module):
    """A module in a module."""

    def __init__(self) -> None:
        self.ask = Ask()

    async def forward(self, question: str) -> str:
        return str((await self.ask(question)).answer)


def search(query: str) -> str:
    """Search."""
    if query == "bad":
        raise LookupError("nothing there")
    return f"found {query}"


class Heard:
    """Every event of a span, and in whose context it was told."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, float], Mapping[str, Any]]] = []
        self.traces: list[str] = []

    def __call__(self, name: str, measurements: Mapping[str, float], metadata: Mapping[str, Any]) -> None:
        if "span" in metadata:
            self.events.append((name.removeprefix("dspex."), measurements, metadata))
            self.traces.append(TRACE.get())

    def named(self, name: str) -> list[Mapping[str, Any]]:
        return [{**measurements, **metadata} for each, measurements, metadata in self.events if each == name]

    def path(self, event: Mapping[str, Any]) -> list[str]:
        """The kinds of spans from the request to an event's."""
        begun = {data["span"]: (name, data) for name, _, data in self.events if name.endswith(".start")}
        found: list[str] = []
        at: str | None = event["span"]
        while at is not None:
            name, data = begun[at]
            found.insert(0, name.removesuffix(".start"))
            at = data["parent"]
        return found


async def heard(program: Any, lm: ScriptedLM, *, capture: bool = False, fails: bool = False, **inputs: Any) -> Heard:
    told = Heard()
    app = dspex.App(lm, cache=None, prices={"scripted/*": dspex.Price(input="1", output="2")})
    app.telemetry.attach("", told, capture=capture)
    async with app:
        TRACE.set("caller")
        if fails:
            with pytest.raises(dspex.DspexError):
                await app.run(program, **inputs)
        else:
            await app.run(program, **inputs)
    return told


async def test_spans_are_a_tree_in_the_callers_context() -> None:
    """From the request down to the LM call; each start has its end, inside out."""
    told = await heard(Outer(), ScriptedLM([{"answer": "a"}], model="scripted/m"), question="q")

    names = [name for name, _, _ in told.events]
    assert names == [
        *("request.start", "module.start", "predictor.start", "adapter.format.start", "adapter.format.stop"),
        *("lm.call.start", "lm.call.stop", "adapter.parse.start", "adapter.parse.stop"),
        *("predictor.stop", "module.stop", "request.stop"),
    ]
    (call,) = told.named("lm.call.start")
    assert told.path(call) == ["request", "module", "predictor", "lm.call"]
    (parse,) = told.named("adapter.parse.stop")
    assert told.path(parse) == ["request", "module", "predictor", "adapter.parse"]
    assert set(told.traces) == {"caller"}
    assert not any("inputs" in data or "outputs" in data for _, _, data in told.events)


async def test_ends_tell_tokens_and_cost() -> None:
    """Of the predictor and of the LM call; cost that is unknown is not told, and is not zero."""
    lm = ScriptedLM([{"answer": "a"}], model="scripted/m")
    told = await heard(Ask(), lm, question="q")
    for kind in ("predictor.stop", "lm.call.stop"):
        (end,) = told.named(kind)
        assert end["input_tokens"] > 0
        assert end["output_tokens"] > 0
        assert end["cost"] == float(Decimal(end["input_tokens"] + 2 * end["output_tokens"]) / 1_000_000)
        assert end["duration"] >= 0
        assert end["lm"] == "scripted/m"

    told = await heard(Ask(), ScriptedLM([{"answer": "a"}], model="other/m"), question="q")
    assert "cost" not in told.named("predictor.stop")[0]


async def test_inputs_and_outputs_come_on_request() -> None:
    """To the handler that asked, and to no other beside it."""
    plain, full = Heard(), Heard()
    app = dspex.App(ScriptedLM([{"answer": "a"}]), cache=None)
    app.telemetry.attach("", plain)
    detach = app.telemetry.attach("dspex.", full, capture=True)
    async with app:
        await app.run(Outer(), question="q")
    (start,), (end,) = full.named("predictor.start"), full.named("predictor.stop")
    assert start["inputs"] == {"question": "q"}
    assert end["outputs"].answer == "a"
    assert full.named("module.start")[0]["inputs"] == {"question": "q"}
    assert full.named("request.start")[0]["inputs"] == {"question": "q"}
    assert full.named("request.stop")[0]["outputs"] == "a"
    assert full.named("adapter.parse.stop")[0]["outputs"] == {"answer": "a"}
    assert [each.role for each in full.named("lm.call.start")[0]["inputs"].messages] == ["system", "user"]
    assert not any("inputs" in data or "outputs" in data for _, _, data in plain.events)
    detach()
    assert (app.telemetry.active, app.telemetry.captures) == (True, False)


@pytest.mark.parametrize("native", [True, False])
async def test_an_agents_run_tells_of_its_tools(native: bool) -> None:
    """Each with its arguments, its result, or its failure."""
    if native:
        react: list[Any] = [{"tool": "search", "arguments": {"query": each}} for each in ("x", "bad")]
        react.append({"tool": "finish", "arguments": {}})
    else:
        steps = [("search", {"query": "x"}), ("search", {"query": "bad"}), ("finish", {})]
        react = [{"next_thought": "t", "next_tool_name": name, "next_tool_args": given} for name, given in steps]
    script = {"react": react, "extract": [{"reasoning": "r", "answer": "a"}]}
    lm = ScriptedLM(script, capabilities={"tools": native})
    told = await heard(dspex.ReAct("question -> answer", tools=[search]), lm, capture=True, question="q")

    starts, ends, failures = told.named("tool.start"), told.named("tool.stop"), told.named("tool.exception")
    given = [(each["tool"], each["inputs"]) for each in starts]
    assert given == [("search", {"query": "x"}), ("search", {"query": "bad"})]
    assert [each["outputs"] for each in ends] == ["found x"]
    assert [type(each["error"]) for each in failures] == [LookupError]
    assert told.path(starts[0]) == ["request", "tool"]
    assert [each["predictor"] for each in told.named("predictor.stop")] == ["react"] * 3 + ["extract.predict"]


async def test_failures_end_their_spans() -> None:
    """Every start has an end, and it says why."""
    told = await heard(Outer(), ScriptedLM([""] * 9), fails=True, question="q")
    kinds = [kind for kind in KINDS if told.named(f"{kind}.start")]
    for kind in kinds:
        ended = len(told.named(f"{kind}.stop")) + len(told.named(f"{kind}.exception"))
        assert ended == len(told.named(f"{kind}.start"))
    assert [type(each["error"]) for each in told.named("predictor.exception")] == [dspex.ResponseUnparsable]
    assert told.named("request.exception")[0]["error"] is told.named("module.exception")[0]["error"]


async def test_a_variable_set_at_the_start_is_there_until_the_end() -> None:
    """As tracers need it: what a handler sets when a span begins, everything inside and its end see."""
    seen: list[tuple[str, str]] = []

    def handler(name: str, _measurements: object, metadata: Mapping[str, Any]) -> None:
        if name == "dspex.request.start":
            TRACE.set("of the request")
        if name.startswith(("dspex.request", "dspex.predictor", "dspex.lm.call")):
            seen.append((name, TRACE.get()))

    app = dspex.App(ScriptedLM([{"answer": "a"}] * 2), cache=None)
    app.telemetry.attach("", handler)
    async with app:
        TRACE.set("caller")
        await app.run(Ask(), question="q")
        assert TRACE.get() == "caller"
        async with app.map(Ask(), [{"question": "q"}]) as rows:
            assert [type(each) async for each in rows] == [dspex.Ok]
    assert {trace for _, trace in seen} == {"of the request"}
    assert [name for name, _ in seen].count("dspex.request.stop") == 2


async def test_nobody_listening_costs_nothing() -> None:
    """No span is made, and nothing is gathered."""
    app = dspex.App(ScriptedLM([{"answer": "a"}]), cache=None)
    async with app:
        await app.run(Outer(), question="q")
        assert next(app.telemetry._numbers) == 1


async def test_every_event_of_a_request_has_the_span_around_it_and_the_models_name() -> None:
    """Also those of caches, attempts and retries, which are no spans; the request sums tokens and cost."""
    heard: list[tuple[str, Mapping[str, float], Mapping[str, Any]]] = []
    async with Simulator(
        faults=FaultPlan(script={"/v1/chat/completions": (Fault(kind=FaultKind.SERVER_ERROR),)})
    ) as simulator:
        record = dspex.LM("openai/rules-1", api_base=simulator.url, api_key="x")
        prices = {"openai/rules-1": dspex.Price(input=1, output=1)}
        async with dspex.App(record, lms={"fast": record}, prices=prices) as app:
            app.telemetry.attach("dspex.", lambda *event: heard.append(event))
            await app.run(Outer().with_lm("fast"), question="q")
            await app.run(Outer().with_lm("fast"), question="q")

    spans = {data["span"] for _, _, data in heard if "span" in data}
    within = ("dspex.lm.attempt", "dspex.lm.retry", "dspex.cache.")
    inner = [(name, data) for name, _, data in heard if name.startswith(within)]
    assert {name for name, _ in inner} >= {"dspex.lm.attempt.stop", "dspex.lm.attempt.exception", "dspex.lm.retry"}
    assert {name for name, _ in inner} >= {"dspex.cache.miss", "dspex.cache.hit"}
    assert all(data["parent"] in spans for _, data in inner)
    assert {data["model"] for name, data in inner if name.startswith("dspex.lm.")} == {"openai/rules-1"}
    calls = [data for name, _, data in heard if name == "dspex.lm.call.stop"]
    assert [(each["asked"], each["lm"], each["cached"]) for each in calls] == [
        ("fast", "openai/rules-1", None),
        ("fast", "openai/rules-1", "memory"),
    ]
    first, second = [measured for name, measured, _ in heard if name == "dspex.request.stop"]
    (call, _) = [measured for name, measured, _ in heard if name == "dspex.lm.call.stop"]
    assert first["input_tokens"] == call["input_tokens"] > 0
    assert first["cost"] == call["cost"] > 0
    assert (first["cached_calls"], second["cached_calls"], second["cost"]) == (0, 1, 0)
    formats = [data for name, _, data in heard if name == "dspex.adapter.parse.stop"]
    assert {data["predictor"] for data in formats} == {"ask.answer"}
