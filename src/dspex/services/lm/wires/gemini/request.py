"""Requests to Gemini's generateContent written: contents of parts, tools, the configuration."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from dspex.errors import RequestRejected
from dspex.protocols.content import FilePart, MediaPart, Part, ReasoningPart, TextPart, ToolCall, ToolResult
from dspex.protocols.json_values import JsonDict
from dspex.protocols.lm import JsonSchema, LMRequest, Message
from dspex.services.lm.wires._errors import check_form, unsayable
from dspex.services.lm.wires._turns import add_extra, inline_data, replayed
from dspex.services.lm.wires.chat.request import check_extra, check_tool_choice
from dspex.services.lm.wires.gemini.answer import PROVIDER
from dspex.services.lm.wires.gemini.models import BUDGETS, gemini_model

__all__ = ["content_fields"]

_NAME: Final = "Gemini's protocol"


def content_fields(model_name: str, request: LMRequest) -> JsonDict:
    """
    Return the body of a request; streaming is said by the address.

    Raises:
        RequestRejected: The protocol, or the model, does not support something; nothing was sent.
    """
    instruction, contents = _conversation(request.messages)
    if not contents:
        raise RequestRejected("the request has no user turn that says something; nothing was sent")
    fields: dict[str, object] = {}
    if instruction:
        fields["systemInstruction"] = {"parts": instruction}
    fields["contents"] = contents
    if request.tools or request.tool_choice != "auto":
        _add_tools(fields, request)
    config = _config(model_name, request)
    if config:
        fields["generationConfig"] = config
    if request.params.extra_body:
        check_extra(request)
        add_extra(fields, request.params.extra_body)
    return fields


# --- the conversation ---------------------------------------------------------------------------------------


def _conversation(messages: Sequence[Message]) -> tuple[list[JsonDict], list[JsonDict]]:
    """
    Return the parts of the system instruction, and the turns.

    Turns of one side that follow each other are one turn: the results of several calls must answer them together.
    An empty text says nothing and is left out, and so is a turn of nothing else.
    """
    known = _known_calls(messages)
    instruction: list[JsonDict] = []
    contents: list[JsonDict] = []
    for message in messages:
        parts = _parts(message, known)
        if message.role == "system":
            instruction.extend(parts)
            continue
        role = "model" if message.role == "assistant" else "user"
        if parts and contents and contents[-1]["role"] == role:
            contents[-1]["parts"].extend(parts)
        elif parts:
            contents.append({"role": role, "parts": parts})
    return instruction, contents


def _known_calls(messages: Sequence[Message]) -> set[str]:
    """Return the call ids that the provider gave itself; those made up by us or by another one it cannot know."""
    return {
        part.id
        for message in messages
        if not isinstance(message.content, str)
        for part in message.content
        if isinstance(part, ToolCall) and "id" in _kept(part)
    }


def _kept(call: ToolCall) -> Mapping[str, object]:
    """Return what this wire noted of a call."""
    kept = call.data.get(PROVIDER)
    return kept if isinstance(kept, Mapping) else {}


def _parts(message: Message, known: set[str]) -> list[JsonDict]:
    content, role = message.content, message.role
    if isinstance(content, str):
        if role == "tool":
            raise unsayable("a tool turn without ToolResult parts", _NAME)
        return [{"text": content}] if content else []
    written: list[JsonDict] = []
    if role == "assistant":
        for part in replayed(content, PROVIDER):
            _say(part, written)
        return written
    for part in content:
        if isinstance(part, TextPart) and role != "tool":
            if part.text:
                written.append({"text": part.text})
        elif role == "system":
            raise unsayable(f"{type(part).__name__} in a system turn", _NAME)
        elif isinstance(part, ToolResult):
            written.append(_result(part, known))
        elif isinstance(part, MediaPart) and role == "user":
            written.append(_media(part))
        else:
            raise unsayable(f"{type(part).__name__} in a {role} turn", _NAME)
    return written


def _say(part: Part, written: list[JsonDict]) -> None:
    """Write a part of the model's own turn."""
    if isinstance(part, TextPart):
        if part.text:
            written.append({"text": part.text})
    elif isinstance(part, ToolCall):
        # Arguments that were not a JSON object become an object that says so.
        given = part.arguments if part.arguments is not None else {"INVALID_JSON": part.raw}
        kept = _kept(part)
        call = {"id": part.id} if "id" in kept else {}
        signed = {"thoughtSignature": kept["thoughtSignature"]} if "thoughtSignature" in kept else {}
        written.append({"functionCall": {**call, "name": part.name, "args": given}, **signed})
    elif isinstance(part, ReasoningPart):
        _think(part, written)
    else:
        raise unsayable(f"{type(part).__name__} in an assistant turn", _NAME)


