"""The text does not depend on the dialect, on streaming, or on how the bytes are cut."""

import json
import math
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.simulator import Fault, FaultKind
from dspex.simulator._shape import shaped, twist_of
from dspex.simulator.dialects import (
    AnthropicMessagesDialect,
    Dialect,
    GeminiDialect,
    OpenAIChatDialect,
    OpenAIEmbeddingsDialect,
    OpenAIResponsesDialect,
    Response,
    Twist,
)
from dspex.simulator.embedding import embed

_SCHEMA = {"type": "object", "properties": {"query": {"type": "string"}, "count": {"type": "integer"}}}
_WORDS = st.text(st.characters(codec="utf-8"), min_size=1, max_size=40)
_MODES = st.sampled_from(["plain", "tool", "schema"])
_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


def _chat(text: str, mode: str, stream: bool) -> tuple[str, dict[str, Any]]:
    body: dict[str, Any] = {"model": "m", "messages": [{"role": "user", "content": text}], "stream": stream}
    function = {"name": "search", "parameters": _SCHEMA}
    if mode == "tool":
        body |= {"tools": [{"type": "function", "function": function}], "tool_choice": "required"}
    if mode == "schema":
        body["response_format"] = {"type": "json_schema", "json_schema": {"name": "x", "schema": _SCHEMA}}
    return "/v1/chat/completions", body | {"temperature": 0}


def _responses(text: str, mode: str, stream: bool) -> tuple[str, dict[str, Any]]:
    body: dict[str, Any] = {"model": "m", "input": [{"role": "user", "content": text}], "stream": stream}
    if mode == "tool":
        body |= {"tools": [{"type": "function", "name": "search", "parameters": _SCHEMA}], "tool_choice": "required"}
    if mode == "schema":
        body["text"] = {"format": {"type": "json_schema", "name": "x", "schema": _SCHEMA}}
    return "/v1/responses", body | {"temperature": 0}


def _messages(text: str, mode: str, stream: bool) -> tuple[str, dict[str, Any]]:
    turns = [{"role": "user", "content": [{"type": "text", "text": text}]}]
    body: dict[str, Any] = {"model": "m", "max_tokens": 9999, "messages": turns, "stream": stream}
    if mode == "tool":
        body |= {"tools": [{"name": "search", "input_schema": _SCHEMA}], "tool_choice": {"type": "any"}}
    if mode == "schema":
        body["output_config"] = {"format": {"type": "json_schema", "schema": _SCHEMA}}
    return "/v1/messages", body | {"temperature": 0}


def _gemini(text: str, mode: str, stream: bool) -> tuple[str, dict[str, Any]]:
    config: dict[str, Any] = {"temperature": 0}
    body: dict[str, Any] = {"contents": [{"role": "user", "parts": [{"text": text}]}], "generationConfig": config}
    if mode == "tool":
        body["tools"] = [{"functionDeclarations": [{"name": "search", "parameters": _SCHEMA}]}]
        body["toolConfig"] = {"functionCallingConfig": {"mode": "ANY"}}
    if mode == "schema":
        config |= {"responseMimeType": "application/json", "responseJsonSchema": _SCHEMA}
    action = "streamGenerateContent?alt=sse" if stream else "generateContent"
    return f"/v1beta/models/m:{action}", body


_ASKS: Mapping[str, tuple[Dialect, Callable[[str, str, bool], tuple[str, dict[str, Any]]]]] = {
    "chat": (OpenAIChatDialect(), _chat),
    "responses": (OpenAIResponsesDialect(), _responses),
    "messages": (AnthropicMessagesDialect(), _messages),
    "gemini": (GeminiDialect(), _gemini),
}


def _ask(dialect: str, text: str, mode: str, stream: bool, twist: Twist = Twist.PLAIN) -> Response:
    served, write = _ASKS[dialect]
    target, body = write(text, mode, stream)
    return served.respond(target, json.dumps(body).encode(), twist)


def _events(sent: bytes) -> list[Any]:
    blocks = sent.decode().replace("\r\n", "\n").split("\n\n")
    lines = [line for block in blocks for line in block.split("\n") if line.startswith("data: ")]
    return [json.loads(line[6:]) for line in lines if line != "data: [DONE]"]


