"""Instructions and demonstrations, searched together."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, get_args

from dspex._random import generator
from dspex.errors import ConfigError
from dspex.evaluation import Metric, Row, check_metric
from dspex.optimizers._thompson import Seen, draw
from dspex.optimizers._tpe import check_tpe, draw_tpe
from dspex.optimizers.bootstrap import TEACHER, BootstrapFewShot
from dspex.optimizers.candidate import Candidate, Demo
from dspex.optimizers.labeled import labeled
from dspex.optimizers.plans import (
    DONE,
    WAIT,
    Algorithm,
    Evaluation,
    Found,
    Plan,
    Run,
    Search,
    Signal,
    Steer,
    Task,
    Write,
    Written,
    chance,
)
from dspex.optimizers.proposals import (
    TIPS,
    DescribeData,
    ProposeInstruction,
    described_program,
    described_step,
    judged_runs,
    shown_rows,
    shown_traces,
)
from dspex.optimizers.race import Raced, Tally, paired, race
from dspex.optimizers.random_search import told
from dspex.programs import Module
from dspex.protocols.model import LMChoice

if TYPE_CHECKING:
    import random

__all__ = ["MIPROv2"]

Auto = Literal["light", "medium", "heavy"]
Sampler = Literal["thompson", "tpe"]

AUTO: Mapping[str, tuple[int, int]] = {"light": (6, 100), "medium": (12, 300), "heavy": (18, 1000)}
"""Candidates for each choice, and rows to choose by, at most."""

VIEWED = 10
"""Rows that the data is described by at once."""

MOST_VIEWED = 10
"""Descriptions of rows, at most."""

FINALISTS = 5
"""Combinations that race at the end, the program as it was among them."""

DemoSet = Mapping[str, tuple[Demo, ...]]


@dataclass(frozen=True)
class Mixing:
    """
    Where the search stands.

    Attributes:
        task: The task.
        demo_sets: Demonstrations by predictor; None for a set that could not be made.
        data: A description of the rows, in words.
        proposals: Instructions by predictor.
        tallies: The results of combinations in trials, by their options.
        raced: The end of the last race.
        hints: The words of people.
        absorbed: Plans that are over.
    """

    task: Task
    demo_sets: tuple[DemoSet | None, ...] = ()
    data: str | None = None
    proposals: tuple[Mapping[str, str], ...] = ()
    tallies: Mapping[tuple[int, ...], Tally] | None = None
    raced: Raced | None = None
    hints: tuple[str, ...] = ()
    absorbed: int = 0


@dataclass(frozen=True)
class MIPROv2(Algorithm[Mixing]):
    """
    Search combinations of proposed instructions and bootstrapped demonstrations.

    After Opsahl-Ong et al. (2024), "Optimizing Instructions and Demonstrations for Multi-Stage Language Model
    Programs", and DSPy's MIPROv2, whose numbers are the defaults. Three steps: sets of demonstrations, as in random
    search; instructions for each predictor, from a description of the data, the program, demonstrations and a tip;
    trials of combinations, and a race of the best.

    Other than in DSPy, everything in the first two steps runs side by side. The data and the program are described
    once, not for each proposal; proposals are also grounded in some runs with the metric's feedback. All trials run on
    the same rows, so that their differences are not differences of rows; a combination that is drawn again gets more of
    them. The next combination is drawn by Thompson sampling over effects that add up; DSPy's TPE, which draws its first
    ten trials at random, is ``sampler="tpe"``. The best race on all rows, with the program as it was among them.

    Args:
        metric: The metric.
        auto: ``light``, ``medium`` or ``heavy``: how many candidates, rows and trials.
        num_candidates: Demonstration sets; half as many instructions. None takes them from ``auto``.
        num_trials: Trials; None takes DSPy's formula.
        max_bootstrapped_demos: Rows that are worked out for a set. With 0 here and below, only instructions change.
        max_labeled_demos: Demonstrations in a set.
        minibatch_size: Rows of a trial.
        init_temperature: Of the model that writes.
        threshold: The least score that makes a bootstrapped row count.
        teacher: Another program with the same predictors; by default the program itself.
        prompt_lm: The model that writes; None is the App's default.
        width: Trials under way at once; a wider window draws from older knowledge.
        sampler: ``thompson``, or ``tpe``: Optuna's estimator, of the extra ``optuna``.

    Raises:
        ConfigError: A number makes no sense, or the metric is not a function.
        MissingExtra: The sampler is ``tpe``, and Optuna is not installed.
    """

    metric: Metric | None
    _: KW_ONLY
    auto: Auto = "light"
    num_candidates: int | None = None
    num_trials: int | None = None
    max_bootstrapped_demos: int = 4
    max_labeled_demos: int = 4
    minibatch_size: int = 35
    init_temperature: float = 1.0
    threshold: float = 1.0
    teacher: Module | None = None
    prompt_lm: LMChoice = None
    width: int = 16
    sampler: Sampler = "thompson"
    steered_by: ClassVar[frozenset[str]] = frozenset({"hint"})
    version: ClassVar[int] = 3

    def __post_init__(self) -> None:
        check_metric(self.metric)
        if self.auto not in AUTO:
            raise ConfigError(f"auto={self.auto!r} must be one of {', '.join(AUTO)}")
        if min(self.max_bootstrapped_demos, self.max_labeled_demos) < 0 or self.minibatch_size < 1:
            raise ConfigError("numbers of demonstrations must be 0 or more, minibatch_size at least 1")
        if (self.num_candidates or 1) < 1 or (self.num_trials or 1) < 1:
            raise ConfigError("num_candidates and num_trials must be at least 1")
        if self.sampler not in get_args(Sampler):
            raise ConfigError(f"sampler={self.sampler!r} must be one of {', '.join(get_args(Sampler))}")
        if self.sampler == "tpe":
            check_tpe()

    # --- how many -------------------------------------------------------------------------------------------

    @property
    def _few_shot(self) -> bool:
        return bool(self.max_bootstrapped_demos or self.max_labeled_demos)

    @property
    def _n(self) -> int:
        return self.num_candidates if self.num_candidates is not None else AUTO[self.auto][0]

    @property
    def _sets(self) -> int:
        return max(self._n, 3) if self._few_shot else 0

    @property
    def _texts(self) -> int:
        return max(1, self._n // 2) if self._few_shot else self._n

    def _trials(self, task: Task) -> int:
        if self.num_trials is not None:
            return self.num_trials
        variables = len(task.predictors) * (2 if self._few_shot else 1)
        return int(max(2 * variables * math.log2(max(2, self._n)), 1.5 * self._n))

    def _rows(self, task: Task) -> tuple[Row, ...]:
        """Return the rows to choose by, in one order for all trials."""
        rows = list(task.choose)
        chance(task.seed, "rows").shuffle(rows)
        return tuple(rows[: AUTO[self.auto][1]])

    # --- the search -----------------------------------------------------------------------------------------

    def programs(self, student: Module) -> Mapping[str, Module]:
        """Return the teacher, if it is another program."""
        return {TEACHER: self.teacher} if self.teacher is not None else {}

    def check(self, task: Task) -> None:
        """Refuse a teacher with other predictors."""
        self._bootstrap(1).check(task)

    def _bootstrap(self, size: int) -> BootstrapFewShot:
        return BootstrapFewShot(
            self.metric,
            threshold=self.threshold,
            max_bootstrapped_demos=size,
            max_labeled_demos=self.max_labeled_demos,
            teacher=self.teacher,
        )

    def begin(self, task: Task) -> Mixing:
        """Begin with nothing."""
        return Mixing(task, tallies={})

    def plan(self, state: Mixing, k: int, chance: random.Random) -> Plan | Signal:
        """Demonstration sets and the description of the data come first, then proposals, trials, and the race."""
        first, proposals = self._sets + 1, self._texts - 1
        if k < self._sets:
            return self._demo_set(state.task, k)
        if k == self._sets:
            return self._describe(state.task)
        if k < first + proposals:
            return self._propose(state, k - first + 1, chance) if state.absorbed >= first else WAIT
        trial = k - first - proposals
        if state.absorbed < first + proposals:
            return WAIT
        if trial <= self._trials(state.task):  # trial 0 is the program as it was
            return self._trial(state, trial, chance)
        if trial > self._trials(state.task) + 1:
            return DONE
        return self._race(state) if state.absorbed >= k else WAIT

    def _demo_set(self, task: Task, k: int) -> Plan:
        """Return set k: none, labelled rows, bootstrapped in order, bootstrapped in shuffled orders."""
        if k == 0:
            return dict.fromkeys(task.predictors, ())
        if k == 1 and self.max_labeled_demos:
            return labeled(task.predictors, task.learn, self.max_labeled_demos, generator(task.seed))
        rows, size = list(task.learn), max(1, self.max_bootstrapped_demos)
        if k > 2:
            number = task.seed + k - 3
            generator(number).shuffle(rows)
            size = generator(number).randint(1, size)
        found: Found = yield Search(self._bootstrap(size), learn=tuple(rows), seed=task.seed)
        return None if found.problem is not None else found.candidate.demos

    def _describe(self, task: Task) -> Plan:
        """Return what the data looks like: parts are described side by side, then put together."""
        parts = [task.learn[at : at + VIEWED] for at in range(0, min(len(task.learn), VIEWED * MOST_VIEWED), VIEWED)]
        asks = tuple(Write(DescribeData, self._viewed(part, []), 1, None, self.prompt_lm) for part in parts)
        written: tuple[Written, ...] = yield asks
        notes = [text for each in written if (text := each.text("description"))]
        if len(notes) < 2:
            return "".join(notes)
        whole: Written = yield Write(DescribeData, self._viewed(task.learn[:3], notes), 1, None, self.prompt_lm)
        return whole.text("description", notes[0])

    def _viewed(self, rows: Sequence[Row], notes: list[str]) -> dict[str, object]:
        return {"examples": shown_rows(rows), "observations": notes}

    def _propose(self, state: Mixing, number: int, chance: random.Random) -> Plan:
        """Return an instruction for each predictor."""
        task = state.task
        current = task.instructions(task.start)
        program = described_program(task, current)
        demo_set = self._set(state, number)
        runs: tuple[Evaluation, ...] = yield from judged_runs(task, task.start)
        asks = []
        for path, predictor in task.predictors.items():
            inputs = {
                "program": program,
                "step": described_step(path, predictor),
                "data": state.data or "",
                "demonstrations": shown_rows(demo_set.get(path, ())[:3]),
                "work": shown_traces(runs, path),
                "current_instruction": current[path],
                "tip": TIPS[chance.choice(sorted(TIPS))],
                "hints": "\n".join(state.hints),
            }
            asks.append(Write(ProposeInstruction, inputs, number, self.init_temperature, self.prompt_lm))
        written: tuple[Written, ...] = yield tuple(asks)
        return {
            path: each.text("instruction", current[path]) for path, each in zip(task.predictors, written, strict=True)
        }

    def _set(self, state: Mixing, number: int) -> DemoSet:
        sets = [each for each in state.demo_sets if each]
        return sets[number % len(sets)] if sets else {}

    def _trial(self, state: Mixing, trial: int, chance: random.Random) -> Plan:
        """Return how a combination does on the trials' rows."""
        sizes = self._sizes(state)
        sample = draw_tpe if self.sampler == "tpe" else draw
        options = (0,) * len(sizes) if trial == 0 else sample(sizes, self._seen(state), chance)
        candidate = self._combined(state, options)
        # A combination that is drawn again gets more rows; those it had are free.
        known = (state.tallies or {}).get(options)
        count = self.minibatch_size + (known.rows if known is not None else 0)
        evaluations = yield Run(candidate, self._rows(state.task)[:count])
        return options, Tally.of(candidate, evaluations)

    def _race(self, state: Mixing) -> Plan:
        """Return the race of the best combinations on all rows."""
        assert state.tallies is not None
        default = (0,) * len(self._sizes(state))
        ranked = sorted(state.tallies.items(), key=lambda each: (-each[1].mean, each[0]))
        chosen = [tally.candidate for options, tally in ranked if options != default][: FINALISTS - 1]
        raced: Raced = yield from race([self._combined(state, default), *chosen], self._rows(state.task))
        return raced

    # --- combinations ---------------------------------------------------------------------------------------

    def _sizes(self, state: Mixing) -> list[int]:
        """Return how many options each choice has: instructions of each predictor, then demonstrations of each."""
        predictors = len(state.task.predictors)
        texts = [1 + len(state.proposals)] * predictors
        return texts + ([1 + len(state.demo_sets)] * predictors if self._few_shot else [])

    def _combined(self, state: Mixing, options: tuple[int, ...]) -> Candidate:
        """Return the candidate of a combination; option 0 is what the program has."""
        candidate = state.task.start
        paths = tuple(state.task.predictors)
        for path, option in zip(paths, options, strict=False):
            if option:
                candidate = candidate.with_instructions({path: state.proposals[option - 1][path]})
        for path, option in zip(paths, options[len(paths) :], strict=False):
            chosen = state.demo_sets[option - 1] if option else None
            if chosen is not None:
                candidate = candidate.with_demos({path: chosen.get(path, ())})
        return candidate

    def _seen(self, state: Mixing) -> list[Seen]:
        assert state.tallies is not None
        sizes = self._sizes(state)
        default = state.tallies.get((0,) * len(sizes))
        found = []
        for options, tally in state.tallies.items():
            gains = paired(tally.scores, default.scores) if default is not None else []
            if gains and any(options):
                found.append(Seen(options, math.fsum(gains) / len(gains), len(gains)))
        return found

    # --- the state ------------------------------------------------------------------------------------------

    def absorb(self, state: Mixing, k: int, result: Any) -> Mixing:
        """Take a set, the description, a proposal, a trial, or the race."""
        state = replace(state, absorbed=k + 1)
        first = self._sets + 1
        if k < self._sets:
            return replace(state, demo_sets=(*state.demo_sets, result))
        if k == self._sets:
            return replace(state, data=result or "")
        if k < first + self._texts - 1:
            return replace(state, proposals=(*state.proposals, result)) if result is not None else state
        if isinstance(result, Raced):
            return replace(state, raced=result)
        if result is None:
            return state
        options, tally = result
        return replace(state, tallies={**(state.tallies or {}), options: tally})

    def best(self, state: Mixing) -> Candidate:
        """Return the winner of the race; before it, the combination with the best trial."""
        if state.raced is not None:
            return state.raced.winner
        tried = [each for each in (state.tallies or {}).values() if each.scores]
        return max(tried, key=lambda each: each.mean).candidate if tried else state.task.start

    def steer(self, state: Mixing, steer: Steer) -> Mixing:
        """Tell the model that writes what a person said."""
        return replace(state, hints=(*state.hints, steer.hint)) if steer.hint else state

    def progress(self, state: Mixing) -> Mapping[str, object]:
        """Return how many sets, proposals and combinations there are, and the best mean of a trial."""
        tried = [each.mean for each in (state.tallies or {}).values() if each.scores]
        counted = {"sets": len(state.demo_sets), "proposals": len(state.proposals), "tried": len(tried)}
        return {**counted, "best": max(tried, default=None)}

    def summary(self, state: Mixing) -> Sequence[Mapping[str, object]]:
        """Return how each combination did."""
        known = {each.candidate.key: each for each in (state.tallies or {}).values()}
        known |= {each.candidate.key: each for each in (state.raced.tallies if state.raced is not None else ())}
        return told(tuple(known.values()))
