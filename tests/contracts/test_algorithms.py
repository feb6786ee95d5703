"""Every optimizer keeps the contract of optimizers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import dspex
from dspex.optimizers import (
    COPRO,
    GEPA,
    SIMBA,
    Algorithm,
    BetterTogether,
    BootstrapFewShotWithRandomSearch,
    BootstrapFinetune,
    EnsembleOf,
    FeedbackDescent,
    InferRules,
    MIPROv2,
    Playbook,
    Write,
)
from dspex.testing.conformance import AlgorithmContract, ScriptedWorld


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


class TestBootstrapFinetune(AlgorithmContract):
    def algorithm(self) -> Algorithm[Any]:
        return BootstrapFinetune(metric, epochs=2, width=4)


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


class TestMIPROv2(AlgorithmContract):
    limit = 300

    def algorithm(self) -> Algorithm[Any]:
        return MIPROv2(metric, num_candidates=4, num_trials=6, minibatch_size=10, width=4)


class TestMIPROv2WithOptuna(AlgorithmContract):
    limit = 350

    def algorithm(self) -> Algorithm[Any]:
        return MIPROv2(metric, num_candidates=4, num_trials=12, minibatch_size=10, width=2, sampler="tpe")


class TestMIPROv2WithoutDemonstrations(AlgorithmContract):
    limit = 250

    def algorithm(self) -> Algorithm[Any]:
        return MIPROv2(metric, max_bootstrapped_demos=0, max_labeled_demos=0, num_candidates=3, num_trials=4)


class TestGEPA(AlgorithmContract):
    limit = 250

    def algorithm(self) -> Algorithm[Any]:
        return GEPA(metric, max_children=10)


class TestGEPAWithManyRowsToReflectOn(AlgorithmContract):
    limit = 250

    def algorithm(self) -> Algorithm[Any]:
        return GEPA(metric, max_children=6, minibatch_size=10, merge_share=0.5, width=2)


class TestSIMBA(AlgorithmContract):
    limit = 300

    def algorithm(self) -> Algorithm[Any]:
        return SIMBA(metric, batch_size=6, num_candidates=3, max_steps=3)


def in_turn() -> list[Algorithm[Any]]:
    few = dspex.BootstrapFewShot(metric, max_bootstrapped_demos=2, max_labeled_demos=3)
    return [few, GEPA(metric, max_children=3)]


class TestBetterTogether(AlgorithmContract):
    limit = 250

    def algorithm(self) -> Algorithm[Any]:
        return BetterTogether(metric, in_turn())


class TestBetterTogetherSideBySide(AlgorithmContract):
    limit = 250

    def algorithm(self) -> Algorithm[Any]:
        return BetterTogether(metric, in_turn(), in_sequence=False)


class TestEnsembleOf(AlgorithmContract):
    limit = 350

    def algorithm(self) -> Algorithm[Any]:
        return EnsembleOf(metric, [*in_turn(), dspex.LabeledFewShot(3)])


class TestPlaybook(AlgorithmContract):
    limit = 250

    def algorithm(self) -> Algorithm[Any]:
        return Playbook(metric, block_size=5)


class Comparing(ScriptedWorld):
    """Its judge prefers what the script of the pair says, in either order."""

    def write(self, ask: Write, key: str) -> Mapping[str, object] | None:
        written = super().write(ask, key)
        if written is None or "better" not in written:
            return written
        first, second = str(ask.inputs["first"]), str(ask.inputs["second"])
        return {"reason": f"because of {key[-3:]}", "better": "first" if first > second else "second"}


class TestFeedbackDescent(AlgorithmContract):
    limit = 250

    def world(self) -> ScriptedWorld:
        return Comparing()

    def algorithm(self) -> Algorithm[Any]:
        return FeedbackDescent("Be right.", max_challengers=6, batch_size=5, width=2)


class TestFeedbackDescentWithAMetric(AlgorithmContract):
    limit = 250

    def world(self) -> ScriptedWorld:
        return Comparing()

    def algorithm(self) -> Algorithm[Any]:
        return FeedbackDescent("Be right.", metric=metric, max_challengers=6, batch_size=5)
