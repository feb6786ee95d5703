"""The sections of a document by its headings; pure, but for the library that parses HTML."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from bs4 import Tag
    from bs4.element import PageElement

__all__ = ["DocumentSection", "html_sections", "markdown_sections", "plain_sections"]


@dataclass(frozen=True, slots=True)
class DocumentSection:
    """
    The text below one heading, up to the next.

    Attributes:
        path: The headings above it, outermost first; the document's own title is the first where it has one.
        text: The text, without its headings.
        page: The page of a PDF, from 1; 0 elsewhere.
    """

    path: tuple[str, ...]
    text: str
    page: int = 0


@dataclass(slots=True)
class _Heading:
    level: int
    words: str
    told: bool = False
    """True when it stands in the path of a section."""


@dataclass(slots=True)
class _Outline:
    """Collects text below headings as a document is read from its beginning."""

    title: str = ""
    done: list[DocumentSection] = field(default_factory=list)
    _open: list[_Heading] = field(default_factory=list)

    def heading(self, level: int, words: str, before: str) -> None:
        """End the section so far, whose text is given, and open another one."""
        self._add(before)
        self._close(level)
        if words := " ".join(words.split()):
            self._open.append(_Heading(level, words))

    def finish(self, text: str) -> list[DocumentSection]:
        """Return the sections of the document, whose last text is given."""
        self._add(text)
        self._close(0)
        return self.done

    def _close(self, level: int) -> None:
        """Close headings of this level and below; one with nothing below it is text itself, or nobody could find it."""
        while self._open and self._open[-1].level >= level:
            if not self._open[-1].told:
                self._add(self._open[-1].words)
            self._open.pop()

    def _add(self, text: str) -> None:
        if not text.strip():
            return
        words = tuple(each.words for each in self._open)
        path = words if not self.title or words[:1] == (self.title,) else (self.title, *words)
        self.done.append(DocumentSection(path, text.strip("\n")))
        for each in self._open:
            each.told = True


def plain_sections(text: str) -> list[DocumentSection]:
    """Return a text as one section; none where there is nothing in it."""
    return [DocumentSection((), text)] if text.strip() else []


# --- Markdown -------------------------------------------------------------------------------------------------

_ATX: Final = re.compile(r" {0,3}(#{1,6})(?:[ \t]+(.*?))??(?:[ \t]+#+)?[ \t]*$")
_UNDERLINE: Final = re.compile(r" {0,3}(=+|-+)[ \t]*$")
_FENCE: Final = re.compile(r" {0,3}(`{3,}|~{3,})(.*)$")
_NOT_A_HEADING: Final = re.compile(r"\s*(?:[>|]|[-*+][ \t]|\d{1,9}[.)][ \t])|(?: {4}|\t)")
"""The beginning of a line that no underline makes a heading of: a quote, a table, a list, code."""
_TITLE: Final = re.compile(r"title:[ \t]*(.+?)[ \t]*$", re.IGNORECASE)


def markdown_sections(text: str) -> list[DocumentSection]:
    """
    Return the sections of Markdown: headings with ``#`` and underlined ones, outside of fenced code.

    Front matter between two lines of ``---`` at the beginning is left out, but for its ``title``.
    """
    lines = text.splitlines()
    title, begin = _front_matter(lines)
    outline, body, fence = _Outline(title), list[str](), ""
    for line in lines[begin:]:
        fenced = _FENCE.match(line)
        if fence:
            if fenced is not None and fenced[1].startswith(fence) and not fenced[2].strip():
                fence = ""
        elif fenced is not None and not (fenced[1][0] == "`" and "`" in fenced[2]):
            fence = fenced[1]
        elif (heading := _ATX.match(line)) is not None:
            outline.heading(len(heading[1]), heading[2] or "", "\n".join(body))
            body.clear()
            continue
        elif (under := _UNDERLINE.match(line)) is not None and _may_be_underlined(body):
            words = body.pop()
            outline.heading(1 if under[1][0] == "=" else 2, words, "\n".join(body))
            body.clear()
            continue
        body.append(line)
    return outline.finish("\n".join(body))


def _may_be_underlined(body: list[str]) -> bool:
    """True when the last line of a text is a paragraph of its own: a longer one is text above a rule."""
    is_first = len(body) < 2 or not body[-2].strip()
    return bool(body) and bool(body[-1].strip()) and is_first and not _NOT_A_HEADING.match(body[-1])


def _front_matter(lines: list[str]) -> tuple[str, int]:
    """Return the title in the front matter, and the line behind it."""
    if not lines or lines[0].rstrip() != "---":
        return "", 0
    for number, line in enumerate(lines[1:200], 1):
        if line.rstrip() in ("---", "..."):
            found = (_TITLE.match(each) for each in lines[1:number])
            return next((each[1].strip("\"'") for each in found if each is not None), ""), number + 1
    return "", 0


# --- HTML -----------------------------------------------------------------------------------------------------

_UNSEEN: Final = frozenset({"script", "style", "noscript", "template", "head", "svg", "iframe", "object", "title"})
_BLOCKS: Final = frozenset(
    {
        *("address", "article", "aside", "blockquote", "body", "caption", "center", "dd", "details", "dialog", "div"),
        *("dl", "dt", "fieldset", "figcaption", "figure", "footer", "form", "header", "hr", "li", "main", "nav", "ol"),
        *("p", "pre", "section", "summary", "table", "tbody", "tfoot", "thead", "tr", "ul"),
    }
)
_HEADING: Final = re.compile(r"h([1-6])")
_BLANKS: Final = re.compile(r"[ \t\r\f\n\u00a0]+")
_GAPS: Final = re.compile(r"[ \t]*\n[ \t\n]*")
_SPACES: Final = re.compile(r" {2,}")


def html_sections(markup: str) -> list[DocumentSection]:
    """
    Return the sections of a page by its ``h1`` to ``h6``; scripts, styles and what no reader sees are left out.

    Nothing here calls itself, so that no depth of elements is too deep.
    """
    from bs4 import BeautifulSoup

    soup = BeautifulSoup(markup, "html.parser")
    title = " ".join(soup.title.get_text().split()) if soup.title is not None else ""
    outline, body, level = _Outline(title), list[tuple[str, bool]](), 0
    words = list[tuple[str, bool]]()
    for event, name, text in _events(soup):
        heading = _HEADING.fullmatch(name)
        into = words if level else body
        if event in ("text", "exact"):
            into.append((text, event == "exact"))
        elif heading is not None:
            if level:  # the end of a heading, or the beginning of one in the middle of another
                outline.heading(level, _tidy(words), _tidy(body))
                body, words, level = [], [], 0
            if event == "open":
                level = int(heading[1])
        elif name == "br":
            into.append(("\n" if event == "open" else "", False))
        elif name in ("td", "th"):
            into.append(("\t" if event == "close" else "", False))
        elif name in _BLOCKS:
            into.append(("\n" if name in ("tr", "li", "dt", "dd") else "\n\n", False))
    if level:
        outline.heading(level, _tidy(words), _tidy(body))
        body = []
    return outline.finish(_tidy(body))


def _events(root: Tag) -> Iterator[tuple[str, str, str]]:
    """Yield ``open`` and ``close`` with an element's name, and ``text`` or ``exact`` text, in the order of the page."""
    from bs4.element import NavigableString, PreformattedString, Tag

    left: list[tuple[PageElement, bool]] = [(root, False)]
    exact = 0
    while left:
        node, closing = left.pop()
        if isinstance(node, Tag):
            if closing:
                exact -= node.name in ("pre", "textarea")
                yield "close", node.name, ""
            elif node.name not in _UNSEEN:
                exact += node.name in ("pre", "textarea")
                yield "open", node.name, ""
                left.append((node, True))
                left.extend((child, False) for child in reversed(node.contents))
        elif isinstance(node, NavigableString) and not isinstance(node, PreformattedString):  # comments, doctypes
            yield ("exact", "", str(node)) if exact else ("text", "", _BLANKS.sub(" ", node))


def _tidy(body: list[tuple[str, bool]]) -> str:
    """Join pieces of text; blanks and empty lines are closed up, but for those of exact pieces."""
    joined = ("".join(text for text, _ in some) if exact else _closed_up(some) for exact, some in _runs(body))
    return "".join(joined).strip()


def _runs(body: list[tuple[str, bool]]) -> Iterator[tuple[bool, list[tuple[str, bool]]]]:
    return ((exact, list(some)) for exact, some in groupby(body, key=lambda piece: piece[1]))


def _closed_up(pieces: list[tuple[str, bool]]) -> str:
    text = "".join(text for text, _ in pieces)
    text = _GAPS.sub(lambda gap: "\n\n" if gap[0].count("\n") > 1 else "\n", text)
    return _SPACES.sub(" ", text)
