"""Questions about the corpus whose answers are names that the questions do not say."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from dspex._random import generator
from dspex.errors import ConfigError
from dspex.protocols.retrieval import Passage

__all__ = ["Question", "QuestionSets", "questions", "split"]


@dataclass(frozen=True, slots=True)
class Question:
    """A question about one name: its documentation's words without the name; ``answer`` is the dotted name."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class QuestionSets:
    """Disjoint sets: to learn from, to choose by, and to be asked."""

    train: tuple[Question, ...]
    dev: tuple[Question, ...]
    ask: tuple[Question, ...]


_MIN_WORDS: Final = 4
_MAX_WORDS: Final = 30
_PARTS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+|[^\W\d_a-zA-Z]+")
"""The parts of ``JSONEncoder.to_bytes2``: JSON, Encoder, to, bytes, 2."""
_ENDINGS: Final = (
    *("ations", "ation", "ings", "ions", "ers", "ors", "ing", "ion", "ies"),
    *("ed", "er", "or", "es", "s", "y", "e"),
)
_SENTENCE: Final = re.compile(r".*?[.!?](?=\s|$)")
_SIGNATURE: Final = re.compile(r"^[\w.\[\]]+\s*\(.*|.*->.*")
"""The first line of a C docstring is often the call itself."""


def questions(passages: Sequence[Passage], count: int, seed: int) -> list[Question]:
    """
    Return ``count`` questions made of the first sentences of passages, chosen by ``seed``.

    Every word of the answer's own name is taken out of its question, other forms of it included; then a question
    has at most 30 words, 4 of them longer than two letters, and no two passages share it.

    Args:
        passages: The corpus; a passage's title is the answer.
        count: The number of questions.
        seed: The same seed chooses the same questions of the same corpus.

    Raises:
        ConfigError: The corpus does not give as many.
    """
    made = [Question(text, passage.title) for passage in passages if (text := _question(passage))]
    seen = Counter(" ".join(_words(question.question)) for question in made)
    unique = [question for question in made if seen[" ".join(_words(question.question))] == 1]
    if len(unique) < count:
        raise ConfigError(f"the corpus of {len(passages)} passages gives {len(unique)} questions, not {count}")
    return generator(seed).sample(unique, count)


def split(drawn: Sequence[Question], *, train: int = 60, dev: int = 200) -> QuestionSets:
    """
    Split questions into disjoint sets; the rest, after ``train`` and ``dev``, is there to be asked.

    Raises:
        ConfigError: There is no rest.
    """
    if len(drawn) <= train + dev:
        raise ConfigError(
            f"{len(drawn)} questions do not split into {train} to learn from, {dev} to choose by and a rest"
        )
    return QuestionSets(tuple(drawn[:train]), tuple(drawn[train : train + dev]), tuple(drawn[train + dev :]))


def _question(passage: Passage) -> str:
    """Return the passage's summary without its name, or nothing if too little or too much is left."""
    name = _stems(passage.title)
    kept = [word for word in _summary(passage.text).split() if not _tells(word, name)]
    telling = sum(1 for word in kept if len(word.strip(".,;:()'`\"")) >= 3)
    return " ".join(kept).strip(" ,;:-") if telling >= _MIN_WORDS and len(kept) <= _MAX_WORDS else ""


def _summary(text: str) -> str:
    """Return the first sentence, whatever lines it stands on; a call's signature is none."""
    lines = [line.strip() for line in text.splitlines()]
    start = next((place for place, line in enumerate(lines) if line and not _SIGNATURE.match(line)), len(lines))
    paragraph = " ".join(takewhile(bool, lines[start:]))
    sentence = _SENTENCE.match(paragraph)
    return sentence.group() if sentence else paragraph


def _tells(word: str, name: frozenset[str]) -> bool:
    """True when a word, or a part of it, is a form of a part of the name, holds one, or is held by one."""
    return any(
        stem in name or any(len(stem) > 2 < len(part) and (part in stem or stem in part) for part in name)
        for stem in _stems(word)
    )


def _stems(text: str) -> frozenset[str]:
    """Return the stems of the parts of a name or a word, and of the whole where it is written as one."""
    whole = re.split(r"[\W_]+", text)
    return frozenset(_stem(part.lower()) for part in [*_PARTS.findall(text), *whole] if part)


def _stem(word: str) -> str:
    """Cut endings off, so that ``encode``, ``encoded`` and ``encoding`` are one; coarse is safe here."""
    for ending in _ENDINGS:
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word


def _words(text: str) -> list[str]:
    """Return the words as a reader would compare two questions."""
    return re.findall(r"\w+", text.lower())
