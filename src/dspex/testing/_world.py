"""A scripted world for optimizers: what candidates score and models write is a function, so no loop and no model."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from dspex.errors import NoCandidate
from dspex.evaluation import Row
from dspex.optimizers import Algorithm, Candidate, Embed, Run, Task, Train, Write
from dspex.optimizers._answers import plain_spending
from dspex.optimizers._core import Core, Item
from dspex.optimizers._job_plan import JobPlan, Outcome
from dspex.optimizers._lane import Lane
from dspex.optimizers._shelf import Shelf
from dspex.optimizers.split import Split
from dspex.programs import Example, Module, Predict
from dspex.protocols.money import Budget, Spending

if TYPE_CHECKING:
    import random

__all__ = ["ScriptedWorld", "Simulated", "rows_of", "simulate"]

Data = Mapping[str, object]


def hashed(*parts: object) -> int:
    """Return a number that follows from ``parts`` alone, in every process."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:8], "big")


def rows_of(count: int, first: int = 0) -> tuple[Row, ...]:
    """Return rows with a question and an answer, numbered from ``first``."""
    numbers = range(first, first + count)
    return tuple(
        Row(n, Example(question=f"question {n}", answer=f"answer {n}"), {"question": f"question {n}"}) for n in numbers
    )


class ScriptedWorld:
    """
    Decides how candidates do and what models write; override ``quality``, ``score`` or ``write``.

    By default each candidate has a true quality from 0.3 to 0.8 that follows from its content, each row is right with
    that probability, and models write words nobody has written before.
    """

    def quality(self, candidate: Candidate) -> float:
        """Return the true mean score of a candidate."""
        return 0.3 + 0.5 * (hashed("quality", candidate.key) % 1000) / 1000

    def score(self, candidate: Candidate, row: Row, rollout: int) -> float | None:
        """Return a candidate's score on a row; None makes the row fail."""
        return float(hashed("score", candidate.key, row.index, rollout) % 10_000 < 10_000 * self.quality(candidate))

    def feedback(self, candidate: Candidate, row: Row, score: float | None) -> str:
        """Return the metric's words."""
        return "" if score == 1 else f"row {row.index} should be answered {row.example.get('answer', '')!r}"

    def write(self, ask: Write, key: str) -> Mapping[str, object] | None:
        """Return the outputs of a signature; None makes the model fail."""
        fields = Predict(ask.signature).signature.fields
        return {name: _made_up(each.annotation, key, name) for name, each in fields.items() if each.role == "output"}

    def spent(self, item: Item) -> Spending:
        """Return what an answer costs."""
        return Spending(tokens=100, calls=1)

    def answer(self, item: Item, program: Module) -> Data:
        """Return the answer to an item as a journal has it."""
        ask, spent = item.ask, plain_spending(self.spent(item))
        if isinstance(ask, Run):
            assert item.row is not None
            score = self.score(ask.candidate, item.row, ask.rollout)
            told = {"score": score, "feedback": self.feedback(ask.candidate, item.row, score), "row": item.row.index}
            error = "" if score is not None else "LookupError: scripted"
            return {**told, "error": error, "spent": spent, "_trace": _trace(program, item.row, item.key)}
        if isinstance(ask, Write):
            written = self.write(ask, item.key)
            return {"outputs": written or {}, "error": "" if written is not None else "scripted", "spent": spent}
        if isinstance(ask, Embed):
            vectors = [[hashed("vector", text, n) % 1000 / 1000 for n in range(4)] for text in ask.texts]
            return {"_vectors": vectors, "error": "", "spent": spent}
        assert isinstance(ask, Train)
        return {"model": f"trained-{item.key[-8:]}", "error": "", "spent": spent}


def _trace(program: Module, row: Row, key: str) -> list[list[object]]:
    calls: list[list[object]] = []
    for path, predictor in program.predictors().items():
        values = {
            name: row.example.get(name, f"{name} {hashed(key, path) % 100}") for name in predictor.signature.fields
        }
        calls.append([path, values])
    return calls


