"""Spans and metrics of OpenTelemetry: what a tracing tool is given, read back from the SDK's own exporter."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.app.otel import names
from dspex.app.otel.attributes import server_of
from dspex.runtime import KILL
from dspex.simulator import Fault, FaultKind, FaultPlan, Simulator
from dspex.testing import FixedRetriever, ScriptedLM
from tests.integration.test_lm_headers import Gateway
from tests.integration.test_lm_headers import model as at_gateway
from tests.support.missing import missing
from tests.support.programs import Ask

try:
    from opentelemetry import baggage, context, trace
    from opentelemetry.trace import SpanKind, StatusCode

    from tests.support.traces import Seen
except ImportError:
    missing("opentelemetry-sdk")

PRICES = {"*": dspex.Price(input="1", output="2")}
LOOKS: list[tuple[str, dict[str, str]]] = [("look", {"word": "good"}), ("look", {"word": "bad"}), ("finish", {})]
PATH = "/v1/chat/completions"


class Desk(dspex.Module):
    """An agent within a program."""

    def __init__(self, tools: list[Any]) -> None:
        self.agent = dspex.ReAct("question -> answer", tools)

    async def forward(self, question: str) -> str:
        return str((await self.agent(question=question)).answer)


class Finder(dspex.Module):
    """Searches, and turns a text into a vector."""

    def __init__(self, lm: dspex.LM) -> None:
        self.retrieve = dspex.Retrieve(k=2)
        self.embed = dspex.Embed(lm)

    async def forward(self, question: str) -> int:
        passages = await self.retrieve(question)
        await self.embed([question])
        return len(passages)


@pytest.fixture
def seen() -> Seen:
    return Seen()


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


def model(simulator: Simulator) -> dspex.LM:
    return dspex.LM("openai/rules-1", api_base=simulator.url, api_key="sim")


async def test_one_request_is_a_tree_with_tokens_and_cost(seen: Seen, simulator: Simulator) -> None:
    """From the caller's own span down to the call of the provider."""
    tracer = seen.tracers.get_tracer("caller")
    app = dspex.App(model(simulator), cache=None, prices=PRICES, otel=seen.options())
    async with app:
        with tracer.start_as_current_span("handler"):
            prediction = await app.run(Ask(), question="Who waits at the water?")

    call = seen.one("chat ")
    assert seen.path(call) == ["handler", "invoke_workflow Ask", "dspex.predictor answer", "chat rules-1"]
    assert call.kind is SpanKind.CLIENT
    assert call.status.status_code is StatusCode.UNSET
    usage = dspex.details(prediction).usage
    about = dict(call.attributes or {})
    assert about.pop("dspex.cost_usd") == pytest.approx((usage.input_tokens + 2 * usage.output_tokens) / 1e6)
    assert about.pop(names.RESPONSE_ID)
    host, _, port = simulator.url.removeprefix("http://").partition("/")[0].partition(":")
    assert about == {
        names.OPERATION: "chat",
        names.PROVIDER: "openai",
        names.REQUEST_MODEL: "rules-1",
        names.RESPONSE_MODEL: "rules-1",
        names.SERVER: host,
        names.PORT: int(port),
        names.OUTPUT_TYPE: "text",
        names.INPUT_TOKENS: usage.input_tokens,
        names.OUTPUT_TOKENS: usage.output_tokens,
        names.FINISH_REASONS: ("stop",),
        "dspex.asked": "default",
        "dspex.predictor": "answer",
        "dspex.attempts": 1,
    }
    request = dict(seen.one("invoke_workflow").attributes or {})
    assert request[names.WORKFLOW_NAME] == "Ask"
    assert request["dspex.outcome"] == "completed"
    assert request["dspex.input_tokens"] == usage.input_tokens
    assert names.INPUT_TOKENS not in request, "who adds up spans counts each token once"
    assert len({each.context.trace_id for each in seen.spans.get_finished_spans()}) == 1
    assert trace.get_current_span() is trace.INVALID_SPAN, "nothing of ours is left in the caller's context"


