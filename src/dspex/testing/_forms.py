"""The form in which a prompt asks for its fields, and fields written in it as a model would."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from pydantic_core import to_json

from dspex.protocols.lm import JsonObject, JsonSchema, LMRequest

__all__ = ["LAST_LINE", "asked_value", "written"]

LAST_LINE: Final = "\n\n[[ ## completed ## ]]"
"""The end of an answer under header lines."""
_HEADERS: Final = re.compile(r" and end with `\[\[ ## completed ## \]\]`\.\Z")
_ELEMENTS: Final = re.compile(r"\nNow write <[^\n]*, each with its closing tag\.\Z")
_VALUE: Final = re.compile(r"(?:^|\n)(\w+)(?: \([^\n]*\))?:\Z")
_THOUGHTS: Final = re.compile(
    r"(?:^|\n)(?:Think step by step\.[^\n]*(?:\n[^\n]+)*|Please reason step by step, [^\n]*)\Z"
)
_OBJECT: Final = re.compile(
    r"(?:^|\n)(?:Answer with JSON with these keys|Answer with one JSON object and nothing else"
    r"|Now give only the final values as JSON with these keys): [^\n]*\Z"
)
"""The ends of a user's turn, by form; the turn may be followed by others, where a tool was called."""


def asked_value(request: LMRequest) -> str | None:
    """Return the name of the field that is asked for as a value alone; None otherwise."""
    found = next((each for each in map(_end_of, _turns(request)) if each is not None), None)
    return found[1] if found is not None and found[0] is _VALUE else None


def written(fields: Mapping[str, object], request: LMRequest) -> str:
    """Write fields as a model does that does as the request says: texts as they are, everything else as JSON."""
    if isinstance(request.output, (JsonObject, JsonSchema)):
        return to_json(fields).decode()
    texts = {name: value if isinstance(value, str) else to_json(value).decode() for name, value in fields.items()}
    form, name = next((each for each in map(_end_of, _turns(request)) if each is not None), (None, ""))
    lines = "\n".join(f"{each}: {text}" for each, text in texts.items())
    if form is _VALUE:
        return next((text for each, text in texts.items() if each == name), lines)
    if form is _THOUGHTS:
        thoughts = texts.pop("reasoning", "")
        return "\n".join([thoughts, *(f"{name}: {text}" for name, text in texts.items())]).lstrip("\n")
    if form is _ELEMENTS:
        return "\n".join(f"<{name}>\n{text}\n</{name}>" for name, text in texts.items())
    if form is _HEADERS or (form is None and any("[[ ## " in each.text for each in request.messages)):
        return "\n\n".join(f"[[ ## {name} ## ]]\n{text}" for name, text in texts.items()) + LAST_LINE
    return to_json(fields).decode()


def _turns(request: LMRequest) -> list[str]:
    """Return the texts of the users' turns, the last one first."""
    return [each.text for each in reversed(request.messages) if each.role == "user"]


def _end_of(text: str) -> tuple[re.Pattern[str], str] | None:
    for form in (_HEADERS, _ELEMENTS, _VALUE, _THOUGHTS, _OBJECT):
        if found := form.search(text):
            return form, found[1] if form is _VALUE else ""
    return None
