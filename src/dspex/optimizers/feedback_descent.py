"""Instructions that improve by pairwise comparison: a judge with reasons, and no number anywhere."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from dspex.errors import ConfigError
from dspex.evaluation import CompareAnswers, Metric, Preference, Row, check_metric, preferred
from dspex.optimizers.candidate import Candidate
from dspex.optimizers.plans import DONE, WAIT, Algorithm, Evaluation, Plan, Run, Signal, Steer, Task, Write, Written
from dspex.optimizers.plans import chance as chance_of
from dspex.optimizers.proposals import ImproveFromReasons, described_step, shown_rows
from dspex.protocols.model import LMChoice

if TYPE_CHECKING:
    import random

__all__ = ["FeedbackDescent"]

REMEMBERED = 30
"""Reasons that a proposer is shown, the newest."""


@dataclass(frozen=True, slots=True)
class Challenge:
    """The outcome of one challenge: against whom, by whom, the reasons, and the rows that each side won."""

    champion: Candidate
    challenger: Candidate
    reasons: tuple[str, ...] = ()
    won: int = 0
    lost: int = 0
    rows: int = 0


@dataclass(frozen=True)
class Descent:
    """
    Where the search stands.

    Attributes:
        task: The task.
        champion: The best so far.
        reasons: The results of comparisons with this champion.
        challenges: Those that are over.
        tried: Plans that are over.
        hints: The words of people.
    """

    task: Task
    champion: Candidate
    reasons: tuple[str, ...] = ()
    challenges: tuple[Challenge, ...] = ()
    tried: int = 0
    hints: tuple[str, ...] = ()


@dataclass(frozen=True)
class FeedbackDescent(Algorithm[Descent]):
    """
    Improve instructions by comparisons: a challenger takes over when a judge prefers its answers.

    After Feedback Descent (Lee et al., 2025, arXiv 2511.07919). A model writes a challenger from all reasons that
    comparisons with the champion have given; a judge says row by row which answer is better, and why. When the
    challenger wins, it is the champion, and the list of reasons begins anew. No numeric metric is needed: the verdict
    of the job counts rows won and lost on held-out rows, by the same judge.

    Other than in the paper, each pair is judged in both orders, because models prefer a place; a judge that changes its
    mind prefers nobody. A challenger must win by more than ``z`` standard errors of an even match.

    Args:
        rubric: The rules by which an answer is better, in words.
        metric: A numeric metric for the verdict, if there is one; the search goes by the judge all the same.
        max_challengers: Challengers that are written.
        batch_size: Rows of a comparison, drawn from those to learn from.
        z: The number of standard errors by which a challenger must win; 0 lets one more row decide.
        judge_lm: The model that judges; None is the App's default.
        proposer_lm: The model that writes; None is the App's default.
        width: Challengers under way at once; one that was made against an older champion does not count.

    Raises:
        ConfigError: A number makes no sense, the rubric is empty, or the metric is not a function.
    """

    rubric: str
    _: KW_ONLY
    metric: Metric | None = None
    max_challengers: int = 20
    batch_size: int = 8
    z: float = 1.0
    judge_lm: LMChoice = None
    proposer_lm: LMChoice = None
    width: int = 1
    steered_by: ClassVar[frozenset[str]] = frozenset({"hint"})
    chooses: ClassVar[bool] = False
    comparisons: ClassVar[int] = 2

    def __post_init__(self) -> None:
        if self.metric is not None:
            check_metric(self.metric)
        if not isinstance(self.rubric, str) or not self.rubric.strip():
            raise ConfigError("FeedbackDescent takes a rubric: say in words what makes an answer better")
        if min(self.max_challengers, self.batch_size) < 1 or self.z < 0:
            raise ConfigError("max_challengers and batch_size must be at least 1, z 0 or more")

    def begin(self, task: Task) -> Descent:
        """Begin with the program as it is."""
        return Descent(task, task.start)

    def plan(self, state: Descent, k: int, chance: random.Random) -> Plan | Signal:
        """Make challenger k."""
        if k >= self.max_challengers:
            return DONE
        if not state.task.learn:
            return WAIT if k > state.tried else DONE
        return self._challenge(state, k)

    def _challenge(self, state: Descent, k: int) -> Plan:
        """Return how a new challenger did against the champion; None when nothing new was written."""
        task, champion = state.task, state.champion
        paths = tuple(task.predictors)
        path = paths[k % len(paths)]
        current = task.instructions(champion)[path]
        inputs = {
            "step": described_step(path, task.predictors[path]),
            "current_instruction": current,
            "rubric": self.rubric,
            "reasons": "\n".join(f"- {each}" for each in state.reasons[-REMEMBERED:]),
            "hints": "\n".join(state.hints),
        }
        written: Written = yield Write(ImproveFromReasons, inputs, k + 1, 1.0, self.proposer_lm)
        text = written.text("instruction")
        if not text or text == current:
            return None
        challenger = champion.with_instructions({path: text})
        rows = self._batch(task, k)
        first, second = yield (self._run(champion, rows), self._run(challenger, rows))
        said: list[Preference | None] = yield from self._judged(rows, first, second)
        reasons = tuple(
            f"{'the challenger was better' if each.better == 'second' else 'the champion was better'}: {each.reason}"
            for each in said
            if each is not None and each.better != "tie" and each.reason
        )
        better = [each.better for each in said if each is not None]
        return Challenge(champion, challenger, reasons, better.count("second"), better.count("first"), len(better))

    def _run(self, candidate: Candidate, rows: tuple[Row, ...]) -> Run:
        return Run(candidate, rows, trace=True, scored=self.metric is not None)

    def _batch(self, task: Task, k: int) -> tuple[Row, ...]:
        rows = list(task.learn)
        chance_of(task.seed, "batch", k).shuffle(rows)
        return tuple(rows[: self.batch_size])

    def _judged(self, rows: Sequence[Row], first: Sequence[Evaluation], second: Sequence[Evaluation]) -> Plan:
        """Return which answer is better, row by row; None where one of them has none, or the judge failed."""
        asks, places = [], []
        for at, (row, one, two) in enumerate(zip(rows, first, second, strict=True)):
            if one.score is None or two.score is None:
                continue
            answers = (_answer(one), _answer(two))
            for ordered in (answers, answers[::-1]):
                inputs = {"rubric": self.rubric, "example": shown_rows([row])}
                inputs |= {"first": ordered[0], "second": ordered[1]}
                asks.append(Write(CompareAnswers, inputs, 0, None, self.judge_lm))
            places.append(at)
        written: tuple[Written, ...] = yield tuple(asks)
        said: list[Preference | None] = [None] * len(rows)
        for number, at in enumerate(places):
            there, back = written[2 * number : 2 * number + 2]
            if there.text("better") and back.text("better"):
                said[at] = preferred(there.text("better"), there.text("reason"), back.text("better"))
        return said

    def compare(self, rows: Sequence[Row], first: Sequence[Evaluation], second: Sequence[Evaluation]) -> Plan:
        """Return 1 where ``second`` is better, -1 where ``first`` is, 0 for a tie; None where nobody can say."""
        said: list[Preference | None] = yield from self._judged(rows, first, second)
        points = {"first": -1.0, "second": 1.0, "tie": 0.0}
        return [None if each is None else points[each.better] for each in said]

    def absorb(self, state: Descent, k: int, result: Challenge | None) -> Descent:
        """Let a challenger that has won take over; keep the reasons of the others."""
        state = replace(state, tried=state.tried + 1)
        challenge = result
        if challenge is None or challenge.champion != state.champion:
            return state
        state = replace(state, challenges=(*state.challenges, challenge))
        decided = challenge.won + challenge.lost
        if challenge.won - challenge.lost > self.z * math.sqrt(decided):
            return replace(state, champion=challenge.challenger, reasons=())
        return replace(state, reasons=(*state.reasons, *challenge.reasons))

    def best(self, state: Descent) -> Candidate:
        """Return the champion."""
        return state.champion

    def steer(self, state: Descent, steer: Steer) -> Descent:
        """Tell the model that writes what a person said."""
        return replace(state, hints=(*state.hints, steer.hint)) if steer.hint else state

    def progress(self, state: Descent) -> Mapping[str, object]:
        """Return how many challengers were tried, and how many of them took over."""
        champions = len({each.champion for each in state.challenges} | {state.champion}) - 1
        return {"tried": state.tried, "wanted": self.max_challengers, "champions": champions}

    def summary(self, state: Descent) -> Sequence[Mapping[str, object]]:
        """Return how each challenger did: its score is rows won less rows lost, as a share."""
        return [
            {
                "name": each.challenger.key,
                "score": (each.won - each.lost) / each.rows if each.rows else None,
                "rows": each.rows,
                "failed": 0,
                "demos": 0,
                "instructions": dict(each.challenger.instructions),
            }
            for each in state.challenges
        ]


def _answer(run: Evaluation) -> str:
    """Return the answer of a run: what its last call gave."""
    return shown_rows([run.trace[-1][1]]) if run.trace else ""
