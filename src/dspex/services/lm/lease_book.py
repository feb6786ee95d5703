"""The decisions about one model on one key: who may send now, who waits, and what a failure means. Pure."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from dspex.errors import AuthFailed, CircuitOpen, LMError, RateLimited, RequestRejected
from dspex.protocols.lm import Usage
from dspex.runtime import ProcessRef
from dspex.services.lm.book_facts import BookFacts, BucketFacts
from dspex.services.lm.breaker import BreakerState, CircuitBreaker
from dspex.services.lm.buckets import RateLimits, share_left
from dspex.services.lm.first_bytes import FirstBytes
from dspex.services.lm.key_health import KeyHealth
from dspex.services.lm.lease_words import Acquire, Busy, Settle, Settled
from dspex.services.lm.leases import NOTHING_HELD, Lease, LeaseTable
from dspex.services.lm.limiter import Gradient, Limiter
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.retry import LOCAL, Raise, RetryAfter, RetryBudget, is_key_failure, is_outage, is_overload
from dspex.services.lm.slices import ModelShare
from dspex.services.lm.waiting import WaitingRoom
from dspex.services.shared.rate_cell import RateAnswer
from dspex.telemetry import Telemetry

__all__ = ["Acquire", "BookFacts", "BucketFacts", "Busy", "LeaseBook", "Settle", "Settled"]

W = TypeVar("W")

CAUTIOUS = 16
"""Attempts at once that a restarted client begins with, or as many as are on the wire: what was learned is lost."""

TYPICAL_ANSWER = 256.0
"""Tokens that an answer is taken to have before any has been seen, where the call sets no length."""

PATIENCE = 10.0
"""Seconds without a byte after which an attempt that ran into its caller's deadline is an outage: at the least."""

DOWN = 3
"""Outages running, with no answer between them, after which the server is taken to be down."""

_MOST_TOLD = 3
"""Signatures whose form was changed that a description names, the last ones."""

_SHOWN = 300
"""Characters of the last failure that a refusal of the breaker repeats."""

_EARLY = 0.001
"""Seconds by which a timer may go off before its time."""


