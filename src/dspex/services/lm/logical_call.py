"""One logical call: its attempts, made in the task of the step that asks, until there is an answer or an end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from dspex.errors import (
    ActorExited,
    CallTimeout,
    DeadlineExceeded,
    InternalError,
    LMError,
    NoSuchActor,
    TransportFailed,
)
from dspex.protocols.lm import Attempt, AttemptLog, LMResponse
from dspex.runtime import Runtime, current_process
from dspex.services.lm.account import Account
from dspex.services.lm.channel import Channel
from dspex.services.lm.client import Acquire, Settle
from dspex.services.lm.leases import Lease
from dspex.services.lm.policy import Raise, RetryAfter
from dspex.services.lm.transport_server import GetChannel

__all__ = ["LogicalCall"]


class LogicalCall:
    """The attempt loop of one call, in its step's own task: lease, send, settle, until there is an end."""

    __slots__ = ("account", "client", "deadline", "log", "model", "runtime")

    def __init__(self, runtime: Runtime, account: Account, model: str, log: AttemptLog, deadline: float) -> None:
        self.runtime = runtime
        self.account = account
        self.model = model
        self.log = log
        self.deadline = deadline
        self.client = runtime.named(account.client_name(model))

    async def run(self, body: bytes) -> LMResponse:
        """Make attempts until one answers or none may follow; raises and is cancelled as ``LMService.complete``."""
        log = self.log
        if log.on_wire:
            self._note_lost_attempt()
        attempt = len(log.attempts)
        while True:
            attempt += 1
            lease = await self._ask(Acquire(_this_process(), attempt, self.deadline))
            if isinstance(lease, Lease):
                channel = await self._channel()
                started = self.runtime.clock.now()
                try:
                    response = await self._send(channel, body, attempt, started)
                except LMError as error:
                    verdict = await self._ask(Settle(lease.id, error, attempt, self.deadline))
                else:
                    self.client.cast(Settle(lease.id, None, attempt, self.deadline))
                    return response
            else:
                verdict = lease
            if isinstance(verdict, Raise):
                verdict.error.attempts = tuple(log.attempts)
                raise verdict.error
            assert isinstance(verdict, RetryAfter)
            why = log.attempts[-1].outcome if log.attempts else "CircuitOpen"
            self._emit("dspex.lm.retry", {"number": attempt, "delay": verdict.delay}, {"error": why})
            await self.runtime.sleep(verdict.delay)

    async def _ask(self, message: object) -> Any:
        """Call the client by name until somebody answers: nothing is lost when it dies with our question."""
        while True:
            left = self.deadline - self.runtime.clock.now()
            try:
                return await self.client.call(message, timeout=max(0.0, left))
            except (ActorExited, NoSuchActor):
                if left <= 0.0:
                    raise DeadlineExceeded(0.0) from None
            except CallTimeout as error:
                raise DeadlineExceeded(0.0) from error

    async def _channel(self) -> Channel:
        """Return the live channel, waiting for the transport's name while it is being restarted."""
        channel = self.account.table.channel
        while channel is None:
            left = max(0.0, self.deadline - self.runtime.clock.now())
            try:
                channel = await self.runtime.named(self.account.transport_name).call(GetChannel(), timeout=left)
            except (ActorExited, NoSuchActor):
                continue
        return channel

    async def _send(self, channel: Channel, body: bytes, attempt: int, started: float) -> LMResponse:
        """Make one attempt and write it down in the tick it ends."""
        log = self.log
        self._emit("dspex.lm.attempt.start", {"number": attempt}, {})
        log.sent += 1
        log.on_wire = True
        try:
            response = await channel.send(
                self.model, body, idempotency_key=log.idempotency_key, attempt=attempt, on_resend=self._note_resend
            )
        except LMError as error:
            log.on_wire = False
            self._note(Attempt(attempt, type(error).__name__, self._since(started), error.status, str(error)))
            raise
        except asyncio.CancelledError:
            process, task = current_process(), asyncio.current_task()
            if process is None or not process.alive or task is None:
                raise
            # Our process lives: it was the transport that died and ended the attempt. That is the network's failure.
            task.uncancel()
            log.on_wire = False
            failure = TransportFailed("the transport was restarted under this attempt")
            self._note(Attempt(attempt, "TransportFailed", self._since(started), None, str(failure)))
            raise failure from None
        log.on_wire = False
        log.response = response
        self._note(Attempt(attempt, "ok", self._since(started), 200))
        return response

    def _since(self, started: float) -> float:
        return self.runtime.clock.now() - started

    def _note(self, attempt: Attempt) -> None:
        self.log.attempts.append(attempt)
        if self.runtime.telemetry.active:
            measurements = {"duration": attempt.duration, "number": attempt.number}
            if attempt.outcome == "ok":
                self._emit("dspex.lm.attempt.stop", measurements, {"status": attempt.status})
            else:
                self._emit("dspex.lm.attempt.exception", measurements, {"error": attempt.outcome})

    def _note_resend(self) -> None:
        """Say that an attempt went out twice: its kept-alive connection was closed before a byte of the answer."""
        self.log.sent += 1
        self._emit("dspex.lm.resend", {"number": len(self.log.attempts) + 1}, {})

    def _note_lost_attempt(self) -> None:
        """Write down the attempt that a dead step left on the wire: it may have been charged."""
        log = self.log
        log.on_wire = False
        number = len(log.attempts) + 1
        log.attempts.append(Attempt(number, "killed", 0.0, None, "the step died while this attempt was on the wire"))
        self._emit("dspex.lm.unknown_charge", {"number": number}, {})

    def _emit(self, name: str, measurements: Mapping[str, float], metadata: Mapping[str, Any]) -> None:
        if self.runtime.telemetry.active:
            self.runtime.telemetry.emit(
                name, measurements, {"lm": self.client.name, "call": self.log.idempotency_key, **metadata}
            )


def _this_process() -> Any:
    process = current_process()
    if process is None:
        raise InternalError("an LM call was made outside a step")
    return process.ref
