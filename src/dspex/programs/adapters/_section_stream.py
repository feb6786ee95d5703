"""The outputs of an answer in a format of texts as they come, and what the whole answer says of them in the end."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from dspex.errors import ResponseUnparsable
from dspex.programs._compile import Plan
from dspex.programs.adapters._adapter import Piece
from dspex.programs.adapters._progress import FieldProgress
from dspex.programs.adapters._reading import read_texts
from dspex.programs.adapters._value_thoughts import ValueFilter, may_begin_with_thoughts, value_text
from dspex.programs.fields import Field
from dspex.programs.types.reasoning import Reasoning

__all__ = ["Section", "Told"]


class Section:
    """The text of one output under way; a text field's pieces add up to its value."""

    __slots__ = ("_field", "_filter", "_held", "_progress", "has_text")

    def __init__(self, field: Field) -> None:
        self._field = field
        self._progress = FieldProgress(field.codec)
        self._held: list[str] = []  # white space that is part of the value only if more follows
        self._filter = ValueFilter(field) if may_begin_with_thoughts(field) else None
        self.has_text = False

    def add(self, text: str) -> list[Piece]:
        """Take more of the text."""
        return self._add(text if self._filter is None else self._filter.add(text))

    def finish(self) -> list[Piece]:
        """Take note that no more follows."""
        held = self._filter.finish() if self._filter is not None else ""
        return self._add(held) if held else []

    def _add(self, text: str) -> list[Piece]:
        if not self.has_text:
            text = text.lstrip()
        shown = text.rstrip()
        if not shown:
            if self.has_text and text:
                self._held.append(text)
            return []
        self._held.append(shown)
        added = "".join(self._held)
        self._held = [text[len(shown) :]] if len(text) > len(shown) else []
        self.has_text = True
        return [Piece(self._field.name, added, self._progress.add(added))]

    def add_behind(self, text: str) -> list[Piece]:
        """Take what follows the text that was told, white space included."""
        self._held = []
        self._filter = None
        return self._add(text)

    @property
    def text(self) -> str:
        """The text that came so far, without the white space around it."""
        return self._progress.text()


class Told:
    """The pieces told of the outputs of one answer, one after the other."""

    __slots__ = ("_current", "_fields", "_plan", "_sections", "_values")

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._fields = {each.name: each for each in plan.outputs}
        self._sections: dict[str, Section] = {}
        self._values: dict[str, str] = {}  # the texts whose values were told
        self._current = ""

    def has(self, name: str) -> bool:
        """Tell whether something of an output was told."""
        return name in self._sections and self._sections[name].has_text

    def open(self, name: str) -> list[Piece]:
        """Begin a section; ignore it where it is not an output, or not the first of its name that says something."""
        closed = self.close()
        if name in self._fields and not self.has(name):
            self._sections[name] = Section(self._fields[name])
            self._current = name
        return closed

    def add(self, text: str) -> list[Piece]:
        """Take more of the section under way; text outside of sections is ignored."""
        return self._sections[self._current].add(text) if self._current and text else []

    def close(self) -> list[Piece]:
        """End the section; a value that is not text is told now."""
        name, self._current = self._current, ""
        pieces = self._sections[name].finish() if name else []
        if not name or not self._sections[name].has_text or self._fields[name].codec.streams_text:
            return pieces
        return pieces + self._value(name, self._sections[name].text)

    def rest(self, texts: Mapping[str, str], thoughts: str) -> list[Piece]:
        """Return what the whole answer says beyond what was told; thoughts are a ``Reasoning`` that it leaves out."""
        pieces: list[Piece] = []
        if thoughts:
            own = [each.name for each in self._fields.values() if each.annotation is Reasoning]
            texts = {**dict.fromkeys(own, thoughts), **texts}
        for name, text in texts.items():
            if name not in self._fields:
                continue
            section = self._sections.setdefault(name, Section(self._fields[name]))
            text = value_text(self._fields[name], text)
            told = section.text
            if text != told and text.startswith(told):
                pieces += section.add_behind(text[len(told) :])
            if not self._fields[name].codec.streams_text and self._values.get(name) != text:
                pieces += self._value(name, text)
        return pieces

    def outputs(self, outputs: Mapping[str, object]) -> list[Piece]:
        """Return the values of an answer in another form, of which nothing was told."""
        pieces: list[Piece] = []
        for name, value in outputs.items():
            codec = self._fields[name].codec
            text = codec.write(value)
            if codec.streams_text and text:  # as it is: white space at its ends is a part of it
                pieces.append(Piece(name, text, FieldProgress(codec).add(text)))
            elif not codec.streams_text:
                pieces += [Piece(name, text, None), Piece(name, "", value)]
        return pieces

    def _value(self, name: str, text: str) -> list[Piece]:
        self._values[name] = text
        return [Piece(name, "", value) for value in _value(self._plan, name, text)]


def _value(plan: Plan, name: str, text: str) -> Iterable[object]:
    only = Plan(plan.name, [plan.fields[name]], "")
    try:
        return [read_texts(only, {name: text}, text).outputs[name]]
    except ResponseUnparsable:
        return []  # the whole answer is read again, and says what is wrong with it
