"""Where rows wait while a provider is down: those of a map, an evaluation or a job."""

from __future__ import annotations

import logging
import math
from collections.abc import Awaitable, Callable
from typing import Final

from dspex.errors import ConfigError
from dspex.runtime import Backoff, Runtime

__all__ = ["WAIT_OUT", "OutageGate", "gate_of_rows"]

WAIT_OUT: Final = 600.0
"""Seconds of an outage that rows wait out, where the user says nothing."""

UNTRIED: Final = 10.0
"""Seconds that rows wait for a provider that has answered none of them: its address may well be wrong."""

_PAUSES: Final = Backoff(initial=0.5, maximum=2.0)

_log = logging.getLogger("dspex.evaluation")


class OutageGate:
    """
    Closed while the provider is down: one failure closes it, for twice as long each time until something succeeds.

    Args:
        runtime: The runtime whose clock counts.
        backoff: The first delay, and the longest.
        on_pause: Told why and for how long rows wait.
        on_go: Told that the provider answers again.
        wait_out: Seconds of one outage after which rows wait no longer.
        untried: The same, before anything has succeeded.
    """

    def __init__(
        self,
        runtime: Runtime,
        backoff: Backoff,
        *,
        on_pause: Callable[[Exception, float], Awaitable[object]],
        on_go: Callable[[], object],
        wait_out: float = math.inf,
        untried: float = math.inf,
    ) -> None:
        self._runtime = runtime
        self._backoff = backoff
        self._on_pause = on_pause
        self._on_go = on_go
        self._wait_out = wait_out
        self._limit = min(untried, wait_out)
        self._delay = backoff.initial
        self._opens = 0.0
        self._closings = 0
        self._down_since: float | None = None

    async def enter(self) -> int:
        """Wait until the gate is open; return a ticket that ``close`` and ``succeeded`` take."""
        while (left := self._opens - self._runtime.clock.now()) > 0:
            await self._runtime.sleep(left)
        return self._closings

    async def close(self, ticket: int, error: Exception) -> bool:
        """
        Close for a while, unless others who entered as early have done so already; False when patience is over.

        A row that is told False is to end as it failed.
        """
        now = self._runtime.clock.now()
        if self._down_since is None:
            self._down_since = now
        if now - self._down_since >= self._limit:
            return False
        if ticket == self._closings:
            self._closings += 1
            delay, self._delay = self._delay, min(self._backoff.maximum, self._delay * 2)
            self._opens = now + delay
            await self._on_pause(error, delay)
        return True

    def succeeded(self, ticket: int) -> None:
        """Note that the provider answers; whoever was told of a pause is told of its end."""
        self._limit = self._wait_out
        if ticket == self._closings and self._down_since is not None:
            self._down_since = None
            self._delay = self._backoff.initial
            self._on_go()


def gate_of_rows(runtime: Runtime, wait_out: float, what: str) -> OutageGate | None:
    """
    Return the gate for the rows of a map or an evaluation; None where an outage is to be a row's end at once.

    Args:
        runtime: Where they run.
        wait_out: Seconds of an outage that they wait out; 0 waits for none.
        what: Their name in logs and events.

    Raises:
        ConfigError: ``wait_out`` is not a number of seconds.
    """
    if isinstance(wait_out, bool) or not isinstance(wait_out, (int, float)) or not wait_out >= 0:
        raise ConfigError(f"wait_out={wait_out!r:.60} must be a number of seconds from 0 on")
    if wait_out == 0:
        return None
    paused = False

    async def pause(error: Exception, delay: float) -> None:
        nonlocal paused
        if not paused:
            _log.warning("%s pauses, for up to %g s of outage: %s: %s", what, wait_out, type(error).__name__, error)
        paused = True
        if runtime.telemetry.active:
            runtime.telemetry.emit("dspex.rows.pause", {"delay": delay}, {"rows": what, "error": error})

    def go() -> None:
        nonlocal paused
        if paused:
            _log.warning("%s goes on: the provider answers again", what)
        paused = False
        if runtime.telemetry.active:
            runtime.telemetry.emit("dspex.rows.go", {}, {"rows": what})

    return OutageGate(runtime, _PAUSES, on_pause=pause, on_go=go, wait_out=wait_out, untried=UNTRIED)
