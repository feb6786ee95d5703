"""Instructions that evolve by reflection on traces, with a front of candidates that each lead on some row."""

from __future__ import annotations

import math
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, ClassVar

from dspex.errors import ConfigError
from dspex.evaluation import Metric, Row, check_metric
from dspex.optimizers.candidate import Candidate
from dspex.optimizers.plans import (
    DONE,
    WAIT,
    Algorithm,
    Evaluation,
    Plan,
    Run,
    Signal,
    Steer,
    Task,
    Write,
    Written,
    chance,
)
from dspex.optimizers.proposals import ImproveFromTraces, described_step, shown_traces
from dspex.optimizers.race import Tally, cheapest, paid_rows, surely_worse
from dspex.optimizers.random_search import told
from dspex.protocols.model import LMChoice
from dspex.protocols.money import Spending

if TYPE_CHECKING:
    import random

__all__ = ["GEPA"]

BLOCKS = (10, 20, 30, 40)
"""Rows of the gate's blocks; what is left comes after them."""

TREE = 8
"""From so many judged runs on, reflection goes by groups and puts the groups' instructions together."""


@dataclass(frozen=True)
class Member:
    """
    A candidate that passed the gate.

    Attributes:
        candidate: The predictor it changes.
        scores: Its score on each row to choose by, in their order; not a number where the row failed.
        spent: The cost of those rows.
        paid: Those of them that were paid for, and not taken from a cache.
        parents: The numbers of those it was made from.
    """

    candidate: Candidate
    scores: array[float]
    spent: Spending
    paid: int
    parents: tuple[int, ...] = ()

    @property
    def mean(self) -> float:
        """The mean of the rows that have a score."""
        known = [each for each in self.scores if not math.isnan(each)]
        return math.fsum(known) / len(known) if known else -math.inf


@dataclass(frozen=True)
class Population:
    """
    Where the search stands.

    Attributes:
        task: The task.
        members: Those that passed, the student first.
        tried: Plans that made a child, or tried to.
        rejected: Children that did not pass.
        hints: The words of people.
        dropped: Keys of candidates that a person dropped.
        added: Candidates that a person added, which are to be tried.
    """

    task: Task
    members: tuple[Member, ...] = ()
    tried: int = 0
    rejected: int = 0
    hints: tuple[str, ...] = ()
    dropped: frozenset[str] = frozenset()
    added: tuple[Candidate, ...] = ()


