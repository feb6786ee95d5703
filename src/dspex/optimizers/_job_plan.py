"""The plan of a whole job, itself an algorithm with one plan: measure the noise, search, and judge on held-out rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dspex.errors import BudgetExceeded
from dspex.evaluation import Row
from dspex.optimizers._allowance import times
from dspex.optimizers._lane import WRITING
from dspex.optimizers.candidate import Candidate
from dspex.optimizers.plans import DONE, Algorithm, Evaluation, Plan, Run, Search, Signal, Task
from dspex.optimizers.split import Split
from dspex.optimizers.verdict import Better, Noise, NotShownBetter, Unmeasured, Verdict, averaged, judge, measure_noise
from dspex.protocols.money import Budget, Spending

if TYPE_CHECKING:
    import random

__all__ = ["SEARCH", "JobPlan", "Outcome"]

NOISE_ROWS = 30
"""Rows on which the student is run twice before anything else."""

FEWEST_NOISE_ROWS = 10

SEARCH = "0/2"
"""The name of the job's search."""

MORE_LOOKS = 3
"""Further looks at the held-out rows, at most, while the candidate seems better but not surely so."""

SURELY = 0.1
"""Below this p no further look is taken."""

SHARE_OF_LOOKS = 5
"""A fifth of a job's budget at most is set aside for further looks."""

SAFETY = 1.25
"""Rows of the verdict are expected to cost so much more than those of the student: demonstrations make them longer."""


@dataclass(frozen=True)
class Outcome:
    """The result of a job: the candidate that is handed out, the one that the search found, and the verdict."""

    candidate: Candidate
    found: Candidate
    verdict: Verdict
    noise: Noise | None
    plans: int
    summary: Sequence[Mapping[str, object]] = ()
    """The candidates of the search, for people to read."""


