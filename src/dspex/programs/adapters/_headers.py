"""
Header lines ``[[ ## name ## ]]`` as they are asked for and as models write them, and what keeps a value from being one.

``[[`` with two ``#`` behind it is the mark. At the start of a line, perhaps behind bold or a bullet, it is a header; in
the middle of one only where it names an output that has no header at the start of a line. A value's own marks are
written with a backslash before them and read without.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from dspex.programs._compile import Plan
from dspex.programs.adapters._marks import folded
from dspex.programs.adapters._thoughts import Thoughts

__all__ = [
    "CLOSING",
    "HEADER_LENGTH",
    "FieldNames",
    "Header",
    "Sections",
    "escape",
    "header",
    "is_fenced",
    "split",
    "split_exact",
    "unescape",
]

CLOSING = "completed"
_LAST = f"{CLOSING} ## ]]"
HEADER_LENGTH = 400
"""No header is longer; nor is what stands before it on its line."""
_BEFORE = 40

_MARK = r"\[\[[^\S\n]{0,8}##"
_NEEDS_ESCAPE = re.compile(rf"(?<!\\)(\\*)(?={_MARK})")
_ESCAPED = re.compile(rf"(?<!\\)\\(\\*{_MARK})")
_FIND = re.compile(rf"(?<!\\){_MARK}")
_DECORATION = re.compile(r"(?:[^\S\n]|[*_`>#~\-+\u2022]|\d{1,2}[.)])*")
_INSIDE = r"(?:[^\[\]\n]|\[(?:[^\[\]\n]|\[[^\[\]\n]*\])*\])"
_TYPE = rf"[:(]{_INSIDE}{{0,100}}?"
_HEADER = re.compile(
    r"\[\[[^\S\n]{0,8}#{2,6}[^\S\n]{0,8}[\"'`*{<]{0,3}(?P<name>\w[\w \-]{0,60}?)[\"'`*}>]{0,3}[^\S\n]{0,8}"
    rf"(?:{_TYPE})?(?:#{{1,6}}[^\S\n]{{0,8}})?(?:{_TYPE})?(?P<end>\]{{1,3}}|(?=[^\S\n]{{0,8}}\Z))"
    r"(?:[*_`]{1,3}:?|:[*_`]{0,3})?"
)
_EXACT = re.compile(r"\[\[ ## \w+ ## \]\]")
_CUT = re.compile(r"(?<!\\)\[\[[^\S\n]{0,8}##[^\S\n]{0,8}(\w*)[^\S\n]{0,8}#{0,2}[^\S\n]{0,8}\]?\s{0,8}\Z")
_FENCE = re.compile(r"^[^\S\n]{0,3}(?:```|~~~)", re.MULTILINE)
_LAST_FENCE = re.compile(r"\n[^\S\n]{0,3}(?:```|~~~)\s{0,20}\Z")
_SIMPLE_TYPES = (
    "str",
    "string",
    "text",
    "int",
    "integer",
    "float",
    "number",
    "bool",
    "boolean",
    "list",
    "dict",
    "json",
)


def header(name: str) -> str:
    """Return the line above a field's value."""
    return f"[[ ## {name} ## ]]\n"


def escape(text: str) -> str:
    """Put a backslash before what would be taken for a header."""
    return _NEEDS_ESCAPE.sub(r"\1\\", text) if "[[" in text else text


def unescape(text: str) -> str:
    """Take the backslash away again."""
    return _ESCAPED.sub(r"\1", text) if "\\[[" in text else text


class Header(NamedTuple):
    """
    One mark in an answer.

    Attributes:
        name: The output, ``completed``, or empty for any other section.
        start: Where the section before it ends.
        end: Where its own begins.
        at_line: True when it stands at the start of a line.
        exact: True when it is written as it was asked for.
    """

    name: str
    start: int
    end: int
    at_line: bool
    exact: bool