async def test_attempts_are_events_of_the_call(seen: Seen, simulator: Simulator) -> None:
    busy = (Fault(kind=FaultKind.RATE_LIMIT, retry_after=0.01),)
    simulator.set_faults(FaultPlan(script={PATH: busy}))
    async with dspex.App(model(simulator), cache=None, otel=seen.options()) as app:
        await app.run(dspex.Predict("question -> answer"), question="q")

    call = seen.one("chat ")
    told = [each.name for each in call.events]
    assert told.index("dspex.lm.attempt.exception") < told.index("dspex.lm.retry")
    assert told.count("dspex.lm.attempt.start") == 2
    (failed,) = [dict(each.attributes or {}) for each in call.events if each.name == "dspex.lm.attempt.exception"]
    assert failed[names.ERROR_TYPE] == "RateLimited"
    assert failed["dspex.number"] == 1
    (answered,) = [dict(each.attributes or {}) for each in call.events if each.name == "dspex.lm.attempt.stop"]
    assert answered["http.response.status_code"] == 200
    assert dict(call.attributes or {})["dspex.attempts"] == 2
    assert call.status.status_code is StatusCode.UNSET, "a call that a second attempt has answered did not fail"


async def test_failures_and_cancellations_differ(seen: Seen, simulator: Simulator) -> None:
    """A failure is an error of its class; who wants it no longer makes no error."""
    once = dspex.ClientLimits(retry=dspex.RetryPolicy(max_attempts=1))
    simulator.set_faults(FaultPlan(script={PATH: (Fault(kind=FaultKind.SERVER_ERROR), Fault(kind=FaultKind.HANG))}))
    async with dspex.App(model(simulator), cache=None, limits=once, otel=seen.options()) as app:
        begun = asyncio.Event()
        failed = app.start(dspex.Predict("question -> answer"), question="secret words")
        await failed.outcome()
        app.telemetry.attach("dspex.lm.attempt.start", lambda *_: begun.set())
        unwanted = app.start(dspex.Predict("question -> answer"), question="q")
        await begun.wait()
        unwanted.cancel()
        with pytest.raises(asyncio.CancelledError):
            await unwanted

    kind = "ServerFailed"
    for name in ("chat ", "dspex.predictor", "invoke_workflow"):
        first, second = seen.named(name)
        assert (first.status.status_code, first.status.description) == (StatusCode.ERROR, kind), name
        assert dict(first.attributes or {})[names.ERROR_TYPE] == kind
        assert second.status.status_code is StatusCode.UNSET
        assert dict(second.attributes or {})["dspex.outcome"] == "cancelled"
    assert dict(seen.named("chat ")[0].attributes or {})[names.REQUEST_MODEL] == "rules-1"


async def test_requests_at_once_do_not_mix(seen: Seen, simulator: Simulator) -> None:
    """Each call lies below its own request, and each request below the caller that started it."""
    tracer = seen.tracers.get_tracer("caller")
    app = dspex.App(model(simulator), cache=None, otel=seen.options())

    async def handle(number: int) -> None:
        with tracer.start_as_current_span(f"handler {number}"):
            await app.run(Ask(), question=f"question {number}")

    async with app:
        await asyncio.gather(*(handle(number) for number in range(20)))

    paths = [seen.path(each) for each in seen.named("chat ")]
    assert sorted(path[0] for path in paths) == sorted(f"handler {number}" for number in range(20))
    assert {len(path) for path in paths} == {4}
    assert len({each.context.trace_id for each in seen.spans.get_finished_spans()}) == 20


