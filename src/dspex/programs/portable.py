"""
Values as JSON and back, equal to what they were: for saved programs, journals and whatever else outlives a process.

A value is written plainly (as pydantic has it, which is how other libraries save theirs) where reading that gives the
same value again. Where it does not, because its type is not declared, a union takes the first type that fits, or an
alias says another name, it is written with its type: ``{"~": "date", "v": "2024-02-29"}``. Nothing is executed and
nothing imported when that is read: classes are found among those that the declared types name, and made from their
fields.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import json
import math
import pathlib
import sys
import types
import typing
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar, cast, get_args

from pydantic import BaseModel

from dspex.programs._plain import in_order, plain_json
from dspex.programs.example import Example
from dspex.programs.fields import AnySignature
from dspex.programs.prediction import Prediction
from dspex.programs.signature import Signature, SignatureMeta, build, values_of
from dspex.programs.types.audio import Audio
from dspex.programs.types.citations import Citations
from dspex.programs.types.code import Code
from dspex.programs.types.field_type import FieldType
from dspex.programs.types.file import File
from dspex.programs.types.history import History
from dspex.programs.types.image import Image
from dspex.programs.types.quote import Document, Quote
from dspex.programs.types.reasoning import Reasoning
from dspex.programs.types.tool_calls import ToolCalls
from dspex.protocols import content
from dspex.protocols.lm import Message, ToolSpec
from dspex.protocols.retrieval import Passage

__all__ = ["TAG", "Known", "portable", "portable_fields", "restored", "restored_fields", "same", "untagged"]

TAG = "~"

Check = Callable[[object], object]
"""Makes a value of the declared type from JSON; ValueError where it is none."""


class Known:
    """
    The classes that may be read back: those that annotations name, at any depth, and dspex's own.

    Args:
        annotations: Declared types; a class stands for itself and for its subclasses.
        loaded: True where classes of any imported module are known as well: for the user's own files. Nothing is
            imported, and no constructor runs.
    """

    def __init__(self, annotations: Iterable[object] = (), *, loaded: bool = False) -> None:
        self._annotations = tuple(annotations)
        self._loaded = loaded
        self._classes: dict[str, list[type]] | None = None

    def find(self, name: str, parts: Iterable[str] = ()) -> type:
        """
        Return the class of that name; of several signatures with one name, the one that has these fields.

        Raises:
            ValueError: It is not known.
        """
        if self._classes is None:
            self._classes = _classes((*_OWN, *self._annotations))
        several = self._classes.get(name, [])
        if not several:
            found = _loaded_class(name) if self._loaded else None
            if found is None:
                where = "in a module that is imported" if self._loaded else "among the declared types"
                raise ValueError(f"the class {name} is not {where}")
            return found
        wanted = set(parts)
        return next(
            (each for each in several if isinstance(each, SignatureMeta) and wanted <= each.fields.keys()), several[0]
        )


def portable(value: object, check: Check | None = None, known: Known | None = None) -> object:
    """
    Return the JSON of a value, from which ``restored`` makes it again.

    Args:
        value: The value to write.
        check: Of the declared type; None where nothing is declared.
        known: Classes that reading will know.

    Raises:
        TypeError: It has no JSON form that gives the value again.
    """
    known = known if known is not None else _NOTHING_DECLARED
    if (value is None or type(value) in (bool, int, str)) and check is None:
        return value
    for write in (plain_json, _typed):
        try:
            written = write(value)
            json.dumps(written, allow_nan=False)
            again = restored(written, check, known)
            if same(again, value) or (check is not None and _is_json(value, written) and same(again, check(value))):
                return written
        except (ValueError, TypeError, RecursionError, AttributeError):
            continue
    raise TypeError(f"a {type(value).__name__} has no JSON form from which it could be made again")


def restored(data: object, check: Check | None = None, known: Known | None = None) -> object:
    """
    Return the value that ``portable`` wrote, or that another library did.

    A value that does not fit the declared type is returned as it is.

    Raises:
        ValueError: It is written with a type that is not known.
    """
    if isinstance(data, dict) and TAG in data:
        return _decoded(data, known if known is not None else _NOTHING_DECLARED)
    if check is None:
        return data
    try:
        return check(data)
    except (ValueError, RecursionError):
        return data


def untagged(data: object) -> object:
    """Return what ``portable`` wrote without the types, for a look at whether two values say the same."""
    if isinstance(data, list):
        return [untagged(each) for each in data]
    if isinstance(data, dict):
        return untagged(data.get("v")) if TAG in data else {name: untagged(each) for name, each in data.items()}
    return data


def portable_fields(signature: type[Signature], values: Mapping[str, object]) -> dict[str, object]:
    """
    Return field values by name as JSON, each by its field's type where the signature has such a field.

    Raises:
        TypeError: One has no JSON form; the message opens with its name.
    """
    fields = signature.fields
    known = Known(each.annotation for each in fields.values())
    found = {}
    for name, value in values.items():
        try:
            found[name] = portable(value, fields[name].codec.check if name in fields else None, known)
        except TypeError as error:
            raise TypeError(f"{name}: {error}") from error
    return found


def restored_fields(signature: type[Signature], data: Mapping[str, object]) -> dict[str, object]:
    """
    Return the values that ``portable_fields`` wrote; what does not fit its field stays as it is.

    Raises:
        ValueError: One is of a class that the signature does not name; the message opens with the field's name.
    """
    fields = signature.fields
    known = Known(each.annotation for each in fields.values())
    found = {}
    for name, value in data.items():
        try:
            found[name] = restored(value, fields[name].codec.check if name in fields else None, known)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
    return found


def _is_json(value: object, written: object) -> bool:
    """True when a value is JSON already, and is to become a value of its field: ``"3"`` where a number is declared."""
    return same(value, written)


# --- writing ----------------------------------------------------------------------------------------------------


def _typed(value: object) -> object:
    written = _encoded(value)
    return written if isinstance(written, dict) and TAG in written else {TAG: "json", "v": written}


def _encoded(value: object) -> object:
    kind = type(value)
    if value is None or kind in (bool, int, str) or (type(value) is float and math.isfinite(value)):
        return value
    if type(value) is list:
        return [_encoded(each) for each in value]
    if isinstance(value, Mapping) and not isinstance(value, BaseModel):
        return _mapping(value)
    if kind in _SIMPLE:
        name, write, _ = _SIMPLE[kind]
        return {TAG: name, "v": write(value)}
    if kind in _COLLECTIONS and isinstance(value, Iterable):
        items = [_encoded(each) for each in value]
        return {TAG: _COLLECTIONS[kind], "v": in_order(items) if kind in (set, frozenset) else items}
    return _of_class(value)


def _mapping(value: Mapping[object, object]) -> object:
    if isinstance(value, Example):
        return {TAG: "example", "v": {name: _encoded(each) for name, each in value.items()}}
    if TAG not in value and all(type(name) is str for name in value):
        return {name: _encoded(each) for name, each in value.items()}
    return {TAG: "dict", "v": [[_encoded(name), _encoded(each)] for name, each in value.items()]}


def _of_class(value: object) -> object:
    """Write a value of a class by its parts."""
    kind = type(value)
    if isinstance(value, pathlib.PurePath):
        return {TAG: "path", "v": str(value)}
    about = {"c": _name(kind)}
    if isinstance(value, enum.Enum):
        return {TAG: "enum", **about, "v": value.name}
    if isinstance(value, Signature):
        return {TAG: "record", **about, "v": {name: _encoded(each) for name, each in values_of(value).items()}}
    if isinstance(value, BaseModel):
        more = {"x": _encoded(dict(value.__pydantic_extra__))} if value.__pydantic_extra__ else {}
        fields = {name: _encoded(each) for name, each in vars(value).items() if name in type(value).model_fields}
        return {TAG: "model", **about, "v": fields, **more}
    if dataclasses.is_dataclass(kind):
        fields = {each.name: _encoded(getattr(value, each.name)) for each in dataclasses.fields(kind)}
        return {TAG: "dataclass", **about, "v": fields}
    if isinstance(value, FieldType):
        return {TAG: "field", **about, "v": value.to_json()}
    if isinstance(value, tuple) and hasattr(kind, "_fields"):
        return {TAG: "namedtuple", **about, "v": [_encoded(each) for each in value]}
    raise TypeError(f"a {kind.__name__} has no JSON form")


# --- reading ----------------------------------------------------------------------------------------------------


def _decoded(data: object, known: Known) -> object:
    if isinstance(data, list):
        return [_decoded(each, known) for each in data]
    if not isinstance(data, dict):
        return data
    if TAG not in data:
        return {name: _decoded(each, known) for name, each in data.items()}
    kind = data[TAG]
    value: Any = data.get("v")
    try:
        if kind in _READ:
            return _READ[kind](value)
        if kind in _MADE:
            return _MADE[kind](_decoded(each, known) for each in value)
        if kind == "json":
            return _decoded(value, known)
        if kind == "dict":
            return {_decoded(name, known): _decoded(each, known) for name, each in value}
        if kind == "example":
            return Example({name: _decoded(each, known) for name, each in value.items()})
        return _make(kind, known.find(data["c"], value if kind == "record" else ()), value, data.get("x"), known)
    except (KeyError, TypeError, AttributeError, ArithmeticError, IndexError) as error:
        raise ValueError(f"{kind!r} cannot be read: {type(error).__name__}: {error}") from error


def _make(kind: str, cls: Any, value: Any, extra: object, known: Known) -> object:
    """Make a value of a class from its parts; constructors of users are not run."""
    if kind == "enum" and issubclass(cls, enum.Enum):
        return cls[value]
    if kind == "field" and issubclass(cls, FieldType):
        return cls.from_json(value)
    if kind == "namedtuple" and issubclass(cls, tuple):
        return tuple.__new__(cls, [_decoded(each, known) for each in value])
    parts = {name: _decoded(each, known) for name, each in value.items()}
    if kind == "record" and isinstance(cls, SignatureMeta):
        return build(cast("AnySignature", cls), parts) if cls.fields else cls(**parts)
    if kind == "model" and issubclass(cls, BaseModel):
        made = cls.model_construct(_fields_set=set(parts))
        object.__setattr__(made, "__dict__", parts)  # in their order
        if extra is not None:
            object.__setattr__(made, "__pydantic_extra__", _decoded(extra, known))
        return made
    if kind == "dataclass" and dataclasses.is_dataclass(cls):
        made = object.__new__(cast("AnySignature", cls))
        for each in dataclasses.fields(cls):
            object.__setattr__(made, each.name, parts[each.name])
        return made
    raise ValueError(f"{kind!r} is nothing that can be read")


K = TypeVar("K")

_Convert = Callable[[Any], object]  # of values of one type: the table below knows which

_SIMPLE: Mapping[type, tuple[str, _Convert, _Convert]] = {
    float: ("float", str, float),
    complex: ("complex", lambda value: [value.real, value.imag], lambda parts: complex(*parts)),
    bytes: ("bytes", lambda value: base64.b64encode(value).decode(), base64.b64decode),
    bytearray: ("bytearray", lambda value: base64.b64encode(value).decode(), lambda t: bytearray(base64.b64decode(t))),
    decimal.Decimal: ("decimal", str, decimal.Decimal),
    fractions.Fraction: ("fraction", str, fractions.Fraction),
    uuid.UUID: ("uuid", str, uuid.UUID),
    dt.datetime: ("datetime", dt.datetime.isoformat, dt.datetime.fromisoformat),
    dt.date: ("date", dt.date.isoformat, dt.date.fromisoformat),
    dt.time: ("time", dt.time.isoformat, dt.time.fromisoformat),
    dt.timedelta: (
        "timedelta",
        lambda value: [value.days, value.seconds, value.microseconds],
        lambda parts: dt.timedelta(*parts),
    ),
}
_COLLECTIONS: Mapping[type, str] = {tuple: "tuple", set: "set", frozenset: "frozenset", deque: "deque"}
_READ: Mapping[str, _Convert] = {
    **{name: read for name, _, read in _SIMPLE.values()},
    "path": pathlib.Path,
}
_MADE: Mapping[str, _Convert] = {name: kind for kind, name in _COLLECTIONS.items()}


# --- classes ----------------------------------------------------------------------------------------------------


def _name(cls: type) -> str:
    return f"{cls.__module__}:{cls.__qualname__}"


def _loaded_class(name: str) -> type | None:
    """Return the class that an imported module has under this name; one that it would have to make is none."""
    module, _, path = name.partition(":")
    found: object = sys.modules.get(module)
    for part in path.split("."):
        found = vars(found).get(part) if isinstance(found, (type, types.ModuleType)) else None
    return found if isinstance(found, type) else None


def _classes(annotations: Iterable[object]) -> dict[str, list[type]]:
    """Return every class that annotations name, by module and name: fields of models and subclasses included."""
    found: dict[str, list[type]] = {}
    todo: list[object] = [*annotations]
    seen: set[type] = set()
    while todo:
        each = todo.pop()
        todo += get_args(each)
        if not isinstance(each, type) or each in seen or each.__module__ in ("builtins", "typing"):
            continue
        seen.add(each)
        found.setdefault(_name(each), []).append(each)
        if isinstance(each, SignatureMeta):
            todo += [field.annotation for field in each.fields.values()]
            todo += [base for base in each.__mro__ if isinstance(base, SignatureMeta)]  # what a predictor returns
        elif issubclass(each, BaseModel) or dataclasses.is_dataclass(each):
            todo += _hints(each)
        if each not in (FieldType, Signature, Prediction):
            todo += type.__subclasses__(each)
    return found


def _hints(cls: type) -> list[object]:
    if issubclass(cls, BaseModel):
        return [each.annotation for each in cls.model_fields.values()]
    try:
        return list(typing.get_type_hints(cls).values())
    except Exception:  # noqa: BLE001 - an annotation may be any expression; the fields that can be read are enough
        return []


# --- equality ---------------------------------------------------------------------------------------------------


def same(one: Any, other: Any) -> bool:
    """Tell whether two values are the same, types included: 1 is not True, and nan is nan."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return _same_mapping(one, other)
    if type(one) is not type(other):
        return isinstance(one, pathlib.PurePath) and isinstance(other, pathlib.PurePath) and one == other
    if isinstance(one, float):
        return one == other or (math.isnan(one) and math.isnan(other))
    if isinstance(one, (list, tuple, deque)):
        return len(one) == len(other) and all(map(same, one, other))
    if isinstance(one, (set, frozenset)):
        return one == other and sorted(map(repr, map(type, one))) == sorted(map(repr, map(type, other)))
    if isinstance(one, Signature):
        return _same_mapping(values_of(one), values_of(other))
    if isinstance(one, BaseModel):
        extra = (one.__pydantic_extra__ or {}, other.__pydantic_extra__ or {})
        return _same_mapping(vars(one), vars(other)) and _same_mapping(*extra)
    if dataclasses.is_dataclass(one) and not isinstance(one, type):
        return all(same(getattr(one, each.name), getattr(other, each.name)) for each in dataclasses.fields(one))
    if isinstance(one, FieldType):
        return bool(one == other) or same(one.to_json(), other.to_json())
    return bool(one == other)


def _same_mapping(one: Mapping[K, object], other: Mapping[K, object]) -> bool:
    names = {each: each for each in other}
    return one.keys() == other.keys() and all(
        type(name) is type(names[name]) and same(value, other[name]) for name, value in one.items()
    )


_OWN: tuple[object, ...] = (
    *(Message, ToolSpec, Passage, Document, Quote, content.Part, content.Citation),
    *(Example, Prediction, History, ToolCalls, Citations, Image, Audio, File, Code, Reasoning),
)
_NOTHING_DECLARED = Known()
