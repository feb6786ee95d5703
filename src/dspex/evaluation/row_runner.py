"""The one place where rows are run: tries, outcomes, and when to stop. Evaluations, maps and jobs all use it."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeGuard, TypeVar

from dspex._guard import class_name
from dspex.errors import ActorExited, MetricFailed, TransportFailed
from dspex.evaluation._examples import Row
from dspex.evaluation.faults import is_accident, is_callers, is_hopeless, is_outage, is_setup
from dspex.evaluation.metrics import Metric, Score
from dspex.evaluation.outage_gate import OutageGate
from dspex.evaluation.report import RowOutcome, Scored
from dspex.programs import Example, Module, Signature
from dspex.programs.signature import values_of
from dspex.protocols.executor import Executor, Failed, Ok, RunOptions
from dspex.protocols.scope import RequestTotals
from dspex.runtime import Crashed, TaskResult
from dspex.telemetry import Telemetry

__all__ = ["DOOMED", "MAX_ACCIDENTS", "FailureLimit", "RowRunner", "failed_task", "score_of"]

R = TypeVar("R")

MAX_ACCIDENTS = 3
"""The number of times one row may be killed, run out of time or get nonsense before that counts as its own failure."""

DOOMED = 8
"""So many rows, all failed in the metric itself, are enough to say that the metric is broken."""


class RowRunner:
    """
    Runs programs on rows, each to its own outcome.

    Without a gate a row has one try, and an outage is how it failed; with one an outage is waited for. Rows of a job
    are insisted on: one that was killed or ran out of time is tried ``MAX_ACCIDENTS`` times.

    Args:
        executor: Where programs run.
        options: The options of its requests.
        gate: Where rows wait out an outage.
        insists: True for rows whose score a job cannot do without.
        telemetry: Is told of scores.
    """

    def __init__(
        self,
        executor: Executor,
        options: RunOptions,
        gate: OutageGate | None = None,
        *,
        insists: bool = False,
        telemetry: Telemetry | None = None,
    ) -> None:
        self._telemetry = telemetry
        self._executor = executor
        self._options = options
        self._gate = gate
        self._insists = insists

    async def run(self, program: object, inputs: Mapping[str, object], fields: Mapping[str, object]) -> Ok | Failed:
        """
        Run one row; ``fields`` is the row as the caller knows it, and stands in the outcome.

        Raises:
            ConfigError, MissingExtra, AuthFailed, AppClosed: The setup works for no row: this is not an outcome.
            BudgetExceeded, QuotaExhausted: Of a row that is insisted on: no row can succeed until somebody acts.
        Cancellation: the request is stopped.
        """
        accidents = 0
        while True:
            ticket = await self._gate.enter() if self._gate is not None else 0
            outcome = await self._try(program, inputs)
            if isinstance(outcome, Ok):
                if self._gate is not None:
                    self._gate.succeeded(ticket)
                return Ok(outcome.value, fields, outcome.trace, outcome.totals)
            error = outcome.reason
            if is_setup(error) or (self._insists and is_hopeless(error)):
                raise error
            accidents += is_accident(error)
            if self._gate is None or not self._again(error, accidents):
                return Failed(error, fields, outcome.totals)
            if not await self._gate.close(ticket, error):
                return Failed(error, fields, outcome.totals)

    async def score(self, program: object, row: Row, metric: Metric) -> RowOutcome:
        """Run one row and ask the metric about the answer; raises and is cancelled as ``run``."""
        outcome = await self._score(program, row, metric)
        if self._telemetry is not None and self._telemetry.active:
            _tell(self._telemetry, program, metric, outcome)
        return outcome

    async def _score(self, program: object, row: Row, metric: Metric) -> RowOutcome:
        outcome = await self.run(program, row.inputs, row.example)
        if isinstance(outcome, Failed):
            return outcome
        totals, where = outcome.totals, f"row {row.index}"
        try:
            if isinstance(metric, Module):
                given = {"example": row.example, "prediction": outcome.value}
                judged = await self.run(metric, given, row.example)
                totals = together(totals, judged.totals)
                if isinstance(judged, Failed):
                    raise MetricFailed(where, f"{type(judged.reason).__name__}: {judged.reason}") from judged.reason
                score = read_score(judged.value, where)
            else:
                score = await score_of(metric, row.example, outcome.value, where)
        except MetricFailed as error:
            return Failed(error, row.example, totals)
        return Scored(row.example, outcome.value, score, outcome.trace, totals)

    async def _try(self, program: object, inputs: Mapping[str, object]) -> Ok | Failed:
        try:
            return await self._executor.run(program, inputs, self._options)
        except Exception as error:  # noqa: BLE001 - a row that cannot even be started is a failed row
            return Failed(error, inputs)

    def _again(self, error: Exception, accidents: int) -> bool:
        if isinstance(error, TransportFailed) and error.should_retry is False:
            return False  # the address is wrong: waiting changes nothing
        if is_outage(error):
            return self._options.cache != "only"
        return self._insists and is_accident(error) and accidents < MAX_ACCIDENTS


class FailureLimit:
    """
    Counts rows as they end, and says when the rest need not be paid for.

    Args:
        total: Rows there are.
        max_failed: The share of them that may fail.

    Attributes:
        reached: True when no score can come of the rest: more rows have failed than may, or the metric itself failed on
            each of the first few.
        scored: True when a row has an outcome that is not a failure.
    """

    __slots__ = ("_allowed", "_broken", "_done", "_failed", "_share", "reached", "scored")

    def __init__(self, total: int, max_failed: float) -> None:
        self._share = max_failed
        self._allowed = max_failed * total
        self._done = self._failed = self._broken = 0
        self.reached = False
        self.scored = False

    @property
    def knows(self) -> bool:
        """True when the first few rows have told whether the metric works."""
        return self.scored or self.reached or self._done >= DOOMED

    def add(self, outcome: Ok | Scored | Failed) -> None:
        """Count a row."""
        self._done += 1
        self.scored = self.scored or not isinstance(outcome, Failed)
        if isinstance(outcome, Failed):
            self._failed += 1
            self._broken += isinstance(outcome.reason, MetricFailed)
        doomed = self._broken == self._done >= DOOMED and self._share < 1
        self.reached = self.reached or self._failed > self._allowed or doomed


def _tell(telemetry: Telemetry, program: object, metric: Metric, outcome: RowOutcome) -> None:
    """Emit the score of one row, or why it has none."""
    name = getattr(metric, "__name__", None) or class_name(metric).lstrip("_")
    request = outcome.totals.request_id if outcome.totals is not None else None
    about: dict[str, object] = {"program": class_name(program), "metric": name, "request": request}
    if isinstance(outcome, Failed):
        telemetry.emit("dspex.row.score", {}, {**about, "error": outcome.reason})
    else:
        score = outcome.score
        telemetry.emit("dspex.row.score", {"score": score.value}, about, {"feedback": score.feedback})


def failed_task(result: TaskResult[Any, Any], index: int, fields: Mapping[str, object]) -> Failed:
    """
    Return the outcome of a row whose task ended without a value.

    Raises:
        Exception: The caller's own fault, which is not the outcome of a row.
    """
    reason = result.reason
    if isinstance(reason, Crashed) and isinstance(reason.error, Exception):
        if is_hopeless(reason.error):  # only what ``RowRunner.run`` raises on purpose
            raise reason.error
        return Failed(reason.error, fields)
    return Failed(ActorExited(f"row {index}", reason), fields)


def together(one: RequestTotals | None, two: RequestTotals | None) -> RequestTotals | None:
    """Return the totals of a row's request and of the metric's; the name is the row's."""
    if one is None or two is None:
        return one or two
    return replace(
        one,
        usage=one.usage + two.usage,
        calls=one.calls + two.calls,
        cached_calls=one.cached_calls + two.cached_calls,
        attempts=(*one.attempts, *two.attempts),
        step_restarts=one.step_restarts + two.step_restarts,
        resubmitted=one.resubmitted + two.resubmitted,
        duration=one.duration + two.duration,
        cost=one.cost + two.cost if one.cost is not None and two.cost is not None else None,
    )


