"""One JSON object as it comes: texts decoded, everything else as it stands, with the value so far."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from pydantic_core import from_json

from dspex.programs._compile import Plan
from dspex.programs.adapters._adapter import Piece
from dspex.programs.adapters._progress import FieldProgress
from dspex.programs.adapters._values import FieldTypeCodec, TextCodec
from dspex.programs.fields import Field

__all__ = ["JsonStream"]

_HEX = "[0-9a-fA-F]"
_HIGH = rf"\\u[dD][89abAB]{_HEX}{{2}}"
_LOW = rf"\\u[dD][c-fC-F]{_HEX}{{2}}"
_CHARACTERS = re.compile(
    rf"(?:[^\"\\]|\\[\"\\/bfnrt]|{_HIGH}{_LOW}|(?!{_HIGH})\\u{_HEX}{{4}}"
    rf"|{_HIGH}(?=[^\\]|\\[^u]|(?!{_LOW})\\u{_HEX}{{4}}))+",
    re.DOTALL,
)
"""Whole characters inside a JSON string; a surrogate waits for its other half."""
_BROKEN = re.compile(rf"\\[^\"\\/bfnrtu]|(?:{_HIGH})?\\u{_HEX}{{0,3}}(?!{_HEX}).", re.DOTALL)
"""An escape that JSON does not have: its backslash is left out."""
_SPACE = re.compile(r"[ \t\r\n]*")
_SCALAR = re.compile(r"[^\s,}\]]+")
_PLAIN = re.compile(r'[^"{}\[\]]+')
_INSIDE_STRING = re.compile(r'(?:[^"\\]|\\.)+', re.DOTALL)


class JsonStream:
    """
    Reads the first object in an answer; what precedes it, a fence for example, is skipped.

    A text field's pieces are its decoded text. Any other field's are its JSON as it comes; once complete, an empty
    piece tells the value. Of a key that is written twice the first is told.
    """

    __slots__ = (
        "_buffer",
        "_depth",
        "_fields",
        "_in_string",
        "_plan",
        "_progress",
        "_raw",
        "_step",
        "_text",
        "_under_way",
    )

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._fields = {each.name: each for each in plan.outputs}
        self._buffer = ""
        self._step: Callable[[list[Piece]], bool] = self._seek
        self._under_way: Field | None = None
        self._progress: FieldProgress
        self._raw = ""  # the value's JSON so far
        self._text = ""  # the decoded text so far
        self._depth = 0
        self._in_string = False

    def feed(self, text: str) -> list[Piece]:
        """Take what was added."""
        self._buffer += text
        pieces: list[Piece] = []
        while self._buffer and self._step(pieces):
            pass
        return pieces

    def finish(self) -> list[Piece]:
        """Nothing is held back that could still be told."""
        return []

    # --- steps: each consumes from the buffer and tells whether it is worth going on ------------------------------

    def _seek(self, _pieces: list[Piece]) -> bool:
        at = self._buffer.find("{")
        if at < 0:
            self._buffer = ""
            return False
        self._buffer = self._buffer[at + 1 :]
        self._step = self._key
        return True

    def _key(self, _pieces: list[Piece]) -> bool:
        self._skip(" \t\r\n,")
        if not self._buffer:
            return False
        match = _INSIDE_STRING.match(self._buffer, 1)
        end = match.end() if match else 1
        if self._buffer[0] != '"':
            return self._stop()
        if end >= len(self._buffer) or self._buffer[end] != '"':
            return False
        name = _decoded(self._buffer[1:end])
        field = self._under_way = self._fields.pop(name, None)
        if field is not None:
            self._progress = FieldProgress(field.codec)
        self._buffer = self._buffer[end + 1 :]
        self._step = self._colon
        return True

    def _colon(self, _pieces: list[Piece]) -> bool:
        self._skip(" \t\r\n")
        if not self._buffer:
            return False
        if self._buffer[0] != ":":
            return self._stop()
        self._buffer = self._buffer[1:]
        self._step = self._value
        return True

    def _value(self, _pieces: list[Piece]) -> bool:
        self._skip(" \t\r\n")
        if not self._buffer:
            return False
        self._raw = self._text = ""
        first = self._buffer[0]
        if first == '"' and self._under_way is not None and _is_told_as_text(self._under_way):
            self._buffer = self._buffer[1:]
            self._step = self._characters
        elif first in '"{[':
            self._depth, self._in_string = 0, False
            self._step = self._nested
        else:
            self._step = self._scalar
        return True

    def _characters(self, pieces: list[Piece]) -> bool:
        """Decode a text field's string."""
        match = _CHARACTERS.match(self._buffer)
        if match is not None:
            text = _decoded(match[0])
            self._raw += match[0]
            self._text += text
            self._buffer = self._buffer[match.end() :]
            field = self._under_way
            if field is not None and text:
                pieces.append(Piece(field.name, text, self._progress.of(self._text)))
        if not self._buffer:
            return False
        if self._buffer[0] == '"':
            self._buffer = self._buffer[1:]
            if self._under_way is not None and not self._under_way.codec.streams_text:
                pieces += self._complete(self._text)
            self._step = self._key
            return True
        if _BROKEN.match(self._buffer):
            self._buffer = self._buffer[1:]
            return True
        return False

    def _nested(self, pieces: list[Piece]) -> bool:
        """Take a string, list or object as it stands, up to its end."""
        taken = 0
        buffer = self._buffer
        while taken < len(buffer):
            if self._in_string:
                match = _INSIDE_STRING.match(buffer, taken)
                taken = match.end() if match else taken
                if taken >= len(buffer) or buffer[taken] == "\\":
                    break  # an escape cut in half
                self._in_string = False
                taken += 1
            else:
                match = _PLAIN.match(buffer, taken)
                taken = match.end() if match else taken
                if taken >= len(buffer):
                    break
                char = buffer[taken]
                taken += 1
                self._in_string = char == '"'
                self._depth += (char in "{[") - (char in "}]")
            if self._depth <= 0 and not self._in_string:
                self._tell(pieces, taken)
                pieces += self._complete_raw()
                self._step = self._key
                return True
        self._tell(pieces, taken)
        return False

    def _scalar(self, pieces: list[Piece]) -> bool:
        match = _SCALAR.match(self._buffer)
        if match is not None:
            self._tell(pieces, match.end())
        if not self._buffer:
            return False
        pieces += self._complete_raw()
        self._step = self._key
        return True

    # --- telling ------------------------------------------------------------------------------------------------

    def _tell(self, pieces: list[Piece], count: int) -> None:
        """Take ``count`` characters of JSON."""
        if not count:
            return
        added, self._buffer = self._buffer[:count], self._buffer[count:]
        field = self._under_way
        if field is not None:
            self._raw += added
            value = self._raw if field.codec.streams_text else self._progress.of(self._raw)
            pieces.append(Piece(field.name, added, value))

    def _complete_raw(self) -> list[Piece]:
        if self._under_way is None:
            return []
        try:
            return self._complete(from_json(self._raw))
        except (ValueError, TypeError):
            return []  # the whole answer is read again, and says what is wrong with it

    def _complete(self, value: Any) -> list[Piece]:
        field = self._under_way
        if field is None:
            return []
        if value is None and field.has_default and not field.optional:
            return [Piece(field.name, "", field.make_default())]
        try:
            return [Piece(field.name, "", field.codec.read_json(value)[0])]
        except (ValueError, TypeError, RecursionError):
            return []  # the whole answer is read again, and says what is wrong with it

    def _skip(self, characters: str) -> None:
        self._buffer = self._buffer.lstrip(characters)

    def _stop(self) -> bool:
        """Go no further: the object has ended, or is none."""
        self._buffer = ""
        self._step = self._ended
        return False

    def _ended(self, _pieces: list[Piece]) -> bool:
        self._buffer = ""
        return False


def _is_told_as_text(field: Field) -> bool:
    return isinstance(field.codec, (TextCodec, FieldTypeCodec))


def _decoded(raw: str) -> str:
    """Return the text of a JSON string's inside; slips in its escapes are taken as they stand."""
    try:
        text: str = json.loads(f'"{raw}"', strict=False)
    except ValueError:
        return raw
    return text
