"""
JSON as models write it, read without losing a character: other quotes, comments, trailing commas, Python's words.

A text is read or it is refused. Nothing is guessed that would drop or change a part of a value: a string whose end is
not certain, an escape that means two things, a list whose end is missing are reasons to ask again. The work is linear
in the text's length, and only ``ValueError`` comes out.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from dspex.programs.adapters._exact_json import DoubleKey
from dspex.programs.adapters._exact_json import number as number_of

__all__ = ["LIMIT", "LenientValue", "lenient_at", "lenient_value"]

LIMIT = 32_000
"""Longer texts are not repaired: reading one takes up to 40 ms, and the loop waits."""
_DEPTH = 64

_SPACE = re.compile(r"(?:\s+|//[^\n]*|/\*(?:(?!\*/).)*\*/|#[^\n]*)+", re.DOTALL)
_INSIDE = {quote: re.compile(rf"[^\\{quote}]+") for quote in "\"'`\u201d\u2019"}
_CLOSES = {'"': '"', "'": "'", "`": "`", "\u201c": "\u201d", "\u2018": "\u2019"}
_STRUCTURE = re.compile(r"\s*(?:[,:}\])]|//|/\*|\Z)")
_WORD = re.compile(r"[^\s,:{}\[\]()\"'`\u201c\u201d]+")
_BARE = re.compile(r"\w[^\n,:{}\[\]()\"'`\u201c\u201d]*")
_KEY = re.compile(r"[^\W\d][\w .\-]*(?=\s*:)")
_NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d*(?:_\d+)*)(\.\d*)?([eE][+-]?\d+)?|[+-]?(\.\d+)")
_WORDS: dict[str, object] = {
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
    **dict.fromkeys(("null", "None", "NULL"), None),
    **dict.fromkeys(("NaN", "nan"), float("nan")),
    **dict.fromkeys(("Infinity", "+Infinity", "inf", "+inf"), float("inf")),
    **dict.fromkeys(("-Infinity", "-inf"), float("-inf")),
}
_ESCAPES = {'"': '"', "'": "'", "`": "`", "\\": "\\", "/": "/", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t"}
_NO_ESCAPE = re.compile(r"\\[^\\]")
_TWO_MEANINGS = re.compile(r"(?<!\\)(?:\\\\)*\\(?:[nrt][A-Za-z]|[bf])")
"""An escape before a letter, which is a newline or the like unless its text is a path, LaTeX or a pattern."""
_JOINED = re.compile(r"\s*\+\s*[\"'`]")
_HEX4 = re.compile(r"[0-9a-fA-F]{4}")
_PYTHON_HEX = re.compile(r"x([0-9a-fA-F]{2})|U([0-9a-fA-F]{8})")
_GROUP = re.compile(r"(?<=\d,)0\d\d(?!\d)")
"""The end of a number with a comma in it: ``1,000`` is not a one and a nought."""
_DOUBLED = re.compile(r"(?<=\w)\"\"(?=\w)|(?<!\")\"\"\w[^\"\n]{0,80}\"\"(?!\")")
"""A comma may be missing between two texts, or the quotes of one be doubled."""
_REST = re.compile(r"(?:[\s,;}\]]|//[^\n]*)*")


class LenientValue(NamedTuple):
    """A value, where the text goes on behind it, and whether it is whole: not so where an object's brace is missing."""

    value: object
    end: int
    is_whole: bool


def lenient_value(text: str) -> object:
    """
    Return the value that the whole text is.

    Raises:
        ValueError: It is none, not for certain, or longer than ``LIMIT``.
    """
    found = lenient_at(text, 0)
    if not found.is_whole:
        raise ValueError("its end is missing")
    end = _REST.match(text, found.end)
    if end is None or end.end() != len(text):
        raise ValueError("there is more behind the value")
    return found.value


def lenient_at(text: str, start: int) -> LenientValue:
    """
    Return the value that begins at ``start``, whatever follows it.

    Raises:
        ValueError: There is none, not for certain, or the text is longer than ``LIMIT``.
    """
    if len(text) - start > LIMIT:
        raise ValueError(f"it is longer than {LIMIT:,} characters and not written as it should be")
    reader = _Reader(text, start)
    return LenientValue(reader.value(0), reader.at, reader.is_whole)


