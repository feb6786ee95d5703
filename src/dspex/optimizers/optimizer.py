"""What every optimizer is, and the study it works in: evaluations that are paid once, chance with a seed, events."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic_core import to_json

from dspex._random import generator
from dspex.errors import InternalError, MetricFailed
from dspex.evaluation import Metric, Row, RowRunner, Score, mean_interval
from dspex.optimizers.fingerprint import digest
from dspex.programs import Module
from dspex.protocols.executor import Failed
from dspex.protocols.lm import Usage
from dspex.runtime import Crashed, StreamOptions, TaskResult, TaskStream, current_process

if TYPE_CHECKING:
    import random

    from dspex.evaluation import Scored
    from dspex.optimizers._record import JobSpec
    from dspex.optimizers._writer import JobWriter

__all__ = ["Candidate", "Evaluation", "Optimizer", "Study", "candidate_of", "program_of"]

T = TypeVar("T")
R = TypeVar("R")

Candidate = Mapping[str, Any]
"""A program's demonstrations and instructions by predictor path, as JSON values: what a journal keeps of it."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """
    A recorded run of a program on one row.

    Attributes:
        score: The metric's value; None when the row failed, which is not a bad score.
        error: Why it failed.
        trace: The predictors' calls: path, and field values as JSON has them.
    """

    score: float | None
    feedback: str = ""
    error: str = ""
    trace: tuple[tuple[str, Mapping[str, Any]], ...] = ()
    usage: Usage = field(default_factory=Usage)


class Optimizer(ABC):
    """
    An algorithm that looks for a better program; a frozen value, so that one can serve many jobs.

    Everything a search decides must follow from the study: its rows, its seed and its recorded evaluations. Then a
    search that is killed and begun again comes to the same end.
    """

    __slots__ = ()

    metric: Metric[Any] | None
    """What it optimizes for, if it asks."""

    @abstractmethod
    def options(self) -> Mapping[str, Any]:
        """Return what the result depends on, metric left out, as JSON values: a part of the job's fingerprint."""

    @abstractmethod
    async def search(self, study: Study) -> Candidate:
        """
        Find a candidate.

        Raises:
            NoCandidate: There is none.
        Cancellation: what the search has started is stopped; what it has recorded is kept.
        """


class Study:
    """
    One incarnation of a search: the program and the rows, and the only door to evaluations and events.

    Attributes:
        program: What is to become better; never changed.
        train: The rows to learn from.
        val: The rows to choose by; may be none.
    """

    def __init__(self, spec: JobSpec, writer: JobWriter, runner: RowRunner) -> None:
        self.program: Module = spec.program
        self.train = spec.train
        self.val = spec.val
        self._seed = spec.seed
        self._context = spec.options.context
        self._writer = writer
        self._runner = runner

    def generator(self, name: str) -> random.Random:
        """
        Return a source of chance that depends on the job's seed and on ``name`` alone.

        A restarted search draws the same numbers again, so that the state of no generator needs to be kept.
        """
        return generator(int(digest([self._seed, name])[:16], 16))

    # --- evaluations ----------------------------------------------------------------------------------------

    async def evaluate(self, key: str, program: Module, row: Row, metric: Metric[Any] | None) -> Evaluation:
        """
        Run ``program`` on one row and score it; an evaluation recorded under ``key`` is returned unpaid.

        A provider's outage pauses the search until it is over. What the program or the metric does wrong is a
        recorded failure. Without a metric every answer scores 1.

        Raises:
            AuthFailed, QuotaExhausted: No evaluation can succeed; nothing is recorded.
        Cancellation: the request is stopped; an evaluation that has ended is recorded all the same.
        """
        record = self._writer.evaluations.get(key)
        if record is None:
            outcome = await self._runner.score(program, row, metric if metric is not None else _any_answer)
            data = {"row": row.index, **(_failure(outcome) if isinstance(outcome, Failed) else _success(outcome))}
            record = (await self._writer.append("evaluation", data, key)).data
        return _decoded(record)

    async def score(
        self, name: str, candidate: Candidate, rows: Sequence[Row], metric: Metric[Any], *, max_concurrency: int = 16
    ) -> float | None:
        """
        Evaluate a candidate on rows and tell how it did; None when every row failed.

        Cancellation: as ``evaluate``.
        """
        program = program_of(self.program, candidate)

        async def one(row: Row) -> Evaluation:
            return await self.evaluate(f"{name}/{row.index}", program, row, metric)

        async with self.map(one, rows, max_concurrency=max_concurrency) as results:
            values = [found.score async for _, found in results if found.score is not None]
        mean = sum(values) / len(values) if values else None
        bounds = list(mean_interval(values)) if len(values) > 1 else None
        data = {"name": name, "score": mean, "interval": bounds, "rows": len(rows), "failed": len(rows) - len(values)}
        await self.note("candidate", data, key=name)
        return mean

    @asynccontextmanager
    async def map(
        self, work: Callable[[T], Awaitable[R]], items: Iterable[T], *, max_concurrency: int
    ) -> AsyncIterator[AsyncIterator[tuple[T, R]]]:
        """
        Run ``work`` over ``items``, several at a time, as tasks of the search; results in the order of the items.

        Leaving the block stops what is still under way. What ``work`` raises is raised here, in the items' order.
        """
        process = current_process()
        if process is None:
            raise InternalError("a search runs outside its process")
        options = StreamOptions(max_concurrency, context=self._context)
        async with TaskStream(process, work, items, options) as stream:
            yield _InOrder(stream, work)

    # --- events ---------------------------------------------------------------------------------------------

    async def note(self, kind: str, data: Mapping[str, Any], *, key: str) -> None:
        """Record an event once, whatever the number of restarts; ``key`` is unique among events of its kind."""
        await self._writer.append(kind, data, key)


