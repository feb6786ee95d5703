"""Demonstrations that a teacher has worked out, kept where the metric agrees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from dspex._random import generator
from dspex.errors import ConfigError, NoCandidate
from dspex.evaluation import Metric, Row, check_metric
from dspex.optimizers.candidate import Candidate, Demo
from dspex.optimizers.labeled import labeled, labels
from dspex.optimizers.plans import DONE, Algorithm, Evaluation, Plan, Run, Signal, Task, chance
from dspex.programs import Module

if TYPE_CHECKING:
    import random

__all__ = ["BootstrapFewShot", "Worked", "calls_of", "worked_out"]

TEACHER = "teacher"
"""The name of the teacher's program."""


@dataclass(frozen=True)
class Worked:
    """
    The progress of a bootstrap.

    Attributes:
        task: The task.
        teacher: The teacher, with what it is shown.
        found: Rows that the teacher got right, with the calls it made.
        errors: Why rows failed, the first few.
        failed: Rows that failed.
        tried: Rows that were tried.
    """

    task: Task
    teacher: Candidate
    found: tuple[tuple[int, tuple[tuple[str, Demo], ...]], ...] = ()
    errors: tuple[str, ...] = ()
    failed: int = 0
    tried: int = 0


@dataclass(frozen=True)
class BootstrapFewShot(Algorithm[Worked]):
    """
    Run a teacher over the training set and show its predictors' calls on the rows it got right.

    After DSPy's optimizer of the same name (Khattab et al., 2023, "DSPy: Compiling Declarative Language Model Calls
    into Self-Improving Pipelines", appendix E.1). Row k is plan k: rows run side by side and are taken in the order
    of the training set; at most ``width - 1`` rows beyond the last one needed are paid. The rest of
    ``max_labeled_demos`` is filled with rows as they are. With seed 0 it draws the rows that DSPy draws; of several
    calls of one predictor in one row it takes the last or, at even odds, an earlier one, as DSPy does with other
    chance.

    Args:
        metric: A row counts when this gives ``threshold`` or more; None takes every row that ends in an answer.
        threshold: The least score that counts.
        max_bootstrapped_demos: Rows to work out.
        max_labeled_demos: Demonstrations in all; also how many rows the teacher is shown when it has none of its own.
        max_rounds: Tries for each row; those after the first sample at temperature 1 with their number as seed.
        teacher: Another program with the same predictors; by default the program itself.
        width: Rows under way at once.

    Raises:
        ConfigError: A number makes no sense, or the metric is not a function.
    """

    metric: Metric | None
    _: KW_ONLY
    threshold: float = 1.0
    max_bootstrapped_demos: int = 4
    max_labeled_demos: int = 16
    max_rounds: int = 1
    teacher: Module | None = None
    width: int = 16
    chooses: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.metric is not None:
            check_metric(self.metric)
        if min(self.max_bootstrapped_demos, self.max_labeled_demos, self.max_rounds - 1, self.width - 1) < 0:
            raise ConfigError("numbers of demonstrations must be 0 or more, max_rounds and width at least 1")

    def programs(self, student: Module) -> Mapping[str, Module]:
        """Return the teacher, if it is another program."""
        return {TEACHER: self.teacher} if self.teacher is not None else {}

    def check(self, task: Task) -> None:
        """Refuse a teacher with other predictors."""
        if self.teacher is not None and self.teacher.predictors().keys() != task.predictors.keys():
            raise ConfigError("the teacher must have predictors at the same paths as the program")

    def begin(self, task: Task) -> Worked:
        """Show the teacher labelled rows, unless it has demonstrations of its own."""
        self.check(task)
        teacher = task.start
        own = False
        if self.teacher is not None:
            teacher = Candidate(program=TEACHER)
            own = any(each.demos for each in self.teacher.predictors().values())
        if self.max_labeled_demos and not own:
            shown = labeled(task.predictors, task.learn, self.max_labeled_demos, generator(task.seed))
            teacher = teacher.with_demos(shown)
        return Worked(task, teacher)

    def plan(self, state: Worked, k: int, chance: random.Random) -> Plan | Signal:
        """Work out row k."""
        if k >= len(state.task.learn) or self.enough(state):
            return DONE
        return self._row(state.teacher, state.task.learn[k])

    def _row(self, teacher: Candidate, row: Row) -> Plan:
        """Return the first round's evaluation that is good enough, or the last."""
        evaluation = Evaluation(row.index, None)
        for number in range(self.max_rounds):
            temperature = 1.0 if number else None
            answer = yield Run(teacher, (row,), number, temperature, trace=True, scored=self.metric is not None)
            evaluation = answer[0]
            if self._accepts(evaluation):
                break
        return evaluation

    def absorb(self, state: Worked, k: int, result: Evaluation | None) -> Worked:
        """Keep the row's calls if the teacher got it right."""
        state = replace(state, tried=state.tried + 1)
        evaluation = result
        if evaluation is None or evaluation.score is None:
            told = (*state.errors, evaluation.error if evaluation is not None else "its plan failed")[:5]
            return replace(state, errors=told, failed=state.failed + 1)
        if not self._accepts(evaluation) or self.enough(state):
            return state
        calls = calls_of(evaluation, state.task.seed)
        return replace(state, found=(*state.found, (evaluation.row, calls)))

    def enough(self, state: Worked) -> bool:
        """True when as many rows are worked out as are wanted."""
        return len(state.found) >= self.max_bootstrapped_demos

    def _accepts(self, evaluation: Evaluation) -> bool:
        return evaluation.score is not None and evaluation.score >= self.threshold

    def best(self, state: Worked) -> Candidate:
        """Return the worked-out demonstrations, and labelled ones in the places that are left."""
        if state.failed and state.failed == len(state.task.learn):
            raise NoCandidate(f"none of the {state.failed} rows could be evaluated; the first: {state.errors[0]}")
        return state.task.start.with_demos(self._demos(state))

    def _demos(self, state: Worked) -> dict[str, list[Demo]]:
        task = state.task
        demos = worked_out(state)
        found = {row for row, _ in state.found}
        rest = [row for row in task.learn if row.index not in found]
        generator(task.seed).shuffle(rest)
        source = generator(task.seed)
        for path, predictor in task.predictors.items():
            demos[path] += labels(predictor, rest, self.max_labeled_demos - len(demos[path]), source)
        return demos

    def progress(self, state: Worked) -> Mapping[str, object]:
        """Return how many rows were tried, and how many are worked out of how many wanted."""
        return {"rows": state.tried, "found": len(state.found), "wanted": self.max_bootstrapped_demos}


def worked_out(state: Worked) -> dict[str, list[Demo]]:
    """Return the worked-out demonstrations of each predictor."""
    demos: dict[str, list[Demo]] = {path: [] for path in state.task.predictors}
    for _, calls in state.found:
        for path, demo in calls:
            if path in demos:
                demos[path].append(demo)
    return demos


def calls_of(evaluation: Evaluation, seed: int) -> tuple[tuple[str, Demo], ...]:
    """Return one call of each predictor as a demonstration: of several, the last or one before it, at even odds."""
    calls: dict[str, list[Mapping[str, object]]] = {}
    for path, values in evaluation.trace:
        calls.setdefault(path, []).append(values)
    chosen = []
    for path, several in calls.items():
        source = chance(seed, "call", path, evaluation.row)
        last = len(several) == 1 or source.random() < 0.5
        chosen.append((path, {"augmented": True, **(several[-1] if last else source.choice(several[:-1]))}))
    return tuple(chosen)
