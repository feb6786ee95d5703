"""The written-out requests and answers of both wires, held against the types of the providers' own clients."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx
import httpx2
import pytest
from anthropic import types as claude
from anthropic.types import message_create_params as claude_params
from google import genai
from google.genai import types as gemini
from pydantic import TypeAdapter, ValidationError

from dspex.protocols.content import AudioPart, FilePart, ImagePart, TextPart, ToolResult
from dspex.protocols.lm import JsonSchema, LMRequest, LMResponse, Message, ToolSpec
from dspex.protocols.wire import Wire
from dspex.services.lm.wires.anthropic.wire import Anthropic
from dspex.services.lm.wires.gemini.wire import Gemini
from tests.support import anthropic_answers, gemini_answers
from tests.support.sampling import sampling

WEATHER = ToolSpec("weather", "Tells the weather.", {"type": "object", "properties": {"city": {"type": "string"}}})
SCHEMA = JsonSchema("x", {"type": "object", "properties": {}, "additionalProperties": False})
MEDIA = (ImagePart("image/png", b"x"), FilePart("application/pdf", b"x", name="a"), FilePart("text/plain", b"x"))


def decode(wire: Wire, document: str) -> LMResponse:
    return wire.decode(200, {}, document.encode())


def streamed(wire: Wire, data: bytes) -> LMResponse:
    decoder = wire.decoder({})
    decoder.feed(data)
    return decoder.finish()


def asked(golden: dict[str, Any], wire: Wire, *media: Any, **fields: Any) -> LMRequest:
    """Return a request that uses all that the wire can write, the golden answer's turn among it."""
    (completion,) = decode(wire, json.dumps(golden)).completions
    call = completion.tool_calls[0]
    own = {name: fields.pop(name) for name in ("tool_choice",) if name in fields}
    turns = (
        Message("system", "Be brief.", cache="1h"),
        Message("user", (TextPart("How?"), *MEDIA, *media, ImagePart("", url="https://example.com/a.png"))),
        completion.turn(),
        Message("tool", (ToolResult(call.id, call.name, (TextPart("x"),), is_error=True),), cache="5m"),
    )
    return LMRequest(turns, sampling({**fields, "stop": "x"}), (WEATHER,), output=SCHEMA, **own)


# --- Anthropic ----------------------------------------------------------------------------------------------


def known_events() -> list[dict[str, Any]]:
    return [
        each
        for each in anthropic_answers.RICH_STREAM
        if each["type"] not in ("ping", "something_new") and "sparkle" not in json.dumps(each)
    ]


def test_golden_answers_are_messages() -> None:
    """We read all that Anthropic sends."""
    claude.Message.model_validate(anthropic_answers.RICH)
    events: TypeAdapter[Any] = TypeAdapter(claude.RawMessageStreamEvent)

    for event in known_events():
        assert events.validate_python(event).type == event["type"]


def test_anthropics_client_reads_the_same_stream_alike() -> None:
    """Its accumulator makes the same of our bytes as we do."""
    data = anthropic_answers.stream(*known_events())

    def reply(_: httpx2.Request) -> httpx2.Response:
        return httpx2.Response(200, headers={"content-type": "text/event-stream"}, content=data)

    with (
        anthropic.DefaultHttpxClient(transport=httpx2.MockTransport(reply)) as http,
        anthropic.Anthropic(api_key="k", http_client=http) as client,
        client.messages.stream(model="claude-opus-5", max_tokens=1, messages=[{"role": "user", "content": "?"}]) as got,
    ):
        theirs = got.get_final_message()

    assert decode(Anthropic(), theirs.model_dump_json(exclude_none=True)) == streamed(Anthropic(), data)


BLOCKS: dict[str, Any] = {
    "text": claude.TextBlockParam,
    "image": claude.ImageBlockParam,
    "document": claude.DocumentBlockParam,
    "tool_use": claude.ToolUseBlockParam,
    "tool_result": claude.ToolResultBlockParam,
    "thinking": claude.ThinkingBlockParam,
    "redacted_thinking": claude.RedactedThinkingBlockParam,
    "server_tool_use": claude.ServerToolUseBlockParam,
}


