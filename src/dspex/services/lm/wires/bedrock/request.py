"""Requests to Bedrock's Converse written: turns of blocks, tools, parameters."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from dspex.errors import RequestRejected
from dspex.protocols.content import FilePart, ImagePart, MediaPart, Part, ReasoningPart, TextPart, ToolCall, ToolResult
from dspex.protocols.lm import JsonSchema, LMRequest, Message
from dspex.services.lm.wires._errors import check_form, unsayable
from dspex.services.lm.wires._json import to_json
from dspex.services.lm.wires._turns import add_extra, inline_data, replayed
from dspex.services.lm.wires.anthropic.models import claude_model
from dspex.services.lm.wires.anthropic.request import add_sampling, add_thinking
from dspex.services.lm.wires.bedrock.answer import PROVIDER
from dspex.services.lm.wires.chat.request import check_extra, check_tool_choice

__all__ = ["converse_fields"]

_NAME: Final = "Bedrock's Converse"
_IMAGES: Final = {"image/png": "png", "image/jpeg": "jpeg", "image/gif": "gif", "image/webp": "webp"}
_DOCUMENTS: Final = {
    "application/msword": "doc",
    "application/pdf": "pdf",
    "application/vnd.ms-excel": "xls",
    "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet": "xlsx",
    "application/vnd.openxmlformats-officedocument.wordprocessingml.document": "docx",
    "text/csv": "csv",
    "text/html": "html",
    "text/markdown": "md",
    "text/plain": "txt",
}
_NOT_IN_A_NAME: Final = re.compile(r"[^0-9A-Za-z\-()\[\]]+")
_CLAUDE: Final = "anthropic."
_EXTRA: Final = "additionalModelRequestFields"

_Block = dict[str, Any]  # JSON


def converse_fields(model_name: str, request: LMRequest) -> dict[str, Any]:
    """
    Return the body of a request.

    Raises:
        RequestRejected: The protocol, or the model, does not support something; nothing was sent.
    """
    params = request.params
    refused = {
        "n": params.n != 1,
        "logprobs": params.logprobs is not None,
        "parallel_tool_calls": params.parallel_tool_calls is False and bool(request.tools),
    }
    for name, is_set in refused.items():
        if is_set:
            raise unsayable(f"the parameter {name!r}", _NAME)
    system, turns = _conversation(request.messages)
    if not turns:
        raise RequestRejected("the request has no user turn that says something; nothing was sent")
    fields: dict[str, Any] = {"messages": turns}
    if system:
        fields["system"] = system
    _add_parameters(fields, model_name, request)
    if request.tools or request.tool_choice != "auto":
        _add_tools(fields, request)
    if request.output is not None:
        check_form(request.output, _NAME)
        if not isinstance(request.output, JsonSchema):
            raise unsayable("an answer in JSON of any shape (give a JsonSchema)", _NAME)
        schema = {"name": request.output.name, "schema": to_json(request.output.schema).decode()}
        fields["outputConfig"] = {"textFormat": {"type": "json_schema", "structure": {"jsonSchema": schema}}}
    if params.extra_body:
        check_extra(request)
        add_extra(fields, params.extra_body)
    return fields


def _add_parameters(fields: dict[str, Any], model_name: str, request: LMRequest) -> None:
    """Add the parameters that every model takes, and those of Claude's own, where it is one."""
    params = request.params
    inference: dict[str, Any] = {"maxTokens": params.max_tokens} if params.max_tokens is not None else {}
    sampling = {"temperature": params.temperature, "topP": params.top_p}
    if _CLAUDE in model_name:
        model = claude_model(model_name)
        own: dict[str, object] = {"max_tokens": params.max_tokens or model.max_tokens}
        add_thinking(own, request, model, model_name)
        add_sampling({}, request, model, model_name)  # says what the model does not take
        inference["maxTokens"] = own.pop("max_tokens")
        if not model.sampling:
            sampling = {}
        if own:
            fields[_EXTRA] = own
    elif params.reasoning is not None:
        problem = f"how {model_name} is told to think is its own: reasoning={params.reasoning!r} cannot be said"
        raise RequestRejected(f"{problem}, extra_body={{{_EXTRA!r}: …}} can; nothing was sent")
    inference |= {name: value for name, value in sampling.items() if value is not None}
    if params.stop:
        inference["stopSequences"] = list(params.stop)
    if inference:
        fields["inferenceConfig"] = inference


def _add_tools(fields: dict[str, Any], request: LMRequest) -> None:
    check_tool_choice(request)
    choice = request.tool_choice
    if choice == "none":
        if any(name in block for turn in fields["messages"] for block in turn["content"] for name in _OF_TOOLS):
            raise unsayable("tool_choice='none' behind turns with tools", _NAME)
        return
    if not request.tools:
        return
    tools = [
        {
            "toolSpec": {
                "name": tool.name,
                **({"description": tool.description} if tool.description else {}),
                "inputSchema": {"json": tool.parameters},
            }
        }
        for tool in request.tools
    ]
    named: dict[str, Any] = {"auto": {"auto": {}}, "required": {"any": {}}}
    fields["toolConfig"] = {"tools": tools, "toolChoice": named.get(choice, {"tool": {"name": choice}})}


