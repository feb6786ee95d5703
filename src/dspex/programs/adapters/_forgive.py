"""
The same slips are forgiven at the top and inside: a value is led along its type, and each part put as the type has it.

Names of enums, choices in other letters, numbers with separators, an object given as its JSON, ``None`` as a word,
dates in other forms. A value that cannot be led stays as it is, and the type's own check says what is wrong with it.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import decimal
import enum
import functools
import math
import re
import types
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, NotRequired, Required, TypeVar, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, TypeAdapter
from pydantic.fields import FieldInfo
from typing_extensions import is_typeddict

from dspex._clock import DATE_TYPES
from dspex.programs.adapters._choices import Choices
from dspex.programs.adapters._dates import date_form
from dspex.programs.adapters._exact_json import DoubleKey, ExactFloat, exact_json
from dspex.programs.adapters._lenient import lenient_value
from dspex.programs.adapters._marks import number_text, only_fence, without_marks
from dspex.programs.adapters._types import Annotation, allows_none, literal_values, plain_type, without_none

__all__ = [
    "NOTHING",
    "aliases_agree",
    "forgiven",
    "has_dates",
    "is_list",
    "is_mapping",
    "may_be_doubtful",
    "refuse_doubts",
    "refuse_swaps",
    "structure_in",
]

NOTHING = frozenset({"none", "null", "n/a", "nil", ""})
"""Words for None, in small letters, where the type takes no text."""
_LISTS: tuple[type, ...] = (
    list,
    tuple,
    set,
    frozenset,
    collections.abc.Sequence,
    collections.abc.Set,
    collections.deque,
)
_MAPPINGS: tuple[type, ...] = (dict, collections.abc.Mapping, collections.abc.MutableMapping, collections.OrderedDict)
_DEEPEST = 40
_LONGEST_NUMBER = 400
_THOUSANDS = re.compile(r"\s*[-+]?[1-9]\d{0,2}(?:\.000)+\s*")
_LARGE = re.compile(r"[eE]\+?\d{3}|\d{300}")
_DOUBTFUL = re.compile(rf"\d\.000|{_LARGE.pattern}")


def forgiven(value: object, annotation: object, depth: int = 0) -> object:
    """
    Return a JSON value with its parts as the type has them.

    Raises:
        ValueError: A plain number stands for a date, a truth value for a number, or two keys for one field.
    """
    annotation = plain_type(annotation)
    if depth > _DEEPEST or annotation is Any or isinstance(annotation, TypeVar) or annotation is object:
        return value
    origin = get_origin(annotation) or annotation
    if origin in (Union, types.UnionType):
        return _one_of(value, annotation, depth)
    choices = _choices(annotation)
    if choices is not None:
        return _choice(choices, value)
    if origin in (int, float, bool):
        return _number(value, origin)
    if origin is decimal.Decimal:
        return value.text if isinstance(value, ExactFloat) else _number(value, decimal.Decimal)
    if origin is str:
        return _text(value)
    if origin in DATE_TYPES:
        return date_form(value, origin)
    if isinstance(origin, type):
        if issubclass(origin, _LISTS) and not issubclass(origin, (str, bytes)) and not hasattr(origin, "_fields"):
            return _list(value, annotation, origin, depth)
        if issubclass(origin, _MAPPINGS) and not is_typeddict(origin):
            return _mapping(value, annotation, depth)
    members = _members(annotation)
    return _object(value, annotation, members, depth) if members is not None else value


def structure_in(text: str) -> object:
    """
    Return the list, object or other value whose JSON a text is: exactly, between fences, or nearly.

    Raises:
        ValueError: It is none.
    """
    text = text.strip()
    text = text.strip("*` \t\r\n") if text[:1] in ("*", "`") and "```" not in text else text
    inside = only_fence(text)
    text = text if inside is None else inside
    try:
        return exact_json(text)
    except DoubleKey:
        raise
    except ValueError:
        return lenient_value(text)


class _Watch(NamedTuple):
    """The slips that pydantic lets pass in a type's values: no certain number for one, two keys for one."""

    numbers: bool
    keys: bool


def refuse_swaps(value: object, annotation: object) -> object:
    """
    Return a JSON value that pydantic takes, with truth values as texts where the type has texts beside numbers.

    Raises:
        ValueError: A truth value stands for a number, a number is not certain, or two keys mean one and have different
            values.
    """
    try:
        watch = _known_watch(annotation)
    except TypeError:  # not hashable
        watch = _watch_of(annotation, set())
    if (watch.numbers and _has_slip(value)) or (watch.keys and isinstance(value, (dict, list))):
        return forgiven(value, annotation)
    return value