def check(value: Any, shape: Any) -> None:
    """Check that a value has the shape, and no field that the shape does not know."""
    assert set(value) <= set(shape.__annotations__), value
    TypeAdapter(shape).validate_python(value)


@pytest.mark.parametrize("model", ["claude-sonnet-4-5", "claude-opus-5"])
def test_golden_requests_are_anthropics(model: str) -> None:
    """Every field is known by that name, and every block is one of its kind."""
    request = asked(
        anthropic_answers.RICH, Anthropic(), tool_choice="required", parallel_tool_calls=False, reasoning="high"
    )
    found = json.loads(Anthropic().encode(model, request))

    assert set(found) <= set(claude_params.MessageCreateParamsBase.__annotations__)
    blocks = [*found["system"], *(each for turn in found["messages"] for each in turn["content"])]
    assert {each["type"] for each in blocks} == set(BLOCKS)
    for each in blocks:
        check(each, BLOCKS[each["type"]])
    check(found["tools"][0], claude.ToolParam)
    check(found["tool_choice"], claude.ToolChoiceAnyParam)
    check(found["output_config"], claude.OutputConfigParam)
    TypeAdapter(claude.ThinkingConfigParam).validate_python(found["thinking"])


# --- Gemini -------------------------------------------------------------------------------------------------


def test_golden_answers_are_geminis() -> None:
    """We read all that the provider sends: its client knows every field."""
    for each in (gemini_answers.RICH, *gemini_answers.RICH_STREAM):
        assert gemini.GenerateContentResponse.model_validate(each).response_id == "resp_1"
    with pytest.raises(ValidationError):
        gemini.GenerateContentResponse.model_validate({**gemini_answers.RICH, "unheardOf": 1})


def test_geminis_client_reads_the_same_stream_alike() -> None:
    """The words and calls that it makes of our bytes are those that we make of them."""
    data = gemini_answers.stream(*gemini_answers.RICH_STREAM)

    def reply(request: httpx.Request) -> httpx.Response:
        assert str(request.url).endswith(Gemini().path("gemini-2.5-flash", stream=True))
        return httpx.Response(200, headers={"content-type": "text/event-stream"}, content=data)

    with httpx.Client(transport=httpx.MockTransport(reply)) as http:
        client = genai.Client(api_key="k", http_options=gemini.HttpOptions(httpx_client=http))
        chunks = list(client.models.generate_content_stream(model="gemini-2.5-flash", contents="?"))
    parts = [
        part
        for chunk in chunks
        for candidate in chunk.candidates or ()
        for part in (candidate.content.parts if candidate.content else None) or ()
    ]

    (ours,) = streamed(Gemini(), data).completions
    assert "".join(part.text or "" for part in parts if not part.thought) == ours.text
    assert "".join(part.text or "" for part in parts if part.thought) == ours.reasoning[0].text
    theirs = [(part.function_call.name, part.function_call.args) for part in parts if part.function_call]
    assert theirs == [(call.name, call.arguments) for call in ours.tool_calls]


@pytest.mark.parametrize("model", ["gemini-2.5-flash", "gemini-3-pro-preview"])
def test_golden_requests_are_geminis(model: str) -> None:
    """Every field is known by that name: the client's types take no other."""
    request = asked(
        gemini_answers.RICH,
        Gemini(),
        AudioPart("audio/wav", b"x"),
        tool_choice="weather",
        reasoning="high",
        temperature=0.5,
        top_p=0.5,
        max_tokens=9,
        seed=3,
        n=2,
        logprobs=4,
    )
    found = json.loads(Gemini().encode(model, request))

    for content in (found.pop("systemInstruction"), *found.pop("contents")):
        assert gemini.Content.model_validate(content).parts
    (tool,) = found.pop("tools")
    assert gemini.Tool.model_validate(tool).function_declarations
    assert gemini.ToolConfig.model_validate(found.pop("toolConfig")).function_calling_config
    assert gemini.GenerationConfig.model_validate(found.pop("generationConfig")).seed == 3
    assert found == {}
