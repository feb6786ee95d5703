"""JSON as it is shown and saved: sets in one order, escapes that nobody takes for LaTeX, values as plain data."""

from __future__ import annotations

import json
import re

from pydantic_core import to_json

__all__ = ["in_order", "to_plain", "unmistakable"]

_DECODER = json.JSONDecoder()
_SHORT = re.compile(r"\\(?:([bf]|r(?=[A-Za-z]))|.)", re.DOTALL)
_LONG = {"b": "\\u0008", "f": "\\u000c", "r": "\\u000d"}


def unmistakable(text: str) -> str:
    """Return JSON without the short escapes of control characters that models write for LaTeX and patterns."""
    if "\\b" not in text and "\\f" not in text and "\\r" not in text:
        return text
    return _SHORT.sub(lambda found: _LONG[found[1]] if found[1] else found[0], text)


def in_order(array: str) -> str:
    """Put the items of a set in order: equal sets may go through theirs differently, and are one prompt."""
    items: list[str] = []
    at = 1 if array.startswith("[") else len(array)
    try:
        while array[at] != "]":
            end = _DECODER.raw_decode(array, at)[1]
            items.append(array[at:end])
            at = end + (array[end] == ",")
    except (ValueError, IndexError, RecursionError):  # it is not a plain array: a serializer of the user's wrote it
        return array
    return f"[{','.join(sorted(items))}]"


def to_plain(value: object) -> object:
    """Return a value as JSON has it: for saved demonstrations."""
    return value if isinstance(value, str) else json.loads(to_json(value, fallback=_fields_or_text))


def _fields_or_text(value: object) -> object:
    to_dict = getattr(type(value), "to_dict", None)
    return to_dict(value) if callable(to_dict) else str(value)
