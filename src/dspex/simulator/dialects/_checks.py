"""Checks on JSON bodies, shared by the dialects, and schemas made plain."""

import json
from collections.abc import Mapping

from dspex.simulator.dialects._dialect import BodyInvalid

__all__ = ["Json", "number", "parsed", "plain_schema", "strings", "text_of", "unseen_in", "whole"]

Json = Mapping[str, object]
_DEPTH = 12  # how deep a schema is followed; one may refer to itself


def parsed(body: bytes) -> Json:
    """
    Parse a body that must be a JSON object.

    Raises:
        BodyInvalid: It is something else.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise BodyInvalid("body", "JSON") from error
    if not isinstance(value, dict):
        raise BodyInvalid("body", "a JSON object")
    return value


def whole(body: Json, name: str, low: int, high: int) -> int | None:
    """Return a whole number of a body, None when it is absent or null."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
        raise BodyInvalid(name, f"a whole number from {low} to {high}")
    return value


def number(body: Json, name: str, low: float, high: float) -> float | None:
    """Return a number of a body, None when it is absent or null."""
    value = body.get(name)
    if value is None:
        return None
    if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:  # NaN included
        raise BodyInvalid(name, f"a number from {low} to {high}")
    return float(value)


def strings(body: Json, name: str, most: int) -> tuple[str, ...]:
    """Return one string or a list of them as a tuple."""
    value = body.get(name)
    listed = [] if value is None else [value] if isinstance(value, str) else value
    if not isinstance(listed, list) or len(listed) > most or not all(isinstance(one, str) and one for one in listed):
        raise BodyInvalid(name, f"a string or up to {most} of them, none empty")
    return tuple(listed)


def text_of(content: object, param: str) -> str:
    """Return the text of a message's content: a string, null, or a list of parts; parts without text are not seen."""
    if content is None or isinstance(content, str):
        return content or ""
    if not isinstance(content, list) or not all(isinstance(part, Mapping) for part in content):
        raise BodyInvalid(param, "a string or a list of parts")
    return "".join(str(part.get("text") or "") for part in content)


def unseen_in(content: object) -> int:
    """Count the parts of a message's content that have no text: images, audio, files."""
    parts = content if isinstance(content, list) else ()
    return sum(1 for part in parts if isinstance(part, Mapping) and not isinstance(part.get("text"), str))


def plain_schema(schema: Json) -> dict[str, object]:
    """Keep types, enums, properties and items of a schema; follow references, take a union's first that is not null."""
    return _plain(schema, schema, 0)


def _plain(schema: Json, root: Json, depth: int) -> dict[str, object]:
    if depth > _DEPTH:
        return {}
    other = _alternative(schema, root)
    if other is not None:
        return _plain(other, root, depth + 1)
    found: dict[str, object] = {}
    kinds, enum = schema.get("type"), schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(kinds, list):
        kinds = next((kind for kind in kinds if kind != "null"), None)
    if isinstance(kinds, str):
        found["type"] = kinds.lower()  # one provider shouts
    if isinstance(enum, list):
        found["enum"] = [one for one in enum if isinstance(one, str | int | float)]
    properties, items = schema.get("properties"), schema.get("items")
    if isinstance(properties, Mapping):
        held = {name: one if isinstance(one, Mapping) else {} for name, one in properties.items()}
        found["properties"] = {name: _plain(one, root, depth + 1) for name, one in held.items()}
    if isinstance(items, Mapping):
        found["items"] = _plain(items, root, depth + 1)
    return found


def _alternative(schema: Json, root: Json) -> Json | None:
    options, reference = schema.get("anyOf") or schema.get("oneOf") or schema.get("allOf"), schema.get("$ref")
    if isinstance(options, list):
        return next((one for one in options if isinstance(one, Mapping) and one.get("type") != "null"), None)
    if not isinstance(reference, str):
        return None
    found: object = root
    for part in reference.removeprefix("#/").split("/"):
        found = found.get(part) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else None
