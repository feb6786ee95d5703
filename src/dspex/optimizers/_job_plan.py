"""The plan of a whole job, itself an algorithm with one plan: measure the noise, search, and judge on held-out rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspex.errors import BudgetExceeded
from dspex.optimizers._allowance import times
from dspex.optimizers.candidate import Candidate
from dspex.optimizers.plans import DONE, Algorithm, Evaluation, Plan, Run, Search, Signal, Task
from dspex.optimizers.split import Split
from dspex.optimizers.verdict import Noise, Unmeasured, Verdict, judge, measure_noise
from dspex.protocols.money import Budget, Spending

if TYPE_CHECKING:
    import random

__all__ = ["SEARCH", "JobPlan", "Outcome"]

NOISE_ROWS = 30
"""Rows on which the student is run twice before anything else."""

FEWEST_NOISE_ROWS = 10

SEARCH = "0/2"
"""The name of the job's search."""

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

    def absorb(self, state: Outcome | None, k: int, result: Any) -> Outcome | None:
        """Return the outcome."""
        found: Outcome = result
        return found

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
        found = yield Search(self.algorithm, seed=self.seed, limit=self._left(paid, price), price=price)
        if found.problem is not None:
            raise found.problem
        summary = self.algorithm.summary(found.state)
        verdict: Verdict
        if metric is None or not hold:
            why = "the optimizer has no metric" if metric is None else self.split.missing
            return Outcome(found.candidate, found.candidate, Unmeasured(why), noise, found.plans, summary)
        try:
            before, after = yield (Run(student, hold), Run(found.candidate, hold))
        except BudgetExceeded as error:
            why = f"the budget ended before the held-out rows were run: {error}"
            return Outcome(found.candidate, found.candidate, Unmeasured(why), noise, found.plans, summary)
        verdict = judge(before, after, same=found.candidate == student, sure=self.sure)
        keeps = verdict.kind in ("better", "unmeasured")
        chosen = found.candidate if keeps else student
        return Outcome(chosen, found.candidate, verdict, noise, found.plans, summary)

    def _sample(self) -> tuple[Any, ...]:
        """Return the rows for measuring the noise: only where there is a verdict to be had."""
        rows = self.split.choose if self.algorithm.chooses else self.split.learn
        enough = self.algorithm.metric is not None and self.split.hold and len(rows) >= FEWEST_NOISE_ROWS
        count = NOISE_ROWS
        if self.limit is not None and self.limit.calls is not None:
            count = min(count, self.limit.calls // 20)  # two runs take a tenth of a small budget, not all of it
        return rows[:count] if enough and count >= FEWEST_NOISE_ROWS else ()

    def _left(self, paid: Spending, price: Spending) -> Budget | None:
        """Return what the search may spend: the verdict's rows are set aside."""
        if self.limit is None:
            return None
        rows = 2 * len(self.split.hold)
        aside = times(price, rows)
        usd, tokens = self.limit.usd, self.limit.tokens
        calls = self.limit.calls
        scale = type(aside.usd)(str(SAFETY))
        return Budget(
            usd=None if usd is None else max(type(usd)(0), usd - paid.usd - aside.usd * scale),
            tokens=None if tokens is None else max(0, tokens - paid.tokens - int(aside.tokens * SAFETY)),
            calls=None if calls is None else max(0, calls - paid.calls - aside.calls),
        )


def _mean(runs: Sequence[Evaluation]) -> Spending:
    """Return what a row costs, rounded up: set aside, it must never be too little by a fraction."""
    whole = sum((each.spent for each in runs), Spending())
    count = len(runs)
    return Spending(whole.usd / count, -(-whole.tokens // count), -(-whole.calls // count), 0)
