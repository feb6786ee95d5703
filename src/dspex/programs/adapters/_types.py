"""Types in words: how annotations and constraints read in prompts, errors and printed source."""

from __future__ import annotations

import enum
import types
import typing
from collections.abc import Sequence
from typing import Annotated, Any, Literal, NewType, TypeVar, Union, get_args, get_origin

import typing_extensions

__all__ = [
    "allows_none",
    "constraint_words",
    "literal_values",
    "plain_type",
    "type_text",
    "unaliased",
    "without_none",
    "without_titles",
]

Annotation = Any
"""A class or a special form, as it stands in the author's code: typing has no type for both."""

_ALIASES: tuple[type, ...] = (
    typing_extensions.TypeAliasType,
    getattr(typing, "TypeAliasType", typing_extensions.TypeAliasType),  # from Python 3.12 on there are two, or one
)

_WORDS = {
    "gt": "greater than {}",
    "ge": "at least {}",
    "lt": "less than {}",
    "le": "at most {}",
    "min_length": "length at least {}",
    "max_length": "length at most {}",
    "multiple_of": "a multiple of {}",
}


def type_text(annotation: object) -> str:
    """Return the annotation as its author would write it: ``list[str]``, ``Literal['yes', 'no']``, ``Passage``."""
    if annotation is str:
        return "str"
    if annotation is None or annotation is type(None):
        return "None"
    if annotation is Any:
        return "Any"
    if isinstance(annotation, TypeVar):
        return type_text(annotation.__bound__) if annotation.__bound__ is not None else "Any"
    origin = get_origin(annotation)
    if origin is None:
        if isinstance(annotation, (*_ALIASES, NewType)):
            return str(getattr(annotation, "__name__", annotation))
        return annotation.__name__ if isinstance(annotation, type) else str(annotation).removeprefix("typing.")
    arguments = get_args(annotation)
    if origin is Annotated:
        return type_text(arguments[0])
    if origin in (Union, types.UnionType):
        return " | ".join(type_text(each) for each in arguments)
    if origin is Literal:
        return f"Literal[{', '.join(_literal_text(each) for each in arguments)}]"
    name = getattr(origin, "__name__", str(origin))
    return f"{name}[{', '.join('...' if each is ... else _argument_text(each) for each in arguments)}]"


def _argument_text(argument: object) -> str:
    """One argument of a generic; ``Callable`` has a list among them."""
    return f"[{', '.join(map(type_text, argument))}]" if isinstance(argument, list) else type_text(argument)


def _literal_text(value: object) -> str:
    return f"{type(value).__name__}.{value.name}" if isinstance(value, enum.Enum) else repr(value)


def constraint_words(constraints: Sequence[tuple[str, object]]) -> str:
    """Return constraints as a phrase, such as ``at least 1, at most 5``."""
    return ", ".join(_WORDS[name].format(bound) for name, bound in constraints)


def unaliased(annotation: object) -> object:
    """Return what a ``type`` alias or a NewType stands for; any other annotation as it is."""
    while True:
        if isinstance(annotation, _ALIASES):
            annotation = getattr(annotation, "__value__")  # noqa: B009 - two classes have it, and no common base
        elif isinstance(annotation, NewType):
            annotation = annotation.__supertype__
        elif isinstance(origin := get_origin(annotation), _ALIASES):
            annotation = getattr(origin, "__value__")[get_args(annotation)]  # noqa: B009 - as above
        else:
            return annotation


def plain_type(annotation: object) -> object:
    """Return an annotation without the aliases and the ``Annotated`` around it."""
    while True:
        annotation = unaliased(annotation)
        if get_origin(annotation) is not Annotated:
            return annotation
        annotation = get_args(annotation)[0]


def allows_none(annotation: object) -> bool:
    """Tell whether ``None`` is a value of this annotation."""
    if annotation is str:
        return False
    annotation = unaliased(annotation)
    if annotation is None or annotation is type(None):
        return True
    origin = get_origin(annotation)
    if origin is Annotated:
        return allows_none(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return any(allows_none(each) for each in get_args(annotation))
    return origin is Literal and None in get_args(annotation)


def without_none(annotation: object) -> object:
    """Return ``X`` for ``X | None``, and any other annotation as it is."""
    annotation = unaliased(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        rest = [each for each in get_args(annotation) if each is not type(None)]
        if len(rest) == 1:
            return rest[0]
    return annotation


def literal_values(annotation: object) -> tuple[object, ...] | None:
    """Return the choices of a Literal, an enum, or a union of these; None when the annotation is neither."""
    annotation = unaliased(annotation)
    if get_origin(annotation) in (Union, types.UnionType):
        several = [(None,) if each is type(None) else literal_values(each) for each in get_args(annotation)]
        if None in several:
            return None
        return tuple({(type(each), each): each for some in several for each in some or ()}.values())
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum) and not issubclass(annotation, enum.Flag):
        return tuple(annotation)
    if get_origin(annotation) is not Literal:
        return None
    return get_args(annotation)


_VALUES = frozenset({"default", "const", "enum", "examples"})


def without_titles(schema: object, name: str = "") -> Any:
    """Return a schema without the titles that pydantic makes of names: they say nothing, and a prompt is paid for."""
    if isinstance(schema, list):
        return [without_titles(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found: dict[str, object] = {}
    for keyword, value in schema.items():
        if keyword == "title" and value in (name, name.replace("_", " ").title()):
            continue
        if keyword in ("properties", "$defs"):
            found[keyword] = {each: without_titles(inner, each) for each, inner in value.items()}
        else:
            found[keyword] = value if keyword in _VALUES else without_titles(value)
    return found
