"""Runs a program over many examples at once and scores each answer; what goes wrong is an outcome, not an abort."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextvars import Context
from functools import partial
from typing import Protocol, TypeVar

from dspex.errors import AppClosed, ConfigError, EvaluationError
from dspex.evaluation._examples import Row, read_rows
from dspex.evaluation.metrics import Metric, check_metric
from dspex.evaluation.outage_gate import OutageGate
from dspex.evaluation.progress import OnProgress, ProgressTally
from dspex.evaluation.report import Report, RowOutcome
from dspex.evaluation.row_runner import DOOMED, FailureLimit, RowRunner, failed_task
from dspex.protocols.executor import Executor, RunOptions
from dspex.runtime import TaskStream
from dspex.telemetry import Telemetry

__all__ = ["OpenStream", "evaluate"]

_WAVES = 4
"""Evaluations of more waves of rows than that begin with a few rows: the wait for them is short beside the rest."""

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
        context: Context | None,
    ) -> TaskStream[T, R]:
        """Run ``work`` over ``items``."""
        ...


async def evaluate(
    executor: Executor,
    open_stream: OpenStream,
    program: object,
    examples: Iterable[object],
    metric: Metric[R],
    *,
    options: RunOptions | None = None,
    max_concurrency: int = 64,
    max_failed: float = 0.05,
    on_progress: OnProgress | None = None,
    gate: OutageGate | None = None,
    telemetry: Telemetry | None = None,
) -> Report[R]:
    """
    Run ``program`` on every example and score the answers.

    The report's outcomes are in the order of the examples, whatever the concurrency.

    Args:
        executor: Where the program runs.
        open_stream: The supervisor of the rows' tasks.
        program: A Module, or any object with an async ``forward``.
        examples: Examples, mappings or dataclasses; ``forward``'s parameters are picked from each.
        metric: Called with an example and what ``forward`` returned; sync or async.
        options: The options of the program's requests.
        max_concurrency: Rows under way at once.
        max_failed: The share of rows that may fail.
        on_progress: Called after each row; what it raises ends the evaluation.
        gate: Where rows wait out an outage; without one it is how they fail.
        telemetry: Is told of each row's score.

    Raises:
        MissingInput, TypeError: A row lacks inputs or is not an example; nothing was started.
        ConfigError: There are no examples, the metric is not a function, or a limit makes no sense.
        ConfigError: Something is set up so that no row can succeed.
        EvaluationError: More rows failed than ``max_failed`` allows, or the metric failed on each of the first few:
            the rest are not run, and ``partial`` is the report of those that were.
        AppClosed: The stream ended before the rows did: whoever opened it is closing.
        Exception: Any exception of ``on_progress``; every row under way has been stopped.
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
    tally = ProgressTally(len(rows), on_progress) if on_progress is not None else None
    options = options if options is not None else RunOptions()
    runner = RowRunner(executor, options, gate, telemetry=telemetry)
    work = partial(runner.score, program, metric=metric)
    limit = FailureLimit(len(rows), max_failed)
    outcomes: dict[int, RowOutcome] = {}
    # Once the limit is reached the source ends: no further row starts, and those under way, paid already, end.
    known = asyncio.Event()
    ramp = max_concurrency > 2 * DOOMED and len(rows) > _WAVES * max_concurrency
    source = _ramped(rows, limit, known) if ramp else itertools.takewhile(lambda _: not limit.reached, rows)
    context = options.context
    async with open_stream(work, source, max_concurrency=max_concurrency, ordered=False, context=context) as results:
        async for result in results:
            row = result.item
            outcome = result.value if result.value is not None else failed_task(result, row.index, row.example)
            outcomes[row.index] = outcome
            if tally is not None:
                tally.add(row.index, outcome)
            limit.add(outcome)
            if limit.knows:
                known.set()
    ended = [row for row in rows if row.index in outcomes]
    if len(ended) < len(rows) and not limit.reached:  # the stream takes no more rows: whoever opened it is closing
        raise AppClosed(f"the evaluation was interrupted after {len(ended)} of {len(rows)} rows")
    report = Report(
        type(program).__name__,
        tuple(row.example for row in ended),
        tuple(outcomes[row.index] for row in ended),
        max_failed,
        not_run=len(rows) - len(ended),
    )
    if not report.has_score:
        raise EvaluationError(report.problem(), report)
    return report


async def _ramped(rows: Sequence[Row], limit: FailureLimit, known: asyncio.Event) -> AsyncIterator[Row]:
    """Hand on a few rows, and the rest once they have told that the metric works: one that never does costs little."""
    for number, row in enumerate(rows):
        if number == DOOMED:
            await known.wait()
        if limit.reached:
            return
        yield row
