"""Optuna's tree-structured Parzen estimator over combinations of options: told in order, so that a run is exact."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

from dspex.errors import MissingExtra

if TYPE_CHECKING:
    import random

    from dspex.optimizers._thompson import Seen

__all__ = ["check_tpe", "draw_tpe"]


def check_tpe() -> None:
    """Import Optuna, which takes a third of a second; raises MissingExtra where it is not installed."""
    if find_spec("optuna") is None:
        raise MissingExtra("optuna", 'sampler="tpe"')
    import optuna  # noqa: F401 - here, before a loop waits for it


def draw_tpe(sizes: Sequence[int], seen: Sequence[Seen], source: random.Random) -> tuple[int, ...]:
    """
    Return the combination that the estimator would try next, given what was seen.

    After Bergstra et al. (2011), "Algorithms for Hyper-Parameter Optimization". Each draw asks a study made anew of
    all that was seen, in the order in which it was first seen: no hidden state has to be carried over a kill.

    Args:
        sizes: The number of options of each choice.
        seen: Combinations that were tried, oldest first. The estimator does not weigh their rows.
        source: Of chance.
    """
    import optuna

    choices: dict[str, optuna.distributions.BaseDistribution] = {
        str(at): optuna.distributions.CategoricalDistribution(range(size)) for at, size in enumerate(sizes)
    }
    with _silence():  # Optuna writes a line to stderr for every study
        sampler = optuna.samplers.TPESampler(seed=source.getrandbits(32), multivariate=True)
        study = optuna.create_study(direction="maximize", sampler=sampler)
        study.add_trials(
            optuna.trial.create_trial(
                params=dict(zip(choices, each.options, strict=True)), distributions=choices, value=each.gain
            )
            for each in seen
        )
        asked = study.ask(choices).params
    return tuple(asked[name] for name in choices)


@contextmanager
def _silence() -> Iterator[None]:
    logger = logging.getLogger("optuna")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(before)
