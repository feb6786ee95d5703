"""True when a search helped: paired statistics on rows that no algorithm has read. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, ClassVar

from dspex.evaluation import Interval
from dspex.evaluation.intervals import paired_p_value, signed, t_interval
from dspex.optimizers.plans import Evaluation, chance
from dspex.protocols.json_values import Json

__all__ = [
    "Better",
    "NoHeadroom",
    "Noise",
    "NotShownBetter",
    "Unmeasured",
    "Verdict",
    "Worse",
    "averaged",
    "judge",
    "measure_noise",
]

RESAMPLES = 1000
"""Of the bootstrap interval; from so many pairs on, Student's interval is as good."""

GOOD = 0.8
"""The least mean of a student that is said to leave no headroom; below it, the rows are too few."""

TOO_MANY = 0.05
"""Rows that the candidate fails on beyond those of the student, as a share: more make it worse, whatever it scores."""


@dataclass(frozen=True, slots=True)
class Noise:
    """
    The noise of a score: the student run twice on the same rows.

    Attributes:
        rows: The number of rows.
        score: The student's mean.
        spread: The standard deviation of one row's difference between two runs.
        detectable: The smallest gain that the held-out rows can show at all, with 80 % power at p < 0.05; candidates
            that differ from the student on many rows need a larger one.
        price: Dollars a row, where known.
        tokens: Tokens a row.
        moved: The number of rows whose score was not the same in both runs.
    """

    rows: int
    score: float
    spread: float
    detectable: float
    price: str
    tokens: float
    moved: int = 0


@dataclass(frozen=True, slots=True)
class _Measured:
    kind: ClassVar[str]
    by: float
    interval: Interval
    p: float
    shrunken: float
    pairs: int
    failed: int
    before: float
    after: float
    times: int = 1


@dataclass(frozen=True, slots=True)
class Better(_Measured):
    """
    The candidate is better on the held-out rows, and is handed out.

    Its text opens with ``shrunken``: who won by ``by`` has won by luck, too.

    Attributes:
        by: The mean gain, row by row.
        interval: 95 % confidence for the gain, by the bootstrap.
        p: The probability that chance alone would make so large a difference.
        shrunken: The gain to expect, after the noise is taken off.
        pairs: Rows that both scored.
        failed: Rows that one of them failed on; they are excluded.
        before: The student's mean on the pairs.
        after: The candidate's.
        times: How many times both were run on the rows; a row counts with its mean.
    """

    kind: ClassVar[str] = "better"

    def __str__(self) -> str:
        return f"better by about {signed(self.shrunken)}; seen: {_told(self)}"


@dataclass(frozen=True, slots=True)
class NotShownBetter(_Measured):
    """The held-out rows do not show that the candidate is better; the student is handed out. Fields as ``Better``."""

    kind: ClassVar[str] = "not shown better"
    why: str = ""

    def __str__(self) -> str:
        return f"not shown better: {_told(self)}{f' ({self.why})' if self.why else ''}; the student is handed out"


@dataclass(frozen=True, slots=True)
class NoHeadroom(_Measured):
    """The student is so good that the held-out rows cannot show a gain; it is handed out. Fields as ``Better``."""

    kind: ClassVar[str] = "no headroom"

    def __str__(self) -> str:
        return f"no headroom: the student scores {self.before:.3f} on {self.pairs} held-out rows, and is handed out"


@dataclass(frozen=True, slots=True)
class Worse(_Measured):
    """The candidate is worse on the held-out rows; the student is handed out. Fields as ``Better``."""

    kind: ClassVar[str] = "worse"
    why: str = ""

    def __str__(self) -> str:
        return f"worse by {_told(self)}{f' ({self.why})' if self.why else ''}; the student is handed out"


@dataclass(frozen=True, slots=True)
class Unmeasured:
    """Nothing was held out, so nobody knows whether the candidate is better; it is handed out. ``why`` says more."""

    kind: ClassVar[str] = "unmeasured"
    why: str

    def __str__(self) -> str:
        return f"not measured: {self.why}"


Verdict = Better | NotShownBetter | NoHeadroom | Worse | Unmeasured

_KINDS: Mapping[str, Callable[..., Verdict]] = {
    each.kind: each for each in (Better, NotShownBetter, NoHeadroom, Worse, Unmeasured)
}


def plain_verdict(verdict: Verdict) -> dict[str, object]:
    """Return a verdict as JSON values."""
    return {"kind": verdict.kind, **asdict(verdict)}


def verdict_of(data: Json) -> Verdict:
    """Return the verdict that ``plain_verdict`` wrote."""
    values = {name: value for name, value in data.items() if name != "kind"}
    if "interval" in values:
        values["interval"] = Interval(*values["interval"])
    return _KINDS[data["kind"]](**values)