class LeaseBook(Generic[W]):
    """
    Limits, breaker and retry policy of one model on one key, told the time at each question.

    Leases are recorded in ``table`` before they are granted. A book that succeeds another starts from the leases it
    finds there, so the true number in flight is never forgotten, and with empty buckets.

    Args:
        model: By its own name.
        table: The leases and the health of the key, which outlive the book.
        limits: The limits of the model.
        now: The runtime clock's seconds.
        follow_latency: True when the limit follows how long answers take to begin.
        has_left: Says that somebody who waited does so no longer.
        rand: Draws from 0 to 1, for the jitter of retries.
        telemetry: Is told of changes.
        name: The model's name in telemetry.
        share: The limits that other processes share, and news of the provider for them; None for none.
    """

    def __init__(
        self,
        model: str,
        table: LeaseTable,
        limits: ClientLimits,
        *,
        now: float,
        follow_latency: bool = False,
        has_left: Callable[[tuple[Acquire, W]], bool],
        rand: Callable[[], float],
        telemetry: Telemetry,
        name: str,
        share: ModelShare | None = None,
    ) -> None:
        is_successor = model in table.known
        begin = max(CAUTIOUS, len(table.of(model))) if is_successor else None
        table.known.add(model)
        self._model = model
        self._name = name
        self._table = table
        self._policy = limits.retry
        self._rand = rand
        self._telemetry = telemetry
        gradient = Gradient() if follow_latency else None
        self._limiter = Limiter(limits.max_in_flight, initial=begin, gradient=gradient)
        self._limiter.pause(now, table.pauses.get(model, 0.0) - now)
        self._breaker = CircuitBreaker()
        self._outage = ""
        self._outages = 0  # since the last answer
        self._access = KeyHealth()  # a key may be good, and yet not for this model
        self._budget = RetryBudget(now=now, share=limits.retry_share, reserve=limits.retry_reserve)
        self._share = share
        self._rates = RateLimits(
            rpm=limits.rpm,
            tpm=limits.tpm,
            learn=limits.learn,
            now=now,
            empty=is_successor,
            make=share.bucket if share is not None else None,
        )
        self._answers = TYPICAL_ANSWER
        self._first_bytes = FirstBytes()
        self._waiting: WaitingRoom[tuple[Acquire, W]] = WaitingRoom(has_left)

    def adopt(self, lease: Lease) -> None:
        """Count a lease that a predecessor granted and whose holder lives."""
        self._limiter.adopt(1)
        lease.held = self._rates.adopt(lease.held)

    def drop(self, lease: Lease) -> None:
        """Strike out a lease that a predecessor granted and whose holder has died since."""
        del self._table.leases[lease.id]
        self._table.key.forgotten(lease.key_ticket)

    @property
    def in_flight(self) -> int:
        """How many leases are out."""
        return self._limiter.in_flight

    @property
    def could_send(self) -> int:
        """How many of those who wait have room on the wire."""
        return min(self._waiting.size, self._limiter.limit - self._limiter.in_flight)

    def facts(self, now: float) -> BookFacts:
        """Return the same as ``describe``, as numbers."""
        buckets = (("requests", self._rates.requests), ("tokens", self._rates.tokens))
        errors = [health.error for health in (self._table.key, self._access) if health.error is not None]
        return BookFacts(
            self._limiter.limit,
            self._limiter.max_in_flight,
            self._limiter.in_flight,
            sum(self._waiting.counts().values()),
            self._limiter.wait(now) or 0.0,
            tuple(BucketFacts(kind, each.level(now), each.capacity, each.period) for kind, each in buckets if each),
            self._breaker.state.value,
            self._breaker.retry_after(now),
            type(errors[0]).__name__ if errors else "",
            self._share.live if self._share is not None else 1,
            self._share.away if self._share is not None else "",
        )

    def describe(self, now: float) -> str:
        """Tell limit, in flight, waiting by priority, buckets, and faults of breaker or key."""
        counts = self._waiting.counts()
        by_priority = ", ".join(f"{count} at priority {priority}" for priority, count in counts.items())
        said = [
            f"{self._limiter.in_flight} of {self._limiter.limit} in flight",
            f"{sum(counts.values())} waiting" + (f" ({by_priority})" if set(counts) - {0} else ""),
        ]
        pause = self._limiter.wait(now)
        if pause:
            said.append(f"paused for {pause:.1f} s")
        rates = self._rates.describe(now)
        if rates:
            said.append(rates)
        if self._breaker.state is not BreakerState.CLOSED:
            said.append(f"breaker {self._breaker.state.value}")
        said.extend(
            f"key refused ({type(health.error).__name__}), next try in {health.retry_after(now):.0f} s"
            for health in (self._table.key, self._access)
            if health.error is not None
        )
        if self._share is not None:
            said.append(self._share.describe())
        forms = self._table.forms.get(self._model)
        if forms is not None:
            said.extend(f"{each.signature} is asked as {each.to}: {each.words}" for each in forms.moves[-_MOST_TOLD:])
        return ", ".join(said)

    # --- granting -------------------------------------------------------------------------------------------

    def lend_at_once(self, holder: ProcessRef, attempt: int, deadline: float, now: float) -> Lease | None:
        """
        Return a lease where nothing but the number in flight decides, which is nearly always; or None.

        A step asks this in its own tick, without a message to the client. The caller sees to it that the lease
        comes back when its holder dies.
        """
        if (
            self._waiting.size
            or self._breaker.state is not BreakerState.CLOSED
            or self._rates.active
            or self._table.key.error is not None
            or self._access.error is not None
            or (self._share is not None and not self._share.is_fresh(now))
            or not self._limiter.try_acquire(now)
        ):
            return None
        if attempt == 1:
            self._budget.earn(now)
        ticket = self._breaker.admit(now)
        assert ticket is not None
        return self._table.grant(self._model, holder, ticket, deadline=deadline)

    def acquire(self, request: Acquire, waiter: W, now: float) -> Lease | RetryAfter | Raise | Busy | float:
        """
        Return the answer to a request.

        A number says that ``waiter`` was let in: the seconds until there may be a slot, or 0 when others wait as well,
        some of whom may have left.
        """
        if not request.hedge:
            lease = self.lend_at_once(request.holder, request.attempt, request.deadline, now)
            if lease is not None:
                return lease
            if request.attempt == 1:
                self._budget.earn(now)
        waiting = self._waiting.size > 0
        if request.hedge and (waiting or self._breaker.state is not BreakerState.CLOSED or self._key_refusal(now)):
            return Busy(math.inf)
        answer = self._decide(request, now) if not waiting else self._certain_refusal(request, now)
        if not isinstance(answer, float):
            return answer
        if not request.queue or request.hedge:
            return Busy(answer)
        self._waiting.enter(request.priority, (request, waiter))
        return 0.0 if waiting else answer

    def next_answer(self, now: float) -> tuple[W, Lease | RetryAfter | Raise] | float:
        """Take out who is next, with the answer; or return the seconds until somebody may be: by priority, in turn."""
        next_one = self._waiting.first() if self._waiting.size else None
        if next_one is None:
            return math.inf
        answer = self._decide(next_one[0], now)
        if isinstance(answer, float):
            return answer
        self._waiting.serve()
        return next_one[1], answer

    def _decide(self, request: Acquire, now: float) -> Lease | RetryAfter | Raise | float:
        """Return a lease, a refusal, or the seconds to wait: infinite until something happens."""
        refusal = self._certain_refusal(request, now)
        if not isinstance(refusal, float):
            return refusal
        if refusal > 0.0:
            return refusal
        if self._limiter.wait(now) is None:
            return math.inf
        if self._share is not None and request.queue and not self._share.is_fresh(now):
            return self._share.expect(now)  # what others know of the provider may be news
        breaker, was = self._breaker, self._breaker.state
        ticket = breaker.admit(now)
        if breaker.state is not was:
            self._tell_breaker(was, now)
        if ticket is None:
            retry_after = breaker.retry_after(now)
            if retry_after == 0.0:
                return breaker.next_probe(now)  # one is out: its verdict decides, or the next one's
            message = f"{self._model} has failed too often lately; nothing was sent. The last failure: {self._outage}"
            error = CircuitOpen(message, retry_after=retry_after)
            return self._policy.judge(
                error,
                request.attempt,
                now=now,
                deadline=request.deadline,
                rand=self._rand,
                down=self._table.has_answered,
                waited=request.waited,
            )
        return self._lend(request, ticket, now)

    def _certain_refusal(self, request: Acquire, now: float) -> Raise | float:
        """Return the refusal that no waiting for others can change, or the seconds that must pass in any case."""
        refused = self._key_refusal(now)
        if refused is not None:
            return Raise(refused, "key")
        rates, wait = self._rates, self._limiter.wait(now) or 0.0
        if rates.active:
            tokens, most = self._tokens_of(request), rates.token_limit
            if most is not None and tokens > most:
                message = (
                    f"this call may take {tokens} tokens ({request.prompt} in the prompt), more than tpm={most:g} ever "
                    "allows at once; nothing was sent: shorten the prompt, lower max_tokens or raise tpm"
                )
                return Raise(RequestRejected(message, code=LOCAL), "too large")
            wait = max(wait, rates.wait(tokens, now))
        if wait > 0.0 and now + wait >= request.deadline:
            return self._too_late(wait)
        return wait

    def _too_late(self, wait: float) -> Raise:
        message = f"{self._model} may be asked again in {wait:.1f} s, after this call's deadline; nothing was sent"
        return Raise(RateLimited(message, code=LOCAL, retry_after=wait), "deadline")

    def _key_refusal(self, now: float) -> LMError | None:
        key, access = self._table.key, self._access
        if key.error is None and access.error is None:
            return None
        return key.refusal(now) or access.refusal(now)

    def _tokens_of(self, request: Acquire) -> int:
        return request.prompt + (int(self._answers) if request.answer is None else request.answer)

    def _lend(self, request: Acquire, ticket: int, now: float) -> Lease:
        self._limiter.try_acquire(now)
        table, rates, key_ticket, held = self._table, self._rates, 0, NOTHING_HELD
        if table.key.error is not None:
            key_ticket = table.key.admit()
        elif self._access.error is not None:
            key_ticket = -self._access.admit()  # below zero: this model's, not the whole key's
        if rates.active:
            held = rates.reserve(self._tokens_of(request), now)
        return table.grant(self._model, request.holder, ticket, key_ticket, held, request.deadline)

    # --- settling -------------------------------------------------------------------------------------------

    def settle(self, message: Settle, now: float) -> Settled[W]:
        """Take a lease back and learn from its outcome; one that was taken back before changes nothing."""
        lease = self._table.leases.pop(message.lease, None)
        error, news = message.error, _NO_NEWS
        if lease is None:
            return news
        if message.cancelled or not lease.sent or (error is not None and _never_left(error)):
            if error is not None:
                lease.sent = False
            self._forget(lease, now)
            return news
        telling = self._telemetry.active
        limit, was = (self._limiter.limit if telling else 0), self._breaker.state
        hopeless = self._learn_of_provider(lease, error, now)
        if lease.key_ticket or (error is not None and is_key_failure(error)):
            news = Settled(key_changed=self._learn_of_key(lease, error, now))
        if hopeless:
            news = Settled(news.key_changed, hopeless)
        self._learn_of_rates(lease, message, now)
        if self._share is not None and self._breaker.state is not was:
            self._share_breaker(now)
        if telling:
            self._tell_changes(limit, was, error, now)
        return news

    def settle_at_once(self, lease: Lease, attempt: int, usage: Usage, now: float) -> bool:
        """
        Take back the lease of an attempt that succeeded, in the tick of the step that made it.

        False where somebody waits for it, or its success is news for others: then the client is to be told.
        """
        if self._waiting.size or lease.key_ticket or lease.id not in self._table.leases:
            return False
        self.settle(Settle(lease.id, None, attempt, lease.deadline, usage), now)
        return True

    def begun(self, lease: Lease, now: float) -> bool:
        """
        Note that an answer has begun; return whether it was a probe's, so that those who wait may go on.

        The provider is back: they need not wait for the end of a long answer.
        """
        was = self._breaker.state
        if was is BreakerState.CLOSED or lease.id not in self._table.leases:
            return False
        self._breaker.succeeded(lease.ticket, now)
        if self._breaker.state is was:
            return False
        self._outages = 0
        self._share_breaker(now)
        self._tell_breaker(was, now)
        return True

    def lose(self, lease: Lease, now: float) -> bool:
        """Take back the lease of a holder that died, or whom it did not reach; False when it was taken back before."""
        if self._table.leases.pop(lease.id, None) is None:
            return False
        self._forget(lease, now)
        return True

    def judge(self, message: Settle, now: float) -> RetryAfter | Raise:
        """Return what follows the failure of an attempt."""
        assert message.error is not None
        verdict = self._policy.judge(
            message.error,
            message.attempt,
            now=now,
            deadline=message.deadline,
            rand=self._rand,
            down=self._table.has_answered and self._outages >= DOWN,  # an address where nobody ever was is told soon
            waited=message.waited,
            gone=self._is_gone(message),
        )
        if isinstance(verdict, RetryAfter) and not self._budget.spend(now):
            return Raise(message.error, "retry budget")
        return verdict

    def _is_gone(self, message: Settle) -> bool:
        """
        Return True when a call has waited long enough for a connection: nobody takes it, and nobody refuses it.

        Two tries are paid for by each call, and by all together where nobody has ever been heard.
        """
        table = self._table
        if table.has_answered and self._outages < DOWN:
            return False
        tries = message.attempt if table.has_answered else max(message.attempt, self._outages)
        return tries >= 2 and message.unconnected > self._policy.patience

    def _learn_of_provider(self, lease: Lease, error: LMError | None, now: float) -> tuple[tuple[W, Raise], ...]:
        """Tell breaker and limiter how an attempt that was sent has ended; return who has no hope any more."""
        if error is None or error.status is not None:
            self._table.has_answered = True
        if error is None:
            self._breaker.succeeded(lease.ticket, now)
            self._outages = 0
            latency = None
            if lease.begun_at is not None:
                latency = lease.begun_at - lease.sent_at
                self._first_bytes.note(latency)
            follow = self._limiter.gradient is not None and lease.headroom is None
            self._limiter.succeeded(now, latency if follow else None)
        else:
            if is_outage(error):
                self._breaker.failed(lease.ticket, now)
                self._outages += 1
                self._outage = str(error)[:_SHOWN]  # its text alone: the error itself keeps the frames of its caller
            elif error.code == LOCAL:
                self._breaker.forgotten(lease.ticket)
            else:
                self._breaker.succeeded(lease.ticket, now)
                self._outages = 0
            if is_overload(error):
                pause = min(error.retry_after, self._policy.max_retry_after) if error.retry_after is not None else None
                self._limiter.overloaded(now, pause, slow_down=error.code == "slow_down")
                if pause:
                    if self._share is not None:
                        self._share.pause = max(self._share.pause, pause)
                    self._table.pauses[self._model] = max(self._table.pauses.get(self._model, 0.0), now + pause)
                    return self._hopeless(now)
            else:
                self._limiter.release()
        return ()

    def _learn_of_key(self, lease: Lease, error: LMError | None, now: float) -> bool:
        """Note what an attempt says of the key; return whether that is news."""
        key, access = self._table.key, self._access
        ticket = lease.key_ticket
        if error is not None and is_key_failure(error) and error.status == 403:
            changed = access.ended(-min(0, ticket), error, now)  # forbidden: this model, or this kind of call
            key.ended(max(0, ticket), None, now)
        else:
            changed = key.ended(max(0, ticket), error, now)
            changed = (access.ended(-min(0, ticket), None, now) if error is None else False) or changed
            if error is not None:
                access.forgotten(-min(0, ticket))
        if changed and self._telemetry.active:
            refused = key.error or access.error
            state = type(refused).__name__ if refused is not None else "good"
            self._emit("dspex.lm.key", {"cooldown": max(key.retry_after(now), access.retry_after(now))}, state=state)
        return changed

    def _learn_of_rates(self, lease: Lease, message: Settle, now: float) -> None:
        """Correct the buckets, and heed what the provider says is left."""
        error, usage, rates = message.error, message.usage, self._rates
        if usage is not None:
            if error is None:
                self._answers += (usage.output_tokens - self._answers) / 16
            if rates.active and usage.total_tokens:
                rates.charge(lease.held, usage.total_tokens, now)
        elif error is not None and error.status is not None and 400 <= error.status < 500:
            rates.charge(lease.held, 0, now)  # refused unread; anything else is charged as it was estimated
        room = lease.headroom
        if room is None:
            if error is None:
                self._limiter.narrow(1.0)
            return
        if rates.observe(room, lease.held, lease.sent_at, now) and self._telemetry.active:
            numbers = {"requests": float(room.request_limit or 0), "tokens": float(room.token_limit or 0)}
            self._emit("dspex.lm.rate_limit", numbers)
        self._limiter.narrow(share_left(room))

    def _forget(self, lease: Lease, now: float) -> None:
        """Give back what a lease without verdict held: unsent is free, sent and unknown is charged as estimated."""
        if self._hung(lease, now):
            was = self._breaker.state
            self._breaker.failed(lease.ticket, now)
            self._outage = "it kept silent until its callers' time was over"
            if self._breaker.state is not was:
                self._share_breaker(now)
                self._tell_breaker(was, now)
        else:
            self._breaker.forgotten(lease.ticket)
        self._limiter.release()
        if lease.key_ticket:
            self._table.key.forgotten(lease.key_ticket)
            self._access.forgotten(-lease.key_ticket)
        if not lease.sent:
            self._rates.refund(lease.held, now)

    def _hung(self, lease: Lease, now: float) -> bool:
        """
        True when an attempt was cut off by its caller's deadline while the provider kept silent for too long.

        Callers who give up for reasons of their own, or gave little time, tell nothing about the provider: it must have
        been silent for twice as long as it lets nearly all others wait.
        """
        if not lease.sent or lease.begun_at is not None or now < lease.deadline - _EARLY:
            return False
        usual = self._first_bytes.value
        return now - lease.sent_at >= max(PATIENCE, 2 * usual if usual is not None else 0.0)

    def _hopeless(self, now: float) -> tuple[tuple[W, Raise], ...]:
        """Take out the waiters whose time will be over before a pause is."""
        wait = self._limiter.wait(now) or 0.0
        if wait <= 0.0 or not self._waiting.size:
            return ()
        leaving = self._waiting.sweep(lambda each: now + wait >= each[0].deadline)
        return tuple((waiter, self._too_late(wait)) for _, waiter in leaving)

    # --- with other processes -------------------------------------------------------------------------------

    def wants_probe(self, now: float) -> bool:
        """True when this process has a call with which to find out whether the provider is back, or has it out."""
        breaker = self._breaker
        if breaker.state is BreakerState.CLOSED:
            return False
        return breaker.is_probing or (breaker.retry_after(now) == 0.0 and self._waiting.size > 0)

    def hear(self, answer: RateAnswer, now: float) -> tuple[tuple[W, Raise], ...]:
        """Heed what other processes know of the provider; return the waiters who have no hope any more."""
        breaker, was = self._breaker, self._breaker.state
        breaker.may_probe = answer.probe or not answer.down
        if answer.down:
            breaker.told_open(now, answer.open_for)
            self._outage = self._outage or "another process has seen it fail"
        elif self._share is not None and not self._share.opened:
            breaker.told_closed()
        if breaker.state is not was:
            self._tell_breaker(was, now)
        if answer.pause <= 0:
            return ()
        self._limiter.pause(now, answer.pause)
        self._table.pauses[self._model] = max(self._table.pauses.get(self._model, 0.0), now + answer.pause)
        return self._hopeless(now)

    def alone(self) -> None:
        """Note that the others cannot be asked: this process finds out by itself whether the provider is back."""
        self._breaker.may_probe = True

    def _share_breaker(self, now: float) -> None:
        if self._share is None:
            return
        if self._breaker.state is BreakerState.OPEN:
            self._share.opened, self._share.closed = self._breaker.retry_after(now), False
        elif self._breaker.state is BreakerState.CLOSED:
            self._share.opened, self._share.closed = 0.0, True

    # --- telling --------------------------------------------------------------------------------------------

    def _tell_changes(self, limit: int, was: BreakerState, error: LMError | None, now: float) -> None:
        if self._limiter.limit != limit:
            why = type(error).__name__ if error is not None else "ok"
            numbers = {"limit": float(self._limiter.limit), "in_flight": float(self._limiter.in_flight)}
            self._emit("dspex.lm.limit", numbers, reason=why)
        if self._breaker.state is not was:
            self._tell_breaker(was, now)

    def _tell_breaker(self, was: BreakerState, now: float) -> None:
        if self._telemetry.active:
            cooldown = self._breaker.retry_after(now)
            self._emit("dspex.lm.breaker", {"cooldown": cooldown}, state=self._breaker.state.value, was=was.value)

    def _emit(self, name: str, measurements: dict[str, float], **metadata: object) -> None:
        self._telemetry.emit(name, measurements, {"lm": self._name, **metadata})


def _never_left(error: LMError) -> bool:
    """True when an error was raised before anything was sent: no key, a header or a body that cannot be written."""
    return error.status is None and isinstance(error, (AuthFailed, RequestRejected))


_NO_NEWS: Settled[Any] = Settled()
