"""
A number, a truth value or a choice that stands alone in a short text, as in ``The answer is **1,200** euros``.

A person who reads such a text may be sure or not. Only a sure one is read: a sentence that denies, compares, scales,
doubts or asks, and one with two values, is not an answer.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from dspex.programs.adapters._boxed import boxed_values
from dspex.programs.adapters._marks import number_text, without_marks
from dspex.programs.adapters._types import plain_type
from dspex.programs.adapters._values import ChoiceCodec, Codec, NumberCodec

__all__ = ["first_line", "only_value"]

_SHORT = 200
"""Characters of a line in which a value may be looked for; a longer one is not an answer in a few words."""
_MOST_LINES = 64
_DENIES = "not|never|neither|nor|without|except|but|cannot|nicht|kein|keine|keinen|pas|jamais|non|não|ne"
_TURNS = (  # words that turn a sentence round, or leave it open, without a "not"
    "hardly|barely|scarcely|rarely|seldom|unlikely|doubtful|doubt|far from|opposite|instead|rather than|too|none"
    "|nothing|wrong|wrongly|incorrect|incorrectly|avoid|exclud(?:e|es|ed|ing)|ruled? out|if|unless|whether"
)
_DENIED = re.compile(rf"\b(?:{_DENIES}|{_TURNS})\b|n['\u2019]t\b", re.IGNORECASE)
_IN_PART = "half|partly|partially|almost|nearly|mix|mixture|between"
_NOT_WHOLLY = re.compile(rf"\b(?:{_IN_PART})\b", re.IGNORECASE)
_NOT_SURE = re.compile(
    rf"\b(?:{_IN_PART}|mostly|largely|somewhat|sort of|kind of|technically|maybe|perhaps|possibly|probably|likely|may"
    r"|might|could|would|supposed|assumed|used to)\b",
    re.IGNORECASE,
)
_NO = re.compile(r"\bno\b", re.IGNORECASE)
_UNSURE_NUMBER = re.compile(
    r"[<>≤≥±^\u00d7÷√?]"
    r"|\b(?:no|or|than|least|most|over|under|above|below|up to|nearly|almost|minus|negative|half|quarter"
    r"|twice|double|triple|squared|cubed|point|between|bce?"
    r"|hundreds?|thousands?|millions?|billions?|trillions?|dozens?|bn|m|k|b|mio|mrd|lakh|crore|percent)\b",
    re.IGNORECASE,
)
_WITH_DIGITS = re.compile(r"[^\s()\[\]{}\"“”„«»*`$€£¥#~=;!|]*\d[^\s()\[\]{}\"“”„«»*`$€£¥#~=;!|]*")
"""A word with a digit in it; marks, brackets and currencies are not part of it."""
_NUMBER = re.compile(r"[+-]?(?:\d+(?:\.\d+)?|\.\d+)(?:[eE][+-]?\d+)?", re.ASCII)
_LOOSE_SIGN = re.compile(r"[-+\u2212]\s+\.?\d")
_LETTER_FIRST = re.compile(r"[^\W\d_]")
_TRUTHS = {"true": "True", "yes": "True", "false": "False", "no": "False"}
_TRUTH = re.compile(r"(?<![\w-])(?:true|yes|false|no)(?![\w-])(?!\. ?\d)", re.IGNORECASE)


_TAKES_BACK = re.compile(
    r"\b(?:wait|actually|correction|corrected|sorry|oops|hmm|mistake|wrong|rather|re-?(?:check|calculate|consider)\w*"
    r"|double-check\w*|let me)\b",
    re.IGNORECASE,
)
_ENDS_THERE = re.compile(
    r"[*_`\"'\u201d\u2019»)\]}]*\s*(?:\Z|[.,;:!()\u2013\u2014-]|(?:because|since|as|for)\b)", re.IGNORECASE
)
_SAID_OF = re.compile(r"no|none|yes|true|false", re.IGNORECASE)


def first_line(text: str) -> str:
    """Return the first line that is not empty."""
    return text.strip().partition("\n")[0]


def only_value(codec: Codec, text: str) -> str | None:
    """
    Return the text of the one value that a short text names; None where there is none, several, or one that is unsure.

    Lines behind the first are an afterthought, unless one of them is another value, or takes the first one back.
    """
    find = _finder(codec)
    line = first_line(text)
    if find is None or len(line) > _SHORT:
        return None
    found = find(line)
    rest = text.strip().splitlines()[1:]
    if found is None or len(rest) > _MOST_LINES:
        return None
    if any(_TAKES_BACK.search(each) or _is_another(codec, each, found) for each in rest):
        return None
    return found


def _finder(codec: Codec) -> Callable[[str], str | None] | None:
    if isinstance(codec, ChoiceCodec):
        return lambda line: _only_choice(codec.texts, line)
    if not isinstance(codec, NumberCodec):
        return None
    kind = plain_type(codec.annotation)
    return _only_truth if kind is bool else lambda line: _only_number(line, whole=kind is int)


def _is_another(codec: Codec, line: str, found: str) -> bool:
    """Tell whether a line is nothing but a value, and another one."""
    try:
        return bool(line.strip()) and codec.read(line.strip())[0] != codec.read(found)[0]
    except ValueError:
        return False


def _only(found: Iterable[str]) -> str | None:
    several = set(found)
    return several.pop() if len(several) == 1 else None


def _only_number(line: str, *, whole: bool) -> str | None:
    boxed = boxed_values(line)
    if boxed:
        only = boxed[0].replace("\u2212", "-") if len(boxed) == 1 else ""
        return _digits(only, whole=whole) if only else None
    if _UNSURE_NUMBER.search(line) or _DENIED.search(line) or _LOOSE_SIGN.search(line):
        return None
    if not whole and "%" in line:  # a share may be of one or of a hundred
        return None
    found = []
    for word in _WITH_DIGITS.findall(line.replace("\u2212", "-")):
        if _LETTER_FIRST.match(word):  # a name: ``x2``, ``GPT-4``
            continue
        number = _digits(word, whole=whole)
        if number is None:
            return None
        found.append(number)
    return _only(found)


def _digits(word: str, *, whole: bool) -> str | None:
    """Return a number as Python writes it; ``1,5`` and ``0,001`` are not certain, and ``5%`` only where it is whole."""
    word = without_marks(word).strip("$€£¥ ").rstrip(".,:")
    word = word.removesuffix("%").rstrip() if whole else word
    word = number_text(word, whole=whole)
    return word if _NUMBER.fullmatch(word) else None


def _only_truth(line: str) -> str | None:
    if _DENIED.search(line) or _NOT_SURE.search(line) or line.rstrip().endswith("?"):
        return None
    found = list(_TRUTH.finditer(line))
    if not all(_stands_alone(line[each.end() :]) for each in found):
        return None
    return _only(_TRUTHS[each[0].lower()] for each in found)


def _stands_alone(rest: str) -> bool:
    """Tell whether a word like ``no`` is said of nothing that follows it: ``no problem`` is a yes."""
    return _ENDS_THERE.match(rest) is not None


def _only_choice(texts: Iterable[str], line: str) -> str | None:
    found: set[str] = set()
    for choice in sorted(texts, key=len, reverse=True):
        pattern = re.compile(rf"(?<![\w-]){re.escape(choice)}(?![\w-])", re.IGNORECASE)
        if (match := pattern.search(line)) is not None:
            if _SAID_OF.fullmatch(choice) and not _stands_alone(line[match.end() :]):
                return None
            found.add(choice)
            line = pattern.sub(" ", line)
    denies = _DENIED.search(line) or _NO.search(line) or _NOT_WHOLLY.search(line)
    return None if denies or line.rstrip().endswith("?") else _only(found)
