"""
The XML format: every field between ``<name>`` and ``</name>``.

Only the tags of the signature's own fields mean anything. In a value they are written with a backslash behind the
``<`` and read without, so any text can be a value, markup included, and no input can forge a field. Entities are what
they are in XML: ``&lt;`` in an answer is ``<``, so a value that has one is written with its ``&`` as an entity.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, cast

from dspex.errors import ResponseUnparsable
from dspex.programs._compile import Plan
from dspex.programs.adapters._adapter import Parsed, Piece, Repair, StreamParser, text_of
from dspex.programs.adapters._base import PromptAdapter, rendered_of
from dspex.programs.adapters._prompt import NOT_GIVEN, Rendered, demo_text, given_and_wanted, shown_inputs, slots
from dspex.programs.adapters._reading import nothing_read, read_object, read_texts, unreadable
from dspex.programs.adapters._section_stream import Told
from dspex.programs.adapters._tags import CDATA, ENTITY, TAG_LENGTH, Tags, decoded
from dspex.programs.adapters._tags import written as written_text
from dspex.programs.adapters._thoughts import ThoughtFilter, Thoughts
from dspex.programs.adapters._values import Codec
from dspex.programs.adapters._words import form
from dspex.programs.signature import Signature, plan_of
from dspex.protocols.lm import Completion, Message

__all__ = ["XMLAdapter"]


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

        Elements of one name are the items of a list; of an output that is not a list, they must say the same. A value
        whose closing tag is missing goes to the next output, or to the end. Attributes are left out, entities and CDATA
        are read.

        Raises:
            ResponseUnparsable: Outputs without a default are missing, or have a value of another type.
        """
        plan, raw = plan_of(signature), text_of(completion)
        tags = _tags(self, plan)
        texts = tags.split_exact(raw)
        if texts is not None and self._are_texts(plan, texts):
            return read_texts(plan, texts, raw)
        spoken = tags.thoughts.spoken(raw)
        found = tags.split(spoken.text)
        if spoken.unclear or found.unclear:
            raise unreadable(plan, raw, _UNCLEAR if spoken.unclear else found.unclear)
        if not found.texts and spoken.text.lstrip()[:1] in ("{", "`"):
            return read_object(plan, spoken.text, spoken.thoughts)
        if not found.texts and plan.outputs:
            raise nothing_read(plan, raw)
        return read_texts(plan, found.texts, raw, () if found.is_exact else _FORMAT, spoken.thoughts)

    @staticmethod
    def _are_texts(plan: Plan, texts: Mapping[str, str]) -> bool:
        """Tell whether no element is a list that is written as its only item."""
        return all([type(each.codec) is not Codec or texts[each.name][:1] in ("[", "{") for each in plan.outputs])  # noqa: C419 - faster

    def thoughts_of(self, signature: type[Signature]) -> Thoughts:
        """Return where thoughts end in an answer."""
        return _tags(self, plan_of(signature)).thoughts

    def stream_parser(self, signature: type[Signature]) -> StreamParser:
        """Return a parser for one answer."""
        plan = plan_of(signature)
        return _XmlStream(plan, _tags(self, plan))

    def missing_words(self, name: str) -> str:
        """Name the tag."""
        return f"there was no <{name}> section"

    def render(self, plan: Plan) -> Rendered:
        """Return the texts of a signature that no value changes."""
        tags = Tags(plan)
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


def _tags(adapter: XMLAdapter, plan: Plan) -> Tags:
    return cast("Tags", rendered_of(adapter, plan).extra)


def _open(name: str) -> str:
    return f"<{name}>\n"


def _close(name: str) -> str:
    return f"\n</{name}>"


def _answer(rendered: Rendered, outputs: Mapping[str, object], every: bool) -> str:
    written = []
    for slot in rendered.outputs:
        if slot.name in outputs:
            text = rendered.escape(written_text(demo_text(slot.codec, outputs[slot.name])))
            written.append(f"{slot.head}{text}{slot.foot}")
        elif every:
            written.append(f"{slot.head}{NOT_GIVEN}{slot.foot}")
    return "\n\n".join(written)


def _system_text(plan: Plan, tags: Tags) -> str:
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


_FORMAT = (Repair("", "format"),)
_UNCLEAR = "tags stand among thoughts that begin behind the first of them"
_BEGINNING = re.compile(r"<(?:\\*/?\s{0,4}(\w*))?")
_MAY_BECOME_ENTITY = re.compile(r"&[#\w]{0,8}\Z")


