"""OpenAI's wires under any request, any answer, any stream, cut anywhere."""

from __future__ import annotations

import contextlib
import json
from collections import defaultdict
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.errors import LMError, RequestRejected
from dspex.protocols.content import (
    AudioPart,
    FilePart,
    ImagePart,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from dspex.protocols.lm import JsonObject, JsonSchema, LMDelta, LMRequest, LMResponse, Message, ToolSpec
from dspex.protocols.model import LMParams
from dspex.protocols.wire import Wire
from dspex.services.lm.wires.chat.wire import AzureChat, OpenAIChat
from dspex.services.lm.wires.responses.wire import OpenAIResponses

CHAT = OpenAIChat()
RESPONSES = OpenAIResponses()
WIRES: list[Wire] = [CHAT, AzureChat(), RESPONSES]
STREAM = {"content-type": "text/event-stream"}

texts = st.text(max_size=12)
json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3),
    max_leaves=6,
)


# --- requests -----------------------------------------------------------------------------------------------

surrogates = st.text(st.characters(), max_size=4) | st.just("\ud800")
media = st.tuples(st.sampled_from(["image/png", "audio/wav", "application/pdf", ""]), st.binary(max_size=6))
parts = st.one_of(
    surrogates.map(TextPart),
    media.map(lambda pair: ImagePart(*pair)),
    st.just(ImagePart("", url="https://pictures.example/1", detail="low")),
    media.map(lambda pair: AudioPart(*pair)),
    media.map(lambda pair: FilePart(*pair, name="x")),
    st.just(FilePart("", url="https://files.example/1")),
    st.builds(
        ReasoningPart,
        texts,
        st.sampled_from(["openai-chat", "openai-responses", "other"]),
        st.dictionaries(st.sampled_from(["field", "reasoning_details", "encrypted_content", "type"]), json_values),
    ),
    st.builds(ToolCall, texts, texts, st.none() | st.dictionaries(texts, json_values, max_size=2), texts),
    st.builds(ToolResult, texts, texts, surrogates | st.lists(texts.map(TextPart), max_size=2).map(tuple)),
)
messages = st.builds(
    Message,
    st.sampled_from(["system", "user", "assistant", "tool"]),
    surrogates | st.lists(parts, max_size=4).map(tuple),
    st.sampled_from([None, "5m"]),
)
schemas = st.dictionaries(texts, json_values, max_size=2)
requests = st.builds(
    LMRequest,
    st.lists(messages, max_size=4).map(tuple),
    st.builds(
        LMParams,
        temperature=st.none() | st.floats(),
        max_tokens=st.none() | st.integers(),
        stop=st.lists(texts, max_size=2).map(tuple),
        n=st.integers(1, 3),
        seed=st.none() | st.integers(),
        reasoning=st.none() | texts,
        logprobs=st.none() | st.integers(0, 3),
        parallel_tool_calls=st.none() | st.booleans(),
        extra_body=st.dictionaries(
            st.sampled_from(["stream", "text", "reasoning", "stream_options", "x"]), json_values
        ),
    ),
    tools=st.lists(st.builds(ToolSpec, texts, texts, schemas), max_size=2).map(tuple),
    tool_choice=st.sampled_from(["auto", "none", "required", "t"]),
    output=st.none() | st.just(JsonObject()) | st.builds(JsonSchema, texts, schemas, st.booleans()),
)


@pytest.mark.parametrize("wire", WIRES)
@given(request=requests, stream=st.booleans())
def test_any_request_is_json_or_rejected(wire: Wire, request: LMRequest, stream: bool) -> None:
    """Nothing a program puts together is a crash of ours, and nothing half-written is sent."""
    try:
        body = wire.encode("gpt-5", request, stream=stream)
    except RequestRejected:
        return
    fields = json.loads(body)
    assert fields["model"] == "gpt-5"
    assert fields.get("stream", False) is stream


# --- answers ------------------------------------------------------------------------------------------------