async def test_agents_tools_and_code_of_the_users_own(seen: Seen) -> None:
    """The agent is named, its tools are below it, and a span that a tool opens is below the tool's."""
    tracer = seen.tracers.get_tracer("tool")

    async def look(word: str) -> str:
        """Look."""
        with tracer.start_as_current_span("database"):
            if word == "bad":
                raise LookupError("nothing there")
            return word

    turns = [[{"tool": tool, "arguments": given}] for tool, given in LOOKS]
    lm = ScriptedLM({"agent.react": turns, "agent.extract": [{"reasoning": "seen", "answer": "yes"}]})
    async with dspex.App(lm, cache=None, otel=seen.options()) as app:
        await app.run(Desk([look]), question="q")

    first, second = seen.named("execute_tool look")
    assert seen.path(first) == ["invoke_workflow Desk", "invoke_agent ReAct", "execute_tool look"]
    assert first.status.status_code is StatusCode.UNSET
    assert (second.status.status_code, second.status.description) == (StatusCode.ERROR, "LookupError")
    assert seen.path(seen.named("database")[0])[-2:] == ["execute_tool look", "database"]
    assert dict(seen.one("invoke_agent").attributes or {})[names.AGENT_NAME] == "ReAct"


async def test_an_agent_that_is_the_program_is_one_span(seen: Seen) -> None:
    turns = [[{"tool": "finish", "arguments": {}}]]
    lm = ScriptedLM({"react": turns, "extract": [{"reasoning": "seen", "answer": "yes"}]})
    async with dspex.App(lm, cache=None, otel=seen.options()) as app:
        await app.run(dspex.ReAct("question -> answer", []), question="q")

    assert seen.path(seen.named("chat ")[0])[0] == "invoke_agent ReAct"
    assert seen.named("invoke_workflow") == []


async def test_retrieval_and_embeddings(seen: Seen, simulator: Simulator) -> None:
    """Spans of their own: where from, how many, tokens of the texts."""
    retriever = FixedRetriever(["first", "second"])
    async with dspex.App(model(simulator), retriever=retriever, otel=seen.options()) as app:
        await app.run(Finder(model(simulator)), question="q")

    found = seen.one("retrieval default")
    assert seen.path(found) == ["invoke_workflow Finder", "dspex.module Retrieve", "retrieval default"]
    assert dict(found.attributes or {})["dspex.passages"] == 2
    embedded = seen.one("embeddings rules-1")
    about = dict(embedded.attributes or {})
    assert (about[names.OPERATION], about[names.PROVIDER]) == ("embeddings", "openai")
    assert about[names.INPUT_TOKENS]
    assert "dspex.lm.attempt.stop" in [each.name for each in embedded.events]


@pytest.mark.parametrize(
    ("capture", "variable", "told"),
    [(True, "true", True), (True, "SPAN_ONLY", True), (True, "", False), (False, "true", False), (True, "no", False)],
)
async def test_words_need_two_permissions(
    seen: Seen, monkeypatch: pytest.MonkeyPatch, capture: bool, variable: str, told: bool
) -> None:
    """The App's and the environment's; what is told is bounded, and what an exporter can write."""
    monkeypatch.setenv(names.CONTENT, variable)
    lm = ScriptedLM([{"answer": "x" * 50_000}])
    async with dspex.App(lm, cache=None, otel=seen.options(capture=capture)) as app:
        await app.run(dspex.Predict("question -> answer"), question="secret \ud800 words")

    everything = "".join(f"{each.name}{dict(each.attributes or {})}" for each in seen.spans.get_finished_spans())
    assert ("secret" in everything) is told
    about = dict(seen.one("chat ").attributes or {})
    assert (names.INPUT_MESSAGES in about, names.OUTPUT_MESSAGES in about) == (told, told)
    if told:
        asked, answered = (json.loads(str(about[name])) for name in (names.INPUT_MESSAGES, names.OUTPUT_MESSAGES))
        assert [each["role"] for each in asked] == ["system", "user"]
        assert len(answered[0]["parts"][0]["content"]) == 8_000
        assert answered[0]["finish_reason"] == "stop"
        str(about).encode()


