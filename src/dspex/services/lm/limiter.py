"""
The limit of calls on the wire at once: pure, driven with an explicit ``now``.

Additive increase, multiplicative decrease, as in TCP's congestion control; for servers that never say "too much",
a gradient of latencies instead (after Gradient2 of Netflix's concurrency-limits).
"""

from __future__ import annotations

import math
from typing import Final

__all__ = ["Gradient", "Limiter"]

LOW: Final = 0.1
"""The share of a rate limit left below which the number in flight shrinks with it."""

RAMP: Final = 900.0
"""Seconds after a "slow down" during which the limit grows by half at most: what OpenAI asks for."""

_NEVER: Final = -math.inf


class Limiter:
    """
    A limit that learns from outcomes.

    An overload takes the limit to ``decrease`` of itself, at most once per window (the calls in flight at that
    moment report the same overload); a limit's worth of successes while the limit was in use adds one.
    A Retry-After pauses the whole client. Begun below the maximum, the limit first grows by one with every success
    (TCP's slow start), until the first overload. After a "slow down" it may grow by half in ``RAMP`` seconds.

    A rest of the provider's rate limits below ``LOW`` narrows the limit for as long as it is so low.

    Args:
        max_in_flight: The highest value of the limit.
        initial: Its first value; the maximum by default.
        decrease: The share of it that an overload leaves.
        window: Seconds in which many overloads are one.
        gradient: Learns from latencies as well.
    """

    __slots__ = (
        "_decrease",
        "_decreased_at",
        "_good",
        "_limit",
        "_narrowed",
        "_pause_until",
        "_ramp_at",
        "_ramp_from",
        "_slow_start",
        "_window",
        "gradient",
        "in_flight",
        "max_in_flight",
    )

    def __init__(
        self,
        max_in_flight: int,
        *,
        initial: float | None = None,
        decrease: float = 0.7,
        window: float = 1.0,
        gradient: Gradient | None = None,
    ) -> None:
        if max_in_flight < 1:
            raise ValueError(f"max_in_flight={max_in_flight} must be at least 1")
        self.max_in_flight = max_in_flight
        self.in_flight = 0
        self.gradient = gradient
        self._limit = float(min(max_in_flight, max(1.0, initial if initial is not None else max_in_flight)))
        self._slow_start = self._limit < max_in_flight
        self._decrease = decrease
        self._window = window
        self._decreased_at = _NEVER
        self._pause_until = _NEVER
        self._ramp_at = _NEVER
        self._ramp_from = 0.0
        self._narrowed = 1.0
        self._good = 0

    @property
    def limit(self) -> int:
        """The number that may be in flight now; never below 1."""
        return int(self._limit) if self._narrowed == 1.0 else max(1, int(self._limit * self._narrowed))

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
        if now < self._pause_until or self.in_flight >= self.limit:
            return False
        self.in_flight += 1
        return True

    def adopt(self, count: int) -> None:
        """Count calls already on the wire, granted by a predecessor; they may exceed the limit."""
        self.in_flight += count

    def release(self) -> None:
        """Give a slot back without a verdict (cancelled, never sent, failed for other reasons)."""
        if self.in_flight <= 0:
            raise ValueError("more slots were released than taken")
        self.in_flight -= 1

    def succeeded(self, now: float, latency: float | None = None) -> None:
        """Give a slot back after an answer that took ``latency`` seconds to begin."""
        in_use = self.in_flight * 2 >= self.limit
        self.release()
        if self.gradient is not None and latency is not None:
            shrunk = self.gradient.shrunk(self._limit, latency, now, in_use=in_use)
            if shrunk is not None:
                self._limit, self._good, self._slow_start = max(1.0, shrunk), 0, False
                return
        if not in_use:
            return
        self._good += 1
        if self._slow_start or self._good >= self.limit:
            self._good = 0
            self._limit = min(self._ceiling(now), self._limit + 1.0)

    def overloaded(self, now: float, retry_after: float | None = None, *, slow_down: bool = False) -> None:
        """Give a slot back after an overload, shrink, and pause for what the provider asked."""
        self.release()
        self._good = 0
        self._slow_start = False
        if now - self._decreased_at >= self._window:
            self._decreased_at = now
            self._limit = max(1.0, self._limit * self._decrease)
        if slow_down:
            self._ramp_at, self._ramp_from = now, self._limit
        if retry_after is not None:
            self.pause(now, retry_after)

    def pause(self, now: float, seconds: float) -> None:
        """Let nothing out for ``seconds``; a longer pause stands."""
        self._pause_until = max(self._pause_until, now + seconds)

    def narrow(self, left: float) -> None:
        """Note that ``left`` (0 to 1) of the provider's rate limit is left; the last word counts."""
        self._narrowed = 1.0 if left >= LOW else max(0.0, left) / LOW

    def _ceiling(self, now: float) -> float:
        """Return what the limit may grow to now; what it is already stays."""
        since = now - self._ramp_at
        if since >= RAMP:
            return float(self.max_in_flight)
        ramp = max(1.0, self._ramp_from * (1.0 + 0.5 * since / RAMP))
        return max(self._limit, min(float(self.max_in_flight), ramp))

    def __repr__(self) -> str:
        return f"<Limiter {self.in_flight} of {self.limit} in flight, at most {self.max_in_flight}>"


class Gradient:
    """
    Notices that a server is slower than it uses to be: what a queue looks like from outside.

    Latencies are averaged over ``batch`` of them, so that one long answer says nothing; the average of now is
    compared with the past. Up to ``tolerance`` times the past is normal. The past follows a faster server within a
    few batches, a slower one over half an hour: or a queue of ours would soon be the norm.

    Args:
        tolerance: The factor by which slower than in the past is still normal.
        batch: Latencies in one average of now.
        memory: Seconds after which a slower server is the norm, about.
    """

    __slots__ = ("_at", "_batch", "_count", "_memory", "_past", "_sum", "_tolerance", "_used")

    def __init__(self, *, tolerance: float = 2.0, batch: int = 10, memory: float = 1800.0) -> None:
        if tolerance < 1 or batch < 1 or memory <= 0:
            raise ValueError("a gradient needs tolerance >= 1, batch >= 1 and memory > 0")
        self._tolerance = tolerance
        self._batch = batch
        self._memory = memory
        self._past: float | None = None
        self._at = 0.0
        self._sum = 0.0
        self._count = 0
        self._used = False

    def shrunk(self, limit: float, latency: float, now: float, *, in_use: bool = True) -> float | None:
        """
        Note a latency; return the smaller limit that it asks for, or ``None`` where all is as ever.

        A server that is slow while we hardly use the limit (``in_use`` is false for the whole batch) is not slow
        because of us.

        The new limit is ``limit * past / now``, at least half of the limit, plus room for a small queue (the root of
        the limit); the step goes a fifth of the way there.
        """
        self._sum += latency
        self._count += 1
        self._used = self._used or in_use
        if self._count < self._batch:
            return None
        short, used = self._sum / self._count, self._used
        self._sum, self._count, self._used = 0.0, 0, False
        past, elapsed, self._at = self._past, max(0.0, now - self._at), now
        if past is None:
            self._past = short
            return None
        self._past = past + (short - past) * (0.2 if short < past else min(1.0, elapsed / self._memory))
        if short <= self._tolerance * past or not used:
            return None
        wanted = limit * max(0.5, self._tolerance * past / short) + math.sqrt(limit)
        return limit + 0.2 * (wanted - limit) if wanted < limit else None
