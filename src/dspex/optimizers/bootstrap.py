"""Demonstrations that a teacher has worked out, kept where the metric agrees."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import KW_ONLY, dataclass
from functools import partial
from typing import Any

from dspex.errors import ConfigError, NoCandidate
from dspex.evaluation import Metric, Row, check_metric
from dspex.optimizers.fingerprint import fingerprint_program
from dspex.optimizers.labeled import labels
from dspex.optimizers.optimizer import Candidate, Evaluation, Optimizer, Study, candidate_of
from dspex.programs import Example, Module

__all__ = ["BootstrapFewShot"]

Demos = dict[str, list[Mapping[str, Any]]]


@dataclass(frozen=True)
class BootstrapFewShot(Optimizer):
    """
    Run a teacher over the training set and show its predictors' calls on the rows it got right.

    After DSPy's optimizer of the same name (Khattab et al., 2023, "DSPy: Compiling Declarative Language Model Calls
    into Self-Improving Pipelines", appendix E.1). Rows are run several at a time and taken in the order of the
    training set, so that neither timing nor concurrency changes the result; rows run ahead of the last one needed
    are paid for, at most ``max_concurrency - 1`` of them. The teacher never sees the row it is asked about among its
    demonstrations. What is left of ``max_labeled_demos`` is filled with rows as they are.

    Args:
        metric: A row counts when this gives ``threshold`` or more; None takes every row that ends in an answer.
        threshold: The least score that counts.
        max_bootstrapped_demos: Rows to work out.
        max_labeled_demos: Demonstrations in all; also how many rows the teacher is shown when it has none of its own.
        max_rounds: Tries for each row; those after the first sample at temperature 1 with their number as seed.
        teacher: Another program with the same predictors; by default the program itself.
        max_concurrency: Rows under way at once.

    Raises:
        ConfigError: A number makes no sense, or the metric is not a function.
    """

    metric: Metric[Any] | None
    _: KW_ONLY
    threshold: float = 1.0
    max_bootstrapped_demos: int = 4
    max_labeled_demos: int = 16
    max_rounds: int = 1
    teacher: Module | None = None
    max_concurrency: int = 16

    def __post_init__(self) -> None:
        if self.metric is not None:
            check_metric(self.metric)
        if min(self.max_bootstrapped_demos, self.max_labeled_demos, self.max_rounds - 1, self.max_concurrency - 1) < 0:
            raise ConfigError("numbers of demonstrations must be 0 or more, max_rounds and max_concurrency at least 1")

    def options(self) -> Mapping[str, Any]:
        """Return what the result depends on; the concurrency is not part of it."""
        return {
            "threshold": self.threshold,
            "max_bootstrapped_demos": self.max_bootstrapped_demos,
            "max_labeled_demos": self.max_labeled_demos,
            "max_rounds": self.max_rounds,
            "teacher": fingerprint_program(self.teacher) if self.teacher is not None else None,
        }

    async def search(self, study: Study) -> Candidate:
        """
        Work out demonstrations, then fill up with labelled ones.

        Raises:
            NoCandidate: Not a single row could be evaluated.
            ConfigError: The teacher has other predictors.
        """
        found = await self._bootstrap(study, self._prepared_teacher(study))
        candidate = candidate_of(study.program.with_demos(self._demos(study, found)))
        if study.val and self.metric is not None:
            await study.score("bootstrapped", candidate, study.val, self.metric, max_concurrency=self.max_concurrency)
        return candidate

    def _prepared_teacher(self, study: Study) -> Module:
        """Return the teacher; without any demonstration of its own it is shown labelled rows."""
        teacher = self.teacher if self.teacher is not None else study.program.with_demos(())
        predictors = teacher.predictors()
        if predictors.keys() != study.program.predictors().keys():
            raise ConfigError("the teacher must have predictors at the same paths as the program")
        if not self.max_labeled_demos or any(each.demos for each in predictors.values()):
            return teacher
        source = study.generator("teacher")
        shown = {path: labels(each, study.train, self.max_labeled_demos, source) for path, each in predictors.items()}
        return teacher.with_demos(shown)

    # --- working out ----------------------------------------------------------------------------------------

    async def _bootstrap(self, study: Study, teacher: Module) -> dict[int, Evaluation]:
        """Return the first rows, in the order of the training set, that the teacher gets right."""
        found: dict[int, Evaluation] = {}
        if not self.max_bootstrapped_demos:
            return found
        errors = []
        work = partial(self._try, study, teacher)
        async with study.map(work, study.train, max_concurrency=self.max_concurrency) as results:
            async for row, evaluation in results:
                if self._accepts(evaluation):
                    found[row.index] = evaluation
                    await self._note(study, row, evaluation, len(found))
                elif evaluation.score is None:
                    errors.append(evaluation.error)
                if len(found) >= self.max_bootstrapped_demos:
                    break
        if errors and len(errors) == len(study.train):
            raise NoCandidate(f"none of the {len(errors)} rows could be evaluated; the first: {errors[0]}")
        return found

    async def _try(self, study: Study, teacher: Module, row: Row) -> Evaluation:
        """Return the first round's evaluation that is good enough, or the last."""
        teacher = _without(teacher, row.example)
        evaluation = Evaluation(None)
        for number in range(self.max_rounds):
            program = teacher.with_config(seed=number, temperature=1.0) if number else teacher
            evaluation = await study.evaluate(f"bootstrap/{number}/{row.index}", program, row, self.metric)
            if self._accepts(evaluation):
                break
        return evaluation

    def _accepts(self, evaluation: Evaluation) -> bool:
        return evaluation.score is not None and evaluation.score >= self.threshold

    async def _note(self, study: Study, row: Row, evaluation: Evaluation, found: int) -> None:
        data = {"row": row.index, "score": evaluation.score, "found": found, "wanted": self.max_bootstrapped_demos}
        await study.note("progress", data, key=f"row {row.index}")

    # --- choosing -------------------------------------------------------------------------------------------

    def _demos(self, study: Study, found: Mapping[int, Evaluation]) -> Demos:
        """Return each predictor's worked-out demonstrations, and labelled ones in the places that are left."""
        predictors = study.program.predictors()
        demos: Demos = {path: [] for path in predictors}
        for row, evaluation in found.items():
            for path, values in _one_call_each(study, row, evaluation).items():
                if path in demos:
                    demos[path].append(Example({"augmented": True, **values}))
        rest = [row for row in study.train if row.index not in found]
        source = study.generator("fill")
        for path, shown in demos.items():
            shown += labels(predictors[path], rest, self.max_labeled_demos - len(shown), source)
        return demos


def _one_call_each(study: Study, row: int, evaluation: Evaluation) -> dict[str, Mapping[str, Any]]:
    """Return one call of each predictor: of several, the last or one before it, at even odds."""
    calls: dict[str, list[Mapping[str, Any]]] = {}
    for path, values in evaluation.trace:
        calls.setdefault(path, []).append(values)
    chosen = {}
    for path, several in calls.items():
        source = study.generator(f"call of {path} in row {row}")
        last = len(several) == 1 or source.random() < 0.5
        chosen[path] = several[-1] if last else source.choice(several[:-1])
    return chosen


def _without(teacher: Module, example: Example) -> Module:
    """Return the teacher without the demonstrations that give the answer to ``example`` away."""
    changed: Demos = {}
    for path, predictor in teacher.predictors().items():
        kept = [demo for demo in predictor.demos if not _shows(demo, example)]
        if len(kept) < len(predictor.demos):
            changed[path] = kept
    return teacher.with_demos(changed) if changed else teacher


def _shows(demo: Mapping[str, Any], example: Example) -> bool:
    return all(name in example and example[name] == value for name, value in demo.items() if name != "augmented")
