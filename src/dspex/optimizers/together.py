"""Several optimizers in one job: one after the other, or side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from dspex.errors import ConfigError
from dspex.evaluation import Metric, check_metric
from dspex.optimizers.candidate import Candidate
from dspex.optimizers.plans import DONE, WAIT, Algorithm, Found, Plan, Search, Signal, Task
from dspex.optimizers.race import Raced, race
from dspex.optimizers.random_search import Contest, told
from dspex.programs import Module

if TYPE_CHECKING:
    import random

__all__ = ["BetterTogether"]


@dataclass(frozen=True)
class BetterTogether(Algorithm[Contest]):
    """
    Let several optimizers work on one program, and keep the best that any of them reaches.

    In sequence each begins with the candidate of the one before, as DSPy's BetterTogether does; side by side all begin
    with the program as it is (a portfolio: no optimizer is best everywhere). At the end the program and what each has
    found race on the rows to choose by.

    Other than in DSPy, an optimizer that finds nothing passes its beginning on and does not end the job, and all
    chance comes from the job's seed.

    Args:
        metric: The metric; the optimizers are scored by it.
        optimizers: In their order.
        in_sequence: False runs them side by side.

    Raises:
        ConfigError: There are none, they have no place for each other's programs, or the metric is not a function.
    """

    metric: Metric | None
    optimizers: Sequence[Algorithm]
    _: KW_ONLY
    in_sequence: bool = True
    width: int = 16
    version: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_metric(self.metric)
        if not self.optimizers or not all(isinstance(each, Algorithm) for each in self.optimizers):
            raise ConfigError("BetterTogether takes a metric and a list of optimizers")

    def programs(self, student: Module) -> Mapping[str, Module]:
        """Return the programs of all of them."""
        found: dict[str, Module] = {}
        for each in self.optimizers:
            for name, program in each.programs(student).items():
                if found.setdefault(name, program) is not program:
                    raise ConfigError(f"two of the optimizers have different programs under the name {name!r}")
        return found

    def check(self, task: Task) -> None:
        """Have each of them look at the task, and refuse two that have different programs under one name."""
        self.programs(task.program)
        for each in self.optimizers:
            each.check(task)

    def begin(self, task: Task) -> Contest:
        """Begin with the program as it is."""
        return Contest(task, (task.start,))

    def plan(self, state: Contest, k: int, chance: random.Random) -> Plan | Signal:
        """Let optimizer k search; the last plan is the race."""
        count = len(self.optimizers)
        if k > count:
            return DONE
        if (self.in_sequence or k == count) and len(state.candidates) <= k:
            return WAIT
        if k == count:
            return self._race(state)
        start = state.candidates[k] if self.in_sequence else state.task.start
        return self._search(self.optimizers[k], start or state.task.start, state.task.seed + k)

    def _search(self, algorithm: Algorithm, start: Candidate, seed: int) -> Plan:
        found: Found = yield Search(algorithm, start=start, seed=seed)
        return found.candidate

    def _race(self, state: Contest) -> Plan:
        candidates = tuple(dict.fromkeys(each for each in state.candidates if each is not None))
        raced: Raced = yield from race(candidates, state.task.choose)
        return raced

    def absorb(self, state: Contest, k: int, result: Raced | Candidate | None) -> Contest:
        """Take what an optimizer has found, or the outcome of the race."""
        if isinstance(result, Raced):
            return replace(state, tallies=result.tallies, winner=result.winner)
        return replace(state, candidates=(*state.candidates, result or state.candidates[-1]))

    def best(self, state: Contest) -> Candidate:
        """Return the winner; before there is one, what the latest optimizer has found."""
        return state.winner or state.candidates[-1] or state.task.start

    def progress(self, state: Contest) -> Mapping[str, object]:
        """Return how many optimizers are through."""
        return {"done": len(state.candidates) - 1, "wanted": len(self.optimizers)}

    def summary(self, state: Contest) -> Sequence[Mapping[str, object]]:
        """Return how each candidate did."""
        return told(state.tallies)
