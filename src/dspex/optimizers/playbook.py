"""A playbook of lessons that grows with the work: added by reflection, counted by use, never rewritten."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from dspex.errors import ConfigError
from dspex.evaluation import Metric, check_metric, normalize_text
from dspex.optimizers.candidate import Candidate
from dspex.optimizers.plans import DONE, WAIT, Algorithm, Evaluation, Plan, Run, Signal, Steer, Task, Write, Written
from dspex.optimizers.plans import chance as chance_of
from dspex.optimizers.proposals import ExtendPlaybook, ReflectOnWork, described_step, shown_rows, shown_traces
from dspex.optimizers.race import Raced, race
from dspex.optimizers.random_search import told
from dspex.protocols.model import LMChoice

if TYPE_CHECKING:
    import random

__all__ = ["Bullet", "Playbook"]

LONGEST = 600
"""Characters of one lesson; a longer one is left out, because it is not a lesson but an essay."""

MISLED = 2
"""So many more times harmful than helpful, a lesson goes."""

SNAPSHOTS = 4
"""Playbooks that are kept on the way; they race at the end with the program as it was."""


@dataclass(frozen=True, slots=True)
class Bullet:
    """
    One lesson.

    Attributes:
        mark: Its name, ``b1`` for example; never given twice.
        text: The lesson.
        helpful: How often a reflection said that it helped.
        harmful: How often one said that it misled.
    """

    mark: str
    text: str
    helpful: int = 0
    harmful: int = 0


class Additions(NamedTuple):
    """The changes of one block of rows to one predictor's playbook."""

    lessons: tuple[str, ...]
    helpful: tuple[str, ...]
    harmful: tuple[str, ...]


@dataclass(frozen=True)
class Lessons:
    """
    Where the search stands.

    Attributes:
        task: The task.
        bullets: The playbook of each predictor.
        given: The number of marks that were given, by predictor.
        blocks: Blocks of rows that are over.
        snapshots: Playbooks on the way.
        raced: The end of the race.
        hints: The words of people.
    """

    task: Task
    bullets: Mapping[str, tuple[Bullet, ...]]
    given: Mapping[str, int]
    blocks: int = 0
    snapshots: tuple[Candidate, ...] = ()
    raced: Raced | None = None
    hints: tuple[str, ...] = ()


