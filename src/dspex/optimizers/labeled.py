"""Demonstrations straight from the training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass
from typing import TYPE_CHECKING, ClassVar

from dspex._random import generator
from dspex.errors import ConfigError
from dspex.evaluation import Metric, Row
from dspex.optimizers.candidate import Candidate, Demo, shown_row
from dspex.optimizers.plans import DONE, Algorithm, Plan, Signal, Task
from dspex.programs import Predict

if TYPE_CHECKING:
    import random

__all__ = ["LabeledFewShot", "labeled", "labels"]


@dataclass(frozen=True)
class LabeledFewShot(Algorithm[Candidate]):
    """
    Show each predictor up to ``k`` rows of the training set, drawn at random; nothing is run to find them.

    A predictor gets the fields that its signature has, from rows with at least one of its inputs and one of its
    outputs. After DSPy's optimizer of the same name; with seed 0 it draws the same rows.

    Args:
        k: Demonstrations for each predictor.
        sample: False takes the first ``k`` rows instead.
        metric: Scores the result on held-out rows; None leaves it unmeasured.

    Raises:
        ConfigError: ``k`` is negative.
    """

    k: int = 16
    sample: bool = True
    _: KW_ONLY
    metric: Metric | None = None
    width: int = 1
    chooses: ClassVar[bool] = False
    asks: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.k < 0:
            raise ConfigError(f"k={self.k}: expected a number of demonstrations, 0 or more")

    def begin(self, task: Task) -> Candidate:
        """Draw the demonstrations: there is nothing to plan."""
        if not task.learn:
            return task.start
        source = generator(task.seed) if self.sample else None
        return task.start.with_demos(labeled(task.predictors, task.learn, self.k, source))

    def plan(self, state: Candidate, k: int, chance: random.Random) -> Plan | Signal:
        """Return that all is done."""
        return DONE

    def absorb(self, state: Candidate, k: int, result: object) -> Candidate:
        """Return the state."""
        return state

    def best(self, state: Candidate) -> Candidate:
        """Return the candidate."""
        return state


def labeled(
    predictors: Mapping[str, Predict], rows: Sequence[Row], count: int, source: random.Random | None
) -> dict[str, list[Demo]]:
    """Return up to ``count`` rows as demonstrations of each predictor; they share one generator, in their order."""
    return {path: labels(each, rows, count, source) for path, each in predictors.items()}


def labels(predictor: Predict, rows: Sequence[Row], count: int, source: random.Random | None) -> list[Demo]:
    """Return up to ``count`` rows as demonstrations of one predictor: drawn from ``source``, or the first."""
    usable = [shown for row in rows if (shown := shown_row(predictor, row.example)) is not None]
    count = max(0, min(count, len(usable)))
    return source.sample(usable, count) if source is not None else usable[:count]
