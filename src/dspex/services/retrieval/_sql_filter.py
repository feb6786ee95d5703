"""
Filters as conditions of SQL over a table of facts: one row for each name and value of a passage's metadata.

``facts(passage, name, kind, value)``: the kind keeps values apart that SQLite would take for equal (``True`` and 1) or
put into one order (numbers before texts), so that a condition finds exactly what ``fits`` finds.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from dspex.protocols.filters import And, Equals, Exists, Filter, Not, OneOf, Or, Range
from dspex.protocols.metadata import Metadata, Scalar

__all__ = ["facts_of", "sql_of"]

_NULL, _BOOL, _NUMBER, _TEXT = range(4)
_SIDE_BY_SIDE: Final = 25
"""The most conditions in a row without brackets: SQLite's expressions have a greatest depth, as its parser has."""

_EACH: Final = "EXISTS (SELECT 1 FROM facts WHERE passage = PASSAGE AND name = ? TESTS)"
_ALL: Final = "PASSAGE IN (SELECT passage FROM facts WHERE name = ? TESTS)"

Fact = tuple[str, int, int | float | str]


def facts_of(metadata: Metadata) -> Iterator[Fact]:
    """Yield (name, kind, value) for each value of the metadata, and for each item of its lists."""
    for name, value in metadata.items():
        items: Sequence[Scalar] = value if isinstance(value, (list, tuple)) else (value,)
        for item in items:
            yield (name, *_kind_and_value(item))


def sql_of(filter: Filter, passage: str, *, each: bool) -> tuple[str, list[int | float | str]]:
    """
    Return an expression of SQL and its arguments.

    Args:
        filter: The filter.
        passage: The expression of SQL for the number of the passage in question.
        each: True asks about each passage in question, of which there are few; False looks the conditions up once, for
            all passages.
    """
    template = _EACH if each else _ALL
    return _expression(filter, template.replace("PASSAGE", passage))


def _expression(filter: Filter, fact: str) -> tuple[str, list[int | float | str]]:
    match filter:
        case Equals(name, value):
            return _fact(fact, name, "AND kind = ? AND value = ?", _kind_and_value(value))
        case OneOf(name, values):
            by_kind: dict[int, list[int | float | str]] = {}
            for kind, value in map(_kind_and_value, values):
                by_kind.setdefault(kind, []).append(value)
            tests = [f"(kind = {kind} AND value IN ({_marks(found)}))" for kind, found in by_kind.items()]
            arguments = [each for found in by_kind.values() for each in found]
            return _fact(fact, name, f"AND ({' OR '.join(tests)})", arguments) if tests else ("0", [])
        case Range():
            bounds = {">=": filter.at_least, "<=": filter.at_most, ">": filter.above, "<": filter.below}
            given = {sign: bound for sign, bound in bounds.items() if bound is not None}
            kind = _TEXT if any(isinstance(each, str) for each in given.values()) else _NUMBER
            tests = [f"AND value {sign} ?" for sign in given]
            return _fact(fact, filter.name, f"AND kind = {kind} {' '.join(tests)}", list(given.values()))
        case Exists(name):
            return _fact(fact, name, "", ())
        case And(filters):
            return _joined("AND", "1", [_expression(each, fact) for each in filters])
        case Or(filters):
            return _joined("OR", "0", [_expression(each, fact) for each in filters])
        case Not(inner):
            expression, arguments = _expression(inner, fact)
            return f"NOT ({expression})", arguments


def _fact(
    fact: str, name: str, tests: str, arguments: Sequence[int | float | str]
) -> tuple[str, list[int | float | str]]:
    return fact.replace("TESTS", tests), [name, *arguments]


def _joined(
    operator: str, nothing: str, parts: list[tuple[str, list[int | float | str]]]
) -> tuple[str, list[int | float | str]]:
    """Join expressions by an operator, in groups of groups."""
    while len(parts) > 1:
        groups = [parts[at : at + _SIDE_BY_SIDE] for at in range(0, len(parts), _SIDE_BY_SIDE)]
        parts = [
            (
                f"({f' {operator} '.join(expression for expression, _ in group)})",
                [each for _, arguments in group for each in arguments],
            )
            for group in groups
        ]
    return parts[0] if parts else (nothing, [])


def _marks(values: Sequence[object]) -> str:
    return ", ".join("?" * len(values))


def _kind_and_value(value: Scalar) -> tuple[int, int | float | str]:
    if value is None:
        return _NULL, 0  # a key of a table cannot be NULL
    if isinstance(value, bool):
        return _BOOL, int(value)
    return (_TEXT, value) if isinstance(value, str) else (_NUMBER, value)