class _XmlStream:
    """
    Goes from tag to tag; what could still become one is held back until known.

    Where the whole answer must be known (a field's tag inside of another, CDATA), the rest is told at its end.
    """

    __slots__ = ("_filter", "_name", "_pending", "_plan", "_tags", "_told", "_waits", "_whole")

    def __init__(self, plan: Plan, tags: Tags) -> None:
        self._plan = plan
        self._tags = tags
        self._filter = ThoughtFilter(tags.thoughts)
        self._told = Told(plan)
        self._whole: list[str] = []
        self._pending = ""
        self._name = ""
        self._waits = False

    def feed(self, text: str) -> list[Piece]:
        """Take what was added."""
        self._whole.append(text)
        said, _ = self._filter.feed(text)
        return self._take(said, last=False)

    def finish(self) -> list[Piece]:
        """Take note that the answer has ended."""
        said, _ = self._filter.finish()
        pieces = self._take(said, last=True)
        spoken = self._tags.thoughts.spoken("".join(self._whole))
        found = self._tags.split(spoken.text)
        if spoken.unclear or found.unclear:
            return pieces
        if found.texts:
            return pieces + self._told.rest(found.texts, spoken.thoughts)
        with contextlib.suppress(ResponseUnparsable):  # the whole answer is read again, and says what is wrong with it
            pieces += self._told.outputs(read_object(self._plan, spoken.text, spoken.thoughts).outputs)
        return pieces

    def _take(self, text: str, *, last: bool) -> list[Piece]:
        self._waits = self._waits or self._filter.is_unclear
        if self._waits:
            return []
        self._pending += text
        pieces: list[Piece] = []
        at = start = 0
        text = self._pending
        while not self._waits:
            found = _SPECIAL.search(text, at)
            if found is None:
                at = len(text)
                break
            at = found.start()
            end = self._tag(text, at, last=last) if text[at] == "<" else self._entity(text, at, last=last)
            if end == 0:
                break  # wait for more
            if end < 0:
                at += 1  # text
                continue
            self._put(pieces, text[start:at])
            self._meet(pieces, text[at:end])
            at = start = end
        # Also where the rest must wait: letter by letter, this text would have been told before anybody knew.
        self._put(pieces, text[start:at])
        self._pending = text[at:]
        return pieces

    def _tag(self, text: str, at: int, *, last: bool) -> int:
        """Return where a tag ends, 0 where more must be known, -1 for what is none."""
        if CDATA.startswith(text[at : at + len(CDATA)]) and self._name:
            self._waits = len(text) - at >= len(CDATA)
            return -1 if last and not self._waits else 0
        tag = self._tags.any_tag.match(text, at, at + TAG_LENGTH)
        if tag is not None:
            return tag.end()
        beginning = _BEGINNING.match(text, at)
        name = (beginning[1] or "").lower() if beginning is not None else ""
        if last:
            rest = text[at:].rstrip()
            self._waits = bool(self._name) and f"</{self._name}".lower().startswith(rest.lower())
            return 0 if self._waits else -1
        if beginning is not None and beginning.end() == len(text):
            return 0 if any(each.startswith(name) for each in self._tags.names) else -1
        may_be = name in self._tags.names and ">" not in text[at + 1 : at + TAG_LENGTH] and "<" not in text[at + 1 :]
        return 0 if may_be and len(text) - at < TAG_LENGTH else -1

    def _entity(self, text: str, at: int, *, last: bool) -> int:
        if not self._name or not self._tags.outputs[self._name.lower()].codec.streams_text:
            return -1
        found = ENTITY.match(text, at)
        if found is not None:
            return found.end()
        return 0 if not last and _MAY_BECOME_ENTITY.match(text, at) else -1

    def _meet(self, pieces: list[Piece], text: str) -> None:
        """Take one tag or one entity."""
        if text[0] == "&":
            self._put(pieces, decoded(text))
            return
        tag = self._tags.any_tag.match(text)
        escapes, closes, name, empty = tag.groups() if tag is not None else ("", "", "", "")
        field = self._tags.outputs.get(name.lower())
        if escapes:
            self._put(pieces, "<" + text[2:])
        elif not self._name:
            if field is not None and not closes and not empty:
                self._name = field.name
                pieces += self._told.open(field.name)
        elif closes and name.lower() == self._name.lower():
            self._name = ""
            pieces += self._told.close()
        elif field is not None and not closes and not empty:
            self._waits = True
        else:
            self._put(pieces, text)

    def _put(self, pieces: list[Piece], text: str) -> None:
        pieces += self._told.add(text) if self._name else []


_SPECIAL = re.compile("[<&]")
