"""OpenAI's Responses written: input items, instructions, flat tools, the form of the text, parameters."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from dspex.protocols.content import FilePart, ImagePart, Part, ReasoningPart, TextPart, ToolCall, ToolResult
from dspex.protocols.json_values import JsonDict
from dspex.protocols.lm import JsonSchema, LMRequest, Message
from dspex.services.lm.wires._capabilities import capabilities_of
from dspex.services.lm.wires._errors import check_form, unsayable
from dspex.services.lm.wires._turns import add_extra, replayed
from dspex.services.lm.wires.chat.request import call_arguments, check_extra, check_tool_choice
from dspex.services.lm.wires.responses.answer import PROVIDER

__all__ = ["response_fields"]

_NAME: Final = "OpenAI's Responses protocol"


def response_fields(model_name: str, request: LMRequest) -> JsonDict:
    """
    Return the request as JSON values; ``extra_body`` comes last and joins or replaces ours.

    Nothing is kept on the server (``store`` is false): a model that reasons is therefore asked for its thoughts in
    encrypted form, which go back with the tool calls that they led to.

    Raises:
        RequestRejected: A part or a parameter is set that the protocol does not support.
    """
    instructions, turns = _instructions(request.messages)
    fields: dict[str, object] = {"model": model_name, "input": _items(turns), "store": False}
    if instructions:
        fields["instructions"] = instructions
    _add_tools(fields, request)
    output = request.output
    if isinstance(output, JsonSchema):
        form = {"type": "json_schema", "name": output.name, "schema": output.schema, "strict": output.strict}
        fields["text"] = {"format": form}
    elif output is not None:
        check_form(output, _NAME)
        fields["text"] = {"format": {"type": "json_object"}}
    _add_parameters(fields, request, reasons=capabilities_of(PROVIDER, model_name).reasoning)
    check_extra(request)
    add_extra(fields, request.params.extra_body)
    return fields


def _instructions(messages: Sequence[Message]) -> tuple[str, Sequence[Message]]:
    """Take the system turns that come first out of the conversation."""
    texts: list[str] = []
    for place, message in enumerate(messages):
        if message.role != "system":
            return "\n\n".join(texts), messages[place:]
        texts.append(_text_only(message.content, "a system turn"))
    return "\n\n".join(texts), ()


def _text_only(content: str | tuple[Part, ...], where: str) -> str:
    if isinstance(content, str):
        return content
    for part in content:
        if not isinstance(part, TextPart):
            raise unsayable(f"{type(part).__name__} in {where}", _NAME)
    return "".join([part.text for part in content if isinstance(part, TextPart)])


def _items(messages: Sequence[Message]) -> list[dict[str, object]]:
    items: list[dict[str, object]] = []
    for message in messages:
        content, role = message.content, message.role
        if role == "tool":
            items.extend(_results(content))
        elif isinstance(content, str):
            items.append({"type": "message", "role": role, "content": content})
        elif role == "assistant":
            items.extend(_assistant(content))
        elif role == "system":
            items.append({"type": "message", "role": role, "content": _text_only(content, "a system turn")})
        else:
            parts = [_input_part(part, "a user turn") for part in content if not isinstance(part, ReasoningPart)]
            items.append({"type": "message", "role": role, "content": parts})
    return items


def _results(content: str | tuple[Part, ...]) -> list[dict[str, object]]:
    if isinstance(content, str):
        raise unsayable("a tool turn without ToolResult parts", _NAME)
    items: list[dict[str, object]] = []
    for part in content:
        if not isinstance(part, ToolResult):
            raise unsayable(f"{type(part).__name__} in a tool turn", _NAME)
        where = f"the result of the tool {part.name!r}"
        output = part.content if isinstance(part.content, str) else [_input_part(each, where) for each in part.content]
        items.append({"type": "function_call_output", "call_id": part.call_id, "output": output})
    return items


def _assistant(content: tuple[Part, ...]) -> list[dict[str, object]]:
    """Return an assistant's turn as items in their order; thoughts go back only before the calls they led to."""
    calls = any(isinstance(part, ToolCall) for part in content)
    items: list[dict[str, object]] = []
    for part in replayed(content, PROVIDER):
        if isinstance(part, TextPart):
            items.append({"type": "message", "role": "assistant", "content": part.text})
        elif isinstance(part, ToolCall):
            call = {"type": "function_call", "call_id": part.id, "name": part.name}
            items.append({**part.data, **call, "arguments": call_arguments(part)})
        elif isinstance(part, ReasoningPart):
            if calls and part.data.get("encrypted_content"):
                items.append({name: value for name, value in part.data.items() if name != "at"})
        else:
            raise unsayable(f"{type(part).__name__} in an assistant turn", _NAME)
    return items


def _input_part(part: Part, where: str) -> JsonDict:
    if isinstance(part, TextPart):
        return {"type": "input_text", "text": part.text}
    if isinstance(part, ImagePart):
        image = {"type": "input_image", "image_url": part.data_url}
        if part.detail is not None:
            image["detail"] = part.detail
        return image
    if isinstance(part, FilePart):
        if part.provider_id:
            return {"type": "input_file", "file_id": part.provider_id}
        if part.url is not None:
            return {"type": "input_file", "file_url": part.url}
        return {"type": "input_file", "filename": part.name or "document", "file_data": part.data_url}
    raise unsayable(f"{type(part).__name__} in {where}", _NAME)


def _add_tools(fields: dict[str, object], request: LMRequest) -> None:
    check_tool_choice(request)
    if not request.tools:
        return
    fields["tools"] = [
        # Functions are strict here unless one says otherwise, and strict schemas allow no optional parameters.
        {
            "type": "function",
            "name": tool.name,
            "description": tool.description,
            "parameters": tool.parameters,
            "strict": False,
        }
        for tool in request.tools
    ]
    choice = request.tool_choice
    if choice in ("none", "required"):
        fields["tool_choice"] = choice
    elif choice != "auto":
        fields["tool_choice"] = {"type": "function", "name": choice}
    if request.params.parallel_tool_calls is not None:
        fields["parallel_tool_calls"] = request.params.parallel_tool_calls


def _add_parameters(fields: dict[str, object], request: LMRequest, *, reasons: bool) -> None:
    params = request.params
    if params.n != 1:
        raise unsayable(f"n={params.n} answers to one request", _NAME)
    if params.stop:
        raise unsayable("stop sequences", _NAME)
    if params.temperature is not None:
        fields["temperature"] = params.temperature
    if params.top_p is not None:
        fields["top_p"] = params.top_p
    if params.max_tokens is not None:
        fields["max_output_tokens"] = params.max_tokens
    include: list[str] = []
    if params.reasoning is not None:
        fields["reasoning"] = {"effort": params.reasoning}
    if reasons or params.reasoning is not None:
        include.append("reasoning.encrypted_content")
    if params.logprobs is not None:
        include.append("message.output_text.logprobs")
        if params.logprobs:
            fields["top_logprobs"] = params.logprobs
    if include:
        fields["include"] = include
