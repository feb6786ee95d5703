"""A value that was asked for alone and comes in another form: below its header, between its tags, in an object."""

from __future__ import annotations

import json
import re

from dspex.programs._compile import Plan
from dspex.programs.adapters._exact_json import ExactFloat, refuse_controls
from dspex.programs.adapters._forgive import structure_in
from dspex.programs.adapters._headers import FieldNames, split
from dspex.programs.adapters._marks import folded, only_fence
from dspex.programs.adapters._values import TextCodec

__all__ = ["LOOKED_AT", "in_another_form", "may_be_elsewhere"]

_VARIED = re.compile(r"[\s_\-]+")
LOOKED_AT = 60
"""Characters beside its name that tell whether a value stands in another form."""
_OF_OBJECTS = frozenset("{`")
"""An object begins with one of these, in a fence or without one."""
_ELEMENTS = frozenset(
    {"body", "code", "div", "form", "head", "html", "li", "main", "math", "nav", "ol", "p", "page", "pre", "script"}
    | {"section", "span", "style", "svg", "table", "td", "template", "tr", "ul", "xml"}
)
"""Names whose tags may be the value's own: ``<html>`` belongs to a page that is asked for as ``html``."""


def may_be_elsewhere(name: str, text: str) -> bool:
    """Tell whether the beginning of a text opens another form, or may still do so when more follows."""
    begun, bare = _bare(text[: len(name) + LOOKED_AT]), _bare(name)
    first = begun[:1]
    if first == "[":
        marks = ["[[##"]
    elif first == "<":
        marks = [] if name in _ELEMENTS else [f"<{bare}>"]
    elif first in _OF_OBJECTS:
        members = [f"{{{quote}{bare}{quote}:" for quote in ('"', "'", "")]
        marks = [f"{fence}{each}" for each in members for fence in ("", "```", "```json", "```python")]
    else:
        return not begun  # of nothing, anything may come
    return any(begun.startswith(mark) or mark.startswith(begun) for mark in marks)


def _bare(text: str) -> str:
    """Return a text without what models vary in a name: capitals, spaces, hyphens, underscores."""
    return _VARIED.sub("", text).casefold()


def in_another_form(plan: Plan, text: str) -> str | None:
    """
    Return the text of the only output where the answer has another form; None where it is the value as it stands.

    Raises:
        ValueError: It begins in another form, and has not one value in it.
    """
    name = plan.outputs[0].name
    text = text.strip()
    if len(text) < 4 or not may_be_elsewhere(name, text):
        return None
    if text[0] == "[":
        found = split(FieldNames.of(plan), text)
        if found.texts.keys() != {name} or found.unclear:
            raise ValueError("it has a header line, and not one value below it")
        return found.texts[name]
    if text[0] == "<":
        return _between_tags(name, text)
    if text[0] == "`":
        inside = only_fence(text)
        if inside is None:
            raise ValueError("a fence opens before an object, and nothing but the object stands between two fences")
        text = inside
    try:
        value = structure_in(text)
    except RecursionError as error:
        raise ValueError("it is an object that nests too deep") from error
    if not isinstance(value, dict) or [folded(key) for key in value] != [folded(name)]:
        raise ValueError("it is an object with other keys")
    refuse_controls(text, value)
    [member] = value.values()
    if isinstance(member, (str, ExactFloat)):
        return member if isinstance(member, str) else member.text
    codec = plan.outputs[0].codec
    if isinstance(codec, TextCodec):  # as an object's member is read: a number as it is written, null not at all
        return str(codec.read_json(member)[0])
    return json.dumps(member, ensure_ascii=False)


def _between_tags(name: str, text: str) -> str:
    found = re.fullmatch(rf"<{name}>(.*)</{name}>", text, re.DOTALL | re.IGNORECASE)
    tag = re.compile(rf"</?{name}>", re.IGNORECASE)
    if found is None or tag.search(found[1]):
        raise ValueError(f"it begins with <{name}>, and is not one value between two tags")
    return found[1].strip()
