"""Single runs for a search: what is the provider's fault is waited for, what is the row's own is an outcome."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from dspex.errors import (
    ActorExited,
    AppClosed,
    AuthFailed,
    BudgetExceeded,
    ConfigError,
    DeadlineExceeded,
    LMError,
    NoSuchActor,
    Overloaded,
    QuotaExhausted,
    RequestKilled,
    ResponseInvalid,
    RetrievalError,
    ServiceUnavailable,
    StepCrashed,
)
from dspex.evaluation import Metric, Row, Scored, run_row
from dspex.programs import Module
from dspex.protocols.executor import Executor, Failed, RunOptions
from dspex.runtime import Backoff, Runtime

__all__ = ["Gate", "Trials", "is_accident", "is_hopeless", "is_outage"]

MAX_ACCIDENTS = 3
"""How often one row may be killed, run out of time or get nonsense before that counts as its own failure."""


def is_outage(error: Exception) -> bool:
    """Whether the provider, not the program, is at fault, and waiting is all there is to do."""
    if isinstance(error, LMError):
        return error.is_retryable and not isinstance(error, ResponseInvalid)
    return isinstance(error, (ServiceUnavailable, Overloaded))


def is_accident(error: Exception) -> bool:
    """Whether the same row may well succeed the next time, but may also be the cause."""
    accidents = (ActorExited, NoSuchActor, DeadlineExceeded, RequestKilled, ResponseInvalid, RetrievalError)
    return isinstance(error, (*accidents, StepCrashed))


def is_hopeless(error: Exception) -> bool:
    """Whether no row can succeed until somebody does something about it."""
    return isinstance(error, (AuthFailed, BudgetExceeded, QuotaExhausted, ConfigError, AppClosed))


class Gate:
    """
    Closed while the provider is down: one failure closes it, for twice as long each time until something succeeds.

    Args:
        runtime: Whose clock counts.
        backoff: The first delay, and the longest.
    """

    def __init__(self, runtime: Runtime, backoff: Backoff) -> None:
        self._runtime = runtime
        self._backoff = backoff
        self._delay = backoff.initial
        self._opens = 0.0
        self._closings = 0

    async def enter(self) -> int:
        """Wait until the gate is open; return a ticket that ``close`` and ``succeeded`` take."""
        while (left := self._opens - self._runtime.clock.now()) > 0:
            await self._runtime.sleep(left)
        return self._closings

    def close(self, ticket: int) -> float | None:
        """Close for a while and return for how long; None when others who entered as early have done so already."""
        if ticket != self._closings:
            return None
        self._closings += 1
        delay, self._delay = self._delay, min(self._backoff.maximum, self._delay * 2)
        self._opens = self._runtime.clock.now() + delay
        return delay

    def succeeded(self, ticket: int) -> bool:
        """Note that the provider answers; whether that is news."""
        news = ticket == self._closings and self._delay != self._backoff.initial
        if ticket == self._closings:
            self._delay = self._backoff.initial
        return news


class Trials:
    """
    Runs programs on rows until there is a verdict on the row itself.

    Args:
        executor: Where programs run.
        options: How.
        gate: What an outage closes.
        on_pause: Told why and for how long the search pauses.
        on_go: Told that the provider answers again.
    """

    def __init__(
        self,
        executor: Executor,
        options: RunOptions,
        gate: Gate,
        *,
        on_pause: Callable[[Exception, float], Awaitable[object]],
        on_go: Callable[[], object],
    ) -> None:
        self._executor = executor
        self._options = options
        self._gate = gate
        self._on_pause = on_pause
        self._on_go = on_go

    async def run(self, program: Module, row: Row, metric: Metric[Any]) -> Scored | Failed:
        """
        Return how the row ended; an outage is no end.

        Raises:
            LMError, ConfigError, AppClosed: No row can succeed.
        Cancellation: the request is stopped.
        """
        accidents = 0
        while True:
            ticket = await self._gate.enter()
            outcome = await run_row(self._executor, program, row, metric, self._options)
            if isinstance(outcome, Scored):
                if self._gate.succeeded(ticket):
                    self._on_go()
                return outcome
            error = outcome.reason
            if is_hopeless(error):
                raise error
            accidents += is_accident(error)
            if not self._again(error, accidents):
                return outcome
            delay = self._gate.close(ticket)
            if delay is not None:
                await self._on_pause(error, delay)

    def _again(self, error: Exception, accidents: int) -> bool:
        if is_outage(error):
            return self._options.cache != "only"
        return is_accident(error) and accidents < MAX_ACCIDENTS
