"""Chat requests beyond text: media, tools, the form of the answer; checked against written-out JSON."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import Any

import pytest

from dspex.errors import RequestRejected
from dspex.protocols.content import (
    AudioPart,
    FilePart,
    ImagePart,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from dspex.protocols.lm import Completion, JsonObject, JsonSchema, LMRequest, Message, ToolSpec
from dspex.services.lm.wires.chat.wire import OpenAIChat
from tests.support.sampling import sampling

WIRE = OpenAIChat()
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = ToolSpec("weather", "Tells the weather.", SCHEMA)


def encoded(request: LMRequest, *, stream: bool = False) -> dict[str, Any]:
    found = json.loads(WIRE.encode("m", request, stream=stream))
    assert isinstance(found, dict)
    return found


def turns(*messages: Message) -> list[Any]:
    found = encoded(LMRequest(messages))["messages"]
    assert isinstance(found, list)
    return found


def fields(params: dict[str, Any] | None = None, **request: Any) -> dict[str, Any]:
    found = encoded(LMRequest((), sampling(params or {}), **request))
    return {name: value for name, value in found.items() if name not in ("model", "messages")}


class TestMessages:
    def test_media_of_a_user_turn(self) -> None:
        """Bytes travel as data addresses, sound as bare base64, addresses as they are."""
        content = (
            TextPart("Look:"),
            ImagePart("image/png", b"\x89PNG"),
            ImagePart("", url="https://pictures.example/1.jpg", detail="low"),
            AudioPart("audio/x-wav", b"RIFF"),
            AudioPart("audio/mpeg", b"ID3"),
            FilePart("application/pdf", b"%PDF", name="paper.pdf"),
        )

        assert turns(Message("user", content)) == [
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look:"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw=="}},
                    {"type": "image_url", "image_url": {"url": "https://pictures.example/1.jpg", "detail": "low"}},
                    {"type": "input_audio", "input_audio": {"data": "UklGRg==", "format": "wav"}},
                    {"type": "input_audio", "input_audio": {"data": "SUQz", "format": "mp3"}},
                    {
                        "type": "file",
                        "file": {"filename": "paper.pdf", "file_data": "data:application/pdf;base64,JVBERg=="},
                    },
                ],
            }
        ]

    def test_an_address_that_holds_its_data_is_data(self) -> None:
        """Sound has no other way to travel."""
        sound, file = AudioPart("", url="data:audio/wav;base64,UklGRg=="), FilePart("", url="data:text/plain,hi")
        [turn] = turns(Message("user", (sound, file)))

        assert turn["content"][0]["input_audio"] == {"data": "UklGRg==", "format": "wav"}
        assert turn["content"][1]["file"] == {"filename": "document", "file_data": "data:text/plain,hi"}

    def test_text_alone_stays_a_string(self) -> None:
        """The one form that every server knows."""
        assert turns(Message("user", (TextPart("Hi"),))) == [{"role": "user", "content": "Hi"}]

    def test_a_conversation_with_tools(self) -> None:
        """Calls go back in the assistant's turn, each result in a message of its own."""
        calls = (
            ToolCall("call_a", "weather", {"city": "Ulm"}, '{"city": "Ulm"}'),
            ToolCall("call_b", "weather", MappingProxyType({"city": "Kiel"})),
        )
        results = (
            ToolResult("call_a", "weather", "rain"),
            ToolResult("call_b", "weather", (TextPart("no "), TextPart("data")), is_error=True),
        )

        assert turns(Message("assistant", calls), Message("tool", results)) == [
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "call_a",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city": "Ulm"}'},
                    },
                    {
                        "id": "call_b",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"Kiel"}'},
                    },
                ],
            },
            {"role": "tool", "tool_call_id": "call_a", "content": "rain"},
            {"role": "tool", "tool_call_id": "call_b", "content": "no data"},
        ]

    def test_a_call_that_was_no_json_goes_back_inside_of_json(self) -> None:
        """The model sees what it wrote, and servers that read the arguments of earlier calls can."""
        [turn] = turns(Message("assistant", (TextPart("Let me."), ToolCall("c", "weather", None, '{"city": Ulm'))))

        assert turn["content"] == "Let me."
        assert turn["tool_calls"][0]["function"]["arguments"] == '{"INVALID_JSON":"{\\"city\\": Ulm"}'

    def test_thoughts_go_back_with_the_calls_they_led_to(self) -> None:
        """Under the name they came by; without a call they stay home."""
        thought = ReasoningPart("Rain?", "openai-chat", {"field": "reasoning_content"})
        details = [{"type": "reasoning.text", "text": "Snow?"}]
        structured = ReasoningPart("Snow?", "openai-chat", {"reasoning_details": details})
        foreign = ReasoningPart("", "anthropic", {"signature": "s"})
        call = ToolCall("c", "weather", {})

        with_call = Completion("", "tool_calls", (call,), (foreign, thought, structured)).turn()
        without = Completion("It rains.", "stop", (), (thought,)).turn()

        first, second = turns(with_call, without)
        assert first["reasoning_content"] == "Rain?"
        assert first["reasoning_details"] == details
        assert second == {"role": "assistant", "content": "It rains."}

    @pytest.mark.parametrize(
        ("message", "named"),
        [
            (Message("user", (AudioPart("audio/wav", url="https://sounds.example/1.wav"),)), "sound by its address"),
            (Message("user", (AudioPart("video/mp4", b"0"),)), "'video/mp4'"),
            (Message("user", (FilePart("application/pdf", url="https://files.example/1.pdf"),)), "file by its address"),
            (Message("user", (ToolCall("c", "t", {}),)), "ToolCall in a user turn"),
            (Message("system", (ImagePart("image/png", b"0"),)), "ImagePart in a system turn"),
            (Message("assistant", (ImagePart("image/png", b"0"),)), "ImagePart in an assistant turn"),
            (Message("tool", "rain"), "without ToolResult"),
            (Message("tool", (TextPart("rain"),)), "TextPart in a tool turn"),
            (Message("tool", (ToolResult("c", "camera", (ImagePart("image/png", b"0"),)),)), "ImagePart .*'camera'"),
        ],
    )
    def test_what_the_protocol_cannot_say_is_rejected_unsent(self, message: Message, named: str) -> None:
        """The message names the part."""
        with pytest.raises(RequestRejected, match=f"does not support .*{named}.*nothing was sent"):
            turns(message)