@functools.lru_cache(maxsize=1024)
def _known_watch(annotation: object) -> _Watch:
    return _watch_of(annotation, set())


def _watch_of(annotation: object, seen: set[int]) -> _Watch:
    annotation = plain_type(annotation)
    choices = literal_values(annotation)
    if choices is not None:
        return _Watch(any(isinstance(each, int) and not isinstance(each, bool) for each in choices), keys=False)
    if annotation in (int, float, decimal.Decimal):
        return _Watch(numbers=True, keys=False)
    if id(annotation) in seen:
        return _Watch(numbers=False, keys=False)
    seen.add(id(annotation))
    members = _members(annotation) or {}
    arguments = get_args(annotation)
    keys = any(alias != name for name, (_, alias) in members.items())
    keys = keys or (is_mapping(annotation) and bool(arguments) and arguments[0] not in (str, Any))
    numbers = False
    for each in (*arguments, *[each for each, _ in members.values()]):
        if each is not Ellipsis and not isinstance(each, (list, str)):
            found = _watch_of(each, seen)
            numbers, keys = numbers or found.numbers, keys or found.keys
    return _Watch(numbers, keys)


def _has_slip(value: object) -> bool:
    """Tell whether there is a truth value, or what ``refuse_doubts`` may refuse, in a JSON value."""
    if isinstance(value, dict):
        return any(map(_has_slip, value.values()))
    if isinstance(value, list):
        return any(map(_has_slip, value))
    if isinstance(value, str):
        return len(value) <= _LONGEST_NUMBER and may_be_doubtful(value)
    return isinstance(value, (bool, ExactFloat))


def may_be_doubtful(text: str) -> bool:
    """Tell quickly that ``refuse_doubts`` refuses no number in a text, as in most; True leaves it open."""
    return _DOUBTFUL.search(text) is not None


@functools.lru_cache(maxsize=1024)
def _has_dates(annotation: object) -> bool:
    return _dates_in(annotation, set())


def has_dates(annotation: object) -> bool:
    """Tell whether a date, a time, a duration or a decimal number, which pydantic reads loosely, is in the type."""
    try:
        return _has_dates(annotation)
    except TypeError:  # not hashable
        return _dates_in(annotation, set())


def _dates_in(annotation: object, seen: set[int]) -> bool:
    annotation = plain_type(annotation)
    if isinstance(annotation, type) and issubclass(annotation, (*DATE_TYPES, decimal.Decimal)):
        return True
    if id(annotation) in seen:
        return False
    seen.add(id(annotation))
    parts = [*get_args(annotation)] if literal_values(annotation) is None else []
    parts += [each for each, _ in (_members(annotation) or {}).values()]
    return any(_dates_in(each, seen) for each in parts if each is not Ellipsis and not isinstance(each, (list, str)))


def is_list(annotation: object) -> bool:
    """Tell whether the values of a type are lists, sets or tuples."""
    origin = _origin(annotation)
    return issubclass(origin, _LISTS) and not issubclass(origin, (str, bytes)) and not hasattr(origin, "_fields")


def is_mapping(annotation: object) -> bool:
    """Tell whether the values of a type are mappings with any keys."""
    origin = _origin(annotation)
    return issubclass(origin, _MAPPINGS) and not is_typeddict(origin)


def _origin(annotation: object) -> type:
    plain = plain_type(without_none(plain_type(annotation)))
    origin = get_origin(plain) or plain
    return origin if isinstance(origin, type) else object


def aliases_agree(annotation: object) -> bool:
    """Tell whether all aliases of the models in a type are written as they are read."""
    return _agree(annotation, set())


def _agree(annotation: object, seen: set[int]) -> bool:
    annotation = plain_type(annotation)
    if id(annotation) in seen or annotation in (str, int, float, bool, Any):
        return True
    seen.add(id(annotation))
    if literal_values(annotation) is not None:
        return True
    fields = getattr(get_origin(annotation) or annotation, "__pydantic_fields__", None)
    if isinstance(fields, Mapping):
        for name, each in fields.items():
            read = each.validation_alias if each.validation_alias is not None else name
            if read != (each.serialization_alias if each.serialization_alias is not None else name):
                return False
    parts = [*get_args(annotation), *[each for each, _ in (_members(annotation) or {}).values()]]
    return all(_agree(each, seen) for each in parts if each is not Ellipsis and not isinstance(each, (list, str)))


