"""A value that was asked for alone and comes in another form: under its header line, or as an object's only member."""

from __future__ import annotations

import json

from dspex.programs._compile import Plan
from dspex.programs.adapters._headers import FieldNames, split

__all__ = ["LOOKED_AT", "in_another_form", "may_be_elsewhere"]

LOOKED_AT = 60
"""Characters beside its name that tell whether a value stands in another form."""


def may_be_elsewhere(name: str, text: str) -> bool:
    """Tell whether the beginning of a text opens another form, or may still do so when more follows."""
    begun = "".join(text[: len(name) + LOOKED_AT].split())
    return any(begun.startswith(mark) or mark.startswith(begun) for mark in ("[[##", f'{{"{name}":'))


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
    try:
        value = json.loads(text)
    except RecursionError as error:
        raise ValueError("it is an object that nests too deep") from error
    if not isinstance(value, dict) or value.keys() != {name}:
        raise ValueError("it is an object with other keys")
    return value[name] if isinstance(value[name], str) else json.dumps(value[name], ensure_ascii=False)
