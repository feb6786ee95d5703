"""Earlier turns of a conversation as a field."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from pydantic import GetCoreSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, SchemaSerializer, core_schema

from dspex.protocols.content import (
    AudioPart,
    FilePart,
    ImagePart,
    MediaPart,
    Part,
    ReasoningPart,
    TextPart,
    ToolCall,
    ToolResult,
)
from dspex.protocols.json_values import Json
from dspex.protocols.lm import Message

if TYPE_CHECKING:
    from dspex.programs.tools.trajectory import Observation

__all__ = ["History"]

Turn = Json | Message
"""Fields by name, or a message of the protocol, which is sent as it is."""


_SHAPE = core_schema.typed_dict_schema(
    {
        "messages": core_schema.typed_dict_field(
            core_schema.list_schema(core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema()))
        )
    },
    cls_name="History",
)


@dataclass(frozen=True, slots=True, init=False)
class History:
    """
    Earlier turns, as an input: each becomes a user's and an assistant's turn before the one to be answered.

    For example::

        history = dspex.History()
        answer = await self.answer(question=question, history=history)
        history = history.with_turn(answer)

    Attributes:
        messages: The turns: fields by name, or a ``Message`` of the protocol, which is sent as it is.

    Args:
        messages: Mappings, predictions, or Messages; ``{"role": "user", "content": "…"}`` is a Message.

    Raises:
        TypeError: One of them is none of these.
    """

    messages: tuple[Turn, ...]

    def __init__(self, messages: Sequence[object] = ()) -> None:
        object.__setattr__(self, "messages", tuple(map(_turn, messages)))

    def with_turn(self, *turns: object) -> History:
        """Return a history with these turns behind the others; this one is untouched."""
        return History((*self.messages, *turns))

    def with_results(self, calls: Iterable[ToolCall], observations: Iterable[Observation]) -> History:
        """
        Return a history with what came of the calls of its last turn: ``call_tools`` gives the observations.

        Raises:
            ValueError: There are more of one than of the other.
        """
        results = [
            ToolResult(call.id, call.name, seen.content, seen.error is not None)
            for call, seen in zip(calls, observations, strict=True)
        ]
        return self.with_turn(Message("tool", tuple(results))) if results else self

    def __len__(self) -> int:
        return len(self.messages)

    def __iter__(self) -> Iterator[Turn]:
        return iter(self.messages)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        """From a list of turns or an object with ``messages``; written as that object."""
        return core_schema.no_info_before_validator_function(
            _as_object,
            core_schema.no_info_plain_validator_function(
                lambda given: given if isinstance(given, History) else cls(given["messages"])
            ),
            serialization=_WRITING,
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: object) -> JsonSchemaValue:
        """Return the schema of the object with ``messages``."""
        messages = {"type": "array", "items": {"type": "object"}}
        return {"type": "object", "properties": {"messages": messages}, "required": ["messages"]}


def _turn(turn: object) -> Turn:
    if isinstance(turn, Message):
        return turn
    if isinstance(turn, Mapping):
        given = dict(turn)
        return _message(given) if _is_message(given) else _without_histories(given)
    values = getattr(type(turn), "_values_", None) or getattr(type(turn), "to_dict", None)
    if callable(values):  # a record: its values as they are
        made = values(turn)
        if isinstance(made, dict):
            return _without_histories(made)
    raise TypeError(f"a turn of a History is a mapping, a prediction or a Message, not {type(turn).__name__}")


def _without_histories(turn: Mapping[str, object]) -> dict[str, object]:
    """Leave out what came before the turn: it stands before the turn already."""
    return {name: value for name, value in turn.items() if not isinstance(value, History)}


def _is_message(turn: Mapping[str, object]) -> bool:
    """Tell whether a turn is written as most providers' protocols write theirs, or as a Message is written here."""
    if not {"role", "content"} <= turn.keys() <= {"role", "content", "cache"}:
        return False
    content = turn["content"]
    if turn["role"] not in ("system", "user", "assistant", "tool"):
        return False
    if isinstance(content, str):
        return bool(turn["role"] != "tool")
    return isinstance(content, list) and all(
        isinstance(each, Mapping) and each.get("type") in _PARTS for each in content
    )


def _message(turn: Json) -> Message:
    content = turn["content"]
    read = content if isinstance(content, str) else tuple(map(_read_part, content))
    return Message(turn["role"], read, turn.get("cache"))


def _as_object(given: object) -> object:
    if isinstance(given, (list, tuple)):
        given = {"messages": given}
    if isinstance(given, History):
        return given
    if not isinstance(given, Mapping) or not isinstance(given.get("messages"), (list, tuple)):
        raise ValueError("expected a History, or a list of turns")
    if not all(isinstance(each, (Mapping, Message)) or hasattr(type(each), "to_dict") for each in given["messages"]):
        raise ValueError("each turn must be a mapping, a prediction or a Message")
    return given


# --- as JSON --------------------------------------------------------------------------------------------------


def _dump(history: History) -> dict[str, object]:
    turns: list[dict[str, object]] = []
    for turn in history.messages:
        if not isinstance(turn, Message):
            turns.append(dict(turn))
            continue
        content = turn.content if isinstance(turn.content, str) else list(map(_write_part, turn.content))
        turns.append({"role": turn.role, "content": content, **({"cache": turn.cache} if turn.cache else {})})
    return {"messages": turns}


_PARTS: Mapping[str, type[Part]] = {
    "text": TextPart,
    "image": ImagePart,
    "audio": AudioPart,
    "file": FilePart,
    "reasoning": ReasoningPart,
    "tool_call": ToolCall,
    "tool_result": ToolResult,
}


def _write_part(part: Part) -> dict[str, object]:
    kind = next(name for name, cls in _PARTS.items() if isinstance(part, cls))
    given = {each.name: getattr(part, each.name) for each in fields(_PARTS[kind])}
    if isinstance(part, MediaPart):
        given |= {"data": None if part.data is None else part.base64}
    if isinstance(part, ToolResult) and not isinstance(part.content, str):
        given["content"] = list(map(_write_part, part.content))
    return {"type": kind, **{name: value for name, value in given.items() if value is not None}}


def _read_part(given: Json) -> Part:
    """Make a part of its JSON; ValueError where it is none."""
    cls = _PARTS[given["type"]]
    values = {name: value for name, value in given.items() if name != "type"}
    try:
        if isinstance(values.get("data"), str):
            values["data"] = base64.b64decode(values["data"], validate=True)
        if isinstance(values.get("content"), list):
            values["content"] = tuple(map(_read_part, values["content"]))
        if cls is ToolCall:
            values.setdefault("arguments", None)
        return cls(**values)
    except (TypeError, ValueError, KeyError) as error:
        raise ValueError(f"a part of type {given['type']!r} cannot be read: {error}") from error


_WRITING = core_schema.plain_serializer_function_ser_schema(_dump, return_schema=_SHAPE)

# Pydantic asks values of undeclared types (``Any``, ``dict[str, Any]``) for their own serializer.
History.__pydantic_serializer__ = SchemaSerializer(  # type: ignore[attr-defined]  # pydantic's own protocol
    core_schema.any_schema(serialization=_WRITING)
)
