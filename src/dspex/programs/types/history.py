"""Earlier turns of a conversation as a field."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from dspex.protocols.lm import Message

__all__ = ["History"]


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

    messages: tuple[Mapping[str, Any] | Message, ...]

    def __init__(self, messages: Sequence[object] = ()) -> None:
        object.__setattr__(self, "messages", tuple(map(_turn, messages)))

    def with_turn(self, *turns: object) -> History:
        """Return a history with these turns behind the others; this one is untouched."""
        return History((*self.messages, *turns))

    def __len__(self) -> int:
        return len(self.messages)

    def __iter__(self) -> Iterator[Mapping[str, Any] | Message]:
        return iter(self.messages)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """From a list of turns or an object with ``messages``; written as that object."""
        turns = core_schema.list_schema(core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema()))
        shape = core_schema.typed_dict_schema({"messages": core_schema.typed_dict_field(turns)}, cls_name="History")
        return core_schema.no_info_before_validator_function(
            _as_object,
            core_schema.no_info_plain_validator_function(
                lambda given: given if isinstance(given, History) else cls(given["messages"])
            ),
            serialization=core_schema.plain_serializer_function_ser_schema(_dump, return_schema=shape),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: Any) -> dict[str, Any]:
        """Return the schema of the object with ``messages``."""
        messages = {"type": "array", "items": {"type": "object"}}
        return {"type": "object", "properties": {"messages": messages}, "required": ["messages"]}


def _turn(turn: object) -> Mapping[str, Any] | Message:
    if isinstance(turn, Message):
        return turn
    if isinstance(turn, Mapping):
        fields = dict(turn)
        return Message(fields["role"], fields["content"]) if _is_message(fields) else fields
    to_dict = getattr(type(turn), "to_dict", None)
    if callable(to_dict):
        made = to_dict(turn)
        if isinstance(made, dict):
            return made
    raise TypeError(f"a turn of a History is a mapping, a prediction or a Message, not {type(turn).__name__}")


def _is_message(turn: Mapping[str, Any]) -> bool:
    """Tell whether a turn is written as most providers' protocols write theirs."""
    return (
        turn.keys() == {"role", "content"}
        and turn["role"] in ("system", "user", "assistant")
        and isinstance(turn["content"], str)
    )


def _as_object(given: Any) -> Any:
    if isinstance(given, (list, tuple)):
        given = {"messages": given}
    if isinstance(given, History):
        return given
    if not isinstance(given, Mapping) or not isinstance(given.get("messages"), (list, tuple)):
        raise ValueError("expected a History, or a list of turns")
    if not all(isinstance(each, (Mapping, Message)) or hasattr(type(each), "to_dict") for each in given["messages"]):
        raise ValueError("each turn must be a mapping, a prediction or a Message")
    return given


def _dump(history: History) -> dict[str, Any]:
    turns: list[dict[str, Any]] = []
    for turn in history.messages:
        if isinstance(turn, Message):
            if not isinstance(turn.content, str) or turn.role == "tool":
                raise ValueError("a History with Messages of parts has no JSON form; only texts and fields have one")
            turns.append({"role": turn.role, "content": turn.content})
            continue
        turns.append({name: value for name, value in turn.items() if not isinstance(value, History)})
    return {"messages": turns}
