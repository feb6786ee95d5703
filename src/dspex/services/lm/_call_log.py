"""Make the attempts of a logical call and write them down, whoever answers them."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import NoReturn

from dspex.errors import BudgetExceeded, LMError, StreamTruncated
from dspex.protocols.lm import Attempt, AttemptLog, Charge, LMDelta, Usage
from dspex.protocols.model import LM
from dspex.protocols.scope import OnDelta
from dspex.runtime import Runtime
from dspex.services.lm.retry import LOCAL, reworded

__all__ = ["CallLog"]


class CallLog:
    """
    A call at one model, its attempt under way, and the log that outlives the step which makes it.

    Args:
        runtime: The runtime whose clock and telemetry are used.
        lm: The model.
        log: The history of earlier attempts of this call.
        name: The model's name in telemetry.
        server: The server that is asked, ``host:port``; empty for a model of this process.
        on_delta: Awaited with each piece of the answer.

    Attributes:
        number: Of the latest attempt, over all models of the call.
        started: When it was sent, by the runtime's clock.
        first_piece: Seconds until the first piece of its answer was handed on.
    """

    __slots__ = ("first_piece", "lm", "log", "name", "number", "on_delta", "runtime", "server", "started")

    def __init__(
        self, runtime: Runtime, lm: LM, log: AttemptLog, name: str, on_delta: OnDelta | None, server: str = ""
    ) -> None:
        self.runtime = runtime
        self.lm = lm
        self.log = log
        self.name = name
        self.on_delta = on_delta
        self.server = server
        self.number = 0
        self.started = 0.0
        self.first_piece: float | None = None

    def allow(self, error: LMError | None = None) -> None:
        """
        Ask the budgets for another request, in the tick in which it goes out or is decided on.

        Args:
            error: The failure that it follows.

        Raises:
            BudgetExceeded: There is none left; the failure is its cause.
        """
        grant = self.log.grant
        if grant is None:
            return
        try:
            grant(1)
        except BudgetExceeded as refused:
            refused.attempts = tuple(self.log.attempts)
            cause = error or self.log.failure
            if cause is None:
                raise
            raise reworded(refused, f". The one before ended in {type(cause).__name__}: {cause}") from cause

    async def allow_soon(self, error: LMError | None = None) -> None:
        """Ask as ``allow`` does, and where the budgets are of several processes, those too."""
        try:
            self.allow(error)
        except BudgetExceeded:
            if self.log.fetch is None:
                raise
            with contextlib.suppress(BudgetExceeded):  # said below, with what went before
                await self.log.fetch(1)
            self.allow(error)

    def begin(self) -> None:
        """Note that an attempt goes out; ``log.on_wire`` counts it already."""
        log = self.log
        self.number = len(log.attempts) + log.on_wire
        self.started = self.runtime.clock.now()
        self.first_piece = None
        log.sent += 1
        log.sent_at = self.started
        log.server = self.server
        if self.runtime.telemetry.active:
            self.emit("dspex.lm.attempt.start", {"number": self.number}, {})

    async def deliver(self, delta: LMDelta) -> None:
        """Hand a piece on; from the first one on nothing is tried again."""
        if self.first_piece is None:
            self.log.delivered = True
            self.note_first_piece(self.runtime.clock.now())
        assert self.on_delta is not None
        await self.on_delta(delta)

    def note_first_piece(self, now: float) -> None:
        """Note that the answer has begun."""
        self.first_piece = now - self.started
        self.emit("dspex.lm.first_token", {"seconds": self.first_piece, "number": self.number}, {})

    def note(
        self,
        number: int,
        outcome: str,
        started: float,
        status: int | None = None,
        message: str = "",
        first_byte: float | None = None,
        request_id: str | None = None,
        usage: Usage | None = None,
        *,
        sent: bool = True,
    ) -> None:
        """Write an attempt down; ``usage`` is what was counted for one that brought no answer."""
        duration = self.runtime.clock.now() - started
        model = self.lm.model
        attempt = Attempt(
            number, outcome, duration, status, message, model, first_byte, request_id, usage, sent, started, self.server
        )
        self.log.attempts.append(attempt)
        if usage is not None:
            self.log.charges.append(Charge(self.lm, usage))
        if self.runtime.telemetry.active:
            measurements = {"duration": attempt.duration, "number": attempt.number}
            if attempt.outcome == "ok":
                self.emit("dspex.lm.attempt.stop", measurements, {"status": attempt.status})
            else:
                self.emit("dspex.lm.attempt.exception", measurements, {"error": attempt.outcome})

    def note_lost_attempts(self) -> None:
        """
        Write down the attempts that a dead step left on the wire: they may have been charged.

        Raises:
            StreamTruncated: That step had handed on pieces of an answer: there is no second stream behind the reader's
                back.
        """
        log = self.log
        while log.on_wire:
            log.on_wire -= 1
            number, lost = len(log.attempts) + 1, "the step died while this attempt was on the wire"
            model = log.lm.model if log.lm else ""
            log.attempts.append(Attempt(number, "killed", 0.0, None, lost, model, at=log.sent_at))
            self.emit("dspex.lm.unknown_charge", {"number": number}, {})
        if log.delivered:
            self.give_up(StreamTruncated("the step died after pieces of the answer had been handed on", code=LOCAL))

    def note_retry(self, attempt: int, delay: float) -> None:
        """Tell telemetry that another attempt follows this one after ``delay`` seconds."""
        why = self.log.attempts[-1].outcome if self.log.attempts else "CircuitOpen"
        self.emit("dspex.lm.retry", {"number": attempt, "delay": delay}, {"error": why})

    def give_up(self, error: LMError) -> NoReturn:
        """Raise the last word, with every attempt."""
        error.attempts = tuple(self.log.attempts)
        raise error

    def emit(self, name: str, measurements: Mapping[str, float], metadata: Mapping[str, object]) -> None:
        """Tell telemetry what happened to this call at this model."""
        if self.runtime.telemetry.active:
            about = {"lm": self.name, "model": self.lm.model, "call": self.log.idempotency_key, **metadata}
            about["server"] = self.server
            self.runtime.telemetry.emit(name, measurements, about)
