"""The quality of an answer: scores, and the metrics that question answering is measured with."""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import TypeVar

from dspex.errors import ConfigError
from dspex.programs import Example

__all__ = [
    "Metric",
    "MetricResult",
    "Score",
    "answer_passage_match",
    "check_metric",
    "exact_match",
    "f1",
    "normalize_text",
]

R = TypeVar("R", default=Any)

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


@dataclass(frozen=True, slots=True)
class Score:
    """
    A metric's verdict on one row.

    Attributes:
        value: Higher is better; 1.0 is as good as it gets for the metrics of this module.
        feedback: Why, in words: optimizers that rewrite instructions read it.
        parts: The scores that ``value`` was made of, by name.
    """

    value: float
    feedback: str = ""
    parts: Mapping[str, float] = field(default_factory=dict)


MetricResult = bool | float | Score
"""The return values of a metric."""

Metric = Callable[[Example, R], MetricResult | Awaitable[MetricResult]]
"""``metric(example, prediction)``: sync or async; one that raises marks its row as failed, never as zero."""


def normalize_text(text: str) -> str:
    """
    Return ``text`` as answers are compared: NFD, lower case, without punctuation, articles and extra white space.

    The normalisation of the SQuAD evaluation script (Rajpurkar et al., 2016), after a Unicode decomposition.
    """
    plain = unicodedata.normalize("NFD", text).lower().translate(_PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", plain).split())


@dataclass(frozen=True, slots=True)
class _ExactMatch:
    field: str

    def __call__(self, example: Example, prediction: object) -> bool:
        given = normalize_text(_text(prediction, self.field))
        return any(normalize_text(answer) == given for answer in _answers(example, self.field))


@dataclass(frozen=True, slots=True)
class _F1:
    field: str

    def __call__(self, example: Example, prediction: object) -> float:
        given = _text(prediction, self.field)
        return max((_token_f1(answer, given) for answer in _answers(example, self.field)), default=0.0)


@dataclass(frozen=True, slots=True)
class _PassageMatch:
    field: str
    passages: str

    def __call__(self, example: Example, prediction: object) -> bool:
        texts = [normalize_text(_passage_text(each)) for each in _get(prediction, self.passages)]
        wanted = [normalize_text(answer) for answer in _answers(example, self.field)]
        return any(f" {answer} " in f" {text} " for answer in wanted if answer for text in texts)


def exact_match(field: str = "answer") -> Metric:
    """
    Return a metric: whether the prediction's ``field`` equals the example's, both normalised.

    An example may hold a list of acceptable answers.
    """
    return _ExactMatch(field)


def f1(field: str = "answer") -> Metric:
    """
    Return a metric: the harmonic mean of token precision and recall of ``field``, from 0 to 1.

    Tokens are those of the normalised texts, counted with repetition. Of several acceptable answers the best counts.
    """
    return _F1(field)


def answer_passage_match(field: str = "answer", passages: str = "passages") -> Metric:
    """Return a metric: whether one of the prediction's ``passages`` holds the example's ``field``, word for word."""
    return _PassageMatch(field, passages)


def check_metric(metric: object) -> None:
    """Raise ConfigError, before anything is paid for, for what cannot give a verdict."""
    if not callable(metric):
        raise ConfigError(f"metric={metric!r:.60} is not a function of (example, prediction); see dspex.exact_match")
    makers = {"exact_match": exact_match, "f1": f1, "answer_passage_match": answer_passage_match}
    for name, maker in makers.items():
        if metric is maker:
            raise ConfigError(f"{name} makes a metric: give metric={name}()")


def _token_f1(answer: str, given: str) -> float:
    wanted, found = normalize_text(answer).split(), normalize_text(given).split()
    if not wanted or not found:
        return float(wanted == found)
    same = sum((Counter(wanted) & Counter(found)).values())
    return 2 * same / (len(wanted) + len(found))


def _get(record: object, name: str) -> Any:  # a prediction is any record, mapping or plain value
    if isinstance(record, Mapping):
        return record[name]
    return getattr(record, name)


def _text(prediction: object, name: str) -> str:
    return prediction if isinstance(prediction, str) else _as_text(_get(prediction, name))


def _answers(example: Example, name: str) -> list[str]:
    value = example[name]
    several = isinstance(value, (list, tuple, set, frozenset))
    return [_as_text(each) for each in value] if several else [_as_text(value)]


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else str(value)


def _passage_text(passage: object) -> str:
    title, text = getattr(passage, "title", ""), getattr(passage, "text", None)
    return _as_text(passage) if text is None else f"{title} {text}"
