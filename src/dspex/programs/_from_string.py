"""Signature classes from strings, the same class for the same text."""

from __future__ import annotations

import functools
import inspect
import sys
import types as types_module
from collections.abc import Callable, Mapping
from typing import Any

from dspex.programs._compile import compile_field
from dspex.programs._parse_string import Lookup, make_lookup, parse_signature
from dspex.programs.fields import Field, FieldSpec

__all__ = ["compile_string"]

Make = Callable[[str, tuple[Field, ...], str], type[Any]]
"""Makes the class from its name, its fields and its instructions."""


def compile_string(spec: str, instructions: str, types: Mapping[str, Any], make: Make) -> type[Any]:
    """
    Compile a signature written as a string; the same text gives the same class where no caller's type is used.

    Raises:
        SignatureError: The text is not a signature; the message points at the part.
    """
    if not types:
        try:
            return _memoised(spec, instructions, make)
        except _NeedsCaller:
            pass  # its types belong to one module: two modules may mean two things by the same text
    return _compile(spec, instructions, make_lookup(types, _caller_globals().__getitem__), make)


class _NeedsCaller(Exception):
    """A type's name is neither a builtin nor in typing."""


@functools.lru_cache(maxsize=1024)
def _memoised(spec: str, instructions: str, make: Make) -> type[Any]:
    def fallback(name: str) -> Any:
        raise _NeedsCaller(name)

    return _compile(spec, instructions, make_lookup({}, fallback), make)


def _compile(spec: str, instructions: str, lookup: Lookup, make: Make) -> type[Any]:
    inputs, outputs = parse_signature(spec, lookup)
    shown = " ".join(spec.split())
    fields = [compile_field(name, annotation, _INPUT, shown) for name, annotation in inputs]
    fields += [compile_field(name, annotation, _OUTPUT, shown) for name, annotation in outputs]
    return make(_class_name(fields), tuple(fields), inspect.cleandoc(instructions))


_INPUT = FieldSpec("input")
_OUTPUT = FieldSpec("output")


def _class_name(fields: list[Field]) -> str:
    """Name the class for its fields: ``question, context -> answer`` is AnswerFromQuestionContext."""
    sides = {"output": "", "input": ""}
    for field in fields:
        sides[field.role] += "".join(word[:1].upper() + word[1:] for word in field.name.split("_"))
    name = f"{sides['output']}From{sides['input']}" if sides["input"] else sides["output"]
    return name if len(name) <= 60 else sides["output"][:60]


def _caller_globals() -> Mapping[str, Any]:
    """Return the globals of the nearest frame outside this package."""
    frame: types_module.FrameType | None = sys._getframe(1)  # noqa: SLF001 - the caller's module gives the types' names
    while frame is not None and frame.f_globals.get("__name__", "").startswith("dspex.programs"):
        frame = frame.f_back
    return frame.f_globals if frame is not None else {}
