"""Earlier turns and demonstrations whose calls a model made by itself: shown as calls, with what came of them."""

from __future__ import annotations

from collections.abc import Mapping

from pydantic import TypeAdapter

from dspex.programs.types.tool_calls import ToolCalls
from dspex.protocols.content import TextPart, ToolCall, ToolResult
from dspex.protocols.lm import Message

__all__ = ["NOT_CALLED", "UNKNOWN_RESULT", "answered", "native_calls", "with_calls"]

_READING: TypeAdapter[ToolCalls] = TypeAdapter(ToolCalls)
NOT_CALLED = "(an example: nothing was called)"
UNKNOWN_RESULT = "(the result is not told here)"


def native_calls(field: str, turn: Mapping[str, object]) -> ToolCalls:
    """Return the calls of a turn that can be shown as calls; broken ones are left out, for nobody could repeat them."""
    value = turn.get(field) if field else None
    if isinstance(value, (list, tuple, Mapping)):
        try:
            value = _READING.validate_python(value)
        except ValueError:  # labelled data need not fit
            return ToolCalls()
    if not isinstance(value, ToolCalls):
        return ToolCalls()
    return ToolCalls([each for each in value if each.arguments is not None], value.text)


def with_calls(outputs: str, calls: ToolCalls) -> Message:
    """Return the assistant's turn: the words beside its calls, the outputs in the adapter's form, and the calls."""
    text = "\n\n".join([each for each in (calls.text, outputs) if each])
    return Message("assistant", (*((TextPart(text),) if text else ()), *calls))


def answered(messages: list[Message], result: str = UNKNOWN_RESULT) -> list[Message]:
    """
    Return a conversation in which every call has a result: providers refuse one without.

    Args:
        messages: The conversation; results that are there stay.
        result: Said of calls whose result is not there.
    """
    found: list[Message] = []
    for place, message in enumerate(messages):
        found.append(message)
        calls = [each for each in message.content if isinstance(each, ToolCall)] if message.role == "assistant" else []
        if not calls:
            continue
        told: set[str] = set()
        for later in messages[place + 1 :]:
            if later.role != "tool":
                break
            told |= {each.call_id for each in later.content if isinstance(each, ToolResult)}
        missing = [ToolResult(each.id, each.name, result) for each in calls if each.id not in told]
        if missing:
            found.append(Message("tool", tuple(missing)))
    return found