async def test_answers_from_the_cache_have_no_tokens(seen: Seen) -> None:
    """They were paid before: whoever adds up tokens is not to count them twice."""
    lm = ScriptedLM([{"answer": "a"}], model="scripted/m")
    async with dspex.App(lm, otel=seen.options()) as app:
        for _ in range(2):
            await app.run(dspex.Predict("question -> answer"), question="q")

    paid, cached = (dict(each.attributes or {}) for each in seen.named("chat "))
    assert paid[names.INPUT_TOKENS]
    assert cached["dspex.cached"] == "memory"
    assert names.INPUT_TOKENS not in cached
    (tokens, _) = seen.points()[names.TOKEN_USAGE]
    assert tokens[1].count == 1


async def test_metrics(seen: Seen, simulator: Simulator) -> None:
    """Duration, tokens and the first token of calls; requests and attempts by outcome."""
    busy = (Fault(kind=FaultKind.RATE_LIMIT, retry_after=0.01),)
    simulator.set_faults(FaultPlan(script={PATH: busy}))
    async with dspex.App(model(simulator), cache=None, prices=PRICES, otel=seen.options()) as app:
        prediction = await app.run(dspex.Predict("question -> answer"), question="q")
        points = seen.points()

    usage = dspex.details(prediction).usage
    about = {names.OPERATION: "chat", names.PROVIDER: "openai", names.REQUEST_MODEL: "rules-1"}
    about |= {names.RESPONSE_MODEL: "rules-1", **server_of(simulator.url.partition("//")[2].partition("/")[0])}
    ((attributes, duration),) = points[names.OPERATION_DURATION]
    assert (attributes, duration.count) == (about, 1)
    tokens = {attributes[names.TOKEN_TYPE]: point.sum for attributes, point in points[names.TOKEN_USAGE]}
    assert tokens == {"input": usage.input_tokens, "output": usage.output_tokens}
    outcomes = {attributes["dspex.outcome"]: point.value for attributes, point in points["dspex.attempts"]}
    assert outcomes == {"RateLimited": 1, "ok": 1}
    ((attributes, requests),) = points["dspex.requests"]
    assert (attributes["dspex.outcome"], requests.value) == ("completed", 1)
    assert [point.value for _, point in points["dspex.requests.running"]] == [0]
    assert points["dspex.cost"][0][1].value > 0


async def test_restarts_and_mailboxes(seen: Seen) -> None:
    """Told from the exporter's thread as well; a closed App, or one that is gone, tells nothing."""
    again = asyncio.Event()
    app = dspex.App(ScriptedLM([{"answer": "a"}]), otel=seen.options())
    app.telemetry.attach("dspex.child.restart", lambda *_: again.set())
    async with app:
        cache = app.runtime.whereis("cache")
        assert cache is not None
        cache.exit(KILL)
        await again.wait()
        points = await asyncio.to_thread(seen.points)

    assert [(about, point.value) for about, point in points["dspex.restarts"]] == [({"dspex.child": "cache"}, 1)]
    assert [point.value >= 0 for _, point in points["dspex.mailboxes"]] == [True]
    assert "dspex.mailboxes" not in seen.points()
    del app
    assert "dspex.requests.running" not in seen.points()


@pytest.mark.parametrize(("asked", "sent"), [(False, False), (True, True), (("openai",), True), (("vllm",), False)])
async def test_providers_are_told_of_the_trace_where_asked(seen: Seen, asked: Any, sent: bool) -> None:
    """The header names the call's own span; the caller's baggage stays here."""
    gateway = Gateway()
    token = context.attach(baggage.set_baggage("user", "mine"))
    options = seen.options(propagate=asked)
    async with dspex.App(at_gateway(), transport=gateway, cache=None, otel=options) as app:
        await app.run(Ask(), question="q")
    context.detach(token)

    call = seen.one("chat ").context
    expected = f"00-{call.trace_id:032x}-{call.span_id:016x}-{call.trace_flags:02x}" if sent else None
    assert gateway.requests[0].headers.get("traceparent") == expected
    assert "baggage" not in gateway.requests[0].headers