# --- parts ----------------------------------------------------------------------------------------------------


def _one_of(value: object, annotation: object, depth: int) -> object:
    """The first type of a union that takes the value as it is, or the first that can be led to take it."""
    arms = [each for each in get_args(annotation) if each is not type(None)]
    plain = [plain_type(each) for each in arms]
    if value is None:
        return None
    if (
        isinstance(value, str)
        and allows_none(annotation)
        and str not in plain
        and without_marks(value).lower() in NOTHING
    ):
        return None
    takes: list[tuple[object, object]] = []
    problem: ValueError | None = None
    for each in arms:
        try:
            takes.append((each, forgiven(value, each, depth + 1)))
        except ValueError as error:
            problem = error
    for lead in (False, True):
        for each, put in takes:
            led = put if lead or has_dates(each) else value
            if _fits(led, each):
                is_number = isinstance(led, str) and plain_type(each) in (int, float)
                return _adapter(each).validate_python(led) if is_number else led
    if problem is not None:
        raise problem if len(arms) == 1 else ValueError(f"{value!r:.60} is not of any type that was asked for")
    return value


def _fits(value: object, annotation: object) -> bool:
    try:
        _adapter(annotation).validate_python(value)
    except (ValueError, TypeError, RecursionError):
        return False
    return True


def _adapter(annotation: Annotation) -> TypeAdapter[object]:
    try:
        return _known_adapter(annotation)
    except TypeError:  # not hashable
        return TypeAdapter(annotation)


@functools.lru_cache(maxsize=512)
def _known_adapter(annotation: Annotation) -> TypeAdapter[object]:
    return TypeAdapter(annotation)


def _choices(annotation: object) -> Choices | None:
    try:
        return _known_choices(annotation)
    except TypeError:  # not hashable
        return None


@functools.lru_cache(maxsize=512)
def _known_choices(annotation: object) -> Choices | None:
    found = literal_values(annotation)
    return Choices(found) if found else None


def _choice(choices: Choices, value: object) -> object:
    try:
        found, _ = choices.read_json(value)
    except ValueError:
        if isinstance(value, bool):
            raise  # a number among the choices would take it
        return value
    return found.value if isinstance(found, enum.Enum) and type(found.value) in (str, int, bool) else found


def _number(value: object, kind: type) -> object:
    if isinstance(value, bool) and kind is not bool:
        raise ValueError(f"expected a number, got the truth value {str(value).lower()}")
    text = number_text(value, whole=kind is int) if isinstance(value, str) else value
    refuse_doubts(text, kind)
    return text


def refuse_doubts(value: object, kind: type) -> None:
    """
    Refuse a number that pydantic takes although it is not certain: ``1.000`` is a thousand in many languages.

    Args:
        value: A number, or the text of one.
        kind: ``int``, ``float``, or another type, of which no number is refused.

    Raises:
        ValueError: A whole number may have a separator of thousands, or a float is too large for one.
    """
    text = value.text if isinstance(value, ExactFloat) else value
    if not isinstance(text, str):
        return
    if kind is int and _THOUSANDS.fullmatch(text):
        raise ValueError("its point may be a decimal mark or a separator of thousands")
    if kind is float and _is_too_large(text):
        raise ValueError("the number is too large")


def _is_too_large(text: str) -> bool:
    try:
        return _LARGE.search(text) is not None and math.isinf(float(text))
    except ValueError:
        return False


def _text(value: object) -> object:
    """A number where a text is asked for is its digits, as they are written."""
    if isinstance(value, ExactFloat):
        return value.text
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and not math.isfinite(value):
        return value  # the word for "not a number" is not a text, either
    return str(value) if isinstance(value, (int, float)) else value


def _list(value: object, annotation: object, origin: type, depth: int) -> object:
    if isinstance(value, str):
        value = _structure(value, list)
    if not isinstance(value, (list, tuple)):
        return value
    arguments = get_args(annotation)
    if issubclass(origin, tuple) and arguments and arguments[-1] is not Ellipsis:
        return [
            forgiven(each, arguments[at], depth + 1) if at < len(arguments) else each for at, each in enumerate(value)
        ]
    return [forgiven(each, arguments[0], depth + 1) for each in value] if arguments else value


