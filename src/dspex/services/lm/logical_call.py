"""One logical call: its attempts, made in the task of the step that asks, until there is an answer or an end."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any, NoReturn

from dspex._clock import wall_time
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
from dspex.protocols.model import LM
from dspex.runtime import Runtime, current_process
from dspex.services.lm.account import Account
from dspex.services.lm.channel import Channel
from dspex.services.lm.client import Acquire, Busy, Settle
from dspex.services.lm.estimate import Estimate
from dspex.services.lm.leases import Lease
from dspex.services.lm.retry import LOCAL, Raise, RetryAfter
from dspex.services.lm.transport_server import GetChannel

__all__ = ["LogicalCall"]


class LogicalCall:
    """
    The attempts of one call at one model, in its step's own task: lease, send, settle.

    Args:
        runtime: Whose clock and names are used.
        account: The key and endpoint.
        lm: The model.
        log: What earlier attempts of this call have done.
        deadline: When the caller's time is over.
        body: The encoded request.
        expects: The tokens it will take.
        priority: Lower numbers are served first when calls wait.
        key: The idempotency key, where it is not the log's.
    """

    __slots__ = (
        "account",
        "body",
        "client",
        "deadline",
        "expects",
        "key",
        "lm",
        "log",
        "priority",
        "runtime",
        "sending",
    )

    def __init__(
        self,
        runtime: Runtime,
        account: Account,
        lm: LM,
        log: AttemptLog,
        deadline: float,
        body: bytes,
        expects: Estimate,
        *,
        priority: int = 0,
        key: str | None = None,
    ) -> None:
        self.runtime = runtime
        self.account = account
        self.lm = lm
        self.log = log
        self.deadline = deadline
        self.body = body
        self.expects = expects
        self.priority = priority
        self.key = log.idempotency_key if key is None else key
        self.client = runtime.named(account.client_name(lm.model_name))
        self.sending: int | None = None
        """The number of the attempt that is on the wire."""

    async def run(self) -> LMResponse:
        """Make attempts until one answers or none may follow; raises and is cancelled as ``LMService.complete``."""
        log = self.log
        self.note_lost_attempts()
        attempt = len(log.attempts)
        while True:
            attempt += 1
            verdict: Any = await self.acquire(attempt)
            if isinstance(verdict, Lease):
                verdict = await self.attempt(verdict, attempt)
                if isinstance(verdict, LMResponse):
                    return verdict
            if isinstance(verdict, Raise):
                self.give_up(verdict.error)
            assert isinstance(verdict, RetryAfter)
            why = log.attempts[-1].outcome if log.attempts else "CircuitOpen"
            self.emit("dspex.lm.retry", {"number": attempt, "delay": verdict.delay}, {"error": why})
            await self.runtime.sleep(verdict.delay)

    async def acquire(
        self, attempt: int, *, queue: bool = True, hedge: bool = False
    ) -> Lease | RetryAfter | Raise | Busy:
        """Ask for a lease for the attempt of this number at this model; ``Busy`` comes only without ``queue``."""
        prompt, answer = self.expects
        request = Acquire(_this_process(), attempt, self.deadline, self.priority, prompt, answer, queue, hedge)
        granted: Lease | RetryAfter | Raise | Busy = await self._ask(request)
        return granted

    async def attempt(self, lease: Lease, attempt: int) -> LMResponse | RetryAfter | Raise:
        """Make one attempt and settle its lease; an error becomes the client's verdict on it."""
        channel = await self._channel()
        try:
            response = await self._send(channel, lease)
        except LMError as error:
            verdict: RetryAfter | Raise = await self._ask(Settle(lease.id, error, attempt, self.deadline))
            return verdict
        self.client.cast(Settle(lease.id, None, attempt, self.deadline, response.usage))
        return response

    def give_up(self, error: LMError) -> NoReturn:
        """Raise the last word, with every attempt."""
        error.attempts = tuple(self.log.attempts)
        raise error

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

    async def _send(self, channel: Channel, lease: Lease) -> LMResponse:
        """Make one attempt and write it down in the tick it ends."""
        log, started = self.log, self.runtime.clock.now()
        number = len(log.attempts) + log.on_wire + 1
        self.emit("dspex.lm.attempt.start", {"number": number}, {})
        log.sent += 1
        log.on_wire += 1
        self.sending = number
        lease.sent, lease.sent_at = True, started

        def on_head(headers: Mapping[str, str]) -> None:
            lease.first_byte_at = self.runtime.clock.now()
            lease.headroom = self.account.endpoint.wire.headroom(headers, now=wall_time())

        try:
            response = await channel.send(
                self.lm.model_name,
                self.body,
                idempotency_key=self.key,
                attempt=number,
                on_resend=self._note_resend,
                on_head=on_head,
            )
        except LMError as error:
            self._off_the_wire()
            self.note(number, type(error).__name__, started, error.status, str(error))
            raise
        except asyncio.CancelledError:
            process, task = current_process(), asyncio.current_task()
            if process is None or not process.alive or task is None:
                raise
            # Our process lives: it was the transport that died and ended the attempt. That is the network's failure.
            task.uncancel()
            self._off_the_wire()
            failure = TransportFailed("the transport was restarted under this attempt", code=LOCAL)
            self.note(number, "TransportFailed", started, None, str(failure))
            raise failure from None
        self._off_the_wire()
        if log.response is None:
            log.response, log.lm = response, self.lm
        self.note(number, "ok", started, 200)
        return response

    def _off_the_wire(self) -> None:
        self.log.on_wire -= 1
        self.sending = None

    def note(self, number: int, outcome: str, started: float, status: int | None = None, message: str = "") -> None:
        """Write an attempt down."""
        duration = self.runtime.clock.now() - started
        attempt = Attempt(number, outcome, duration, status, message, self.lm.model)
        self.log.attempts.append(attempt)
        if self.runtime.telemetry.active:
            measurements = {"duration": attempt.duration, "number": attempt.number}
            if attempt.outcome == "ok":
                self.emit("dspex.lm.attempt.stop", measurements, {"status": attempt.status})
            else:
                self.emit("dspex.lm.attempt.exception", measurements, {"error": attempt.outcome})

    def _note_resend(self) -> None:
        """Say that an attempt went out twice: its kept-alive connection was closed before a byte of the answer."""
        self.log.sent += 1
        self.emit("dspex.lm.resend", {"number": len(self.log.attempts) + 1}, {})

    def note_lost_attempts(self) -> None:
        """Write down the attempts that a dead step left on the wire: they may have been charged."""
        log = self.log
        while log.on_wire:
            log.on_wire -= 1
            number, lost = len(log.attempts) + 1, "the step died while this attempt was on the wire"
            log.attempts.append(Attempt(number, "killed", 0.0, None, lost, log.lm.model if log.lm else ""))
            self.emit("dspex.lm.unknown_charge", {"number": number}, {})

    def emit(self, name: str, measurements: Mapping[str, float], metadata: Mapping[str, Any]) -> None:
        """Tell telemetry what happened to this call at this model."""
        if self.runtime.telemetry.active:
            self.runtime.telemetry.emit(
                name, measurements, {"lm": self.client.name, "call": self.log.idempotency_key, **metadata}
            )


def _this_process() -> Any:
    process = current_process()
    if process is None:
        raise InternalError("an LM call was made outside a step")
    return process.ref
