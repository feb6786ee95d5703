"""Requests to Anthropic's Messages written: turns of blocks, tools, thinking, parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from dspex.errors import RequestRejected
from dspex.protocols.content import FilePart, ImagePart, MediaPart, Part, ReasoningPart, TextPart, ToolCall, ToolResult
from dspex.protocols.json_values import JsonDict
from dspex.protocols.lm import JsonSchema, LMRequest, Message
from dspex.services.lm.wires._errors import check_form, unsayable
from dspex.services.lm.wires._turns import add_extra, inline_data, replayed
from dspex.services.lm.wires.anthropic.answer import PROVIDER
from dspex.services.lm.wires.anthropic.models import BUDGETS, ClaudeModel, claude_model
from dspex.services.lm.wires.chat.request import check_extra, check_tool_choice

__all__ = ["add_sampling", "add_thinking", "message_fields"]

_NAME: Final = "Anthropic's protocol"
_MOST_MARKS: Final = 4
"""The number of ends of the prompt that the provider keeps for one request."""
_FEWEST_THINKING_TOKENS: Final = 1024


def message_fields(model_name: str, request: LMRequest, *, stream: bool) -> JsonDict:
    """
    Return the body of a request.

    Raises:
        RequestRejected: The protocol, or the model, does not support something; nothing was sent.
    """
    model = claude_model(model_name)
    params = request.params
    for name, is_set in {"n": params.n != 1, "logprobs": params.logprobs is not None}.items():
        if is_set:
            raise unsayable(f"the parameter {name!r}", _NAME)
    system, turns = _conversation(request.messages)
    if not turns:
        raise RequestRejected("the request has no user turn that says something; nothing was sent")
    longest = params.max_tokens if params.max_tokens is not None else model.max_tokens
    fields: dict[str, object] = {"model": model_name, "max_tokens": longest}
    if system is not None:
        fields["system"] = system
    fields["messages"] = turns
    if request.tools or request.tool_choice != "auto":
        _add_tools(fields, request)
    add_thinking(fields, request, model, model_name)
    _add_output(fields, request, model, model_name)
    add_sampling(fields, request, model, model_name)
    if params.stop:
        fields["stop_sequences"] = list(params.stop)
    if stream:
        fields["stream"] = True
    if params.extra_body:
        check_extra(request)
        add_extra(fields, params.extra_body)
    return fields


# --- the conversation ---------------------------------------------------------------------------------------


def _conversation(messages: Sequence[Message]) -> tuple[str | list[JsonDict] | None, list[JsonDict]]:
    """
    Return the system prompt and the turns.

    Turns of one side that follow each other are one turn, as the provider has it too; tool results open theirs. An
    empty text says nothing, and the provider takes none: it is left out, and so is a turn of nothing else.
    """
    system: list[JsonDict] = []
    turns: list[tuple[str, list[JsonDict]]] = []
    marks = 0
    for message in messages:
        blocks = _system(message) if message.role == "system" else _blocks(message)
        if not blocks:
            continue
        if message.cache is not None:
            marks += 1
            _mark(blocks, message)
        role = "assistant" if message.role == "assistant" else "user"
        if message.role == "system":
            system.extend(blocks)
        elif turns and turns[-1][0] == role:
            turns[-1][1].extend(blocks)
        else:
            turns.append((role, blocks))
    if marks > _MOST_MARKS:
        problem = f"{marks} turns are to be kept (Message.cache), the provider keeps at most {_MOST_MARKS}"
        raise RequestRejected(f"{problem}; nothing was sent")
    written = []
    for role, blocks in turns:
        blocks.sort(key=lambda block: block["type"] != "tool_result")  # stable: all else keeps its order
        written.append({"role": role, "content": _short(blocks)})
    return (_short(system) if system else None), written


def _short(blocks: list[JsonDict]) -> str | list[JsonDict]:
    """Return a lone text as the string that the protocol takes for it."""
    if len(blocks) == 1 and blocks[0].keys() == {"type", "text"}:
        text: str = blocks[0]["text"]
        return text
    return blocks


def _mark(blocks: list[JsonDict], message: Message) -> None:
    """Ask for the prompt up to here to be kept; thoughts cannot carry the mark."""
    control = {"type": "ephemeral"} if message.cache == "5m" else {"type": "ephemeral", "ttl": message.cache}
    for block in reversed(blocks):
        if block["type"] not in ("thinking", "redacted_thinking"):
            block["cache_control"] = control
            return
    raise unsayable("keeping (Message.cache) a turn of thoughts only", _NAME)


def _system(message: Message) -> list[JsonDict]:
    content = (TextPart(message.content),) if isinstance(message.content, str) else message.content
    for part in content:
        if not isinstance(part, TextPart):
            raise unsayable(f"{type(part).__name__} in a system turn", _NAME)
    return [_text(part.text) for part in content if isinstance(part, TextPart) and part.text]


def _blocks(message: Message) -> list[JsonDict]:
    content = message.content
    if isinstance(content, str):
        if message.role == "tool":
            raise unsayable("a tool turn without ToolResult parts", _NAME)
        return [_text(content)] if content else []
    if message.role == "assistant":
        return [block for part in replayed(content, PROVIDER) if (block := _said(part)) is not None]
    return [block for part in content if (block := _heard(part, message.role)) is not None]


def _text(text: str) -> JsonDict:
    return {"type": "text", "text": text}


def _said(part: Part) -> JsonDict | None:
    """Return the block of a part of the assistant's turn; None where there is nothing to say."""
    if isinstance(part, TextPart):
        return _text(part.text) if part.text else None
    if isinstance(part, ReasoningPart):
        block = part.data.get("block")
        if not isinstance(block, Mapping) or not isinstance(block.get("type"), str):
            return None  # it lost what the provider would know it by
        return {**block, "thinking": part.text} if block["type"] == "thinking" else dict(block)
    if isinstance(part, ToolCall):
        # The provider's advice for arguments that were not JSON: an object that says so.
        given = part.arguments if part.arguments is not None else {"INVALID_JSON": part.raw}
        kept = part.data.get(PROVIDER)
        rest = kept if isinstance(kept, Mapping) else {}
        return {**rest, "type": "tool_use", "id": part.id, "name": part.name, "input": given}
    raise unsayable(f"{type(part).__name__} in an assistant turn", _NAME)


