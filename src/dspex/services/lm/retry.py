"""
When one call is tried again: a pure policy, and a budget that keeps retries a share of the traffic.

Nothing here waits, reads a clock or draws entropy; both are driven with an explicit ``now``.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeVar

from dspex.errors import (
    AuthFailed,
    CircuitOpen,
    LMError,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    ServerFailed,
    TransportFailed,
)

__all__ = [
    "LOCAL",
    "Raise",
    "RetryAfter",
    "RetryBudget",
    "RetryPolicy",
    "Verdict",
    "is_key_failure",
    "is_outage",
    "is_overload",
    "is_turned_away",
    "reworded",
]

E = TypeVar("E", bound=LMError)

_OVERLOADED: Final = frozenset({503, 529})

LOCAL: Final = "dspex"
"""The ``code`` of errors that are our own doing (a restarted transport, the user's limits): no verdict on others."""


def is_overload(error: LMError) -> bool:
    """True when the provider said "too much": fewer calls at once would help."""
    if error.code == LOCAL:
        return False
    return isinstance(error, RateLimited) or (isinstance(error, ServerFailed) and error.status in _OVERLOADED)


def is_outage(error: LMError) -> bool:
    """Return True for a failure of the provider itself, which a circuit breaker counts; a rate limit is none."""
    if error.code == LOCAL:
        return False
    return isinstance(error, ServerFailed) or (isinstance(error, TransportFailed) and error.status is None)


def is_turned_away(error: LMError) -> bool:
    """Return True when the model never read the request: asking again costs nothing, and tells whether it is there."""
    if error.code == LOCAL:
        return False
    if isinstance(error, ServerFailed):
        return error.status in _TURNED_AWAY
    return isinstance(error, CircuitOpen) or (isinstance(error, TransportFailed) and not error.may_be_charged)


def is_key_failure(error: LMError) -> bool:
    """True when the provider refused the key or its account: the next call would hear the same."""
    if isinstance(error, PermissionDenied):  # what one request may not do, another may
        return False
    return isinstance(error, QuotaExhausted) or (isinstance(error, AuthFailed) and error.status is not None)


def reworded(error: E, more: str) -> E:
    """Return a copy of ``error``, without its traceback, whose message goes on with ``more``."""
    other = copy.copy(error)
    other.args = (f"{error}{more}",)
    other.__cause__ = error.__cause__
    return other


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

SOON: Final = 1.0
"""Seconds that the backoff may last at most where the provider has not heard of the request."""

LOOK: Final = 1.5
"""Seconds that it may last at most while the server is down: one that is back is to be found soon."""

_TURNED_AWAY: Final = frozenset({502, 503})
"""With these a server that is loading its model, or a proxy in front of one, turns requests away unread."""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """
    The rules by which one logical call is tried again.

    Attributes:
        max_attempts: Tries in all, the first included. A server that is down and turns requests away unread is asked
            more often and for longer: until ``patience`` is over.
        base: Seconds the first backoff may last at most; it doubles with each attempt.
        cap: Seconds that no backoff of ours exceeds; a provider's Retry-After may.
        max_retry_after: The longest Retry-After, in seconds, that is waited for; a provider that asks for more gets
            its error raised at once.

    Raises:
        ValueError: A number makes no sense.
    """

    max_attempts: int = 6
    base: float = 0.5
    cap: float = 8.0
    max_retry_after: float = 60.0

    def __post_init__(self) -> None:
        if self.max_attempts < 1 or not 0 <= self.base <= self.cap < math.inf:
            raise ValueError(f"{self} needs max_attempts >= 1 and 0 <= base <= cap")
        if not 0 <= self.max_retry_after < math.inf:
            raise ValueError(f"max_retry_after={self.max_retry_after!r} must be a number of seconds from 0 on")

    @property
    def patience(self) -> float:
        """Seconds that the waits between ``max_attempts`` tries take on average."""
        return sum(self._longest(attempt) for attempt in range(1, self.max_attempts)) / 2

    def _longest(self, attempt: int) -> float:
        """Return the seconds that the wait behind an attempt may last at most."""
        return min(self.cap, self.base * 2.0 ** min(attempt - 1, 60))

    def judge(
        self,
        error: LMError,
        attempt: int,
        *,
        now: float,
        deadline: float,
        rand: Callable[[], float],
        down: bool = False,
        waited: float = math.inf,
        gone: bool = False,
    ) -> Verdict:
        """
        Decide what follows a failed attempt.

        The wait is full jitter, and short where nothing was sent: asking costs a server that is down nothing, and one
        that is back is to be found soon. It is never shorter than the provider's Retry-After, and never reaches the
        deadline: a wait that would is no wait, the error is raised now. The provider's word about another try
        (``should_retry``) beats the error's class, but never makes us knock with a refused key or an empty balance.

        Args:
            error: The outcome of the attempt.
            attempt: The number of the attempt that failed, from 1.
            now: The clock.
            deadline: When the caller's time is over, by the same clock.
            rand: Draws from [0, 1).
            down: The server has answered nobody lately. One that turns requests away unread is then looked at again
                after ``LOOK`` seconds at most, as long as the call has ``waited`` less than ``patience``: so short
                waits do not end the tries early.
            waited: Seconds that the call has waited between its tries so far.
            gone: Connections to the server do not come about, and the call has waited long enough for them.
        """
        if error.should_retry is False:
            return Raise(error, "told not to")
        if not error.is_retryable and (error.should_retry is None or isinstance(error, (AuthFailed, QuotaExhausted))):
            return Raise(error, "final")
        is_late, is_down = attempt >= self.max_attempts, down and is_turned_away(error)
        if is_late and not (is_down and waited < self.patience):
            return Raise(error, "attempts")
        if gone:
            return Raise(error, "no connection")
        least = error.retry_after or 0.0
        if least > self.max_retry_after:
            more = f" (it asks for {least:g} s of patience; max_retry_after is {self.max_retry_after:g} s)"
            return Raise(reworded(error, more), "retry-after")
        longest = self._longest(attempt)
        if isinstance(error, CircuitOpen) or (isinstance(error, TransportFailed) and not error.may_be_charged):
            longest = min(longest, SOON)
        elif is_down:
            longest = min(longest, LOOK)
        share = rand()
        if is_late:
            share = (1.0 + share) / 2  # never nothing: the time that was waited is all that ends these tries
        delay = max(longest * share, least)
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
        if self._tokens < self._reserve:
            self._grow(now)
        else:
            self._at = max(self._at, now)  # there is nothing to grow back
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
