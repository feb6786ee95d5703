"""
The chat format: every field under a header line ``[[ ## name ## ]]``, the answer closed by ``[[ ## completed ## ]]``.

A line of a value that itself looks like a header is written with a backslash before it and read without, so any
text can be a value and no input can forge a field.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from dspex.errors import ResponseUnparsable
from dspex.programs._compile import Plan
from dspex.programs.adapters._adapter import Adapter, Parsed, Piece, Repair, StreamParser, text_of
from dspex.programs.adapters._base import PromptAdapter
from dspex.programs.adapters._enforced import chat_form, ended_at
from dspex.programs.adapters._headers import (
    CLOSING,
    HEADER_LENGTH,
    FieldNames,
    escape,
    header,
    is_fenced,
    split,
    split_exact,
)
from dspex.programs.adapters._other_forms import read_otherwise
from dspex.programs.adapters._prompt import (
    NOT_GIVEN,
    Rendered,
    Slot,
    demo_text,
    given_and_wanted,
    shown_inputs,
    slots,
)
from dspex.programs.adapters._reading import nothing_read, read_texts, unreadable
from dspex.programs.adapters._section_stream import Told
from dspex.programs.adapters._thoughts import ThoughtFilter, Thoughts
from dspex.programs.adapters._words import form
from dspex.programs.adapters.json_object import JSONAdapter
from dspex.programs.signature import Signature, plan_of
from dspex.protocols.lm import Capabilities, Completion, LMRequest, Message
from dspex.protocols.model import LMParams

__all__ = ["ChatAdapter"]

_CLOSING = header(CLOSING).rstrip()
_STOP = f"\n{_CLOSING}"
"""Where an answer ends; in a value there is a backslash before the mark."""


@dataclass(frozen=True, slots=True)
class ChatAdapter(PromptAdapter):
    """
    Puts a signature to a chat model under header lines and reads its answer from such lines.

    Values: text as it is, numbers as Python writes them, a choice as its own text, ``list[Passage]`` as numbered
    lines, media as content parts, everything else as JSON. Reading forgives what models do (quotes around a choice,
    JSON with slips, Python literals) and reports each repair. White space around a ``str`` is not part of it.

    Where the model's server takes grammars, the headers and all values but texts are enforced by one.

    Attributes:
        json_fallback: Ask once more in JSON when the answer cannot be read after the repair turns.
    """

    name: ClassVar[str] = "chat"
    asks_capabilities: ClassVar[bool] = True

    json_fallback: bool = True

    @property
    def fallback(self) -> Adapter | None:
        """JSON, unless it was switched off."""
        return JSONAdapter() if self.json_fallback else None

    def request(
        self, signature: type[Signature], messages: tuple[Message, ...], params: LMParams, capabilities: Capabilities
    ) -> LMRequest:
        """Have the headers and every value that is not a text enforced where that can be done, and end at the mark."""
        output = chat_form(plan_of(signature), params, capabilities)
        return LMRequest(messages, ended_at(_STOP, params, capabilities), output=output)

    def parse(self, signature: type[Signature], completion: str | Completion) -> Parsed:
        """
        Read the outputs from a completion.

        A name that comes again must say the same, unless the answer had ended before. Unknown names are ignored, and so
        is the text before the first header. Thoughts before the answer are taken off.

        Raises:
            ResponseUnparsable: Outputs without a default are missing, or have a value of another type.
        """
        plan, raw = signature._plan_, text_of(completion)
        texts = split_exact(plan, raw)
        if texts is not None:
            return read_texts(plan, texts, raw)
        names = FieldNames.of(plan)
        spoken = names.thoughts.spoken(raw)
        found = split(names, spoken.text)
        if spoken.unclear or found.unclear:
            raise unreadable(
                plan, raw, _UNCLEAR if spoken.unclear else f"`{found.unclear}` has several sections that differ"
            )
        if not found.texts:
            otherwise = read_otherwise(plan, names, spoken.text, raw, spoken.thoughts)
            if otherwise is not None:
                return otherwise
            if not found.has_headers and plan.outputs:
                raise nothing_read(plan, raw)
        repairs = () if found.is_exact else _FORMAT
        return read_texts(plan, found.texts, raw, repairs, spoken.thoughts)

    def thoughts_of(self, signature: type[Signature]) -> Thoughts:
        """Return where thoughts end in an answer."""
        return FieldNames.of(plan_of(signature)).thoughts

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


def _answer(rendered: Rendered, outputs: Mapping[str, object], every: bool) -> str:
    return "\n\n".join([*_answer_sections(rendered.outputs, outputs, every), _CLOSING])


def _answer_sections(outputs: Sequence[Slot], values: Mapping[str, object], every: bool) -> list[str]:
    written = []
    for slot in outputs:
        if slot.name in values:
            written.append(slot.head + escape(demo_text(slot.codec, values[slot.name])))
        elif every:
            written.append(slot.head + NOT_GIVEN)
    return written


_FORMAT = (Repair("", "format"),)
_UNCLEAR = "headers stand among thoughts that begin behind the first of them"

# --- while it comes -------------------------------------------------------------------------------------------

_LONGEST_BEFORE = 41
_BEFORE = re.compile(r"(?:[^\S\n]|[*_`>#~\-+\u2022]|\d{1,2}(?:[.)]|\Z))*")
_MARK = re.compile(r"(\\?)\[\[[^\S\n]{0,8}##")
_MAY_BECOME_MARK = re.compile(r"\\\Z|\\?\[(?:\[[^\S\n]{0,8}#?)?\Z")


class _ChatStream:
    """
    Goes through the answer line by line; what may be a header is held back until its line is known.

    Where the whole answer must be known, because a header stands in the middle of a line or the answer in a fence,
    the rest is told at its end.
    """

    __slots__ = ("_at_start", "_filter", "_names", "_pending", "_plan", "_seen", "_told", "_waits", "_whole")

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._names = FieldNames.of(plan)
        self._filter = ThoughtFilter(self._names.thoughts)
        self._told = Told(plan)
        self._whole: list[str] = []
        self._pending = ""
        self._at_start = True
        self._waits = False
        self._seen: set[str] = set()

    def feed(self, text: str) -> list[Piece]:
        """Take what was added."""
        self._whole.append(text)
        said, _ = self._filter.feed(text)
        return self._take(said, last=False)

    def finish(self) -> list[Piece]:
        """Take note that the answer has ended."""
        said, _ = self._filter.finish()
        pieces = self._take(said, last=True)
        pieces += self._told.close() if not self._waits else []
        raw = "".join(self._whole)
        spoken = self._names.thoughts.spoken(raw)
        found = split(self._names, spoken.text)
        if spoken.unclear or found.unclear:
            return pieces
        if found.texts:
            return pieces + self._told.rest(found.texts, spoken.thoughts)
        with contextlib.suppress(ResponseUnparsable):  # the whole answer is read again, and says what is wrong with it
            otherwise = read_otherwise(self._plan, self._names, spoken.text, raw, spoken.thoughts)
            pieces += self._told.outputs(otherwise.outputs) if otherwise is not None else []
        return pieces

    def _take(self, text: str, *, last: bool) -> list[Piece]:
        self._waits = self._waits or self._filter.is_unclear
        if self._waits:
            return []
        self._pending += text
        pieces: list[Piece] = []
        while self._pending and not self._waits and self._step(pieces, last=last):
            pass
        return pieces

    def _step(self, pieces: list[Piece], *, last: bool) -> bool:
        """Take one header, or text up to what may be one; False where more must be known first."""
        text = self._pending
        if self._at_start:
            before = _BEFORE.match(text, 0, _LONGEST_BEFORE)
            at = before.end() if before is not None else 0
            at = 0 if at >= _LONGEST_BEFORE else at
            if not last and (at == len(text) or _MAY_BECOME_MARK.match(text, at)):
                return False
            mark = _MARK.match(text, at) if at or text[:1] in "[\\" else None
            if mark is not None and not mark[1]:
                return self._header(pieces, at, last=last)
            self._at_start = False
        line, newline, _ = text.partition("\n")
        mark = _MARK.search(line)
        if mark is not None and not mark[1]:
            return self._header(pieces, mark.start(), last=last)
        if mark is not None:
            self._put(pieces, mark.end(), line[: mark.start()] + mark[0][1:])
            return True
        held = None if newline or last else _MAY_BECOME_MARK.search(line, max(0, len(line) - HEADER_LENGTH))
        if held is not None:
            self._put(pieces, held.start(), line[: held.start()])
            return False
        self._put(pieces, len(line) + len(newline), line + newline)
        self._at_start = bool(newline)
        return True

    def _header(self, pieces: list[Piece], at: int, *, last: bool) -> bool:
        """Take what may be a header as one, or its brackets as text; wait where it is one among other text."""
        text = self._pending
        if not last and "\n" not in text[at : at + HEADER_LENGTH] and len(text) - at < HEADER_LENGTH:
            if at and not self._at_start:
                self._put(pieces, at, text[:at])
            return False
        start = at if self._at_start else at + _LONGEST_BEFORE  # so that only a line's start looks like one
        found = self._names.header_at(text if self._at_start else "\0" * _LONGEST_BEFORE + text, start)
        if found is None or (not found.at_line and (not found.name or found.name in self._seen)):
            if not self._cut(pieces, at, last=last):
                self._put(pieces, at + 2, text[: at + 2])
                self._at_start = False
            return True
        if not found.at_line:
            self._waits = True
            return False
        if not self._seen:
            self._waits = is_fenced("".join(self._whole))
        self._seen.add(found.name)
        self._pending = text[found.end :]
        self._at_start = False
        pieces += self._told.open(found.name)
        return True

    def _cut(self, pieces: list[Piece], at: int, *, last: bool) -> bool:
        """Leave half a mark at the very end to the reading of the whole answer."""
        rest = self._pending[at:]
        if not last or "\n" in rest or len(rest) > _LONGEST_BEFORE + 20:  # a line that has ended is not cut
            return False
        self._put(pieces, len(self._pending), self._pending[:at])
        return True

    def _put(self, pieces: list[Piece], taken: int, text: str) -> None:
        self._pending = self._pending[taken:]
        pieces += self._told.add(text)


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
