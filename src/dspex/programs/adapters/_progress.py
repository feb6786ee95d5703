"""The value of an output that is still being written."""

from __future__ import annotations

from dspex.programs.adapters._values import Codec

__all__ = ["FieldProgress", "SoFar"]

_ALWAYS = 4_096
_GROWTH = 1.05


class SoFar:
    """A text as it was when a piece of it came, put together only when somebody looks."""

    __slots__ = ("_codec", "_count", "_parts")

    def __init__(self, codec: Codec, parts: list[str]) -> None:
        self._codec = codec
        self._parts = parts
        self._count = len(parts)

    def value(self) -> object:
        """Return the value so far."""
        return self._codec.so_far("".join(self._parts[: self._count]))


class FieldProgress:
    """
    Tells how far a value has come.

    Reading half a list costs as much as it is long, so a long one is read again only when it has grown by a
    twentieth: a stream costs what its answer is long, however small its pieces are.
    """

    __slots__ = ("_codec", "_length", "_next", "_parts", "_value")

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._parts: list[str] = []
        self._length = 0
        self._next = 0.0
        self._value: object = None

    def add(self, text: str) -> object:
        """Take more of its text; return the value as far as it can be told, or a ``SoFar``."""
        self._parts.append(text)
        self._length += len(text)
        if self._codec.streams_text:
            return SoFar(self._codec, self._parts)
        if self._length >= self._next:
            self._value = self._codec.so_far(self.text())
            self._next = 0.0 if self._length < _ALWAYS else self._length * _GROWTH
        return self._value

    def text(self) -> str:
        """Return all that came."""
        if len(self._parts) > 1 and not self._codec.streams_text:
            self._parts[:] = ["".join(self._parts)]
        return "".join(self._parts)
