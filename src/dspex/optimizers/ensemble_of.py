"""An ensemble of what several optimizers find, when it is better than the best of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any

from dspex.errors import ConfigError
from dspex.evaluation import Metric, check_metric
from dspex.optimizers.candidate import Candidate
from dspex.optimizers.plans import DONE, WAIT, Algorithm, Found, Plan, Search, Signal, Task
from dspex.optimizers.race import Raced, cheapest, race
from dspex.optimizers.random_search import Contest, told
from dspex.programs import Ensemble, Module, Predict, majority
from dspex.protocols.money import Spending

if TYPE_CHECKING:
    import random

__all__ = ["EnsembleOf"]


@dataclass(frozen=True)
class EnsembleOf(Algorithm[Contest]):
    """
    Let several optimizers search side by side, and hand out an ``Ensemble`` of the best if it beats each alone.

    The program and the optimizers' candidates race on the rows to choose by. Then ensembles of the best two, three and
    so on, in which each member answers and ``reduce`` makes one answer of theirs, race against the winner. An ensemble
    of n costs n programs a row: of those that are as good, the cheapest is taken. After DSPy's Ensemble (Khattab et
    al., 2023, appendix E.3), which puts programs together and leaves the rest to you.

    The same optimizer may stand there several times: each searches with another seed.

    Args:
        metric: The metric; the optimizers are scored by it.
        optimizers: Those that find the members.
        reduce: Makes one answer of several, as ``Ensemble`` has it.
        most: Members of the largest ensemble; None for as many as there are optimizers.
        width: Optimizers under way at once.

    Raises:
        ConfigError: There are fewer than two optimizers, ``most`` does not fit them, or the metric is not a function.
    """

    metric: Metric | None
    optimizers: Sequence[Algorithm]
    _: KW_ONLY
    reduce: Callable[[Sequence[Any]], Any] = majority  # of whatever the program returns
    most: int | None = None
    width: int = 16

    def __post_init__(self) -> None:
        check_metric(self.metric)
        if len(self.optimizers) < 2 or not all(isinstance(each, Algorithm) for each in self.optimizers):
            raise ConfigError("EnsembleOf takes a metric and a list of two optimizers or more")
        if self.most is not None and not 2 <= self.most <= len(self.optimizers):
            raise ConfigError(f"most={self.most}: expected from 2 to {len(self.optimizers)}, as many as optimizers")

    def programs(self, student: Module) -> Mapping[str, Module]:
        """Return the ensembles by their names, and the programs of the optimizers."""
        found: dict[str, Module] = {}
        for each in self.optimizers:
            for name, program in each.programs(student).items():
                if found.setdefault(name, program) is not program:
                    raise ConfigError(f"two of the optimizers have different programs under the name {name!r}")
        state = student.dump_state()
        for count in range(2, (self.most or len(self.optimizers)) + 1):
            members: list[Any] = [student.load_state(state) for _ in range(count)]  # each has predictors of its own
            found[f"ensemble of {count}"] = Ensemble(members, self.reduce)
        return found

    def check(self, task: Task) -> None:
        """Have each optimizer look at the task."""
        for each in self.optimizers:
            each.check(task)

    def begin(self, task: Task) -> Contest:
        """Begin with the program as it is."""
        return Contest(task, (task.start,))

    def plan(self, state: Contest, k: int, chance: random.Random) -> Plan | Signal:
        """Let optimizer k search; the last plan is the races."""
        count = len(self.optimizers)
        if k > count:
            return DONE
        if k < count:
            return self._search(self.optimizers[k], state.task, k)
        return self._races(state) if len(state.candidates) > count else WAIT

    def _search(self, algorithm: Algorithm, task: Task, k: int) -> Plan:
        found: Found = yield Search(algorithm, start=task.start, seed=task.seed + k)
        return found.candidate if found.problem is None else None

    def _races(self, state: Contest) -> Plan:
        """Return the race of single programs, and that of the winner and the ensembles."""
        task = state.task
        singles = tuple(dict.fromkeys(each for each in state.candidates if each is not None))
        first: Raced = yield from race(singles, task.choose)
        ranked = sorted(range(len(singles)), key=lambda each: (each not in first.alive, -first.tallies[each].mean))
        members = [singles[each] for each in ranked if not singles[each].program]
        counts = range(2, min(self.most or len(self.optimizers), len(members)) + 1)
        ensembles = [_together(members[:count], task.program) for count in counts]
        if not ensembles:
            return first
        second: Raced = yield from race([first.winner, *ensembles], task.choose)
        tallies = (*(each for each in first.tallies if each.candidate != first.winner), *second.tallies)
        return Raced(tallies, second.alive, len(tallies) - len(second.tallies) + _fewest(second))

    def absorb(self, state: Contest, k: int, result: Raced | Candidate | None) -> Contest:
        """Take what an optimizer has found, or the outcome of the races."""
        if isinstance(result, Raced):
            return replace(state, tallies=result.tallies, winner=result.winner)
        return replace(state, candidates=(*state.candidates, result if k < len(self.optimizers) else None))

    def best(self, state: Contest) -> Candidate:
        """Return the winner; before there is one, what the latest optimizer has found."""
        found = [each for each in state.candidates if each is not None]
        return state.winner or found[-1]

    def progress(self, state: Contest) -> Mapping[str, object]:
        """Return how many optimizers are through."""
        return {"done": min(len(state.candidates) - 1, len(self.optimizers)), "wanted": len(self.optimizers)}

    def summary(self, state: Contest) -> Sequence[Mapping[str, object]]:
        """Return how each candidate did."""
        return told(state.tallies)


def _fewest(raced: Raced) -> int:
    """
    Return the best of one program and the ensembles: the one of fewest members within one standard error.

    Their own prices say nothing: members have answered these rows before, and a cache may have their answers.
    """
    priced = []
    for number in raced.alive:  # number 0 is one program, number 1 an ensemble of two
        tally = raced.tallies[number]
        priced.append(replace(tally, spent=Spending(tokens=(number + 1) * tally.rows)))
    return raced.alive[cheapest(priced)] if priced else raced.best


def _together(members: Sequence[Candidate], student: Module) -> Candidate:
    """Return the ensemble of candidates of the student: each change at the paths that its member has there."""

    def at(number: int, path: str) -> str:
        return f"programs[{number}]" if isinstance(student, Predict) else f"programs[{number}].{path}"

    numbered = tuple(enumerate(members))
    return Candidate(
        {at(number, path): each.instructions[path] for number, each in numbered for path in each.instructions},
        {at(number, path): each.demos[path] for number, each in numbered for path in each.demos},
        {at(number, path): each.lms[path] for number, each in numbered for path in each.lms},
        f"ensemble of {len(members)}",
    )