def _heard(part: Part, role: str) -> JsonDict | None:
    """Return the block of a part of a user's or tool's turn; None where there is nothing to say."""
    if isinstance(part, ToolResult):
        return _result(part)
    if role == "tool":
        raise unsayable(f"{type(part).__name__} in a tool turn", _NAME)
    if isinstance(part, TextPart):
        return _text(part.text) if part.text else None
    if isinstance(part, (ImagePart, FilePart)):
        return _media(part)
    raise unsayable(f"{type(part).__name__} in a user turn", _NAME)


def _result(part: ToolResult) -> JsonDict:
    block: JsonDict = {"type": "tool_result", "tool_use_id": part.call_id}
    content: str | list[JsonDict]
    if isinstance(part.content, str):
        content = part.content
    else:
        content = [
            _text(each.text) if isinstance(each, TextPart) else _media(each)
            for each in part.content
            if not isinstance(each, TextPart) or each.text
        ]
    if content:
        block["content"] = content
    if part.is_error:
        block["is_error"] = True
    return block


def _media(part: MediaPart) -> JsonDict:
    found = inline_data(part)
    source: JsonDict
    if isinstance(part, ImagePart):
        kind = "image"
        source = {"type": "url", "url": part.url}
        if found is not None:
            source = {"type": "base64", "media_type": found[0], "data": found[1]}
        return {"type": kind, "source": source}
    if not isinstance(part, FilePart):
        raise unsayable(type(part).__name__, _NAME)
    if part.provider_id:
        source = {"type": "file", "file_id": part.provider_id}
    elif found is None:
        source = {"type": "url", "url": part.url}
    elif found[0] == "application/pdf":
        source = {"type": "base64", "media_type": found[0], "data": found[1]}
    elif found[0].startswith("text/") and part.data is not None:
        try:
            text = part.data.decode()
        except UnicodeDecodeError as error:
            raise unsayable(f"a document of the type {found[0]!r} that is not UTF-8", _NAME) from error
        source = {"type": "text", "media_type": "text/plain", "data": text}
    else:
        raise unsayable(f"a document of the type {found[0]!r} (application/pdf or text/… is needed)", _NAME)
    return {"type": "document", "source": source, **({"title": part.name} if part.name else {})}


