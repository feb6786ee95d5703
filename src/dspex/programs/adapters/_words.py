"""A field in words: everything that its values are checked against, as a prompt says it."""

from __future__ import annotations

import json
from typing import Annotated, Literal, get_args, get_origin

from pydantic import AfterValidator, BeforeValidator, WrapValidator

from dspex.programs.adapters._dates import DATE_WORDS
from dspex.programs.adapters._types import constraint_words, unaliased, without_titles
from dspex.programs.adapters._values import Codec, NumberCodec, TextCodec
from dspex.programs.fields import Field
from dspex.protocols.json_values import Json

__all__ = ["checks", "form", "notes"]

_BOUNDS = (
    ("exclusiveMinimum", "gt"),
    ("minimum", "ge"),
    ("exclusiveMaximum", "lt"),
    ("maximum", "le"),
    ("minLength", "min_length"),
    ("maxLength", "max_length"),
    ("multipleOf", "multiple_of"),
)
_FORMATS = {
    "date-time": "datetime",
    "date": "date",
    "time": "time",
    "duration": "timedelta",
}
_BY_NAME = {each.__name__: words for each, words in DATE_WORDS.items()}
_KINDS = {"uuid": "a UUID", "email": "an e-mail address", "uri": "a URL", "binary": "bytes as text"}


def notes(field: Field) -> list[str]:
    """Return what a list of fields says of one: its description, its bounds, whether it may be left out."""
    found = [field.desc or _description(field.annotation)]
    codec = field.codec
    if isinstance(codec, (TextCodec, NumberCodec)) and codec.annotation not in (str, int, float, bool):
        found.append(_scalar(codec.schema()) or "")
    else:
        found.append(constraint_words(field.constraints))
    found += checks(field.annotation)
    if field.role == "output" and (field.has_default or field.optional):
        found.append("may be left out")
    return [each for each in found if each]


def checks(annotation: object) -> list[str]:
    """Return what the functions say that check a type's values: the first line of each one's docstring."""
    annotation = unaliased(annotation)
    found: list[str] = []
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        annotation, *about = arguments
        found = checks(annotation)
        functions = [each.func for each in about if isinstance(each, (AfterValidator, BeforeValidator, WrapValidator))]
        for function in functions:
            said = (getattr(function, "__doc__", None) or "").strip().partition("\n")[0].rstrip(". ")
            is_own = not (getattr(function, "__module__", None) or "").startswith(("pydantic", "builtins"))
            found += [said] if said and is_own else []
        return list(dict.fromkeys(found))
    if get_origin(annotation) is Literal:
        return []
    for each in arguments:
        found += checks(each)
    return list(dict.fromkeys(found))


def form(field: Field) -> str:
    """Say how an output's value is to be written, where its type leaves that open; empty where it does not."""
    codec = field.codec
    if codec.in_words:
        return codec.in_words
    if type(codec) is not Codec:
        return ""
    schema = codec.schema()
    words = _scalar(schema)
    if words is not None:
        return words
    shown = json.dumps(without_titles(schema, schema.get("title", "")), ensure_ascii=False)
    return f"JSON that fits this schema: {shown}"


def _scalar(schema: Json) -> str | None:
    """Return what a schema asks of a text or a number, empty where that is nothing; None where it is about more."""
    if not schema:
        return ""
    if "anyOf" in schema:
        return _one_of(schema["anyOf"])
    if "enum" in schema or "const" in schema:
        return "exactly one of: " + ", ".join(map(str, schema.get("enum", [schema.get("const")])))
    if schema.get("type") not in ("string", "number", "integer", "boolean"):
        return None
    form_words = schema.get("format", "")
    words = [
        _BY_NAME.get(_FORMATS.get(form_words, ""), _KINDS.get(form_words, form_words and f"in the format {form_words}"))
    ]
    words.append(constraint_words([(name, schema[key]) for key, name in _BOUNDS if key in schema]))
    if "pattern" in schema:
        words.append(f"matching the pattern {schema['pattern']}")
    return ", ".join([each for each in words if each])


def _one_of(several: list[Json]) -> str | None:
    """A text or a number that may be null; a decimal, which may be a number or a text."""
    rest = [each for each in several if each.get("type") != "null"]
    if [each.get("type") for each in rest] == ["number", "string"]:
        rest = rest[:1]
    if len(rest) != 1 or rest[0].get("type") == "boolean":
        return None
    words = _scalar(rest[0])
    return words if len(rest) == len(several) or not words else f"{words}, or null"


def _description(annotation: object) -> str:
    """Return what ``Annotated`` says about a type in words."""
    annotation = unaliased(annotation)
    if get_origin(annotation) is not Annotated:
        return ""
    inner, *about = get_args(annotation)
    said = [text for each in about if isinstance(text := getattr(each, "description", None), str) and text]
    return said[-1] if said else _description(inner)
