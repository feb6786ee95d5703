"""The calls a model asks for, as a field."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pydantic import GetCoreSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, SchemaSerializer, core_schema

from dspex.protocols.call_shapes import arguments_of, is_cut, named_call
from dspex.protocols.content import ToolCall
from dspex.protocols.json_values import Json

__all__ = ["ToolCalls"]


@dataclass(frozen=True, slots=True, init=False)
class ToolCalls:
    """
    The calls that the model wants, in its order; an output.

    Beside an input of tools, a model that can ask for calls by itself does so, and neither field stands in the
    prompt. Every other model writes a list of names and arguments.

    Attributes:
        calls: Each with ``name``, ``arguments`` (None where you made a call whose arguments are not a JSON object) and
            ``id``.
        text: The words that the model said beside them, where they are not an output; they stay with the calls in
            histories and demonstrations.

    Args:
        calls: ToolCall records, (name, arguments) pairs, or mappings with ``name`` and ``args``.
        text: The words beside them.

    Raises:
        ValueError: One of them is none of these.
    """

    calls: tuple[ToolCall, ...]
    text: str = ""

    def __init__(self, calls: Sequence[object] = (), text: str = "") -> None:
        object.__setattr__(self, "calls", tuple(_call(number, each) for number, each in enumerate(calls, 1)))
        object.__setattr__(self, "text", text)

    def __len__(self) -> int:
        return len(self.calls)

    def __iter__(self) -> Iterator[ToolCall]:
        return iter(self.calls)

    def __getitem__(self, index: int) -> ToolCall:
        return self.calls[index]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """
        From a list of calls, or an object with ``tool_calls``; written as a list of names and arguments.

        With words beside them they are written as the object, but to a model.
        """
        return core_schema.no_info_plain_validator_function(
            lambda given: given if isinstance(given, ToolCalls) else cls(_listed(given), _words(given)),
            serialization=_WRITING,
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: object) -> JsonSchemaValue:
        """Return the schema of a list of names and arguments."""
        properties = {"name": {"type": "string"}, "args": {"type": "object"}}
        call = {"type": "object", "properties": properties, "required": ["name", "args"]}
        return {"type": "array", "items": call}


def _listed(given: object) -> Sequence[object]:
    if isinstance(given, Mapping):
        given = given.get("tool_calls", [given] if named_call(given) is not None else None)
    if isinstance(given, (list, tuple)):
        return given
    raise ValueError("expected a list of calls, each with name and args")


def _words(given: object) -> str:
    words = given.get("text", "") if isinstance(given, Mapping) and "tool_calls" in given else ""
    if not isinstance(words, str):
        raise ValueError("expected a text beside the calls")
    return words


def _call(number: int, given: object) -> ToolCall:
    if isinstance(given, ToolCall):
        return given
    if isinstance(given, Mapping):
        name, arguments = named_call(given) or (None, None)
        call_id = given.get("id") or f"call_{number}"
        if isinstance(name, str) and name and isinstance(call_id, str) and ("raw" in given or "data" in given):
            return _unchanged(number, call_id, name, given.get("args"), given)
    elif isinstance(given, tuple) and len(given) == 2:
        (name, arguments), call_id = given, f"call_{number}"
    else:
        raise ValueError(f"call {number} is not an object with name and args")
    if not isinstance(name, str) or not name or not isinstance(call_id, str):
        raise ValueError(f"call {number} has no name")
    raw, read = arguments_of(arguments)
    if read is None and is_cut(raw):
        raise ValueError(f"call {number}: args end too early")
    arguments = arguments if read is None else read
    if not isinstance(arguments, Mapping) or not all(isinstance(key, str) for key in arguments):
        raise ValueError(f"call {number}: args must be an object")
    return ToolCall(call_id, name, dict(arguments))


def _unchanged(number: int, call_id: str, name: str, arguments: object, given: Json) -> ToolCall:
    """Return a call that was written with what it takes to send it back; ``raw`` must say the same as the arguments."""
    raw, data = given.get("raw", ""), given.get("data", {})
    try:
        said = json.loads(raw) if raw else arguments
    except (ValueError, TypeError, RecursionError):
        said = None
    if not isinstance(data, Mapping) or not isinstance(raw, str) or said != arguments:
        raise ValueError(f"call {number}: raw and args say different things")
    if arguments is not None and not (
        isinstance(arguments, Mapping) and all(isinstance(key, str) for key in arguments)
    ):
        raise ValueError(f"call {number}: args must be an object")
    return ToolCall(call_id, name, None if arguments is None else dict(arguments), raw, dict(data))


def _dump(calls: ToolCalls, info: core_schema.SerializationInfo) -> object:
    """Write names and arguments; and where no model is to read it, what it takes to send a call back unchanged."""
    prompt = isinstance(info.context, dict) and info.context.get("prompt")
    found = []
    for number, call in enumerate(calls, 1):
        shown: dict[str, object] = {"name": call.name, "args": dict(call.arguments or {})}
        if call.id != f"call_{number}":
            shown["id"] = call.id
        if not prompt:
            if call.arguments is None:
                shown["args"] = None
            if call.raw:
                shown["raw"] = call.raw
            if call.data:
                shown["data"] = dict(call.data)
        found.append(shown)
    return found if prompt or not calls.text else {"text": calls.text, "tool_calls": found}


_WRITING = core_schema.plain_serializer_function_ser_schema(_dump, info_arg=True, when_used="json")

# Pydantic asks values of undeclared types (``Any``, ``dict[str, Any]``) for their own serializer.
ToolCalls.__pydantic_serializer__ = SchemaSerializer(  # type: ignore[attr-defined]  # pydantic's own protocol
    core_schema.any_schema(serialization=_WRITING)
)
