"""Where a job's rows wait while a provider is down."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from dspex.runtime import Backoff, Runtime

__all__ = ["Gate"]


class Gate:
    """
    Closed while the provider is down: one failure closes it, for twice as long each time until something succeeds.

    Args:
        runtime: The runtime whose clock counts.
        backoff: The first delay, and the longest.
        on_pause: Told why and for how long rows wait.
        on_go: Told that the provider answers again.
    """

    def __init__(
        self,
        runtime: Runtime,
        backoff: Backoff,
        *,
        on_pause: Callable[[Exception, float], Awaitable[object]],
        on_go: Callable[[], object],
    ) -> None:
        self._runtime = runtime
        self._backoff = backoff
        self._on_pause = on_pause
        self._on_go = on_go
        self._delay = backoff.initial
        self._opens = 0.0
        self._closings = 0

    async def enter(self) -> int:
        """Wait until the gate is open; return a ticket that ``close`` and ``succeeded`` take."""
        while (left := self._opens - self._runtime.clock.now()) > 0:
            await self._runtime.sleep(left)
        return self._closings

    async def close(self, ticket: int, error: Exception) -> None:
        """Close for a while; does nothing when others who entered as early have done so already."""
        if ticket != self._closings:
            return
        self._closings += 1
        delay, self._delay = self._delay, min(self._backoff.maximum, self._delay * 2)
        self._opens = self._runtime.clock.now() + delay
        await self._on_pause(error, delay)

    def succeeded(self, ticket: int) -> None:
        """Note that the provider answers; whoever was told of a pause is told of its end."""
        if ticket == self._closings and self._delay != self._backoff.initial:
            self._delay = self._backoff.initial
            self._on_go()
