"""
Filters over metadata: one language, one meaning, whatever index carries them out.

A filter is a tree of frozen records, or its short form: ``{"year": 2020, "lang": ["de", "en"]}`` means that the year
is 2020 and the language one of the two. ``fits`` is the meaning of every filter: an index that filters by other means
(in SQL, on a server) finds the passages for which it says True, and no others.

- Values are compared as JSON has them: texts with texts by code points, numbers with numbers by their value
  (``1 == 1.0``), true, false and null with themselves only. A text is never equal to a number.
- A passage without the name meets no condition on it; ``Not(Exists("year"))`` finds those.
- A condition holds for a list when it holds for one of its items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from dspex.errors import FilterInvalid
from dspex.protocols.metadata import Metadata, MetadataValue, Scalar, problem_of_scalar

__all__ = [
    "MAX_CONDITIONS",
    "MAX_DEPTH",
    "And",
    "Equals",
    "Exists",
    "Filter",
    "FilterLike",
    "Not",
    "OneOf",
    "Or",
    "Range",
    "as_filter",
    "filter_to_json",
    "fits",
]

MAX_DEPTH: Final = 8
"""The most records of a filter that stand one inside the other."""
MAX_CONDITIONS: Final = 1_000
"""The most conditions of a filter, each value of a ``OneOf`` counted."""

_Bound: TypeAlias = str | int | float | None


@dataclass(frozen=True, slots=True)
class Equals:
    """The value of ``name`` is ``value``, or a list that holds it."""

    name: str
    value: Scalar

    def __post_init__(self) -> None:
        _check_name(self.name)
        _check_value(self.name, self.value)


@dataclass(frozen=True, slots=True)
class OneOf:
    """The value of ``name`` is one of ``values``, or a list that holds one of them; none of no values."""

    name: str
    values: Sequence[Scalar]

    def __post_init__(self) -> None:
        _check_name(self.name)
        if not isinstance(self.values, (list, tuple)):
            raise FilterInvalid(f"OneOf({self.name!r:.60}) needs a list of values, not {type(self.values).__name__}")
        if len(self.values) > MAX_CONDITIONS:
            raise FilterInvalid(f"OneOf({self.name!r:.60}) has {len(self.values)} values, more than {MAX_CONDITIONS}")
        for each in self.values:
            _check_value(self.name, each)
        object.__setattr__(self, "values", tuple(self.values))


@dataclass(frozen=True, slots=True)
class Range:
    """
    The value of ``name`` lies between bounds, all of them numbers or all of them texts; ISO dates are such texts.

    Attributes:
        name: The name in the metadata.
        at_least: The value is this or more.
        at_most: The value is this or less.
        above: The value is more than this.
        below: The value is less than this.
    """

    name: str
    at_least: _Bound = None
    at_most: _Bound = None
    above: _Bound = None
    below: _Bound = None

    def __post_init__(self) -> None:
        _check_name(self.name)
        bounds = [each for each in (self.at_least, self.at_most, self.above, self.below) if each is not None]
        if not bounds:
            raise FilterInvalid(f"Range({self.name!r:.60}) needs a bound: at_least, at_most, above or below")
        for each in bounds:
            _check_value(self.name, each)
            if isinstance(each, bool) or isinstance(each, str) is not isinstance(bounds[0], str):
                raise FilterInvalid(f"Range({self.name!r:.60}): the bounds must be all numbers or all texts")


@dataclass(frozen=True, slots=True)
class Exists:
    """The metadata has ``name``, whatever its value; null is one, an empty list is none."""

    name: str

    def __post_init__(self) -> None:
        _check_name(self.name)


@dataclass(frozen=True, slots=True, init=False)
class And:
    """All of the filters hold; of none, too: ``And(Equals("lang", "de"), Range("year", above=2000))``."""

    filters: tuple[Filter, ...]

    def __init__(self, *filters: FilterLike) -> None:
        object.__setattr__(self, "filters", tuple(map(_part, filters)))


@dataclass(frozen=True, slots=True, init=False)
class Or:
    """One of the filters holds at least; without any, it never holds."""

    filters: tuple[Filter, ...]

    def __init__(self, *filters: FilterLike) -> None:
        object.__setattr__(self, "filters", tuple(map(_part, filters)))


@dataclass(frozen=True, slots=True, init=False)
class Not:
    """The filter does not hold."""

    filter: Filter

    def __init__(self, filter: FilterLike) -> None:
        object.__setattr__(self, "filter", _part(filter))


Filter: TypeAlias = Equals | OneOf | Range | Exists | And | Or | Not
FilterLike: TypeAlias = Filter | Mapping[str, MetadataValue]
"""A filter, or its short form: a value for ``Equals``, a list for ``OneOf``, several names for ``And``."""


def as_filter(given: FilterLike | None) -> Filter | None:
    """
    Return a filter as the tree that indexes are given, or None where everything fits (``None``, ``{}``).

    Raises:
        FilterInvalid: It is not a filter, too deep or too large.
    """
    if given is None:
        return None
    found = _part(given)
    if isinstance(found, And) and not found.filters:
        return None
    conditions, level = 0, [found]
    for _ in range(MAX_DEPTH):
        below: list[Filter] = []
        for each in level:
            conditions += len(each.values) if isinstance(each, OneOf) else 1
            if isinstance(each, (And, Or)):
                below += each.filters
            elif isinstance(each, Not):
                below.append(each.filter)
        if conditions > MAX_CONDITIONS:
            raise FilterInvalid(f"the filter has more than {MAX_CONDITIONS} conditions")
        if not below:
            return found
        level = below
    raise FilterInvalid(f"the filter is nested more than {MAX_DEPTH} deep")


def fits(filter: Filter | None, metadata: Metadata) -> bool:
    """Tell whether metadata meets a filter of ``as_filter``; None is met by all."""
    match filter:
        case None:
            return True
        case Equals(name, value):
            return any(_equal(value, each) for each in _values(metadata, name))
        case OneOf(name, values):
            found = _values(metadata, name)
            return any(_equal(value, each) for value in values for each in found)
        case Range():
            return any(_inside(filter, each) for each in _values(metadata, filter.name))
        case Exists(name):
            return bool(_values(metadata, name))
        case And(filters):
            return all(fits(each, metadata) for each in filters)
        case Or(filters):
            return any(fits(each, metadata) for each in filters)
        case Not(inner):
            return not fits(inner, metadata)


def filter_to_json(filter: Filter) -> list[object]:
    """Return a filter as JSON: for keys of caches, journals and traces; equal filters have equal forms."""
    match filter:
        case Equals(name, value):
            return ["equals", name, value]
        case OneOf(name, values):
            return ["one_of", name, *values]
        case Range():
            return ["range", filter.name, filter.at_least, filter.at_most, filter.above, filter.below]
        case Exists(name):
            return ["exists", name]
        case And(filters):
            return ["and", *map(filter_to_json, filters)]
        case Or(filters):
            return ["or", *map(filter_to_json, filters)]
        case Not(inner):
            return ["not", filter_to_json(inner)]


def _values(metadata: Metadata, name: str) -> Sequence[Scalar]:
    """Return the values under a name: the items of a list, one value, or none."""
    if name not in metadata:
        return ()
    value = metadata[name]
    return value if isinstance(value, (list, tuple)) else (value,)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _equal(one: Scalar, other: Scalar) -> bool:
    if _is_number(one):
        return _is_number(other) and one == other
    return type(one) is type(other) and one == other


def _inside(bounds: Range, value: Scalar) -> bool:
    """Tell whether a value lies in the range: of the kind of its bounds, and between them."""
    of_text = any(isinstance(each, str) for each in (bounds.at_least, bounds.at_most, bounds.above, bounds.below))
    if not (isinstance(value, str) if of_text else _is_number(value)):
        return False
    given: str | int | float = value  # type: ignore[assignment]  # checked in the line above
    return (
        (bounds.at_least is None or given >= bounds.at_least)  # type: ignore[operator]  # of one kind, as is the rest
        and (bounds.at_most is None or given <= bounds.at_most)  # type: ignore[operator]
        and (bounds.above is None or given > bounds.above)  # type: ignore[operator]
        and (bounds.below is None or given < bounds.below)  # type: ignore[operator]
    )


def _part(given: FilterLike) -> Filter:
    """Return a filter; the short form becomes one."""
    if isinstance(given, (Equals, OneOf, Range, Exists, And, Or, Not)):
        return given
    if not isinstance(given, Mapping):
        raise FilterInvalid(
            f"filter of type {type(given).__name__}: expected a mapping such as {{'year': 2020}}, or Equals, OneOf, "
            "Range, Exists, And, Or, Not"
        )
    parts = [
        OneOf(name, value) if isinstance(value, (list, tuple)) else _equals(name, value)
        for name, value in given.items()
    ]
    return parts[0] if len(parts) == 1 else And(*parts)


def _equals(name: str, value: object) -> Equals:
    return Equals(name, value)  # type: ignore[arg-type]  # it is checked there


def _check_name(name: object) -> None:
    if not isinstance(name, str) or problem_of_scalar(name):
        raise FilterInvalid(f"a filter's name must be a text, not {name!r:.60}")


def _check_value(name: str, value: object) -> None:
    problem = problem_of_scalar(value)
    if problem:
        raise FilterInvalid(f"the filter's value for {name!r:.60} {problem}")
