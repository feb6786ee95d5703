"""Races: candidates on the same rows, block by block, until nobody is worth more rows."""

from __future__ import annotations

import math
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from dspex.evaluation import Row
from dspex.optimizers.candidate import Candidate
from dspex.optimizers.plans import Evaluation, Run
from dspex.protocols.money import Spending

__all__ = ["Raced", "Tally", "cheapest", "paid_rows", "paired", "race", "surely_worse", "worth_more_rows"]


GROWTH = 20
"""A block is at least this part of the rows that were run before: each look at the scores reads all of them."""

EFFECT = 0.1
"""The standard deviation of candidates' means before anything is seen, in those of a row's score."""

WORTH = 0.008
"""The gain, in standard deviations of a row, from which on it is worth running on: 0.4 points where half is right."""


@dataclass(frozen=True, slots=True)
class Tally:
    """
    The result of one candidate: scores by row, and the cost of its rows.

    Attributes:
        candidate: The candidate.
        scores: The score on each row by its number; failed rows are missing here and counted in ``failed``.
        failed: Rows that failed.
        spent: The cost of the rows together.
        paid: Rows that were paid for; the others' answers came from a cache. None for all of them.
    """

    candidate: Candidate
    scores: Mapping[int, float]
    failed: int = 0
    spent: Spending = Spending()  # noqa: RUF009 - a frozen value
    paid: int | None = None

    @classmethod
    def of(cls, candidate: Candidate, evaluations: Sequence[Evaluation]) -> Tally:
        """Count evaluations."""
        scores = {each.row: each.score for each in evaluations if each.score is not None}
        spent = sum((each.spent for each in evaluations), Spending())
        return cls(candidate, scores, len(evaluations) - len(scores), spent, paid_rows(evaluations))

    @property
    def rows(self) -> int:
        """Rows it was run on."""
        return len(self.scores) + self.failed

    @property
    def mean(self) -> float:
        """The mean score of the rows that have one; minus infinity without any."""
        return math.fsum(self.scores.values()) / len(self.scores) if self.scores else -math.inf

    @property
    def price(self) -> float | None:
        """The cost of a row that was paid for: dollars where they are known, else tokens; None without such a row."""
        paid = self.rows if self.paid is None else self.paid
        return float(self.spent.usd or self.spent.tokens) / paid if paid else None


def paid_rows(evaluations: Sequence[Evaluation]) -> int:
    """Return the number of rows that were paid for."""
    return sum(bool(each.spent.calls or each.spent.tokens) for each in evaluations)


@dataclass(frozen=True, slots=True)
class Raced:
    """The end of a race: every candidate's tally in the order they were given, and those that were never dropped."""

    tallies: tuple[Tally, ...]
    alive: tuple[int, ...]
    best: int

    @property
    def winner(self) -> Candidate:
        """The best candidate."""
        return self.tallies[self.best].candidate


def paired(better: Mapping[int, float], worse: Mapping[int, float]) -> list[float]:
    """Return the differences on the rows that both scored, in the rows' order."""
    return [better[row] - worse[row] for row in sorted(better.keys() & worse.keys())]


def surely_worse(leader: Mapping[int, float], other: Mapping[int, float], z: float) -> bool:
    """
    True when ``other`` trails the leader by more than ``z`` standard errors on the rows that both scored.

    The variance is at least 1/n, so that a few equal rows decide nothing.
    """
    differences = paired(leader, other)
    count = len(differences)
    if count < 2:
        return False
    mean = math.fsum(differences) / count
    variance = math.fsum((each - mean) ** 2 for each in differences) / (count - 1)
    return mean > z * math.sqrt(max(variance, 1 / count) / count)