class TestTools:
    def test_definitions_and_choice(self) -> None:
        found = fields({"parallel_tool_calls": False}, tools=(WEATHER,), tool_choice="weather")

        assert found == {
            "tools": [
                {
                    "type": "function",
                    "function": {"name": "weather", "description": "Tells the weather.", "parameters": SCHEMA},
                }
            ],
            "tool_choice": {"type": "function", "function": {"name": "weather"}},
            "parallel_tool_calls": False,
        }

    @pytest.mark.parametrize("choice", ["none", "required"])
    def test_words_for_the_choice(self, choice: str) -> None:
        assert fields(tools=(WEATHER,), tool_choice=choice)["tool_choice"] == choice

    def test_the_models_own_choice_is_not_sent(self) -> None:
        """It is what providers do unasked; a server without tools may not know the field."""
        assert fields(tools=(WEATHER,)).keys() == {"tools"}
        assert fields({"parallel_tool_calls": True}) == {}
        assert fields(tool_choice="none") == {}

    @pytest.mark.parametrize(("choice", "tools"), [("required", ()), ("weather", ()), ("news", (WEATHER,))])
    def test_a_tool_that_is_not_there_cannot_be_demanded(self, choice: str, tools: tuple[ToolSpec, ...]) -> None:
        with pytest.raises(RequestRejected, match=f"tool_choice='{choice}'"):
            fields(tools=tools, tool_choice=choice)


class TestForm:
    def test_a_schema(self) -> None:
        """Any mapping will do for a schema."""
        output = JsonSchema("place", MappingProxyType(SCHEMA), strict=False)
        schema = {"name": "place", "schema": SCHEMA, "strict": False}

        assert fields(output=output) == {"response_format": {"type": "json_schema", "json_schema": schema}}

    def test_json_of_any_shape(self) -> None:
        assert fields(output=JsonObject()) == {"response_format": {"type": "json_object"}}


class TestParameters:
    def test_reasoning_and_logprobs(self) -> None:
        found = fields({"reasoning": "high", "logprobs": 3})

        assert found == {"reasoning_effort": "high", "logprobs": True, "top_logprobs": 3}

    def test_logprobs_of_the_chosen_tokens_alone(self) -> None:
        assert fields({"logprobs": 0}) == {"logprobs": True}

    def test_the_providers_own_parameters_come_last(self) -> None:
        """They may replace ours."""
        assert fields({"temperature": 0.5, "extra_body": {"temperature": 1}, "prompt_cache_key": "p"}) == {
            "temperature": 1,
            "prompt_cache_key": "p",
        }

    def test_a_stream_asks_for_its_usage(self) -> None:
        found = encoded(LMRequest((), sampling({"stream_options": {"include_obfuscation": False}})), stream=True)

        assert found["stream"] is True
        assert found["stream_options"] == {"include_usage": True, "include_obfuscation": False}

    def test_streaming_is_no_parameter(self) -> None:
        """The answer would come in a form that the caller did not ask for."""
        with pytest.raises(RequestRejected, match="'stream'"):
            fields({"stream": True})