# --- tools, thinking, parameters ----------------------------------------------------------------------------


def _add_tools(fields: dict[str, object], request: LMRequest) -> None:
    check_tool_choice(request)
    if not request.tools:
        return
    fields["tools"] = [
        {
            "name": tool.name,
            **({"description": tool.description} if tool.description else {}),
            "input_schema": tool.parameters,
        }
        for tool in request.tools
    ]
    choice, one_at_most = request.tool_choice, request.params.parallel_tool_calls is False
    if choice == "none":
        fields["tool_choice"] = {"type": "none"}
    elif choice != "auto" or one_at_most:
        named = {"auto": {"type": "auto"}, "required": {"type": "any"}}.get(choice, {"type": "tool", "name": choice})
        fields["tool_choice"] = {**named, "disable_parallel_tool_use": True} if one_at_most else named


def add_thinking(fields: dict[str, object], request: LMRequest, model: ClaudeModel, model_name: str) -> None:
    """Add the fields by which a model thinks, to a body that has ``max_tokens``; raises as ``message_fields``."""
    word = request.params.reasoning
    if word is None:
        return
    if word == "none":
        if model.thinking == "always":
            raise RequestRejected(f"{model_name} always thinks: reasoning='none' cannot be asked; nothing was sent")
        if model.thinking != "none":
            fields["thinking"] = {"type": "disabled"}
        return
    if model.thinking == "none":
        raise RequestRejected(f"{model_name} does not think: reasoning={word!r} cannot be asked; nothing was sent")
    if model.thinking != "budget":
        fields["thinking"] = {"type": "adaptive"}
        fields["output_config"] = {"effort": "low" if word == "minimal" else word}
        return
    budget = int(word) if word.isascii() and word.isdigit() and len(word) < 10 else BUDGETS.get(word)
    if budget is None or budget < _FEWEST_THINKING_TOKENS:
        known = ", ".join(map(repr, ("none", *BUDGETS)))
        problem = f"{model_name} thinks up to a number of tokens: reasoning={word!r} is not one of {known}"
        raise RequestRejected(f"{problem} or a number from {_FEWEST_THINKING_TOKENS} on; nothing was sent")
    if request.params.max_tokens is None:
        fields["max_tokens"] = model.max_tokens + budget
    elif request.params.max_tokens <= budget:
        problem = f"max_tokens={request.params.max_tokens} must be more than the {budget} tokens of thinking"
        raise RequestRejected(f"{problem} that reasoning={word!r} stands for; nothing was sent")
    fields["thinking"] = {"type": "enabled", "budget_tokens": budget}


def _add_output(fields: JsonDict, request: LMRequest, model: ClaudeModel, model_name: str) -> None:
    output = request.output
    if output is None:
        return
    check_form(output, _NAME)
    if not isinstance(output, JsonSchema):
        raise unsayable("an answer in JSON of any shape (give a JsonSchema)", _NAME)
    if model.json_schema is False:
        raise RequestRejected(f"{model_name} cannot be held to a JSON schema; nothing was sent")
    form = {"type": "json_schema", "schema": output.schema}
    fields["output_config"] = {**fields.get("output_config", {}), "format": form}


def add_sampling(fields: dict[str, object], request: LMRequest, model: ClaudeModel, model_name: str) -> None:
    """Add temperature and top_p; a model that has only its default, 1, is not told of it."""
    for name, value in (("temperature", request.params.temperature), ("top_p", request.params.top_p)):
        if value is None:
            continue
        if model.sampling:
            fields[name] = value
        elif value != 1:
            problem = f"{model_name} takes no {name} but its default, 1; {name}={value} was asked"
            raise RequestRejected(f"{problem}; nothing was sent")
