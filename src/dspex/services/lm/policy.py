"""
When to try again, how much at once, and when to stop asking: pure states, driven with an explicit ``now``.

Nothing here waits, reads a clock or draws entropy. An actor owns the states; its tests need no loop.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import Final

from dspex.errors import LMError, RateLimited, ServerFailed, TransportFailed

__all__ = [
    "BreakerState",
    "CircuitBreaker",
    "Limiter",
    "Raise",
    "RetryAfter",
    "RetryBudget",
    "RetryPolicy",
    "Verdict",
    "is_outage",
    "is_overload",
]

_OVERLOADED: Final = frozenset({503, 529})


def is_overload(error: LMError) -> bool:
    """Whether the provider said "too much": fewer calls at once would help."""
    return isinstance(error, RateLimited) or (isinstance(error, ServerFailed) and error.status in _OVERLOADED)


def is_outage(error: LMError) -> bool:
    """Whether the provider itself failed: what a circuit breaker counts. A rate limit or a bad request is no outage."""
    return isinstance(error, ServerFailed) or (isinstance(error, TransportFailed) and error.status is None)


# --- retries ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class RetryAfter:
    """Try again in ``delay`` seconds."""

    delay: float


@dataclass(frozen=True, slots=True)
class Raise:
    """Hand this error to the caller; ``why`` says in a word why there is no further attempt."""

    error: LMError
    why: str


Verdict = RetryAfter | Raise


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """
    How one logical call is tried again.

    Attributes:
        max_attempts: Tries in all, the first included.
        base: Seconds the first backoff may last at most; it doubles with each attempt.
        cap: Seconds that no backoff of ours exceeds; a provider's Retry-After may.
    """

    max_attempts: int = 6
    base: float = 0.5
    cap: float = 8.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or not 0 <= self.base <= self.cap < float("inf"):
            raise ValueError(f"{self} needs max_attempts >= 1 and 0 <= base <= cap")

    def judge(self, error: LMError, attempt: int, *, now: float, deadline: float, rand: Callable[[], float]) -> Verdict:
        """
        Decide what follows a failed attempt.

        The wait is full jitter, never shorter than the provider's Retry-After, and never reaches the deadline:
        a wait that would is no wait, the error is raised now.

        Args:
            error: What the attempt came to.
            attempt: The number of the attempt that failed, from 1.
            now: The clock.
            deadline: When the caller's time is over, by the same clock.
            rand: Draws from [0, 1).
        """
        if not error.is_retryable:
            return Raise(error, "final")
        if attempt >= self.max_attempts:
            return Raise(error, "attempts")
        longest = min(self.cap, self.base * 2.0 ** min(attempt - 1, 60))
        delay = max(longest * rand(), error.retry_after or 0.0)
        if now + delay >= deadline:
            return Raise(error, "deadline")
        return RetryAfter(delay)


class RetryBudget:
    """
    Keeps retries a share of the traffic, so that an outage is not answered with a storm.

    Every first attempt earns ``share`` of a retry; ``reserve`` may be spent before anything is earned, and it
    grows back with time so that a quiet client is never left without.
    """

    __slots__ = ("_at", "_ceiling", "_refill", "_reserve", "_share", "_tokens")

    def __init__(self, *, now: float, share: float = 0.2, reserve: float = 10.0, refill: float = 1.0) -> None:
        self._share = share
        self._reserve = reserve
        self._refill = refill
        self._ceiling = reserve * 10
        self._tokens = reserve
        self._at = now

    @property
    def available(self) -> int:
        """Retries that could be spent at the time of the last call."""
        return int(self._tokens)

    def earn(self, now: float) -> None:
        """Note a first attempt."""
        self._grow(now)
        self._tokens = max(self._tokens, min(self._ceiling, self._tokens + self._share))

    def spend(self, now: float) -> bool:
        """Take one retry; ``False`` when the budget is spent and the error is to be raised instead."""
        self._grow(now)
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True

    def _grow(self, now: float) -> None:
        """Grow back towards the reserve, ``refill`` a second."""
        elapsed, self._at = max(0.0, now - self._at), max(self._at, now)
        if self._tokens < self._reserve:
            self._tokens = min(self._reserve, self._tokens + elapsed * self._refill)


# --- concurrency --------------------------------------------------------------------------------------------


class Limiter:
    """
    How many calls may be on the wire: additive increase, multiplicative decrease.

    An overload takes the limit to ``decrease`` of itself, at most once per window (the calls in flight at that
    moment report the same overload); a limit's worth of successes while the limit was in use adds one.
    A Retry-After pauses the whole client. Begun below the maximum, the limit first grows by one with every success
    (TCP's slow start), until the first overload.
    """

    __slots__ = (
        "_decrease",
        "_decreased_at",
        "_good",
        "_limit",
        "_pause_until",
        "_slow_start",
        "_window",
        "in_flight",
        "max_in_flight",
    )

    def __init__(
        self, max_in_flight: int, *, initial: float | None = None, decrease: float = 0.7, window: float = 1.0
    ) -> None:
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight={max_in_flight} must be at least 1")
        self.max_in_flight = max_in_flight
        self.in_flight = 0
        self._limit = float(min(max_in_flight, max(1.0, initial if initial is not None else max_in_flight)))
        self._slow_start = self._limit < max_in_flight
        self._decrease = decrease
        self._window = window
        self._decreased_at = float("-inf")
        self._pause_until = float("-inf")
        self._good = 0

    @property
    def limit(self) -> int:
        """How many may be in flight now; never below 1."""
        return int(self._limit)

    def wait(self, now: float) -> float | None:
        """
        Return when a call may be sent: 0 now, seconds while paused, ``None`` when a slot must first be released.

        A pause hides a full limit: ask again when it is over.
        """
        if now < self._pause_until:
            return self._pause_until - now
        return 0.0 if self.in_flight < self.limit else None

    def try_acquire(self, now: float) -> bool:
        """Take a slot if one is free and the client is not paused."""
        if self.wait(now) != 0.0:
            return False
        self.in_flight += 1
        return True

    def adopt(self, count: int) -> None:
        """Count calls already on the wire, granted by a predecessor; they may exceed the limit."""
        self.in_flight += count

    def release(self) -> None:
        """Give a slot back without a verdict (cancelled, failed for other reasons)."""
        if self.in_flight <= 0:
            raise ValueError("more slots were released than taken")
        self.in_flight -= 1

    def succeeded(self) -> None:
        """Give a slot back after an answer."""
        in_use = self.in_flight * 2 >= self.limit
        self.release()
        if not in_use:
            return
        self._good += 1
        if self._slow_start or self._good >= self.limit:
            self._good = 0
            self._limit = min(float(self.max_in_flight), self._limit + 1.0)

    def overloaded(self, now: float, retry_after: float | None = None) -> None:
        """Give a slot back after an overload, shrink, and pause for what the provider asked."""
        self.release()
        self._good = 0
        self._slow_start = False
        if now - self._decreased_at >= self._window:
            self._decreased_at = now
            self._limit = max(1.0, self._limit * self._decrease)
        if retry_after is not None:
            self._pause_until = max(self._pause_until, now + retry_after)

    def __repr__(self) -> str:
        return f"<Limiter {self.in_flight} of {self.limit} in flight, at most {self.max_in_flight}>"


# --- outages ------------------------------------------------------------------------------------------------


class BreakerState(Enum):
    """What a circuit breaker does with the next call."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class CircuitBreaker:
    """
    Stops asking a provider that is down, and finds out with one probe whether it is back.

    It opens when, among the last ``window`` seconds' outcomes, at least ``min_calls`` were seen and ``share`` of
    them were outages. Open, it refuses for ``cooldown`` seconds, doubled after each failed probe up to
    ``max_cooldown``; then it is half open: one call is let through, and its outcome alone decides. Outcomes of
    calls sent before it opened change nothing.
    """

    __slots__ = (
        "_base_cooldown",
        "_cooldown",
        "_generation",
        "_max_cooldown",
        "_min_calls",
        "_opened_at",
        "_outcomes",
        "_probe",
        "_share",
        "_tickets",
        "_window",
        "state",
    )

    def __init__(
        self,
        *,
        share: float = 0.5,
        min_calls: int = 10,
        window: float = 10.0,
        cooldown: float = 2.0,
        max_cooldown: float = 30.0,
    ) -> None:
        if not 0 < share <= 1 or min_calls < 1 or window <= 0 or not 0 < cooldown <= max_cooldown:
            raise ValueError("a breaker needs 0 < share <= 1, min_calls >= 1, window > 0, 0 < cooldown <= max_cooldown")
        self.state = BreakerState.CLOSED
        self._share = share
        self._min_calls = min_calls
        self._window = window
        self._base_cooldown = self._cooldown = cooldown
        self._max_cooldown = max_cooldown
        self._opened_at = 0.0
        self._generation = 0
        self._tickets = 0
        self._probe: int | None = None
        self._outcomes: list[_Slice] = []

    def admit(self, now: float) -> int | None:
        """
        Return a ticket for one call, or ``None`` when it must not be sent.

        The ticket goes back with the outcome, exactly once, through ``succeeded``, ``failed`` or ``forgotten``.
        """
        if self.state is BreakerState.OPEN and self.retry_after(now) <= 0:
            self.state = BreakerState.HALF_OPEN
        if self.state is BreakerState.OPEN or (self.state is BreakerState.HALF_OPEN and self._probe is not None):
            return None
        self._tickets += 1
        if self.state is BreakerState.HALF_OPEN:
            self._probe = self._tickets
        return self._tickets

    def retry_after(self, now: float) -> float:
        """Seconds until a probe is due; 0 when closed, half open or due."""
        return max(0.0, self._opened_at + self._cooldown - now) if self.state is BreakerState.OPEN else 0.0

    def succeeded(self, ticket: int, now: float) -> None:
        """Note an answer of any kind but an outage: an error that blames the caller proves the provider alive."""
        if self._is_probe(ticket):
            self.state = BreakerState.CLOSED
            self._cooldown = self._base_cooldown
            self._start_afresh()
        elif self._counts(ticket):
            self._note(now, failed=False)

    def failed(self, ticket: int, now: float) -> None:
        """Note an outage."""
        if self._is_probe(ticket):
            self._cooldown = min(self._max_cooldown, self._cooldown * 2)
            self._open(now)
        elif self._counts(ticket):
            self._note(now, failed=True)
            calls = sum(piece.calls for piece in self._outcomes)
            failures = sum(piece.failures for piece in self._outcomes)
            if calls >= self._min_calls and failures >= self._share * calls:
                self._open(now)

    def forgotten(self, ticket: int) -> None:
        """Note that a call ended without telling anything (cancelled, its step died): a probe's place is free again."""
        if self._is_probe(ticket):
            self._probe = None

    def _is_probe(self, ticket: int) -> bool:
        return self.state is BreakerState.HALF_OPEN and self._probe == ticket

    def _counts(self, ticket: int) -> bool:
        """Whether this call was sent in the present closed period."""
        return self.state is BreakerState.CLOSED and ticket > self._generation

    def _open(self, now: float) -> None:
        self.state = BreakerState.OPEN
        self._opened_at = now
        self._start_afresh()

    def _start_afresh(self) -> None:
        """Forget outcomes, and every ticket given so far."""
        self._probe = None
        self._generation = self._tickets
        self._outcomes.clear()

    def _note(self, now: float, *, failed: bool) -> None:
        """Count an outcome in its tenth of the window, and drop the tenths that are over."""
        place = now // (self._window / 10)
        if not self._outcomes or self._outcomes[-1].place < place:
            self._outcomes.append(_Slice(place))
        self._outcomes[-1].calls += 1
        self._outcomes[-1].failures += failed
        while self._outcomes[0].place <= place - 10:
            del self._outcomes[0]

    def __repr__(self) -> str:
        return f"<CircuitBreaker {self.state.value}>"


class _Slice:
    """The outcomes of one tenth of the window."""

    __slots__ = ("calls", "failures", "place")

    def __init__(self, place: float) -> None:
        self.place = place
        self.calls = 0
        self.failures = 0
