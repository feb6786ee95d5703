"""Answers that were withheld, and streams that fail at once, seen from a program."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpx
import pytest

import dspex
from dspex.protocols.model import LMParams
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.retry import RetryPolicy
from tests.support import anthropic_answers, gemini_answers
from tests.support.programs import collect
from tests.support.streaming import Talk


class Scripted(httpx.AsyncBaseTransport):
    """Answers the n-th request with the n-th body, each in one piece."""

    def __init__(self, *bodies: bytes, content_type: str = "application/json") -> None:
        self.bodies = list(bodies)
        self.content_type = content_type
        self.asked = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        body = self.bodies[self.asked]
        self.asked += 1

        async def pieces() -> AsyncIterator[bytes]:
            yield body

        return httpx.Response(200, headers={"content-type": self.content_type}, content=pieces())


def app_for(transport: Scripted, model: str, **options: Any) -> dspex.App:
    limits = ClientLimits(retry=RetryPolicy(base=0.0, cap=0.0))
    return dspex.App(dspex.LM(model, api_key="k", **options), transport=transport, limits=limits, cache=None)


def chat(text: str, reason: str = "stop") -> bytes:
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": reason}]}).encode()


async def test_withheld_answers_of_several_calls_are_left_out_and_told() -> None:
    """A model that gives one answer at a time is asked three times; two are left."""
    transport = Scripted(chat("one"), chat("cut", "content_filter"), chat("three"))
    async with app_for(transport, "openai/m", capabilities={"many": False}) as app:
        with collect(app, "dspex.lm.withheld") as events:
            result = await app.run(Talk(params=LMParams(n=3)), text="x")

    assert [completion.text for completion in result.response.completions] == ["one", "three"]
    assert result.response.withheld == 1
    assert [facts["lm"] for _, facts in events] == ["openai/m"]


async def test_when_all_of_several_calls_are_withheld_the_refusal_is_raised() -> None:
    """With every attempt, and the text of the first."""
    transport = Scripted(*[chat("cut", "content_filter")] * 2)
    async with app_for(transport, "openai/m", capabilities={"many": False}) as app:
        with pytest.raises(dspex.ContentRefused) as caught:
            await app.run(Talk(params=LMParams(n=2)), text="x")

    assert (caught.value.partial, len(caught.value.attempts)) == ("cut", 2)


def data(*documents: object) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in documents)


def said_by_responses(text: str) -> dict[str, Any]:
    return {"output": [{"type": "message", "content": [{"type": "output_text", "text": text}]}]}


STREAMS: list[tuple[str, Callable[[str], bytes], bytes, bytes]] = [
    (
        "openai/m",
        lambda text: data({"choices": [{"index": 0, "delta": {"content": text}}]}),
        data({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}) + b"data: [DONE]\n\n",
        data({"error": {"message": "overloaded", "type": "server_error"}}),
    ),
    (
        "openai-responses/m",
        lambda text: data({"type": "response.output_text.delta", "delta": text}),
        data({"type": "response.completed", "response": said_by_responses("whole")}),
        data({"type": "error", "code": "server_error", "message": "overloaded"}),
    ),
    (
        "anthropic/m",
        lambda text: data(anthropic_answers.start(), *anthropic_answers.block(0, anthropic_answers.text(text), [])),
        data(*anthropic_answers.end()),
        data(anthropic_answers.problem("overloaded_error")),
    ),
    (
        "gemini/m",
        lambda text: data(gemini_answers.piece({"text": text})),
        data(gemini_answers.piece(finish="STOP")),
        data(gemini_answers.problem(503, "UNAVAILABLE")),
    ),
]


@pytest.mark.parametrize(
    ("model", "pieces", "end", "error"), STREAMS, ids=lambda value: value if isinstance(value, str) else ""
)
async def test_an_error_in_the_same_bytes_as_the_first_pieces_is_tried_again(
    model: str, pieces: Callable[[str], bytes], end: bytes, error: bytes
) -> None:
    """Nobody has read the pieces before it: the second answer is the only one that is seen."""
    transport = Scripted(pieces("half") + error, pieces("whole") + end, content_type="text/event-stream")
    async with app_for(transport, model) as app:
        talk = Talk()
        request = app.start(talk, text="x")
        await request

    assert talk.texts == ["whole"]
    assert [attempt.outcome for attempt in request.details.attempts] == ["ServerFailed", "ok"]


async def test_a_stream_s_last_event_without_its_end_is_handed_on() -> None:
    """Some servers leave the last empty line out: the text is in the answer, so the reader gets it too."""
    half = data(gemini_answers.piece({"text": "one "}))
    last = data(gemini_answers.piece({"text": "two"}, finish="STOP")).rstrip()
    async with app_for(Scripted(half + last, content_type="text/event-stream"), "gemini/m") as app:
        talk = Talk()
        result = await app.run(talk, text="x")

    assert result.response.completions[0].text == "one two"
    assert talk.texts == ["one ", "two"]


WHOLE: list[tuple[str, Any, Any]] = [
    ("openai/m", json.loads(chat("whole")), {"error": {"message": "overloaded", "type": "server_error"}}),
    ("openai-responses/m", said_by_responses("whole"), {"status": "failed", "error": {"code": "server_error"}}),
    (
        "anthropic/m",
        anthropic_answers.answer(anthropic_answers.text("whole")),
        anthropic_answers.problem("overloaded_error"),
    ),
    ("gemini/m", gemini_answers.answer({"text": "whole"}), gemini_answers.problem(503, "UNAVAILABLE")),
    (
        "gemini/m",
        [gemini_answers.piece({"text": "who"}), gemini_answers.piece({"text": "le"}, finish="STOP")],
        [gemini_answers.problem(503, "UNAVAILABLE")],
    ),
]


@pytest.mark.parametrize(("model", "answer", "error"), WHOLE, ids=lambda value: value if isinstance(value, str) else "")
async def test_a_server_that_does_not_stream_is_read_too(model: str, answer: Any, error: Any) -> None:
    """The content type says so: its reader gets the answer in one piece, and an error in it is one."""
    bodies = [json.dumps(each).encode() for each in (error, answer)]
    async with app_for(Scripted(*bodies, content_type="Application/JSON; charset=utf-8"), model) as app:
        talk = Talk()
        request = app.start(talk, text="x")
        await request

    assert talk.texts == ["whole"]
    assert [attempt.outcome for attempt in request.details.attempts] == ["ServerFailed", "ok"]
