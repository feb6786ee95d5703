"""A model trained on what a teacher did well, and judged like every other candidate."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field, replace
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, ClassVar, Final

from dspex.errors import ConfigError, NoCandidate, TrainingFailed
from dspex.evaluation import Metric, check_metric
from dspex.optimizers.bootstrap import TEACHER
from dspex.optimizers.candidate import Candidate, Demo
from dspex.optimizers.plans import DONE, WAIT, Algorithm, Evaluation, Plan, Run, Signal, Task, Train, Trained
from dspex.optimizers.training_data import conversation, openai_line
from dspex.programs import DEFAULT_ADAPTER, Adapter, AdapterChoice, Module, Predict, choose_adapter
from dspex.programs.portable import restored_fields
from dspex.protocols.model import LMChoice
from dspex.protocols.money import Spending

if TYPE_CHECKING:
    import random

__all__ = ["BootstrapFinetune", "Tuned"]

BYTES_PER_TOKEN: Final = 3
"""Of JSON Lines; more than English text has to a token, so that an estimate is rather too high."""

_MILLION: Final = 1_000_000
_UNTOLD: Final = ("metric", "price", "look_every")
"""Fields that the result does not depend on."""

Line = Mapping[str, object]


@dataclass(frozen=True)
class Tuned:
    """
    The progress of a training.

    Attributes:
        task: The task.
        found: Rows that the teacher got right, with the calls it made.
        errors: Why rows failed, the first few.
        failed: Rows that failed.
        tried: Rows that were tried.
        trained: The predictors that were trained together, and what came of it; None before.
    """

    task: Task
    found: tuple[tuple[int, tuple[tuple[str, Demo], ...]], ...] = ()
    errors: tuple[str, ...] = ()
    failed: int = 0
    tried: int = 0
    trained: tuple[tuple[tuple[str, ...], Trained], ...] | None = None


@dataclass(frozen=True)
class BootstrapFinetune(Algorithm[Tuned]):
    """
    Run a teacher over the training set, train the program's own model on the calls of the rows it got right.

    After DSPy's optimizer of the same name (Soylu et al., 2024, "Fine-Tuning and Prompt Optimization: Two Great Steps
    that Work Better Together"). Rows run side by side, each once. Their calls become conversations as the program
    asks: with its instructions and its adapters, not the teacher's. They are uploaded to the model's provider, and
    trained there; the job waits, looks every few seconds, and goes on waiting after an outage, or a kill: the same
    data is submitted once. The candidate is the program with the trained model, and without demonstrations.

    Args:
        metric: A row counts when this gives ``threshold`` or more; None takes every row that ends in an answer.
        threshold: The least score that counts.
        teacher: Another program with the same predictors, one with a larger model for example; by default the program
            itself.
        multitask: True trains one model for all predictors that have the same model; False one for each predictor.
        keep_demos: True leaves demonstrations in the prompts, of the training and of the new program.
        adapter: The adapter of predictors that have none of their own; None is ``auto``. It is to be the one that the
            program is asked with.
        epochs: The number of times that the data is gone through.
        hyperparameters: Others, as the provider names them: ``learning_rate_multiplier``, ``batch_size``.
        suffix: A part of the trained model's name.
        price: US dollars per million trained tokens. A budget in dollars needs it.
        look_every: Seconds between two looks at the training.
        width: Rows under way at once.

    Raises:
        ConfigError: A number makes no sense, or the metric is not a function.
    """

    metric: Metric | None
    _: KW_ONLY
    threshold: float = 1.0
    teacher: Module | None = None
    multitask: bool = True
    keep_demos: bool = False
    adapter: AdapterChoice = None
    epochs: int = 3
    hyperparameters: Mapping[str, object] = field(default_factory=dict)
    suffix: str = "dspex"
    price: Decimal | float | str | None = None
    look_every: float = 10.0
    width: int = 16
    chooses: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.metric is not None:
            check_metric(self.metric)
        if min(self.epochs, self.width) < 1 or not self.look_every > 0:
            raise ConfigError("epochs and width must be at least 1, look_every a positive number of seconds")
        if not (self.suffix.isascii() and self.suffix.isprintable()) or len(self.suffix) > 40:
            raise ConfigError(f"suffix={self.suffix!r:.60}: use up to 40 letters, digits and dashes")
        if {"epochs", "seed", "suffix"} & self.hyperparameters.keys():
            raise ConfigError("epochs, seed and suffix are not given in hyperparameters")
        self._price()

    def _price(self) -> Decimal | None:
        try:
            price = None if self.price is None else Decimal(str(self.price))
        except InvalidOperation:
            price = Decimal(-1)
        if price is not None and not (price.is_finite() and price >= 0):
            raise ConfigError(f"price={self.price!r} is not a number of dollars per million tokens")
        return price

    def options(self) -> Mapping[str, object]:
        """Return what the result depends on: neither the price nor how often one looks."""
        return {name: value for name, value in super().options().items() if name not in _UNTOLD}

    def programs(self, student: Module) -> Mapping[str, Module]:
        """Return the teacher, if it is another program."""
        return {TEACHER: self.teacher} if self.teacher is not None else {}

    def check(self, task: Task) -> None:
        """Refuse a teacher with other predictors, models that cannot be trained, and dollars without a price."""
        if self.teacher is not None and self.teacher.predictors().keys() != task.predictors.keys():
            raise ConfigError("the teacher must have predictors at the same paths as the program")
        for predictor in task.predictors.values():
            if task.can_train is not None:
                task.can_train(predictor.lm)
        if task.in_dollars and self.price is None:
            raise ConfigError(
                "a budget in dollars covers this job, and nobody knows what the training costs: give "
                "BootstrapFinetune(..., price=…), the provider's dollars per million trained tokens"
            )

    def begin(self, task: Task) -> Tuned:
        """Return the state before the first row."""
        self.check(task)
        return Tuned(task)

    def plan(self, state: Tuned, k: int, chance: random.Random) -> Plan | Signal:
        """Work out row k; then train."""
        rows = state.task.learn
        if k < len(rows):
            teacher = Candidate(program=TEACHER) if self.teacher is not None else state.task.start
            return self._row(Run(teacher, (rows[k],), trace=True, scored=self.metric is not None))
        if k > len(rows):
            return DONE
        if state.tried < len(rows):
            return WAIT
        groups = self._groups(state)
        return self._training(groups) if groups else DONE

    @staticmethod
    def _row(ask: Run) -> Plan:
        answer = yield ask
        return answer[0]

    @staticmethod
    def _training(groups: Sequence[tuple[tuple[str, ...], Train]]) -> Plan:
        answers = yield tuple(ask for _, ask in groups)
        return tuple((paths, answer) for (paths, _), answer in zip(groups, answers, strict=True))

    def _groups(self, state: Tuned) -> list[tuple[tuple[str, ...], Train]]:
        """Return the trainings: the predictors that each is for, and what it asks."""
        program = state.task.start.applied(state.task.program)
        predictors, own = program.predictors(), state.task.predictors
        default = choose_adapter(self.adapter) or DEFAULT_ADAPTER
        together: dict[str, list[str]] = {}
        for path in predictors:
            together.setdefault(repr(own[path].lm) if self.multitask else path, []).append(path)
        groups = []
        for paths in together.values():
            lines: list[Line] = []
            for row, calls in state.found:
                for path, values in calls:
                    if path in paths:
                        lines.append(self._line(predictors[path], values, default, f"row {row}: the prompt of {path}"))
            if lines:
                groups.append((tuple(paths), self._train(own[paths[0]].lm, lines, state.task.seed)))
        return groups

    def _line(self, predictor: Predict, values: Demo, default: Adapter, where: str) -> Line:
        fields = predictor.signature.fields
        given = restored_fields(predictor.signature, values)
        inputs = {name: each for name, each in given.items() if name in fields and fields[name].role == "input"}
        outputs = {name: each for name, each in given.items() if name in fields and fields[name].role == "output"}
        return openai_line(*conversation(predictor, inputs, outputs, default, where, keep_demos=self.keep_demos))

    def _train(self, lm: LMChoice, lines: Sequence[Line], seed: int) -> Train:
        size = sum(len(json.dumps(each, ensure_ascii=False).encode("utf-8", "surrogatepass")) for each in lines)
        tokens = self.epochs * (size // BYTES_PER_TOKEN + 1)
        price = self._price()
        usd = price * tokens / _MILLION if price is not None else Decimal(0)
        options = {"epochs": self.epochs, "seed": seed % 2**31, "suffix": self.suffix, **self.hyperparameters}
        expected = Spending(usd, tokens, 1, int(price is None))
        return Train(lm, tuple(lines), options, expected, price, self.look_every)

    def absorb(self, state: Tuned, k: int, result: object) -> Tuned:
        """Keep the row's calls if the teacher got it right, or what came of the training."""
        if k >= len(state.task.learn):
            return replace(state, trained=result if isinstance(result, tuple) else ())
        state = replace(state, tried=state.tried + 1)
        if not isinstance(result, Evaluation) or result.score is None:
            told = (*state.errors, result.error if isinstance(result, Evaluation) else "its plan failed")[:5]
            return replace(state, errors=told, failed=state.failed + 1)
        if result.score < self.threshold:
            return state
        return replace(state, found=(*state.found, (result.row, result.trace)))

    def best(self, state: Tuned) -> Candidate:
        """
        Return the program with the trained models; before there are any, the one that it began with.

        Raises:
            NoCandidate: There was nothing to learn from.
            TrainingFailed: A training failed.
        """
        start = state.task.start
        if state.trained is None:
            if state.tried == len(state.task.learn) and not state.found:
                raise NoCandidate(_nothing(state, self.threshold))
            return start
        failed = [each.error for _, each in state.trained if not each.model]
        if failed or not state.trained:
            raise TrainingFailed("; ".join(failed) or "its plan failed")
        lms = {path: each.model for paths, each in state.trained for path in paths}
        found = replace(start, lms={**start.lms, **lms})
        return found if self.keep_demos else found.with_demos(dict.fromkeys(lms, ()))

    def progress(self, state: Tuned) -> Mapping[str, object]:
        """Return how many rows were tried, how many are learned from, and how many models are trained."""
        trained = sum(bool(each.model) for _, each in state.trained or ())
        return {"rows": state.tried, "found": len(state.found), "trained": trained}

    def summary(self, state: Tuned) -> Sequence[Mapping[str, object]]:
        """Return the trainings, for people to read."""
        return [
            {"name": each.model or each.error, "predictors": ", ".join(paths), "tokens": each.spent.tokens}
            for paths, each in state.trained or ()
        ]


def _nothing(state: Tuned, threshold: float) -> str:
    rows = len(state.task.learn)
    if state.failed == rows and state.errors:
        return f"none of the {rows} rows could be evaluated; the first: {state.errors[0]}"
    return f"there is nothing to learn from: of {rows} rows none scored {threshold:g} or more"