# --- asking the metric --------------------------------------------------------------------------------------


async def score_of(metric: Metric, example: Example, value: object, example_id: str) -> Score:
    """
    Ask the metric for its verdict on one answer.

    Raises:
        MetricFailed: It raised (the cause is kept), or returned a value that is not a finite number.
        ConfigError: The metric itself says that it is not set up.
    """
    try:
        result = metric(example, value)
        if inspect.isawaitable(result):
            result = await result
    except Exception as error:  # a metric is user code: what it raises is this row's failure
        if is_callers(error):
            raise
        raise MetricFailed(example_id, f"{type(error).__name__}: {error}") from error
    return read_score(result, example_id)


def read_score(result: object, example_id: str) -> Score:
    """
    Return what a metric has returned as a Score: a number, a Score, or a record with a ``score`` and a ``feedback``.

    Raises:
        MetricFailed: It is none of these, or not finite.
    """
    if isinstance(result, Signature):
        values = values_of(result)
        words = values.get("feedback", "")
        result = values.get("score", result)
        if isinstance(words, str) and _is_number(result):
            result = Score(float(result), words)
    score = result if isinstance(result, Score) else None
    number: object = result if score is None else score.value
    if not _is_number(number):
        raise MetricFailed(example_id, f"it returned {result!r}, which is not a finite number")
    if score is not None:
        return Score(float(number), score.feedback, _parts(score.parts, example_id))
    return Score(float(number))


def _parts(parts: Mapping[str, float], example_id: str) -> Mapping[str, float]:
    wrong = [name for name, part in parts.items() if not _is_number(part)]
    if wrong:
        raise MetricFailed(example_id, f"these parts are not finite numbers: {', '.join(wrong)}")
    return dict(parts)


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, (bool, int, float)) and math.isfinite(value)