calls = st.fixed_dictionaries(
    {},
    optional={
        "index": json_values,
        "id": json_values,
        "type": st.just("custom") | json_values,
        "custom": json_values,
        "function": json_values | st.fixed_dictionaries({}, optional={"name": json_values, "arguments": json_values}),
    },
)
chat_messages = st.fixed_dictionaries(
    {},
    optional={
        "content": json_values
        | st.lists(st.fixed_dictionaries({"type": st.just("thinking"), "thinking": json_values})),
        "reasoning": json_values,
        "reasoning_content": json_values,
        "reasoning_details": json_values | st.lists(st.dictionaries(st.sampled_from(["type", "text"]), json_values)),
        "refusal": json_values,
        "tool_calls": json_values | st.lists(calls, max_size=2),
        "annotations": json_values | st.lists(st.fixed_dictionaries({"url_citation": json_values}), max_size=2),
    },
)
tokens = st.lists(
    st.fixed_dictionaries({}, optional={"token": json_values, "logprob": json_values, "top_logprobs": json_values})
)
choices = st.fixed_dictionaries(
    {},
    optional={
        "index": json_values,
        "message": json_values | chat_messages,
        "delta": json_values | chat_messages,
        "finish_reason": json_values,
        "logprobs": json_values | st.fixed_dictionaries({"content": tokens}),
    },
)
errors = json_values | st.fixed_dictionaries(
    {}, optional={"message": json_values, "code": json_values, "metadata": json_values, "status": json_values}
)
chat_documents = json_values | st.fixed_dictionaries(
    {},
    optional={
        "choices": json_values | st.lists(choices, min_size=1, max_size=2),
        "usage": json_values
        | st.fixed_dictionaries({"prompt_tokens": json_values, "completion_tokens_details": json_values}),
        "model": json_values,
        "error": errors,
        "object": json_values,
    },
)
items = st.fixed_dictionaries(
    {"type": st.sampled_from(["message", "function_call", "reasoning", "other"])},
    optional={
        "content": json_values
        | st.lists(
            st.fixed_dictionaries(
                {"type": st.sampled_from(["output_text", "refusal"])},
                optional={"text": json_values, "annotations": json_values, "logprobs": json_values | tokens},
            )
        ),
        "name": json_values,
        "call_id": json_values,
        "arguments": json_values,
        "summary": json_values,
    },
)
responses = st.fixed_dictionaries(
    {},
    optional={
        "status": st.sampled_from(["completed", "incomplete", "failed", "queued"]) | json_values,
        "output": json_values | st.lists(items, max_size=3),
        "error": errors,
        "incomplete_details": json_values,
        "usage": json_values,
        "model": json_values,
    },
)
events = json_values | st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            [
                "response.completed",
                "response.failed",
                "response.output_text.delta",
                "response.reasoning_text.delta",
                "response.function_call_arguments.delta",
                "response.output_item.added",
                "response.output_item.done",
                "error",
            ]
        )
    },
    optional={
        "response": json_values | responses,
        "delta": json_values,
        "item": json_values | items,
        "output_index": json_values,
        "summary_index": json_values,
        "error": errors,
        "code": json_values,
        "message": json_values,
    },
)


@pytest.mark.parametrize("wire", WIRES)
@given(status=st.sampled_from([200, 302, 400, 401, 429, 500]), body=chat_documents | responses | events)
def test_any_json_is_a_response_or_a_typed_error(wire: Wire, status: int, body: object) -> None:
    """Wrong types in known places included."""
    with contextlib.suppress(LMError):
        wire.decode(status, {}, json.dumps(body).encode())


@pytest.mark.parametrize("wire", WIRES)
@given(status=st.integers(200, 599), body=st.binary(max_size=60))
def test_any_bytes_are_a_response_or_a_typed_error(wire: Wire, status: int, body: bytes) -> None:
    """A captive portal, a broken gateway, another protocol."""
    with contextlib.suppress(LMError):
        wire.decode(status, {}, body)


@pytest.mark.parametrize("wire", WIRES)
@given(
    documents=st.lists(chat_documents | events, max_size=5),
    rest=st.sampled_from([b"", b"data: [DONE]\n\n", b"data: {", b"\xff"]) | st.binary(max_size=20),
)
def test_any_stream_is_a_response_or_a_typed_error(wire: Wire, documents: list[object], rest: bytes) -> None:
    """Whatever events come, in whatever order."""
    decoder = wire.decoder(STREAM)
    with contextlib.suppress(LMError):
        for document in documents:
            assert all(type(delta) is LMDelta for delta in decoder.feed(f"data: {json.dumps(document)}\n\n".encode()))
        decoder.feed(rest)
        assert type(decoder.finish()) is LMResponse