async def test_an_evaluation_is_around_its_rows(seen: Seen) -> None:
    lm = ScriptedLM([{"answer": "a"}] * 2)
    async with dspex.App(lm, cache=None, otel=seen.options()) as app:
        rows = [dspex.Example(question=f"q{number}", answer="a") for number in range(2)]
        await app.evaluate(dspex.Predict("question -> answer"), rows, dspex.exact_match())

    assert {tuple(seen.path(each)[:2]) for each in seen.named("chat ")} == {
        ("dspex.evaluation Predict", "invoke_workflow Predict")
    }
    about = dict(seen.one("dspex.evaluation").attributes or {})
    assert (about["dspex.rows"], about["dspex.score"], about["dspex.failed"]) == (2, 1, 0)


async def test_steps_of_a_job_are_around_what_they_ask_for(seen: Seen, tmp_path: Path) -> None:
    """Side by side, they do not mix: each row's request is below the step that runs it."""

    def answer(_: object) -> Mapping[str, str]:
        return {"answer": "a"}

    rows = [dspex.Example(question=f"q{number}", answer="a") for number in range(6)]
    async with dspex.App(ScriptedLM(answer), cache=None, home=tmp_path, otel=seen.options()) as app:
        optimizer = dspex.BootstrapFewShot(dspex.exact_match())
        program = dspex.Predict("question -> answer")
        with seen.tracers.get_tracer("caller").start_as_current_span("handler"):
            job = await app.compile(program, optimizer, trainset=rows[:4], holdset=rows[4:])
        await job.result()

    whole = seen.one("dspex.job BootstrapFewShot")
    assert seen.path(whole) == ["handler", "dspex.job BootstrapFewShot"]
    steps = seen.named("dspex.plan run")
    assert steps
    assert {dict(each.attributes or {})["dspex.job"] for each in steps} == {job.id}
    assert {each.parent for each in steps} == {None}, "a job has thousands of them: each is a trace of its own"
    assert {each.context.trace_id for each in steps} & {whole.context.trace_id} == set()
    assert {link.context.span_id for each in steps for link in each.links} == {whole.context.span_id}
    paths = [seen.path(each) for each in seen.named("invoke_workflow")]
    assert paths
    assert {tuple(each) for each in paths} == {("dspex.plan run", "invoke_workflow Predict")}
    parents = [each.parent.span_id for each in seen.named("invoke_workflow") if each.parent is not None]
    assert len(set(parents)) == len(paths)


async def test_an_app_without_it_tells_nobody() -> None:
    """And gathers nothing."""
    app = dspex.App(ScriptedLM([{"answer": "a"}]))

    assert not app.telemetry.active


@pytest.mark.parametrize("wrong", [{"otel": "yes"}, {"otel": 1}])
def test_wrong_options_are_refused(wrong: Any) -> None:
    with pytest.raises(dspex.ConfigError, match="neither True, False nor an OpenTelemetry"):
        dspex.App(ScriptedLM([]), **wrong)
    with pytest.raises(dspex.ConfigError, match="propagate"):
        dspex.OpenTelemetry(propagate=["openai"])  # type: ignore[arg-type]
    with pytest.raises(dspex.ConfigError, match="capture"):
        dspex.OpenTelemetry(capture="yes")  # type: ignore[arg-type]


WITHOUT = """
import sys
sys.modules["opentelemetry"] = None  # as where it is not installed
import dspex
dspex.App("openai/m")
print([name for name in sys.modules if name.startswith("dspex.app.otel.") and name.endswith("ing")])
try:
    dspex.App("openai/m", otel=True)
except dspex.MissingExtra as error:
    print(error)
"""


async def test_it_is_an_extra() -> None:
    """Who does not use it does not load it; who does not have it is told what to install."""
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", WITHOUT, stdout=asyncio.subprocess.PIPE)
    out, _ = await process.communicate()

    assert out.decode().split("\n")[:2] == [
        "[]",
        "otel=True needs an optional dependency: pip install 'dspex[otel]'",
    ]