class FieldNames:
    """The names that a signature's headers may have, in any case, with spaces for underscores."""

    __slots__ = ("_types", "known", "thoughts")

    def __init__(self, plan: Plan) -> None:
        self.known: Mapping[str, str] = {
            CLOSING: CLOSING,
            **{folded(each.name): "" for each in plan.inputs},
            **{folded(each.name): each.name for each in plan.outputs},
            **{each.name: each.name for each in plan.outputs},
        }
        self._types = {each.name: (each.type_text, *_SIMPLE_TYPES) for each in plan.outputs}
        self.thoughts = Thoughts(re.compile(r"(?<!\\)\[\[[^\S\n]{0,8}##[^\S\n]{0,8}[\"'`*{<]{0,3}(?P<name>\w*)"))

    @classmethod
    def of(cls, plan: Plan) -> FieldNames:
        """Return a signature's, made once."""
        found: FieldNames | None = plan.rendered.get(cls)
        if found is None:
            found = plan.rendered[cls] = cls(plan)
        return found

    def header_at(self, text: str, at: int) -> Header | None:
        """Return the header whose mark is at ``at``; None where it is text."""
        line_end = text.find("\n", at, at + HEADER_LENGTH)
        found = _HEADER.match(text, at, line_end if line_end >= 0 else min(len(text), at + HEADER_LENGTH))
        if found is None:
            return None
        line = text.rfind("\n", max(0, at - _BEFORE - 1), at) + 1
        before = _DECORATION.match(text, line, at)
        at_line = (line > 0 or at <= _BEFORE) and before is not None and before.end() == at
        name = self.known.get(found["name"])
        if name is None:
            name = self.known.get(folded(found["name"]))
        exact = bool(_EXACT.match(text, at, found.end()))
        if name is None and not (at_line and exact):
            return None  # what it names is not known: it may be a part of the value
        if not found["end"] and not at_line:
            return None
        name = name or ""
        return Header(
            name, line if at_line else at, self._behind(text, found.end(), name), at_line, exact and at == line
        )

    def _behind(self, text: str, end: int, name: str) -> int:
        """Step over a type that is repeated behind the header."""
        at = end
        while text.startswith(" ", at):
            at += 1
        for each in self._types.get(name, ()):
            if text.startswith(f"({each})", at):
                return at + len(each) + 2 + text.startswith(":", at + len(each) + 2)
        return end


class Sections(NamedTuple):
    """
    The texts below the headers of an answer.

    Attributes:
        texts: The text of each output, the first that is not empty.
        is_exact: True when all is written as it was asked for.
        unclear: An output that has several headers, and none of them is certain: they stand in the middle of lines, or
            the texts below them differ.
        has_headers: True when there is any header.
    """

    texts: dict[str, str]
    is_exact: bool
    unclear: str = ""
    has_headers: bool = True


def split_exact(plan: Plan, text: str) -> dict[str, str] | None:
    """Return the sections of an answer that is written exactly as it was asked for; None for any other."""
    first, *pieces = text.split("[[ ## ")
    if first or len(pieces) < 2 or text.count("[[") != len(pieces):
        return None
    if "</" in text or "<|" in text or "[/" in text or "\u25c1" in text:  # perhaps thoughts
        return None
    if pieces.pop().rstrip() != _LAST:
        return None
    texts: dict[str, str] = {}
    for piece in pieces:
        name, mark, section = piece.partition(" ## ]]\n")
        if not mark or piece[-1] != "\n" or name not in plan.fields:
            return None
        if texts.get(name):
            return None
        texts[name] = section.strip()
    return texts


def split(names: FieldNames, text: str) -> Sections:
    """Return the sections of an answer without thoughts."""
    found = [each for match in _FIND.finditer(text) if (each := names.header_at(text, match.start())) is not None]
    headers = found
    is_exact = all(each.exact for each in found)
    unclear = ""
    if not is_exact:
        headers, unclear = _counted(found)
    texts: dict[str, str] = {}
    has_ended = False
    for number, each in enumerate(headers):
        last = number + 1 == len(headers)
        section = text[each.end :] if last else text[each.end : headers[number + 1].start]
        if not each.name or each.name == CLOSING:
            # Behind the closing mark, or behind a section that is not an output, a model may go on with a next answer.
            has_ended = has_ended or any(texts.values())
            continue
        said = texts.get(each.name)
        if said and has_ended:
            continue
        if last:
            section = _without_remains(section, text[: headers[0].start])
        section = unescape(section.strip())
        if said:
            unclear = unclear if section in ("", said) else each.name
            continue
        texts[each.name] = section
    return Sections(texts, is_exact, unclear, bool(headers))


def _counted(found: list[Header]) -> tuple[list[Header], str]:
    """Leave out the marks in the middle of lines that only speak of a header."""
    at_line = {each.name for each in found if each.at_line}
    inside = [each for each in found if not each.at_line and each.name and each.name not in at_line]
    closing = [each for each in inside if each.name == CLOSING][:-1]
    inside = [each for each in inside if each not in closing]
    several = [each.name for number, each in enumerate(inside) if any(each.name == e.name for e in inside[:number])]
    return [each for each in found if each.at_line or each in inside], several[0] if several else ""


def _without_remains(section: str, before: str) -> str:
    """Take off half a closing mark, and the end of a fence that began before the first header."""
    cut = _CUT.search(section, max(0, len(section) - 60))
    if cut is not None and CLOSING.startswith(cut[1].lower()):
        section = section[: cut.start()]
    if len(_FENCE.findall(before)) % 2 and len(_FENCE.findall(section)) % 2:
        fence = _LAST_FENCE.search(section, max(0, len(section) - 60))
        if fence is not None:
            section = section[: fence.start()]
    return section


def is_fenced(text: str) -> bool:
    """Tell whether a fence is open where the first header stands."""
    first = _FIND.search(text)
    return first is not None and len(_FENCE.findall(text, 0, first.start())) % 2 == 1
