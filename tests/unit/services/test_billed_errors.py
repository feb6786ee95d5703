"""A provider's count for an answer that is none: the error carries it, and nothing where there is no count."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dspex.errors import ContentRefused, LMError, ResponseInvalid, ServerFailed, StreamTruncated
from dspex.protocols.lm import Usage
from dspex.protocols.wire import EmbeddingsWire, Wire
from dspex.services.lm.wires.anthropic.wire import Anthropic
from dspex.services.lm.wires.chat.wire import OpenAIChat
from dspex.services.lm.wires.embeddings import GeminiEmbeddings, OpenAIEmbeddings
from dspex.services.lm.wires.gemini.wire import Gemini
from dspex.services.lm.wires.responses.wire import OpenAIResponses
from tests.support import anthropic_answers, gemini_answers

COUNTED = Usage(input_tokens=10, output_tokens=7)
CHAT = {"usage": {"prompt_tokens": 10, "completion_tokens": 7}}
RESPONSES = {"usage": {"input_tokens": 10, "output_tokens": 7}}
GEMINI = {"usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 7}}

WHOLE: list[tuple[Wire, dict[str, Any], type[LMError]]] = [
    (
        OpenAIChat(),
        {"choices": [{"message": {"content": "a"}, "finish_reason": "content_filter"}], **CHAT},
        ContentRefused,
    ),
    (OpenAIChat(), {"choices": [{"message": {"content": None, "refusal": "no"}}], **CHAT}, ContentRefused),
    (OpenAIChat(), {"choices": [], **CHAT}, ResponseInvalid),
    (OpenAIChat(), {"choices": [{"error": {"message": "no", "code": 502}}], **CHAT}, ServerFailed),
    (OpenAIChat(), {"choices": [{"text": "of another protocol"}], **CHAT}, ResponseInvalid),
    (OpenAIChat(), {"choices": [{"message": {"content": 3}}], **CHAT}, ResponseInvalid),
    (
        OpenAIResponses(),
        {
            "status": "incomplete",
            "incomplete_details": {"reason": "content_filter"},
            "output": [],
            **RESPONSES,
        },
        ContentRefused,
    ),
    (OpenAIResponses(), {"status": "failed", "error": {"code": "server_error"}, **RESPONSES}, ServerFailed),
    (OpenAIResponses(), {"status": "queued", "output": [], **RESPONSES}, ResponseInvalid),
    (OpenAIResponses(), {"output": None, **RESPONSES}, ResponseInvalid),
    (OpenAIResponses(), {"object": "response", **RESPONSES}, ResponseInvalid),
    (Anthropic(), anthropic_answers.answer(stop_reason="refusal"), ContentRefused),
    (Anthropic(), {**anthropic_answers.answer(), "content": None}, ResponseInvalid),
    (Gemini(), gemini_answers.answer({"text": "a"}, finish="SAFETY"), ContentRefused),
    (Gemini(), {"promptFeedback": {"blockReason": "SAFETY"}, **GEMINI}, ContentRefused),
    (Gemini(), {"candidates": [], **GEMINI}, ResponseInvalid),
]


def decoded(wire: Wire, document: dict[str, Any]) -> LMError:
    with pytest.raises(LMError) as caught:
        wire.decode(200, {}, json.dumps(document).encode())
    return caught.value


@pytest.mark.parametrize(("wire", "document", "kind"), WHOLE)
def test_an_answer_that_is_none_says_what_was_counted_for_it(
    wire: Wire, document: dict[str, Any], kind: type[LMError]
) -> None:
    """Refused, cut off, empty, failed or of an unknown shape: the provider charges it all the same."""
    error = decoded(wire, document)

    assert (type(error), error.usage) == (kind, COUNTED)


@pytest.mark.parametrize(("wire", "document", "kind"), WHOLE)
def test_no_count_is_none(wire: Wire, document: dict[str, Any], kind: type[LMError]) -> None:
    """Nothing is known to be charged, rather than nothing to pay."""
    document = {name: value for name, value in document.items() if name not in ("usage", "usageMetadata")}
    error = decoded(wire, document)

    assert (type(error), error.usage) == (kind, None)


def data(*documents: object) -> bytes:
    return b"".join(b"data: %b\n\n" % json.dumps(each).encode() for each in documents)


def chunk(reason: str | None, **delta: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": reason}]}


CHAT_COUNT = {"choices": [], **CHAT}
STREAMED: list[tuple[Wire, bytes, type[LMError], Usage | None]] = [
    (
        OpenAIChat(),
        data(chunk("content_filter", content="a"), CHAT_COUNT) + b"data: [DONE]\n\n",
        ContentRefused,
        COUNTED,
    ),
    (OpenAIChat(), data(CHAT_COUNT) + b"data: [DONE]\n\n", ResponseInvalid, COUNTED),
    (OpenAIChat(), data(chunk(None, content="a"), CHAT_COUNT) + b"data: [DONE]\n\n", StreamTruncated, COUNTED),
    (OpenAIChat(), data({**chunk(None, content="a"), **CHAT}), StreamTruncated, None),  # a count so far
    (OpenAIChat(), data(CHAT_COUNT), StreamTruncated, None),
    (
        Anthropic(),
        anthropic_answers.stream(anthropic_answers.start(), *anthropic_answers.end("refusal", output_tokens=7)),
        ContentRefused,
        COUNTED,
    ),
    (
        Anthropic(),
        anthropic_answers.stream(anthropic_answers.start(), anthropic_answers.end("refusal", output_tokens=7)[0]),
        ContentRefused,
        COUNTED,
    ),
    (Anthropic(), anthropic_answers.stream(anthropic_answers.start()), StreamTruncated, None),
    (Anthropic(), b"", StreamTruncated, None),
    (Gemini(), gemini_answers.stream(gemini_answers.piece(finish="SAFETY")), ContentRefused, COUNTED),
    (Gemini(), gemini_answers.stream(gemini_answers.piece({"text": "a"})), StreamTruncated, None),
    (
        OpenAIResponses(),
        data({"type": "response.failed", "response": {"error": {"code": "server_error"}, **RESPONSES}}),
        ServerFailed,
        COUNTED,
    ),
]


@pytest.mark.parametrize(("wire", "body", "kind", "counted"), STREAMED)
def test_a_stream_that_comes_to_nothing_says_what_was_counted_at_its_end(
    wire: Wire, body: bytes, kind: type[LMError], counted: Usage | None
) -> None:
    """A count on the way is not yet what is charged; one after the answer's end is, its last mark missing or not."""
    decoder = wire.decoder({"content-type": "text/event-stream"})
    with pytest.raises(LMError) as caught:
        decoder.feed(body)
        decoder.finish()

    assert (type(caught.value), caught.value.usage) == (kind, counted)


@pytest.mark.parametrize(
    ("wire", "document"),
    [
        (OpenAIEmbeddings(), {"data": [], "usage": {"prompt_tokens": 10}}),
        (OpenAIEmbeddings(), {"data": [{"embedding": []}], "usage": {"prompt_tokens": 10}}),
        (GeminiEmbeddings(), {"embeddings": [{"values": "?"}], "usageMetadata": {"promptTokenCount": 10}}),
    ],
)
def test_vectors_that_are_none_say_it_too(wire: EmbeddingsWire, document: dict[str, Any]) -> None:
    """The texts were read."""
    with pytest.raises(ResponseInvalid) as caught:
        wire.decode(200, {}, json.dumps(document).encode(), texts=1)

    assert caught.value.usage == Usage(input_tokens=10)


def test_a_refused_request_was_not_counted() -> None:
    """A prompt that is too long, say: the provider did not run the model."""
    for wire in (OpenAIChat(), Anthropic(), Gemini(), OpenAIResponses()):
        body = json.dumps({"error": {"message": "maximum context length", "code": "x"}}).encode()
        with pytest.raises(LMError) as caught:
            wire.decode(400, {}, body)
        assert caught.value.usage is None
