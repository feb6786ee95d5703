"""Chat completions written: messages, tools, the form of the answer, parameters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, Literal

from dspex.errors import RequestRejected
from dspex.protocols.content import (
    AudioPart,
    FilePart,
    ImagePart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from dspex.protocols.json_values import JsonDict
from dspex.protocols.lm import JsonObject, JsonSchema, LMRequest, Message
from dspex.protocols.text_shapes import Grammar, TextChoice, one_of_pattern
from dspex.services.lm.wires._errors import TEXT_FORMS, unsayable
from dspex.services.lm.wires._json import parse, to_json
from dspex.services.lm.wires._turns import add_extra, inline_data
from dspex.services.lm.wires.chat.answer import PROVIDER

__all__ = [
    "TextWords",
    "add_parameters",
    "add_prefill",
    "call_arguments",
    "chat_messages",
    "check_extra",
    "check_tool_choice",
    "length_field_of",
]

_NAME: Final = "OpenAI's chat protocol"
_AUDIO_FORMATS: Final = {
    "audio/wav": "wav",
    "audio/wave": "wav",
    "audio/x-wav": "wav",
    "audio/vnd.wave": "wav",
    "audio/mpeg": "mp3",
    "audio/mp3": "mp3",
}


def chat_messages(messages: Sequence[Message]) -> list[JsonDict]:
    """
    Return the messages as JSON values.

    Raises:
        RequestRejected: A part stands where the protocol does not support it.
    """
    written: list[dict[str, object]] = []
    for message in messages:
        content, role = message.content, message.role
        if role == "tool":
            written.extend(_tool_messages(content))
        elif isinstance(content, str):
            written.append({"role": role, "content": content})
        elif role == "assistant":
            written.append(_assistant(content))
        else:
            written.append({"role": role, "content": _parts(content, role)})
    return written


def _tool_messages(content: str | tuple[Part, ...]) -> list[dict[str, object]]:
    """Return one message per result; whether the tool failed is for its words to say."""
    if isinstance(content, str):
        raise unsayable("a tool turn without ToolResult parts", _NAME)
    written: list[dict[str, object]] = []
    for part in content:
        if not isinstance(part, ToolResult):
            raise unsayable(f"{type(part).__name__} in a tool turn", _NAME)
        if isinstance(part.content, str):
            text: object = part.content
        else:
            for each in part.content:
                if not isinstance(each, TextPart):
                    raise unsayable(f"{type(each).__name__} in the result of the tool {part.name!r}", _NAME)
            text = "".join([each.text for each in part.content if isinstance(each, TextPart)])
        written.append({"role": "tool", "tool_call_id": part.call_id, "content": text})
    return written


def _assistant(content: tuple[Part, ...]) -> dict[str, object]:
    """Return an assistant's turn; its thoughts go back where a tool call depends on them, under their own name."""
    texts: list[str] = []
    calls: list[dict[str, object]] = []
    thoughts: list[ReasoningPart] = []
    for part in content:
        if isinstance(part, TextPart):
            texts.append(part.text)
        elif isinstance(part, ToolCall):
            calls.append(_call(part))
        elif isinstance(part, ReasoningPart):
            thoughts.append(part)
        else:
            raise unsayable(f"{type(part).__name__} in an assistant turn", _NAME)
    turn: dict[str, object] = {"role": "assistant", "content": "".join(texts)}
    if calls:
        turn["content"] = turn["content"] or None
        turn["tool_calls"] = calls
        for thought in thoughts:
            if thought.provider == PROVIDER:
                _add_thought(turn, thought)
    return turn


def _add_thought(turn: JsonDict, thought: ReasoningPart) -> None:
    details, field = thought.data.get("reasoning_details"), thought.data.get("field")
    if isinstance(details, list):
        turn["reasoning_details"] = [*turn.get("reasoning_details", ()), *details]
    elif isinstance(field, str) and thought.text:
        turn[field] = turn.get(field, "") + thought.text


def _call(call: ToolCall) -> dict[str, object]:
    if call.data.get("custom"):
        return {"id": call.id, "type": "custom", "custom": {"name": call.name, "input": call.raw}}
    function = {"name": call.name, "arguments": call_arguments(call)}
    return {"id": call.id, "type": "function", "function": function}


def call_arguments(call: ToolCall) -> str:
    """
    Return the arguments as the text that came, or as JSON where the call was made by a program.

    Text that is not a JSON object goes back inside of one: many servers read the arguments of earlier calls, and would
    refuse every later turn.
    """
    if call.arguments is None:
        return to_json({"INVALID_JSON": call.raw}).decode()
    return call.raw if _is_object(call.raw) else to_json(call.arguments).decode()


def _is_object(raw: str) -> bool:
    try:
        return isinstance(parse(raw), dict)
    except ValueError:
        return False


def _parts(content: tuple[Part, ...], role: str) -> object:
    if len(content) == 1 and isinstance(content[0], TextPart):
        return content[0].text  # the one form that every server knows
    written: list[dict[str, object]] = []
    for part in content:
        if isinstance(part, TextPart):
            written.append({"type": "text", "text": part.text})
        elif isinstance(part, ReasoningPart):
            continue
        elif role != "user":
            raise unsayable(f"{type(part).__name__} in a {role} turn", _NAME)
        elif isinstance(part, ImagePart):
            image = {"url": part.data_url}
            if part.detail is not None:
                image["detail"] = part.detail
            written.append({"type": "image_url", "image_url": image})
        elif isinstance(part, AudioPart):
            written.append({"type": "input_audio", "input_audio": _sound(part)})
        elif isinstance(part, FilePart) and part.provider_id:
            written.append({"type": "file", "file": {"file_id": part.provider_id}})
        elif isinstance(part, FilePart):
            if inline_data(part) is None:
                raise unsayable("a file by its address (give its bytes)", _NAME)
            written.append({"type": "file", "file": {"filename": part.name or "document", "file_data": part.data_url}})
        else:
            raise unsayable(f"{type(part).__name__} in a {role} turn", _NAME)
    return written


