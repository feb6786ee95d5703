"""
The interface of optimizers: a pure algorithm that makes plans, and the questions that plans ask.

An algorithm never awaits anything. It is four functions over an immutable state, and a plan is a generator: it yields
asks, is sent their answers, and returns a result. The engine runs plans side by side, absorbs their results in order,
and keeps every answer in a journal. Therefore the result follows from the seed and the answers alone, never from
timing, and a killed job continues exactly.
"""

from __future__ import annotations

import dataclasses
import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Final, Generic

from typing_extensions import TypeVar

from dspex._random import generator
from dspex.evaluation import Metric, Row
from dspex.optimizers.candidate import Candidate
from dspex.programs import Module, Predict, Signature
from dspex.protocols.json_values import Json
from dspex.protocols.model import LMChoice
from dspex.protocols.money import Budget, Spending

if TYPE_CHECKING:
    import random

__all__ = [
    "DONE",
    "WAIT",
    "Algorithm",
    "Answer",
    "Ask",
    "Embed",
    "Embedded",
    "Evaluation",
    "Found",
    "Plan",
    "Run",
    "Search",
    "Signal",
    "Steer",
    "Task",
    "Train",
    "Trained",
    "Write",
    "Written",
    "chance",
]

S = TypeVar("S", default=Any)


def chance(*path: object) -> random.Random:
    """Return a source of chance that depends on ``path`` alone, in every process: no generator's state is kept."""
    return generator(int.from_bytes(hashlib.sha256(repr(path).encode()).digest()[:8], "big"))


# --- what plans ask, and what they are answered -------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Run:
    """
    Run a candidate on rows and score each answer; the answer is an ``Evaluation`` for each row, in their order.

    The same candidate, row, rollout and temperature is paid once in a job, whoever asks. A row is never shown among
    its own demonstrations.

    Attributes:
        candidate: The program to run.
        rows: On which rows of the task.
        rollout: 0 for the program as it is; each other number samples afresh, with the number as its seed.
        temperature: Of the sampling; None leaves it as the program has it.
        trace: True when ``Evaluation.trace`` is wanted.
        scored: True when the metric is asked; without it every answer scores 1.
    """

    candidate: Candidate
    rows: tuple[Row, ...]
    rollout: int = 0
    temperature: float | None = None
    trace: bool = False
    scored: bool = True


@dataclass(frozen=True, slots=True)
class Evaluation:
    """
    The recorded run of a candidate on one row.

    Attributes:
        row: The row's number.
        score: The metric's value; None when the row failed, which is not a bad score.
        feedback: The metric's words.
        error: Why the row failed.
        trace: The predictors' calls, where the ask wanted them: path, and field values as JSON has them.
        spent: The cost of the run.
    """

    row: int
    score: float | None
    feedback: str = ""
    error: str = ""
    trace: tuple[tuple[str, Json], ...] = ()
    spent: Spending = field(default_factory=Spending)


@dataclass(frozen=True, slots=True)
class Write:
    """
    Have a model fill in a signature, to propose instructions for example; the answer is ``Written``.

    Attributes:
        signature: The question: a Signature class, or text such as ``"task -> instruction"``.
        inputs: Values of its inputs.
        rollout: Tells equal asks apart, and seeds the sampling when it is not 0.
        temperature: Of the sampling; None leaves it to the model.
        lm: The model; None for the App's default.
    """

    signature: type[Signature] | str
    inputs: Mapping[str, object]
    rollout: int = 0
    temperature: float | None = None
    lm: LMChoice = None


@dataclass(frozen=True, slots=True)
class Written:
    """A model's text: outputs by name, as JSON has them; empty with ``error`` when it gave none."""

    outputs: Json
    error: str = ""
    spent: Spending = field(default_factory=Spending)

    def text(self, name: str, default: str = "") -> str:
        """Return an output as text, without white space around it; ``default`` where there is none."""
        value = self.outputs.get(name)
        return value.strip() if isinstance(value, str) and value.strip() else default


@dataclass(frozen=True, slots=True)
class Embed:
    """Turn texts into vectors; the answer is ``Embedded``."""

    texts: tuple[str, ...]
    lm: LMChoice = None


@dataclass(frozen=True, slots=True)
class Embedded:
    """Vectors, one for each text; none, with ``error``, when the model gave none."""

    vectors: tuple[tuple[float, ...], ...]
    error: str = ""
    spent: Spending = field(default_factory=Spending)


