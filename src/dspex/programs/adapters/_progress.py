"""The value of an output that is still being written."""

from __future__ import annotations

from typing import Any

from dspex.programs.adapters._values import Codec

__all__ = ["FieldProgress"]

_ALWAYS = 4_096
_GROWTH = 1.05


class FieldProgress:
    """
    Tells how far a value has come.

    Reading half a list costs as much as it is long, so a long one is read again only when it has grown by a
    twentieth: a stream costs what its answer is long, however small its pieces are.
    """

    __slots__ = ("_codec", "_next", "_value")

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._next = 0.0
        self._value: Any = None

    def of(self, text: str) -> Any:
        """Return the value as far as it can be told from its text so far."""
        if len(text) >= self._next or self._codec.streams_text:
            self._value = self._codec.so_far(text)
            self._next = 0.0 if len(text) < _ALWAYS else len(text) * _GROWTH
        return self._value
