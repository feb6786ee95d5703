"""
Terms of a full-text index for scripts that put no spaces between words.

A run of such characters is indexed by its pairs of neighbours, as search engines do for Chinese, Japanese and Korean:
a dictionary of words is not needed, and any part of a word of two characters or more is found.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from itertools import pairwise
from typing import Final

__all__ = ["searchable", "terms"]

_UNSPACED: Final = (
    "\u0e00-\u0eff"  # Thai, Lao
    "\u1000-\u109f"  # Myanmar
    "\u1100-\u11ff\uac00-\ud7ff"  # Hangul: its particles stand behind the word without a space
    "\u1780-\u17ff"  # Khmer
    "\u3005-\u3007\u3040-\u30ff\u31f0-\u31ff"  # Hiragana, Katakana and their marks
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # Chinese characters
)
_RUN: Final = re.compile(f"[{_UNSPACED}]+")
_OPERATED: Final = re.compile(r'"(?P<phrase>[^"]*)"|(?P<prefix>[^\W_]+)\*')
_TERM: Final = re.compile(rf"(?P<run>[{_UNSPACED}]+)|[^\W_{_UNSPACED}]+")


def searchable(text: str) -> str:
    """
    Return the text as it is indexed: each run in an unspaced script as its pairs, wide and narrow forms made equal.

    The last character of a run stands behind its pairs, so that a search for any single character, which looks for
    terms that begin with it, finds it there as well.
    """
    if text.isascii():
        return text
    return _RUN.sub(_pairs_of_run, unicodedata.normalize("NFKC", text))


def terms(query: str, *, operators: bool = False) -> Iterator[str]:
    """
    Yield the terms of a query in the language of FTS5, quoted, in their order, repeated ones included.

    With ``operators``, what stands in quotes is one term, a phrase, and a word with a star behind it the beginning of
    words. A quote or a star that stands elsewhere means nothing.
    """
    text = unicodedata.normalize("NFKC", query)
    if not operators:
        yield from _words(text)
        return
    at = 0
    for match in _OPERATED.finditer(text):
        yield from _words(text[at : match.start()])
        at = match.end()
        words = list(_words(match["phrase"] or match["prefix"] or ""))
        if words:  # FTS5 takes terms that are joined by "+" as one phrase, and a star belongs to the last of them
            star = "*" if match["prefix"] or words[-1].endswith("*") else ""
            yield " + ".join(each.removesuffix("*") for each in words) + star
    yield from _words(text[at:])


def _words(text: str) -> Iterator[str]:
    for match in _TERM.finditer(text):
        run = match["run"]
        if run is None:
            yield f'"{match[0].lower()}"'
        elif len(run) == 1:
            yield f'"{run}"*'
        else:
            yield from (f'"{first}{second}"' for first, second in pairwise(run))


def _pairs_of_run(match: re.Match[str]) -> str:
    run = match[0]
    pairs = (f"{first}{second}" for first, second in pairwise(run))
    return f" {' '.join((*pairs, run[-1]))} "