@dataclass(frozen=True)
class GEPA(Algorithm[Population]):
    """
    Evolve instructions: run a parent on a few rows, have a model reflect on the traces, and keep children that hold up.

    After GEPA (Agrawal et al., 2025, arXiv 2507.19457). Parents are drawn from the front: candidates that lead on some
    row to choose by, the more often the more rows they lead on. A child gets a new instruction for one predictor, in
    turn, written from the parent's traces and the metric's feedback; or it is merged from two parents, each predictor
    from the one that changed it.

    Other than in the paper, the gate is a race: a child runs on the rows to choose by in blocks of 10, 20, 30, 40, and
    is dropped when it is surely behind the best candidate, whose rows are recorded and free. Three rows, as in the
    paper, pass an equal candidate a third of the time. With more than eight judged runs, reflection goes by groups, as
    in ComBEE. A step may also lend a child the demonstrations of another member, and length may have a price, which is
    taken off each score by the gate and by the choice at the end (both after CAPO, Zehle et al., 2025).

    Args:
        metric: The metric; a model reflects on its feedback.
        max_children: Children that are made.
        minibatch_size: Rows that a model reflects on.
        merge_share: The number of children that are merged instead of written.
        z: The number of standard errors behind the best at which a child is dropped.
        length_price: Score that 1,000 characters of instructions and demonstrations cost; 0.05 takes five points off.
        perfect_score: A parent that has it on all rows of a batch teaches nothing: no model is asked.
        reflection_lm: The model that writes; None is the App's default.
        width: Children under way at once; a wider window decides on older knowledge.

    Raises:
        ConfigError: A number makes no sense, or the metric is not a function.
    """

    metric: Metric | None
    _: KW_ONLY
    max_children: int = 40
    minibatch_size: int = 3
    merge_share: float = 0.15
    z: float = 1.0
    length_price: float = 0.0
    perfect_score: float = 1.0
    reflection_lm: LMChoice = None
    width: int = 4
    steered_by: ClassVar[frozenset[str]] = frozenset({"hint", "add", "drop"})

    def __post_init__(self) -> None:
        check_metric(self.metric)
        if self.max_children < 1 or self.minibatch_size < 1 or not 0 <= self.merge_share <= 1:
            raise ConfigError("max_children and minibatch_size must be at least 1, merge_share from 0 to 1")
        if self.z < 0 or not 0 <= self.length_price < math.inf:
            raise ConfigError("z and length_price must be 0 or more")

    def begin(self, task: Task) -> Population:
        """Begin with nobody."""
        return Population(task)

    def plan(self, state: Population, k: int, chance: random.Random) -> Plan | Signal:
        """Plan 0 runs the student; each other plan makes a child."""
        if k > self.max_children:
            return DONE
        if k == 0:
            return self._first(state.task)
        if not state.members:
            return WAIT if state.tried == 0 else DONE
        if state.added and k % 2:  # a candidate that a person added is tried soon, but the search goes on beside it
            return self._gate(state, state.added[(k // 2) % len(state.added)], ())
        if len(state.members) > 2 and chance.random() < self.merge_share:
            merged = self._merged(state, chance)
            if merged is not None:
                return self._gate(state, *merged)
        return self._child(state, k, chance)

    # --- plans ----------------------------------------------------------------------------------------------

    def _first(self, task: Task) -> Plan:
        evaluations = yield Run(task.start, task.choose)
        return _member(task.start, evaluations, ())

    def _child(self, state: Population, k: int, chance: random.Random) -> Plan:
        """Reflect on a parent's traces, and send the child through the gate."""
        task = state.task
        number = self._parent(state, chance)
        parent = state.members[number].candidate
        rows = tuple(_batch(task, k, self.minibatch_size))
        evaluations: tuple[Evaluation, ...] = yield Run(parent, rows, trace=True)
        if all(each.score is not None and each.score >= self.perfect_score for each in evaluations):
            return None
        paths = tuple(task.predictors)
        path = paths[(k - 1) % len(paths)]
        text: str = yield from self._reflect(state, parent, path, evaluations, k)
        current = task.instructions(parent)[path]
        if not text or text == current:
            return None
        child = parent.with_instructions({path: text})
        lender = state.members[chance.randrange(len(state.members))].candidate
        if lender.demos and chance.random() < self.merge_share:
            child = child.with_demos(lender.demos)
        return (yield from self._gate(state, child, (number,)))

    def _reflect(self, state: Population, parent: Candidate, path: str, runs: Sequence[Evaluation], k: int) -> Plan:
        """Return a new instruction for a predictor; many runs are read in groups, whose results are put together."""
        task = state.task
        base = {
            "step": described_step(path, task.predictors[path]),
            "current_instruction": task.instructions(parent)[path],
            "hints": "\n".join(state.hints),
        }
        groups = [tuple(runs)]
        if len(runs) > TREE:
            size = math.isqrt(len(runs))
            groups = [tuple(runs[at : at + size]) for at in range(0, len(runs), size)]
        asks = tuple(
            Write(ImproveFromTraces, {**base, "work": shown_traces(group, path)}, k, 1.0, self.reflection_lm)
            for group in groups
        )
        written: tuple[Written, ...] = yield asks
        texts = [text for each in written if (text := each.text("instruction"))]
        if len(texts) < 2:
            return "".join(texts)
        together = "\n\n".join(f"## proposal {number}\n{text}" for number, text in enumerate(texts, 1))
        whole: Written = yield Write(ImproveFromTraces, {**base, "work": together}, k, 1.0, self.reflection_lm)
        return whole.text("instruction", texts[0])

    def _gate(self, state: Population, child: Candidate, parents: tuple[int, ...]) -> Plan:
        """Race a child against the champion's recorded rows; return it with all rows, or None."""
        task = state.task
        champion = max(state.members, key=lambda each: each.mean - self._price(task, each.candidate))
        dearer = self._price(task, child) - self._price(task, champion.candidate)
        rows = {
            row.index: score + dearer
            for row, score in zip(task.choose, champion.scores, strict=True)
            if not math.isnan(score)
        }
        found: list[Evaluation] = []
        order = _order(task)
        at = 0
        for size in (*BLOCKS, len(order)):
            block = order[at : at + size]
            if not block:
                break
            found += yield Run(child, block)
            at += len(block)
            scores = {each.row: each.score for each in found if each.score is not None}
            if not scores or surely_worse(rows, scores, self.z):
                return None
        return _member(child, found, parents, task.choose)

    def _price(self, task: Task, candidate: Candidate) -> float:
        """Return what a candidate's length costs, in points of the score."""
        if not self.length_price:
            return 0.0
        own = {path: each.demos for path, each in task.predictors.items()}
        demos = [value for each in {**own, **candidate.demos}.values() for demo in each for value in demo.values()]
        return self.length_price * sum(map(len, map(str, [*task.instructions(candidate).values(), *demos]))) / 1000

    # --- who is chosen --------------------------------------------------------------------------------------

    def _parent(self, state: Population, chance: random.Random) -> int:
        """Return a member of the front, drawn by how many rows it leads on."""
        led = self._front(state)
        numbers = [number for number, count in enumerate(led) if count]
        return chance.choices(numbers, [led[number] for number in numbers])[0] if numbers else 0

    def _front(self, state: Population) -> list[int]:
        """Return on how many rows each member leads, ties included; who is dropped leads on none."""
        members = state.members
        led = [0] * len(members)
        kept = [number for number, each in enumerate(members) if each.candidate.key not in state.dropped]
        for at in range(len(state.task.choose)):
            values = [(members[number].scores[at], number) for number in kept]
            best = max((value for value, _ in values if not math.isnan(value)), default=None)
            for value, number in values:
                led[number] += value == best
        return led

    def _merged(self, state: Population, chance: random.Random) -> tuple[Candidate, tuple[int, ...]] | None:
        """Return a candidate that takes each predictor from the parent that changed it; None where two are one."""
        front = [number for number, count in enumerate(self._front(state)) if count]
        if len(front) < 2:
            return None
        one, two = sorted(chance.sample(front, 2))
        task = state.task
        base = task.instructions(task.start)
        texts = [task.instructions(state.members[number].candidate) for number in (one, two)]
        values = [state.members[each].mean - self._price(task, state.members[each].candidate) for each in (one, two)]
        better = 0 if values[0] >= values[1] else 1
        changed = {}
        for path, own in base.items():
            moved = [each for each in (0, 1) if texts[each][path] != own]
            taken = better if len(moved) != 1 else moved[0]
            if texts[taken][path] != own:
                changed[path] = texts[taken][path]
        leader = state.members[(one, two)[better]].candidate
        merged = replace(leader, instructions=changed)
        known = {each.candidate.key for each in state.members}
        return None if merged.key in known else (merged, (one, two))

    # --- the state ------------------------------------------------------------------------------------------

    def absorb(self, state: Population, k: int, result: Member | None) -> Population:
        """Take a child that passed."""
        state = replace(state, tried=state.tried + 1)
        member = result
        if member is None:
            return replace(state, rejected=state.rejected + 1)
        added = tuple(each for each in state.added if each != member.candidate)
        if any(each.candidate == member.candidate for each in state.members):
            return replace(state, added=added)
        return replace(state, members=(*state.members, member), added=added)

    def best(self, state: Population) -> Candidate:
        """Return the cheapest member within one standard error of the best."""
        kept = [each for each in state.members if each.candidate.key not in state.dropped]
        if not kept:
            return state.task.start
        priced = [_tally(each, self._price(state.task, each.candidate)) for each in kept]
        ranked = sorted(priced, key=lambda each: -each.mean)  # the oldest of equals first: the sort is stable
        return ranked[cheapest(ranked)].candidate

    def steer(self, state: Population, steer: Steer) -> Population:
        """Tell the model that reflects a hint; try a candidate that is added; leave one alone that is dropped."""
        if steer.hint:
            state = replace(state, hints=(*state.hints, steer.hint))
        if steer.add is not None:
            state = replace(state, added=(*state.added, steer.add))
        return replace(state, dropped=state.dropped | {steer.drop}) if steer.drop else state

    def progress(self, state: Population) -> Mapping[str, object]:
        """Return how many children were tried, how many passed, and the best mean."""
        best = max((each.mean for each in state.members if each.mean > -math.inf), default=None)
        return {"tried": state.tried, "members": len(state.members), "best": best}

    def summary(self, state: Population) -> Sequence[Mapping[str, object]]:
        """Return how each member did."""
        return told([_tally(each) for each in state.members])


def _batch(task: Task, k: int, size: int) -> list[Row]:
    """Return the rows of batch k: epochs over shuffled rows, so that each row comes as often as any other."""
    count = len(task.learn)
    found = []
    for number in range((k - 1) * size, k * size):
        order = list(range(count))
        chance(task.seed, "epoch", number // count).shuffle(order)
        found.append(task.learn[order[number % count]])
    return found


def _order(task: Task) -> tuple[Row, ...]:
    rows = list(task.choose)
    chance(task.seed, "gate").shuffle(rows)
    return tuple(rows)


def _member(
    candidate: Candidate, found: Sequence[Evaluation], parents: tuple[int, ...], rows: Sequence[Row] | None = None
) -> Member:
    scores = {each.row: each.score for each in found}
    order = [row.index for row in rows] if rows is not None else [each.row for each in found]
    values = [scores[row] for row in order]
    kept = array("d", [math.nan if value is None else value for value in values])
    spent = sum((each.spent for each in found), Spending())
    return Member(candidate, kept, spent, paid_rows(found), parents)


def _tally(member: Member, price: float = 0.0) -> Tally:
    scores = {at: value - price for at, value in enumerate(member.scores) if not math.isnan(value)}
    return Tally(member.candidate, scores, len(member.scores) - len(scores), member.spent, member.paid)
