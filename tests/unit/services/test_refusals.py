"""Rules for every wire: half an answer that a filter cut off is none, and an error event comes before pieces."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dspex.errors import ContentRefused, LMError, ServerFailed
from dspex.protocols.wire import Wire
from dspex.services.lm.wires.anthropic.wire import Anthropic
from dspex.services.lm.wires.chat.wire import OpenAIChat
from dspex.services.lm.wires.gemini.wire import Gemini
from dspex.services.lm.wires.responses.wire import OpenAIResponses
from tests.support import anthropic_answers, gemini_answers

CUT = '{"answer": "yes"}'
"""A text that would parse as a whole answer."""
STREAM = {"content-type": "text/event-stream"}


def events(*documents: dict[str, Any]) -> bytes:
    return b"".join(
        (f"event: {each['type']}\n" if "type" in each else "").encode() + f"data: {json.dumps(each)}\n\n".encode()
        for each in documents
    )


def chat_choice(text: str, reason: str = "content_filter", index: int = 0) -> dict[str, Any]:
    return {"index": index, "message": {"content": text}, "finish_reason": reason}


def response(text: str) -> dict[str, Any]:
    item = {"type": "message", "content": [{"type": "output_text", "text": text}]}
    return {"status": "incomplete", "incomplete_details": {"reason": "content_filter"}, "output": [item]}


WHOLE: list[tuple[Wire, dict[str, Any]]] = [
    (OpenAIChat(), {"choices": [chat_choice(CUT)]}),
    (OpenAIResponses(), response(CUT)),
    (Anthropic(), anthropic_answers.answer(anthropic_answers.text(CUT), stop_reason="refusal")),
    (Gemini(), gemini_answers.answer({"text": CUT}, finish="SAFETY")),
    (Gemini(), gemini_answers.answer({"text": CUT}, finish="RECITATION")),
]
STREAMED: list[tuple[Wire, bytes]] = [
    (
        OpenAIChat(),
        events(
            {"choices": [{"index": 0, "delta": {"content": CUT}}]},
            {"choices": [{"index": 0, "delta": {}, "finish_reason": "content_filter"}]},
        )
        + b"data: [DONE]\n\n",
    ),
    (
        OpenAIResponses(),
        events(
            {"type": "response.output_text.delta", "delta": CUT},
            {"type": "response.incomplete", "response": response(CUT)},
        ),
    ),
    (
        Anthropic(),
        events(
            anthropic_answers.start(),
            *anthropic_answers.block(0, anthropic_answers.text(CUT), []),
            *anthropic_answers.end("refusal"),
        ),
    ),
    (Gemini(), gemini_answers.stream(gemini_answers.piece({"text": CUT}), gemini_answers.piece(finish="SAFETY"))),
]


def name(value: object) -> str:
    return type(value).__name__ if not isinstance(value, (bytes, dict)) else ""


@pytest.mark.parametrize(("wire", "document"), WHOLE, ids=name)
def test_an_answer_that_was_cut_off_is_refused(wire: Wire, document: dict[str, Any]) -> None:
    """Its text parses, and still nobody may take it for the answer; what came of it is kept."""
    with pytest.raises(ContentRefused) as caught:
        wire.decode(200, {"x-request-id": "r1"}, json.dumps(document).encode())

    assert (caught.value.partial, caught.value.status, caught.value.is_retryable) == (CUT, 200, False)


@pytest.mark.parametrize(("wire", "body"), STREAMED, ids=name)
def test_a_stream_that_was_cut_off_is_refused_at_its_end(wire: Wire, body: bytes) -> None:
    """The pieces were handed on; the end says what they are worth."""
    decoder = wire.decoder(STREAM)

    assert "".join(delta.text for delta in decoder.feed(body)) == CUT
    with pytest.raises(ContentRefused) as caught:
        decoder.finish()
    assert caught.value.partial == CUT


@pytest.mark.parametrize(
    ("wire", "document"),
    [
        (OpenAIChat(), {"choices": [chat_choice(CUT), chat_choice("whole", "stop", 1)]}),
        (
            Gemini(),
            {
                "candidates": [
                    *gemini_answers.answer({"text": CUT}, finish="SAFETY")["candidates"],
                    *gemini_answers.answer({"text": "whole"}, candidate={"index": 1})["candidates"],
                ]
            },
        ),
    ],
    ids=name,
)
def test_of_several_answers_the_withheld_ones_are_left_out(wire: Wire, document: dict[str, Any]) -> None:
    """They are counted, so that nobody wonders where they are."""
    found = wire.decode(200, {}, json.dumps(document).encode())

    assert [completion.text for completion in found.completions] == ["whole"]
    assert found.withheld == 1


ERRORS: list[tuple[Wire, bytes, bytes]] = [
    (
        OpenAIChat(),
        events({"choices": [{"index": 0, "delta": {"content": "Well"}}]}),
        events({"error": {"message": "overloaded", "type": "server_error"}}),
    ),
    (
        OpenAIResponses(),
        events({"type": "response.output_text.delta", "delta": "Well"}),
        events({"type": "error", "code": "server_error", "message": "overloaded"}),
    ),
    (
        Anthropic(),
        events(anthropic_answers.start(), *anthropic_answers.block(0, anthropic_answers.text("Well"), [])),
        events(anthropic_answers.problem("overloaded_error")),
    ),
    (
        Gemini(),
        gemini_answers.stream(gemini_answers.piece({"text": "Well"})),
        gemini_answers.stream(gemini_answers.problem(503, "UNAVAILABLE")),
    ),
]


@pytest.mark.parametrize(("wire", "pieces", "error"), ERRORS, ids=name)
def test_an_error_in_the_same_bytes_as_pieces_is_all_that_is_told(wire: Wire, pieces: bytes, error: bytes) -> None:
    """Nothing has been handed on then, so that the call may be tried again; pieces that came before stay told."""
    with pytest.raises(ServerFailed):
        wire.decoder(STREAM).feed(pieces + error)

    decoder = wire.decoder(STREAM)
    assert "".join(delta.text for delta in decoder.feed(pieces)) == "Well"
    with pytest.raises(LMError) as caught:
        decoder.feed(error)
    assert caught.value.is_retryable
