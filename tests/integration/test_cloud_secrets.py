"""The credentials of Bedrock and Vertex are nowhere to be read: neither the lasting ones nor those made from them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import dspex
from tests.integration.test_clouds import SAID, STREAM, WHOLE, app_at, by_path, service_account, token
from tests.integration.test_clouds import environment as environment
from tests.integration.test_secrets import Heard, look_at
from tests.integration.test_secrets import heard as heard
from tests.support import bedrock_answers
from tests.support.programs import Ask, Question
from tests.support.provider_answers import gemini, reply
from tests.support.transports import Answer, hang, say_and_close, serving
from tests.unit.services.test_rsa import pem

CANARIES = (
    "canary-secret-of-aws-4711",
    "canary-session-of-aws-4711",
    "ya29.canary-of-google-4711",
    pem().split("\n")[1],
)


def refused(status: int) -> Answer:
    return reply({"message": "no", "error": {"code": status, "message": "no", "status": "X"}}, status)


CUT = bedrock_answers.stream(SAID)[:-9]
FAILURES: dict[str, Answer] = {
    **{str(status): refused(status) for status in (400, 401, 403, 404, 429, 500, 503)},
    "not JSON": reply(b"<html>", kind="application/json"),
    "an object of something else": reply({"a": 1}),
    "closed at once": say_and_close(b""),
    "closed in the head": say_and_close(b"HTTP/1.1 200 OK\r\ncontent-le"),
    "closed in the body": say_and_close(b"HTTP/1.1 200 OK\r\ncontent-length: 900\r\n\r\n{"),
    "cut stream": reply(CUT, kind="application/vnd.amazon.eventstream"),
    "silent": hang,
}


@pytest.fixture(params=["bedrock", "vertex"])
def app_of(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., dspex.App]:
    """Make an App for a server, with credentials that show wherever they are told."""
    secret, session, *_ = CANARIES
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKID")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    monkeypatch.setenv("AWS_SESSION_TOKEN", session)

    def make(server: Any) -> dspex.App:
        if request.param == "bedrock":
            return app_at(server, "bedrock/m")
        own = dspex.lm.vertex(credentials=service_account(tmp_path, server))
        return app_at(server, "vertex/gemini-2.5-flash", own)

    return make


def check(heard: Heard) -> None:
    assert heard.said
    for each in CANARIES:
        heard.check(each)


async def test_they_are_sent_and_not_told(app_of: Callable[..., dspex.App], heard: Heard) -> None:
    """Answers whole and streamed, with everything that shows itself; the canaries are what was signed and sent with."""
    asyncio.get_running_loop().set_debug(True)
    answers = {
        "/token": token(CANARIES[2]),
        "converse-stream": STREAM,
        "converse": WHOLE,
        "gen": gemini({"text": SAID}),
    }
    async with serving(by_path(**answers)) as server, app_of(server) as app:
        app.telemetry.attach("dspex.", heard.telemetry)
        prediction = await app.run(Ask(), question="Who?")
        details = dspex.details(prediction)
        heard.note(prediction, details, details.explain(), details.attempts)
        if b"converse" in server.requests[0][0]:
            async with app.stream(dspex.Predict(Question), question="Who?") as stream:
                heard.note(*[each async for each in stream], stream)
        look_at(app, heard)
    sent = b"".join(head + body for head, body in server.requests).decode()
    assert CANARIES[1] in sent or f"Bearer {CANARIES[2]}" in sent
    check(heard)


@pytest.mark.parametrize("failure", FAILURES)
async def test_no_failure_tells_them(failure: str, app_of: Callable[..., dspex.App], heard: Heard) -> None:
    """Errors, causes, frames, attempts, events and logs; also where the credentials themselves are refused."""
    bad = FAILURES[failure]
    for answers in ({"/token": token(CANARIES[2]), "converse": bad, "gen": bad}, {"/token": bad, "converse": bad}):
        async with serving(by_path(**answers)) as server, app_of(server) as app:
            app.telemetry.attach("dspex.", heard.telemetry)
            request = app.options(deadline=0.2 if failure == "silent" else 10.0).start(Ask(), question="Who?")
            found = await asyncio.gather(request, return_exceptions=True)
            assert isinstance(found[0], dspex.DspexError)
            heard.note(*found, request, request.details, request.trace, await request.outcome())
            look_at(app, heard)
    check(heard)