def race(
    candidates: Sequence[Candidate],
    rows: Sequence[Row],
    *,
    keep: int = 1,
    worth: float = WORTH,
    first: int = 5,
    step: int = 5,
    on: bool = True,
) -> Generator[tuple[Run, ...], Any, Raced]:
    """
    Run candidates on the same rows in the same order, and drop after each block who is not worth more rows: a sub-plan.

    A candidate is worth more rows while it may overtake the leader by enough: while the gain to expect from taking it
    instead wherever it truly is better (the expected improvement of Jones et al., 1998) is ``worth`` or more. Who is
    surely worse goes, and so does who is surely as good, which a race by significance runs to the last row. Blocks
    and paired differences are after CAPO (Zehle et al., 2025, arXiv 2504.16005). Use it with ``yield from``.

    Args:
        candidates: The candidates.
        rows: On what, in this order.
        keep: The race ends when no more than so many are left.
        worth: In standard deviations of a row's score; 0 runs everybody on every row.
        first: Rows of the first block.
        step: Rows of each further block; from 100 rows on a block is a twentieth of what was run, so that a race over
            many rows has few of them.
        on: False runs every candidate on every row, as other libraries do.
    """
    evaluations: list[list[Evaluation]] = [[] for _ in candidates]
    alive = list(range(len(candidates)))
    at = 0
    while at < len(rows) and alive and (at == 0 or not on or len(alive) > keep):
        size = max(step, at // GROWTH) if at else first
        block = tuple(rows[at:] if not on else rows[at : at + size])
        at += len(block)
        answers = yield tuple(Run(candidates[each], block) for each in alive)
        for each, answer in zip(alive, answers, strict=True):
            evaluations[each] += answer
        if on:
            tallies = [Tally.of(candidates[each], evaluations[each]) for each in alive]
            alive = [alive[each] for each in worth_more_rows([each.scores for each in tallies], worth)]
    tallies = [Tally.of(each, found) for each, found in zip(candidates, evaluations, strict=True)]
    best = cheapest([tallies[each] for each in alive]) if on else _first_best([tallies[each] for each in alive])
    return Raced(tuple(tallies), tuple(alive), alive[best] if alive else 0)


def worth_more_rows(scores: Sequence[Mapping[int, float]], worth: float) -> list[int]:
    """
    Return the numbers of those that may overtake the leader by enough, the leader among them; see ``race``.

    The gain over the leader is normal: around 0 with a spread of ``EFFECT`` before anything is seen, then as the paired
    differences have it. Their variance is that of all pairs together, because a few rows of one pair say little of it;
    it is at least that of one row in n on which the two are as far apart as can be.

    Args:
        scores: Of each candidate, by row.
        worth: The gain that is enough, in standard deviations of a row's score.
    """
    means = [math.fsum(each.values()) / len(each) if each else -math.inf for each in scores]
    lead = max(range(len(means)), key=lambda each: (means[each], -each), default=0)
    pairs = {each: paired(scores[lead], scores[each]) for each in range(len(scores)) if each != lead and scores[each]}
    unit = _variance([value for each in scores for value in each.values()])
    away = {each: math.fsum(found) / len(found) for each, found in pairs.items() if found}
    squares = math.fsum((value - mean) ** 2 for each, mean in away.items() for value in pairs[each])
    degrees = sum(len(pairs[each]) - 1 for each in away)
    found = []
    for each in range(len(scores)):
        if each == lead and scores[each]:
            found.append(each)
        if each not in pairs:
            continue
        count = len(pairs[each])
        if count < 2 or unit == 0:  # nothing is known of it, or all scores are the same
            found.append(each)
            continue
        variance = max(squares / degrees, 4 * unit / count) / count
        seen = 2 * EFFECT**2 * unit / (2 * EFFECT**2 * unit + variance)  # how much of what was seen is believed
        if expected_gain(-seen * away[each], math.sqrt(seen * variance)) >= worth * math.sqrt(unit):
            found.append(each)
    return found


def expected_gain(mean: float, spread: float) -> float:
    """Return the mean of what is above 0 of a normal distribution, everything below counted as 0."""
    far = mean / spread
    density = math.exp(-far * far / 2) / math.sqrt(2 * math.pi)
    return spread * density + mean * 0.5 * math.erfc(-far / math.sqrt(2))


def _variance(values: Sequence[float]) -> float:
    mean = math.fsum(values) / len(values) if values else 0.0
    return math.fsum((each - mean) ** 2 for each in values) / len(values) if values else 0.0


def _first_best(tallies: Sequence[Tally]) -> int:
    return max(range(len(tallies)), key=lambda each: (tallies[each].mean, -each)) if tallies else 0


def cheapest(tallies: Sequence[Tally]) -> int:
    """
    Return the number of the best: the cheapest within one standard error of the leader, ties to the older one.

    The standard error is that of the paired difference, on the rows that both scored. Without a known price, because
    all of its answers came from a cache, the leader is the best, and nobody else is the cheapest.
    """
    if not tallies:
        return 0
    lead = _first_best(tallies)
    leader = tallies[lead]
    near = []
    for number, each in enumerate(tallies):
        differences = paired(leader.scores, each.scores)
        count = len(differences)
        if number == lead or (count > 1 and count == len(leader.scores) and _within(differences)):
            near.append(number)
    if leader.price is None:
        return lead
    priced = [(price, number) for number in near if (price := tallies[number].price) is not None]
    return min(priced, key=lambda each: (each[0], -tallies[each[1]].mean, each[1]))[1]


def _within(differences: Sequence[float]) -> bool:
    count = len(differences)
    mean = math.fsum(differences) / count
    variance = math.fsum((each - mean) ** 2 for each in differences) / (count - 1)
    return mean <= math.sqrt(variance / count)
