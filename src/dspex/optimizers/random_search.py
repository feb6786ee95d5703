"""Many bootstraps over shuffled rows, and the best of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from dspex._random import generator
from dspex.errors import ConfigError, NoCandidate
from dspex.evaluation import Metric, check_metric
from dspex.optimizers.bootstrap import TEACHER, BootstrapFewShot
from dspex.optimizers.candidate import Candidate
from dspex.optimizers.labeled import labeled
from dspex.optimizers.plans import DONE, WAIT, Algorithm, Found, Plan, Run, Search, Signal, Task
from dspex.optimizers.race import Raced, Tally, race
from dspex.programs import Module

if TYPE_CHECKING:
    import random

__all__ = ["BootstrapFewShotWithRandomSearch", "Contest", "told"]

SPECIAL = 3
"""Candidates that come before the shuffled ones: no demonstrations, labelled rows, and rows in their order."""


@dataclass(frozen=True)
class Contest:
    """
    Candidates and how they did.

    Attributes:
        task: The predictors they are for.
        candidates: By plan; None for one whose plan failed.
        tallies: The results of those that were run.
        winner: The best of them, once that is decided.
    """

    task: Task
    candidates: tuple[Candidate | None, ...] = ()
    tallies: tuple[Tally, ...] = ()
    winner: Candidate | None = None


@dataclass(frozen=True)
class BootstrapFewShotWithRandomSearch(Algorithm[Contest]):
    """
    Bootstrap demonstrations from the training set in several shuffled orders, and keep what scores best.

    After DSPy's optimizer of the same name (Khattab et al., 2023): candidates are the program without demonstrations,
    with labelled rows, with a bootstrap in the rows' order, and ``num_candidate_programs`` bootstraps in shuffled
    orders with up to ``max_bootstrapped_demos`` rows each. With seed 0 and ``race=False`` these are DSPy's candidates
    and DSPy's choice. All bootstraps run side by side. Candidates race: on the same rows, and who is surely worse goes.

    Args:
        metric: The metric.
        threshold: The least score that makes a bootstrapped row count.
        max_bootstrapped_demos: The most rows to work out for a candidate.
        max_labeled_demos: Demonstrations in all.
        max_rounds: Tries for each row.
        num_candidate_programs: Shuffled orders.
        stop_at_score: The first candidate with this mean score ends the search; only without a race.
        teacher: Another program with the same predictors; by default the program itself.
        race: False runs every candidate on every row.
        width: Candidates under way at once.

    Raises:
        ConfigError: A number makes no sense, or the metric is not a function.
    """

    metric: Metric | None
    _: KW_ONLY
    threshold: float = 1.0
    max_bootstrapped_demos: int = 4
    max_labeled_demos: int = 16
    max_rounds: int = 1
    num_candidate_programs: int = 16
    stop_at_score: float | None = None
    teacher: Module | None = None
    race: bool = True
    width: int = 1024
    version: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_metric(self.metric)
        self._bootstrap(max(1, self.max_bootstrapped_demos))
        if min(self.max_bootstrapped_demos - 1, self.num_candidate_programs) < 0:
            raise ConfigError("max_bootstrapped_demos must be at least 1, num_candidate_programs 0 or more")
        if self.stop_at_score is not None and self.race:
            raise ConfigError("stop_at_score= needs race=False: in a race no candidate has its score before the others")

    def _bootstrap(self, size: int) -> BootstrapFewShot:
        return BootstrapFewShot(
            self.metric,
            threshold=self.threshold,
            max_bootstrapped_demos=size,
            max_labeled_demos=self.max_labeled_demos,
            max_rounds=self.max_rounds,
            teacher=self.teacher,
        )

    def programs(self, student: Module) -> Mapping[str, Module]:
        """Return the teacher, if it is another program."""
        return {TEACHER: self.teacher} if self.teacher is not None else {}

    def check(self, task: Task) -> None:
        """Refuse a teacher with other predictors."""
        self._bootstrap(1).check(task)

    @property
    def _count(self) -> int:
        return SPECIAL + self.num_candidate_programs

    def begin(self, task: Task) -> Contest:
        """Begin without candidates."""
        return Contest(task)

    def plan(self, state: Contest, k: int, chance: random.Random) -> Plan | Signal:
        """Make candidate k; the last plan is the race."""
        if k < self._count:
            return self._candidate(state.task, k)
        if not self.race or k > self._count:
            return DONE
        return WAIT if len(state.candidates) < self._count else self._race(state)

    def _candidate(self, task: Task, k: int) -> Plan:
        """Return a candidate, and its tally where there is no race; the candidate is None when nothing can be run."""
        found = Candidate()
        if k == 0:
            found = task.start.with_demos(dict.fromkeys(task.predictors, ()))
        elif k == 1:
            shown = labeled(task.predictors, task.learn, self.max_labeled_demos, generator(task.seed))
            found = task.start.with_demos(shown)
        else:
            rows, size = list(task.learn), self.max_bootstrapped_demos
            if k >= SPECIAL:
                number = task.seed + k - SPECIAL
                generator(number).shuffle(rows)
                size = generator(number).randint(1, self.max_bootstrapped_demos)
            answer: Found = yield Search(self._bootstrap(size), learn=tuple(rows), seed=task.seed)
            if answer.problem is not None:
                return None, None
            found = answer.candidate
        if self.race:
            return found, None
        evaluations = yield Run(found, task.choose)
        return found, Tally.of(found, evaluations)

    def _race(self, state: Contest) -> Plan:
        return (yield from race(tuple(dict.fromkeys(each for each in state.candidates if each)), state.task.choose))

    def absorb(self, state: Contest, k: int, result: Raced | tuple[Candidate, Tally | None] | None) -> Contest:
        """Take a candidate, or the outcome of the race."""
        if k == self._count:
            return after_race(state, result)
        candidate, tally = result if isinstance(result, tuple) else (None, None)
        candidates = (*state.candidates, candidate)
        if tally is None:
            return replace(state, candidates=candidates)
        tallies = (*state.tallies, tally)
        best = max(tallies, key=lambda each: each.mean)  # the first of equals
        return replace(state, candidates=candidates, tallies=tallies, winner=best.candidate)

    def enough(self, state: Contest) -> bool:
        """True when a candidate is good enough to stop."""
        stop = self.stop_at_score
        return stop is not None and any(each.mean >= stop for each in state.tallies)

    def best(self, state: Contest) -> Candidate:
        """Return the winner; before there is one, the newest candidate."""
        if state.winner is not None:
            return state.winner
        if len(state.candidates) >= self._count and not any(state.candidates[SPECIAL - 1 :]):
            raise NoCandidate("not one row of the training set could be evaluated")
        return next((each for each in reversed(state.candidates) if each is not None), state.task.start)

    def progress(self, state: Contest) -> Mapping[str, object]:
        """Return how many candidates there are of how many wanted."""
        return {"candidates": len(state.candidates), "wanted": self._count}

    def summary(self, state: Contest) -> Sequence[Mapping[str, object]]:
        """Return how each candidate did."""
        return told(state.tallies)


def after_race(state: Contest, result: object) -> Contest:
    """Return the state after the race: as it was when the race itself failed."""
    return replace(state, tallies=result.tallies, winner=result.winner) if isinstance(result, Raced) else state


def told(tallies: Sequence[Tally]) -> list[dict[str, object]]:
    """Return tallies for people to read, as JSON values."""
    return [
        {
            "name": each.candidate.key,
            "score": each.mean if each.scores else None,
            "rows": each.rows,
            "failed": each.failed,
            "demos": sum(map(len, each.candidate.demos.values())),
            "instructions": dict(each.candidate.instructions),
        }
        for each in tallies
    ]
