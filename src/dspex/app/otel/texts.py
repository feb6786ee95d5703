"""Values for attributes: of bounded length, and such as every exporter can write."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from dspex._guard import class_name, text_of
from dspex.protocols.content import ReasoningPart, TextPart, ToolCall, ToolResult
from dspex.protocols.lm import LMRequest, LMResponse, Message
from dspex.protocols.retrieval import Passage

__all__ = [
    "LONGEST_NAME",
    "LONGEST_TEXT",
    "answers_of",
    "bounded",
    "content_of",
    "documents_of",
    "messages_of",
    "plain",
    "tools_of",
]

LONGEST_NAME: Final = 100
"""Characters of a name in a span's name; models choose the names of tools that they ask for."""

LONGEST_VALUE: Final = 256
LONGEST_TEXT: Final = 8_000
"""Characters of one message, one argument list or one result."""

MOST_MESSAGES: Final = 50


def bounded(value: object, longest: int = LONGEST_VALUE) -> str:
    """Return the beginning of a text; half characters, which exporters cannot write, become question marks."""
    text = text_of(value)[: longest + 1]
    if len(text) > longest:
        text = text[: longest - 1] + "…"
    return text.encode("utf-8", "replace").decode("utf-8")


def plain(value: object) -> str | int | float | bool:
    """Return what an attribute may be: a number, or a short text; of an error its class."""
    if isinstance(value, BaseException):
        return class_name(value)
    if isinstance(value, (bool, float)) or (isinstance(value, int) and -(2**63) <= value < 2**63):
        return value
    return bounded(value)


def content_of(value: object) -> str:
    """Return arguments or a result as JSON, or as text where they are not JSON."""
    if isinstance(value, str):
        return bounded(value, LONGEST_TEXT)
    try:
        return bounded(json.dumps(value, ensure_ascii=False, default=text_of), LONGEST_TEXT)
    except (TypeError, ValueError, RecursionError):
        return bounded(value, LONGEST_TEXT)


def messages_of(request: LMRequest) -> str:
    """Return a conversation as the conventions have it; of a long one the system's and the latest turns."""
    turns = request.messages
    if len(turns) > MOST_MESSAGES:
        turns = (turns[0], *turns[1 - MOST_MESSAGES :])
    return json.dumps([_turn(each) for each in turns], ensure_ascii=False)


def answers_of(response: LMResponse) -> str:
    """Return the answers as the conventions have them."""
    found = [
        {**_turn(each.turn()), "finish_reason": bounded(each.finish_reason)}
        for each in response.completions[:MOST_MESSAGES]
    ]
    return json.dumps(found, ensure_ascii=False)


def tools_of(request: LMRequest) -> str:
    """Return the tools that a model is told of, as the conventions have them."""
    found = [
        {"type": "function", "name": each.name, "description": bounded(each.description), "parameters": each.parameters}
        for each in request.tools[:MOST_MESSAGES]
    ]
    return content_of(found)


def documents_of(passages: Sequence[Passage]) -> str:
    """Return the passages that were found, as the conventions have them."""
    found = [
        {"id": bounded(each.id), "score": each.score, "content": bounded(str(each), LONGEST_TEXT)}
        for each in passages[:MOST_MESSAGES]
    ]
    return json.dumps(found, ensure_ascii=False)


def _turn(message: Message) -> Mapping[str, object]:
    content = message.content
    pieces: Sequence[object] = (content,) if isinstance(content, str) else content[:MOST_MESSAGES]
    return {"role": message.role, "parts": [_part(each) for each in pieces]}


def _part(piece: object) -> Mapping[str, object]:
    if isinstance(piece, str):
        return {"type": "text", "content": bounded(piece, LONGEST_TEXT)}
    if isinstance(piece, TextPart):
        return {"type": "text", "content": bounded(piece.text, LONGEST_TEXT)}
    if isinstance(piece, ReasoningPart):
        return {"type": "reasoning", "content": bounded(piece.text, LONGEST_TEXT)}
    if isinstance(piece, ToolCall):
        asked = content_of(piece.raw if piece.arguments is None else piece.arguments)
        return {"type": "tool_call", "id": bounded(piece.id), "name": bounded(piece.name), "arguments": asked}
    if isinstance(piece, ToolResult):
        seen = piece.content if isinstance(piece.content, str) else [_part(each) for each in piece.content]
        return {"type": "tool_call_response", "id": bounded(piece.call_id), "response": content_of(seen)}
    return {"type": class_name(piece)}  # a picture, a recording or a file: never its bytes
