"""Every optimizer keeps the contract of optimizers."""

from __future__ import annotations

from typing import Any

import dspex
from dspex.optimizers import Algorithm
from dspex.testing.conformance import AlgorithmContract


def metric(example: dspex.Example, prediction: object) -> bool:
    """Never called: a scripted world scores."""
    return True


class TestLabeledFewShot(AlgorithmContract):
    def algorithm(self) -> Algorithm[Any]:
        return dspex.LabeledFewShot(4, metric=metric)


class TestBootstrapFewShot(AlgorithmContract):
    limit = 110

    def algorithm(self) -> Algorithm[Any]:
        return dspex.BootstrapFewShot(metric, max_bootstrapped_demos=3, max_labeled_demos=4, max_rounds=2)
