r"""Results in a box, as mathematicians put them: ``\boxed{42}``."""

from __future__ import annotations

import re

__all__ = ["boxed_values", "in_box"]

_BOX = re.compile(r"\\boxed\s?\{")
_WORDS = re.compile(r"\\(?:text|textbf|mathrm|mathbf|mbox)\s?\{([^{}]*)\}")
_SIGNS = re.compile(r"\\([$%#&])")
_SPACE = re.compile(r"\\[,;:! ]|\\q?quad\b|~")
_LONGEST = 200
"""Characters in a box; more is not a result."""
_MOST = 64
"""Boxes of one answer that are looked at."""


def in_box(text: str) -> str:
    r"""Return a text in a box."""
    return f"\\boxed{{{text}}}"


def boxed_values(text: str) -> list[str]:
    r"""
    Return the different results that stand in boxes, in their order, without the marks of TeX.

    An empty text stands for a box that is still to be worked out (``\frac``, ``\sqrt``, a power) or is never closed; an
    empty box is talk of boxes.
    """
    found: dict[str, None] = {}
    for number, match in enumerate(_BOX.finditer(text)):
        if number == _MOST:
            return [""]
        inside = _inside(text, match.end())
        if inside is None or inside.strip():
            found[_bare(inside or "")] = None
    return list(found)


def _inside(text: str, start: int) -> str | None:
    depth = 1
    for at in range(start, min(start + _LONGEST, len(text))):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if depth == 0:
            return text[start:at]
    return None


def _bare(box: str) -> str:
    box = _SPACE.sub(" ", _SIGNS.sub(r"\1", _WORDS.sub(r" \1 ", box.replace("{,}", ","))))
    return "" if re.search(r"[\\^{}!]", box) else box.strip()
