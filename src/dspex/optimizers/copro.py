"""Instructions that a model proposes from scored attempts, one predictor after the other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from dspex.errors import ConfigError
from dspex.evaluation import Metric, check_metric
from dspex.optimizers.candidate import Candidate
from dspex.optimizers.plans import DONE, WAIT, Algorithm, Evaluation, Plan, Run, Signal, Steer, Task, Write, Written
from dspex.optimizers.proposals import ProposeFromAttempts, described_step, judged_runs, shown_traces
from dspex.optimizers.race import Raced, Tally, cheapest, race
from dspex.optimizers.random_search import told
from dspex.protocols.model import LMChoice

if TYPE_CHECKING:
    import random

__all__ = ["COPRO"]


@dataclass(frozen=True)
class Ascent:
    """
    Where a coordinate ascent stands.

    Attributes:
        task: The task.
        current: The best instructions so far, on which the next round builds.
        attempts: For each predictor, instructions that were tried with their mean scores.
        tallies: The results of the candidates.
        hints: The words of people.
    """

    task: Task
    current: Candidate
    attempts: Mapping[str, tuple[tuple[str, float], ...]]
    tallies: tuple[Tally, ...] = ()
    hints: tuple[str, ...] = ()
    rounds: int = 0


@dataclass(frozen=True)
class COPRO(Algorithm[Ascent]):
    """
    Improve the instructions of one predictor after the other, from earlier attempts and their scores.

    After DSPy's COPRO, a coordinate ascent over instructions (Khattab et al., 2023; the proposer that sees scored
    attempts is OPRO's, Yang et al., 2023). A round is one predictor at one depth: ``breadth`` proposals are written
    side by side and race on the rows; the best one stands when the next predictor's turn comes.

    Other than in DSPy, the model that writes also sees some runs with the metric's feedback, attempts are kept apart by
    predictor, an instruction that was scored is not scored again, the
    rows to choose by are not those that were learned from, and field prefixes, which no prompt shows, stay as they are.

    Args:
        metric: The metric.
        breadth: Instructions in each round, the current one included.
        depth: Rounds for each predictor.
        init_temperature: Of the model that writes.
        prompt_lm: The model that writes; None is the App's default.
        race: False runs every instruction on every row.
        width: Rounds depend on each other: 1.

    Raises:
        ConfigError: A number makes no sense, or the metric is not a function.
    """

    metric: Metric | None
    _: KW_ONLY
    breadth: int = 10
    depth: int = 3
    init_temperature: float = 1.4
    prompt_lm: LMChoice = None
    race: bool = True
    width: int = 1
    steered_by: ClassVar[frozenset[str]] = frozenset({"hint"})
    version: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_metric(self.metric)
        if self.breadth < 2 or self.depth < 1:
            raise ConfigError(f"breadth={self.breadth} must be at least 2 and depth={self.depth} at least 1")

    def begin(self, task: Task) -> Ascent:
        """Begin with the instructions that the program has."""
        return Ascent(task, task.start, dict.fromkeys(task.predictors, ()))

    def plan(self, state: Ascent, k: int, chance: random.Random) -> Plan | Signal:
        """Make round k: predictors in turn, at each depth."""
        paths = tuple(state.task.predictors)
        if k >= self.depth * len(paths):
            return DONE
        if state.rounds < k:
            return WAIT  # a round builds on the one before, however wide the window is
        return self._round(state, paths[k % len(paths)], k)

    def _round(self, state: Ascent, path: str, k: int) -> Plan:
        task = state.task
        known = state.attempts[path]
        current = task.instructions(state.current)[path]
        runs: tuple[Evaluation, ...] = yield from judged_runs(task, state.current)
        ranked = sorted(known, key=lambda each: each[1])[-self.breadth :]  # ascending: the best stands last
        inputs = {
            "step": described_step(path, task.predictors[path]),
            "attempts": "\n".join(f"score {score:.3f}: {text}" for text, score in ranked),
            "work": shown_traces(runs, path),
            "current_instruction": current,
            "hints": "\n".join(state.hints),
        }
        asks = tuple(
            Write(ProposeFromAttempts, inputs, k * self.breadth + number, self.init_temperature, self.prompt_lm)
            for number in range(1, self.breadth)
        )
        written: tuple[Written, ...] = yield asks
        texts = [current, *(each.text("instruction") for each in written)]
        fresh = [text for text in dict.fromkeys(texts) if text]
        candidates = [state.current, *(state.current.with_instructions({path: text}) for text in fresh[1:])]
        if self.race:
            raced: Raced = yield from race(candidates, task.choose)
            return path, fresh, raced.tallies, raced.best
        answers = yield tuple(Run(each, task.choose) for each in candidates)
        tallies = tuple(Tally.of(each, found) for each, found in zip(candidates, answers, strict=True))
        return path, fresh, tallies, max(range(len(tallies)), key=lambda each: (tallies[each].mean, -each))

    def absorb(self, state: Ascent, k: int, result: tuple[str, Sequence[str], Sequence[Tally], int] | None) -> Ascent:
        """Take over the best of a round."""
        state = replace(state, rounds=state.rounds + 1)
        if result is None:
            return state
        path, texts, tallies, best = result
        scored = {text: each.mean for text, each in zip(texts, tallies, strict=True) if each.scores}
        attempts = tuple({**dict(state.attempts[path]), **scored}.items())
        known = {each.candidate.key: each for each in (*state.tallies, *tallies)}
        return replace(
            state,
            current=tallies[best].candidate if tallies[best].scores else state.current,
            attempts={**state.attempts, path: attempts},
            tallies=tuple(known.values()),
        )

    def best(self, state: Ascent) -> Candidate:
        """Return the instructions that the last round has chosen, or cheaper ones that are as good."""
        whole = [each for each in state.tallies if each.rows == len(state.task.choose) and each.scores]
        standing = [each for each in whole if each.candidate == state.current]
        if not standing:
            return state.current
        rivals = [*standing, *(each for each in whole if each.candidate != state.current)]
        return rivals[cheapest(rivals)].candidate

    def steer(self, state: Ascent, steer: Steer) -> Ascent:
        """Tell the model that writes what a person said."""
        return replace(state, hints=(*state.hints, steer.hint)) if steer.hint else state

    def progress(self, state: Ascent) -> Mapping[str, object]:
        """Return how many rounds are over, and how many instructions were tried."""
        return {"rounds": state.rounds, "tried": len(state.tallies)}

    def summary(self, state: Ascent) -> Sequence[Mapping[str, object]]:
        """Return how each candidate did."""
        return told(state.tallies)