def _think(part: ReasoningPart, written: list[JsonDict]) -> None:
    kept, signature = part.data.get("part"), part.data.get("thoughtSignature")
    signed = {"thoughtSignature": signature} if signature else {}
    if isinstance(kept, Mapping):
        written.append(dict(kept))
    elif part.data.get("thought"):
        written.append({"text": part.text, "thought": True, **signed})
    elif signed and written and written[-1].keys() == {"text"}:
        written[-1].update(signed)  # it signs the text that ends here
    elif signed:
        written.append({"text": "", **signed})


def _result(part: ToolResult, known: set[str]) -> JsonDict:
    """Return what a tool gave: words under ``output`` or ``error``, pictures and documents beside them."""
    media: list[JsonDict] = []
    if isinstance(part.content, str):
        text = part.content
    else:
        text = "".join(each.text for each in part.content if isinstance(each, TextPart))
        media = [_media(each) for each in part.content if isinstance(each, MediaPart)]
    call = {"id": part.call_id} if part.call_id in known else {}
    response = {"error" if part.is_error else "output": text}
    written: JsonDict = {**call, "name": part.name, "response": response}
    if media:
        written["parts"] = media
    return {"functionResponse": written}


def _media(part: MediaPart) -> JsonDict:
    found = inline_data(part)
    if found is not None:
        return {"inlineData": {"mimeType": found[0], "data": found[1]}}
    if isinstance(part, FilePart) and part.provider_id:
        raise unsayable("a file by its id (give its URI with from_url)", _NAME)
    kind = {"mimeType": part.media_type} if part.media_type else {}
    return {"fileData": {"fileUri": part.url, **kind}}


# --- tools and parameters -----------------------------------------------------------------------------------


def _add_tools(fields: dict[str, object], request: LMRequest) -> None:
    check_tool_choice(request)
    if not request.tools:
        return
    if request.params.parallel_tool_calls is False:
        raise unsayable("one tool call at most (parallel_tool_calls=False)", _NAME)
    declarations = [
        {"name": tool.name, "description": tool.description, "parametersJsonSchema": tool.parameters}
        for tool in request.tools
    ]
    fields["tools"] = [{"functionDeclarations": declarations}]
    choice = request.tool_choice
    if choice == "auto":
        return
    config: dict[str, object] = {"mode": {"none": "NONE"}.get(choice, "ANY")}
    if choice not in ("none", "required"):
        config["allowedFunctionNames"] = [choice]
    fields["toolConfig"] = {"functionCallingConfig": config}


def _config(model_name: str, request: LMRequest) -> dict[str, object]:
    params, output = request.params, request.output
    config: dict[str, object] = {}
    if params.temperature is not None:
        config["temperature"] = params.temperature
    if params.top_p is not None:
        config["topP"] = params.top_p
    if params.max_tokens is not None:
        config["maxOutputTokens"] = params.max_tokens
    if params.stop:
        config["stopSequences"] = list(params.stop)
    if params.seed is not None:
        config["seed"] = params.seed
    if params.n != 1:
        config["candidateCount"] = params.n
    if output is not None:
        check_form(output, _NAME)
        config["responseMimeType"] = "application/json"
        if isinstance(output, JsonSchema):
            config["responseJsonSchema"] = output.schema
    if params.logprobs is not None:
        config["responseLogprobs"] = True
        if params.logprobs:
            config["logprobs"] = params.logprobs
    if params.reasoning is not None:
        thinking = _thinking(model_name, params.reasoning)
        if thinking:
            config["thinkingConfig"] = thinking
    return config


def _thinking(model_name: str, word: str) -> dict[str, object]:
    """Return the words for how hard to think; thoughts are then asked to be told."""
    model = gemini_model(model_name)
    if word == "none":
        if not model.stops_thinking:
            raise RequestRejected(f"{model_name} always thinks: reasoning='none' cannot be asked; nothing was sent")
        return {"thinkingBudget": 0} if model.thinking == "budget" else {}
    if model.thinking == "none":
        raise RequestRejected(f"{model_name} does not think: reasoning={word!r} cannot be asked; nothing was sent")
    if word.isascii() and word.isdigit() and len(word) < 10:
        return {"thinkingBudget": int(word), "includeThoughts": True}
    if model.thinking == "level":
        return {"thinkingLevel": word.upper(), "includeThoughts": True}
    if word not in BUDGETS:
        known = ", ".join(map(repr, ("none", *BUDGETS)))
        problem = f"{model_name} thinks up to a number of tokens: reasoning={word!r} is not one of {known}"
        raise RequestRejected(f"{problem} or a number; nothing was sent")
    return {"thinkingBudget": BUDGETS[word], "includeThoughts": True}
