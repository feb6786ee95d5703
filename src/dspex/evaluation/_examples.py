"""Rows as users have them, made into examples and checked before anything is paid for."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from dspex.programs import Example, Signature, pick_inputs
from dspex.programs.signature import values_of

__all__ = ["Row", "as_example", "read_rows"]


@dataclass(frozen=True, slots=True)
class Row:
    """One example of a set: its number from 0, its fields, and those of them that are the program's inputs."""

    index: int
    example: Example
    inputs: Mapping[str, object]


def as_example(given: object, where: str = "") -> Example:
    """
    Return an Example, a mapping, a dataclass or a signature's record as an Example.

    Raises:
        TypeError: It is none of these; ``where`` opens the message.
    """
    if isinstance(given, Example):
        return given
    if isinstance(given, Mapping):
        return Example(given)
    if dataclasses.is_dataclass(given) and not isinstance(given, type):
        return Example({each.name: getattr(given, each.name) for each in dataclasses.fields(given)})
    if isinstance(given, Signature):
        return Example(values_of(given))
    to_dict = getattr(given, "to_dict", None)
    if callable(to_dict):
        return Example(to_dict())
    raise TypeError(f"{where}expected an Example, a mapping or a dataclass, not {type(given).__name__}")


def read_rows(program: object, examples: Iterable[object]) -> tuple[Row, ...]:
    """
    Return the rows of a set, with the inputs that ``forward`` takes picked from each.

    Raises:
        MissingInput: A row lacks inputs; the message opens with its number, counted from 0.
        TypeError: A row is not an example.
    """
    rows = []
    for index, given in enumerate(examples):
        where = f"row {index}: "
        example = as_example(given, where)
        rows.append(Row(index, example, pick_inputs(program, example, where)))
    return tuple(rows)