# --- streams against whole answers --------------------------------------------------------------------------


def pieces_of(data: st.DataObject, text: str) -> list[str]:
    cuts = data.draw(st.lists(st.integers(0, len(text)), max_size=3), label="where a piece ends")
    return [text[a:b] for a, b in pairwise(sorted({0, len(text), *cuts}))]


def split_anywhere(data: st.DataObject, stream: bytes) -> list[bytes]:
    cuts = data.draw(st.lists(st.integers(0, len(stream)), max_size=8), label="where a packet ends")
    return [stream[a:b] for a, b in pairwise(sorted({0, len(stream), *cuts}))]


def added_up(deltas: list[LMDelta]) -> dict[tuple[object, ...], str]:
    """Concatenate what came for each answer and call."""
    found: dict[tuple[object, ...], str] = defaultdict(str)
    for delta in deltas:
        if delta.tool is None:
            found[delta.index, "text"] += delta.text
            found[delta.index, "reasoning"] += delta.reasoning
        else:
            found[delta.index, delta.tool, "name"] += delta.tool_name
            found[delta.index, delta.tool, "arguments"] += delta.arguments
    return {key: text for key, text in found.items() if text and not (key[-1] == "arguments" and says_none(text))}


def says_none(arguments: str) -> bool:
    """Tell whether a call's arguments are a way to say that there are none; a whole answer leaves them out."""
    return arguments.strip() in ("", "null", "None", "[]")


def told_by(response: LMResponse) -> dict[tuple[object, ...], str]:
    """Return what ``added_up`` must give for the deltas of this answer."""
    found: dict[tuple[object, ...], str] = {}
    for index, completion in enumerate(response.completions):
        found[index, "text"] = completion.text
        found[index, "reasoning"] = "".join(part.text for part in completion.reasoning)
        for place, call in enumerate(completion.tool_calls):
            found[index, place, "name"] = call.name
            found[index, place, "arguments"] = call.raw
    return {key: text for key, text in found.items() if text}


def read(wire: Wire, pieces: list[bytes]) -> tuple[list[LMDelta], LMResponse]:
    decoder = wire.decoder(STREAM)
    deltas = [delta for piece in pieces for delta in decoder.feed(piece)]
    return deltas, decoder.finish()


answers = st.fixed_dictionaries(
    {"content": texts.filter(bool)},
    optional={
        "reasoning": texts.filter(bool),
        "tool_calls": st.lists(
            st.builds(
                lambda name, arguments, i: {
                    "id": f"call_{i}",
                    "type": "function",
                    "function": {"name": name, "arguments": arguments},
                },
                texts.filter(bool),
                texts | st.just('{"a": "ü"}'),
                st.integers(0, 99),
            ),
            min_size=1,
            max_size=3,
        ),
    },
)
NEWLINES = st.sampled_from([b"\n", b"\r", b"\r\n"])


@given(data=st.data(), messages=st.lists(answers, min_size=1, max_size=3), newline=NEWLINES)
def test_a_chat_stream_is_the_whole_answer(data: st.DataObject, messages: list[dict[str, Any]], newline: bytes) -> None:
    """However a server cuts an answer into events, and a network the events into packets."""
    usage = {"prompt_tokens": 3, "completion_tokens": 2}
    whole = {
        "model": "m",
        "choices": [{"index": i, "message": each, "finish_reason": "stop"} for i, each in enumerate(messages)],
        "usage": usage,
    }
    chunks: list[dict[str, Any]] = []
    for index, message in enumerate(messages):
        deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
        for field in ("reasoning", "content"):
            deltas += [{field: piece} for piece in pieces_of(data, message.get(field, ""))]
        for place, call in enumerate(message.get("tool_calls", ())):
            function = call["function"]
            head = {"index": place, "id": call["id"], "type": "function"}
            deltas.append({"tool_calls": [{**head, "function": {"name": function["name"], "arguments": ""}}]})
            deltas += [
                {"tool_calls": [{"index": place, "function": {"arguments": piece}}]}
                for piece in pieces_of(data, function["arguments"])
            ]
        chunks += [{"model": "m", "choices": [{"index": index, "delta": each}]} for each in deltas]
        chunks.append({"choices": [{"index": index, "delta": {}, "finish_reason": "stop"}]})
    chunks.append({"choices": [], "usage": usage})
    lines = [f"data: {json.dumps(chunk, ensure_ascii=False)}".encode() for chunk in chunks]
    stream = b"".join(line + newline * 2 for line in [*lines, b"data: [DONE]"])

    deltas_read, response = read(CHAT, split_anywhere(data, stream))

    assert response == CHAT.decode(200, STREAM, json.dumps(whole).encode())
    assert added_up(deltas_read) == told_by(response)


