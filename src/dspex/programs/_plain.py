"""Values as plain JSON, as pydantic and web frameworks have it."""

from __future__ import annotations

import json

from pydantic_core import PydanticSerializationError, to_json

__all__ = ["in_order", "plain_json"]


def plain_json(value: object) -> object:
    """
    Return a value as JSON has it: dates as text, models by their aliases, sets and tuples as lists.

    Raises:
        TypeError: It has no JSON form.
    """
    if value is None or type(value) in (str, int, bool, float):
        return value
    try:
        try:
            text = to_json(value, inf_nan_mode="constants", round_trip=True, fallback=_plain_record)
        except (UnicodeDecodeError, PydanticSerializationError):
            # Bytes that are not UTF-8: as base64, where that was the reason.
            text = to_json(
                value, inf_nan_mode="constants", round_trip=True, fallback=_plain_record, bytes_mode="base64"
            )
        found = json.loads(text)
        return in_order(found) if isinstance(value, (set, frozenset)) else found
    except (PydanticSerializationError, ValueError, RecursionError) as error:
        raise TypeError(f"a {type(value).__name__} has no JSON form: {error}") from error


def in_order(items: list[object]) -> list[object]:
    """Return the JSON of a set's elements in an order that is the same in every process."""
    return sorted(items, key=lambda each: json.dumps(each, sort_keys=True))


def _plain_record(value: object) -> object:
    to_dict = getattr(type(value), "to_dict", None)
    if not callable(to_dict):
        raise PydanticSerializationError(f"a {type(value).__name__} has no JSON form")
    return to_dict(value)
