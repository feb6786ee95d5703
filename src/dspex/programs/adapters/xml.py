"""
The XML format: every field between ``<name>`` and ``</name>``.

Only the tags of the signature's own fields mean anything. In a value they are written with a backslash behind the
``<`` and read without, so any text can be a value, markup included, and no input can forge a field.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, cast

from dspex.programs._compile import Plan
from dspex.programs.adapters._adapter import Parsed, Piece, StreamParser, text_of
from dspex.programs.adapters._base import PromptAdapter, rendered_of
from dspex.programs.adapters._prompt import NOT_GIVEN, Rendered, demo_text, form, given_and_wanted, shown_inputs, slots
from dspex.programs.adapters._reading import read_texts
from dspex.programs.adapters._section_stream import Sections
from dspex.programs.signature import Signature, plan_of
from dspex.protocols.lm import Completion, Message

__all__ = ["XMLAdapter"]


@dataclass(frozen=True, slots=True)
class _Tags:
    """The patterns of one signature's tags."""

    opening: re.Pattern[str]
    closing: Mapping[str, re.Pattern[str]]
    unescaped: re.Pattern[str]
    escaped: re.Pattern[str]

    @classmethod
    def of(cls, plan: Plan) -> _Tags:
        names = "|".join(sorted(map(re.escape, plan.fields), key=len, reverse=True))
        outputs = "|".join(sorted([re.escape(each.name) for each in plan.outputs], key=len, reverse=True))
        return cls(
            re.compile(rf"<({outputs})\s*>" if outputs else r"(?!)"),
            {each.name: re.compile(rf"</{re.escape(each.name)}\s*>") for each in plan.outputs},
            re.compile(rf"<(\\*)(?=/?(?:{names})\s*>)"),
            re.compile(rf"<(\\*)\\(?=/?(?:{names})\s*>)"),
        )

    def escape(self, text: str) -> str:
        return self.unescaped.sub(r"<\1\\", text) if "<" in text else text

    def unescape(self, text: str) -> str:
        return self.escaped.sub(r"<\1", text) if "<\\" in text else text


@dataclass(frozen=True, slots=True)
class XMLAdapter(PromptAdapter):
    """
    Puts a signature to a model between tags and reads its answer from such tags.

    Values are written and read as ``ChatAdapter`` does.
    """

    name: ClassVar[str] = "xml"

    def parse(self, signature: type[Signature], completion: str | Completion) -> Parsed:
        """
        Read the outputs from a completion.

        The first tag of a name counts; a value whose closing tag is missing goes to the end.

        Raises:
            ResponseUnparsable: Outputs without a default are missing, or have a value of another type.
        """
        plan = plan_of(signature)
        tags, text = _tags(self, plan), text_of(completion)
        found: dict[str, str] = {}
        at = 0
        while (opened := tags.opening.search(text, at)) is not None:
            name = opened[1]
            closed = tags.closing[name].search(text, opened.end())
            value = text[opened.end() : closed.start() if closed else len(text)]
            found.setdefault(name, tags.unescape(value.strip()))
            at = closed.end() if closed else len(text)
        return read_texts(plan, found, text)

    def stream_parser(self, signature: type[Signature]) -> StreamParser:
        """Return a parser for one answer."""
        plan = plan_of(signature)
        return _XmlStream(plan, _tags(self, plan))

    def missing_words(self, name: str) -> str:
        """Name the tag."""
        return f"there was no <{name}> section"

    def render(self, plan: Plan) -> Rendered:
        """Return the texts of a signature that no value changes."""
        tags = _Tags.of(plan)
        shown = shown_inputs(plan)
        names = [f"<{each.name}> ({each.type_text})" for each in plan.outputs]
        tail = f"Now write {', then '.join(names)}, each with its closing tag." if names else ""
        return Rendered(
            Message("system", _system_text(plan, tags)),
            slots(shown, _open, _close),
            slots(plan.outputs, _open, _close),
            "\n\n" * bool(shown) + tail,
            tags.escape,
            _answer,
            extra=tags,
        )


def _tags(adapter: XMLAdapter, plan: Plan) -> _Tags:
    return cast("_Tags", rendered_of(adapter, plan).extra)


def _open(name: str) -> str:
    return f"<{name}>\n"


def _close(name: str) -> str:
    return f"\n</{name}>"


def _answer(rendered: Rendered, outputs: Mapping[str, Any], every: bool) -> str:
    written = []
    for slot in rendered.outputs:
        if slot.name in outputs:
            text = rendered.escape(demo_text(slot.codec, outputs[slot.name]))
            written.append(f"{slot.head}{text}{slot.foot}")
        elif every:
            written.append(f"{slot.head}{NOT_GIVEN}{slot.foot}")
    return "\n\n".join(written)


def _system_text(plan: Plan, tags: _Tags) -> str:
    parts = given_and_wanted(plan, tags.escape)
    layout = [f"{_open(each.name)}{{{each.name}}}{_close(each.name)}" for each in shown_inputs(plan)]
    for each in plan.outputs:
        words = form(each)
        layout.append(
            f"{_open(each.name)}{{{each.name}}}" + (f"    ({tags.escape(words)})" if words else "") + _close(each.name)
        )
    parts.append("Each field stands between tags of its own, in this layout:\n\n" + "\n\n".join(layout))
    parts.append("What to do:\n" + tags.escape(plan.instructions))
    return "\n\n".join(parts)


_MAY_BECOME_TAG = re.compile(r"<\\*/?\w*\s*\Z")


class _XmlStream:
    """Goes from tag to tag; what could still become one is held back until known."""

    __slots__ = ("_name", "_pending", "_sections", "_tags")

    def __init__(self, plan: Plan, tags: _Tags) -> None:
        self._tags = tags
        self._sections = Sections(plan)
        self._pending = ""
        self._name: str | None = None

    def feed(self, text: str) -> list[Piece]:
        """Take what was added."""
        self._pending += text
        pieces: list[Piece] = []
        while True:
            pattern = self._tags.opening if self._name is None else self._tags.closing[self._name]
            found = pattern.search(self._pending)
            if found is None:
                return pieces + self._take(self._safe_end())
            pieces += self._take(found.start())
            self._pending = self._pending[found.end() - found.start() :]
            if self._name is None:
                self._name = found[1]
                pieces += self._sections.open(self._name)
            else:
                self._name = None
                pieces += self._sections.close()

    def finish(self) -> list[Piece]:
        """Take note that the answer has ended."""
        return [*self._take(len(self._pending)), *self._sections.close()]

    def _safe_end(self) -> int:
        """Return where what may become a tag begins."""
        at = self._pending.rfind("<")
        return at if at >= 0 and _MAY_BECOME_TAG.match(self._pending, at) else len(self._pending)

    def _take(self, end: int) -> list[Piece]:
        text, self._pending = self._pending[:end], self._pending[end:]
        return self._sections.add(self._tags.unescape(text))
