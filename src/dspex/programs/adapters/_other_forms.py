"""Answers in another form than header lines, read where there is no header at all: an object, looser headers."""

from __future__ import annotations

import re

from dspex.errors import ResponseUnparsable
from dspex.programs._compile import Plan
from dspex.programs.adapters._adapter import Parsed, Repair
from dspex.programs.adapters._headers import FieldNames
from dspex.programs.adapters._marks import folded, only_fence
from dspex.programs.adapters._reading import read_object, read_texts

__all__ = ["read_otherwise"]

_BEFORE = r"^(?:[^\S\n]|[*_`>\-+\u2022]){0,20}"
_BEHIND = r"(?:[*_`]{1,3}:?|:[*_`]{0,3})?"
_BRACKETS = (
    r"\\?\[(?:\\?\[)?[^\S\n]{0,4}(?:#{1,6}[^\S\n]{0,4})?(\w[\w \-]{0,60}?)"
    r"[^\S\n]{0,4}(?:#{1,6}[^\S\n]{0,4})?\\?\](?:\\?\])?"
)
_HASHES = r"#{1,6}[^\S\n]{0,4}(\w[\w \-]{0,60}?)[^\S\n]{0,4}#{1,6}"
_LOOSE = re.compile(rf"{_BEFORE}(?:{_BRACKETS}|{_HASHES}){_BEHIND}", re.MULTILINE)
_FORMAT = (Repair("", "format"),)


def read_otherwise(plan: Plan, names: FieldNames, text: str, raw: str, thoughts: str) -> Parsed | None:
    """Return what an answer without headers says; None where that is not certain."""
    text = text.strip()
    inside = only_fence(text)
    if (text if inside is None else inside)[:1] == "{":
        try:
            parsed = read_object(plan, text, thoughts)
        except ResponseUnparsable:
            return None
        return parsed._replace(repairs=(*_FORMAT, *parsed.repairs))
    texts = _loose(names, text)
    if not all(each.name in texts or each.has_default or each.optional for each in plan.outputs) or not texts:
        return None
    return read_texts(plan, texts, raw, _FORMAT, thoughts)


def _loose(names: FieldNames, text: str) -> dict[str, str]:
    """Return the texts below ``[[answer]]``, ``[ ## answer ## ]``, ``## answer ##`` and the like, each there once."""
    found = [
        (name, each) for each in _LOOSE.finditer(text) if (name := names.known.get(folded(each[1] or each[2] or "")))
    ]
    texts: dict[str, str] = {}
    for number, (name, each) in enumerate(found):
        end = found[number + 1][1].start() if number + 1 < len(found) else len(text)
        if name in texts:
            return {}
        texts[name] = text[each.end() : end].strip()
    return texts
