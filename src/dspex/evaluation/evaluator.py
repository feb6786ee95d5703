"""Runs a program over many examples at once and scores each answer; what goes wrong is an outcome, not an abort."""

from __future__ import annotations

import inspect
import math
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Mapping
from functools import partial
from typing import Any, Protocol, TypeGuard, TypeVar

from dspex.errors import ActorExited, ConfigError, EvaluationError, MetricFailed
from dspex.evaluation._examples import Row, read_rows
from dspex.evaluation.metrics import Metric, Score, check_metric
from dspex.evaluation.progress import OnProgress, Tally
from dspex.evaluation.report import Report, RowOutcome, Scored
from dspex.programs import Example
from dspex.protocols.executor import Executor, Failed, Ok, RunOptions
from dspex.runtime import Crashed, TaskResult, TaskStream

__all__ = ["OpenStream", "Scored", "evaluate", "run_row", "score_of"]

T = TypeVar("T")
R = TypeVar("R")


class OpenStream(Protocol):
    """Opens a supervised, back-pressured stream of tasks: ``TaskSupervisorRef.stream`` is one."""

    def __call__(
        self,
        work: Callable[[T], Awaitable[R]],
        items: Iterable[T] | AsyncIterable[T],
        *,
        max_concurrency: int,
        ordered: bool,
    ) -> TaskStream[T, R]:
        """Run ``work`` over ``items``."""
        ...


async def evaluate(
    executor: Executor,
    open_stream: OpenStream,
    program: object,
    examples: Iterable[object],
    metric: Metric[Any],
    *,
    options: RunOptions | None = None,
    max_concurrency: int = 64,
    max_failed: float = 0.05,
    on_progress: OnProgress | None = None,
) -> Report:
    """
    Run ``program`` on every example and score the answers.

    The report's outcomes are in the order of the examples, whatever the concurrency.

    Args:
        executor: Where the program runs.
        open_stream: Whose children the rows' tasks are.
        program: A Module, or any object with an async ``forward``.
        examples: Examples, mappings or dataclasses; ``forward``'s parameters are picked from each.
        metric: Called with an example and what ``forward`` returned; sync or async.
        options: How the program's requests run.
        max_concurrency: Rows under way at once.
        max_failed: The share of rows that may fail.
        on_progress: Called after each row; what it raises ends the evaluation.

    Raises:
        MissingInput, TypeError: A row lacks inputs or is no example; nothing was started.
        ConfigError: There are no examples, the metric is no function, or a limit makes no sense.
        EvaluationError: More rows failed than ``max_failed`` allows; ``partial`` is the report.
        Exception: Whatever ``on_progress`` raised; every row under way has been stopped.
    Cancellation: every row under way is stopped before the cancellation travels on.
    """
    check_metric(metric)
    rows = read_rows(program, examples)
    if not rows:
        raise ConfigError("there are no examples to evaluate on")
    if max_concurrency < 1 or not 0 <= max_failed <= 1:
        raise ConfigError("max_concurrency must be at least 1 and max_failed from 0 to 1")
    if inspect.iscoroutinefunction(on_progress):
        raise ConfigError("on_progress must be a plain function: nobody would await what an async one returns")
    tally = Tally(len(rows), on_progress) if on_progress is not None else None
    work = partial(run_row, executor, program, metric=metric, options=options if options is not None else RunOptions())
    outcomes: dict[int, RowOutcome] = {}
    async with open_stream(work, rows, max_concurrency=max_concurrency, ordered=False) as results:
        async for result in results:
            outcome = outcomes[result.item.index] = _outcome_of(result)
            if tally is not None:
                tally.add(result.item.index, outcome)
    name = type(program).__name__
    report = Report(name, tuple(row.example for row in rows), tuple(outcomes[row.index] for row in rows), max_failed)
    if not report.has_score:
        raise EvaluationError(report.problem(), report)
    return report


async def run_row(
    executor: Executor, program: object, row: Row, metric: Metric[Any], options: RunOptions
) -> RowOutcome:
    """Run one row and score it; never raises for what program, services or metric did."""
    try:
        outcome = await executor.run(program, row.inputs, options)
    except Exception as error:  # noqa: BLE001 - a row that cannot even be started is a failed row
        outcome = Failed(error, row.inputs)
    if isinstance(outcome, Failed):
        return Failed(outcome.reason, row.example, outcome.totals)
    try:
        score = await score_of(metric, row.example, outcome.value, f"row {row.index}")
    except MetricFailed as error:
        return Failed(error, row.example, outcome.totals)
    return _scored(row.example, outcome, score)


def _scored(example: Example, outcome: Ok[Any], score: Score) -> Scored:
    return Scored(example, outcome.value, score, outcome.trace, outcome.totals)


async def score_of(metric: Metric[Any], example: Example, value: object, example_id: str) -> Score:
    """
    Ask the metric for its verdict on one answer.

    Raises:
        MetricFailed: It raised (the cause is kept), or returned no finite number.
    """
    try:
        result = metric(example, value)
        if inspect.isawaitable(result):
            result = await result
    except Exception as error:  # a metric is user code: what it raises is this row's failure
        raise MetricFailed(example_id, f"{type(error).__name__}: {error}") from error
    score = result if isinstance(result, Score) else None
    number: object = result if score is None else score.value
    if not _is_number(number):
        raise MetricFailed(example_id, f"it returned {result!r}, which is no finite number")
    if score is not None:
        return Score(float(number), score.feedback, _parts(score.parts, example_id))
    return Score(float(number))


def _parts(parts: Mapping[str, float], example_id: str) -> Mapping[str, float]:
    wrong = [
        name for name, part in parts.items() if not isinstance(part, (bool, int, float)) or not math.isfinite(part)
    ]
    if wrong:
        raise MetricFailed(example_id, f"these parts are no finite numbers: {', '.join(wrong)}")
    return dict(parts)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (bool, int, float)) and math.isfinite(value)


def _outcome_of(result: TaskResult[Row, RowOutcome]) -> RowOutcome:
    """Return how a row ended; one whose task was killed has failed, like any other."""
    if result.value is not None:
        return result.value
    reason = result.reason
    if isinstance(reason, Crashed) and isinstance(reason.error, Exception):
        return Failed(reason.error, result.item.example)
    return Failed(ActorExited(f"row {result.item.index}", reason), result.item.example)
