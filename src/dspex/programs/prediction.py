"""Predictions: records whose fields are known only at run time, and the signatures that are written as strings."""

from __future__ import annotations

import functools
import inspect
import sys
import types as types_module
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from dspex.programs._compile import compile_field
from dspex.programs._parse_string import Lookup, make_lookup, parse_signature
from dspex.programs.fields import Field, FieldSpec
from dspex.programs.signature import Signature, make_class

__all__ = ["Prediction", "signature_from_string"]


class Prediction(Signature):
    """
    A record for which type checkers know no fields: every attribute is ``Any``.

    Signatures written as strings return one; programs that assemble an answer themselves make one::

        return dspex.Prediction(answer=answer, passages=passages)
    """

    __slots__ = ("_free_",)
    _free_: dict[str, Any]

    def __init__(self, **fields: Any) -> None:
        self._free_ = fields

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...

        def __setattr__(self, name: str, value: Any) -> None: ...

    else:

        def __getattr__(self, name: str) -> Any:
            if name[:1] != "_" and not type(self)._plan_.fields and name in self._free_:
                return self._free_[name]
            return Signature.__getattr__(self, name)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that are set, by name; values are not copied."""
        return super().to_dict() if type(self)._plan_.fields else dict(self._free_)

    def __eq__(self, other: object) -> bool:
        if type(self)._plan_.fields or not isinstance(other, Prediction) or type(other)._plan_.fields:
            return super().__eq__(other)
        return self._free_ == other._free_

    __hash__ = None  # type: ignore[assignment]  # records are mutable

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in Prediction.to_dict(self).items())
        return f"{type(self).__name__}({shown})"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """As for every record; without declared fields it is any object."""
        if cls._plan_.fields:
            return super().__get_pydantic_core_schema__(source, handler)
        shape = core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema())
        from_mapping = core_schema.no_info_after_validator_function(lambda fields: cls(**fields), shape)
        return core_schema.json_or_python_schema(
            json_schema=from_mapping,
            python_schema=core_schema.union_schema([core_schema.is_instance_schema(cls), from_mapping]),
            serialization=core_schema.plain_serializer_function_ser_schema(Prediction.to_dict, return_schema=shape),
        )


def signature_from_string(spec: str, instructions: str, types: Mapping[str, Any]) -> type[Prediction]:
    """
    Compile a signature written as a string; the same text gives the same class where no caller's type is used.

    Raises:
        SignatureError: The text is not a signature; the message points at the part.
    """
    if not types:
        try:
            return _memoised(spec, instructions)
        except _NeedsCaller:
            pass  # its types belong to one module: two modules may mean two things by the same text
    return _compile(spec, instructions, make_lookup(types, _caller_globals().__getitem__))


class _NeedsCaller(Exception):
    """A type's name is neither a builtin nor in typing."""


@functools.lru_cache(maxsize=1024)
def _memoised(spec: str, instructions: str) -> type[Prediction]:
    def fallback(name: str) -> Any:
        raise _NeedsCaller(name)

    return _compile(spec, instructions, make_lookup({}, fallback))


def _compile(spec: str, instructions: str, lookup: Lookup) -> type[Prediction]:
    inputs, outputs = parse_signature(spec, lookup)
    shown = " ".join(spec.split())
    fields = [compile_field(name, annotation, _INPUT, shown) for name, annotation in inputs]
    fields += [compile_field(name, annotation, _OUTPUT, shown) for name, annotation in outputs]
    return make_class(_class_name(fields), (Prediction,), tuple(fields), inspect.cleandoc(instructions), __name__)


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
    frame: types_module.FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith("dspex.programs"):
        frame = frame.f_back
    return frame.f_globals if frame is not None else {}
