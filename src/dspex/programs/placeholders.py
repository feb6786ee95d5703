"""Values that stand for a model's answer where none is asked for: of the right types, and of no meaning."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from pydantic.errors import PydanticUserError

from dspex.errors import ConfigError
from dspex.programs.fields import Field
from dspex.programs.signature import Signature, plan_of
from dspex.protocols.json_values import Json
from dspex.protocols.lm import ToolSpec

__all__ = ["TEXT", "arguments_of", "placeholder", "placeholders"]

TEXT: Final = " ".join(["word"] * 50)
"""The assumed length of a text: a paragraph, because it is part of the next prompt."""

_DEPTH: Final = 8
"""The depth to which a record inside records is filled; a type that contains itself ends there."""


def placeholders(signature: type[Signature]) -> dict[str, object]:
    """
    Return a value for every output of a signature.

    Raises:
        ConfigError: There is none for an output's type that is easily found.
    """
    return {field.name: placeholder(field) for field in plan_of(signature).outputs}


def placeholder(field: Field) -> object:  # of the field's type
    """Return a value of a field's type; raises as ``placeholders``."""
    if field.has_default:
        return field.make_default()
    for value in _candidates(field):
        try:
            return field.codec.check(value)
        except (ValueError, TypeError):
            continue
    raise ConfigError(
        f"no value can be made up for the output {field.name!r} of type {field.type_text}: give it a default"
    )


def arguments_of(tool: ToolSpec) -> dict[str, object]:
    """Return what a tool could be called with, by the names of its arguments."""
    arguments = _instance(tool.parameters, tool.parameters.get("$defs", {}), _DEPTH)
    return arguments if isinstance(arguments, dict) else {}


def _candidates(field: Field) -> Iterator[object]:
    try:
        schema = field.codec.adapter.json_schema()
    except PydanticUserError:
        schema = {}
    yield _instance(schema, schema.get("$defs", {}), _DEPTH)
    yield from (TEXT, "word", 1, 0, 0.5, True, [], {}, None)


def _instance(schema: Json, defs: Mapping[str, Json], depth: int) -> object:  # JSON of any shape
    """Return a small instance of a schema; where the schema says more than this reads, validation will tell."""
    if depth <= 0:
        return None
    if "$ref" in schema:
        return _instance(defs.get(schema["$ref"].rpartition("/")[2], {}), defs, depth - 1)
    if "const" in schema:
        return schema["const"]
    if "enum" in schema:
        return schema["enum"][0]
    for name in ("anyOf", "oneOf", "allOf"):
        if schema.get(name):
            return _instance(schema[name][0], defs, depth - 1)
    match schema.get("type"):
        case "string":
            return _string(schema)
        case "integer" | "number":
            return _number(schema)
        case "boolean":
            return True
        case "array":
            return _array(schema, defs, depth)
        case "object":
            parts = schema.get("properties", {})
            wanted = [name for name in schema.get("required", parts) if name in parts]
            return {name: _instance(parts[name], defs, depth - 1) for name in wanted}
        case "null":
            return None
    return TEXT


_FORMATS: Final[Mapping[str, str]] = {
    "date": "2000-01-01",
    "date-time": "2000-01-01T00:00:00Z",
    "duration": "PT1S",
    "email": "a@example.org",
    "time": "00:00:00Z",
    "uri": "https://example.org/",
    "uuid": "00000000-0000-4000-8000-000000000000",
}


def _string(schema: Json) -> str:
    if schema.get("format") in _FORMATS:
        return _FORMATS[schema["format"]]
    text = TEXT.ljust(schema.get("minLength", 0), "x")
    return text[: schema["maxLength"]] if "maxLength" in schema else text


def _number(schema: Json) -> float:
    """Return 1 where the bounds allow it, else a number near one of them."""
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    step = schema.get("multipleOf", 1)
    near = [1, step]
    if low is not None:
        near += [low, low + 1, -(-low // step) * step, (low // step + 1) * step]
    if high is not None:
        near += [high, high - 1, high // step * step, (-(-high // step) - 1) * step]
    if low is not None and high is not None:
        near.append((low + high) / 2)
    return next((number for number in near if _fits(number, schema)), 1)


def _fits(number: float, schema: Json) -> bool:
    return (
        number >= schema.get("minimum", number)
        and number <= schema.get("maximum", number)
        and ("exclusiveMinimum" not in schema or number > schema["exclusiveMinimum"])
        and ("exclusiveMaximum" not in schema or number < schema["exclusiveMaximum"])
        and ("multipleOf" not in schema or number % schema["multipleOf"] == 0)
        and (schema.get("type") != "integer" or number == int(number))
    )


def _array(schema: Json, defs: Mapping[str, Json], depth: int) -> list[object]:
    fixed = [_instance(each, defs, depth - 1) for each in schema.get("prefixItems", ())]
    of = schema.get("items")
    if not isinstance(of, Mapping):
        return fixed
    count = max(schema.get("minItems", 0), 0 if depth <= 1 else 1) - len(fixed)
    return fixed + [_instance(of, defs, depth - 1) for _ in range(count)]
