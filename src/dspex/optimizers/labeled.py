"""Demonstrations straight from the training set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspex.errors import ConfigError
from dspex.evaluation import Row
from dspex.optimizers.optimizer import Candidate, Optimizer, Study, candidate_of
from dspex.programs import Example, Predict

if TYPE_CHECKING:
    import random

__all__ = ["LabeledFewShot"]


@dataclass(frozen=True)
class LabeledFewShot(Optimizer):
    """
    Show each predictor up to ``k`` rows of the training set, drawn at random; nothing is run and nothing is paid.

    A predictor gets the fields that its signature has, from rows with at least one of its inputs and one of its
    outputs.

    Args:
        k: Demonstrations for each predictor.
        sample: False takes the first ``k`` rows instead.

    Raises:
        ConfigError: ``k`` is negative.
    """

    metric = None

    k: int = 16
    sample: bool = True

    def __post_init__(self) -> None:
        if self.k < 0:
            raise ConfigError(f"k={self.k}: expected a number of demonstrations, 0 or more")

    def options(self) -> Mapping[str, Any]:
        """Return the options."""
        return {"k": self.k, "sample": self.sample}

    async def search(self, study: Study) -> Candidate:
        """Draw the demonstrations; predictors share one generator, in their order."""
        source = study.generator("labels") if self.sample else None
        predictors = study.program.predictors().items()
        demos = {path: labels(predictor, study.train, self.k, source) for path, predictor in predictors}
        return candidate_of(study.program.with_demos(demos) if study.train else study.program)


def labels(
    predictor: Predict[Any, ...], rows: Sequence[Row], count: int, source: random.Random | None
) -> list[Example]:
    """Return up to ``count`` rows as demonstrations of one predictor: drawn from ``source``, or the first."""
    fields = predictor.signature.fields
    usable = []
    for row in rows:
        shown = Example({name: row.example[name] for name in fields if name in row.example})
        if {fields[name].role for name in shown} == {"input", "output"}:
            usable.append(shown)
    count = max(0, min(count, len(usable)))
    return source.sample(usable, count) if source is not None else usable[:count]
