"""Deadlines of calls: one queue for each distinct timeout, and one timer of the loop for its head."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from dspex.errors import CallTimeout, SpecError

if TYPE_CHECKING:
    import asyncio

    from dspex._clock import TimerHandle
    from dspex.runtime._actor_process import ActorProcess
    from dspex.runtime._runtime import Runtime

__all__ = ["LONGEST", "NEVER", "Deadline", "DeadlineQueue", "Deadlines", "expire", "finite_timeout"]

NEVER: Final = float("-inf")
"""Smaller than every timeout that is a number."""
LONGEST: Final = 1e9
"""Seconds: thirty years, and less than any loop's timer can take; whoever waits for longer waits for ever."""

_SLACK: Final = 64
"""Finished deadlines a queue may hold beside as many as half of it."""


def finite_timeout(timeout: float | None) -> float | None:
    """
    Return ``timeout`` as a number of seconds, or None for one without end.

    Raises:
        SpecError: It is not a number of seconds (a negative one is: it is over already).
    """
    if timeout is None:
        return None
    number = isinstance(timeout, (int, float)) and not isinstance(timeout, bool)
    if not number or not timeout > NEVER:  # nan is not greater than anything
        raise SpecError("timeout", timeout, "a number of seconds, or None for no limit")
    return timeout if timeout <= LONGEST else None


def expire(future: asyncio.Future[object], process: ActorProcess, timeout: float) -> None:
    """Fail a call that was not answered in time."""
    if not future.done():
        future.set_exception(CallTimeout(process.label, timeout))


Deadline = list[Any]
"""``[due, future, process]``, the last two None once the call has ended; a list, for one is made for every call."""


class DeadlineQueue:
    """
    The deadlines of calls with one timeout: who calls first is due first, so the head's timer is enough.

    A call that ends leaves its place behind, for a search would cost more; the places are swept out when they are
    more than half. When the last call has ended, the timer is cancelled in the loop's next turn, unless there is
    another call by then: one call after the other then needs no timer each.
    """

    __slots__ = ("_all", "_armed_for", "_entries", "_live", "_now", "_runtime", "_sweeping", "_timer", "timeout")

    def __init__(self, runtime: Runtime, timeout: float, all_queues: dict[float, DeadlineQueue]) -> None:
        self.timeout = timeout
        self._runtime = runtime
        self._now = runtime.clock.now
        self._all = all_queues
        self._entries: deque[Deadline] = deque()
        self._live = 0
        self._timer: TimerHandle | None = None
        self._armed_for = 0.0
        self._sweeping = False

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def live(self) -> int:
        """The number of calls that have not ended."""
        return self._live

    def add(self, future: asyncio.Future[object], process: ActorProcess) -> Deadline:
        """Fail ``future`` with CallTimeout after the timeout; the caller says ``finish`` in any case."""
        due = self._now() + self.timeout
        if self._timer is None:
            self._arm(due, self.timeout)
        deadline: Deadline = [due, future, process]
        self._entries.append(deadline)
        self._live += 1
        return deadline

    def finish(self, deadline: Deadline) -> None:
        """Forget a call that has ended, for whatever reason; once for each ``add``."""
        deadline[1] = deadline[2] = None  # the place stays, but keeps neither the caller nor the actor alive
        self._live -= 1
        if not self._live:
            self._entries.clear()
            if not self._sweeping:
                try:
                    self._runtime.loop.call_soon(self.sweep, context=self._runtime.context)
                except RuntimeError:  # the loop is closed, and with it the timer
                    return
                self._sweeping = True
        elif len(self._entries) > 2 * self._live + _SLACK:
            self._entries = deque(each for each in self._entries if each[1] is not None)

    def sweep(self) -> None:
        """Cancel the timer and leave the runtime's table, if there is no call."""
        self._sweeping = False
        if self._live:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._all.get(self.timeout) is self:
            del self._all[self.timeout]

    def _arm(self, due: float, delay: float) -> None:
        clock, context = self._runtime.clock, self._runtime.context
        self._timer = clock.call_later(delay, self._fire, context=context)
        self._armed_for = due

    def _fire(self) -> None:
        """Fail the calls that are due; a loop's timer may come a little early, and counts as on time."""
        self._timer = None
        now, entries = max(self._now(), self._armed_for), self._entries
        while entries:
            due, future, process = entries[0]
            if future is not None:
                if due > now:
                    self._arm(due, due - now)
                    return
                expire(future, process, self.timeout)
            entries.popleft()


class Deadlines(dict[float, DeadlineQueue]):
    """The deadlines of one runtime, by timeout: ``deadlines[5.0]`` is the queue of calls with five seconds."""

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self._runtime = runtime

    def __missing__(self, timeout: float) -> DeadlineQueue:
        queue = self[timeout] = DeadlineQueue(self._runtime, timeout, self)
        return queue

    def sweep(self) -> None:
        """Cancel the timers that no call needs, now."""
        for queue in tuple(self.values()):
            queue.sweep()