def _said_whole(dialect: str, value: Any) -> tuple[str, str, object]:
    """Return text, arguments and the reason for the end."""
    match dialect:
        case "chat":
            choice = value["choices"][0]
            calls = choice["message"].get("tool_calls") or [{"function": {"arguments": ""}}]
            return choice["message"]["content"] or "", calls[0]["function"]["arguments"], choice["finish_reason"]
        case "responses":
            item = value["output"][0]
            text = "" if item["type"] != "message" else item["content"][0]["text"]
            return text, item.get("arguments", ""), value["status"]
        case "messages":
            block = value["content"][0]
            given = json.dumps(block["input"], ensure_ascii=False) if block["type"] == "tool_use" else ""
            return block.get("text", ""), given, value["stop_reason"]
    candidate = value["candidates"][0]
    part = candidate["content"]["parts"][0]
    given = json.dumps(part["functionCall"]["args"], ensure_ascii=False) if "functionCall" in part else ""
    return part.get("text", ""), given, candidate["finishReason"]


def _said_in_pieces(dialect: str, events: list[Any]) -> tuple[str, str, object]:
    text = given = ""
    end: object = None
    for one in events:
        match dialect:
            case "chat":
                choice = one["choices"][0]
                text += choice["delta"].get("content") or ""
                for call in choice["delta"].get("tool_calls", ()):
                    given += call["function"]["arguments"]
                end = choice["finish_reason"]
            case "responses":
                text += one["delta"] if one["type"] == "response.output_text.delta" else ""
                given += one["delta"] if one["type"] == "response.function_call_arguments.delta" else ""
                end = one["response"]["status"] if one["type"] == "response.completed" else end
            case "messages":
                delta = one.get("delta", {})
                text, given = text + delta.get("text", ""), given + delta.get("partial_json", "")
                end = delta.get("stop_reason", end)
            case _:
                candidate = one["candidates"][0]
                for part in candidate["content"]["parts"]:
                    text += part.get("text", "")
                    held = part.get("functionCall")
                    given += json.dumps(held["args"], ensure_ascii=False) if held else ""
                end = candidate.get("finishReason")
    return text, given, end


@pytest.mark.parametrize("dialect", _ASKS)
@given(text=_WORDS, mode=_MODES)
def test_a_stream_adds_up_to_the_whole_answer(dialect: str, text: str, mode: str) -> None:
    """Text, arguments and the reason for the end are the same in pieces as in one."""
    whole = _ask(dialect, text, mode, stream=False)
    stream = _ask(dialect, text, mode, stream=True)

    assert (whole.status, stream.status) == (200, 200)
    assert stream.is_stream
    said = _said_whole(dialect, json.loads(b"".join(whole.parts)))
    assert _said_in_pieces(dialect, _events(b"".join(stream.parts))) == said
    assert (whole.prompt, whole.completion) == (stream.prompt, stream.completion)


@given(text=_WORDS, mode=_MODES)
def test_every_dialect_says_the_same(text: str, mode: str) -> None:
    """The dialect is a translation: the learner is asked one and the same thing."""
    held = [_ask(dialect, text, mode, stream=False) for dialect in _ASKS]
    said = {_said_whole(name, json.loads(b"".join(one.parts)))[:2] for name, one in zip(_ASKS, held, strict=True)}

    assert len({one.prompt for one in held}) == 1
    texts = {text for text, _ in said}
    given = {json.dumps(json.loads(arguments)) if arguments else "" for _, arguments in said}
    assert (len(texts), len(given)) == (1, 1)


@pytest.mark.parametrize("dialect", _ASKS)
@given(text=_WORDS, mode=_MODES)
def test_a_cut_stream_has_no_end_marker(dialect: str, text: str, mode: str) -> None:
    """Whatever was asked, what is left of it does not say that it is over."""
    served, _ = _ASKS[dialect]
    stream = _ask(dialect, text, mode, stream=True)
    cut, _ = shaped(served, stream, Fault(kind=FaultKind.CUT_STREAM), "/")
    sent = b"".join(cut.parts)

    assert len(cut.parts) <= len(stream.parts) - stream.ending
    assert cut.parts or stream.ending == len(stream.parts)
    assert b"[DONE]" not in sent
    assert _said_in_pieces(dialect, _events(sent))[2] is None


