"""One logical call: its attempts, made in the task of the step that asks, until there is an answer or an end."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from dspex._clock import wall_time
from dspex.errors import LMError, TransportFailed
from dspex.protocols.lm import AttemptLog, Usage
from dspex.protocols.model import LM
from dspex.protocols.scope import OnDelta
from dspex.runtime import Runtime, calling_process, current_process
from dspex.services.lm._call_log import CallLog
from dspex.services.lm.channel import Channel
from dspex.services.lm.client import LOOK_AGAIN
from dspex.services.lm.estimate import TokenEstimate, counted, counted_vectors
from dspex.services.lm.keyed_endpoint import KeyedEndpoint
from dspex.services.lm.lease_book import Acquire, Busy, Settle
from dspex.services.lm.leases import Lease
from dspex.services.lm.retry import LOCAL, Raise, RetryAfter, reworded
from dspex.services.lm.transport_server import GetChannel

__all__ = ["LogicalCall"]


class LogicalCall(CallLog):
    """
    The attempts of one call at one model, in its step's own task: lease, send, settle.

    Args:
        runtime: The runtime whose clock and names are used.
        keyed: The key and endpoint.
        lm: The model.
        model: Its own name, without the provider's.
        log: The history of earlier attempts of this call.
        deadline: When the caller's time is over.
        body: The encoded request.
        expects: The tokens it will take.
        priority: Lower numbers are served first when calls wait.
        on_delta: Awaited with each piece of the answer.
        streams: True when the body asks for a stream; where it does not, the pieces are whole parts.
        texts: The number of texts that the body wants vectors of; None where it asks for an answer.
    """

    __slots__ = (
        "body",
        "claim",
        "client",
        "client_model",
        "deadline",
        "expects",
        "key",
        "keyed",
        "lease",
        "model",
        "priority",
        "resent",
        "sending",
        "streams",
        "texts",
        "unconnected",
        "waited",
    )

    def __init__(
        self,
        runtime: Runtime,
        keyed: KeyedEndpoint,
        lm: LM,
        model: str,
        log: AttemptLog,
        deadline: float,
        body: bytes,
        expects: TokenEstimate,
        *,
        priority: int = 0,
        on_delta: OnDelta | None = None,
        streams: bool = False,
        texts: int | None = None,
    ) -> None:
        client_model = model if texts is None else keyed.embedder(model)
        client = keyed.client(runtime, client_model)
        super().__init__(runtime, lm, log, client.name, on_delta, keyed.server)
        self.keyed = keyed
        self.model = model
        self.client = client
        self.client_model = client_model
        """The name under which the client keeps its leases."""
        self.deadline = deadline
        self.body = body
        self.expects = expects
        self.priority = priority
        self.key = f"{keyed.mark}-{log.idempotency_key}"
        """The idempotency key."""
        self.streams = streams
        self.texts = texts
        self.lease: Lease | None = None
        """Of the latest attempt."""
        self.resent = 0
        """Attempts that the transport made of its own, which the policy counts like others."""
        self.claim: Callable[[], Awaitable[None]] | None = None
        """Where several asks race for one reader: returns when this one is the one that is read."""
        self.sending: int | None = None
        """The number of the attempt that is on the wire."""
        self.waited = math.inf
        """Seconds between tries so far; infinite in a pool, which asks another member rather than to wait for long."""
        self.unconnected = 0.0
        """Seconds that attempts spent on connections that never came about."""

    async def run(self) -> Any:
        """
        Make attempts until one answers or none may follow.

        Returns:
            An ``LMResponse``; an ``EmbedResponse`` where texts are to be turned into vectors.

        Raises:
            LMError, ServiceUnavailable: As ``LMService.complete``.
        Cancellation: closes the attempt's socket and settles its lease.
        """
        if self.log.on_wire or self.log.delivered:
            self.note_lost_attempts()
        attempt, self.waited = len(self.log.attempts), 0.0
        while True:
            attempt += 1
            verdict: object = self._lease_at_once(attempt) or await self.acquire(attempt)
            if isinstance(verdict, Lease):
                verdict = await self.attempt(verdict, attempt)
                if not isinstance(verdict, (Raise, RetryAfter)):
                    return verdict
            if isinstance(verdict, Raise):
                self.give_up(verdict.error)
            assert isinstance(verdict, RetryAfter)
            await self.allow_soon()  # before the wait, which would be in vain
            self.note_retry(attempt, verdict.delay)
            await self.runtime.sleep(verdict.delay)
            self.waited += verdict.delay

    def _lease_at_once(self, attempt: int) -> Lease | None:
        """Return a lease where there is no need to wait for one, taken in this tick; None where the client decides."""
        book = self.keyed.table.books.get(self.client_model)
        if book is None:
            return None
        process = calling_process()
        lease = book.lend_at_once(process.ref, attempt, self.deadline, self.runtime.clock.now())
        if lease is not None:  # the client watches nobody for it: however this process ends, it gives the lease back
            process.own(lease, self._give_back)
        return lease

    def _give_back(self, lease: Lease) -> None:
        """Send a lease that was not settled to the client; without one, the next finds it and its dead holder."""
        if lease.id in self.keyed.table.leases:
            self.client.send(lease)

    def acquire(
        self, attempt: int, *, queue: bool = True, hedge: bool = False
    ) -> Awaitable[Lease | RetryAfter | Raise | Busy]:
        """Ask for a lease for the attempt of this number at this model; ``Busy`` comes only without ``queue``."""
        prompt, answer = self.expects
        holder = calling_process().ref
        request = Acquire(holder, attempt, self.deadline, self.priority, prompt, answer, queue, hedge, self.waited)
        return self.client.ask(request, self.deadline)

    async def attempt(self, lease: Lease, attempt: int) -> Any:
        """
        Make one attempt and settle its lease; return the response, ``RetryAfter`` or ``Raise``.

        The attempt is written down in the tick it ends. The client judges errors, except after a piece of the answer
        was handed on: then the error is the end.
        """
        log, channel = self.log, self.keyed.table.channel
        if channel is None:
            channel = await self._channel()
        self.lease = lease
        try:
            if log.grant is not None:
                self.allow()  # in the tick in which it goes out: two that retry at once do not share one call
        except LMError:
            self.client.cast(Settle(lease.id, None, attempt, self.deadline, cancelled=True))
            raise
        log.on_wire += 1
        self.begin()
        try:
            response = await channel.send(self)
            if self.claim is not None:
                await self.claim()
        except LMError as error:
            sent = error.may_be_charged
            self._end(type(error).__name__, error.status, str(error), error.request_id, error.usage, sent=sent)
            failure = error
            if log.grant is not None:
                log.failure = reworded(error, "")  # without its traceback, which has this frame
        except asyncio.CancelledError:
            process, task = current_process(), asyncio.current_task()
            if process is None or not process.alive or task is None:
                raise
            # Our process lives: it was the transport that died and ended the attempt. That is the network's failure.
            task.uncancel()
            failure = TransportFailed("the transport was restarted under this attempt", code=LOCAL)
            self._end("TransportFailed", None, str(failure))
        except Exception as error:  # whoever was handed the pieces failed: noted here, then raised on
            self._end("reader", None, f"{type(error).__name__}: {error}")
            self.client.cast(Settle(lease.id, None, 1, self.deadline, cancelled=True))
            raise
        else:
            if self.texts is not None:
                response = counted_vectors(response, self.expects)
                log.lm = self.lm
            else:
                response = counted(response, self.expects)
            if self.texts is None and log.response is None:  # returned unsent if this step dies before it can return it
                log.response, log.lm = response, self.lm
            self._end("ok", 200, "", getattr(response, "request_id", None))
            book = self.keyed.table.books.get(self.client_model)
            if book is None or not book.settle_at_once(lease, attempt, response.usage, self.runtime.clock.now()):
                self.client.cast(Settle(lease.id, None, attempt, self.deadline, response.usage))
            if self.on_delta is not None:
                for delta in log.rest():
                    await self.deliver(delta)
            return response
        try:
            tries = attempt + self.resent
            if isinstance(failure, TransportFailed) and not failure.may_be_charged:
                self.unconnected += self.runtime.clock.now() - self.started
            times = (self.waited, self.unconnected)
            settle = Settle(lease.id, failure, tries, self.deadline, failure.usage, False, *times)
            if log.delivered:
                self.client.cast(settle)
                return Raise(failure, "pieces of the answer were handed on")
            return await self.client.ask(settle, self.deadline)
        finally:
            del failure  # its traceback has this frame, which would be left to the garbage collector

    async def _channel(self) -> Channel:
        """Return the live channel, waiting for the transport's name while it is being restarted."""
        transport = self.runtime.named(self.keyed.transport_name, patient=True)
        channel: Channel = await transport.ask(GetChannel(), self.deadline)
        return channel

    # --- what the channel tells -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Note that an attempt goes out, in the lease as well."""
        super().begin()
        lease = self.lease
        assert lease is not None
        self.sending = self.number
        lease.sent, lease.sent_at, lease.begun_at = True, self.started, None

    def note_resent(self) -> None:
        """Note that a kept-alive connection was closed before a byte came, and that a new attempt follows at once."""
        self.note(self.number, "resent", self.started)
        self.emit("dspex.lm.resend", {"number": self.number}, {})
        self.resent += 1
        self.begin()

    def note_head(self, headers: Mapping[str, str]) -> None:
        """Note what the answer's headers say, and that it has begun: a stream, whose head is here, has not yet."""
        lease = self.lease
        assert lease is not None
        if not self.streams:
            lease.begun_at = self.runtime.clock.now()
        lease.headroom = self.keyed.endpoint.wire.headroom(headers, now=wall_time())

    def note_first_piece(self, now: float) -> None:
        """Note that the answer has begun, in the lease as well."""
        super().note_first_piece(now)
        lease = self.lease
        if lease is None or lease.begun_at is not None:
            return
        lease.begun_at = now
        book = self.keyed.table.books.get(self.client_model)
        if book is not None and book.begun(lease, now):
            self.client.send(LOOK_AGAIN)

    def _end(
        self,
        outcome: str,
        status: int | None,
        message: str,
        request_id: str | None = None,
        usage: Usage | None = None,
        *,
        sent: bool = True,
    ) -> None:
        """Write the attempt down."""
        self.log.on_wire -= 1
        self.sending = None
        first = self.first_piece
        if first is None and self.lease is not None and self.lease.begun_at is not None:
            first = self.lease.begun_at - self.started
        self.note(self.number, outcome, self.started, status, message, first, request_id, usage, sent=sent)
