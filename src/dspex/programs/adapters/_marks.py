"""Marks that models put around a value although they are not part of it: bold, quotes, back ticks, fences."""

from __future__ import annotations

import re

__all__ = ["folded", "number_text", "only_fence", "without_marks"]

_AROUND = " \t\r\n\"'`*\u2018\u2019\u201c\u201d"
_BOXED = re.compile(
    r"\$*\\(?:boxed|text|fbox|mathrm|mathbf)\{([^{}]*)\}\$*|\$+([^$]+)\$+|\\\((.+)\\\)|\\\[(.+)\\\]", re.DOTALL
)
_BETWEEN = re.compile(r"[\s\-]+")
_LONGEST_NUMBER = 1_000
_GROUPS = re.compile(r"[+-]?[1-9]\d{0,2}(?:,\d{3})+(\.\d+)?")
_OPENING = re.compile(r"(`{3,}|~{3,})[^\S\n]*[\w.+#-]*[^\S\n]*(?:\n|\Z)")


def without_marks(text: str) -> str:
    """Return a short value without quotes, bold or back ticks around it."""
    return text.strip(_AROUND)


def number_text(text: str, *, whole: bool) -> str:
    """
    Return a number's digits without what is written around and between them: ``**1,234**`` is ``1234``.

    One comma with three digits behind it is a separator only where the number is whole: elsewhere it could be the
    decimal mark of many languages.
    """
    if len(text) > _LONGEST_NUMBER:
        return text
    bare = without_marks(text)
    boxed = _BOXED.fullmatch(bare)
    if boxed is not None:
        bare = without_marks(next(each for each in boxed.groups() if each is not None))
    bare = "-" + bare[1:] if bare.startswith("\u2212") else bare  # the minus of typesetters
    bare = bare.rstrip(".") if bare.endswith(".") and bare.count(".") == 1 else bare
    groups = _GROUPS.fullmatch(bare)
    if groups is not None and (whole or groups[1] or bare.count(",") > 1):
        return bare.replace(",", "")
    return bare


def only_fence(text: str) -> str | None:
    """Return what is between the fences that are around the whole text; None where there are none."""
    opening = _OPENING.match(text)
    if opening is None:
        return None
    mark, whole = opening[1], text.rstrip()
    if not whole.endswith(mark) or len(whole) < opening.end() + len(mark):
        return None
    inner = whole[opening.end() : -len(mark)].strip()
    return None if mark in inner else inner


def folded(name: str) -> str:
    """Return a field's name as models vary it: small letters, spaces and hyphens as underscores."""
    return _BETWEEN.sub("_", name.strip()).casefold()
