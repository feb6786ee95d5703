"""
The chat format: every field under a header line ``[[ ## name ## ]]``, the answer closed by ``[[ ## completed ## ]]``.

A line of a value that itself looks like a header is written with a backslash before it and read without, so any
text can be a value and no input can forge a field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from dspex.programs._compile import Plan
from dspex.programs.adapters._adapter import Adapter, Parsed, Piece, StreamParser, text_of
from dspex.programs.adapters._base import PromptAdapter
from dspex.programs.adapters._headers import escape, header, unescape
from dspex.programs.adapters._prompt import (
    NOT_GIVEN,
    Rendered,
    Slot,
    demo_text,
    form,
    given_and_wanted,
    shown_inputs,
    slots,
)
from dspex.programs.adapters._reading import read_texts
from dspex.programs.adapters._section_stream import Sections
from dspex.programs.adapters.json_object import JSONAdapter
from dspex.programs.signature import Signature, plan_of
from dspex.protocols.lm import Completion, Message

__all__ = ["ChatAdapter"]

_HEADER = re.compile(r"^[^\S\n]*\[\[ ## (\w+) ## \]\]", re.MULTILINE)
_CLOSING = "[[ ## completed ## ]]"


@dataclass(frozen=True, slots=True)
class ChatAdapter(PromptAdapter):
    """
    Puts a signature to a chat model under header lines and reads its answer from such lines; the default.

    Values: text as it is, numbers as Python writes them, a choice as its own text, ``list[Passage]`` as numbered
    lines, media as content parts, everything else as JSON. Reading forgives what models do (quotes around a choice,
    JSON with slips, Python literals) and reports each repair. White space around a ``str`` is not part of it.

    Attributes:
        json_fallback: Ask once more in JSON when the answer cannot be read after the repair turns.
    """

    name: ClassVar[str] = "chat"

    json_fallback: bool = True

    @property
    def fallback(self) -> Adapter | None:
        """JSON, unless it was switched off."""
        return JSONAdapter() if self.json_fallback else None

    def parse(self, signature: type[Signature], completion: str | Completion) -> Parsed:
        """
        Read the outputs from a completion.

        The first section of a name counts, unknown names are ignored, and so is what precedes the first header.

        Raises:
            ResponseUnparsable: Outputs without a default are missing, or have a value of another type.
        """
        text = text_of(completion)
        return read_texts(plan_of(signature), _split(text), text)

    def stream_parser(self, signature: type[Signature]) -> StreamParser:
        """Return a parser for one answer."""
        return _ChatStream(plan_of(signature))

    def missing_words(self, name: str) -> str:
        """Name the header."""
        return f"there was no `[[ ## {name} ## ]]` section"

    def render(self, plan: Plan) -> Rendered:
        """Return the texts of a signature that no value changes."""
        shown = shown_inputs(plan)
        return Rendered(
            Message("system", _system_text(plan)),
            slots(shown, header),
            slots(plan.outputs, header),
            "\n\n" * bool(shown) + _tail_text(plan),
            escape,
            _answer,
        )


def _answer(rendered: Rendered, outputs: Mapping[str, Any], every: bool) -> str:
    return "\n\n".join([*_answer_sections(rendered.outputs, outputs, every), _CLOSING])


def _answer_sections(outputs: Sequence[Slot], values: Mapping[str, Any], every: bool) -> list[str]:
    written = []
    for slot in outputs:
        if slot.name in values:
            written.append(slot.head + escape(demo_text(slot.codec, values[slot.name])))
        elif every:
            written.append(slot.head + NOT_GIVEN)
    return written


def _split(completion: str) -> dict[str, str]:
    """Return the text under each header, the first of each name."""
    sections: dict[str, str] = {}
    name, start = "", 0
    for match in _HEADER.finditer(completion):
        if name and name not in sections:
            sections[name] = completion[start : match.start()]
        name, start = match[1], match.end()
    if name and name not in sections:
        sections[name] = completion[start:]
    return {name: unescape(text.strip()) for name, text in sections.items()}


# --- while it comes -------------------------------------------------------------------------------------------

_LINE_START = re.compile(r"([^\S\n]*)(\\*)\[\[ ## (\w+) ## \]\]")


def _prefixes(pieces: Sequence[str]) -> str:
    """Return the pattern of every beginning of these pieces, the whole left out."""
    pattern = ""
    for piece in reversed(pieces):
        pattern = f"(?:{piece}{pattern})?" if pattern else "(?:)"
    return pattern


_PIECES = (r"\[", r"\[", " ", "#", "#", " ", r"\w+", " ", "#", "#", " ", r"\]", r"\]")
_MAY_BECOME_HEADER = re.compile(r"[^\S\n]*\\*" + _prefixes(_PIECES) + r"\Z")


class _ChatStream:
    """Goes through the answer line by line; only the start of a line can be a header, and is held back until known."""

    __slots__ = ("_at_start", "_behind_header", "_pending", "_sections")

    def __init__(self, plan: Plan) -> None:
        self._sections = Sections(plan)
        self._pending = ""
        self._at_start = True
        self._behind_header = False  # the rest of a header's line is text, and may be escaped

    def feed(self, text: str) -> list[Piece]:
        """Take what was added."""
        self._pending += text
        return self._advance(last=False)

    def finish(self) -> list[Piece]:
        """Take note that the answer has ended."""
        return [*self._advance(last=True), *self._sections.close()]

    def _advance(self, *, last: bool) -> list[Piece]:
        pieces: list[Piece] = []
        while self._pending:
            if self._at_start:
                if not last and _MAY_BECOME_HEADER.match(self._pending):
                    break
                pieces += self._line_start()
                continue
            line, newline, rest = self._pending.partition("\n")
            pieces += self._sections.add(line + newline)
            self._pending = rest
            self._at_start = bool(newline)
            self._behind_header = False
        return pieces

    def _line_start(self) -> list[Piece]:
        """Take a header, or an escaped one as the text it stands for; anything else is text."""
        self._at_start = False
        match = _LINE_START.match(self._pending)
        if match is None:
            return []
        indent, escapes, name = match.groups()
        if escapes:
            self._pending = self._pending[match.end() :]
            return self._sections.add(f"{indent}{escapes[1:]}[[ ## {name} ## ]]")
        if self._behind_header:
            return []
        self._pending = self._pending[match.end() :]
        self._at_start = self._behind_header = True
        return self._sections.open(name)


# --- the static texts -----------------------------------------------------------------------------------------


def _system_text(plan: Plan) -> str:
    parts = given_and_wanted(plan, escape)
    layout = [f"{header(each.name)}{{{each.name}}}" for each in shown_inputs(plan)]
    for each in plan.outputs:
        words = form(each)
        layout.append(f"{header(each.name)}{{{each.name}}}" + (f"    ({words})" if words else ""))
    parts.append("Each field stands below a header line of its own, in this layout:\n\n" + "\n\n".join(layout))
    if plan.outputs:
        parts.append(f"After the last field comes the line\n{_CLOSING}")
    parts.append("What to do:\n" + escape(plan.instructions))
    return "\n\n".join(parts)


def _tail_text(plan: Plan) -> str:
    names = [f"`[[ ## {each.name} ## ]]` ({each.type_text})" for each in plan.outputs]
    return f"Now write {', then '.join(names)}, and end with `{_CLOSING}`." if names else ""