@given(data=st.data(), message=answers, newline=NEWLINES)
def test_a_stream_of_responses_is_the_whole_answer(
    data: st.DataObject, message: dict[str, Any], newline: bytes
) -> None:
    """As for chat; the items of an output take the place of fields."""
    output: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = [{"type": "response.created", "response": {"status": "in_progress"}}]

    def add(item: dict[str, Any], kind: str, text: str) -> None:
        place = {"output_index": len(output)}
        output.append(item)
        events.append({"type": "response.output_item.added", **place, "item": {**item, "arguments": ""}})
        events.extend({"type": kind, **place, "delta": piece} for piece in pieces_of(data, text))
        events.append({"type": "response.output_item.done", **place, "item": item})

    if "reasoning" in message:
        summary = [{"type": "summary_text", "text": message["reasoning"]}]
        kind = "response.reasoning_summary_text.delta"
        add({"type": "reasoning", "id": "rs_1", "summary": summary}, kind, message["reasoning"])
    part = {"type": "output_text", "text": message["content"]}
    add({"type": "message", "content": [part]}, "response.output_text.delta", message["content"])
    for call in message.get("tool_calls", ()):
        item = {"type": "function_call", "call_id": call["id"], **call["function"]}
        add(item, "response.function_call_arguments.delta", call["function"]["arguments"])
    whole = {"status": "completed", "model": "m", "output": output, "usage": {"input_tokens": 3, "output_tokens": 2}}
    events.append({"type": "response.completed", "response": whole})
    lines = [
        f"event: {each['type']}".encode() + newline + f"data: {json.dumps(each, ensure_ascii=False)}".encode()
        for each in events
    ]

    deltas, response = read(RESPONSES, split_anywhere(data, b"".join(line + newline * 2 for line in lines)))

    assert response == RESPONSES.decode(200, STREAM, json.dumps(whole).encode())
    assert added_up(deltas) == told_by(response)


# --- what servers call JSON ---------------------------------------------------------------------------------


@given(st.dictionaries(st.text(max_size=4), json_values, max_size=3))
def test_arguments_that_came_unquoted_are_an_answer_whatever_they_hold(arguments: dict[str, Any]) -> None:
    """Numbers that JSON does not know (NaN) are not the caller's mistake: nothing is rejected while it is read."""
    call = {"id": "1", "type": "function", "function": {"name": "t", "arguments": arguments}}
    body = json.dumps({"choices": [{"message": {"tool_calls": [call]}, "finish_reason": "tool_calls"}]}).encode()
    (found,) = CHAT.decode(200, {}, body).completions[0].tool_calls
    assert json.dumps(found.arguments) == json.dumps(arguments)  # NaN is unequal to itself
    assert json.dumps(json.loads(found.raw)) == json.dumps(arguments)

    piece = {"choices": [{"delta": {"tool_calls": [{"index": 0, **call}]}, "finish_reason": "tool_calls"}]}
    decoder = CHAT.decoder(STREAM)
    decoder.feed(f"data: {json.dumps(piece)}\n\ndata: [DONE]\n\n".encode())
    assert json.dumps(decoder.finish().completions[0].tool_calls[0].arguments) == json.dumps(arguments)

    item = {"type": "function_call", "call_id": "1", "name": "t", "arguments": arguments}
    whole = RESPONSES.decode(200, {}, json.dumps({"output": [item]}).encode())
    assert json.dumps(whole.completions[0].tool_calls[0].arguments) == json.dumps(arguments)