def _sound(part: AudioPart) -> dict[str, str]:
    inline = inline_data(part)
    if inline is None:
        raise unsayable("sound by its address (give its bytes)", _NAME)
    media_type, data = inline
    kind = media_type.partition(";")[0].strip().lower()
    if not kind.startswith("audio/"):
        raise unsayable(f"sound of the type {media_type!r} (an audio/… type is needed)", _NAME)
    return {"data": data, "format": _AUDIO_FORMATS.get(kind) or kind.removeprefix("audio/").removeprefix("x-")}


_REASONING: Final = re.compile(r"(?:.*[/.])?(?:o[1-9][0-9]?|gpt-(?:[5-9]|[1-9][0-9])(?:\.[0-9])?)(?:[-:@].*)?")


def length_field_of(model_name: str) -> str:
    """Return the parameter for the answer's length: OpenAI's reasoning models take no other than the newer one."""
    return "max_completion_tokens" if _REASONING.fullmatch(model_name.lower()) else "max_tokens"


def check_tool_choice(request: LMRequest) -> None:
    """
    Check that the request's ``tool_choice`` can be followed.

    Raises:
        RequestRejected: It demands a tool that the request does not have.
    """
    choice = request.tool_choice
    if choice in ("auto", "none"):
        return
    if not request.tools:
        raise RequestRejected(f"tool_choice={choice!r} needs tools, the request has none; nothing was sent")
    names = [tool.name for tool in request.tools]
    if choice != "required" and choice not in names:
        known = ", ".join(names)
        raise RequestRejected(f"tool_choice={choice!r} is not a tool of the request (it has {known}); nothing was sent")


def check_extra(request: LMRequest) -> None:
    """
    Check the parameters that are passed on as they are.

    Raises:
        RequestRejected: They switch streaming on or off, which the caller's way of asking does.
    """
    if "stream" in request.params.extra_body:
        raise RequestRejected("the parameter 'stream' is set by how the answer is asked for; nothing was sent")


TextWords = Literal["", "llamacpp", "vllm", "sglang"]
"""Servers that hold an answer's text to a form, each in words of its own."""


def _add_text_form(fields: dict[str, object], output: TextChoice | Grammar, words: TextWords) -> None:
    """
    Say which form the answer's text must have.

    Raises:
        RequestRejected: The server is not known to enforce any.
    """
    if words == "llamacpp":
        fields["grammar"] = output.gbnf
    elif words == "vllm":
        fields["structured_outputs"] = (
            {"grammar": output.gbnf} if isinstance(output, Grammar) else {"choice": list(output.texts)}
        )
    elif words == "sglang" and isinstance(output, TextChoice):
        fields["regex"] = one_of_pattern(output.texts)
    elif words == "sglang":
        fields["ebnf"] = output.gbnf
    else:
        raise unsayable(f"{TEXT_FORMS} (llamacpp/…, vllm/… and sglang/… have words of their own for it)", _NAME)


def add_prefill(fields: dict[str, object], request: LMRequest, words: TextWords) -> None:
    """Say that the model goes on with the last turn, where it is the assistant's and the server has words for that."""
    last = request.messages[-1] if request.messages else None
    if words in ("vllm", "sglang") and last is not None and last.role == "assistant" and isinstance(last.content, str):
        fields["continue_final_message"] = True
        if words == "vllm":
            fields["add_generation_prompt"] = False


def add_parameters(
    fields: dict[str, object],
    request: LMRequest,
    *,
    length_field: str,
    seed_field: str,
    text_words: TextWords = "",
) -> None:
    """Add tools, the form of the answer and the parameters that were set; ``extra_body`` joins or replaces them."""
    if request.tools or request.tool_choice != "auto":
        _add_tools(fields, request)
    output = request.output
    if output is not None:
        if isinstance(output, JsonSchema):
            schema = {"name": output.name, "schema": output.schema, "strict": output.strict}
            fields["response_format"] = {"type": "json_schema", "json_schema": schema}
        elif not isinstance(output, JsonObject):
            _add_text_form(fields, output, text_words)
        else:
            fields["response_format"] = {"type": "json_object"}
    params = request.params
    if params.temperature is not None:
        fields["temperature"] = params.temperature
    if params.max_tokens is not None:
        fields[length_field] = params.max_tokens
    if params.top_p is not None:
        fields["top_p"] = params.top_p
    if params.stop:
        fields["stop"] = list(params.stop)
    if params.n != 1:
        fields["n"] = params.n
    if params.seed is not None:
        fields[seed_field] = params.seed
    if params.reasoning is not None:
        fields["reasoning_effort"] = params.reasoning
    if params.logprobs is not None:
        fields["logprobs"] = True
        if params.logprobs:
            fields["top_logprobs"] = params.logprobs
    if params.extra_body:
        check_extra(request)
        add_extra(fields, params.extra_body)


def _add_tools(fields: dict[str, object], request: LMRequest) -> None:
    check_tool_choice(request)
    if not request.tools:
        return
    fields["tools"] = [
        {
            "type": "function",
            "function": {"name": tool.name, "description": tool.description, "parameters": tool.parameters},
        }
        for tool in request.tools
    ]
    choice = request.tool_choice
    if choice in ("none", "required"):
        fields["tool_choice"] = choice
    elif choice != "auto":
        fields["tool_choice"] = {"type": "function", "function": {"name": choice}}
    if request.params.parallel_tool_calls is not None:
        fields["parallel_tool_calls"] = request.params.parallel_tool_calls
