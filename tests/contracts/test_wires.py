"""Every wire of ours keeps the contract that users' wires are held to."""

from __future__ import annotations

import json

from dspex.lm import (
    Anthropic,
    AzureChat,
    Bedrock,
    Gemini,
    OpenAIChat,
    OpenAIResponses,
    VertexClaude,
    VertexGemini,
    Wire,
)
from dspex.services.lm.own_providers import CheckedWire
from dspex.testing.conformance import Recorded, WireContract
from tests.support import bedrock_answers

JSON = {"content-type": "application/json"}
EVENTS = {"content-type": "text/event-stream"}


def events(*data: object, named: bool = False) -> Recorded:
    """Write server-sent events; named ones carry the type of their data."""
    lines = []
    for each in data:
        text = each if isinstance(each, str) else json.dumps(each)
        kind = f"event: {each['type']}\n" if named and isinstance(each, dict) else ""
        lines.append(f"{kind}data: {text}\n\n")
    return Recorded(EVENTS, "".join(lines).encode())


def document(value: object) -> Recorded:
    return Recorded(JSON, json.dumps(value).encode())


class Chat(WireContract):
    def whole_answer(self) -> Recorded:
        choice = {"index": 0, "message": {"role": "assistant", "content": self.text}, "finish_reason": "stop"}
        return document({"id": "1", "model": "m", "choices": [choice], "usage": {"prompt_tokens": 3}})

    def streamed_answer(self) -> Recorded:
        def piece(text: str, end: str | None = None) -> object:
            return {"id": "1", "choices": [{"index": 0, "delta": {"content": text}, "finish_reason": end}]}

        return events(piece(self.text[:5]), piece(self.text[5:]), piece("", "stop"), "[DONE]")


class TestOpenAIChat(Chat):
    def make_wire(self) -> Wire:
        return OpenAIChat()


class TestAzureChat(Chat):
    def make_wire(self) -> Wire:
        return AzureChat(api_version="2024-10-21")


class TestCheckedWire(Chat):
    """The guard that holds users' wires to typed errors changes nothing of one that is right."""

    def make_wire(self) -> Wire:
        return CheckedWire(OpenAIChat())


class TestOpenAIResponses(WireContract):
    def make_wire(self) -> Wire:
        return OpenAIResponses()

    def _response(self) -> dict[str, object]:
        message = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": self.text}]}
        return {"id": "1", "status": "completed", "model": "m", "output": [message]}

    def whole_answer(self) -> Recorded:
        return document(self._response())

    def streamed_answer(self) -> Recorded:
        piece = {"type": "response.output_text.delta", "output_index": 0, "content_index": 0, "delta": self.text}
        return events(piece, {"type": "response.completed", "response": self._response()}, named=True)


class TestAnthropic(WireContract):
    def make_wire(self) -> Wire:
        return Anthropic()

    def whole_answer(self) -> Recorded:
        content = [{"type": "text", "text": self.text}]
        usage = {"input_tokens": 3, "output_tokens": 5}
        message = {"id": "1", "type": "message", "role": "assistant", "model": "m", "content": content, "usage": usage}
        return document({**message, "stop_reason": "end_turn"})

    def streamed_answer(self) -> Recorded:
        usage = {"input_tokens": 3, "output_tokens": 1}
        message = {"id": "1", "type": "message", "role": "assistant", "model": "m", "content": [], "usage": usage}
        return events(
            {"type": "message_start", "message": message},
            {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
            {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": self.text}},
            {"type": "content_block_stop", "index": 0},
            {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 5}},
            {"type": "message_stop"},
            named=True,
        )


class TestGemini(WireContract):
    def make_wire(self) -> Wire:
        return Gemini()

    def _candidate(self, text: str, end: str | None) -> dict[str, object]:
        ended = {"finishReason": end} if end else {}
        return {"candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": text}]}, **ended}]}

    def whole_answer(self) -> Recorded:
        return document(self._candidate(self.text, "STOP"))

    def streamed_answer(self) -> Recorded:
        return events(self._candidate(self.text[:5], None), self._candidate(self.text[5:], "STOP"))


class TestVertexClaude(TestAnthropic):
    def make_wire(self) -> Wire:
        return VertexClaude()


class TestVertexGemini(TestGemini):
    def make_wire(self) -> Wire:
        return VertexGemini()


class TestBedrock(WireContract):
    def make_wire(self) -> Wire:
        return Bedrock()

    def whole_answer(self) -> Recorded:
        return document(bedrock_answers.whole({"text": self.text}))

    def streamed_answer(self) -> Recorded:
        headers = {"content-type": "application/vnd.amazon.eventstream"}
        return Recorded(headers, bedrock_answers.stream(self.text))
