"""The same work told by us and by OpenTelemetry's own helper: names, attributes and metrics are the same."""

from __future__ import annotations

import json
import pkgutil
from collections.abc import Mapping
from importlib import import_module
from typing import Any

import httpx
import pytest

import dspex
from dspex.app.otel import names
from dspex.testing import FixedRetriever, ScriptedLM
from tests.support.missing import missing
from tests.support.programs import Ask

try:
    from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
    from opentelemetry.semconv._incubating.metrics import gen_ai_metrics
    from opentelemetry.semconv.schemas import Schemas
    from opentelemetry.util import genai
    from opentelemetry.util.genai import types
    from opentelemetry.util.genai.handler import TelemetryHandler

    from tests.support.traces import Seen
except ImportError:
    missing("opentelemetry-util-genai")

HOST = {"server_address": "gateway.test", "server_port": 8080}
USAGE = {
    "prompt_tokens": 20,
    "completion_tokens": 7,
    "prompt_tokens_details": {"cached_tokens": 12},
    "completion_tokens_details": {"reasoning_tokens": 3},
}
TEXT = "yes"
CHOICE = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": TEXT}}
ANSWER = {"id": "chatcmpl-1", "model": "m-2", "choices": [CHOICE, {**CHOICE, "index": 1}], "usage": USAGE}
PIECES: list[dict[str, Any]] = [
    {"choices": [{"index": 0, "delta": {"role": "assistant", "content": TEXT}}]},
    {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": USAGE},
]
VECTORS = {"model": "m-2", "data": [{"index": 0, "embedding": [0.0, 0.5, 1.0]}], "usage": {"prompt_tokens": 5}}
ONCE = dspex.ClientLimits(retry=dspex.RetryPolicy(max_attempts=1))


class Gateway(httpx.AsyncBaseTransport):
    """A provider that answers everything with one answer."""

    def __init__(self, content: object, status: int = 200, kind: str = "application/json") -> None:
        text = content if isinstance(content, str) else json.dumps(content)
        self.answer = {"status_code": status, "headers": {"content-type": kind}, "text": text}

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return httpx.Response(**self.answer)  # type: ignore[arg-type]  # the arguments above


class Both:
    """Our tracer and the helper's, each with its own memory."""

    def __init__(self) -> None:
        self.ours = Seen()
        self.theirs = Seen()
        self.handler = TelemetryHandler(self.theirs.tracers, self.theirs.meters, self.theirs.loggers)

    def app(self, content: object, status: int = 200, kind: str = "application/json", **more: Any) -> dspex.App:
        lm = dspex.LM("openai/m", api_base="http://gateway.test:8080/v1", api_key="k", capabilities={"many": True})
        gateway = Gateway(content, status, kind)
        return dspex.App(lm, transport=gateway, cache=None, limits=ONCE, otel=self.ours.options(**more))

    def same(self, beginning: str) -> None:
        """Assert that the one span of this name is the same, and so are the metrics that the helper knows."""
        ours, theirs = self.ours.one(beginning), self.theirs.one(beginning)
        assert (ours.name, ours.kind, ours.status.status_code) == (theirs.name, theirs.kind, theirs.status.status_code)
        assert theirs_of(ours.attributes) == dict(theirs.attributes or {})
        known = [each for each in self.ours.metrics() if each.name.startswith("gen_ai.")]
        mine = {metric.name: (metric.unit, series_of(metric)) for metric in known}
        wanted = {metric.name: (metric.unit, series_of(metric)) for metric in self.theirs.metrics()}
        assert wanted, "the helper measures something"
        assert {name: mine.get(name) for name in wanted} == wanted


def series_of(metric: Any) -> list[str]:
    """Return the labels and the boundaries of a histogram's series."""
    return sorted(repr((sorted(point.attributes.items()), point.explicit_bounds)) for point in metric.data.data_points)


def theirs_of(attributes: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the attributes that are of the conventions."""
    own = ("dspex.", names.SPAN_KIND)
    return {name: value for name, value in (attributes or {}).items() if not name.startswith(own)}


@pytest.fixture
def both() -> Both:
    return Both()


def asked(both: Both, **more: Any) -> Any:
    found = both.handler.inference("openai", request_model="m", **HOST)  # type: ignore[arg-type]  # the address
    found.output_type = "text"
    for name, value in more.items():
        assert hasattr(found, name), name
        setattr(found, name, value)
    return found


def answered(call: Any) -> None:
    call.response_id, call.response_model_name, call.finish_reasons = "chatcmpl-1", "m-2", ["stop"]
    call.input_tokens, call.output_tokens, call.cache_read_input_tokens = 20, 7, 12
    call.thinking_tokens = 3


async def test_a_call_with_every_parameter(both: Both) -> None:
    config: Any = {
        "temperature": 0.5,
        "top_p": 0.9,
        "max_tokens": 100,
        "stop": ["END"],
        "seed": 7,
        "n": 2,
        "reasoning": "low",
        "extra_body": {"top_k": 40, "frequency_penalty": 0.25, "presence_penalty": 0.75},
    }
    async with both.app(ANSWER) as app:
        await app.run(dspex.Predict("question -> answer", **config), question="q")

    call = asked(both, temperature=0.5, top_p=0.9, top_k=40, max_tokens=100, stop_sequences=["END"], seed=7)
    call.frequency_penalty, call.presence_penalty, call.request_choice_count = 0.25, 0.75, 2
    call.reasoning_level = "low"
    answered(call)
    call.finish_reasons = ["stop", "stop"]
    call.stop()
    both.same("chat ")


async def test_a_stream(both: Both) -> None:
    events = [{"id": "chatcmpl-1", "model": "m-2", **each} for each in PIECES]
    text = "".join(f"data: {json.dumps(each)}\n\n" for each in events) + "data: [DONE]\n\n"
    async with both.app(text, kind="text/event-stream") as app, app.stream(Ask(), question="q") as stream:
        await stream.result()

    call = asked(both)
    call.record_stream_chunk()
    answered(call)
    call.stop()
    ours, theirs = both.ours.one("chat "), both.theirs.one("chat ")
    waited = [(each.attributes or {})[names.FIRST_CHUNK_AFTER] for each in (ours, theirs)]
    assert all(isinstance(each, float) and each >= 0 for each in waited)
    timed = {names.FIRST_CHUNK_AFTER: 0.0}
    assert theirs_of(ours.attributes) | timed == dict(theirs.attributes or {}) | timed
    assert names.FIRST_CHUNK in both.theirs.points()
    mine, wanted = (each.points()[names.FIRST_CHUNK][0][0] for each in (both.ours, both.theirs))
    assert {**mine, names.RESPONSE_MODEL: "m-2"} == {**wanted, names.RESPONSE_MODEL: "m-2"}  # it may come later


async def test_a_failure(both: Both) -> None:
    async with both.app({"error": {"message": "down"}}, 500) as app:
        await app.start(dspex.Predict("question -> answer"), question="q").outcome()

    asked(both).fail(types.Error(message="down", type="ServerFailed"))
    both.same("chat ")


async def test_embeddings(both: Both) -> None:
    async with both.app(VECTORS) as app:
        await app.run(dspex.Embed("default"), texts=["one"])

    call = both.handler.embedding("openai", request_model="m", **HOST)  # type: ignore[arg-type]  # the address
    call.response_model_name, call.input_tokens, call.dimension_count = "m-2", 5, 3
    call.stop()
    both.same("embeddings ")


class Finder(dspex.Module):
    """Searches."""

    def __init__(self) -> None:
        self.retrieve = dspex.Retrieve(k=2)

    async def forward(self, question: str) -> int:
        return len(await self.retrieve(question))


async def test_a_retrieval_and_the_program_around_it(both: Both) -> None:
    retriever = FixedRetriever(["first", "second"])
    async with dspex.App(retriever=retriever, otel=both.ours.options()) as app:
        await app.run(Finder(), question="q")

    with both.handler.workflow("Finder"), both.handler.retrieval(data_source_id="default") as search:
        search.top_k = 2
    both.same("retrieval ")
    both.same("invoke_workflow ")


async def test_an_agent_and_its_tools(both: Both) -> None:
    def look(word: str) -> str:
        """Look something up."""
        if word == "bad":
            raise LookupError("nothing there")
        return word

    turns = [[{"tool": "look", "arguments": {"word": "good"}}], [{"tool": "finish", "arguments": {}}]]
    lm = ScriptedLM({"react": turns, "extract": [{"reasoning": "seen", "answer": "yes"}]})
    async with dspex.App(lm, cache=None, otel=both.ours.options()) as app:
        await app.run(dspex.ReAct("question -> answer", [look]), question="q")

    (ours,) = both.ours.named("execute_tool look")
    with both.handler.invoke_local_agent(agent_name="ReAct"):
        tool = both.handler.tool("look", tool_type="function", agent_name="ReAct")
        tool.tool_call_id = str((ours.attributes or {})[names.TOOL_CALL_ID])
        tool.tool_description = "Look something up."
        tool.stop()
    mine, theirs = (each.one("execute_tool look") for each in (both.ours, both.theirs))
    assert (mine.kind, theirs_of(mine.attributes)) == (theirs.kind, dict(theirs.attributes or {}))
    mine, theirs = (each.one("invoke_agent ReAct") for each in (both.ours, both.theirs))
    assert (mine.kind, theirs_of(mine.attributes)) == (theirs.kind, dict(theirs.attributes or {}))
    for name in (names.TOOL_DURATION, names.AGENT_DURATION):
        (ours_of, one), (theirs_of_it, other) = both.ours.points()[name][0], both.theirs.points()[name][0]
        assert ours_of == {
            key: value for key, value in theirs_of_it.items() if key != names.AGENT_NAME or "agent" in name
        }
        assert one.explicit_bounds == other.explicit_bounds


async def test_words_where_they_are_allowed(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """Messages have one form, whoever writes them."""
    monkeypatch.setenv(names.CONTENT, "SPAN_ONLY")
    theirs = TelemetryHandler(both.theirs.tracers, both.theirs.meters, both.theirs.loggers)
    async with both.app({**ANSWER, "choices": [CHOICE]}, capture=True) as app:
        await app.run(dspex.Predict("question -> answer"), question="q")

    ours = dict(both.ours.one("chat ").attributes or {})
    call = theirs.inference("openai", request_model="m")
    system, user = (each["parts"][0]["content"] for each in json.loads(str(ours[names.INPUT_MESSAGES])))
    for role, text in (("system", system), ("user", user)):
        call.input_messages.append(types.InputMessage(role, [types.TextPart(text)]))
    call.output_messages.append(types.OutputMessage("assistant", [types.TextPart(TEXT)], "stop"))
    call.stop()
    told = dict(both.theirs.one("chat ").attributes or {})
    for name in (names.INPUT_MESSAGES, names.OUTPUT_MESSAGES):
        wanted = [
            {key: value for key, value in each.items() if value is not None} for each in json.loads(str(told[name]))
        ]
        assert json.loads(str(ours[name])) == wanted


def test_names_are_those_of_the_conventions() -> None:
    """A release of theirs that renames one turns this red, and no user's page."""
    theirs = {value for name, value in vars(gen_ai_attributes).items() if name.startswith("GEN_AI_")}
    theirs |= {value for name, value in vars(gen_ai_metrics).items() if name.startswith("GEN_AI_")}
    for each in pkgutil.iter_modules(genai.__path__):  # it is ahead of the conventions that are released
        module = vars(import_module(f"{genai.__name__}.{each.name}"))
        theirs |= {value for value in module.values() if isinstance(value, str) and value.startswith("gen_ai.")}
    ours = {value for value in vars(names).values() if isinstance(value, str) and value.startswith("gen_ai.")}

    assert sorted(ours - theirs - {names.EVALUATION}) == []
    providers = {each.value for each in gen_ai_attributes.GenAiProviderNameValues}
    assert sorted(set(names.PROVIDERS.values()) - providers) == []
    assert names.SCHEMA in {each.value for each in Schemas}
