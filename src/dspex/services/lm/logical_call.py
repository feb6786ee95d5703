"""One logical call: its attempts, made in the task of the step that asks, until there is an answer or an end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from math import ceil
from typing import Any

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
from dspex.protocols.lm import AttemptLog, LMDelta, LMResponse, Usage
from dspex.protocols.model import LM
from dspex.protocols.scope import OnDelta
from dspex.runtime import Runtime, current_process
from dspex.services.lm._call_log import CallLog
from dspex.services.lm.channel import Channel
from dspex.services.lm.client import Acquire, Busy, Settle
from dspex.services.lm.estimate import TokenEstimate
from dspex.services.lm.keyed_endpoint import KeyedEndpoint
from dspex.services.lm.leases import Lease
from dspex.services.lm.retry import LOCAL, Raise, RetryAfter
from dspex.services.lm.transport_server import GetChannel

__all__ = ["LogicalCall", "Sending"]


class LogicalCall(CallLog):
    """
    The attempts of one call at one model, in its step's own task: lease, send, settle.

    Args:
        runtime: Whose clock and names are used.
        keyed: The key and endpoint.
        lm: The model.
        log: What earlier attempts of this call have done.
        deadline: When the caller's time is over.
        body: The encoded request.
        expects: The tokens it will take.
        priority: Lower numbers are served first when calls wait.
        key: The idempotency key, where it is not the log's.
        on_delta: Awaited with each piece of the answer.
        streams: Whether the body asks for a stream; where it does not, the pieces are whole parts.
    """

    __slots__ = (
        "body",
        "claim",
        "client",
        "deadline",
        "expects",
        "key",
        "keyed",
        "on_delta",
        "priority",
        "resent",
        "sending",
        "streams",
    )

    def __init__(
        self,
        runtime: Runtime,
        keyed: KeyedEndpoint,
        lm: LM,
        log: AttemptLog,
        deadline: float,
        body: bytes,
        expects: TokenEstimate,
        *,
        priority: int = 0,
        key: str | None = None,
        on_delta: OnDelta | None = None,
        streams: bool = False,
    ) -> None:
        client = runtime.named(keyed.client_name(lm.model_name), patient=True)  # asked until it answers: it must wait
        super().__init__(runtime, lm, log, client.name)
        self.keyed = keyed
        self.client = client
        self.deadline = deadline
        self.body = body
        self.expects = expects
        self.priority = priority
        self.key = f"{keyed.mark}-{log.idempotency_key}" if key is None else key
        self.on_delta = on_delta
        self.streams = streams
        self.resent = 0
        """Attempts that the transport made of its own, which the policy counts like others."""
        self.claim: Callable[[], Awaitable[None]] | None = None
        """Where several asks race for one reader: returns when this one is the one that is read."""
        self.sending: int | None = None
        """The number of the attempt that is on the wire."""

    async def run(self) -> LMResponse:
        """Make attempts until one answers or none may follow; raises and is cancelled as ``LMService.complete``."""
        response: LMResponse = await self.until_answered()
        return response

    async def until_answered(self) -> Any:
        """Make attempts until one has what ``_exchange`` returns."""
        log = self.log
        self.note_lost_attempts()
        attempt = len(log.attempts)
        while True:
            attempt += 1
            verdict: Any = await self.acquire(attempt)
            if isinstance(verdict, Lease):
                verdict = await self.attempt(verdict, attempt)
                if not isinstance(verdict, (Raise, RetryAfter)):
                    return verdict
            if isinstance(verdict, Raise):
                self.give_up(verdict.error)
            assert isinstance(verdict, RetryAfter)
            self.note_retry(attempt, verdict.delay)
            await self.runtime.sleep(verdict.delay)

    async def acquire(
        self, attempt: int, *, queue: bool = True, hedge: bool = False
    ) -> Lease | RetryAfter | Raise | Busy:
        """Ask for a lease for the attempt of this number at this model; ``Busy`` comes only without ``queue``."""
        prompt, answer = self.expects
        request = Acquire(_this_process(), attempt, self.deadline, self.priority, prompt, answer, queue, hedge)
        granted: Lease | RetryAfter | Raise | Busy = await self._ask(request)
        return granted

    async def attempt(self, lease: Lease, attempt: int) -> Any:
        """
        Make one attempt and settle its lease; return the response, ``RetryAfter`` or ``Raise``.

        The client judges errors, except after a piece of the answer was handed on: then the error is the end.
        """
        channel = await self._channel()
        sending = Sending(self, lease)
        try:
            response = await self._send(channel, sending)
        except LMError as error:
            settle = Settle(lease.id, error, attempt + self.resent, self.deadline, error.usage)
            if self.log.delivered:
                self.client.cast(settle)
                return Raise(error, "pieces of the answer were handed on")
            verdict: RetryAfter | Raise = await self._ask(settle)
            return verdict
        self.client.cast(Settle(lease.id, None, attempt, self.deadline, response.usage))
        if self.on_delta is not None:
            for delta in self.log.rest():
                await sending.deliver(delta)
        return response

    async def _ask(self, message: object) -> Any:
        """Call the client by name until somebody answers: nothing is lost when it dies with our question."""
        while True:
            left = self.deadline - self.runtime.clock.now()
            try:
                # In whole seconds, which many calls share: each timeout has a queue and a timer of its own. Within the
                # second too long it is the request that ends us, at the deadline itself.
                return await self.client.call(message, timeout=float(max(0, ceil(left))))
            except (ActorExited, NoSuchActor):
                if left <= 0.0:
                    raise DeadlineExceeded(0.0) from None
            except CallTimeout as error:
                raise DeadlineExceeded(0.0) from error

    async def _channel(self) -> Channel:
        """Return the live channel, waiting for the transport's name while it is being restarted."""
        channel = self.keyed.table.channel
        while channel is None:
            left = max(0.0, self.deadline - self.runtime.clock.now())
            try:
                transport = self.runtime.named(self.keyed.transport_name, patient=True)
                channel = await transport.call(GetChannel(), timeout=left)
            except (ActorExited, NoSuchActor):
                continue
        return channel

    async def _exchange(self, channel: Channel, sending: Sending) -> Any:
        return await channel.send(
            self.lm.model_name,
            self.body,
            idempotency_key=self.key,
            attempt=sending.number,
            on_resend=sending.resent,
            on_begin=sending.begun,
            on_delta=sending.deliver if self.on_delta is not None else None,
            streams=self.streams,
        )

    def _keep(self, response: Any) -> None:
        """Note what is returned unsent if this step dies before it can return it."""
        if self.log.response is None:
            self.log.response, self.log.lm = response, self.lm

    async def _send(self, channel: Channel, sending: Sending) -> Any:
        """Make one attempt and write it down in the tick it ends."""
        try:
            response = await self._exchange(channel, sending)
            if self.claim is not None:
                await self.claim()
        except LMError as error:
            sending.ended(type(error).__name__, error.status, str(error), error.request_id, error.usage)
            raise
        except asyncio.CancelledError:
            process, task = current_process(), asyncio.current_task()
            if process is None or not process.alive or task is None:
                raise
            # Our process lives: it was the transport that died and ended the attempt. That is the network's failure.
            task.uncancel()
            failure = TransportFailed("the transport was restarted under this attempt", code=LOCAL)
            sending.ended("TransportFailed", None, str(failure))
            raise failure from None
        except Exception as error:  # whoever was handed the pieces failed: noted here, then raised on
            sending.ended("reader", None, f"{type(error).__name__}: {error}")
            self.client.cast(Settle(sending.lease.id, None, 1, self.deadline, cancelled=True))
            raise
        self._keep(response)
        sending.ended("ok", 200, "", getattr(response, "request_id", None))
        return response


