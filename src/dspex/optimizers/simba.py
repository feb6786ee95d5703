"""Hard rows found by sampling, and lessons from the difference between good and bad runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from dspex.errors import ConfigError
from dspex.evaluation import Metric, Row, check_metric
from dspex.optimizers.bootstrap import calls_of
from dspex.optimizers.candidate import Candidate
from dspex.optimizers.plans import (
    DONE,
    WAIT,
    Algorithm,
    Evaluation,
    Plan,
    Run,
    Signal,
    Steer,
    Task,
    Write,
    Written,
    chance,
)
from dspex.optimizers.proposals import OfferAdvice, described_step, shown_traces
from dspex.optimizers.race import Raced, Tally, race
from dspex.optimizers.random_search import told
from dspex.protocols.model import LMChoice

if TYPE_CHECKING:
    import random

__all__ = ["SIMBA"]

SAMPLING = 0.2
"""The temperature of the choice among candidates by their means."""


@dataclass(frozen=True)
class Pool:
    """
    Where the search stands.

    Attributes:
        task: The task.
        tallies: Candidates with all their runs on rows to learn from, the student first.
        steps: Steps that are over.
        raced: The end of the last race.
        hints: The words of people.
    """

    task: Task
    tallies: tuple[Tally, ...]
    steps: int = 0
    raced: Raced | None = None
    hints: tuple[str, ...] = ()


@dataclass(frozen=True)
class SIMBA(Algorithm[Pool]):
    """
    Sample a mini-batch several times, find the rows that come out differently, and learn from the difference.

    After DSPy's SIMBA (stochastic introspective mini-batch ascent). In each step candidates are drawn by their means
    and run on a batch several times; rows are ranked by the gap between their best and their worst run. For the rows
    with the largest gaps a candidate gets either the best run as a demonstration, or advice that a model works out from
    the best and the worst run, appended to its instructions. The children run on the same batch.

    Other than in DSPy, the student's own runs count for its mean, children that nothing was learned for are not run, a
    row that fails is not a score of zero, and the best race at the end on rows that no step has seen.

    Args:
        metric: The metric.
        batch_size: Rows of a step.
        num_candidates: Samples of each row, and children of each step.
        max_steps: Steps.
        max_demos: Demonstrations that a predictor has, at most; some are dropped at random when one is added.
        prompt_lm: Who works out advice; None is the App's default.
        width: Steps build on each other: 1.

    Raises:
        ConfigError: A number makes no sense, or the metric is not a function.
    """

    metric: Metric | None
    _: KW_ONLY
    batch_size: int = 32
    num_candidates: int = 6
    max_steps: int = 8
    max_demos: int = 4
    prompt_lm: LMChoice = None
    width: int = 1
    steered_by: ClassVar[frozenset[str]] = frozenset({"hint"})
    version: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_metric(self.metric)
        if min(self.batch_size, self.num_candidates, self.max_steps) < 1 or self.max_demos < 0:
            raise ConfigError("batch_size, num_candidates and max_steps must be at least 1, max_demos 0 or more")

    def begin(self, task: Task) -> Pool:
        """Begin with the student alone."""
        return Pool(task, (Tally(task.start, {}),))

    def plan(self, state: Pool, k: int, chance: random.Random) -> Plan | Signal:
        """Make step k; after the steps, the best race."""
        if k > self.max_steps:
            return DONE
        if state.steps < k:
            return WAIT
        return self._step(state, k, chance) if k < self.max_steps else self._race(state)

    def _step(self, state: Pool, k: int, chance: random.Random) -> Plan:
        """Return the tallies of the sampling runs and of the children on the same batch."""
        task = state.task
        batch = self._batch(task, k)
        drawn = [self._drawn(state, chance) for _ in range(self.num_candidates)]
        asks = tuple(
            Run(candidate, batch, rollout=k * self.num_candidates + number + 1, temperature=1.0, trace=True)
            for number, candidate in enumerate(drawn)
        )
        samples: tuple[tuple[Evaluation, ...], ...] = yield asks
        buckets = []
        for at, row in enumerate(batch):
            runs = sorted((each[at] for each in samples if each[at].score is not None), key=_score)
            if len(runs) > 1:
                mean = math.fsum(map(_score, runs)) / len(runs)
                gap, top = _score(runs[-1]) - _score(runs[0]), _score(runs[-1])
                buckets.append((-gap, -top, -(top - mean), at, row, runs))
        buckets.sort(key=lambda each: each[:4])
        children: list[Candidate] = []
        for gap, *_, runs in buckets[: self.num_candidates]:
            parent = self._drawn(state, chance)
            if self.max_demos and chance.random() < 0.5:
                children.append(self._with_demo(task, parent, runs[-1], chance))
            elif gap < 0:
                advised = yield from self._advised(state, parent, runs, k)
                if advised is not None:
                    children.append(advised)
        fresh = [each for each in dict.fromkeys(children) if all(each != known.candidate for known in state.tallies)]
        answers = yield tuple(Run(each, batch) for each in fresh)
        tallies = [Tally.of(each, runs) for each, runs in zip(drawn, samples, strict=True)]
        return [*tallies, *(Tally.of(each, runs) for each, runs in zip(fresh, answers, strict=True))]

    def _batch(self, task: Task, k: int) -> tuple[Row, ...]:
        order = list(task.learn)
        chance(task.seed, "batches", (k * self.batch_size) // max(1, len(order))).shuffle(order)
        at = (k * self.batch_size) % max(1, len(order))
        return tuple((order[at:] + order[:at])[: self.batch_size])

    def _drawn(self, state: Pool, chance: random.Random) -> Candidate:
        """Return a candidate, drawn by its mean; the best few and the student take part."""
        known = [each for each in state.tallies if each.scores]
        if not known:
            return state.task.start
        best = sorted(known, key=lambda each: -each.mean)[: self.num_candidates]
        pool = list(dict.fromkeys([*(each.candidate for each in best), state.task.start]))
        means = {each.candidate: each.mean for each in known}
        top = max(means.values())
        weights = [math.exp((means.get(each, 0.0) - top) / SAMPLING) for each in pool]
        return chance.choices(pool, weights)[0]

    def _with_demo(self, task: Task, parent: Candidate, run: Evaluation, chance: random.Random) -> Candidate:
        """Return the parent with the run's calls as demonstrations; some of its own make room."""
        demos = {}
        own = {path: predictor.demos for path, predictor in task.predictors.items()}
        for path, demo in calls_of(run, task.seed):
            kept = list(parent.demos.get(path, tuple(own.get(path, ()))))
            drop = max(len(kept) + 1 - self.max_demos, 0)
            for _ in range(min(len(kept), drop)):
                kept.pop(chance.randrange(len(kept)))
            demos[path] = [*kept, demo]
        return parent.with_demos(demos)

    def _advised(self, state: Pool, parent: Candidate, runs: Sequence[Evaluation], k: int) -> Plan:
        """Return the parent with advice for each predictor, from the best and the worst run; None without any."""
        task = state.task
        paths = tuple(task.predictors)
        asks = tuple(
            Write(
                OfferAdvice,
                {
                    "step": described_step(path, task.predictors[path]),
                    "better": shown_traces([runs[-1]], path),
                    "worse": shown_traces([runs[0]], path),
                    "hints": "\n".join(state.hints),
                },
                k + 1,
                1.0,
                self.prompt_lm,
            )
            for path in paths
        )
        written: tuple[Written, ...] = yield asks
        current = task.instructions(parent)
        changed = {
            path: f"{current[path]}\n\n{advice}"
            for path, each in zip(paths, written, strict=True)
            if (advice := each.text("advice"))
        }
        return parent.with_instructions(changed) if changed else None

    def _race(self, state: Pool) -> Plan:
        known = [each for each in state.tallies if each.scores and each.candidate != state.task.start]
        best = sorted(known, key=lambda each: -each.mean)[: self.num_candidates]
        raced: Raced = yield from race([state.task.start, *(each.candidate for each in best)], state.task.choose)
        return raced

    def absorb(self, state: Pool, k: int, result: Raced | Sequence[Tally] | None) -> Pool:
        """Count the runs of a step, or take the outcome of the race."""
        state = replace(state, steps=state.steps + 1)
        if isinstance(result, Raced):
            return replace(state, raced=result)
        known = {each.candidate: each for each in state.tallies}
        for number, each in enumerate(result or ()):
            before = known.get(each.candidate)
            # The same row may come in several steps and several times in one: each run counts.
            base = 0 if before is None else 1 + max((*before.scores, 0))
            scores = {base + at: score for at, score in enumerate(each.scores.values(), number)}
            known[each.candidate] = (
                replace(each, scores=scores)
                if before is None
                else Tally(
                    each.candidate,
                    {**before.scores, **scores},
                    before.failed + each.failed,
                    before.spent + each.spent,
                    (before.paid or 0) + (each.paid or 0),
                )
            )
        return replace(state, tallies=tuple(known.values()))

    def best(self, state: Pool) -> Candidate:
        """Return the winner of the race; before it, the candidate with the best mean."""
        if state.raced is not None:
            return state.raced.winner
        known = [each for each in state.tallies if each.scores]
        return max(known, key=lambda each: each.mean).candidate if known else state.task.start

    def steer(self, state: Pool, steer: Steer) -> Pool:
        """Tell the model that works out advice what a person said."""
        return replace(state, hints=(*state.hints, steer.hint)) if steer.hint else state

    def progress(self, state: Pool) -> Mapping[str, object]:
        """Return how many steps are over, and how many candidates there are."""
        return {"steps": min(state.steps, self.max_steps), "candidates": len(state.tallies)}

    def summary(self, state: Pool) -> Sequence[Mapping[str, object]]:
        """Return how each candidate did: in the race, where it took part."""
        known = {each.candidate: each for each in state.tallies}
        known |= {each.candidate: each for each in (state.raced.tallies if state.raced is not None else ())}
        return told(tuple(known.values()))


def _score(run: Evaluation) -> float:
    return run.score if run.score is not None else -math.inf
