"""Tags of one signature's fields: as they are asked for, as models write them, and as text inside of a value."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from dspex.programs._compile import Plan
from dspex.programs.adapters._elements import is_one_item
from dspex.programs.adapters._forgive import is_list, is_mapping
from dspex.programs.adapters._thoughts import Thoughts
from dspex.programs.adapters._values import Codec
from dspex.programs.fields import Field

__all__ = ["CDATA", "ENTITY", "TAG_LENGTH", "Elements", "Tags", "decoded", "written"]

TAG_LENGTH = 260
"""No tag is longer, attributes included."""
CDATA = "<![CDATA["
ENTITY = re.compile(r"&(?:amp|lt|gt|quot|apos|#\d{1,7}|#[xX][0-9a-fA-F]{1,6});")
_LONGEST_INDENT = 80
_REST = r"(?:\s[^<>]{0,200}?)?\s{0,4}"
_HALF = re.compile(r"</?\s{0,4}(\w{0,100})\s{0,4}\Z")


class Elements(NamedTuple):
    """
    The texts between the tags of an answer.

    Attributes:
        texts: The text of each output, ready to be read.
        is_exact: True when all tags are written as they were asked for.
        unclear: The reason why it is not certain what an output is; empty when all is clear.
    """

    texts: dict[str, str]
    is_exact: bool
    unclear: str = ""


class Tags:
    """The patterns of one signature's tags."""

    __slots__ = ("_opening", "any_tag", "escaped", "names", "outputs", "thoughts", "unescaped")

    def __init__(self, plan: Plan) -> None:
        names = "|".join(sorted(map(re.escape, plan.fields), key=len, reverse=True))
        outputs = "|".join(sorted([re.escape(each.name) for each in plan.outputs], key=len, reverse=True)) or "(?!)"
        flags = re.IGNORECASE
        self.outputs: Mapping[str, Field] = {each.name.lower(): each for each in plan.outputs}
        self.names = frozenset(each.lower() for each in plan.fields)
        self._opening = re.compile(rf"<\s{{0,4}}({outputs}){_REST}(/?)>", flags)
        self.any_tag = re.compile(rf"<(\\*)(/?)\s{{0,4}}({names}){_REST}(/?)>", flags)
        self.unescaped = re.compile(rf"<(\\*)(?=/?\s{{0,4}}(?:{names}){_REST}/?>)", flags)
        self.escaped = re.compile(rf"<(\\*)\\(?=/?\s{{0,4}}(?:{names}){_REST}/?>)", flags)
        self.thoughts = Thoughts(re.compile(rf"<\s{{0,4}}(?P<name>{outputs})\b", flags), self.names)

    def escape(self, text: str) -> str:
        """Put a backslash into what would be taken for a tag."""
        return self.unescaped.sub(r"<\1\\", text) if "<" in text else text

    def unescape(self, text: str) -> str:
        """Take the backslash away again."""
        return self.escaped.sub(r"<\1", text) if "<\\" in text else text

    def split_exact(self, text: str) -> dict[str, str] | None:
        """Return the elements of an answer that is written exactly as it was asked for, without markup inside."""
        if text.count("<") != 2 * len(self.outputs) or "&" in text:
            return None
        texts: dict[str, str] = {}
        at = 0
        for field in self.outputs.values():
            opened, closing = text.find(f"<{field.name}>", at), f"</{field.name}>"
            closed = text.find(closing, opened)
            if opened < 0 or closed < 0 or text[at:opened].strip():
                return None
            texts[field.name] = text[opened + len(closing) - 1 : closed].strip()
            if not texts[field.name]:
                return None
            at = closed + len(closing)
        return None if text[at:].strip() else texts

    def split(self, text: str) -> Elements:
        """Return the elements of an answer without thoughts."""
        found: dict[str, list[str]] = {}
        at, is_exact = 0, True
        while (opened := self._opening.search(text, at)) is not None:
            field = self.outputs[opened[1].lower()]
            is_exact = is_exact and opened[0] == f"<{field.name}>"
            if opened[2]:
                found.setdefault(field.name, []).append("")
                at = opened.end()
                continue
            start, end, at = self._inside(text, opened.end(), field.name)
            if end < 0:
                return Elements({}, is_exact=False, unclear=f"<{field.name}> stands inside of itself")
            is_exact = is_exact and at != end
            found.setdefault(field.name, []).append(text[start:end].strip())
        for name, each in found.items():
            if len(each) > 1 and len({*each, ""}) > 2 and not is_list(self.outputs[name.lower()].annotation):
                return Elements({}, is_exact=False, unclear=f"there are several <{name}>, and they differ")
        return Elements({name: self._text(name, each) for name, each in found.items()}, is_exact)

    def _inside(self, text: str, start: int, name: str) -> tuple[int, int, int]:
        """Return where an element's text begins and ends, and where the answer goes on; an end of -1 is not certain."""
        depth, at, nested = 1, start, 0
        other = -1
        for found in self._marks(text, start):
            escapes, closes, tag, empty = found.groups()
            if escapes or empty:
                continue
            if tag.lower() != name.lower():
                is_output = tag.lower() in self.outputs and not closes
                line = text[max(0, found.start() - _LONGEST_INDENT) : found.start()].rpartition("\n")
                if other < 0 and is_output and line[1] and not line[2].strip():
                    other = found.start()
                continue
            depth += -1 if closes else 1
            nested += not closes
            at = found.end()
            if not depth:
                return self._unnested(text, start, found.start(), at, name) if nested else (start, found.start(), at)
        if nested:
            return start, -1, len(text)
        end = other if other >= 0 else len(text)
        half = _HALF.search(text, max(start, end - 120), end)
        if half is not None and name.lower().startswith(half[1].lower()):
            end = half.start()
        return start, end, end if other >= 0 else len(text)

    def _marks(self, text: str, at: int) -> Iterator[re.Match[str]]:
        """Go through the tags in a text, those in CDATA left out."""
        opened = text.find(CDATA, at)
        closed = text.find("]]>", opened) if opened >= 0 else -1
        for each in self.any_tag.finditer(text, at):
            while 0 <= closed < each.start():
                opened = text.find(CDATA, closed)
                closed = text.find("]]>", opened) if opened >= 0 else -1
            if closed < 0 or each.start() < opened:
                yield each

    def _unnested(self, text: str, start: int, end: int, at: int, name: str) -> tuple[int, int, int]:
        """Take off the same tag inside: ``<a><a>x</a></a>``."""
        inner = text[start:end]
        first = self._opening.match(inner.lstrip())
        if first is None or first[1].lower() != name.lower() or not inner.rstrip().endswith(">"):
            return start, -1, at
        begin = start + len(inner) - len(inner.lstrip()) + first.end()
        closing = inner.rstrip().rfind("</")
        if closing < 0 or any(
            each[3].lower() == name.lower() for each in self.any_tag.finditer(text, begin, start + closing)
        ):
            return start, -1, at
        return begin, start + closing, at

    def _text(self, name: str, found: list[str]) -> str:
        """Return the text of an output: of equal elements the first, or all of them where it is a list."""
        field = self.outputs[name.lower()]
        text = next((each for each in found if each), "")
        if type(field.codec) is not Codec:
            return self.unescape(decoded(text))
        if is_list(field.annotation):
            return self._list(name, found, text)
        if not text:
            return "{}" if is_mapping(field.annotation) else ""
        return self.unescape(text if text.startswith("<") and not text.startswith(CDATA) else decoded(text))

    def _list(self, name: str, found: list[str], text: str) -> str:
        if not text:
            return "[]"
        if text.startswith("[") or (
            len(found) == 1 and (text.startswith("<") or "\n" in text or not is_one_item(text))
        ):
            return self.unescape(text if text.startswith("<") and not text.startswith(CDATA) else decoded(text))
        if any(each.startswith("[") for each in found):
            return self.unescape(decoded(text))
        return self.unescape("".join([f"<{name}>{each}</{name}>" for each in found]))


def written(text: str) -> str:
    """Write what would be read as an entity, or as CDATA, so that it is read as it is."""
    if "&" in text:
        text = ENTITY.sub(lambda found: "&amp;" + found[0][1:], text)
    return text.replace(CDATA, "&lt;" + CDATA[1:]) if CDATA in text else text


def decoded(text: str) -> str:
    """Return the characters that entities and CDATA stand for."""
    if CDATA not in text:
        return ENTITY.sub(_character, text) if "&" in text else text
    parts: list[str] = []
    at = 0
    while (opened := text.find(CDATA, at)) >= 0 and (closed := text.find("]]>", opened)) >= 0:
        parts += [ENTITY.sub(_character, text[at:opened]), text[opened + len(CDATA) : closed]]
        at = closed + 3
    parts.append(ENTITY.sub(_character, text[at:]))
    return "".join(parts).strip()


def _character(found: re.Match[str]) -> str:
    return html.unescape(found[0])
