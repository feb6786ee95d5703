"""The shape of a JSON value in few words, as people write it: ``{"name": string, "tags": [string]}``."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

from pydantic import PydanticUserError

from dspex.programs.adapters._types import constraint_words
from dspex.programs.adapters._words import checks, form
from dspex.programs.fields import Field

__all__ = ["answer_shape", "value_shape"]

_WORDS = {"integer": "integer", "number": "number", "boolean": "true or false", "null": "null"}
_TEXTS = {"date": "date as YYYY-MM-DD", "date-time": "date and time as YYYY-MM-DDThh:mm:ss", "time": "time as hh:mm:ss"}


class _NotShort(Exception):
    """A schema that has no short form: it refers to itself, or says what no shape says."""


def answer_shape(fields: Sequence[Field]) -> str:
    """Return the shape of an object with these outputs, a line for each, with their descriptions."""
    lines = []
    for number, field in enumerate(fields, 1):
        comma = "," if number < len(fields) else ""
        line = f"  {json.dumps(field.name)}: {value_shape(field)}{comma}"
        notes = [note for note in (field.desc, constraint_words(field.constraints), *checks(field.annotation)) if note]
        lines.append(f"{line}  // {'; '.join(notes)}" if notes else line)
    return "\n".join(["{", *lines, "}"])


def value_shape(field: Field) -> str:
    """Return the shape of one output's value; its JSON schema where there is no short form."""
    try:
        schema = field.codec.adapter.json_schema()
    except ValueError:
        return "any JSON"
    except PydanticUserError:
        return field.codec.in_words or "any JSON"
    try:
        shape = _shape(schema, schema.get("$defs", {}), ())
    except _NotShort:
        return form(field) or "any JSON"
    return f"{shape} or null" if field.has_default and not field.optional else shape


def _shape(schema: object, defs: Mapping[str, object], above: tuple[str, ...]) -> str:
    if not isinstance(schema, Mapping):
        raise _NotShort
    if "$ref" in schema:
        name = str(schema["$ref"]).rpartition("/")[2]
        if name in above or name not in defs:
            raise _NotShort
        return _shape(defs[name], defs, (*above, name))
    if "const" in schema:
        return json.dumps(schema["const"], ensure_ascii=False)
    if "enum" in schema:
        return " or ".join(json.dumps(each, ensure_ascii=False) for each in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(_shape(each, defs, above) for each in schema["anyOf"])
    kind = schema.get("type")
    if kind == "string":
        return _TEXTS.get(schema.get("format", ""), "string")
    if kind == "array" and "items" in schema and "prefixItems" not in schema:
        return f"[{_shape(schema['items'], defs, above)}, ...]"
    if kind == "object" and "properties" in schema:
        inside = (f"{json.dumps(name)}: {_property(each, defs, above)}" for name, each in schema["properties"].items())
        return "{" + ", ".join(inside) + "}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return "{string: " + _shape(schema["additionalProperties"], defs, above) + ", ...}"
    if kind == "object":
        return "{...}"
    if kind in _WORDS:
        return _WORDS[kind]
    if not schema.keys() - {"title", "description", "default"}:
        return "any JSON"
    raise _NotShort


def _property(schema: object, defs: Mapping[str, object], above: tuple[str, ...]) -> str:
    shape = _shape(schema, defs, above)
    said = schema.get("description") if isinstance(schema, Mapping) else None
    return f"{shape} ({said})" if said else shape
