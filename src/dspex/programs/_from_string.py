"""Signature classes from strings, the same class for the same text."""

from __future__ import annotations

import functools
import inspect
import keyword
import sys
import types as types_module
from collections.abc import Callable, Iterable, Mapping
from typing import get_origin

from dspex.programs._compile import compile_field
from dspex.programs._parse_string import Lookup, make_lookup, parse_signature, split_signature
from dspex.programs.fields import MISSING, AnySignature, Field, FieldSpec, Role
from dspex.programs.types.audio import Audio
from dspex.programs.types.citations import Citations
from dspex.programs.types.code import Code
from dspex.programs.types.file import File
from dspex.programs.types.history import History
from dspex.programs.types.image import Image
from dspex.programs.types.quote import Document, Quote
from dspex.programs.types.reasoning import Reasoning
from dspex.programs.types.tool_calls import ToolCalls

__all__ = ["compile_string"]

Make = Callable[[str, tuple[Field, ...], str], AnySignature]
"""Makes the class from its name, its fields and its instructions."""


def compile_string(spec: str, instructions: str, types: Mapping[str, object], make: Make) -> AnySignature:
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
    return _class_of(_compile(spec, make_lookup(types, _callers_names())), instructions, make)


_FIELD_TYPES: Mapping[str, object] = {
    each.__name__: each
    for each in (Audio, Citations, Code, Document, File, History, Image, Quote, Reasoning, ToolCalls)
}
"""Known without being imported; a type of the same name in the caller's module goes before."""


class _NeedsCaller(Exception):
    """A type's name is neither a builtin nor in typing."""


@functools.lru_cache(maxsize=1024)
def _memoised(spec: str, instructions: str, make: Make) -> AnySignature:
    return _class_of(_put_together(spec), instructions, make)


def _put_together(spec: str) -> tuple[Field, ...]:
    """Make the fields from others with the same texts as types; read the text where one of them is new."""
    split = split_signature(spec)
    if split is None:
        return _compile(spec, _without_caller)
    inputs, outputs = split
    try:
        fields = [_field("input", name, text) for name, text, _ in inputs]
        fields += [_field("output", name, text) for name, text, _ in outputs]
    except KeyError:
        pass
    else:
        if len({each.name for each in fields}) == len(fields):
            return tuple(fields)
    compiled = _compile(spec, _without_caller)
    for (_, text, _), field in zip(inputs + outputs, compiled, strict=True):
        if len(_known) < _MOST_KNOWN:
            _known.setdefault((field.role, text), field)
    return compiled


_known: dict[tuple[str, str], Field] = {}
"""A field of each role and text of a type; texts, because equal types such as unions may differ in their order."""
_MOST_KNOWN = 1024


@functools.lru_cache(maxsize=1024)
def _field(role: Role, name: str, text: str) -> Field:
    """Return the field, or raise KeyError where nothing is known of the text, or the name is none."""
    like = _known[role, text]
    if keyword.iskeyword(name):
        raise KeyError(name)
    annotation, text, codec, optional = like.annotation, like.type_text, like.codec, like.optional
    return Field(name, role, annotation, "", MISSING, None, (), text, codec, optional)


def _no_caller(name: str) -> object:
    raise _NeedsCaller(name)


_without_caller = make_lookup({}, _no_caller)


def _compile(spec: str, lookup: Lookup) -> tuple[Field, ...]:
    inputs, outputs = parse_signature(spec, lookup)
    shown = " ".join(spec.split())
    fields = [compile_field(name, annotation, _INPUT, shown) for name, annotation in inputs]
    fields += [compile_field(name, annotation, _OUTPUT, shown) for name, annotation in outputs]
    return tuple(fields)


_INPUT = FieldSpec("input")
_OUTPUT = FieldSpec("output")


def _class_of(fields: tuple[Field, ...], instructions: str, make: Make) -> AnySignature:
    return make(_class_name(fields), fields, inspect.cleandoc(instructions) if instructions else "")


def _class_name(fields: Iterable[Field]) -> str:
    """Name the class for its fields: ``question, context -> answer`` is AnswerFromQuestionContext."""
    inputs = outputs = ""
    for field in fields:
        if field.role == "input":
            inputs += _capitals(field.name)
        else:
            outputs += _capitals(field.name)
    name = f"{outputs}From{inputs}" if inputs else outputs
    return name if len(name) <= 60 else outputs[:60]


def _capitals(name: str) -> str:
    if "_" not in name:
        return name[:1].upper() + name[1:]
    return "".join([word[:1].upper() + word[1:] for word in name.split("_")])


_FRAMES = 12
"""The number of frames in which types are looked for: the caller of ``Predict`` or ``ReAct`` compiles signatures."""


def _callers_names() -> Lookup:
    """Return a lookup through the functions around the call, the nearest first, and dspex's own types."""
    frame: types_module.FrameType | None = sys._getframe(1)  # noqa: SLF001 - the caller gives the types' names
    while frame is not None and frame.f_globals.get("__name__", "").startswith("dspex.programs"):
        frame = frame.f_back
    places: list[Mapping[str, object]] = [] if frame is None else [frame.f_locals, frame.f_globals]
    for _ in range(_FRAMES):
        frame = frame.f_back if frame is not None else None
        if frame is not None and frame.f_locals is not frame.f_globals:
            places.append(frame.f_locals)
    places.append(_FIELD_TYPES)

    def lookup(name: str) -> object:
        for place in places:
            if name in place and _may_be_a_type(place[name]):
                return place[name]
        raise KeyError(name)

    return lookup


def _may_be_a_type(value: object) -> bool:
    """Tell whether a value can stand in an annotation; a variable of the same name may hold anything."""
    if isinstance(value, (type, types_module.ModuleType)) or get_origin(value) is not None:
        return True
    return type(value).__module__ in ("typing", "typing_extensions")
