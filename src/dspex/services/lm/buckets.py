"""
Requests and tokens a minute: buckets that are debited before a call is sent and corrected when its usage is known.

Pure, driven with an explicit ``now``. A bucket refills continuously, as those of the providers do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from dspex.protocols.wire import Headroom

__all__ = ["Bucket", "RateLimits", "TokenHold", "share_left"]

MINUTE: Final = 60.0
_PERIODS: Final = (MINUTE, 3_600.0, 86_400.0)
_CRUMB: Final = 1e-6
"""The error of rounding that a bucket may have when it has just become full enough."""


@dataclass(frozen=True, slots=True)
class TokenHold:
    """
    The amounts that one call has taken out, and the state of the buckets then.

    Attributes:
        tokens: The estimate: prompt plus the longest answer.
        requests_taken: Requests taken out until then, this one included; ``None`` where there was no bucket.
        tokens_taken: Tokens taken out until then, these included; ``None`` where there was no bucket.
    """

    tokens: int = 0
    requests_taken: float | None = None
    tokens_taken: float | None = None


class Bucket:
    """
    A number that refills with time and is taken from; it never holds more than its capacity.

    Only a correction may take it below zero (an answer that was longer than its estimate): the debt is waited for.

    Args:
        capacity: Its size.
        period: Seconds in which an empty bucket becomes full.
        now: The clock.
        level: Its amount at first; full by default.
    """

    __slots__ = ("_at", "_level", "capacity", "period", "taken")

    def __init__(self, capacity: float, *, now: float, period: float = MINUTE, level: float | None = None) -> None:
        if not 0 < capacity < math.inf or not 0 < period < math.inf:
            raise ValueError(f"a bucket needs a positive capacity and period, not {capacity!r} and {period!r}")
        self.capacity = capacity
        self.period = period
        self.taken = 0.0
        """All that was ever taken out, corrections aside."""
        self._level = capacity if level is None else min(capacity, level)
        self._at = now

    @property
    def limit(self) -> float:
        """The limit that this process knows: where others know a smaller one, its capacity is theirs."""
        return self.capacity

    def level(self, now: float) -> float:
        """Return what it holds; below zero is debt."""
        if now > self._at:
            self._level = min(self.capacity, self._level + (now - self._at) * self.capacity / self.period)
            self._at = now
        return self._level

    def wait(self, amount: float, now: float) -> float:
        """Return the seconds until ``amount`` could be taken if nobody else took any; more than fits counts as full."""
        missing = min(amount, self.capacity) - self.level(now)
        return missing * self.period / self.capacity if missing > _CRUMB * self.capacity else 0.0

    def take(self, amount: float, now: float) -> None:
        """Take ``amount`` out, which ``wait`` said is there."""
        self._level = self.level(now) - min(amount, self.capacity)
        self.taken += min(amount, self.capacity)

    def correct(self, amount: float, now: float) -> None:
        """Put ``amount`` back, or take it when it is negative: what was reserved is now known better."""
        self._level = min(self.capacity, self.level(now) + amount)

    def resize(self, capacity: float, now: float) -> None:
        """Let it hold another number; what has been taken out stays taken."""
        if capacity != self.capacity:
            self._level = self.level(now) + capacity - self.capacity
            self.capacity = capacity

    def lower(self, level: float, now: float) -> None:
        """Let it hold ``level`` at most, which somebody who knows better says; never below zero on hearsay."""
        if self.level(now) > level:
            self._level = min(self._level, max(0.0, level))


class RateLimits:
    """
    The two buckets of one model on one key.

    The user's own limits stand. Where the user gave nothing and ``learn`` is true, a bucket is made of the first
    answer whose headers tell a limit, and follows the headers from then on. The user's buckets heed ``remaining``
    too: others may use the same key.

    Args:
        rpm: Requests a minute.
        tpm: Tokens a minute, input and output together.
        learn: True when headers may set limits that the user did not.
        now: The clock.
        empty: Begin with empty buckets: a predecessor may have used what they held.
        make: Makes a bucket of a kind, ``requests`` or ``tokens``, with a capacity, at a time; by default one that is
            this process's own.
    """

    __slots__ = ("_given", "_learn", "_make", "active", "requests", "tokens")

    def __init__(
        self,
        *,
        rpm: float | None,
        tpm: float | None,
        learn: bool,
        now: float,
        empty: bool = False,
        make: Callable[[str, float, float], Bucket] | None = None,
    ) -> None:
        self._make = make
        self.requests = self._bucket("requests", rpm, now, empty=empty) if rpm is not None else None
        self.tokens = self._bucket("tokens", tpm, now, empty=empty) if tpm is not None else None
        self._given = (self.requests, self.tokens)
        self._learn = learn
        self.active = rpm is not None or tpm is not None
        """True when there is any bucket."""

    @property
    def token_limit(self) -> float | None:
        """The tokens that the user allows a minute: a call that needs more can never be sent."""
        return self._given[1].capacity if self._given[1] is not None else None

    def wait(self, tokens: int, now: float) -> float:
        """Return the seconds until one request of ``tokens`` could be sent if nobody else sent any; 0 is now."""
        wait = 0.0
        if self.requests is not None:
            wait = self.requests.wait(1, now)
        if self.tokens is not None:
            wait = max(wait, self.tokens.wait(tokens, now))
        return wait

    def reserve(self, tokens: int, now: float) -> TokenHold:
        """Take one request of ``tokens`` out, which ``wait`` said is there."""
        requests_taken = tokens_taken = None
        if self.requests is not None:
            self.requests.take(1, now)
            requests_taken = self.requests.taken
        if self.tokens is not None:
            self.tokens.take(tokens, now)
            tokens_taken = self.tokens.taken
        return TokenHold(tokens, requests_taken, tokens_taken)

    def adopt(self, held: TokenHold) -> TokenHold:
        """Return what a predecessor's call holds of these buckets, which began empty: as much as of its own."""
        requests_taken = 0.0 if self.requests is not None else None
        return TokenHold(held.tokens, requests_taken, 0.0 if self.tokens is not None else None)

    def refund(self, held: TokenHold, now: float) -> None:
        """Put all of it back: the call was never sent."""
        if self.requests is not None and held.requests_taken is not None:
            self.requests.correct(1, now)
        self.charge(held, 0, now)

    def charge(self, held: TokenHold, tokens: int, now: float) -> None:
        """Replace the estimate by what the call took; a request that was sent stays counted."""
        if self.tokens is not None and held.tokens_taken is not None:
            self.tokens.correct(min(held.tokens, self.tokens.capacity) - tokens, now)

    def observe(self, room: Headroom, held: TokenHold, sent_at: float, now: float) -> bool:
        """
        Heed what an answer's headers say is left; True when a limit was learned or has changed.

        The provider counted when the call arrived, which was after ``sent_at``: what was taken out since the call was
        granted is unknown to it, and what has been refilled since it was sent too.
        """
        changed = False
        for kind, limit, left, reset, before in (
            ("requests", room.request_limit, room.requests, room.requests_reset, held.requests_taken),
            ("tokens", room.token_limit, room.tokens, room.tokens_reset, held.tokens_taken),
        ):
            if left is None:
                continue
            bucket: Bucket | None = getattr(self, kind)
            given = self._given[kind == "tokens"] is not None
            if not given and self._learn and limit:
                if bucket is None:
                    bucket = self._bucket(kind, limit, now)
                    setattr(self, kind, bucket)
                    self.active = True
                    changed = True
                changed = changed or bucket.limit != limit
                bucket.resize(limit, now)
                bucket.period = _period(limit, left, reset) or bucket.period
            if bucket is not None:
                refilled = max(0.0, now - sent_at) * bucket.capacity / bucket.period
                bucket.lower(left + refilled - (bucket.taken - (before or 0.0)), now)
        return changed

    def _bucket(self, kind: str, capacity: float, now: float, *, empty: bool = False) -> Bucket:
        if self._make is not None:
            return self._make(kind, capacity, now)
        return Bucket(capacity, now=now, level=0.0 if empty else None)

    def describe(self, now: float) -> str:
        """Tell what is left of what, for people: ``480 of 500 requests/min``."""
        said = []
        for bucket, unit in ((self.requests, "requests"), (self.tokens, "tokens")):
            if bucket is not None:
                period = {MINUTE: "min", 3_600.0: "h", 86_400.0: "day"}.get(bucket.period, f"{bucket.period:g} s")
                said.append(f"{bucket.level(now):.0f} of {bucket.capacity:.0f} {unit}/{period} left")
        return ", ".join(said)


def share_left(room: Headroom) -> float:
    """Return which share (0 to 1) of the scarcer limit is left; 1 where the headers tell no limit."""
    shares = [
        left / limit
        for left, limit in ((room.requests, room.request_limit), (room.tokens, room.token_limit))
        if left is not None and limit
    ]
    return min([1.0, *shares])


def _period(limit: int, left: int, reset: float | None) -> float | None:
    """Return a minute, an hour or a day: what explains best that ``limit - left`` come back in ``reset`` seconds."""
    if not reset or left >= limit:
        return None
    seconds = reset * limit / (limit - left)
    return min(_PERIODS, key=lambda period: abs(math.log(seconds / period)))