class Sending:
    """One attempt on the wire: its number, and what is noted of it as it goes."""

    __slots__ = ("_call", "_first", "_started", "lease", "number")

    def __init__(self, call: LogicalCall, lease: Lease) -> None:
        self._call = call
        self.lease = lease
        self._first: float | None = None
        call.log.on_wire += 1
        self.number = self._begin()

    def _begin(self) -> int:
        call, lease, log = self._call, self.lease, self._call.log
        number = call.sending = len(log.attempts) + log.on_wire
        self._started = lease.sent_at = call.runtime.clock.now()
        lease.sent, lease.begun_at = True, None
        log.sent += 1
        call.emit("dspex.lm.attempt.start", {"number": number}, {})
        return number

    def resent(self) -> int:
        """Note that a kept-alive connection was closed before a byte came; return the number of what follows."""
        call = self._call
        call.note(self.number, "resent", self._started)
        call.emit("dspex.lm.resend", {"number": self.number}, {})
        call.resent += 1
        self.number = self._begin()
        return self.number

    def begun(self, headers: Mapping[str, str]) -> None:
        """Note what the answer's headers say, and that it has begun: a stream, whose head is here, has not yet."""
        call, lease = self._call, self.lease
        if not call.streams:
            lease.begun_at = call.runtime.clock.now()
        lease.headroom = call.keyed.endpoint.wire.headroom(headers, now=wall_time())

    async def deliver(self, delta: LMDelta) -> None:
        """Hand a piece on; from the first one on nothing is tried again."""
        call = self._call
        if self._first is None:
            call.log.delivered = True
            now = call.runtime.clock.now()
            self._first = now - self._started
            if self.lease.begun_at is None:
                self.lease.begun_at = now
            call.emit("dspex.lm.first_token", {"seconds": self._first, "number": self.number}, {})
        assert call.on_delta is not None
        await call.on_delta(delta)

    def ended(
        self,
        outcome: str,
        status: int | None,
        message: str,
        request_id: str | None = None,
        usage: Usage | None = None,
    ) -> None:
        """Write the attempt down."""
        call = self._call
        call.log.on_wire -= 1
        call.sending = None
        begun = self.lease.begun_at
        first = self._first if self._first is not None or begun is None else begun - self._started
        call.note(self.number, outcome, self._started, status, message, first, request_id, usage)


def _this_process() -> Any:
    process = current_process()
    if process is None:
        raise InternalError("an LM call was made outside a step")
    return process.ref