@dataclass(frozen=True, slots=True)
class Train:
    """
    Train a model on conversations; the answer is ``Trained``. The same data is submitted once in a job.

    Attributes:
        lm: The model to start from; None for the App's default.
        data: Training examples in the form ``openai`` of ``training_data``, one JSON object each.
        options: ``epochs``, ``seed``, ``suffix``, and others as the provider names them.
        expected: The most that it is expected to cost; it is set aside before the data is sent.
        price: US dollars per million trained tokens; None where nobody knows.
        look_every: Seconds between two looks at how it goes; they take no part in what is asked.
    """

    lm: LMChoice
    data: tuple[Mapping[str, object], ...]
    options: Mapping[str, object] = field(default_factory=dict)
    expected: Spending = field(default_factory=lambda: Spending(calls=1))
    price: Decimal | None = None
    look_every: float = 10.0


@dataclass(frozen=True, slots=True)
class Trained:
    """The trained model, as ``provider/model``; empty, with ``error``, when training failed."""

    model: str
    error: str = ""
    spent: Spending = field(default_factory=Spending)


@dataclass(frozen=True, slots=True)
class Search:
    """
    Have another algorithm search, inside this plan; the answer is ``Found``.

    Attributes:
        algorithm: The algorithm. It is scored by the job's metric.
        learn: Its rows to learn from; None for those of the task.
        choose: Its rows to choose by; None for those of the task.
        start: The candidate that it begins with.
        seed: Where its chance comes from; None takes the ask's own place in the search.
        limit: The most that it may spend; None leaves only the limits above.
        price: The expected cost of a row; it is set aside before the row is sent.
    """

    algorithm: Algorithm
    learn: tuple[Row, ...] | None = None
    choose: tuple[Row, ...] | None = None
    start: Candidate | None = None
    seed: int | None = None
    limit: Budget | None = None
    price: Spending = field(default_factory=Spending)


@dataclass(frozen=True, slots=True)
class Found:
    """
    The result of a search.

    Attributes:
        candidate: The best; the one that it began with when there is none.
        state: The algorithm's state at its end.
        plans: The number of plans it has absorbed.
        problem: Why there is no candidate.
    """

    candidate: Candidate
    state: Any  # the algorithm's own
    plans: int = 0
    problem: Exception | None = None


Ask = Run | Write | Embed | Train | Search
Answer = tuple[Evaluation, ...] | Written | Embedded | Trained | Found
Plan = Generator["Ask | tuple[Ask, ...]", Any, Any]
"""
A small program: it yields an ask and is sent its answer, or yields a tuple of asks, which are answered side by side,
and is sent a tuple of their answers. Its return value is absorbed.
"""


class Signal(Enum):
    """A value that ``Algorithm.plan`` returns instead of a plan."""

    WAIT = "wait"
    DONE = "done"


WAIT: Final = Signal.WAIT
"""Plan k cannot be made before more plans are absorbed."""
DONE: Final = Signal.DONE
"""There is nothing left to do from plan k on."""


# --- what algorithms are ------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Steer:
    """
    A person's word to a running search: a hint for those who write, a candidate to consider, or one to drop.

    Attributes:
        hint: Words.
        add: A candidate.
        drop: The key of a candidate.
    """

    hint: str = ""
    add: Candidate | None = None
    drop: str = ""

    def plain(self) -> dict[str, object]:
        """Return it as JSON values."""
        return {"hint": self.hint, "add": self.add.plain() if self.add is not None else None, "drop": self.drop}

    @classmethod
    def of(cls, data: Json) -> Steer:
        """Return the word that ``plain`` wrote."""
        add = data["add"]
        return cls(data["hint"], Candidate.of(add) if add is not None else None, data["drop"])


