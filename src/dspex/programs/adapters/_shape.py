"""The keys of a JSON object in few words, as people write them: ``name, day (YYYY-MM-DD), tags (a list)``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence

from pydantic import PydanticUserError

from dspex.programs.adapters._types import constraint_words
from dspex.programs.adapters._words import checks, form
from dspex.programs.fields import Field

__all__ = ["keys_in_words", "parameters_in_words"]

_WORDS = {"integer": "integer", "number": "number", "boolean": "true or false", "null": "null"}
_TEXTS = {"date": "YYYY-MM-DD", "date-time": "YYYY-MM-DDThh:mm:ss", "time": "hh:mm:ss", "binary": "string"}
_BARE = re.compile(r"[^\W\d_][\w -]*")
"""A choice that nobody takes for anything but a text, or for several."""
_TAKEN = frozenset({"true", "false", "null", "none", "or", "a list", "string"})


class _NotShort(Exception):
    """A schema that has no short form: it refers to itself, or says what no shape says."""


def keys_in_words(fields: Sequence[Field]) -> str:
    """Return the keys of an object with these outputs, each with its type, unless that is a text, and its notes."""
    keys = []
    for field in fields:
        notes = (_kind(field), field.desc, constraint_words(field.constraints), *checks(field.annotation))
        said = "; ".join([note for note in notes if note])
        keys.append(f"{field.name} ({said})" if said else field.name)
    return ", ".join(keys)


def parameters_in_words(parameters: Mapping[str, object]) -> str:
    """Return the parameters of a tool in a line: ``city, day: YYYY-MM-DD, hours?: integer``; texts have no type."""
    properties, defs, required = (parameters.get(each, {}) for each in ("properties", "$defs", "required"))
    if not isinstance(properties, Mapping):
        return "..."
    shown = []
    for name, schema in properties.items():
        try:
            kind = _in_words(schema, defs if isinstance(defs, Mapping) else {})
        except _NotShort:
            kind = "any JSON"
        said = schema.get("description") if isinstance(schema, Mapping) else None
        label = name if isinstance(required, (list, tuple)) and name in required else f"{name}?"
        kind = "boolean" if kind == _WORDS["boolean"] else kind
        shown.append((f"{label}: {kind}" if kind else label) + (f" ({said})" if said else ""))
    return ", ".join(shown)


def _kind(field: Field) -> str:
    """Say what a key's value is. Return an empty text for a text, and the JSON schema where it has no short form."""
    try:
        schema = field.codec.adapter.json_schema()
    except ValueError:
        return "any JSON"
    except PydanticUserError:
        return field.codec.in_words or "any JSON"
    try:
        kind = _in_words(schema, schema.get("$defs", {}))
    except _NotShort:
        return form(field) or "any JSON"
    return f"{kind or 'string'} or null" if field.has_default and not field.optional else kind


def _in_words(schema: object, defs: Mapping[str, object]) -> str:
    """Return a kind as people say it; nothing for a text, "a list" for several texts."""
    choices = _behind_ref(schema, defs).get("enum") if isinstance(schema, Mapping) else None
    if isinstance(choices, list):
        return _choices(choices)
    shape = _shape(schema, defs, ())
    if shape == "string":
        return ""
    if shape.startswith("[") and shape.endswith(", ...]"):
        inner = shape.removeprefix("[").removesuffix(", ...]")
        return "a list" if inner == "string" else f"a list of {inner}"
    return shape


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
        said = str(schema.get("format", "string"))
        return _TEXTS.get(said, said)
    if kind == "array" and "items" in schema and "prefixItems" not in schema:
        return f"[{_shape(schema['items'], defs, above)}, ...]"
    if kind == "object" and "properties" in schema:
        return "{" + ", ".join(_property(name, each, defs, above) for name, each in schema["properties"].items()) + "}"
    if kind == "object" and isinstance(schema.get("additionalProperties"), Mapping):
        return "{string: " + _shape(schema["additionalProperties"], defs, above) + ", ...}"
    if kind == "object":
        return "{...}"
    if isinstance(kind, str) and kind in _WORDS:
        return _WORDS[kind]
    if not schema.keys() - {"title", "description", "default"}:
        return "any JSON"
    raise _NotShort


def _behind_ref(schema: Mapping[str, object], defs: Mapping[str, object]) -> Mapping[str, object]:
    found = defs.get(str(schema.get("$ref")).rpartition("/")[2], schema) if "$ref" in schema else schema
    return found if isinstance(found, Mapping) else schema


def _choices(several: Sequence[object]) -> str:
    """Return choices as people list them; with JSON's quotation marks where one may be taken for something else."""
    is_bare = all(isinstance(each, str) and _BARE.fullmatch(each) and each.lower() not in _TAKEN for each in several)
    texts = [str(each) if is_bare else json.dumps(each, ensure_ascii=False) for each in several]
    return f"{', '.join(texts[:-1])} or {texts[-1]}" if len(texts) > 1 else texts[0]


def _property(name: str, schema: object, defs: Mapping[str, object], above: tuple[str, ...]) -> str:
    shape = _shape(schema, defs, above)
    key = name if name.isidentifier() else json.dumps(name, ensure_ascii=False)
    said = schema.get("description") if isinstance(schema, Mapping) else None
    return (key if shape == "string" else f"{key}: {shape}") + (f" ({said})" if said else "")