class _Reader:
    """Goes through the text once."""

    __slots__ = ("_closed", "_text", "at", "is_whole")

    def __init__(self, text: str, start: int) -> None:
        self._text = text
        self.at = start
        self.is_whole = True
        self._closed = False  # whether the last value had an end of its own, as texts, lists and objects have

    def value(self, depth: int) -> object:
        """Read the value that comes next."""
        if depth > _DEPTH:
            raise ValueError("it is nested too deeply")
        char = self._peek()
        if char in _CLOSES:
            found: object = self._string(char)
        elif char == "{":
            found = self._braces(depth)
        elif char == "[":
            found, _ = self._items("]", depth)
        elif char == "(":
            found = self._parentheses(depth)
        else:
            self._closed = False
            return self._bare()
        self._closed = True
        return found

    # --- containers -------------------------------------------------------------------------------------------

    def _items(self, end: str, depth: int) -> tuple[list[object], bool]:
        """Read up to the bracket that closes, and tell whether a comma stands before it."""
        self.at += 1
        found: list[object] = []
        comma = False
        while self._peek() != end:
            found.append(self.value(depth + 1))
            comma = self._comma(end)
            if not comma:
                break
        self.at += 1
        return found, comma

    def _parentheses(self, depth: int) -> object:
        """A Python tuple is a list; parentheses around one value are nothing."""
        found, comma = self._items(")", depth)
        return found if comma or len(found) != 1 else found[0]

    def _braces(self, depth: int) -> object:
        """Read an object, or a Python set as a list."""
        self.at += 1
        found: dict[str, object] = {}
        if self._peek() == "}":
            self.at += 1
            return found
        key = self._key(depth)
        if self._peek() != ":":
            return self._set(key, depth)
        while True:
            self.at += 1
            name = self._named(key)
            value = self.value(depth + 1)
            if name in found and not _same(found[name], value):
                raise DoubleKey(f"the key {name!r:.60} is there twice")
            found[name] = value
            if self._peek() == "" and depth == 0 and self._closed:
                self.is_whole = False  # all that is missing is the last brace, and what may have stood before it
                return found
            if not self._comma("}"):
                break
            if self._peek() == "}":
                break
            key = self._key(depth)
            if self._peek() != ":":
                raise ValueError("a key has no value")
        self.at += 1
        return found

    def _set(self, first: object, depth: int) -> list[object]:
        found = [first]
        while self._comma("}") and self._peek() != "}":
            found.append(self.value(depth + 1))
        self.at += 1
        return found

    def _key(self, depth: int) -> object:
        self._peek()
        match = _KEY.match(self._text, self.at)
        if match is None:
            return self.value(depth + 1)
        self.at = match.end()
        return match[0].rstrip()

    @staticmethod
    def _named(key: object) -> str:
        if isinstance(key, str):
            return key
        if isinstance(key, (bool, int, float)) or key is None:
            return str(key)
        raise ValueError("a key is not a text")

    def _comma(self, end: str) -> bool:
        """Step over a comma; False at the end of the container."""
        char = self._peek()
        if char == ",":
            self.at += 1
            if self._peek() == ",":
                raise ValueError("a comma stands alone")
            return True
        if char == end:
            return False
        raise ValueError(f"expected a comma or {end}" if char else "its end is missing")

    # --- leaves -----------------------------------------------------------------------------------------------

    def _string(self, quote: str) -> str:
        text = self._text
        if quote in "\"'`" and text.startswith(quote * 3, self.at):
            return self._triple(quote * 3)
        closing = _CLOSES[quote]
        inside = _INSIDE[closing]
        self.at += 1
        parts: list[str] = []
        start = self.at
        while True:
            match = inside.match(text, self.at)
            if match is not None:
                parts.append(match[0])
                self.at = match.end()
            if self.at >= len(text):
                raise ValueError("the end of a text is missing")
            if text[self.at] == "\\":
                parts.append(self._escape(quote))
                continue
            self.at += 1
            if _STRUCTURE.match(text, self.at):
                if _TWO_MEANINGS.search(text, start, self.at - 1) and any(map(_NO_ESCAPE.fullmatch, parts)):
                    raise ValueError("its backslashes are escapes, or are not")
                return "".join(parts)
            if text[self.at : self.at + 1] == quote and _DOUBLED.match(text, self.at - 1):
                raise ValueError("it is not certain where a text ends")
            if _JOINED.match(text, self.at):
                raise ValueError("texts are joined by a sign")
            following = text[self.at : self.at + 256].lstrip()[:1]
            if following in _CLOSES and text[self.at : self.at + 1] != following:
                raise ValueError("it is not certain where a text ends")
            parts.append(closing)  # a quote inside of the text

    def _triple(self, quotes: str) -> str:
        """Read what stands between three quotes; a backslash in there could mean two things."""
        end = self._text.find(quotes, self.at + 3)
        if end < 0 or quotes == "```":
            raise ValueError("it is not certain where a text ends")
        found = self._text[self.at + 3 : end]
        if "\\" in found:
            raise ValueError("a backslash between three quotes is not certain")
        self.at = end + 3
        if self._text.startswith(quotes[0], self.at) or not _STRUCTURE.match(self._text, self.at):
            raise ValueError("it is not certain where a text ends")
        return found

    def _escape(self, quote: str) -> str:
        """Return what an escape stands for; one that JSON does not have stands for itself."""
        text = self._text
        char = text[self.at + 1 : self.at + 2]
        if char == "u":
            return self._unicode()
        if char in _ESCAPES and char:
            self.at += 2
            return _ESCAPES[char]
        if not char or char == "\n":
            raise ValueError("a backslash stands before nothing")
        match = _PYTHON_HEX.match(text, self.at + 1)
        if match is not None:
            if quote != "'":
                raise ValueError(f"the escape \\{match[0]} is not JSON's")
            code = int(match[1] or match[2], 16)
            if code > 0x10FFFF or 0xD800 <= code <= 0xDFFF:
                raise ValueError(f"the escape \\{match[0]} is not a character")
            self.at = match.end()
            return chr(code)
        if quote == "'" and char in "0av":  # Python's
            raise ValueError(f"the escape \\{char} is not certain")
        self.at += 2
        return "\\" + char

    def _unicode(self) -> str:
        code = self._hex(self.at + 2)
        if code is None:
            self.at += 2
            return "\\u"
        self.at += 6
        if 0xD800 <= code < 0xDC00 and self._text.startswith("\\u", self.at):
            low = self._hex(self.at + 2)
            if low is not None and 0xDC00 <= low < 0xE000:
                self.at += 6
                return chr(0x10000 + ((code - 0xD800) << 10) + (low - 0xDC00))
        return "\ufffd" if 0xD800 <= code < 0xE000 else chr(code)

    def _hex(self, at: int) -> int | None:
        match = _HEX4.match(self._text, at)
        return int(match[0], 16) if match is not None else None

    def _bare(self) -> object:
        """Read a number, a word of JSON's or Python's, or words without quotes."""
        word = _WORD.match(self._text, self.at)
        if word is None or word[0] == "undefined":
            raise ValueError("a value is missing")
        if _STRUCTURE.match(self._text, word.end()):
            if word[0] in _WORDS:
                self.at = word.end()
                return _WORDS[word[0]]
            number = _NUMBER.fullmatch(word[0])
            if number is not None:
                self.at = word.end()
                if number[1] or number[2] or number[3]:
                    return number_of(word[0])
                return int(word[0])
        if _GROUP.match(self._text, self.at):
            raise ValueError("a comma in a number is not certain")
        bare = _BARE.match(self._text, self.at)
        if bare is None or not _STRUCTURE.match(self._text, bare.end()) or self._text[bare.end() :][:1] == ":":
            raise ValueError("a text is not in quotes")
        if "//" in bare[0] or " #" in bare[0]:
            raise ValueError("it is not certain where a text ends")
        self.at = bare.end()
        return bare[0].rstrip()

    def _peek(self) -> str:
        """Skip white space and comments, and return the character that follows; empty at the end."""
        text = self._text
        char = text[self.at : self.at + 1]
        if char and (char in "/#" or char.isspace()):
            match = _SPACE.match(text, self.at)
            if match is not None:
                self.at = match.end()
                char = text[self.at : self.at + 1]
        return char


def _same(one: object, other: object) -> bool:
    return type(one) is type(other) and one == other
