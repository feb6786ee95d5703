"""The quality of an answer: scores, and the metrics that question answering is measured with."""

from __future__ import annotations

import inspect
import re
import string
import unicodedata
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from typing_extensions import TypeVar

from dspex.errors import ConfigError
from dspex.programs import Example, Module, Signature, inputs_of

__all__ = [
    "Metric",
    "MetricResult",
    "Score",
    "answer_passage_match",
    "answers_of",
    "check_metric",
    "exact_match",
    "f1",
    "hotpot_f1",
    "normalize_text",
    "value_of",
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


MetricResult = bool | float | Score | Signature
"""The return values of a metric; a record is one that a program returns, with a ``score``."""

Metric = Callable[[Example, R], MetricResult | Awaitable[MetricResult]]
"""
``metric(example, prediction)``: sync or async; one that raises marks its row as failed, never as zero.

A metric may be a program, a Module whose ``forward`` takes ``example`` and ``prediction``: then it runs as a request of
its own, in the App's limits and budget, and the row's totals have its cost. It returns what any metric returns, or a
record with a ``score`` and, if it likes, a ``feedback``.
"""


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
class _HotpotF1:
    field: str

    def __call__(self, example: Example, prediction: object) -> float:
        given = _text(prediction, self.field)
        return max((_hotpot_f1(answer, given) for answer in _answers(example, self.field)), default=0.0)


@dataclass(frozen=True, slots=True)
class _PassageMatch:
    field: str
    passages: str

    def __call__(self, example: Example, prediction: object) -> bool:
        texts = [normalize_text(_passage_text(each)) for each in value_of(prediction, self.passages)]
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


def hotpot_f1(field: str = "answer") -> Metric:
    """
    Return a metric: ``f1`` as HotPotQA counts it (Yang et al., 2018): ``yes``, ``no`` and ``noanswer`` match whole.

    An answer that is one of these three where the other is not scores 0, whatever words they share.
    """
    return _HotpotF1(field)


def answer_passage_match(field: str = "answer", passages: str = "passages") -> Metric:
    """Return a metric: whether one of the prediction's ``passages`` holds the example's ``field``, word for word."""
    return _PassageMatch(field, passages)


def check_metric(metric: object) -> None:
    """Raise ConfigError, before anything is paid for, for what cannot give a verdict."""
    if not callable(metric):
        raise ConfigError(f"metric={metric!r:.60} is not a function of (example, prediction); see dspex.exact_match")
    if isinstance(metric, type) and issubclass(metric, Module):
        raise ConfigError(f"{metric.__name__} is a class: give metric={metric.__name__}(...)")
    if inspect.isfunction(metric) and (metric.__module__ or "").startswith(
        "dspex.evaluation"
    ):  # metrics of ours are objects
        raise ConfigError(f"{metric.__name__} makes a metric: give metric={metric.__name__}()")
    if isinstance(metric, Module):
        spec = inputs_of(metric)
        if not spec.required <= {"example", "prediction"} or not (
            spec.takes_any or {"example", "prediction"} <= set(spec.names)
        ):
            name = type(metric).__name__
            raise ConfigError(f"the metric {name} is a program: its forward must take example and prediction")


_WHOLE = frozenset(("yes", "no", "noanswer"))


def _hotpot_f1(answer: str, given: str) -> float:
    wanted, found = normalize_text(answer), normalize_text(given)
    if wanted != found and (wanted in _WHOLE or found in _WHOLE):
        return 0.0
    return _token_f1(answer, given)


def _token_f1(answer: str, given: str) -> float:
    wanted, found = normalize_text(answer).split(), normalize_text(given).split()
    if not wanted or not found:
        return float(wanted == found)
    same = sum((Counter(wanted) & Counter(found)).values())
    return 2 * same / (len(wanted) + len(found))


def value_of(record: object, name: str) -> Any:  # a prediction is any record, mapping or plain value
    """Return a field of a record or mapping; a plain value is its own only field."""
    if isinstance(record, (str, bool, int, float, list)):
        return record
    if isinstance(record, Mapping):
        return record[name]
    return getattr(record, name)


def answers_of(example: Example, name: str) -> list[object]:
    """Return the acceptable answers of an example: those of a list, or the one there is."""
    value = example[name]
    return list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]


def _text(prediction: object, name: str) -> str:
    return prediction if isinstance(prediction, str) else _as_text(value_of(prediction, name))


def _answers(example: Example, name: str) -> list[str]:
    return [_as_text(each) for each in answers_of(example, name)]


def _as_text(value: object) -> str:
    return value if isinstance(value, str) else str(value)


def _passage_text(passage: object) -> str:
    title, text = getattr(passage, "title", ""), getattr(passage, "text", None)
    return _as_text(passage) if text is None else f"{title} {text}"
