"""Answers that end with lines ``name: value``: found, and kept from being found in a value."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

__all__ = ["Label", "escape_labels", "find_labels", "labels_of", "may_become_label", "unescape_labels"]

_BULLET = r"[ \t]*(?:[#>*-]{1,6}[ \t]{1,3})?"
"""Headings, bullets and quotes, which models put before a label."""


@lru_cache(maxsize=1024)
def labels_of(names: tuple[str, ...]) -> re.Pattern[str]:
    """
    Return the pattern of a line that begins with one of these names and a colon, as models write them.

    Its groups: the bullet, backslashes, emphasis (``**``, which stands again behind the name or the colon), the name.
    """
    spelled = "|".join(re.escape(each).replace("_", "[_ ]") for each in sorted(names, key=len, reverse=True))
    pattern = rf"^({_BULLET})(\\*)([*_]{{0,3}})({spelled})(?:\3[ \t]{{0,3}}:|[ \t]{{0,3}}:\3)[ \t]*"
    return re.compile(pattern, re.IGNORECASE | re.MULTILINE)


class Label:
    """A line that begins a value."""

    __slots__ = ("end", "name", "start")

    def __init__(self, name: str, start: int, end: int) -> None:
        self.name = name
        self.start = start
        self.end = end


def find_labels(names: Sequence[str], text: str) -> list[Label]:
    """Return the labels of a text in their order; escaped ones are text."""
    known = {_plain(each): each for each in names}
    return [
        Label(known[_plain(match[4])], match.start(), match.end())
        for match in labels_of(tuple(names)).finditer(text)
        if not match[2] and _plain(match[4]) in known
    ]


_BEFORE_NAME = re.compile(r"[ \t#>*_-]*")
_BEHIND_NAME = re.compile(r"[ \t*_]*:?[ \t*_]*")


def may_become_label(name: str, text: str) -> bool:
    """Return False where no continuation makes the beginning of a line a label; it may be True for too long."""
    begins = _BEFORE_NAME.match(text)
    said = _plain(text[begins.end() :] if begins is not None else text)
    plain = _plain(name)
    if len(said) <= len(plain) or not plain.isascii():
        return plain.startswith(said) or not plain.isascii()
    return said.startswith(plain) and _BEHIND_NAME.fullmatch(said, len(plain)) is not None


def _plain(name: str) -> str:
    return name.casefold().replace("_", " ")


def escape_labels(names: Sequence[str], text: str) -> str:
    """Put a backslash before what would be taken for a label."""
    if not names:
        return text
    return labels_of(tuple(names)).sub(lambda match: f"{match[1]}\\{match[0][len(match[1]) :]}", text)


def unescape_labels(names: Sequence[str], text: str) -> str:
    """Take the backslash away again."""
    if not names or "\\" not in text:
        return text
    return labels_of(tuple(names)).sub(lambda match: match[1] + match[0][len(match[1]) + bool(match[2]) :], text)
