"""Signatures with type parameters: ``class Listed(Signature, Generic[T])``, used as ``Listed[int]``."""

from __future__ import annotations

import functools
import operator
import types
from collections.abc import Callable, Mapping
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin

from dspex.errors import SignatureError
from dspex.programs._compile import Plan, compile_field
from dspex.programs.adapters._types import type_text
from dspex.programs.fields import AnySignature, Field

__all__ = ["with_types"]

Derive = Callable[[AnySignature, tuple[Field, ...], str], AnySignature]
"""Makes a subclass with other fields and the same instructions."""


def with_types(cls: Any, arguments: object, derive: Derive) -> AnySignature:
    """
    Return the signature whose type parameters are these types.

    Raises:
        SignatureError: It has none, or another number of them, or a field cannot have the type.
    """
    given = arguments if isinstance(arguments, tuple) else (arguments,)
    parameters = getattr(cls, "__parameters__", ())
    if len(parameters) != len(given):
        raise SignatureError(f"{cls.__name__} has {len(parameters)} type parameters, not {len(given)}")
    try:
        return _made(cls, given, derive)
    except TypeError:  # a type that cannot be a key
        return _make(cls, given, derive)


@functools.lru_cache(maxsize=1024, typed=True)
def _made(cls: object, given: tuple[object, ...], derive: Derive) -> AnySignature:
    return _make(cls, given, derive)


def _make(cls: Any, given: tuple[object, ...], derive: Derive) -> AnySignature:
    plan: Plan = cls._plan_
    types_ = dict(zip(cls.__parameters__, given, strict=True))
    name = f"{cls.__name__}[{', '.join(map(type_text, given))}]"
    fields = tuple(
        [
            each
            if (put := _put(each.annotation, types_)) is each.annotation
            else compile_field(each.name, put, each.spec, name)
            for each in plan.fields.values()
        ]
    )
    made = derive(cls, fields, plan.instructions if plan.authored else "")
    left = [each for each in given if isinstance(each, TypeVar)]
    type.__setattr__(made, "__name__", name)
    type.__setattr__(made, "__qualname__", name)
    type.__setattr__(made, "__parameters__", tuple(left))
    made._plan_.name = name
    return made


def _put(annotation: Any, types_: Mapping[object, object]) -> object:
    """Return the annotation with types for its parameters; itself where it has none of them."""
    if isinstance(annotation, TypeVar):
        return types_.get(annotation, annotation)
    origin = get_origin(annotation)
    if origin is Annotated:
        inner, *notes = get_args(annotation)
        put = _put(inner, types_)
        return annotation if put is inner else Annotated[(put, *notes)]
    if origin in (Union, types.UnionType):
        arms = get_args(annotation)
        led = [_put(each, types_) for each in arms]
        return (
            annotation if all(a is b for a, b in zip(arms, led, strict=True)) else functools.reduce(operator.or_, led)
        )
    parameters = getattr(annotation, "__parameters__", ())
    metadata = getattr(annotation, "__pydantic_generic_metadata__", None)
    if metadata:
        parameters = metadata["parameters"]
    if not any(each in types_ for each in parameters):
        return annotation
    return annotation[tuple([types_.get(each, each) for each in parameters])]