@dataclass(frozen=True)
class Playbook(Algorithm[Lessons]):
    """
    Collect lessons from the program's own work, in a playbook that stands behind each instruction.

    After ACE, agentic context engineering (Zhang et al., 2025, arXiv 2510.04618). The program runs on a block of rows
    with the playbook so far; a model reflects on the runs and says which lessons helped and which misled; another call
    adds lessons. Additions are merged by code: nothing that is there is rewritten, so that nothing is lost to a
    summary. A lesson that misled twice more often than it helped goes.

    Other than in the paper, a block is several rows, several blocks run at once (``block_size=1, width=1`` is the
    paper's way), there is one round of reflection, and at the end playbooks of four stages and the program as it was
    race on the rows to choose by.

    Args:
        metric: The metric; a model reflects on its feedback.
        block_size: Rows of a block.
        epochs: How many times each row comes.
        max_bullets: Lessons of a predictor at most; the least helpful go first.
        reflection_lm: The model that reflects and adds; None is the App's default.
        width: Blocks under way at once; a wider window reflects on an older playbook.

    Raises:
        ConfigError: A number makes no sense, or the metric is not a function.
    """

    metric: Metric | None
    _: KW_ONLY
    block_size: int = 4
    epochs: int = 1
    max_bullets: int = 40
    reflection_lm: LMChoice = None
    width: int = 4
    version: ClassVar[int] = 2
    steered_by: ClassVar[frozenset[str]] = frozenset({"hint"})

    def __post_init__(self) -> None:
        check_metric(self.metric)
        if min(self.block_size, self.epochs, self.max_bullets) < 1:
            raise ConfigError("block_size, epochs and max_bullets must be at least 1")

    def begin(self, task: Task) -> Lessons:
        """Begin with empty playbooks."""
        return Lessons(task, dict.fromkeys(task.predictors, ()), dict.fromkeys(task.predictors, 0))

    def _blocks(self, task: Task) -> int:
        return math.ceil(len(task.learn) * self.epochs / self.block_size)

    def plan(self, state: Lessons, k: int, chance: random.Random) -> Plan | Signal:
        """Work through block k; the last plan is the race."""
        blocks = self._blocks(state.task)
        if k < blocks:
            return self._block(state, k)
        if k > blocks:
            return DONE
        return self._race(state) if state.blocks == blocks else WAIT

    def _block(self, state: Lessons, k: int) -> Plan:
        """Return the delta of each predictor's playbook."""
        task, candidate = state.task, self._candidate(state)
        rows, count = [], len(task.learn)
        for number in range(k * self.block_size, min((k + 1) * self.block_size, count * self.epochs)):
            order = list(range(count))
            chance_of(task.seed, "epoch", number // count).shuffle(order)
            rows.append(task.learn[order[number % count]])
        known = {row.index: row for row in rows}  # a block may run over the end of an epoch
        runs: tuple[Evaluation, ...] = yield Run(candidate, tuple(known.values()), trace=True)
        scored = [each for each in runs if each.score is not None]
        if not scored:
            return {}
        asks = []
        for path, predictor in task.predictors.items():
            work = [f"{shown_rows([known[each.row]])}\n{shown_traces([each], path)}" for each in scored]
            inputs = {
                "step": described_step(path, predictor),
                "playbook": listed(state.bullets[path]),
                "work": "\n\n".join(work),
                "hints": "\n".join(state.hints),
            }
            asks.append(Write(ReflectOnWork, inputs, k + 1, None, self.reflection_lm))
        reflected: tuple[Written, ...] = yield tuple(asks)
        thought = {path: each for path, each in zip(task.predictors, reflected, strict=True) if each.text("insights")}
        asks = []
        for path, each in thought.items():
            about = {"step": described_step(path, task.predictors[path]), "playbook": listed(state.bullets[path])}
            asks.append(
                Write(ExtendPlaybook, {**about, "insights": each.text("insights")}, k + 1, None, self.reflection_lm)
            )
        written: tuple[Written, ...] = yield tuple(asks)
        return {
            path: Additions(_texts(new, "lessons"), _texts(each, "helpful"), _texts(each, "harmful"))
            for (path, each), new in zip(thought.items(), written, strict=True)
        }

    def _race(self, state: Lessons) -> Plan:
        candidates = tuple(dict.fromkeys((state.task.start, *state.snapshots)))
        raced: Raced = yield from race(candidates, state.task.choose)
        return raced

    def _candidate(self, state: Lessons) -> Candidate:
        """Return the program with the playbooks so far."""
        task = state.task
        own = task.instructions(task.start)
        changed = {
            path: f"{own[path]}\n\nLessons from earlier work:\n{listed(bullets)}"
            for path, bullets in state.bullets.items()
            if bullets
        }
        return task.start.with_instructions(changed) if changed else task.start

    def absorb(self, state: Lessons, k: int, result: Raced | Mapping[str, Additions] | None) -> Lessons:
        """Merge what a block has added, or take the outcome of the race."""
        if isinstance(result, Raced):
            return replace(state, raced=result)
        if state.blocks >= self._blocks(state.task):
            return state  # the race itself failed
        bullets, given = dict(state.bullets), dict(state.given)
        for path, delta in (result or {}).items():
            bullets[path], given[path] = merged(bullets[path], delta, given[path], self.max_bullets)
        state = replace(state, bullets=bullets, given=given, blocks=state.blocks + 1)
        whole = self._blocks(state.task)
        if state.blocks * SNAPSHOTS // whole > (state.blocks - 1) * SNAPSHOTS // whole:
            state = replace(state, snapshots=(*state.snapshots, self._candidate(state)))
        return state

    def best(self, state: Lessons) -> Candidate:
        """Return the winner of the race; before it, the playbooks so far."""
        return state.raced.winner if state.raced is not None else self._candidate(state)

    def steer(self, state: Lessons, steer: Steer) -> Lessons:
        """Tell the model that reflects what a person said."""
        return replace(state, hints=(*state.hints, steer.hint)) if steer.hint else state

    def progress(self, state: Lessons) -> Mapping[str, object]:
        """Return how many blocks are over, and how many lessons there are."""
        lessons = sum(map(len, state.bullets.values()))
        return {"blocks": state.blocks, "wanted": self._blocks(state.task), "lessons": lessons}

    def summary(self, state: Lessons) -> Sequence[Mapping[str, object]]:
        """Return how each stage did in the race."""
        return told(state.raced.tallies) if state.raced is not None else ()


def listed(bullets: Sequence[Bullet]) -> str:
    """Return lessons as a program reads them."""
    return "\n".join(f"[{each.mark}] {each.text}" for each in bullets)


def merged(bullets: Sequence[Bullet], delta: Additions, given: int, most: int) -> tuple[tuple[Bullet, ...], int]:
    """
    Return a playbook after a delta, and how many marks have been given.

    Marks that it does not have count for nothing, and a lesson that is there already is not added again.
    """
    helpful, harmful = set(delta.helpful), set(delta.harmful)
    counted = [
        replace(each, helpful=each.helpful + (each.mark in helpful), harmful=each.harmful + (each.mark in harmful))
        for each in bullets
    ]
    kept = [each for each in counted if each.harmful - each.helpful < MISLED]
    known = {normalize_text(each.text) for each in counted}  # what has just gone does not come back at once
    for text in delta.lessons:
        plain = normalize_text(text)
        if plain and plain not in known and len(text) <= LONGEST:
            given += 1
            known.add(plain)
            kept.append(Bullet(f"b{given}", text))
    if len(kept) > most:  # the least helpful go; of equals the newest
        ranked = sorted(range(len(kept)), key=lambda at: (kept[at].harmful - kept[at].helpful, at))[:most]
        kept = [kept[at] for at in sorted(ranked)]
    return tuple(kept), given


def _texts(written: Written, name: str) -> tuple[str, ...]:
    found = written.outputs.get(name)
    values = found if isinstance(found, (list, tuple)) else ()
    return tuple(" ".join(each.strip("[] \n").split()) for each in values if isinstance(each, str) and each.strip())
