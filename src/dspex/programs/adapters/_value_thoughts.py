"""
Thoughts at the start of a value, behind its header or inside its quotes: taken off, because they are not the answer.

Only thoughts that are marked as such at the very start, and closed: a value that speaks of ``<think>`` later, in back
ticks or as the subject of a sentence keeps it. Fields that ask for thoughts keep all of them.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple

from dspex.programs.adapters._thoughts import CHANNEL, SPECIAL_PAIRS
from dspex.programs.adapters._values import FieldTypeCodec, TextCodec
from dspex.programs.fields import Field

__all__ = ["ValueFilter", "ValueThoughts", "may_begin_with_thoughts", "thoughts_in_value", "value_text"]

_NAMES = r"(?:\w{1,12}:)?think(?:ing)?|thoughts?|reasoning"
_PAIRS = ((rf"<\s{{0,4}}({_NAMES})(?:\s[^<>\n]{{0,40}})?>", ""), *SPECIAL_PAIRS)
_OPENS = re.compile("|".join(f"(?P<p{number}>{opening})" for number, (opening, _) in enumerate(_PAIRS)), re.IGNORECASE)
_CLOSES = tuple(re.compile(closing, re.IGNORECASE) for _, closing in _PAIRS)
_FIRST = "<[\u25c1"
_MAY_OPEN = re.compile(r"(?:<[^<>\n]{0,79}|<\|channel\|>[^>]{0,60}|\[[A-Z]{0,9}|\u25c1[/\w]{0,9})\Z", re.IGNORECASE)
_LONGEST = 80
"""No opening or closing is longer."""
_GOES_ON = re.compile(r"[^\S\n]{1,8}[^\W\d_A-Z]|[,;:.)]")
"""A sentence whose subject the marks were."""
_FEW_WORDS = 3
_WORDS = frozenset({"thought", "thoughts", "reasoning"})
"""Names that documents have, too: alone, they are what was asked for."""
_ASKED = frozenset(
    {"reasoning", "rationale", "thought", "thoughts", "thinking", "think", "analysis", "reflection", "scratchpad"}
)


class ValueThoughts(NamedTuple):
    """
    A value's text without the thoughts before it.

    Attributes:
        text: The value; empty where there were thoughts and nothing else.
        thoughts: The thoughts.
    """

    text: str
    thoughts: str


def may_begin_with_thoughts(field: Field) -> bool:
    """Tell whether thoughts at the start of a field's value are not a part of it."""
    return not isinstance(field.codec, FieldTypeCodec) and field.name.lower() not in _ASKED


def thoughts_in_value(text: str, *, is_text: bool) -> ValueThoughts | None:
    """Return a value and the thoughts before it; None where it begins with none. A text may speak of their marks."""
    rest = text.lstrip()
    thoughts: list[str] = []
    while rest[:1] and rest[0] in _FIRST and (opened := _OPENS.match(rest)) is not None:
        closed = _closing(opened).search(rest, opened.end())
        if closed is None:
            if not rest.startswith("\n", opened.end()):
                break  # a value that begins with the word
            thoughts.append(rest[opened.end() :])
            rest = ""
            break
        thought, after = rest[opened.end() : closed.start()], rest[closed.end() :]
        if is_text and _is_spoken_of(thought, after):
            break
        if not after.strip() and not thoughts and (opened[2] or "").lower() in _WORDS:
            break  # an element of a document
        thoughts.append(thought)
        rest = CHANNEL.sub("", after.lstrip()).lstrip()
    return ValueThoughts(rest, "\n\n".join(thoughts)) if thoughts else None


def value_text(field: Field, text: str) -> str:
    """Return a field's text without the thoughts before it."""
    is_text = isinstance(field.codec, TextCodec)
    found = thoughts_in_value(text, is_text=is_text) if may_begin_with_thoughts(field) else None
    return text if found is None else found.text


def _closing(opened: re.Match[str]) -> re.Pattern[str]:
    number = next(at for at in range(len(_PAIRS)) if opened[f"p{at}"] is not None)
    if number:
        return _CLOSES[number]
    return re.compile(rf"</\s{{0,4}}{re.escape(opened[2])}\s{{0,4}}>", re.IGNORECASE)


def _is_spoken_of(thought: str, after: str) -> bool:
    """Tell whether the marks are the subject of a sentence that goes on behind them."""
    return len(thought.split()) <= _FEW_WORDS and "\n" not in thought and _GOES_ON.match(after) is not None


class ValueFilter:
    """
    Does for a value that comes in pieces what ``thoughts_in_value`` does for a whole one.

    Where more than one stretch of thoughts stands before it, the value is held back to its end.

    Attributes:
        is_held: True while something was held back: the whole value says what it is.
    """

    __slots__ = ("_closing", "_head", "_is_blank", "_is_text", "_step", "_window", "is_held")

    def __init__(self, field: Field) -> None:
        self._is_text = isinstance(field.codec, TextCodec)
        self._step: Callable[[str], str] = self._begin
        self._head: list[str] = []
        self._is_blank = True  # all since the last mark is white space
        self._window = ""
        self._closing: re.Pattern[str]
        self.is_held = False

    def add(self, text: str) -> str:
        """Take what was added; return what of it is known to be the value's."""
        return self._step(text)

    def finish(self) -> str:
        """Take note that the value has ended; return what was held back although it is the value's."""
        return self._say() if self._step == self._begin else ""

    def _begin(self, text: str) -> str:
        self._head.append(text)
        self._is_blank = self._is_blank and not text.strip()
        if self._is_blank:
            return ""
        self._head = ["".join(self._head)]
        start = self._head[0].lstrip()
        opened = _OPENS.match(start) if start[0] in _FIRST else None
        if opened is not None:
            self.is_held = True
            self._closing = _closing(opened)
            self._step = self._close
            return self._search(start[opened.end() :])
        return "" if len(start) < _LONGEST and _MAY_OPEN.match(start) else self._say()

    def _close(self, text: str) -> str:
        self._head.append(text)
        return self._search(self._window + text)

    def _search(self, window: str) -> str:
        found = self._closing.search(window)
        if found is None:
            self._window = window[-_LONGEST:]
            return ""
        self._step = self._after
        self._is_blank = True
        return self._decide(window[found.end() :])

    def _after(self, text: str) -> str:
        self._head.append(text)
        return self._decide(text)

    def _decide(self, text: str) -> str:
        """Decide by what follows the thoughts."""
        rest = text.lstrip()
        if not rest:
            return ""
        if rest[0] in _FIRST:  # more thoughts, perhaps
            self._step = self._hold
            return ""
        found = thoughts_in_value("".join(self._head), is_text=self._is_text)
        if found is not None:
            self._head = [found.text]
        return self._say()

    def _hold(self, _text: str) -> str:
        return ""

    def _say(self) -> str:
        said, self._head = "".join(self._head), []
        self._step, self.is_held = str, False
        return said