def judge(
    student: Sequence[Evaluation],
    candidate: Sequence[Evaluation],
    *,
    same: bool,
    sure: float = 0.0,
    seed: int = 0,
    times: int = 1,
) -> Verdict:
    """
    Return the verdict on two evaluations of the same held-out rows.

    Args:
        student: Of the program that was given.
        candidate: Of the best that was found.
        same: True when the two are the same program.
        sure: 0 hands the candidate out when its mean is better; 0.9 demands p < 0.1 as well, and so on.
        seed: Of the bootstrap.
        times: How many runs the evaluations are the means of.
    """
    before = {each.row: each.score for each in student if each.score is not None}
    after = {each.row: each.score for each in candidate if each.score is not None}
    both = sorted(before.keys() & after.keys())
    if not both:
        return Unmeasured("not one held-out row was scored with both programs")
    moved = [after[row] - before[row] for row in both]
    count = len(moved)
    mean = math.fsum(moved) / count
    error = _error(moved)
    shrunken = mean * max(0.0, 1 - (error / mean) ** 2) if mean else 0.0
    values: dict[str, Any] = {
        "by": mean,
        "interval": interval_of(moved, seed),
        "p": paired_p_value(moved),
        "shrunken": shrunken,
        "pairs": count,
        "failed": len(student) - count,
        "before": math.fsum(before[row] for row in both) / count,
        "after": math.fsum(after[row] for row in both) / count,
        "times": times,
    }
    broken = len(before) - len(after)
    if broken > max(2, TOO_MANY * len(student)):
        return Worse(
            **values, why=f"it fails on {len(student) - len(after)} rows, the student on {len(student) - len(before)}"
        )
    if mean > 0 and (not sure or values["p"] < 1 - sure):
        return Better(**values)
    if mean < 0 and values["p"] < 0.1:
        return Worse(**values)
    if mean <= 0 and values["before"] >= GOOD and _full(before, both):
        return NoHeadroom(**values)
    why = f"sure={sure:g} demands p < {1 - sure:.2g}" if mean > 0 else "the search found nothing else" if same else ""
    return NotShownBetter(**values, why=why)


def averaged(runs: Sequence[Sequence[Evaluation]]) -> tuple[Evaluation, ...]:
    """Return several runs of the same rows as one: each row with the mean of the scores that it has."""
    found = []
    for row in zip(*runs, strict=True):
        scores = [each.score for each in row if each.score is not None]
        found.append(replace(row[0], score=math.fsum(scores) / len(scores) if scores else None))
    return tuple(found)


def _full(before: Mapping[int, float], rows: Sequence[int]) -> bool:
    """True when even a perfect program (score 1) would not be told from the student."""
    moved = [1.0 - before[row] for row in rows]
    return min(moved) >= 0 and paired_p_value(moved) >= 0.05


def measure_noise(first: Sequence[Evaluation], second: Sequence[Evaluation], held: int) -> Noise | None:
    """Return how much the student's score moves by itself; None when fewer than two rows were scored twice."""
    one = {each.row: each.score for each in first if each.score is not None}
    two = {each.row: each.score for each in second if each.score is not None}
    moved = [two[row] - one[row] for row in sorted(one.keys() & two.keys())]
    if len(moved) < 2:
        return None
    spread = max(_error(moved) * math.sqrt(len(moved)), math.sqrt(1 / len(moved)))
    runs = [*first, *second]
    dollars = sum(each.spent.usd for each in runs) / len(runs)
    tokens = sum(each.spent.tokens for each in runs) / len(runs)
    score = math.fsum(one.values()) / len(one)
    detectable = (1.960 + 0.842) * spread / math.sqrt(held) if held else math.inf
    return Noise(len(moved), score, spread, detectable, f"{dollars:.6f}", tokens, sum(map(bool, moved)))


def interval_of(moved: Sequence[float], seed: int) -> Interval:
    """Return 95 % confidence for the mean of paired differences: by the bootstrap, or Student's for many pairs."""
    count = len(moved)
    if count < 2 or count >= RESAMPLES:
        return t_interval(moved)
    source = chance("bootstrap", seed)
    means = sorted(math.fsum(source.choices(moved, k=count)) / count for _ in range(RESAMPLES))
    return Interval(means[int(0.025 * RESAMPLES)], means[int(0.975 * RESAMPLES) - 1])


def _error(values: Sequence[float]) -> float:
    count = len(values)
    if count < 2:
        return math.inf
    mean = math.fsum(values) / count
    return math.sqrt(math.fsum((each - mean) ** 2 for each in values) / (count - 1) / count)


def _told(each: _Measured) -> str:
    failed = f", {each.failed} rows failed" if each.failed else ""
    return (
        f"{signed(each.by)} (95 % {signed(each.interval.low)} to {signed(each.interval.high)}, p = {each.p:.3g}) "
        f"on {each.pairs} held-out rows{f', {each.times} times' if each.times > 1 else ''}{failed}"
    )
