"""The JSON schema of a signature's outputs, in the dialect that providers enforce."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ConfigDict, Field, PydanticUserError, create_model
from pydantic.json_schema import JsonSchemaValue

from dspex.errors import SignatureError
from dspex.programs._compile import Plan
from dspex.protocols.lm import JsonSchema

__all__ = ["closed_schema", "output_schema"]

_UNENFORCED = ("default", "title", "minLength", "maxLength", "uniqueItems", "discriminator", "examples", "deprecated")
"""Keywords that strict modes refuse or ignore; the values are checked here anyway."""
_FORMATS = ("date-time", "time", "date", "duration", "email", "hostname", "ipv4", "ipv6", "uuid")


class _NotStrict(Exception):
    """A schema that strict modes cannot enforce: open objects, values of any shape, tuples."""


def output_schema(plan: Plan) -> tuple[JsonSchema, bool]:
    """
    Return the schema of an object with all outputs, and whether it can be enforced strictly.

    An output with a default may be null. A type that cannot be enforced still gives a schema to show or to give to a
    tool.
    """
    known: JsonSchema | None = plan.rendered.get(output_schema)
    if known is None:
        known = plan.rendered[output_schema] = _make(plan)
    return known, known.strict


def _make(plan: Plan) -> JsonSchema:
    name = "".join([char if (char.isalnum() and char.isascii()) or char in "_-" else "_" for char in plan.name])[:60]
    loose = _loose(plan)
    try:
        return JsonSchema(name or "outputs", _strict(loose))
    except _NotStrict:
        return JsonSchema(name or "outputs", loose, strict=False)


def _loose(plan: Plan) -> JsonSchemaValue:
    """Return the schema as pydantic gives it; an output without one may be anything."""
    fields: dict[str, Any] = {}
    for number, each in enumerate(plan.outputs):  # field names of ours may be methods of a model
        try:
            _ = each.codec.adapter.json_schema()
            annotation: Any = each.codec.annotation
        except (PydanticUserError, SignatureError):
            annotation = Any
        if each.has_default and not each.optional:
            annotation = annotation | None if not isinstance(annotation, str) else annotation
        fields[f"f{number}"] = (annotation, Field(alias=each.name, description=each.desc or None))
    model = create_model(plan.name, __config__=ConfigDict(protected_namespaces=()), **fields)
    schema: JsonSchemaValue = model.model_json_schema(by_alias=True)
    schema.pop("title", None)
    schema.pop("description", None)
    schema.setdefault("properties", {})
    for each in schema["properties"].values():
        each.pop("title", None)
    return schema


def closed_schema(schema: Mapping[str, object]) -> JsonSchemaValue | None:
    """
    Return the schema of a tool's parameters as it is enforced: closed, and what may be left out may still be.

    None where it cannot be enforced.
    """
    try:
        found = _strict({"properties": {}, **schema})
    except _NotStrict:
        return None
    required = schema.get("required")
    named = required if isinstance(required, (list, tuple)) else ()
    return {**found, "required": [each for each in named if each in found["properties"]]}


def _strict(schema: object) -> JsonSchemaValue:
    """Return the schema with every object closed and every property required."""
    if not isinstance(schema, Mapping) or not schema:
        raise _NotStrict
    if "$ref" in schema:
        return {"$ref": schema["$ref"]}
    found: JsonSchemaValue = {}
    for keyword, value in schema.items():
        if keyword in _UNENFORCED or (keyword == "format" and value not in _FORMATS):
            continue
        if keyword == "pattern" and "(?" in str(value):
            continue
        if keyword in ("prefixItems", "patternProperties", "propertyNames", "not", "if", "allOf"):
            raise _NotStrict
        if keyword in ("anyOf", "oneOf"):
            found["anyOf"] = [_strict(each) for each in value]
        elif keyword == "items":
            found["items"] = _strict(value)
        elif keyword in ("properties", "$defs"):
            found[keyword] = {name: _strict(each) for name, each in value.items()}
        else:
            found[keyword] = value
    if schema.get("type") == "array" and "items" not in found:
        raise _NotStrict
    if schema.get("type") == "object":
        if "properties" not in schema or schema.get("additionalProperties") not in (None, False):
            raise _NotStrict
        found["required"] = list(found["properties"])
        found["additionalProperties"] = False
    elif not _says_something(found):
        raise _NotStrict
    return found


def _says_something(schema: Mapping[str, object]) -> bool:
    asked: Sequence[str] = ("type", "anyOf", "enum", "const")
    return any(keyword in schema for keyword in asked)