def _mapping(value: object, annotation: object, depth: int) -> object:
    if isinstance(value, str):
        value = _structure(value, dict)
    arguments = get_args(annotation)
    if not isinstance(value, Mapping) or len(arguments) != 2:
        return value
    of_key, of_value = arguments
    found: dict[object, object] = {}
    meant: dict[object, object] = {}
    for key, each in value.items():
        led = forgiven(key, of_key, depth + 1) if plain_type(of_key) is not str else key
        means = _meant(led, of_key)
        if means in meant and not _same(meant[means], each):
            raise ValueError(f"two keys mean {led!r}")
        meant[means] = each
        found[led] = forgiven(each, of_value, depth + 1)
    return found


def _meant(key: object, annotation: object) -> object:
    """Return what a key becomes: ``"01"`` and ``"1"`` are one number."""
    if annotation is str or annotation is Any:
        return key
    try:
        means = _adapter(annotation).validate_python(key)
        hash(means)
    except (ValueError, TypeError):
        return key
    return means


def _same(one: object, other: object) -> bool:
    return one == other and isinstance(one, bool) == isinstance(other, bool)


def _object(value: object, annotation: object, members: Mapping[str, tuple[object, str]], depth: int) -> object:
    """Lead an object's members, which may be there under their alias, and under names nearly theirs."""
    if isinstance(value, str):
        value = _structure(value, dict)
    if isinstance(value, (list, tuple)) and isinstance(annotation, type) and issubclass(annotation, tuple):
        return [forgiven(each, of, depth + 1) for each, (of, _) in zip(value, members.values(), strict=False)]
    if not isinstance(value, Mapping):
        return value
    if len(value) == 1 and not members.keys() & value.keys():
        ((name, inner),) = value.items()
        if _folded(str(name)) == _folded(getattr(annotation, "__name__", "")) and isinstance(inner, Mapping):
            value = inner  # the type's name around it
    names = {alias: each for each, (_, alias) in members.items()} | {each: each for each in members}
    near = {_folded(each): each for each in names}
    found: dict[str, object] = {}
    given: dict[object, object] = {}
    for key, each in value.items():
        known = key if key in names else near.get(_folded(key), key) if isinstance(key, str) else key
        known = key if known != key and known in value else known
        field = names.get(known, known) if isinstance(known, str) else known
        if field in given and not _same(given[field], each):
            raise ValueError(f"two keys mean {field!r}")
        if field in given:
            continue
        given[field] = each
        of = members[names[known]][0] if known in names else object
        found[known] = forgiven(each, of, depth + 1)
    return found


def _folded(name: str) -> str:
    return re.sub(r"[\W_]+", "", name).casefold()


def _structure(text: str, kind: type) -> object:
    """Return the list or mapping that a text is the JSON of; the text where it is none."""
    try:
        found = structure_in(text)
    except (ValueError, TypeError, RecursionError):
        return text
    return found if isinstance(found, kind) else text


def _members(annotation: object) -> Mapping[str, tuple[object, str]] | None:
    """Return the members of a model, dataclass, typed dict or named tuple: type and alias by name; None for others."""
    try:
        return _known_members(annotation)
    except TypeError:  # not hashable
        return None


@functools.lru_cache(maxsize=512)
def _known_members(annotation: object) -> Mapping[str, tuple[object, str]] | None:
    origin = get_origin(annotation) or annotation
    if not isinstance(origin, type):
        return None
    if issubclass(origin, BaseModel):
        return {name: (each.annotation, _alias_of(each, name)) for name, each in origin.model_fields.items()}
    fields = getattr(origin, "__pydantic_fields__", None)
    if dataclasses.is_dataclass(origin) and isinstance(fields, Mapping):
        return {name: (each.annotation, _alias_of(each, name)) for name, each in fields.items()}
    named = (
        dataclasses.is_dataclass(origin)
        or is_typeddict(origin)
        or (issubclass(origin, tuple) and hasattr(origin, "_fields"))
    )
    if not named:
        return None
    try:
        hints = get_type_hints(origin, include_extras=True)
    except (NameError, TypeError):
        return None
    wanted: Sequence[str] = getattr(origin, "_fields", None) or [*hints]
    return {name: (_required(hints.get(name, object)), name) for name in wanted}


def _required(annotation: object) -> object:
    """Return what ``Required[…]`` and ``NotRequired[…]`` are about."""
    return get_args(annotation)[0] if get_origin(annotation) in (Required, NotRequired) else annotation


def _alias_of(field: FieldInfo, name: str) -> str:
    alias = field.validation_alias if field.validation_alias is not None else field.alias
    return alias if isinstance(alias, str) else name
