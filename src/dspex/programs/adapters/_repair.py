"""Repair a text that is almost a value: elements, JSON nearly right; or say why it is none."""

from __future__ import annotations

import json
import re
from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

from dspex.programs.adapters._elements import from_elements
from dspex.programs.adapters._exact_json import exact_at
from dspex.programs.adapters._forgive import forgiven, structure_in
from dspex.programs.adapters._lenient import LIMIT
from dspex.programs.adapters._marks import only_fence

__all__ = ["Reading", "checked", "describe", "led", "repaired"]

T = TypeVar("T")

Reading = tuple[object, str]
"""A value of the field's type and the repair it took: ``""``, ``"xml"``, ``"json"`` or ``"literal"``."""

_LINE_OF_ITS_OWN = re.compile(r"(?:^|:)[^\S\n]{0,20}[\[{]", re.MULTILINE)
"""Brackets inside of a line may be prose, or a reference to a source, unless a colon announces them."""
_BRACKET = re.compile(r"[\[{]")
_MOST_TRIES = 20
_LINE_END = 200


def checked(adapter: TypeAdapter[T], value: object) -> T:
    """
    Return a decoded JSON value as the type; names and aliases are both taken.

    Raises:
        ValueError: It is not a value of it.
    """
    try:
        text = json.dumps(value, ensure_ascii=False)
    except TypeError:  # an enum's member whose value JSON has not
        return adapter.validate_python(value, by_alias=True, by_name=True)
    return adapter.validate_json(text, by_alias=True, by_name=True)


def led(adapter: TypeAdapter[T], annotation: object, value: object) -> T:
    """
    Return a decoded JSON value as the type, with what is forgiven inside of it.

    Raises:
        ValueError: It is not a value of it.
    """
    return checked(adapter, forgiven(value, annotation))


def repaired(adapter: TypeAdapter[T], text: str, problem: ValueError, annotation: object = object) -> tuple[T, str]:
    """
    Climb down: elements, JSON nearly right, the type's forms, one value in prose.

    Args:
        adapter: Checks the values of the annotation.
        text: The text that could not be read as it is.
        problem: The error it failed with.
        annotation: The type, for what is forgiven inside of a value.

    Raises:
        ValueError: Nothing is certain; the message says why the text itself failed.
    """
    if text.startswith("<"):
        try:
            return from_elements(adapter, text, annotation), "xml"
        except (ValueError, RecursionError):
            pass  # the next rung
    if len(text) > LIMIT:
        raise ValueError(describe(problem)) from problem
    try:
        value = structure_in(text)
    except (ValueError, TypeError, RecursionError):
        pass  # the next rung
    else:
        try:
            return led(adapter, annotation, value), "json"
        except (ValueError, TypeError, RecursionError) as error:
            problem = error if isinstance(error, ValueError) and _says_nothing(problem) else problem
    inside = only_fence(text)
    try:
        return led(adapter, annotation, text if inside is None else inside), "literal"
    except (ValueError, TypeError, RecursionError) as error:
        if isinstance(error, ValueError) and not isinstance(error, ValidationError):
            problem = error  # of our own: it says what the form is
    alone = _alone_in_prose(adapter, annotation, text)
    if alone:
        return alone[0], "json"
    raise ValueError(describe(problem)) from problem


def _alone_in_prose(adapter: TypeAdapter[T], annotation: object, text: str) -> list[T]:
    """Return the value of the one list or object in a text that is of the type; empty where there are more or none."""
    found: list[T] = []
    for number, at in enumerate(_LINE_OF_ITS_OWN.finditer(text)):
        if number >= _MOST_TRIES:
            return []
        try:
            value, end = exact_at(text, at.end() - 1)
            read = led(adapter, annotation, value)
        except (ValueError, TypeError, RecursionError):
            continue
        rest = text[end : end + _LINE_END].partition("\n")[0].strip()
        if rest or (found and read != found[0]):
            return []
        found.append(read)
    return [] if found and _others(adapter, text, found[0]) else found


def _others(adapter: TypeAdapter[T], text: str, found: T) -> bool:
    """Tell whether another value of the type, and not that one again, stands inside of a line."""
    at = -1
    for _ in range(_MOST_TRIES):
        begins = _BRACKET.search(text, at + 1)
        if begins is None:
            return False
        at = begins.start()
        try:
            value, end = exact_at(text, at)
            at = end - 1
            if checked(adapter, value) != found:
                return True
        except (ValueError, TypeError, RecursionError):
            continue
    return False


def _says_nothing(problem: ValueError) -> bool:
    """Tell whether all that is known is that a text is not JSON; what is wrong with its value is better to know."""
    return isinstance(problem, ValidationError) and problem.errors(include_url=False)[0]["type"] == "json_invalid"


def describe(error: Exception) -> str:
    """Return what is wrong in one line, without the input and without links."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if not isinstance(error, (ValueError, TypeError)):
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    if not isinstance(error, ValidationError):
        return str(error).partition("\n")[0]
    details = error.errors(include_url=False, include_context=False, include_input=False)
    shown = [
        f"{'.'.join(map(str, each['loc']))}: {each['msg']}" if each["loc"] else each["msg"] for each in details[:3]
    ]
    return "; ".join(shown) + (f" (and {len(details) - 3} more)" if len(details) > 3 else "")