@dataclass(frozen=True)
class Task:
    """
    The material of a search. Rows that are held out for the verdict are not here: no algorithm can read them.

    Attributes:
        program: The student; never changed.
        learn: Rows to learn from.
        choose: Rows to choose by; the same rows as ``learn`` where there are too few for both.
        start: The candidate that the search begins with; the student itself, unless another search came before.
        programs: Other programs, by the names that ``Candidate.program`` uses.
        seed: Where chance comes from.
        width: The number of plans that run side by side.
        held: The number of rows that are held out.
        in_dollars: True when a budget in dollars covers the job; told to ``check`` alone.
        can_train: Raises ConfigError for a model that cannot be trained; told to ``check`` alone.
    """

    program: Module
    learn: tuple[Row, ...]
    choose: tuple[Row, ...]
    start: Candidate = field(default_factory=Candidate)
    programs: Mapping[str, Module] = field(default_factory=dict)
    seed: int = 0
    width: int = 1
    held: int = 0
    in_dollars: bool = False
    can_train: Callable[[LMChoice], object] | None = None

    @property
    def predictors(self) -> Mapping[str, Predict]:
        """The predictors of the student, by path."""
        return self.program.predictors()

    def instructions(self, candidate: Candidate) -> dict[str, str]:
        """Return the instructions that a candidate gives each predictor."""
        own = {path: each.signature.instructions for path, each in self.predictors.items()}
        return {**own, **candidate.instructions}


class Algorithm(ABC, Generic[S]):
    """
    A way to search for a better program: four pure functions over an immutable state.

    A subclass is a frozen dataclass. It uses no clock, no files, no globals, and no chance but the generator that
    ``plan`` is given; it never changes a state but returns another. Then the same seed and the same answers give the
    same result, however many rows run at once and however often the job is killed.

    Plan ``k`` is made from the state in which exactly the plans 0 to ``k - width`` are absorbed, in order.
    """

    metric: Metric | None
    """The metric it optimizes for; None where it needs none."""

    width: int = 4
    """
    The number of plans that run side by side. A wider window is faster and decides on older knowledge. It takes part in
    the result, so it takes part in the job's fingerprint.
    """

    chooses: ClassVar[bool] = True
    """True when it needs rows to choose by, beside those to learn from."""

    comparisons: ClassVar[int] = 0
    """Asks for each held-out row with which it can ``compare`` two programs without a metric; 0 when it cannot."""

    asks: ClassVar[bool] = True
    """False where no model is asked without a metric: such a job needs no journal."""

    steered_by: ClassVar[frozenset[str]] = frozenset()
    """The parts of a person's word that ``steer`` uses, of ``hint``, ``add`` and ``drop``. Others are refused."""

    version: ClassVar[int] = 1
    """Raised when the algorithm decides otherwise than before: journals of another version are refused."""

    def options(self) -> Mapping[str, object]:
        """Return what the result depends on, for the job's fingerprint: by default all fields but the metric."""
        if not dataclasses.is_dataclass(self):
            return {}
        return {each.name: getattr(self, each.name) for each in dataclasses.fields(self) if each.name != "metric"}

    def programs(self, student: Module) -> Mapping[str, Module]:
        """Return other programs that candidates may name: a teacher, or one that is made of the student."""
        return {}

    def check(self, task: Task) -> None:
        """
        Refuse a task that the algorithm cannot work on, before anything is paid.

        Raises:
            ConfigError: It cannot.
        """

    @abstractmethod
    def begin(self, task: Task) -> S:
        """Return the first state."""

    @abstractmethod
    def plan(self, state: S, k: int, chance: random.Random) -> Plan | Signal:
        """Return plan ``k``, or ``WAIT``, or ``DONE``."""

    @abstractmethod
    def absorb(self, state: S, k: int, result: Any) -> S:
        """Return the state after plan ``k``, which returned ``result``; None when the plan raised."""

    @abstractmethod
    def best(self, state: S) -> Candidate:
        """
        Return the best candidate so far; asked at any time.

        Raises:
            NoCandidate: There is none.
        """

    def compare(self, rows: Sequence[Row], first: Sequence[Evaluation], second: Sequence[Evaluation]) -> Plan | None:
        """
        Return a plan that says row by row which of two runs is better: for the verdict of a job without a metric.

        Its result is a number for each row: 1 where ``second`` is better, -1 where ``first`` is, 0 for a tie, None
        where nobody can say. By default nobody can.
        """
        return None

    def enough(self, state: S) -> bool:
        """True when no running plan can change the result; asked after each plan. Running plans are then cancelled."""
        return False

    def steer(self, state: S, steer: Steer) -> S:
        """Return the state after a person's word; it has only what ``steered_by`` names."""
        return state

    def progress(self, state: S) -> Mapping[str, object]:
        """Return how far a state has come, as JSON values: told after each plan."""
        return {}

    def summary(self, state: S) -> Sequence[Mapping[str, object]]:
        """Return the candidates of a state for people to read: ``name``, ``score``, ``rows``, as JSON values."""
        return ()
