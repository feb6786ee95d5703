"""Rules that a model works out from good examples, appended to the instructions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from dspex.errors import ConfigError
from dspex.evaluation import Metric, check_metric
from dspex.optimizers.bootstrap import TEACHER, BootstrapFewShot
from dspex.optimizers.candidate import Candidate, shown_row
from dspex.optimizers.plans import DONE, WAIT, Algorithm, Evaluation, Found, Plan, Search, Signal, Task, Write
from dspex.optimizers.proposals import FindRules, described_step, judged_runs, shown_rows, shown_traces
from dspex.optimizers.race import Raced, race
from dspex.optimizers.random_search import Contest, after_race, told
from dspex.programs import Module
from dspex.protocols.model import LMChoice

if TYPE_CHECKING:
    import random

__all__ = ["InferRules"]

EXAMPLES = 50
"""Rows that the model works rules out of, at most."""


@dataclass(frozen=True)
class InferRules(Algorithm[Contest]):
    """
    Bootstrap demonstrations, have a model work out rules from good examples, and keep the rules that score best.

    After DSPy's InferRules. Candidate 0 is the bootstrapped program itself; each other one gets rules of its own for
    each predictor, appended to the instructions it had. Other than in DSPy, each candidate keeps its own rules, the
    signature class of the user is never touched, the examples have their fields, and the model sees some runs with the
    metric's feedback.

    Args:
        metric: The metric.
        num_candidates: Sets of rules that are tried.
        num_rules: Rules in a set, at most.
        max_bootstrapped_demos: As ``BootstrapFewShot`` has it.
        max_labeled_demos: As ``BootstrapFewShot`` has it.
        teacher: As ``BootstrapFewShot`` has it.
        prompt_lm: The model that works out the rules; None is the App's default.
        race: False runs every candidate on every row.
        width: Candidates under way at once.

    Raises:
        ConfigError: A number makes no sense, or the metric is not a function.
    """

    metric: Metric | None
    _: KW_ONLY
    num_candidates: int = 10
    num_rules: int = 10
    max_bootstrapped_demos: int = 4
    max_labeled_demos: int = 16
    teacher: Module | None = None
    prompt_lm: LMChoice = None
    race: bool = True
    width: int = 1024
    version: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_metric(self.metric)
        self._bootstrap()
        if self.num_candidates < 1 or self.num_rules < 1:
            raise ConfigError("num_candidates and num_rules must be at least 1")

    def _bootstrap(self) -> BootstrapFewShot:
        demos = (self.max_bootstrapped_demos, self.max_labeled_demos)
        return BootstrapFewShot(
            self.metric, max_bootstrapped_demos=demos[0], max_labeled_demos=demos[1], teacher=self.teacher
        )

    def programs(self, student: Module) -> Mapping[str, Module]:
        """Return the teacher, if it is another program."""
        return {TEACHER: self.teacher} if self.teacher is not None else {}

    def check(self, task: Task) -> None:
        """Refuse a teacher with other predictors."""
        self._bootstrap().check(task)

    def begin(self, task: Task) -> Contest:
        """Begin without candidates."""
        return Contest(task)

    def plan(self, state: Contest, k: int, chance: random.Random) -> Plan | Signal:
        """Plan 0 bootstraps, then there is one plan for each set of rules, then the race."""
        if k == 0:
            return self._begin(state.task)
        if not state.candidates:
            return WAIT
        base = state.candidates[0]
        assert base is not None
        if k <= self.num_candidates:
            return self._rules(state.task, base, k, chance)
        if k > self.num_candidates + 1:
            return DONE
        return WAIT if len(state.candidates) <= self.num_candidates else self._choose(state)

    def _begin(self, task: Task) -> Plan:
        found: Found = yield Search(self._bootstrap(), seed=task.seed)
        if found.problem is not None:
            return task.start
        return found.candidate

    def _rules(self, task: Task, base: Candidate, k: int, chance: random.Random) -> Plan:
        """Return the base with rules of its own at each predictor."""
        asks, paths = [], []
        runs: tuple[Evaluation, ...] = yield from judged_runs(task, base)
        for path, predictor in task.predictors.items():
            shown = [demo for row in task.learn if (demo := shown_row(predictor, row.example)) is not None]
            chosen = list(base.demos.get(path, ())) if not shown else chance.sample(shown, min(EXAMPLES, len(shown)))
            inputs = {
                "step": described_step(path, predictor),
                "examples": shown_rows(chosen),
                "work": shown_traces(runs, path),
                "count": self.num_rules,
            }
            paths.append(path)
            asks.append(Write(FindRules, inputs, k, 1.0, self.prompt_lm))
        written = yield tuple(asks)
        instructions = task.instructions(base)
        changed = {}
        for path, each in zip(paths, written, strict=True):
            rules = [rule.strip() for rule in each.outputs.get("rules") or () if rule.strip()][: self.num_rules]
            if rules:
                listed = "\n".join(f"- {rule}" for rule in rules)
                changed[path] = f"{instructions[path]}\n\nFollow these rules:\n{listed}"
        return base.with_instructions(changed) if changed else None

    def _choose(self, state: Contest) -> Plan:
        candidates = tuple(dict.fromkeys(each for each in state.candidates if each is not None))
        raced: Raced = yield from race(candidates, state.task.choose, on=self.race)
        return raced

    def absorb(self, state: Contest, k: int, result: Raced | Candidate | None) -> Contest:
        """Take a candidate, or the outcome of the race."""
        if k <= self.num_candidates:
            found = result if isinstance(result, Candidate) else state.task.start if k == 0 else None
            return replace(state, candidates=(*state.candidates, found))
        return after_race(state, result)

    def best(self, state: Contest) -> Candidate:
        """Return the winner; before there is one, the bootstrapped program."""
        if state.winner is not None:
            return state.winner
        return (state.candidates[0] if state.candidates else None) or state.task.start

    def progress(self, state: Contest) -> Mapping[str, object]:
        """Return how many candidates there are of how many wanted."""
        return {"candidates": len(state.candidates), "wanted": self.num_candidates + 1}

    def summary(self, state: Contest) -> Sequence[Mapping[str, object]]:
        """Return how each candidate did."""
        return told(state.tallies)
