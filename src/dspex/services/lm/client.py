"""The actor that decides for one model: who may send, and what a failure means. It sends nothing itself."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

from dspex._clock import TimerHandle
from dspex.errors import CircuitOpen, LMError
from dspex.runtime import Actor, Down, From, Next, NoReply, ProcessRef, Reply
from dspex.services.lm.leases import Lease, LeaseTable
from dspex.services.lm.policy import (
    BreakerState,
    CircuitBreaker,
    Limiter,
    Raise,
    RetryAfter,
    RetryBudget,
    RetryPolicy,
    is_outage,
    is_overload,
)

CAUTIOUS = 16
"""Attempts at once that a restarted client begins with, or as many as are on the wire: what was learned is lost."""

__all__ = ["Acquire", "ClientLimits", "LMClient", "Settle"]


@dataclass(frozen=True, slots=True)
class ClientLimits:
    """
    What one model may cost.

    Attributes:
        max_in_flight: Attempts at once.
        retry: Tries of one call, and the waits between them.
        retry_share: Retries that each first attempt earns, over all calls: 0.5 is one for every two.
        retry_reserve: Retries that may be spent before any are earned.
    """

    max_in_flight: int = 256
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    retry_share: float = 0.5
    retry_reserve: float = 100.0


@dataclass(frozen=True, slots=True)
class Acquire:
    """Ask for a lease for one attempt; answered by ``Lease``, ``RetryAfter`` or ``Raise``."""

    holder: ProcessRef
    attempt: int
    deadline: float


@dataclass(frozen=True, slots=True)
class Settle:
    """Give a lease back with what its attempt came to; a call is answered by ``RetryAfter`` or ``Raise``."""

    lease: int
    error: LMError | None
    attempt: int
    deadline: float


class LMClient(Actor):
    """
    Limits, breaker and retry policy of one model on one key.

    Leases are recorded in the table of the key's supervisor before they are granted. A restarted client starts
    from the leases it finds there, so the true number in flight is never forgotten; callers who waited for a lease
    ask again by name.
    """

    def __init__(self, model: str, table: LeaseTable, limits: ClientLimits) -> None:
        self._model = model
        self._table = table
        self._limits = limits
        self._policy = limits.retry
        begin = max(CAUTIOUS, len(table.of(model))) if model in table.known else None
        self._limiter = Limiter(limits.max_in_flight, initial=begin)
        table.known.add(model)
        self._breaker = CircuitBreaker()
        self._budget: RetryBudget
        self._waiting: deque[tuple[Acquire, From]] = deque()
        self._monitors: dict[int, Lease] = {}
        self._monitor_of: dict[int, int] = {}
        self._wake: TimerHandle | None = None

    async def init(self) -> None:
        """Adopt the leases that a predecessor granted; those whose holder is dead are released."""
        limits, now = self._limits, self.runtime.clock.now()
        self._budget = RetryBudget(now=now, share=limits.retry_share, reserve=limits.retry_reserve)
        self.own(self, LMClient._sleep_no_more)
        for lease in self._table.of(self._model):
            if lease.holder.alive:
                self._limiter.adopt(1)
                self._watch(lease)
            else:
                del self._table.leases[lease.id]

    async def handle_call(self, message: Any, sender: From) -> Next:
        """Answer ``Acquire`` now or when a slot is free, and ``Settle`` at once."""
        if isinstance(message, Acquire):
            return self._acquire(message, sender)
        assert isinstance(message, Settle)
        self._settle(message)
        return Reply(self._judge(message))

    async def handle_cast(self, message: Any) -> Next:
        """Take back the lease of an attempt that succeeded."""
        assert isinstance(message, Settle)
        self._settle(message)
        return None

    async def handle_info(self, message: Any) -> Next:
        """Take back the lease of a holder that died, or look again after a pause."""
        if isinstance(message, Down):
            lease = self._monitors.pop(message.monitor, None)
            if lease is not None:
                self._monitor_of.pop(lease.id, None)
                self._release(lease)
        elif message is _LOOK_AGAIN:
            self._wake = None
            self._pump()
        return None

    def describe(self) -> str:
        """Tell limit, in flight, waiting and the breaker's state."""
        breaker = "" if self._breaker.state is BreakerState.CLOSED else f", breaker {self._breaker.state.value}"
        return f"{self._limiter.in_flight} of {self._limiter.limit} in flight, {len(self._waiting)} waiting{breaker}"

    # --- granting -------------------------------------------------------------------------------------------

    def _acquire(self, request: Acquire, sender: From) -> Next:
        now = self.runtime.clock.now()
        if request.attempt == 1:
            self._budget.earn(now)
        answer = self._grant(request, now)
        if answer is not None:
            return Reply(answer)
        self._waiting.append((request, sender))
        return NoReply()

    def _grant(self, request: Acquire, now: float) -> Lease | RetryAfter | Raise | None:
        """Return a lease or a refusal; None means wait."""
        wait = self._limiter.wait(now)
        if wait is None:
            return None
        if wait > 0.0:
            self._look_again_in(wait)
            return None
        ticket = self._breaker.admit(now)
        if ticket is None:
            retry_after = self._breaker.retry_after(now)
            if retry_after == 0.0:
                return None  # a probe is out: its verdict decides
            error = CircuitOpen(f"{self._model} has failed too often lately", retry_after=retry_after)
            rand = self.runtime.random.random
            return self._policy.judge(error, request.attempt, now=now, deadline=request.deadline, rand=rand)
        self._limiter.try_acquire(now)
        lease = self._table.grant(self._model, request.holder, ticket)
        self._watch(lease)
        return lease

    def _watch(self, lease: Lease) -> None:
        monitor = lease.holder.monitor()
        self._monitors[monitor] = lease
        self._monitor_of[lease.id] = monitor

    def _pump(self) -> None:
        """Grant to those who wait, first come first served, for as long as there is room."""
        now = self.runtime.clock.now()
        while self._waiting:
            request, sender = self._waiting[0]
            if not sender.waiting or not request.holder.alive:
                self._waiting.popleft()
                continue
            answer = self._grant(request, now)
            if answer is None:
                return
            self._waiting.popleft()
            if not sender.reply(answer) and isinstance(answer, Lease):
                self._release(answer)

    def _look_again_in(self, seconds: float) -> None:
        if self._wake is None:
            clock, context = self.runtime.clock, self.runtime.context
            self._wake = clock.call_later(seconds, self.ref.send, _LOOK_AGAIN, context=context)

    def _sleep_no_more(self) -> None:
        if self._wake is not None:
            self._wake.cancel()

    # --- settling -------------------------------------------------------------------------------------------

    def _settle(self, message: Settle) -> None:
        """Take the lease back and learn from its outcome; a lease already taken back (by Down) changes nothing."""
        lease = self._table.leases.pop(message.lease, None)
        if lease is None:
            return
        monitor = self._monitor_of.pop(lease.id, None)
        if monitor is not None:
            self._monitors.pop(monitor, None)
            self._process.demonitor(monitor)
        now, error = self.runtime.clock.now(), message.error
        if error is not None and is_outage(error):
            self._breaker.failed(lease.ticket, now)
        else:
            self._breaker.succeeded(lease.ticket, now)
        if error is None:
            self._limiter.succeeded()
        elif is_overload(error):
            self._limiter.overloaded(now, error.retry_after)
        else:
            self._limiter.release()
        self._pump()

    def _release(self, lease: Lease) -> None:
        """Take a lease back without a verdict."""
        if self._table.leases.pop(lease.id, None) is not None:
            monitor = self._monitor_of.pop(lease.id, None)
            if monitor is not None:
                self._monitors.pop(monitor, None)
                self._process.demonitor(monitor)
            self._breaker.forgotten(lease.ticket)
            self._limiter.release()
            self._pump()

    def _judge(self, message: Settle) -> RetryAfter | Raise:
        assert message.error is not None
        now = self.runtime.clock.now()
        rand = self.runtime.random.random
        verdict = self._policy.judge(message.error, message.attempt, now=now, deadline=message.deadline, rand=rand)
        if isinstance(verdict, RetryAfter) and not self._budget.spend(now):
            return Raise(message.error, "retry budget")
        return verdict


_LOOK_AGAIN = object()
