"""Restart decisions: pure functions of restart type, strategy, reason and time (OTP ``supervisor.erl``)."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dspex.runtime._child_spec import AutoShutdown, Backoff, Restart, RestartStrategy
from dspex.runtime._exit import ExitReason, is_abnormal

__all__ = ["BackoffState", "RestartPlan", "RestartWindow", "ends_supervisor", "plan_restart", "should_restart"]


def should_restart(restart: Restart, reason: ExitReason) -> bool:
    """Say whether a child of this restart type is started again after ``reason``."""
    if restart is Restart.PERMANENT:
        return True
    return restart is Restart.TRANSIENT and is_abnormal(reason)


@dataclass(frozen=True, slots=True)
class RestartPlan:
    """The children to stop, in this order, and those to start afterwards, in this order."""

    stop: tuple[str, ...]
    start: tuple[str, ...]


def plan_restart(strategy: RestartStrategy, ids: Sequence[str], dead: str) -> RestartPlan:
    """Plan the restart of ``dead`` among ``ids`` (in start order)."""
    if strategy is RestartStrategy.ONE_FOR_ONE:
        return RestartPlan((), (dead,))
    position = ids.index(dead)
    group = tuple(ids) if strategy is RestartStrategy.ONE_FOR_ALL else tuple(ids[position:])
    return RestartPlan(tuple(each for each in reversed(group) if each != dead), group)


def ends_supervisor(auto_shutdown: AutoShutdown, *, significant: bool, others_active: Iterable[bool]) -> bool:
    """
    Say whether a supervisor ends because a child has ended by itself and for good.

    Args:
        auto_shutdown: The supervisor's flag.
        significant: True when that child was significant.
        others_active: For each child, whether it is significant and goes on or will.
    """
    if not significant or auto_shutdown is AutoShutdown.NEVER:
        return False
    return auto_shutdown is AutoShutdown.ANY_SIGNIFICANT or not any(others_active)


class RestartWindow:
    """
    The exact sliding window of restart intensity.

    A restart that is exactly ``period`` seconds old still counts. Only time removes records.
    """

    __slots__ = ("_times", "intensity", "period")

    def __init__(self, intensity: int, period: float) -> None:
        self.intensity = intensity
        self.period = period
        self._times: deque[float] = deque()

    def allow(self, now: float) -> bool:
        """Record a restart at ``now``; False when it is one too many for the window."""
        times = self._times
        times.append(now)
        while now - times[0] > self.period:
            times.popleft()
        return len(times) <= self.intensity


class BackoffState:
    """The wait before the next start of one child, in seconds, and whether the child counts as unavailable."""

    __slots__ = ("_delay", "_healthy_since", "backoff", "failures")

    def __init__(self, backoff: Backoff) -> None:
        self.backoff = backoff
        self.failures = 0
        self._delay: float | None = None  # before the last start
        self._healthy_since: float | None = None

    def started(self, now: float) -> None:
        """Note that a start has succeeded."""
        self._healthy_since = now
        self.failures = 0

    def next_delay(self, now: float) -> float:
        """Return the seconds to wait after an exit at ``now``."""
        backoff, delay = self.backoff, self._delay
        health = now - self._healthy_since if self._healthy_since is not None else 0.0
        if delay is None or health >= backoff.reset_after:
            delay = backoff.initial
        elif health <= delay:  # what lives for longer than it was waited for is killed, not crashing by itself
            delay = min(backoff.maximum, delay * 2)
        self._healthy_since = None
        self._delay = delay
        return delay

    def start_failed(self, now: float) -> tuple[float, bool]:
        """Return the seconds to wait after a failed start, and whether the child is now unavailable."""
        self.failures += 1
        return self.next_delay(now), self.failures >= self.backoff.unavailable_after
