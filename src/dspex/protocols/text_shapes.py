"""
Forms of a text that a server can hold a model to: one of some texts, or a grammar.

Grammars are written in GBNF, the notation of llama.cpp, which vLLM and SGLang read too.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

__all__ = ["MOST_CHARACTERS", "MOST_TEXTS", "Grammar", "TextChoice", "char_class", "fits", "literal", "one_of_pattern"]

MOST_TEXTS: Final = 1_000
"""Texts that a server may be given to choose from: each one costs it time for every token."""
MOST_CHARACTERS: Final = 65_536
"""Characters that a grammar, or texts to choose from, may have together."""


@dataclass(frozen=True, slots=True)
class TextChoice:
    """
    The answer's text must be exactly one of these.

    Raises:
        ValueError: There are none or too many, one is empty or comes twice, or they are too long together.
    """

    texts: tuple[str, ...]

    def __post_init__(self) -> None:
        texts = tuple(self.texts)
        object.__setattr__(self, "texts", texts)
        if not texts or not all(texts) or len(set(texts)) != len(texts):
            raise ValueError("an answer is one of several texts: give at least one, none of them empty or twice")
        if not fits(texts):
            raise ValueError(
                f"{len(texts):,} texts with {sum(map(len, texts)):,} characters cannot be enforced: "
                f"at most {MOST_TEXTS:,} with {MOST_CHARACTERS:,}"
            )

    @property
    def gbnf(self) -> str:
        """The grammar of these texts."""
        return f"root ::= {' | '.join(map(literal, self.texts))}"


@dataclass(frozen=True, slots=True)
class Grammar:
    """
    The answer's text must be a sentence of this grammar, whose first rule is ``root``.

    Raises:
        ValueError: It has no rule ``root``, or is too long.
    """

    gbnf: str

    def __post_init__(self) -> None:
        if not re.search(r"^root\s*::=", self.gbnf, re.MULTILINE):
            raise ValueError("a grammar needs a rule of the name root: 'root ::= …'")
        if len(self.gbnf) > MOST_CHARACTERS:
            raise ValueError(f"a grammar of {len(self.gbnf):,} characters: at most {MOST_CHARACTERS:,} can be enforced")


def fits(texts: Sequence[str]) -> bool:
    """Tell whether a server may be given as many and as long texts to choose from."""
    return len(texts) <= MOST_TEXTS and sum(map(len, texts)) <= MOST_CHARACTERS


_ESCAPES: Final = {'"': r"\"", "\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
_ODD: Final = re.compile(r"[\"\\\x00-\x1f\x7f-\x9f\u2028\u2029\u00a0\u2000-\u200a\ud800-\udfff]")


def char_class(signs: str, *, negated: bool = False) -> str:
    """Return the characters of a text, or all others, as they stand in a grammar."""
    written = "".join(f"\\u{ord(each):04X}" if each in "[]^-\\" or _ODD.match(each) else each for each in signs)
    return f"[{'^' * negated}{written}]"


def literal(text: str) -> str:
    """Return a text as it stands in a grammar."""
    return f'"{_ODD.sub(_escaped, text)}"'


def _escaped(found: re.Match[str]) -> str:
    return _ESCAPES.get(found[0]) or f"\\u{ord(found[0]):04X}"


_MEANT: Final = re.compile(r"[\\^$.|?*+()\[\]{}]")
_BLANK: Final = {"\n": r"\n", "\r": r"\r", "\t": r"\t"}


def one_of_pattern(texts: Sequence[str]) -> str:
    """Return the regular expression of some texts, with no more than every engine knows."""
    written = [_MEANT.sub(r"\\\g<0>", text) for text in texts]
    for mark, escape in _BLANK.items():
        written = [each.replace(mark, escape) for each in written]
    return f"({'|'.join(written)})"