def _made_up(annotation: object, key: str, name: str) -> object:
    number = hashed("written", key, name)
    if annotation is bool:
        return bool(number % 2)
    if annotation is int:
        return number % 10
    if annotation is float:
        return number % 1000 / 1000
    text = f"{name} {number:x}"[: len(name) + 9]
    return [text, f"{text} too"] if getattr(annotation, "__origin__", None) is list else text


@dataclass
class Simulated:
    """
    The end of a simulated job.

    Attributes:
        outcome: Its result; None when it was killed first.
        state: The search's last state, as text: two runs are the same when this is.
        paid: Answers that were bought in this run.
        spent: Their cost.
        journal: All recorded answers, by key.
        places: Where each bought answer was asked.
        bests: The best candidate after each plan of the search.
    """

    outcome: Outcome | None
    state: str
    paid: int
    spent: Spending
    journal: dict[str, Data]
    places: dict[str, tuple[int, ...]] = field(default_factory=dict)
    bests: list[Candidate] = field(default_factory=list)


def simulate(
    algorithm: Algorithm,
    world: ScriptedWorld,
    *,
    order: random.Random,
    learn: Sequence[Row],
    choose: Sequence[Row] | None = None,
    hold: Sequence[Row] = (),
    program: Module | None = None,
    seed: int = 0,
    pool: int = 8,
    journal: dict[str, Data] | None = None,
    kill_after: int | None = None,
    limit: Budget | None = None,
    sure: float = 0.0,
) -> Simulated:
    """
    Run a whole job without a loop: at most ``pool`` items are under way, and they end in an order of chance.

    Args:
        algorithm: The algorithm.
        world: The model that answers.
        order: Decides whose answer comes next; the result must not depend on it.
        learn: Rows to learn from.
        choose: Rows to choose by; None takes those of ``learn``.
        hold: Rows held out.
        program: The student; None is one predictor from a question to an answer.
        seed: Of the job.
        pool: Items under way at once.
        journal: Answers recorded by an earlier run; new ones are added.
        kill_after: The run is killed after so many bought answers.
        limit: The budget of the job.
        sure: As ``App.compile`` has it.

    Raises:
        Exception: The error that ended the job instead of a result.
    """
    student = program if program is not None else Predict("question -> answer")
    journal = {} if journal is None else journal
    shelf = Shelf()
    for key in journal:
        shelf.add(key)
    core = Core(shelf)
    split = Split(tuple(learn), tuple(learn if choose is None else choose), tuple(hold), "nothing is held out")
    task = Task(student, split.learn, split.choose, programs=algorithm.programs(student), seed=seed, held=len(hold))
    found = Simulated(None, "", 0, Spending(), journal)

    def absorbed(lane: Lane, _: int) -> None:
        with contextlib.suppress(NoCandidate):
            found.bests.append(lane.algorithm.best(lane.state))

    core.on_absorbed = absorbed
    core.begin(JobPlan(algorithm, split, sure, limit, seed), task)
    flight: list[Item] = []
    programs = {"": student, **algorithm.programs(student)}
    while not core.done and core.trouble is None:
        while len(flight) < pool and (item := core.take()) is not None:
            flight.append(item)
        assert flight, "the job waits, but nothing is under way"
        item = flight.pop(order.randrange(len(flight)))
        if item.reads:
            core.answered(item, {key: journal[key] for key in item.reads})
            continue
        if kill_after is not None and found.paid >= kill_after:
            return found
        assert item.key not in journal, f"{item.key} is bought twice"
        ask = item.ask
        changed = ask.candidate.applied(programs[ask.candidate.program]) if isinstance(ask, Run) else student
        journal[item.key] = world.answer(item, changed)
        found.paid += 1
        found.spent += world.spent(item)
        found.places[item.key] = item.place
        core.answered(item, {item.key: journal[item.key]})
    if core.trouble is not None:
        raise core.trouble
    found.outcome = core.state
    found.state = repr(core.state)
    return found
