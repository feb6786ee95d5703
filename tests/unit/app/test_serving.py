"""A program as a service: types are checked, problems are typed, nothing leaks, and hanging up stops the work."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

import dspex
from dspex.app.serving.shape import ServedProgram, openapi_of
from dspex.app.serving.web import Service, problem_of
from dspex.errors import AuthFailed, ConfigError, DeadlineExceeded, Overloaded
from dspex.testing import ScriptedLM
from tests.support.programs import until


class Person(dspex.Signature):
    """Find the person."""

    text: str = dspex.InputField(desc="a sentence")
    limit: int = dspex.InputField(default=3)
    name: str = dspex.OutputField()
    ages: list[int] = dspex.OutputField()


class Days:
    """Add days."""

    def __init__(self) -> None:
        self.running = 0

    async def forward(self, start: dt.date, days: int = 1) -> dt.date:
        if days == 13:
            raise ArithmeticError("the password is 13")
        if days == 99:
            self.running += 1
            try:
                await asyncio.get_running_loop().create_future()
            finally:
                self.running -= 1
        return start + dt.timedelta(days)


@asynccontextmanager
async def serving(program: Any, lm: ScriptedLM | None = None, max_body: int = 1_000) -> AsyncIterator[Any]:
    """A client of a service, without a socket."""
    async with dspex.App(lm, cache=None) as app:
        service = Service(app, ServedProgram(program, "Tried"), version="1", max_body=max_body)
        transport = httpx.ASGITransport(service.web_app())
        async with httpx.AsyncClient(transport=transport, base_url="http://tried") as client:
            client.service = service  # type: ignore[attr-defined]  # for the tests
            yield client


async def test_a_program_answers_json_of_its_types() -> None:
    async with serving(Days()) as client:
        found = await client.post("/run", json={"start": "2026-02-28", "days": 2})
        assert (found.status_code, found.json()) == (200, "2026-03-02")
        assert (await client.post("/run", json={"start": "2026-02-28"})).json() == "2026-03-01"


async def test_a_record_is_an_object() -> None:
    async with serving(dspex.Predict(Person), ScriptedLM([{"name": "Ada", "ages": [36]}])) as client:
        found = await client.post("/run", json={"text": "Ada, 36"})
        assert found.json() == {"text": "Ada, 36", "limit": 3, "name": "Ada", "ages": [36]}


@pytest.mark.parametrize(
    ("content", "kind", "status", "word", "told"),
    [
        (b"{", "application/json", 400, "not-json", "EOF"),
        (b"\xff", "application/json", 400, "not-json", ""),
        (b"[1]", "application/json", 422, "wrong-inputs", ""),
        (b"{}", "application/json", 422, "wrong-inputs", "start"),
        (b'{"start": "soon"}', "application/json", 422, "wrong-inputs", "start"),
        (b'{"start": "2026-01-01", "extra": 1}', "application/json", 422, "wrong-inputs", "extra"),
        (b'{"start": "2026-01-01"}', "text/plain", 415, "not-json", ""),
        (b'{"start": "%b"}' % (b"1" * 2_000), "application/json", 413, "too-large", ""),
        (b'{"start": "2026-01-01", "days": 13}', "application/json", 500, "failed", ""),
    ],
)
async def test_a_problem_is_typed_and_leaks_nothing(
    content: bytes, kind: str, status: int, word: str, told: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, "dspex.serve"):
        async with serving(Days()) as client:
            found = await client.post("/run", content=content, headers={"content-type": kind})

    assert (found.status_code, found.json()["type"]) == (status, word)
    assert found.headers["content-type"] == "application/problem+json"
    assert told in found.text
    assert "password" not in found.text
    assert ("Tried failed: ArithmeticError: the password is 13" in caplog.text) is (status == 500)


async def test_a_body_without_a_length_is_read_no_further_than_it_may_be() -> None:
    read = 0

    async def pieces() -> AsyncIterator[bytes]:
        nonlocal read
        for _ in range(100):
            read += 100
            yield b"1" * 100

    async with serving(Days()) as client:
        found = await client.post("/run", content=pieces(), headers={"content-type": "application/json"})

    assert found.status_code == 413
    assert read <= 1_200


async def test_other_paths_and_methods_are_problems_too() -> None:
    async with serving(Days()) as client:
        assert (await client.get("/nothing")).json()["type"] == "not-found"
        wrong = await client.get("/run")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


async def test_a_stream_is_events() -> None:
    async with (
        serving(dspex.Predict(Person), ScriptedLM([{"name": "Ada", "ages": [36]}])) as client,
        client.stream("POST", "/stream", json={"text": "Ada"}) as answer,
    ):
        events = [each.split("\n") async for each in _blocks(answer)]

    assert answer.headers["content-type"].startswith("text/event-stream")
    deltas = [json.loads(data[6:]) for name, data in events if name == "event: delta"]
    assert "".join(each["text"] for each in deltas if each["field"] == "name").strip() == "Ada"
    assert events[-1][0] == "event: done"
    assert json.loads(events[-1][1][6:])["ages"] == [36]


async def test_an_error_in_a_stream_is_an_event() -> None:
    async with (
        serving(Days()) as client,
        client.stream("POST", "/stream", json={"start": "2026-01-01", "days": 13}) as a,
    ):
        (event,) = [each.split("\n") async for each in _blocks(a)]

    assert event[0] == "event: error"
    assert json.loads(event[1][6:]) == {"type": "failed", "title": "the program failed", "status": 500}


async def _blocks(answer: httpx.Response) -> AsyncIterator[str]:
    text = ""
    async for piece in answer.aiter_text():
        text += piece
    for each in text.strip().split("\n\n"):
        yield each


async def test_hanging_up_stops_the_program() -> None:
    program = Days()
    async with dspex.App(cache=None) as app:
        service = Service(app, ServedProgram(program, "Tried"), version="1", max_body=1_000)
        body = [{"type": "http.request", "body": b'{"start": "2026-01-01", "days": 99}', "more_body": False}]
        gone = asyncio.Event()

        async def receive() -> dict[str, Any]:
            if body:
                return body.pop()
            await gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None: ...

        scope = {
            "type": "http",
            "method": "POST",
            "path": "/run",
            "query_string": b"",
            "headers": [(b"content-type", b"application/json")],
        }
        answering = asyncio.ensure_future(service.web_app()(scope, receive, send))
        await until(lambda: program.running == 1, "the program to run")
        gone.set()
        await answering
        assert program.running == 0
        assert app.health()["running"] == 0


async def test_readiness_goes_off_before_the_end() -> None:
    """And requests that come all the same are answered."""
    async with serving(Days()) as client:
        assert (await client.get("/health/ready")).json() == {"ready": True}
        client.service.draining = True
        assert (await client.get("/health/ready")).status_code == 503
        assert (await client.get("/health/live")).status_code == 200
        assert (await client.get("/health")).json()["draining"] is True
        assert (await client.post("/run", json={"start": "2026-02-28"})).status_code == 200


def test_errors_have_their_status() -> None:
    def status(error: Exception) -> tuple[int, float | None]:
        problem = problem_of(error, "Tried")
        return problem.status, problem.retry_after

    assert status(Overloaded(1, 2, 3.0)) == (503, 3.0)
    assert status(DeadlineExceeded.__new__(DeadlineExceeded)) == (504, None)
    assert status(AuthFailed.__new__(AuthFailed)) == (502, None)


def test_the_document_says_the_types() -> None:
    found: Any = openapi_of(ServedProgram(dspex.Predict(Person), "Person"), "1")

    inputs = found["components"]["schemas"]["Inputs"]
    assert inputs["properties"]["text"] == {"description": "a sentence", "title": "Text", "type": "string"}
    assert (inputs["required"], inputs["additionalProperties"]) == (["text"], False)
    assert found["components"]["schemas"]["Answer"]["properties"]["ages"]["items"] == {"type": "integer"}
    assert found["info"]["description"] == "Find the person."
    text = json.dumps(found)
    for ref in {part.partition('"')[0] for part in text.split('"$ref": "')[1:]}:
        assert ref.removeprefix("#/components/schemas/") in found["components"]["schemas"]


def test_a_type_that_json_has_not_is_refused() -> None:
    class Odd:
        async def forward(self, what: asyncio.AbstractEventLoop) -> None: ...

    with pytest.raises(ConfigError, match="cannot come as JSON"):
        ServedProgram(Odd(), "Odd")
