"""Every optimizer keeps the contract of optimizers."""

from __future__ import annotations

from typing import Any

import dspex
from dspex.optimizers import COPRO, Algorithm, BootstrapFewShotWithRandomSearch, InferRules
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


class TestRandomSearch(AlgorithmContract):
    limit = 250

    def algorithm(self) -> Algorithm[Any]:
        return BootstrapFewShotWithRandomSearch(metric, num_candidate_programs=4, max_labeled_demos=4)


class TestRandomSearchWithoutRace(AlgorithmContract):
    limit = 250

    def algorithm(self) -> Algorithm[Any]:
        return BootstrapFewShotWithRandomSearch(
            metric, num_candidate_programs=3, max_labeled_demos=4, race=False, stop_at_score=0.9, width=2
        )


class TestCOPRO(AlgorithmContract):
    limit = 250

    def algorithm(self) -> Algorithm[Any]:
        return COPRO(metric, breadth=4, depth=2)


class TestInferRules(AlgorithmContract):
    limit = 250

    def algorithm(self) -> Algorithm[Any]:
        return InferRules(metric, num_candidates=3, max_labeled_demos=4)
