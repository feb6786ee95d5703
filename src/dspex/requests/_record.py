"""The record of a request; it survives the process that runs it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

from dspex._guard import class_name
from dspex.programs import PredictorPaths
from dspex.protocols.executor import RunOptions
from dspex.protocols.lm import Attempt, AttemptLog, Usage
from dspex.protocols.money import Account
from dspex.protocols.scope import RequestTotals, TraceStep

__all__ = ["RequestRecord", "StepNote"]

_NO_USAGE, _NO_COST = Usage(), Decimal(0)

NOTES_KEPT = 200
"""Steps of one request that are written down for whoever watches."""


class StepNote:
    """
    One step of a request that is watched.

    Attributes:
        name: Its label: ``lm answer.predict``, ``retrieve retrieve``, ``tool search``.
        begun: By the runtime's clock; ``ended`` is None while it runs.
        restarts: The number of times it was started again.
        error: The class of what it raised; empty where it gave a result.
        log: Of an LM call: its attempts.
        retriever: Of a search: the name of the retriever, or of the part of one.
    """

    __slots__ = ("begun", "ended", "error", "log", "name", "restarts", "retriever")

    def __init__(self, name: str, begun: float, log: AttemptLog | None) -> None:
        self.name = name
        self.begun = begun
        self.ended: float | None = None
        self.restarts = 0
        self.error = ""
        self.log = log
        self.retriever = ""

    def end(self, now: float, error: BaseException) -> None:
        """Note that it has failed."""
        self.ended, self.error = now, class_name(error)


class RequestRecord:
    """
    One request: what to run, how far it came, and what it has cost.

    ``deadline`` is the runtime clock's seconds; ``account`` pays. ``entered`` says whether ``forward`` has begun: from
    then on the request is never run again. ``steps`` is None where nobody watches: then none are written down.
    """

    __slots__ = (
        "account",
        "asked",
        "cached_calls",
        "calls",
        "cost",
        "deadline",
        "ended",
        "entered",
        "id",
        "inputs",
        "logs",
        "options",
        "paths",
        "program",
        "repairs",
        "resubmitted",
        "started",
        "step_restarts",
        "steps",
        "usage",
    )

    def __init__(
        self,
        request_id: str,
        program: object,
        inputs: Mapping[str, object],
        options: RunOptions,
        now: float,
        account: Account,
    ) -> None:
        self.id = request_id
        self.program = program
        self.inputs = inputs
        self.options = options
        self.account = account
        self.started = now
        self.ended: float | None = None
        self.deadline = now + options.deadline
        self.entered = False
        self.resubmitted = 0
        self.step_restarts = 0
        self.repairs = 0
        self.steps: list[StepNote] | None = None
        self.calls = 0
        self.cached_calls = 0
        self.usage = _NO_USAGE
        self.cost: Decimal | None = _NO_COST
        self.logs: list[AttemptLog] = []
        self.asked: list[tuple[object, Mapping[str, object], Mapping[str, object]]] = []
        """Each predictor's call: who, inputs, outputs; for the trace."""
        self.paths: PredictorPaths | None = None

    @property
    def attempts(self) -> tuple[Attempt, ...]:
        """Every provider attempt so far, in the order of the calls; once it has ended, those that were cut off too."""
        return tuple(attempt for log in self.logs for attempt in (*log.attempts, *self._cut_off(log)))

    def _cut_off(self, log: AttemptLog) -> Iterator[Attempt]:
        """Yield the attempts that the end of the request broke off: they reached the provider and may be charged."""
        if self.ended is not None:
            model, why = log.lm.model if log.lm else "", "the request ended while this attempt was on the wire"
            for number in range(len(log.attempts) + 1, len(log.attempts) + 1 + log.on_wire):
                yield Attempt(number, "cancelled", 0.0, None, why, model)

    def add_cost(self, usage: Usage, cost: Decimal | None) -> None:
        """Add what a provider was paid for; one unknown price makes the whole unknown."""
        self.usage = usage if self.usage is _NO_USAGE else self.usage + usage
        self.cost = self.cost + cost if self.cost is not None and cost is not None else None

    def note_step(self, name: str, now: float, log: AttemptLog | None) -> StepNote:
        """Write down that a step begins; of very many only the first are kept."""
        note = StepNote(name, now, log)
        if self.steps is not None and len(self.steps) < NOTES_KEPT:
            self.steps.append(note)
        return note

    def note_restart(self, name: str) -> None:
        """Count a restart of a step, in its note as well."""
        self.step_restarts += 1
        for note in reversed(self.steps or ()):
            if note.name == name and note.ended is None:
                note.restarts += 1
                return

    def trace(self) -> tuple[TraceStep, ...]:
        """Return the predictors' calls, oldest first."""
        paths = self.paths or PredictorPaths(self.program)
        return tuple(TraceStep(paths.path_of(each), inputs, outputs) for each, inputs, outputs in self.asked)

    def totals(self, now: float) -> RequestTotals:
        """Return what the request took; final once it has ended."""
        return RequestTotals(
            request_id=self.id,
            usage=self.usage,
            calls=self.calls,
            cached_calls=self.cached_calls,
            attempts=self.attempts,
            step_restarts=self.step_restarts,
            resubmitted=self.resubmitted,
            duration=(self.ended if self.ended is not None else now) - self.started,
            cost=self.cost,
        )
