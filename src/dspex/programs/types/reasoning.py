"""A model's reasoning as a field."""

from __future__ import annotations

from typing import Self

from dspex.programs.types.field_type import FieldType

__all__ = ["Reasoning"]


class Reasoning(FieldType, str):
    """
    The model's thoughts before it answered; a ``str``.

    A model that reasons by itself is not asked for the field: its own thoughts are the value, empty where the
    provider keeps them to itself. Every other model writes it as an output like any other.
    """

    __slots__ = ()

    def to_text(self) -> str:
        """Return the text itself."""
        return str.__str__(self)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Take any text."""
        return cls(text)

    @classmethod
    def so_far(cls, text: str) -> object:
        """Return the thoughts so far."""
        return cls(text)
