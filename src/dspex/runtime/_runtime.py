"""One runtime: a loop, a clock, a name table and the processes that live there. Nothing of it is global."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from asyncio import _get_running_loop
from collections.abc import Callable, Iterable
from functools import partial
from types import TracebackType
from typing import Any, Self

import anyio

from dspex._clock import Clock, LoopClock
from dspex._guard import contained
from dspex._random import generator
from dspex.errors import (
    ActorExited,
    CallCycle,
    LeakedTasks,
    RuntimeClosed,
    SpecError,
    StartFailed,
    WrongLoop,
)
from dspex.runtime._actor import Actor
from dspex.runtime._actor_process import ActorProcess
from dspex.runtime._at_once import CALLS_BEFORE_TURN
from dspex.runtime._chain import ExitWaits, chain_of
from dspex.runtime._child_spec import check_seconds, exact_name
from dspex.runtime._context import HOME, current_process
from dspex.runtime._deadlines import Deadlines, finite_timeout
from dspex.runtime._exit import KILL, SHUTDOWN, ExitReason
from dspex.runtime._groups import Groups
from dspex.runtime._here import here
from dspex.runtime._log import get_logger, prepare
from dspex.runtime._messages import CallEnvelope
from dspex.runtime._names import Names
from dspex.runtime._next import Ignore
from dspex.runtime._process import CALLERS_KEPT, Process
from dspex.runtime._ref import ActorRef, Itself, NamedRef
from dspex.runtime._start_or_get import start_or_get
from dspex.runtime._supervisor_ref import NamedSupervisorRef
from dspex.runtime._task_process import TaskProcess
from dspex.runtime._threads import ThreadGate
from dspex.runtime._timers import Timer, Timers
from dspex.runtime._via import Via
from dspex.runtime._watchdog import Watchdog
from dspex.telemetry import Telemetry

__all__ = ["Runtime"]

_log = get_logger("runtime")


class Runtime(Itself):
    """
    One runtime inside one event loop; Erlang calls it a node.

    Use it as ``async with Runtime() as runtime``; leaving ends every process and raises LeakedTasks when code has
    swallowed its cancellation. It belongs to the loop it was opened in: from another loop or thread, its methods and
    those of its refs raise WrongLoop, but for those that say ``from_thread``.

    Args:
        clock: Time and timers; the running loop's by default.
        telemetry: Where events go; a private dispatch by default.
        seed: Seeds ``random``, the source of jitter.
        kill_budget: Seconds a killed coroutine has before it is fenced.
        exit_budget: The same for one that was merely told to exit.
        close_budget: Seconds for closing the resources of a dead process.
        watchdog: Name what holds the loop for this many seconds, as ``Watchdog`` does; None does not watch.

    Raises:
        SpecError: A budget is not a number of seconds from 0 on.

    Attributes:
        groups: A scope of process groups to start with.
        restart_watchers: Called with the path of a child that its supervisor has to start again. They must not raise.
        on_interrupt: Told of a KeyboardInterrupt in an actor; without it, it leaves the loop as any would.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        telemetry: Telemetry | None = None,
        seed: int | None = None,
        kill_budget: float = 0.5,
        exit_budget: float = 5.0,
        close_budget: float = 2.0,
        watchdog: float | None = None,
    ) -> None:
        for name, budget in (("kill", kill_budget), ("exit", exit_budget), ("close", close_budget)):
            check_seconds(f"{name}_budget", budget, minimum=0.0)
        prepare()
        self.telemetry = telemetry if telemetry is not None else Telemetry()
        self.random = generator(seed)
        self.kill_budget = kill_budget
        self.exit_budget = exit_budget
        self.close_budget = close_budget
        self.context = contextvars.Context()
        self.processes: dict[int, Process] = {}
        self.zombies: dict[object, str] = {}
        self.janitors: set[asyncio.Task[None]] = set()
        self.timers = Timers()
        self.groups = Groups()
        self.exit_waits = ExitWaits()
        self.gate = ThreadGate()
        self.on_interrupt: Callable[[KeyboardInterrupt], object] | None = None
        self._watchdog = Watchdog(self, watchdog) if watchdog is not None else None
        self.loop: asyncio.AbstractEventLoop
        self.closed = True  # until it is opened
        self.here: object = None
        self._thread = 0
        self.clock: Clock
        self.deadlines: Deadlines
        self.create_future: Callable[[], asyncio.Future[Any]]
        self.parting: set[asyncio.Task[object]] = set()  # of processes that are dead already
        self._given_clock = clock
        self._names = Names(self)
        self.last_pid = 0
        self.restart_watchers: set[Callable[[str], object]] = set()
        self.calls_at_once = CALLS_BEFORE_TURN  # that may still be handled in their caller's tick

    # --- life cycle -----------------------------------------------------------------------------------------

    def open(self) -> None:
        """
        Bind to the running loop; everything else needs this first.

        Raises:
            WrongLoop: It is open in another loop.
        """
        loop = asyncio.get_running_loop()
        if not self.closed and self.loop is not loop and not self.loop.is_closed():
            raise WrongLoop
        self.loop = loop
        self.closed = False
        self.here = here()
        self._thread = threading.get_ident()
        self.clock = self._given_clock if self._given_clock is not None else LoopClock(self.loop)
        plain = getattr(self.loop.create_future, "__func__", None) is asyncio.BaseEventLoop.create_future
        self.create_future = partial(asyncio.Future, loop=self.loop) if plain else self.loop.create_future
        self.deadlines = Deadlines(self)
        self.gate.open()
        if self._watchdog is not None:
            self._watchdog.start()

    def interrupted(self, error: KeyboardInterrupt) -> bool:
        """Pass on a KeyboardInterrupt in an actor; False when nobody wants to hear of it."""
        if self.on_interrupt is None:
            return False
        try:
            self.on_interrupt(error)
        except BaseException as failure:  # noqa: BLE001 - it is called while a process dies
            _log.error("on_interrupt failed", says="on_interrupt of the runtime failed: {error}", exc_info=failure)
            return False
        return True

    def contain(self, error: BaseException) -> None:
        """Let ``error``, raised by code that a process runs as it dies, go no further; an interrupt is passed on."""
        if not issubclass(type(error), KeyboardInterrupt) or not self.interrupted(error):  # type: ignore[arg-type]
            contained(error)

    async def __aenter__(self) -> Self:
        self.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self, reason: ExitReason = SHUTDOWN, timeout: float | None = 5.0) -> None:
        """
        End every process; closing a second time does nothing.

        All roots are told at once, the newest first, and end side by side; who is not dead after ``timeout`` seconds
        is killed.

        Raises:
            LeakedTasks: Code swallowed its cancellation and still runs.
            CallCycle: The caller is one of the processes to be ended.
            WrongLoop: Called from another loop; once that of the runtime has ended, nothing can be closed any more.
        Cancellation: who is left is killed; only then the cancellation goes on its way.
        """
        if self.closed:
            return
        timeout = finite_timeout(timeout)
        self.refuse_elsewhere("close")
        caller = current_process()
        if caller is not None and caller.runtime is self and caller.alive:
            raise CallCycle((caller.label, "the runtime it lives in"))
        closing = asyncio.Task(self._close(reason, timeout), loop=self.loop, context=self.context.copy())
        cancelled: asyncio.CancelledError | None = None
        with anyio.CancelScope(shield=True):  # or a cancelled scope around us would interrupt every wait
            while not closing.done():
                try:
                    await asyncio.wait([closing])
                except asyncio.CancelledError as error:
                    cancelled = error
                    for process in self.roots():
                        process.receive_exit(KILL, None)
        if cancelled is not None:
            closing.exception()
            raise cancelled
        closing.result()

    async def _close(self, reason: ExitReason, timeout: float | None) -> None:
        try:
            await self._end_all(reason, timeout)
        finally:
            if self._watchdog is not None:
                self._watchdog.stop()

    async def _end_all(self, reason: ExitReason, timeout: float | None) -> None:
        until = None if timeout is None else self.clock.now() + timeout
        while roots := self.roots()[::-1]:  # again for those that dying processes have started
            for process in roots:
                process.receive_exit(reason, None)
            for process in roots:
                left = None if until is None else max(0.0, until - self.clock.now())
                if await process.wait_exit(left) is None:  # the time of all is over
                    for late in roots:
                        late.receive_exit(KILL, None)
                    await process.wait_exit(None)
        self.closed = True  # in the tick in which nobody was left: nothing can have started since
        await asyncio.sleep(0)  # a death in this very tick: who waited for an answer hears of it before all is closed
        if self.parting:
            await asyncio.wait(self.parting)
        self._names.close()
        self.timers.cancel_named()
        self.gate.close()
        self.deadlines.sweep()
        if self.janitors:
            await asyncio.wait(self.janitors, timeout=self.close_budget)
        if self.zombies:
            raise LeakedTasks(list(self.zombies.values()))

    def roots(self) -> tuple[Process, ...]:
        """The processes nobody owns, oldest first."""
        return tuple(process for process in self.processes.values() if process.parent is None)

    def refuse_elsewhere(self, wanted: str) -> None:
        """
        Let nobody in but code of the runtime's own loop, while it is open.

        Raises:
            RuntimeClosed: The runtime is not open; ``wanted`` says what was to be done.
            WrongLoop: This is another loop or thread.
        """
        if self.closed:
            raise RuntimeClosed(wanted)
        self.refuse_other_loops()

    def refuse_other_loops(self) -> None:
        """Raise WrongLoop in another loop or thread, and when ours has ended; while it only rests, its thread may."""
        running = _get_running_loop()
        if running is not self.loop and (
            running is not None or threading.get_ident() != self._thread or self.loop.is_closed()
        ):
            raise WrongLoop

    # --- starting -------------------------------------------------------------------------------------------

    def next_pid(self) -> int:
        """Return a number never returned before."""
        self.last_pid += 1
        return self.last_pid

    def spawn(
        self,
        actor: Actor,
        *,
        name: str | None = None,
        via: Via | None = None,
        label: str = "",
        parent: Process | None = None,
    ) -> ActorProcess:
        """
        Start ``actor`` in this tick without waiting for its ``init``.

        Raises:
            AlreadyRegistered: ``name``, or the key ``via``, is taken by a live process; nothing was started.
            ActorExited: ``parent`` is dying; nothing was started.
            SpecError: ``actor`` is not an Actor, or this instance has been started before.
            RuntimeClosed: The runtime is not open.
            WrongLoop: Called from another loop or thread.
        """
        if self.closed or here() != self.here or self.loop.is_closed():
            self.refuse_elsewhere("start")
        if not isinstance(actor, Actor):
            raise SpecError("actor", actor, "an instance of a subclass of Actor")
        if actor._dspex_process is not None:
            raise SpecError("actor", actor, "an instance that was never started: it is the state of one process")
        if parent is not None and parent.exit_reason is not None:
            raise ActorExited(parent.label, parent.exit_reason)
        if name is not None:
            name = exact_name(name)
            self._names.refuse_if_taken(name)
        if via is not None:
            via.registry.refuse_if_taken(via.key)
        shown = label or f"{type(actor).__name__}{f' {name!r}' if name else ''}"
        process = ActorProcess(self, actor, parent, shown)
        process.enter()
        if name is not None:
            self._names.enter(name, process)
        process.run()
        if via is not None:  # its code runs from the next turn of the loop on
            via.registry.enter(process, via.key, via.value)
        if actor.kind == "supervisor":
            self._names.begins(process)
        return process

    async def start(
        self,
        actor: Actor,
        *,
        name: str | None = None,
        via: Via | None = None,
        label: str = "",
        timeout: float | None = None,
    ) -> ActorRef:
        """
        Start ``actor``, linked below the calling process, and wait until it is initialised.

        Args:
            name: Register it, so that ``named(name)`` finds it and its successors.
            via: A key of a registry to register it under, before its ``init``.
            timeout: Seconds for ``init``; then the actor is killed.

        Raises:
            StartFailed: ``init`` raised, returned ``Stop`` or took too long; or it returned ``Ignore``.
            AlreadyRegistered: The name or the key is taken.
            SpecError: ``actor`` is not an Actor, or this instance has been started before.
            RuntimeClosed: The runtime is not open.
            WrongLoop: Called from another loop or thread.
        Cancellation: the actor is killed before this returns.
        """
        if timeout is not None:
            timeout = finite_timeout(timeout)
        process = self.spawn(actor, name=name, via=via, label=label, parent=current_process())
        outcome = await self.await_start(process, timeout)
        if outcome is not None:
            raise outcome
        return process.ref

    async def start_or_get(
        self,
        actor: Actor,
        *,
        name: str | None = None,
        via: Via | None = None,
        label: str = "",
        timeout: float | None = None,
    ) -> ActorRef:
        """
        Return who holds ``name`` (without one, ``via``) once it is initialised; start ``actor`` there if nobody does.

        However many ask at once, there is one actor, and all get its ref; it is linked below the process that has
        started it, and ends with that. Where it should outlive its starters, ask a supervisor: the handles on
        supervisors have the same method. When the one that is waited for fails to start, the next who asked starts its
        own; so the failure that somebody gets is that of its own actor.

        Args:
            timeout: Seconds for all of it; an actor of ours that is not initialised by then is killed.

        Raises:
            SpecError: Neither a name nor a key was given.
            StartFailed: As ``start``.
            AlreadyRegistered: Nobody holds the name, but another actor the key.
            CallTimeout: The process that holds the place is not initialised in time.
            ServiceUnavailable: The service of that name has failed to start several times running.
            CallCycle: The process that holds the place, or is about to, waits for the caller, or is the caller.
        Cancellation: an actor of ours is killed before this returns.
        """

        async def start(left: float | None) -> ActorRef:
            return await self.start(actor, name=name, via=via, label=label, timeout=left)

        return await start_or_get(self, start, name, via, timeout)

    async def await_start(self, process: ActorProcess, timeout: float | None) -> StartFailed | None:
        """Wait for the ``init`` of a spawned actor; return what went wrong, or None."""
        started = process.started
        if started is None:
            return StartFailed(process.label, process.exit_reason) if process.exit_reason is not None else None
        home = HOME.get()
        if home is not None:
            process.begin_start(chain_of(home))
        timer = None
        if timeout is not None:
            timer = self.clock.call_later(timeout, process.receive_exit, KILL, None, context=self.context)
        try:
            outcome = await started
        except asyncio.CancelledError:
            process.receive_exit(KILL, None)
            await process.wait_exit(2 * self.kill_budget)
            raise
        finally:
            if timer is not None:
                timer.cancel()
        if outcome is not None:
            await process.wait_exit(None)
            return StartFailed(process.label, outcome) if isinstance(outcome, Ignore) else outcome
        if process.exit_reason is not None and timeout is not None:
            return StartFailed(process.label, process.exit_reason)
        return None

    def spawn_task(
        self,
        owner: Process,
        work: Callable[..., object],
        *args: object,
        label: str = "",
        context: contextvars.Context | None = None,
    ) -> TaskProcess:
        """
        Run ``work(*args)`` in this tick as a process without mailbox, killed when ``owner`` dies.

        Args:
            context: Where it runs; by default a clean one, never the caller's.

        Raises:
            WrongLoop: Called from another loop or thread.
        """
        home = HOME.get()
        if here() != self.here:
            self.refuse_other_loops()
        serves: CallEnvelope | None = None
        callers: tuple[int, ...] = ()
        if home is not None:
            callers = (home.pid, *home.callers[: CALLERS_KEPT - 1]) if home.callers else (home.pid,)
            # The request of an actor is known only while it is at work; a task works on one call for all its life.
            if isinstance(home, TaskProcess):
                serves = home.serves
            elif current_process() is home:
                serves = home.serving
        where = self.context.copy() if context is None else context
        process = TaskProcess(self, owner, label, where, serves, callers)
        process.enter()
        if owner.exit_reason is not None:
            process.receive_exit(KILL, None)  # born into a dead family: it ends before it begins
            return process
        process._launch(process._main(work, args))
        return process

    async def kill_tasks(self, tasks: Iterable[TaskProcess]) -> None:
        """
        Kill tasks and wait until all are dead, their resources closed.

        Cancellation: changes nothing; one that ignores its own is fenced, within twice the kill budget.
        """
        killed = tuple(tasks)
        for task in killed:
            task.receive_exit(KILL, None)
        with anyio.move_on_after(2 * self.kill_budget, shield=True):
            for task in killed:
                await task.wait_exit(None)

    # --- names ----------------------------------------------------------------------------------------------

    def whereis(self, name: str) -> ActorRef | None:
        """Return who holds ``name`` and is initialised, or None."""
        return self._names.whereis(name)

    def named(self, name: str, *, patient: bool = False) -> NamedRef:
        """
        Return a handle on whoever holds ``name``, now or later.

        Args:
            patient: Calls wait for whoever may take the name, even while no supervisor is about to start anybody
                under it; otherwise such a call fails at once with NoSuchActor.
        """
        return NamedRef(self, name, patient=patient)

    def named_supervisor(self, name: str, *, patient: bool = False) -> NamedSupervisorRef:
        """Return a handle on whichever supervisor holds ``name``, now or later, with its management calls."""
        return NamedSupervisorRef(self, name, patient=patient)

    async def wait_name(self, name: str, timeout: float | None) -> ActorRef:
        """
        Return who holds ``name``, waiting up to ``timeout`` seconds for somebody to take it.

        Raises:
            CallTimeout: Nobody did.
            ServiceUnavailable: Its service has failed to start several times running.
            CallCycle: The process about to take it waits for the caller, or is the caller.
        """
        return await self._names.wait(name, timeout)

    def when_named(self, name: str, callback: Callable[[ActorRef], object]) -> Callable[[], None]:
        """Call ``callback`` once with who takes ``name`` next; return what takes the wish back."""
        return self._names.when_taken(name, callback)

    # --- time -----------------------------------------------------------------------------------------------

    async def sleep(self, seconds: float) -> None:
        """Wait on this runtime's clock; SpecError if ``seconds`` is not a number."""
        until = finite_timeout(seconds)
        future: asyncio.Future[None] = self.loop.create_future()
        timer = self.clock.call_later(until, _wake, future, context=self.context) if until is not None else None
        try:
            await future
        finally:
            if timer is not None:
                timer.cancel()

    def send_after(self, delay: float, target: ActorRef | NamedRef | Via, message: object) -> Timer:
        """
        Send ``message`` to ``target``'s ``handle_info`` in ``delay`` seconds, be its mailbox full.

        An actor's ref means this incarnation: the timer ends with it. A name is resolved when the message is sent,
        which then reaches whoever holds it, or nobody. It does not matter whether the caller still lives.

        Raises:
            SpecError: ``delay`` is not a number of seconds from 0 on.
            WrongLoop: Called from another loop.
        """
        return self.timers.send_after(self, delay, target, message)

    def free_name(self, process: Process, name: str) -> None:
        """Take the name of a dead process away from it."""
        self._names.leave(name, process)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