_OF_TOOLS: Final = ("toolUse", "toolResult")


# --- the conversation ---------------------------------------------------------------------------------------


def _conversation(messages: Sequence[Message]) -> tuple[list[_Block], list[dict[str, Any]]]:
    """
    Return the system prompt and the turns.

    Turns of one side that follow each other are one turn, as the protocol wants them to take turns; tool results open
    theirs. An empty text says nothing, and the provider takes none: it is left out, and so is a turn of nothing else.
    """
    system: list[_Block] = []
    turns: list[dict[str, Any]] = []
    documents = 0
    for message in messages:
        blocks = _system(message) if message.role == "system" else _blocks(message)
        if not blocks:
            continue
        for block in blocks:
            if "document" in block:
                documents += 1
                block["document"]["name"] = block["document"]["name"] or f"document {documents}"
        if message.cache is not None:
            ttl = {} if message.cache == "5m" else {"ttl": message.cache}
            blocks.append({"cachePoint": {"type": "default", **ttl}})
        role = "assistant" if message.role == "assistant" else "user"
        if message.role == "system":
            system.extend(blocks)
        elif turns and turns[-1]["role"] == role:
            turns[-1]["content"].extend(blocks)
        else:
            turns.append({"role": role, "content": blocks})
    for turn in turns:
        turn["content"].sort(key=lambda block: "toolResult" not in block)  # stable: all else keeps its order
    return system, turns


def _system(message: Message) -> list[_Block]:
    content = (TextPart(message.content),) if isinstance(message.content, str) else message.content
    for part in content:
        if not isinstance(part, TextPart):
            raise unsayable(f"{type(part).__name__} in a system turn", _NAME)
    return [{"text": part.text} for part in content if isinstance(part, TextPart) and part.text.strip()]


def _blocks(message: Message) -> list[_Block]:
    content = message.content
    if isinstance(content, str):
        if message.role == "tool":
            raise unsayable("a tool turn without ToolResult parts", _NAME)
        return [{"text": content}] if content.strip() else []
    if message.role == "assistant":
        return [block for part in replayed(content, PROVIDER) if (block := _said(part)) is not None]
    return [block for part in content if (block := _heard(part, message.role)) is not None]


def _said(part: Part) -> _Block | None:
    """Return the block of a part of the assistant's turn; None where there is nothing to say."""
    if isinstance(part, TextPart):
        return {"text": part.text} if part.text.strip() else None
    if isinstance(part, ReasoningPart):
        block = part.data.get("block")
        return dict(block) if isinstance(block, Mapping) else None
    if isinstance(part, ToolCall):
        # The protocol wants an object: for arguments that were not JSON it is one that says so.
        given = part.arguments if part.arguments is not None else {"INVALID_JSON": part.raw}
        return {"toolUse": {"toolUseId": part.id, "name": part.name, "input": given}}
    raise unsayable(f"{type(part).__name__} in an assistant turn", _NAME)


def _heard(part: Part, role: str) -> _Block | None:
    """Return the block of a part of a user's or tool's turn; None where there is nothing to say."""
    if isinstance(part, ToolResult):
        return _result(part)
    if role == "tool":
        raise unsayable(f"{type(part).__name__} in a tool turn", _NAME)
    if isinstance(part, TextPart):
        return {"text": part.text} if part.text.strip() else None
    if isinstance(part, (ImagePart, FilePart)):
        return _media(part)
    raise unsayable(f"{type(part).__name__} in a user turn", _NAME)


def _result(part: ToolResult) -> _Block:
    pieces = (TextPart(part.content),) if isinstance(part.content, str) else part.content
    content: list[_Block] = []
    for each in pieces:
        if isinstance(each, TextPart):
            if each.text.strip():
                content.append({"text": each.text})
        else:
            block = _media(each)
            if "document" in block:
                block["document"]["name"] = block["document"]["name"] or "document"
            content.append(block)
    status = {"status": "error"} if part.is_error else {}
    return {"toolResult": {"toolUseId": part.call_id, "content": content, **status}}


def _media(part: MediaPart) -> _Block:
    found = inline_data(part)
    if found is None and not (part.url or "").startswith("s3://"):
        raise unsayable(f"{type(part).__name__} by its address (data, or s3://…)", _NAME)
    source = {"bytes": found[1]} if found is not None else {"s3Location": {"uri": part.url}}
    media_type = (found[0] if found is not None else part.media_type).partition(";")[0].strip().lower()
    kinds = _IMAGES if isinstance(part, ImagePart) else _DOCUMENTS
    kind = kinds.get(media_type)
    if kind is None:
        raise unsayable(
            f"{type(part).__name__} of the type {media_type!r} (it takes {', '.join(sorted(kinds))})", _NAME
        )
    if isinstance(part, ImagePart):
        return {"image": {"format": kind, "source": source}}
    name = part.name if isinstance(part, FilePart) else ""
    # The name is not content, and the provider takes few characters in it.
    return {"document": {"format": kind, "name": _NOT_IN_A_NAME.sub(" ", name).strip(), "source": source}}
