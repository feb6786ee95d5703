"""One JSON object as it comes: texts decoded, everything else as it stands, with the value so far."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

from dspex.errors import ResponseUnparsable
from dspex.programs._compile import Plan
from dspex.programs.adapters._adapter import Piece
from dspex.programs.adapters._exact_json import exact_json
from dspex.programs.adapters._find_object import BEFORE_OBJECT
from dspex.programs.adapters._progress import FieldProgress
from dspex.programs.adapters._reading import read_object
from dspex.programs.adapters._thoughts import ThoughtFilter
from dspex.programs.adapters._value_thoughts import ValueFilter, may_begin_with_thoughts
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
_SPACE = re.compile(r"[ \t\r\n]*")
_BEHIND = re.compile(r"[ \t\r\n]*(?:([,}])|(\S))")
_SCALAR = re.compile(r"[^\s,}\]]+")
_PLAIN = re.compile(r'[^"{}\[\]]+')
_INSIDE_STRING = re.compile(r'(?:[^"\\]|\\.)+', re.DOTALL)
_LONGEST_KEY = 1_000


class JsonStream:
    """
    Reads the first object in an answer that begins as JSON; what precedes it, a fence for example, is skipped.

    A text field's pieces are its decoded text. Any other field's are its JSON as it comes; once complete, an empty
    piece tells the value. Where the answer is not quite JSON, or its object not the first, the whole answer is read at
    its end, and what was not told is told then.
    """

    __slots__ = (
        "_at",
        "_buffer",
        "_depth",
        "_fields",
        "_filter",
        "_in_string",
        "_is_odd",
        "_open",
        "_plan",
        "_progress",
        "_said",
        "_step",
        "_told",
        "_under_way",
        "_whole",
    )

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._fields = {each.name: each for each in plan.outputs}
        self._filter = ThoughtFilter(BEFORE_OBJECT)
        self._whole: list[str] = []
        self._buffer = ""
        self._at = 0
        self._step: Callable[[list[Piece]], bool] = self._seek
        self._under_way: Field | None = None
        self._progress: FieldProgress
        self._told: dict[str, FieldProgress] = {}
        self._open = set(self._fields)  # the outputs whose value was not told
        self._is_odd = False
        self._depth = 0
        self._in_string = False
        self._said: ValueFilter | None = None

    def feed(self, text: str) -> list[Piece]:
        """Take what was added."""
        self._whole.append(text)
        said, _ = self._filter.feed(text)
        return self._take(said)

    def finish(self) -> list[Piece]:
        """Take note that the answer has ended; tell what only the whole of it says."""
        said, _ = self._filter.finish()
        pieces = self._take(said)
        if not self._is_odd and not self._open:
            return pieces
        try:
            outputs = read_object(self._plan, "".join(self._whole)).outputs
        except ResponseUnparsable:
            return pieces  # the whole answer is read again, and says what is wrong with it
        for name, value in outputs.items():
            pieces += self._rest(self._plan.fields[name], value)
        return pieces

    def _rest(self, field: Field, value: object) -> list[Piece]:
        """Return what a value is beyond what was told of it."""
        progress = self._told.get(field.name)
        told = progress.text() if progress is not None else ""
        if field.codec.streams_text:
            if not value or not str(value).startswith(told) or str(value) == told:
                return []
            added = str(value)[len(told) :]
            progress = self._told.setdefault(field.name, FieldProgress(field.codec))
            return [Piece(field.name, added, progress.add(added))]
        if field.name not in self._open:
            return []
        try:
            text = "" if told else field.codec.write_json(value)
        except ValueError:
            text = ""
        return [Piece(field.name, text, None), Piece(field.name, "", value)] if text else [Piece(field.name, "", value)]

    def _take(self, text: str) -> list[Piece]:
        self._buffer += text
        self._at = 0
        pieces: list[Piece] = []
        while self._at < len(self._buffer) and self._step(pieces):
            pass
        self._buffer = self._buffer[self._at :]
        return pieces

    # --- steps: each takes from the buffer and tells whether it is worth going on --------------------------------

    def _seek(self, _pieces: list[Piece]) -> bool:
        at = self._buffer.find("{", self._at)
        if at < 0:
            self._at = len(self._buffer)
            return False
        inside = _SPACE.match(self._buffer, at + 1)
        first = inside.end() if inside is not None else at + 1
        if first >= len(self._buffer) and first - at < _LONGEST_KEY:
            self._at = at
            return False
        self._at = at + 1
        if self._buffer[first : first + 1] == '"':
            self._step = self._key
        else:
            self._is_odd = True
        return True

    def _key(self, _pieces: list[Piece]) -> bool:
        self._skip(" \t\r\n,")
        if self._at >= len(self._buffer):
            return False
        if self._buffer[self._at] == "}" and len(self._told) + len(self._open) and not self._any_told():
            self._step, self._is_odd = self._seek, True  # an object of something else
            return True
        if self._buffer[self._at] != '"':
            return self._stop(odd=self._buffer[self._at] != "}")
        match = _INSIDE_STRING.match(self._buffer, self._at + 1)
        end = match.end() if match else self._at + 1
        if end - self._at > _LONGEST_KEY:
            return self._stop(odd=True)
        if end >= len(self._buffer) or self._buffer[end] != '"':
            return False
        name = _decoded(self._buffer[self._at + 1 : end])
        field = self._under_way = self._fields.pop(name, None)
        if field is not None:
            self._progress = self._told[field.name] = FieldProgress(field.codec)
        elif name in self._plan.fields:
            self._is_odd = True  # twice
        self._at = end + 1
        self._step = self._colon
        return True

    def _any_told(self) -> bool:
        return bool(self._told)

    def _colon(self, _pieces: list[Piece]) -> bool:
        self._skip(" \t\r\n")
        if self._at >= len(self._buffer):
            return False
        if self._buffer[self._at] != ":":
            return self._stop(odd=True)
        self._at += 1
        self._step = self._value
        return True

    def _value(self, _pieces: list[Piece]) -> bool:
        self._skip(" \t\r\n")
        if self._at >= len(self._buffer):
            return False
        first = self._buffer[self._at]
        if first == '"' and self._under_way is not None and _is_told_as_text(self._under_way):
            self._at += 1
            self._said = ValueFilter(self._under_way) if may_begin_with_thoughts(self._under_way) else None
            self._step = self._characters
        elif first in '"{[':
            self._depth, self._in_string = 0, False
            self._step = self._nested
        else:
            self._step = self._scalar
        return True

    def _characters(self, pieces: list[Piece]) -> bool:
        """Decode a text field's string."""
        match = _CHARACTERS.match(self._buffer, self._at)
        if match is not None:
            if "\\b" in match[0] or "\\f" in match[0]:
                return self._stop(odd=True)  # it may be LaTeX, which the whole answer tells
            self._put(pieces, _decoded(match[0]))
            self._at = match.end()
        if self._at >= len(self._buffer):
            return False
        if self._buffer[self._at] != '"':
            return self._escape(pieces)
        behind = _BEHIND.match(self._buffer, self._at + 1)
        if behind is None:
            if len(self._buffer) - self._at > _LONGEST_KEY:
                return self._stop(odd=True)
            return False  # the text may go on: a quote inside of it
        if behind[1] is None:
            return self._stop(odd=True)
        self._at += 1
        field = self._under_way
        if self._said is not None:
            held, self._is_odd = self._said.finish(), self._is_odd or self._said.is_held
            self._tell_text(pieces, held)
        if field is not None:
            self._open.discard(field.name)
            if not field.codec.streams_text:
                pieces += self._complete(self._progress.text())
        self._step = self._key
        return True

    def _escape(self, pieces: list[Piece]) -> bool:
        """An escape that JSON does not have is left to the reading of the whole answer; wait for one that is cut."""
        rest = self._buffer[self._at : self._at + 12]
        if len(rest) < 2 or (rest[1] == "u" and len(rest) < 12):
            return False
        return self._stop(odd=True)

    def _put(self, pieces: list[Piece], text: str) -> None:
        self._tell_text(pieces, text if self._said is None else self._said.add(text))

    def _tell_text(self, pieces: list[Piece], text: str) -> None:
        field = self._under_way
        if field is not None and text:
            pieces.append(Piece(field.name, text, self._progress.add(text)))

    def _nested(self, pieces: list[Piece]) -> bool:
        """Take a string, list or object as it stands, up to its end."""
        taken = self._at
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
        match = _SCALAR.match(self._buffer, self._at)
        if match is not None:
            self._tell(pieces, match.end())
        if self._at >= len(self._buffer):
            return False
        pieces += self._complete_raw()
        self._step = self._key
        return True

    # --- telling ------------------------------------------------------------------------------------------------

    def _tell(self, pieces: list[Piece], end: int) -> None:
        """Take JSON up to ``end``."""
        if end == self._at:
            return
        added, self._at = self._buffer[self._at : end], end
        field = self._under_way
        if field is not None and not field.codec.streams_text:
            pieces.append(Piece(field.name, added, self._progress.add(added)))
        elif field is not None:
            self._is_odd = True  # no text where one is asked for

    def _complete_raw(self) -> list[Piece]:
        if self._under_way is None or self._under_way.codec.streams_text:
            return []
        try:
            return self._complete(exact_json(self._progress.text()))
        except (ValueError, TypeError):
            return []  # the whole answer is read again, and says what is wrong with it

    def _complete(self, value: object) -> list[Piece]:
        field = self._under_way
        if field is None:
            return []
        if value is None and field.has_default and not field.optional:
            self._open.discard(field.name)
            return [Piece(field.name, "", field.make_default())]
        try:
            found = field.codec.read_json(value)[0]
        except Exception:  # noqa: BLE001 - the type's own validators run on what a model wrote, and may raise anything
            return []  # the whole answer is read again, and says what is wrong with it
        self._open.discard(field.name)
        return [Piece(field.name, "", found)]

    def _skip(self, characters: str) -> None:
        buffer = self._buffer
        while self._at < len(buffer) and buffer[self._at] in characters:
            self._at += 1

    def _stop(self, *, odd: bool) -> bool:
        """Go no further: the object has ended, or is none."""
        self._is_odd = self._is_odd or odd
        self._at = len(self._buffer)
        self._step = self._ended
        return False

    def _ended(self, _pieces: list[Piece]) -> bool:
        self._is_odd = self._is_odd or "{" in self._buffer
        self._at = len(self._buffer)
        return False


def _is_told_as_text(field: Field) -> bool:
    return isinstance(field.codec, (TextCodec, FieldTypeCodec))


def _decoded(raw: str) -> str:
    """Return the text of a JSON string's inside; half a surrogate pair is not a character."""
    try:
        text: str = json.loads(f'"{raw}"', strict=False)
    except ValueError:
        return raw
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") if "\\u" in raw else text
