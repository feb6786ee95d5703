"""Metrics that ask a model: programs that read an answer and say how good it is, and why."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dspex.errors import ConfigError, EvaluationError
from dspex.evaluation.intervals import Interval, wilson
from dspex.evaluation.metrics import Metric, Score, value_of
from dspex.evaluation.report import Report
from dspex.programs import (
    ChainOfThought,
    Example,
    InputField,
    Module,
    OutputField,
    Parallel,
    Signature,
    details,
    to_plain,
)
from dspex.protocols.executor import Failed
from dspex.protocols.model import LMChoice

__all__ = [
    "Agreement",
    "CompareAnswers",
    "CompleteAndGrounded",
    "Judge",
    "PairJudge",
    "Preference",
    "SemanticF1",
    "agreement",
    "agrees",
    "preferred",
    "shown",
]

LONGEST = 20_000
"""Characters of one value that a judge is shown."""


class CompareMeaning(Signature):
    """
    Compare an answer with a reference answer by what they say, not by their words.

    Recall is the share of the reference that the answer covers; precision the share of the answer that the reference
    supports. Both are from 0 to 1.
    """

    question: str = InputField()
    reference: str = InputField()
    answer: str = InputField()
    recall: float = OutputField(ge=0, le=1)
    precision: float = OutputField(ge=0, le=1)


class CompareIdeas(Signature):
    """
    Compare an answer with a reference answer, idea by idea.

    List the key ideas of both, say how they overlap, then give the share of the reference's ideas that the answer
    covers (recall) and the share of the answer's ideas that the reference supports (precision), from 0 to 1.
    """

    question: str = InputField()
    reference: str = InputField()
    answer: str = InputField()
    reference_ideas: list[str] = OutputField(desc="key ideas of the reference")
    answer_ideas: list[str] = OutputField(desc="key ideas of the answer")
    recall: float = OutputField(ge=0, le=1)
    precision: float = OutputField(ge=0, le=1)


class MeasureCompleteness(Signature):
    """
    Say how much of a reference answer an answer covers, idea by idea, as a share from 0 to 1.

    Ideas that the answer has beyond the reference do not matter here.
    """

    question: str = InputField()
    reference: str = InputField()
    answer: str = InputField()
    reference_ideas: list[str] = OutputField(desc="key ideas of the reference")
    completeness: float = OutputField(ge=0, le=1)


class MeasureGrounding(Signature):
    """
    Say how much of an answer the context supports, claim by claim, as a share from 0 to 1.

    Common knowledge needs no support. A claim that the context neither says nor implies is not supported.
    """

    question: str = InputField()
    context: str = InputField()
    answer: str = InputField()
    claims: list[str] = OutputField(desc="claims of the answer that are more than common knowledge")
    groundedness: float = OutputField(ge=0, le=1)


class ApplyRubric(Signature):
    """
    Judge an answer by the rubric alone.

    Say first what speaks for it and against it, then give the mark. Length and style count only where the rubric says
    so.
    """

    rubric: str = InputField()
    example: str = InputField(desc="the task as JSON; it may hold a reference answer")
    answer: str = InputField(desc="the answer as JSON")
    mark: int = OutputField()


class CompareAnswers(Signature):
    """
    Compare two answers to one task by the rubric alone, and say which is better.

    Their order means nothing. Length and style count only where the rubric says so.
    """

    rubric: str = InputField()
    example: str = InputField(desc="the task as JSON; it may hold a reference answer")
    first: str = InputField(desc="one answer as JSON")
    second: str = InputField(desc="the other answer as JSON")
    reason: str = OutputField(desc="what makes the better one better, and what the worse one lacks")
    better: Literal["first", "second", "tie"] = OutputField()


class SemanticF1(Module):
    """
    A metric: the harmonic mean of what an answer covers of the reference, and of what the reference supports of it.

    After DSPy's metric of the same name. The feedback is the model's reasoning; ``parts`` has ``precision`` and
    ``recall``. An optimizer's ``threshold=`` says from which score on a row is good enough.

    Args:
        field: The field that holds the answer, in the prediction and in the example.
        question: The field of the example that holds the question.
        decompositional: True has the model list the key ideas of both first.
        lm: The model that judges; None is the App's default.
    """

    def __init__(
        self, field: str = "answer", question: str = "question", *, decompositional: bool = False, lm: LMChoice = None
    ) -> None:
        self.field = field
        self.question = question
        self.compare = ChainOfThought[Any, ...](CompareIdeas if decompositional else CompareMeaning, lm=lm)

    async def forward(self, example: Example, prediction: object) -> Score:
        """Return the score; raises and is cancelled as a call to a model."""
        judged = await self.compare(
            question=shown(example[self.question]),
            reference=shown(example[self.field]),
            answer=shown(value_of(prediction, self.field)),
        )
        recall, precision = judged.recall, judged.precision
        told = f"it covers {recall:.0%} of the reference, which supports {precision:.0%} of it. {_thoughts(judged)}"
        return Score(_harmonic(recall, precision), told.strip(), {"recall": recall, "precision": precision})


class CompleteAndGrounded(Module):
    """
    A metric: the harmonic mean of how much of the reference an answer covers, and how much of it the context supports.

    After DSPy's metric of the same name. The two questions are asked at the same time. ``parts`` has ``completeness``
    and ``groundedness``.

    Args:
        field: The field that holds the answer, in the prediction and in the example.
        question: The field of the example that holds the question.
        context: The field of the prediction that holds the passages.
        lm: The model that judges; None is the App's default.
    """

    def __init__(
        self, field: str = "answer", question: str = "question", context: str = "context", *, lm: LMChoice = None
    ) -> None:
        self.field = field
        self.question = question
        self.context = context
        self.completeness = ChainOfThought(MeasureCompleteness, lm=lm)
        self.grounding = ChainOfThought(MeasureGrounding, lm=lm)
        self.both = Parallel(2)

    async def forward(self, example: Example, prediction: object) -> Score:
        """Return the score; raises and is cancelled as a call to a model."""
        question = shown(example[self.question])
        answer = shown(value_of(prediction, self.field))
        reference, context = shown(example[self.field]), shown(value_of(prediction, self.context))
        outcomes = await self.both(
            [
                (self.completeness, {"question": question, "reference": reference, "answer": answer}),
                (self.grounding, {"question": question, "context": context, "answer": answer}),
            ]
        )
        found = []
        for each in outcomes:
            if isinstance(each, Failed):
                raise each.reason
            found.append(each.value)
        complete, grounded = found[0].completeness, found[1].groundedness
        told = f"it covers {complete:.0%} of the reference; the context supports {grounded:.0%} of it."
        words = " ".join(filter(None, (told, *map(_thoughts, found))))
        return Score(_harmonic(complete, grounded), words, {"completeness": complete, "groundedness": grounded})


class Judge(Module):
    """
    A metric: a model gives each answer a mark by your rubric, and says why.

    A mark of ``highest`` is 1.0 and one of ``lowest`` 0.0. A mark outside is asked for again, then an error of the row,
    never the nearest mark. Measure how far the judge agrees with people before you believe it: see ``agreement``.

    Args:
        rubric: The rules of the judgement, in words.
        lowest: The worst mark.
        highest: The best mark.
        lm: The model that judges; None is the App's default. Take another than the one that answers: models prefer
            their own words.

    Raises:
        ConfigError: The rubric is empty, or the marks are not two different numbers in order.
    """

    def __init__(self, rubric: str, *, lowest: int = 1, highest: int = 5, lm: LMChoice = None) -> None:
        if not rubric.strip() or not lowest < highest:
            raise ConfigError("a judge needs a rubric, and lowest= below highest=")
        self.rubric = rubric
        self.lowest = lowest
        self.highest = highest
        marks = f"a whole number from {lowest} (worst) to {highest} (best)"
        self.judge = ChainOfThought(ApplyRubric.with_updated_fields("mark", desc=marks, ge=lowest, le=highest), lm=lm)

    async def forward(self, example: Example, prediction: object) -> Score:
        """Return the mark as a score from 0 to 1; raises and is cancelled as a call to a model."""
        judged = await self.judge(rubric=self.rubric, example=shown(example), answer=shown(prediction))
        return Score((judged.mark - self.lowest) / (self.highest - self.lowest), _thoughts(judged))


@dataclass(frozen=True, slots=True)
class Preference:
    """
    A judgement of two answers.

    Attributes:
        better: ``first``, ``second`` or ``tie``.
        reason: Why, in words.
        consistent: False when the judge changed its mind with the order of the answers; ``better`` is then ``tie``.
    """

    better: Literal["first", "second", "tie"]
    reason: str = ""
    consistent: bool = True


class PairJudge(Module):
    """
    A judge of two answers to one task: asked in both orders, because models prefer a place.

    A verdict that changes with the order is a tie, and ``consistent`` is False. For the bias, see Zheng et al. (2023),
    arXiv 2306.05685.

    Args:
        rubric: The rules of the judgement, in words.
        lm: The model that judges; None is the App's default.

    Raises:
        ConfigError: The rubric is empty.
    """

    def __init__(self, rubric: str, *, lm: LMChoice = None) -> None:
        if not rubric.strip():
            raise ConfigError("a judge needs a rubric")
        self.rubric = rubric
        self.compare = ChainOfThought(CompareAnswers, lm=lm)
        self.both = Parallel(2)

    async def forward(self, example: Example, first: object, second: object) -> Preference:
        """Return the better of two answers; raises and is cancelled as a call to a model."""
        task, one, two = shown(example), shown(first), shown(second)
        outcomes = await self.both(
            [
                (self.compare, {"rubric": self.rubric, "example": task, "first": one, "second": two}),
                (self.compare, {"rubric": self.rubric, "example": task, "first": two, "second": one}),
            ]
        )
        found = []
        for each in outcomes:
            if isinstance(each, Failed):
                raise each.reason
            found.append(each.value)
        return preferred(found[0].better, found[0].reason, found[1].better)


_SWAPPED: dict[str, Literal["first", "second", "tie"]] = {"first": "second", "second": "first", "tie": "tie"}


def preferred(better: str, reason: str, swapped: str) -> Preference:
    """Return what two verdicts say together; ``swapped`` is the one on the answers in the other order."""
    if better in _SWAPPED and _SWAPPED.get(swapped) == better:
        return Preference(_SWAPPED[swapped], reason)
    return Preference("tie", reason, consistent=False)


# --- does the judge agree with people? ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Agreement:
    """
    How far a judge agrees with labels; ``print`` it.

    Attributes:
        share: The share of rows where both say the same.
        interval: 95 % confidence for the share.
        kappa: Cohen's kappa: 0 is what chance alone would give, 1 is perfect. 0 where either always says the same.
        rows: Rows that have both.
        failed: Rows that the judge failed on.
        said: How often each pair of (judge, label) came.
    """

    share: float
    interval: Interval
    kappa: float
    rows: int
    failed: int
    said: Sequence[tuple[object, object, int]]

    def __str__(self) -> str:
        failed = f", {self.failed} rows failed" if self.failed else ""
        head = f"agrees on {self.share:.3f} (95 % {self.interval}) of {self.rows} rows, kappa {self.kappa:.2f}{failed}"
        return "\n".join([head, *(f"  judge {judge}, label {label}: {count}" for judge, label, count in self.said)])


@dataclass(frozen=True, slots=True)
class _Agrees:
    label: str
    threshold: float

    def __call__(self, example: Example, verdict: object) -> bool:
        return _class_of(verdict, self.threshold) == _class_of(example[self.label], self.threshold)


def agrees(label: str = "label", *, threshold: float = 0.5) -> Metric:
    """
    Return a metric for judges: whether the judge's verdict is the row's label.

    Evaluate the judge on rows that people have labelled; the rows have the judge's inputs and the label::

        report = await app.evaluate(judge, labelled, agrees("label"))
        print(agreement(report, "label"))

    Args:
        label: The field of the rows: a bool, a number, or ``first``, ``second`` or ``tie``.
        threshold: Scores and numeric labels from here on count as good.
    """
    return _Agrees(label, threshold)


def agreement(report: Report, label: str = "label", *, threshold: float = 0.5) -> Agreement:
    """
    Return how far a judge agrees with the labels of the rows that it was evaluated on.

    Args:
        report: Of ``app.evaluate(judge, labelled, agrees(label))``.
        label: The field of the rows that holds the label.
        threshold: As for ``agrees``.

    Raises:
        EvaluationError: Not one row was judged.
    """
    pairs = [(_class_of(each.value, threshold), _class_of(each.row[label], threshold)) for each in report.scored]
    count = len(pairs)
    if not count:
        raise EvaluationError("the judge has judged no row", report)
    same = sum(one == two for one, two in pairs)
    judges, labels = Counter(one for one, _ in pairs), Counter(two for _, two in pairs)
    expected = math.fsum(judges[each] * labels[each] for each in judges) / count**2
    kappa = (same / count - expected) / (1 - expected) if expected < 1 else 0.0
    said = sorted(((one, two, times) for (one, two), times in Counter(pairs).items()), key=lambda each: -each[2])
    return Agreement(same / count, wilson(same, count), kappa, count, len(report.failed), tuple(said))


def _class_of(value: object, threshold: float) -> object:
    if isinstance(value, Preference):
        return value.better
    number = value.value if isinstance(value, Score) else value
    if isinstance(number, (bool, int, float)):
        return "good" if number >= threshold else "bad"
    return number


# --- what judges are shown ----------------------------------------------------------------------------------


def shown(value: object) -> str:
    """Return a value as a judge reads it: texts as they are, records as JSON; what is too long is cut, and says so."""
    plain = value if isinstance(value, str) else to_plain(dict(value) if isinstance(value, Example) else value)
    text = plain if isinstance(plain, str) else json.dumps(plain, ensure_ascii=False, default=str)
    return text if len(text) <= LONGEST else f"{text[:LONGEST]}… ({len(text)} characters)"


def _thoughts(judged: Signature) -> str:
    thoughts = details(judged).reasoning
    return thoughts.strip() if isinstance(thoughts, str) else ""


def _harmonic(one: float, two: float) -> float:
    return 2 * one * two / (one + two) if one + two else 0.0