class _InOrder(AsyncIterator[tuple[T, R]]):
    """The items of a stream with their results; no generator, which would have to be closed."""

    def __init__(self, stream: TaskStream[T, R], work: Callable[[T], Awaitable[R]]) -> None:
        self._stream = stream
        self._work = work

    async def __anext__(self) -> tuple[T, R]:
        result = await anext(self._stream)
        return result.item, await self._value(result)

    async def _value(self, result: TaskResult[T, R]) -> R:
        if result.ok:
            value: R = result.value  # type: ignore[assignment]  # the task returned
            return value
        if isinstance(result.reason, Crashed):
            raise result.reason.error
        return await self._work(result.item)  # its task was killed; what it had recorded is not paid again


# --- candidates ---------------------------------------------------------------------------------------------


def candidate_of(program: Module) -> dict[str, Any]:
    """Return the demonstrations and instructions of a program; models and parameters stay with the program."""
    state = program.dump_state()
    return {
        path: {"demos": each["demos"], "signature": each["signature"]}
        for path, each in state.items()
        if path != "metadata"
    }


def program_of(program: Module, candidate: Candidate) -> Module:
    """Return ``program`` with a candidate's demonstrations and instructions; its models keep their keys."""
    return program.load_state(candidate)


# --- how evaluations are written down -----------------------------------------------------------------------


def _any_answer(_example: object, _prediction: object) -> bool:
    return True


def _success(outcome: Scored) -> dict[str, Any]:
    score: Score = outcome.score
    trace = [[step.path, _plain({**step.inputs, **step.outputs})] for step in outcome.trace if step.path]
    told = {"score": score.value, "feedback": score.feedback, "parts": dict(score.parts), "error": ""}
    return {**told, **_spent(outcome), "_trace": trace}


def _failure(outcome: Failed) -> dict[str, Any]:
    kind = "metric" if isinstance(outcome.reason, MetricFailed) else "program"
    error = f"{type(outcome.reason).__name__}: {outcome.reason}"
    return {"score": None, "error": error, "failed": kind, **_spent(outcome)}


def _spent(outcome: Scored | Failed) -> dict[str, Any]:
    totals = outcome.totals
    usage = totals.usage if totals is not None else Usage()
    names = ("input_tokens", "output_tokens", "cached_tokens", "reasoning_tokens")
    tokens = {name: getattr(usage, name) for name in names}
    paid = {"calls": 0, "cost": "0"}
    if totals is not None:
        paid = {"calls": totals.calls - totals.cached_calls, "cost": None if totals.cost is None else str(totals.cost)}
    return {"usage": tokens, "seconds": totals.duration if totals is not None else 0.0, **paid}


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return field values as saved programs have them."""
    return {
        name: value if isinstance(value, str) else json.loads(to_json(value, fallback=str))
        for name, value in values.items()
    }


def _decoded(data: Mapping[str, Any]) -> Evaluation:
    trace = tuple((path, values) for path, values in data.get("_trace", ()))
    return Evaluation(data["score"], data.get("feedback", ""), data["error"], trace, Usage(**data["usage"]))