@dataclass(frozen=True)
class JobPlan(Algorithm[Outcome | None]):
    """
    One job as an algorithm of one plan.

    Args:
        algorithm: The algorithm.
        split: The rows; only here are those held out.
        sure: As ``judge`` has it.
        limit: The budget of the whole job.
        seed: The job's; the search has the same.
    """

    algorithm: Algorithm
    split: Split
    sure: float = 0.0
    limit: Budget | None = None
    seed: int = 0
    width: int = 1

    def begin(self, task: Task) -> Outcome | None:
        """Return nothing yet."""
        return None

    def plan(self, state: Outcome | None, k: int, chance: random.Random) -> Plan | Signal:
        """Return the one plan."""
        return DONE if k else self._whole()

    def absorb(self, state: Outcome | None, k: int, result: Outcome | None) -> Outcome | None:
        """Return the outcome."""
        return result

    def best(self, state: Outcome | None) -> Candidate:
        """Return what is handed out."""
        return state.candidate if state is not None else Candidate()

    def _whole(self) -> Plan:
        hold, metric = self.split.hold, self.algorithm.metric
        student = Candidate()
        sample = self._sample()
        noise, price, paid = None, Spending(calls=1), Spending()  # a row is a call at least
        # Without rows these two are answered at once: the search is always ask 2, and has the same name.
        first, second = yield (Run(student, sample), Run(student, sample, rollout=1))
        runs = (*first, *second)
        if runs:
            noise = measure_noise(first, second, len(hold))
            paid = sum((each.spent for each in runs), Spending())
            price = _mean(runs)
        looks = self._looks(noise, price)
        limit = self._left(paid, price, looks)
        found = yield Search(self.algorithm, seed=self.seed, limit=limit, price=price)
        if found.problem is not None:
            raise found.problem
        summary = self.algorithm.summary(found.state)
        verdict: Verdict
        compares = metric is None and bool(self.algorithm.comparisons)
        if (metric is None and not compares) or not hold:
            why = "the optimizer has no metric" if metric is None else self.split.missing
            return Outcome(found.candidate, found.candidate, Unmeasured(why), noise, found.plans, summary)
        try:
            pair = [Run(each, hold, trace=compares, scored=not compares) for each in (student, found.candidate)]
            before, after = yield tuple(pair)
            if compares:
                before, after = yield from self._compared(before, after, same=found.candidate == student)
        except BudgetExceeded as error:
            why = f"the budget ended before the held-out rows were run: {error}"
            return Outcome(found.candidate, found.candidate, Unmeasured(why), noise, found.plans, summary)
        verdict = judge(before, after, same=found.candidate == student, sure=self.sure)
        seen = 1
        taken: tuple[list[Sequence[Evaluation]], ...] = ([before], [after])
        while seen <= looks and found.candidate != student and _open(verdict):
            pair = [Run(each, hold, rollout=seen) for each in (student, found.candidate)]
            try:
                answers = yield tuple(pair)
            except BudgetExceeded:
                break  # the looks that were taken say what they say
            for so_far, more in zip(taken, answers, strict=True):
                so_far.append(more)
            seen += 1
            verdict = judge(*map(averaged, taken), same=False, sure=self.sure, times=seen)
        keeps = verdict.kind in ("better", "unmeasured")
        chosen = found.candidate if keeps else student
        return Outcome(chosen, found.candidate, verdict, noise, found.plans, summary)

    def _compared(self, before: Sequence[Evaluation], after: Sequence[Evaluation], *, same: bool) -> Plan:
        """Return two runs with the scores of a comparison: 0 for the student, 1, 0 or -1 for the candidate."""
        made = None if same else self.algorithm.compare(self.split.hold, before, after)
        said = [0.0] * len(before) if made is None else (yield from made)
        first, second = [], []
        for one, two, point in zip(before, after, said, strict=True):
            # A row that one side failed on is that side's failure; one that the judge failed on is nobody's.
            unsaid = point is None and one.score is not None and two.score is not None
            first.append(replace(one, score=None if one.score is None or unsaid else 0.0))
            second.append(replace(two, score=None if two.score is None or unsaid else point or 0.0))
        return first, second

    def _sample(self) -> tuple[Row, ...]:
        """Return the rows for measuring the noise: only where there is a verdict to be had."""
        rows = self.split.choose if self.algorithm.chooses else self.split.learn
        enough = self.algorithm.metric is not None and self.split.hold and len(rows) >= FEWEST_NOISE_ROWS
        count = NOISE_ROWS
        if self.limit is not None and self.limit.calls is not None:
            count = min(count, self.limit.calls // 20)  # two runs take a tenth of a small budget, not all of it
        return rows[:count] if enough and count >= FEWEST_NOISE_ROWS else ()

    def _looks(self, noise: Noise | None, price: Spending) -> int:
        """
        Return how many further looks at the held-out rows the job can have.

        None where answers do not move by themselves, for there they would be the same; with a budget only so many as a
        part of it pays.
        """
        if noise is None or not noise.moved or self.algorithm.metric is None:
            return 0
        looks = MORE_LOOKS
        if self.limit is None:
            return looks
        look = times(price, 2 * len(self.split.hold))
        pairs = ((self.limit.usd, look.usd), (self.limit.tokens, look.tokens), (self.limit.calls, look.calls))
        for limit, cost in pairs:
            if limit is not None and cost:
                looks = min(looks, int(float(limit) / SHARE_OF_LOOKS / float(cost)))
        return looks

    def _left(self, paid: Spending, price: Spending, looks: int) -> Budget | None:
        """Return what the search may spend: the verdict's rows are set aside."""
        if self.limit is None:
            return None
        rows = 2 * len(self.split.hold) * (1 + looks)
        if self.algorithm.metric is None:  # comparisons cost as much as whatever else is written
            rows += WRITING * self.algorithm.comparisons * len(self.split.hold)
        aside = times(price, rows)
        usd, tokens = self.limit.usd, self.limit.tokens
        calls = self.limit.calls
        scale = type(aside.usd)(str(SAFETY))
        return Budget(
            usd=None if usd is None else max(type(usd)(0), usd - paid.usd - aside.usd * scale),
            tokens=None if tokens is None else max(0, tokens - paid.tokens - int(aside.tokens * SAFETY)),
            calls=None if calls is None else max(0, calls - paid.calls - aside.calls),
        )


def _open(verdict: Verdict) -> bool:
    """True when another look may change what is handed out: it seems better, but not surely."""
    return isinstance(verdict, (Better, NotShownBetter)) and verdict.by > 0 and verdict.p >= SURELY


def _mean(runs: Sequence[Evaluation]) -> Spending:
    """Return what a row costs, rounded up: set aside, it must never be too little by a fraction."""
    whole = sum((each.spent for each in runs), Spending())
    count = len(runs)
    return Spending(whole.usd / count, -(-whole.tokens // count), -(-whole.calls // count), 0)
