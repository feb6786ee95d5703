"""Our requests, judged by the types of OpenAI's own client: every field known to it, every value of its type."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Required, Union, get_args, get_origin, get_type_hints

import pytest
from openai.types import EmbeddingCreateParams
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming
from typing_extensions import is_typeddict

from dspex.protocols.content import AudioPart, FilePart, ImagePart, Part, ReasoningPart, TextPart, ToolCall, ToolResult
from dspex.protocols.lm import EmbedRequest, JsonObject, JsonSchema, LMRequest, Message, ToolSpec
from dspex.protocols.model import LMParams
from dspex.services.lm.wires.chat.wire import OpenAIChat
from dspex.services.lm.wires.embeddings import OpenAIEmbeddings
from dspex.services.lm.wires.responses.wire import OpenAIResponses
from tests.support.sampling import sampling

THOUGHT = {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": "gAAA"}
USER: tuple[Part, ...] = (
    TextPart("Look"),
    ImagePart("image/png", b"x", detail="low"),
    FilePart("application/pdf", b"%PDF", name="paper.pdf"),
)
SAID: tuple[Part, ...] = (
    ReasoningPart("", "openai-responses", THOUGHT),
    TextPart("Let me see."),
    ToolCall("call_1", "weather", {"city": "Ulm"}, data={"id": "fc_1"}),
)
MESSAGES = (
    Message("system", "Be brief."),
    Message("user", USER),
    Message("assistant", SAID),
    Message("tool", (ToolResult("call_1", "weather", "rain"),)),
)
TOOLS = (ToolSpec("weather", "Tells the weather."),)
PARAMS = LMParams(temperature=0.1, max_tokens=9, top_p=0.5, reasoning="low", logprobs=2, parallel_tool_calls=False)


def misfits(value: Any, hint: Any, where: str = "") -> list[str]:
    """Return the places where a JSON value is not of the type; a field that the type does not name is one."""
    origin, arguments = get_origin(hint), get_args(hint)
    if is_typeddict(hint):
        if not isinstance(value, dict):
            return [where]
        hints = get_type_hints(hint, include_extras=True)
        missing = [name for name, each in hints.items() if get_origin(each) is Required and name not in value]
        found = [f"{where}.{name}" for name in (*missing, *(value.keys() - hints.keys()))]
        return [
            *found,
            *(bad for name in value.keys() & hints for bad in misfits(value[name], hints[name], f"{where}.{name}")),
        ]
    if origin in (Required, Annotated):
        return misfits(value, arguments[0], where)
    if origin in (Union, UnionType):
        ways = [misfits(value, each, where) for each in arguments]
        return min(ways, key=len)
    if origin is Literal:
        return [] if value in arguments else [where]
    if origin in (list, Iterable, Sequence):
        if not isinstance(value, list):
            return [where]
        return [bad for place, each in enumerate(value) for bad in misfits(each, arguments[0], f"{where}[{place}]")]
    if origin in (dict, Mapping):
        return [] if isinstance(value, dict) else [where]
    if hint is float:
        hint = (int, float)
    return [] if hint is Any or isinstance(value, hint) else [where]


def unknown_to(types: Any, body: bytes) -> list[str]:
    return misfits(json.loads(body), types)


@pytest.mark.parametrize("choice", ["auto", "none", "required", "weather"])
@pytest.mark.parametrize("output", [None, JsonObject(), JsonSchema("place", {"type": "object"})])
def test_chat(choice: str, output: JsonObject | JsonSchema | None) -> None:
    sound = Message("user", (AudioPart("audio/wav", b"RIFF"),))
    params = PARAMS.merged({"n": 2, "seed": 3, "stop": ["END"], "extra_body": {"prompt_cache_key": "k"}})
    request = LMRequest((*MESSAGES, sound), params, TOOLS, choice, output)

    assert not unknown_to(CompletionCreateParamsNonStreaming, OpenAIChat("max_completion_tokens").encode("m", request))


@pytest.mark.parametrize("choice", ["auto", "none", "required", "weather"])
@pytest.mark.parametrize("output", [None, JsonObject(), JsonSchema("place", {"type": "object"})])
def test_responses(choice: str, output: JsonObject | JsonSchema | None) -> None:
    request = LMRequest(MESSAGES, PARAMS, TOOLS, choice, output)

    assert not unknown_to(ResponseCreateParamsNonStreaming, OpenAIResponses().encode("gpt-5", request))


def test_embeddings() -> None:
    body = OpenAIEmbeddings().encode("m", EmbedRequest(("a", "b"), 3, {"user": "u"}))

    assert not unknown_to(EmbeddingCreateParams, body)


def test_a_field_that_the_types_do_not_know_is_noticed() -> None:
    """So that the tests above can fail."""
    body = OpenAIChat().encode("m", LMRequest(MESSAGES, sampling({"gpu": 1, "n": 2, "user": 3})))

    assert unknown_to(CompletionCreateParamsNonStreaming, body) == [".gpu", ".user"]
    assert unknown_to(CompletionCreateParamsNonStreaming, b'{"messages":[{"role":"user"}]}') == [
        ".model",
        ".messages[0].content",
    ]
