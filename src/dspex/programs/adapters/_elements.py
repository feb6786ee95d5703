"""
Values that a model has written as nested elements: ``<item><name>Ada</name></item>`` where JSON was asked for.

Models that are shown tags sometimes go on with tags. Elements say less than JSON does (``<n>1</n>`` may be a text, an
empty element a list, a text or nothing), so they are read by the type's JSON schema, and never written.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import TypeVar
from xml.etree import ElementTree as ET

from pydantic import PydanticUserError, TypeAdapter

from dspex.programs.adapters._exact_json import exact_json
from dspex.programs.adapters._forgive import NOTHING, forgiven, may_be_doubtful
from dspex.protocols.json_values import Json

__all__ = ["from_elements", "is_one_item"]

_BARE = re.compile(r"&(?!(?:amp|lt|gt|quot|apos|#\d+|#x[0-9a-fA-F]+);)")
_NOTHING = ("", "null", "None")
_SEVERAL = re.compile(r"\(?\s*([\"']).*\1\s*,\s*([\"']).*\2\s*\)?", re.DOTALL)
"""Texts in quotes, with a comma between them."""
T = TypeVar("T")


def is_one_item(text: str) -> bool:
    """Tell whether the text where a list should be is its only item: not a word for none, and not several in quotes."""
    return text.lower() not in NOTHING and _SEVERAL.fullmatch(text) is None


def from_elements(adapter: TypeAdapter[T], text: str, annotation: object = object) -> T:
    """
    Return the value that nested elements stand for.

    Args:
        adapter: Checks the values of the annotation.
        text: The elements.
        annotation: The type, for numbers that are not certain.

    Raises:
        ValueError: The text is not well-formed elements, they are not a value of the type, or text would be lost.
        RecursionError: They are nested too deeply.
    """
    try:
        root = ET.fromstring(f"<all>{_BARE.sub('&amp;', text)}</all>")  # noqa: S314 - inside of an element nothing is declared
        schema = adapter.json_schema()
    except (ET.ParseError, PydanticUserError) as error:
        raise ValueError(f"it is not written as elements: {error}") from error
    value = _ElementReader(schema).value(root, schema)
    if may_be_doubtful(text):
        forgiven(value, annotation)  # refuses what pydantic takes
    text = json.dumps(value)
    return adapter.validate_json(text, by_alias=True, by_name=True)


class _ElementReader:
    """Goes through elements and their schema side by side."""

    def __init__(self, schema: Json) -> None:
        self._definitions: Mapping[str, Json] = schema.get("$defs", {})

    def value(self, element: ET.Element, schema: Json) -> object:
        """Return an element's value as JSON has it."""
        schema = self._chosen(element, schema)
        if len(element) and _stray_text(element):
            raise ValueError(f"<{element.tag}> has text between its elements")
        if schema.get("type") == "array":
            return self._list(list(element), schema) if len(element) else self._leaf(element, schema)
        if schema.get("type") == "object" or (len(element) and not schema):
            return self._object(element, schema)
        if len(element) == 1 and not _text(element):  # one more element around it
            return self.value(element[0], schema)
        return self._leaf(element, schema)

    def _list(self, elements: Sequence[ET.Element], schema: Json) -> list[object]:
        """Return the elements' values; a tuple's each by a schema of its own."""
        own: Sequence[Json] = schema.get("prefixItems", ())
        every = schema.get("items") or {}
        return [self.value(each, own[at] if at < len(own) else every) for at, each in enumerate(elements)]

    def _object(self, element: ET.Element, schema: Json) -> object:
        """Return what the children say by their names; ``<entry key="…">`` is for names that are none of an element."""
        properties: Mapping[str, Json] = schema.get("properties", {})
        if not len(element) and not element.attrib:
            return self._leaf(element, schema)
        if len(element) == 1 and properties and element[0].tag not in properties and not element.attrib:
            return self.value(element[0], schema)  # the type's name around it
        rest = schema.get("additionalProperties")
        rest = rest if isinstance(rest, dict) else {}
        named: dict[str, list[ET.Element]] = {}
        for each in element:
            named.setdefault(each.attrib.get("key", each.tag) if each.tag == "entry" else each.tag, []).append(each)
        found = {name: self._member(each, properties.get(name, rest)) for name, each in named.items()}
        return {**{name: text for name, text in element.attrib.items() if name != "key"}, **found}

    def _member(self, elements: Sequence[ET.Element], schema: Json) -> object:
        """Return the value of a name; one that stands several times is a list."""
        if len(elements) == 1:
            return self.value(elements[0], schema)
        return self._list(elements, self._chosen(elements[0], schema))

    def _chosen(self, element: ET.Element, schema: Json) -> Json:
        """Follow a reference; of several types, take the one that the element looks like."""
        while "$ref" in schema:
            schema = self._definitions[schema["$ref"].rpartition("/")[2]]
        several: Sequence[Json] = schema.get("anyOf") or schema.get("oneOf") or ()
        if not several:
            return schema
        if {"type": "null"} in several and not len(element) and _text(element) in _NOTHING:
            return {"type": "null"}
        ways = [self._chosen(element, each) for each in several if each.get("type") != "null"]
        nested = [each for each in ways if each.get("type") in ("object", "array")]
        if not len(element):
            return next((each for each in ways if each not in nested), ways[0])
        names = {each.tag for each in element}
        fits = [each for each in nested if names <= each.get("properties", {}).keys() >= {*each.get("required", ())}]
        fits = [each for each in fits if names >= {*each.get("required", ())}]
        return (fits or nested or ways)[0]

    def _alone(self, element: ET.Element, text: str, schema: Json) -> object:
        """Return a list that is written as JSON, or as its only item; what may be none or several is not one."""
        if not text or text.startswith("["):
            return exact_json(text) if text else []
        if not is_one_item(text):
            raise ValueError(f"<{element.tag}> is not certainly one item")
        return self._list([element], schema)

    def _leaf(self, element: ET.Element, schema: Json) -> object:
        """Return the value of a text."""
        if len(element):
            raise ValueError(f"<{element.tag}> has elements where it should have a text")
        text = _text(element)
        kind = schema.get("type")
        choices = schema.get("enum", [schema["const"]] if "const" in schema else [])
        for each in choices:
            if text == str(each):
                return each
        if kind == "null":
            return None
        if kind == "array":
            return self._alone(element, text, schema)
        if kind == "object":
            return exact_json(text) if text else {}
        return text  # numbers and truth values are read from texts


def _stray_text(element: ET.Element) -> bool:
    """Tell whether there is text between the elements, which would be lost."""
    return bool(_text(element)) or any((each.tail or "").strip() for each in element)


def _text(element: ET.Element) -> str:
    return (element.text or "").strip()
