"""One output's text as it comes: white space around it held back, its value told as far as it can be."""

from __future__ import annotations

from collections.abc import Iterable

from dspex.errors import ResponseUnparsable
from dspex.programs._compile import Plan
from dspex.programs.adapters._adapter import Piece
from dspex.programs.adapters._progress import FieldProgress
from dspex.programs.adapters._reading import read_texts
from dspex.programs.fields import Field

__all__ = ["Section", "Sections"]


class Section:
    """The text of one output under way; a text field's pieces add up to its value."""

    __slots__ = ("_held", "_name", "_progress", "_text")

    def __init__(self, field: Field) -> None:
        self._name = field.name
        self._progress = FieldProgress(field.codec)
        self._text = ""
        self._held = ""  # white space that is part of the value only if more follows

    def add(self, text: str) -> list[Piece]:
        """Take more of the text."""
        if not self._text:
            text = text.lstrip()
        shown = text.rstrip()
        if not shown:
            self._held += text if self._text else ""
            return []
        added = self._held + shown
        self._held = text[len(shown) :]
        self._text += added
        return [Piece(self._name, added, self._progress.of(self._text))]

    @property
    def text(self) -> str:
        """What came so far, without the white space around it."""
        return self._text


class Sections:
    """The outputs of one answer in a format of texts: which is under way, and which came before."""

    __slots__ = ("_current", "_fields", "_plan", "_seen")

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._fields = {each.name: each for each in plan.outputs}
        self._seen: set[str] = set()
        self._current: tuple[str, Section] | None = None

    def open(self, name: str) -> list[Piece]:
        """Begin a section; it is ignored where it is not an output, or not the first of its name."""
        closed = self.close()
        field = self._fields.get(name)
        if field is not None and name not in self._seen:
            self._seen.add(name)
            self._current = name, Section(field)
        return closed

    def add(self, text: str) -> list[Piece]:
        """Take more of the section under way; text outside of sections is ignored."""
        return self._current[1].add(text) if self._current is not None and text else []

    def close(self) -> list[Piece]:
        """End the section; a value that is not text is told now."""
        if self._current is None:
            return []
        name, section = self._current
        self._current = None
        field = self._fields[name]
        if field.codec.streams_text:
            return []
        return last_value(self._plan, name, section.text)


def last_value(plan: Plan, name: str, text: str) -> list[Piece]:
    """Return the piece that tells a complete value, if the text is one."""
    return [Piece(name, "", value) for value in _value(plan, name, text)]


def _value(plan: Plan, name: str, text: str) -> Iterable[object]:
    only = Plan(plan.name, [plan.fields[name]], "")
    try:
        return [read_texts(only, {name: text}, text).outputs[name]]
    except ResponseUnparsable:
        return []  # the whole answer is read again, and says what is wrong with it
