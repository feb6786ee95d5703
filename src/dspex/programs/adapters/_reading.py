"""From the texts or JSON values of an answer to outputs, with defaults, repairs and everything that was wrong."""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from typing import Any

from pydantic_core import from_json

from dspex.errors import ResponseUnparsable
from dspex.programs._compile import Plan
from dspex.programs.adapters._adapter import Parsed, Repair
from dspex.programs.adapters._repair import REPAIR_LIMIT, Reading, describe
from dspex.programs.adapters._values import TextCodec
from dspex.programs.fields import Field

__all__ = ["find_object", "read_object", "read_texts"]


def read_texts(plan: Plan, texts: Mapping[str, str], raw: str) -> Parsed:
    """
    Read each output from its text.

    Raises:
        ResponseUnparsable: Outputs without a default are missing, or have a value of another type.
    """
    outputs: dict[str, Any] = {}
    repairs: list[Repair] = []
    missing: list[str] = []
    invalid: dict[str, str] = {}
    for field in plan.outputs:
        name = field.name
        text = texts.get(name)
        if text is None or (not text and _may_be_empty(field)):
            _default(field, outputs, missing)
            continue
        _take(field, field.codec.read, text, outputs, repairs, invalid)
    if missing or invalid:
        raise ResponseUnparsable(plan.name, raw, missing, invalid)
    return Parsed(outputs, tuple(repairs))


def read_object(plan: Plan, raw: str) -> Parsed:
    """
    Read the outputs from one JSON object; other keys are ignored.

    Raises:
        ResponseUnparsable: There is no object, outputs without a default are missing, or have a value of another
            type.
    """
    found, repair = find_object(raw)
    if found is None:
        found = {}
    outputs: dict[str, Any] = {}
    repairs = [Repair("", repair)] if repair else []
    missing: list[str] = []
    invalid: dict[str, str] = {}
    for field in plan.outputs:
        name = field.name
        if name not in found or (found[name] is None and not field.optional and field.has_default):
            _default(field, outputs, missing)
            continue
        _take(field, field.codec.read_json, found[name], outputs, repairs, invalid)
    if missing or invalid:
        raise ResponseUnparsable(plan.name, raw, missing, invalid)
    return Parsed(outputs, tuple(repairs))


def _default(field: Field, outputs: dict[str, Any], missing: list[str]) -> None:
    if field.has_default or field.optional:
        outputs[field.name] = field.make_default()
    else:
        missing.append(field.name)


def _take(
    field: Field,
    read: Callable[[Any], Reading],
    found: Any,
    outputs: dict[str, Any],
    repairs: list[Repair],
    invalid: dict[str, str],
) -> None:
    try:
        outputs[field.name], repair = read(found)
    except (ValueError, TypeError, RecursionError) as error:
        invalid[field.name] = describe(error)
        return
    if repair:
        repairs.append(Repair(field.name, repair))


def _may_be_empty(field: Field) -> bool:
    """An empty section means "left out" where the field may be left out and an empty text is not a value of it."""
    return (field.has_default or field.optional) and not isinstance(field.codec, TextCodec)


_DECODER = json.JSONDecoder()


def find_object(text: str) -> tuple[dict[str, Any] | None, str]:
    """
    Return the JSON object of an answer and the repair that finding it took; None when there is none.

    The text itself, else the first balanced object in it, else repaired JSON, else a Python literal.
    """
    found = _decoded(text)
    if isinstance(found, dict):
        return found, ""
    start = text.find("{")
    if start < 0:
        return None, ""
    try:
        found, end = _DECODER.raw_decode(text, start)
    except (ValueError, RecursionError):
        end = 0
    if end and isinstance(found, dict):
        fenced = text[:start].strip() in ("```json", "```") and text[end:].strip() == "```"
        return found, "" if fenced else "json"
    return _repaired_object(text[start:])


def _repaired_object(text: str) -> tuple[dict[str, Any] | None, str]:
    if len(text) > REPAIR_LIMIT:
        return None, ""
    from json_repair import repair_json  # costs 20 ms to import; most programs never need it

    try:
        found = _decoded(repair_json(text))
        if isinstance(found, dict) and found:
            return found, "json"
    except (ValueError, RecursionError):
        pass  # the next rung
    try:
        found = ast.literal_eval(text[: text.rfind("}") + 1])
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None, ""
    if isinstance(found, dict) and all(isinstance(key, str) for key in found):
        return found, "literal"
    return None, ""


def _decoded(text: str) -> Any:
    """Return the JSON value of the whole text; None when it is none."""
    try:
        return from_json(text)
    except (ValueError, TypeError):  # half a surrogate pair is a TypeError
        return None
