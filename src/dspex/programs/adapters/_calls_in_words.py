"""Tools and their calls as text, for models whose servers enforce what they write: a line for each, and JSON back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

from dspex.programs.adapters._json_schema import closed_schema
from dspex.programs.adapters._native_turns import NOT_CALLED
from dspex.programs.adapters._shape import parameters_in_words
from dspex.protocols.content import TextPart, ToolCall, ToolResult
from dspex.protocols.json_values import Json
from dspex.protocols.lm import JsonSchema, LMRequest, Message, ToolSpec

__all__ = ["asked_in_words"]

_ASK = 'Answer with the call as JSON: {"name": ..., "arguments": {...}}; [] for none.'


def asked_in_words(request: LMRequest, tools: Sequence[ToolSpec]) -> LMRequest:
    """
    Return a request whose first message has the tools and whose last asks for the call, in a form that is enforced.

    Native definitions cost three times the tokens. The answer is a call, or a list of calls, an empty one too; where a
    tool's parameters have no schema that can be enforced, it is free.
    """
    if not tools or not request.messages:
        return request
    lines = "\n".join(_line(each) for each in tools)
    first, *rest = _examples_in_words(request.messages)
    messages = [_more(first, f"\n\nTools:\n{lines}"), *rest]
    messages[-1] = _more(messages[-1], f"\n\n{_ASK}")
    return replace(request, messages=tuple(messages), output=_schema(tools))


def _line(tool: ToolSpec) -> str:
    said = " ".join(tool.description.split())
    return f"{tool.name}({parameters_in_words(tool.parameters)})" + (f": {said}" if said else "")


def _schema(tools: Sequence[ToolSpec]) -> JsonSchema | None:
    calls: list[Json] = []
    defs: dict[str, object] = {}
    for tool in tools:
        schema = closed_schema(tool.parameters)
        if schema is None or defs.keys() & schema.get("$defs", {}).keys():
            return None
        defs |= schema.pop("$defs", {})
        call = {"name": {"const": tool.name}, "arguments": schema}
        calls.append(
            {"type": "object", "properties": call, "required": ["name", "arguments"], "additionalProperties": False}
        )
    shape = {"anyOf": [*calls, {"type": "array", "items": {"anyOf": calls}}]}
    return JsonSchema("calls", {**shape, "$defs": defs} if defs else shape)


def _examples_in_words(messages: Sequence[Message]) -> list[Message]:
    """Return the messages with calls that were never made written as the answer that is asked for."""
    found: list[Message] = []
    for at, message in enumerate(messages):
        if message.role == "tool" and _is_example(message):
            continue
        calls = [each for each in message.content if isinstance(each, ToolCall)]
        if calls and at + 1 < len(messages) and _is_example(messages[at + 1]):
            written = [{"name": each.name, "arguments": dict(each.arguments or {})} for each in calls]
            text = json.dumps(written[0] if len(written) == 1 else written, ensure_ascii=False)
            message = replace(message, content="\n\n".join([each for each in (message.text, text) if each]))
        found.append(message)
    return found


def _is_example(message: Message) -> bool:
    results = [each for each in message.content if isinstance(each, ToolResult)]
    return bool(results) and all(each.content == NOT_CALLED for each in results)


def _more(message: Message, text: str) -> Message:
    content = message.content
    return replace(message, content=content + text if isinstance(content, str) else (*content, TextPart(text)))
