"""Examples: rows of data by field name, for training sets, metrics and demonstrations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

__all__ = ["Example"]

_UNMARKED: Final = "nothing needs to be marked: the inputs are those that forward's parameters name"
_OF_DSPY: Final[Mapping[str, str]] = {
    "copy": ".with_fields(...) returns a changed copy",
    "inputs": _UNMARKED,
    "labels": _UNMARKED,
    "toDict": ".to_dict() returns the fields",
    "with_inputs": _UNMARKED,
}
"""Methods of DSPy's examples, and what to write here; a field of that name is found first."""


class Example(Mapping[str, Any]):
    """
    A frozen row: ``Example(question="Who wrote it?", answer="Ada")``, read as ``row.answer`` or ``row["answer"]``.

    A program's inputs are picked from it by the names of ``forward``'s parameters, so nothing needs to be marked.
    A field named like a method of this class is read with brackets.

    Args:
        given: A mapping to start from.
        fields: Fields by name; they win over ``given``.
    """

    __slots__ = ("_fields",)
    _fields: dict[str, object]

    def __init__(self, given: Mapping[str, object] | None = None, /, **fields: object) -> None:
        object.__setattr__(self, "_fields", {**given, **fields} if given is not None else fields)

    def __getitem__(self, name: str) -> Any:
        return self._fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._fields)

    def __len__(self) -> int:
        return len(self._fields)

    def __getattr__(self, name: str) -> Any:
        if name != "_fields":  # unset while a copy is being made
            try:
                return self._fields[name]
            except KeyError:
                pass
        said = _OF_DSPY.get(name) or f"it has {', '.join(self)}"
        raise AttributeError(f"this Example has no field {name!r}; {said}", name=name, obj=self)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"Examples are frozen; use .with_fields({name}=...) to get a changed copy")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"Examples are frozen; use .without({name!r}) to get a changed copy")

    def __reduce__(self) -> tuple[type[Example], tuple[dict[str, object]]]:
        return Example, (self._fields,)

    def with_fields(self, **fields: object) -> Example:
        """Return a copy with these fields added or replaced."""
        return Example(self._fields, **fields)

    def without(self, *names: str) -> Example:
        """Return a copy without these fields; names it does not have are not an error."""
        return Example({name: value for name, value in self._fields.items() if name not in names})

    def to_dict(self) -> dict[str, Any]:
        """Return the fields as a new dict; values are not copied."""
        return dict(self._fields)

    def __eq__(self, other: object) -> bool:
        return self._fields == other._fields if isinstance(other, Example) else NotImplemented

    def __hash__(self) -> int:
        return hash(frozenset((name, _hash(value)) for name, value in self._fields.items()))

    def __repr__(self) -> str:
        return f"Example({', '.join(f'{name}={value!r}' for name, value in self._fields.items())})"


def _hash(value: object) -> int:
    """Lists and dicts take part in equality only: equal examples still hash alike."""
    try:
        return hash(value)
    except TypeError:
        return 0
