"""Messages to be sent later: timers that die with the actor they are for."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dspex.errors import WrongLoop
from dspex.runtime._child_spec import check_seconds
from dspex.runtime._context import current_process
from dspex.runtime._messages import as_info
from dspex.runtime._ref import ActorRef, Itself, NamedRef
from dspex.runtime._via import Via

if TYPE_CHECKING:
    from dspex._clock import Clock, TimerHandle
    from dspex.runtime._actor_process import ActorProcess
    from dspex.runtime._process import Process
    from dspex.runtime._runtime import Runtime

__all__ = ["Timer", "Timers"]


class Timer(Itself):
    """A message that is to be sent later; made by ``Runtime.send_after`` and ``Actor.send_after``."""

    __slots__ = ("_clock", "_due", "_handle", "_kin")

    def __init__(self, clock: Clock, due: float, kin: dict[Timer, None]) -> None:
        self._clock = clock
        self._due = due
        self._handle: TimerHandle | None = None
        self._kin = kin  # the timers that end together with this one

    @property
    def remaining(self) -> float | None:
        """Seconds until the message is sent, or None when it has been sent or never will be."""
        return None if self._handle is None else max(0.0, self._due - self._clock.now())

    def cancel(self) -> float | None:
        """
        Take the message back.

        Returns:
            The seconds that were left, or None when there was nothing to take back: the message has been sent (it
            may still be queued), its receiver has died, or the timer was cancelled before.
        """
        remaining = self.remaining
        if self._handle is not None:
            self._handle.cancel()
            self._forget()
        return remaining

    def _forget(self) -> None:
        self._handle = None
        self._kin.pop(self, None)

    def __repr__(self) -> str:
        remaining = self.remaining
        return f"<Timer {'over' if remaining is None else f'due in {remaining:g} s'}>"


class Timers:
    """The timers of one runtime: by the process they are for, or by name; data, not a process."""

    def __init__(self) -> None:
        self._of: dict[Process, dict[Timer, None]] = {}
        self._named: dict[Timer, None] = {}

    def send_after(self, runtime: Runtime, delay: float, target: ActorRef | NamedRef | Via, message: object) -> Timer:
        """Set a timer; the rules are those of ``Runtime.send_after``."""
        check_seconds("delay", delay, minimum=0.0)
        if asyncio.get_running_loop() is not runtime.loop:
            raise WrongLoop
        clock, caller = runtime.clock, current_process()
        timer = Timer(clock, clock.now() + delay, {})
        if caller is not None and caller.dead_to_the_world:
            return timer
        if isinstance(target, ActorRef):
            if not target.alive:
                return timer
            timer._kin = self._timers_of(target._process)
        else:
            timer._kin = self._named
        timer._kin[timer] = None
        timer._handle = clock.call_later(delay, _send, timer, target, message, context=runtime.context)
        return timer

    def cancel_named(self) -> None:
        """Drop the timers that no process owns: their runtime closes."""
        for timer in tuple(self._named):
            timer.cancel()

    def __len__(self) -> int:
        return len(self._named) + sum(len(timers) for timers in self._of.values())

    def _timers_of(self, process: Process) -> dict[Timer, None]:
        timers = self._of.get(process)
        if timers is None:
            timers = self._of[process] = {}
            process.own(process, self._drop)
        return timers

    def _drop(self, process: Process) -> None:
        for timer in tuple(self._of.pop(process, ())):
            timer.cancel()


def _send(timer: Timer, target: ActorRef | NamedRef | Via, message: object) -> None:
    timer._forget()
    process = _process_of(target)
    if process is not None and process.exit_reason is None:
        process.mailbox.put_always(as_info(message))  # nobody is there to be told that a full mailbox refused it


def _process_of(target: ActorRef | NamedRef | Via) -> ActorProcess | None:
    if isinstance(target, NamedRef):
        return target.runtime._names.get(target.name)  # one that is still in its init takes messages, too
    ref = target if isinstance(target, ActorRef) else target.whereis()
    return ref._process if ref is not None else None
