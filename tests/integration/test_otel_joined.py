"""One trace from the caller of a service to its log lines and its scores."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator, MutableMapping
from typing import Any

import httpx
import pytest
import structlog

import dspex
from dspex.app.otel import names
from dspex.app.serving.shape import ServedProgram
from dspex.testing import ScriptedLM
from tests.support.missing import missing
from tests.support.programs import Ask

try:
    from fastapi import FastAPI
    from opentelemetry import trace

    from dspex.app.serving.web import Service
    from tests.support.traces import Seen
except ImportError:
    missing("opentelemetry-sdk, starlette or fastapi")

CALLER = "4bf92f3577b34da6a3ce929d0e0e4736"
HEADERS = {"traceparent": f"00-{CALLER}-00f067aa0ba902b7-01"}


@pytest.fixture
def seen() -> Seen:
    return Seen()


def client(web: object) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(web), base_url="http://service.test")  # type: ignore[arg-type]


@pytest.mark.parametrize("path", ["/run", "/stream"])
async def test_a_served_program_goes_on_with_the_trace_of_its_caller(seen: Seen, path: str) -> None:
    """Whole answers and streams; a caller without headers begins a trace."""
    app = dspex.App(ScriptedLM([{"answer": "a"}, {"answer": "b"}]), cache=None, otel=seen.options())
    service = Service(app, ServedProgram(Ask(), "Ask"), version="1", max_body=1_000)
    async with app, client(service.web_app()) as http:
        for headers in (HEADERS, {}):
            assert (await http.post(path, json={"question": "q"}, headers=headers)).status_code == 200

    first, second = seen.named("invoke_workflow Ask")
    assert first.parent is not None
    assert (f"{first.context.trace_id:032x}", f"{first.parent.span_id:016x}") == (CALLER, "00f067aa0ba902b7")
    assert second.parent is None
    assert first.context.trace_id != second.context.trace_id


async def test_a_service_of_the_users_own_does_so_with_the_middleware(seen: Seen) -> None:
    """A span that the framework has made already stays the parent."""
    app = dspex.App(ScriptedLM([{"answer": "a"}, {"answer": "b"}]), cache=None, otel=seen.options())
    service = FastAPI()
    service.add_middleware(dspex.OpenTelemetry.middleware)

    @service.get("/ask")
    async def ask() -> str:
        return str((await app.run(Ask(), question="q")).answer)

    async with app, client(service) as http:
        assert (await http.get("/ask", headers=HEADERS)).json() == "a"
        with seen.tracers.get_tracer("framework").start_as_current_span("GET /ask"):
            assert (await http.get("/ask", headers=HEADERS)).json() == "b"

    first, second = seen.named("invoke_workflow Ask")
    assert f"{first.context.trace_id:032x}" == CALLER
    assert seen.path(second)[0] == "GET /ask"
    assert trace.get_current_span() is trace.INVALID_SPAN


@pytest.fixture
def log() -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """A logger of the standard library whose lines name their trace."""
    text = io.StringIO()
    handler = logging.StreamHandler(text)
    handler.setFormatter(logging.Formatter("%(message)s trace=%(trace_id)s span=%(span_id)s"))
    handler.addFilter(dspex.OpenTelemetry.log_ids())
    logger = logging.getLogger("a-program")
    logger.addHandler(handler)
    yield logger, text
    logger.removeHandler(handler)


async def test_lines_of_logs_name_their_trace(seen: Seen, log: tuple[logging.Logger, io.StringIO]) -> None:
    """The standard library's and structlog's, in a module, in a tool that blocks, and outside."""
    logger, text = log
    structured: list[MutableMapping[str, Any]] = []

    def keep(_: object, __: str, event: MutableMapping[str, Any]) -> str:
        structured.append(event)
        raise structlog.DropEvent

    words = structlog.wrap_logger(None, processors=[dspex.OpenTelemetry.log_ids(), keep])

    def look(word: str) -> str:
        """Look."""
        logger.warning("in the tool")
        words.info("in the tool", span_id="mine")
        return word

    turns = [[{"tool": "look", "arguments": {"word": "w"}}], [{"tool": "finish", "arguments": {}}]]
    lm = ScriptedLM({"react": turns, "extract": [{"reasoning": "seen", "answer": "yes"}]})
    async with dspex.App(lm, cache=None, otel=seen.options()) as app:
        await app.run(dspex.ReAct("question -> answer", [look]), question="q")
    logger.warning("outside")
    words.info("outside")

    tool = seen.one("execute_tool look").context
    inside, outside = text.getvalue().splitlines()
    assert inside == f"in the tool trace={tool.trace_id:032x} span={tool.span_id:016x}"
    assert outside == "outside trace= span="
    assert structured == [
        {"event": "in the tool", "span_id": "mine", "trace_id": f"{tool.trace_id:032x}"},
        {"event": "outside"},
    ]


@pytest.mark.parametrize("told", [True, False])
async def test_scores_are_events_in_the_trace_of_what_was_judged(
    seen: Seen, monkeypatch: pytest.MonkeyPatch, told: bool
) -> None:
    """With the metric's name; its words where words are allowed; a row that failed has an error and no score."""
    if told:
        monkeypatch.setenv(names.CONTENT, "true")

    def close_enough(example: dspex.Example, prediction: dspex.Prediction) -> dspex.Score:
        return dspex.Score(0.5 if prediction.answer == "a" else 1.0, f"it said {prediction.answer}")

    rows = [dspex.Example(question=f"q{number}") for number in range(3)]
    lm = ScriptedLM([{"answer": "a"}, {"answer": "b"}, dspex.ContentRefused("no")])
    async with dspex.App(lm, cache=None, otel=seen.options(capture=True)) as app:
        program = dspex.Predict("question -> answer")
        report = await app.evaluate(program, rows, close_enough, max_failed=1.0, max_concurrency=1)

    assert report.score == 0.75
    records = [each.log_record for each in seen.logs.get_finished_logs()]
    assert {each.event_name for each in records} == {"gen_ai.evaluation.result"}
    assert [dict(each.attributes or {}).get(names.EVALUATION_SCORE) for each in records] == [0.5, 1.0, None]
    assert {dict(each.attributes or {})[names.EVALUATION_NAME] for each in records} == {"close_enough"}
    assert dict(records[2].attributes or {})[names.ERROR_TYPE] == "ContentRefused"
    words = dict(records[0].attributes or {}).get(names.EVALUATION_EXPLANATION)
    assert words == ("it said a" if told else None)
    judged = [(each.context.trace_id, each.context.span_id) for each in seen.named("invoke_workflow Predict")]
    assert [(each.trace_id, each.span_id) for each in records] == judged


async def test_tools_that_models_make_up_are_one_series(seen: Seen) -> None:
    """Names without end would be series without end."""
    turns = [[{"tool": f"made up {number}", "arguments": {}}] for number in range(3)]
    lm = ScriptedLM(
        {"react": [*turns, [{"tool": "finish", "arguments": {}}]], "extract": [{"reasoning": "r", "answer": "y"}]}
    )
    async with dspex.App(lm, cache=None, otel=seen.options()) as app:
        await app.run(dspex.ReAct("question -> answer", []), question="q")

    ((about, point),) = seen.points()[names.TOOL_DURATION]
    assert (about[names.TOOL_NAME], about[names.ERROR_TYPE], point.count) == ("_OTHER", "LookupError", 3)
    assert len(seen.named("execute_tool made up")) == 3


def test_options_can_be_shown_as_json(seen: Seen) -> None:
    """They hold no secrets, and a repr shows no providers."""
    assert json.dumps(repr(seen.options())) == '"OpenTelemetry(capture=False, propagate=False)"'