@pytest.mark.parametrize("dialect", _ASKS)
@given(text=_WORDS, mode=_MODES, stream=st.booleans())
def test_a_malformed_answer_is_no_json(dialect: str, text: str, mode: str, stream: bool) -> None:
    """One part of it is, in a whole answer the only one."""
    served, _ = _ASKS[dialect]
    response = _ask(dialect, text, mode, stream)
    broken, _ = shaped(served, response, Fault(kind=FaultKind.MALFORMED), "/")

    with pytest.raises(ValueError):
        events = _events(b"".join(broken.parts)) if stream else json.loads(b"".join(broken.parts))
        assert events is None


@pytest.mark.parametrize("dialect", _ASKS)
@given(
    text=_WORDS,
    kind=st.sampled_from([FaultKind.EMPTY, FaultKind.REFUSAL, FaultKind.FILTERED]),
    stream=st.booleans(),
)
def test_a_policy_has_status_200_and_a_form(dialect: str, text: str, kind: FaultKind, stream: bool) -> None:
    """Every twist is JSON that can be read to its end."""
    response = _ask(dialect, text, "plain", stream, twist_of(Fault(kind=kind)))
    sent = b"".join(response.parts)

    assert response.status == 200
    assert response.ending or not stream
    assert _events(sent) or b"[DONE]" in sent if stream else json.loads(sent)


_PATHS = [
    (OpenAIChatDialect(), "/v1/chat/completions"),
    (OpenAIResponsesDialect(), "/v1/responses"),
    (OpenAIEmbeddingsDialect(), "/v1/embeddings"),
    (AnthropicMessagesDialect(), "/v1/messages"),
    (AnthropicMessagesDialect(), "/v1/messages/count_tokens"),
    (GeminiDialect(), "/v1beta/models/m:generateContent"),
    (GeminiDialect(), "/v1beta/models/m:streamGenerateContent"),
    (GeminiDialect(), "/v1beta/models/m:countTokens"),
    (GeminiDialect(), "/v1beta/models/m:embedContent"),
    (GeminiDialect(), "/v1beta/models/m:batchEmbedContents"),
]
_MEMBERS = st.sampled_from(
    (
        *(
            "messages",
            "input",
            "instructions",
            "tools",
            "tool_choice",
            "text",
            "output_config",
            "max_tokens",
            "requests",
        ),
        *("stop_sequences", "system", "contents", "generationConfig", "systemInstruction", "toolConfig", "content"),
        *("dimensions", "encoding_format", "temperature", "stream", "stop", "n", "response_format", "stream_options"),
    )
)
_CONTENT = {"parts": [{"text": "x"}]}
_GOOD: dict[str, Any] = {
    "model": "m",
    "messages": [{"role": "user", "content": "x"}],
    "input": "x",
    "max_tokens": 9,
    "contents": [_CONTENT],
    "content": _CONTENT,
    "requests": [{"content": _CONTENT}],
}


@pytest.mark.parametrize(("dialect", "path"), _PATHS)
@given(st.dictionaries(_MEMBERS, _JSON, max_size=2))
def test_any_member_is_taken_or_refused(dialect: Dialect, path: str, members: dict[str, Any]) -> None:
    """Whatever stands in a good body, it is answered or refused in the provider's own form, never neither."""
    response = dialect.respond(path, json.dumps({**_GOOD, **members}).encode())

    assert dialect.respond(path, json.dumps(_GOOD).encode()).status == 200
    assert response.status in (200, 400)
    if response.status == 400:
        assert json.loads(response.parts[0])["error"]["message"]


@given(_WORDS, st.integers(1, 64))
def test_a_vector_is_of_unit_length_and_always_the_same(text: str, dimensions: int) -> None:
    """Any text, any number of dimensions."""
    vector = embed(text, dimensions)

    assert vector == embed(text, dimensions)
    assert len(vector) == dimensions
    assert math.fsum(value * value for value in vector) == pytest.approx(1)
