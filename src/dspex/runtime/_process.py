"""The common part of every process: an identity, an exit reason recorded once, and an orderly death."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dspex._guard import contained, exact_text, text_of
from dspex.runtime._at_once import begun_in
from dspex.runtime._context import HOME
from dspex.runtime._exit import (
    KILL,
    KILLED,
    NO_PROCESS,
    NORMAL,
    SHUTDOWN,
    Crashed,
    ExitReason,
    Kill,
    Killed,
    Normal,
    is_abnormal,
)
from dspex.runtime._janitor import Janitor, begin_closing
from dspex.runtime._log import get_logger
from dspex.runtime._messages import Down
from dspex.runtime._sentences import path_of, where

if TYPE_CHECKING:
    from dspex._clock import TimerHandle
    from dspex.runtime._actor_process import ActorProcess
    from dspex.runtime._messages import CallEnvelope
    from dspex.runtime._ref import ProcessRef
    from dspex.runtime._runtime import Runtime
    from dspex.runtime._task_process import TaskProcess

__all__ = ["CALLERS_KEPT", "Process", "is_cancellation"]

_log = get_logger("runtime")

T = TypeVar("T")

_EXCEPTIONS: Final = BaseExceptionGroup.__dict__["exceptions"]

CALLERS_KEPT: Final = 32
"""Callers a task remembers: a task that starts its own successor, for ever, must not grow."""


class Process:
    """
    One ``asyncio.Task`` with an exit reason, an owner, children and resources.

    Death has a fixed order, driven by callbacks so that it needs no task of its own: the reason is recorded, the
    coroutine ends (or is fenced), children are ended, owned resources are closed, names are released, pending calls
    fail, links get their exit signal, monitors their ``Down``, and last those who wait for the exit. Nothing that
    other people's code raises on this way stops it.
    """

    callers: tuple[int, ...] = ()
    """The pids of those at whose wish a task runs, the nearest first; actors run at nobody's."""

    quiet: bool = False
    """True keeps its normal end from those it is linked to."""

    __slots__ = (
        "_children",
        "_fence_timer",
        "_links",
        "_name",
        "_on_dead",
        "_resources",
        "_task",
        "_waiters",
        "_waits_for_children",
        "_watchers",
        "context",
        "dead",
        "exit_reason",
        "fenced",
        "label",
        "parent",
        "pid",
        "runtime",
    )

    def __init__(self, runtime: Runtime, parent: Process | None, label: str, context: Context) -> None:
        self.runtime = runtime
        self.parent = parent
        self.pid = runtime.last_pid = runtime.last_pid + 1
        self.label = (label if type(label) is str else exact_text(label)) or f"process {self.pid}"
        self.context = context
        self.exit_reason: ExitReason | None = None
        self.dead = False
        self.fenced = False
        self._task: asyncio.Task[object] | None = None
        self._name: str | None = None
        self._children: dict[Process, None] | None = None
        self._watchers: dict[int, ActorProcess] | None = None
        self._links: dict[Process, bool] | None = None  # whether its end is told before ordinary messages
        self._waiters: dict[asyncio.Future[ExitReason | None], None] | None = None
        self._waits_for_children = False
        self._resources: list[tuple[Any, Callable[[Any], object]]] | None = None
        self._on_dead: list[Callable[[], object]] | None = None
        self._fence_timer: TimerHandle | None = None

    def enter(self) -> None:
        """Take one's place in the runtime and below the parent, when everything that could fail is done."""
        self.runtime.processes[self.pid] = self
        parent = self.parent
        if parent is not None:
            if parent._children is None:
                parent._children = {}
            parent._children[self] = None

    # --- identity -------------------------------------------------------------------------------------------

    @property
    def ref(self) -> ProcessRef:
        """The handle others hold."""
        raise NotImplementedError

    @property
    def alive(self) -> bool:
        """True when no exit reason has been recorded yet."""
        return self.exit_reason is None

    @property
    def dead_to_the_world(self) -> bool:
        """True when the messages that this process still sends are to be dropped."""
        return self.exit_reason is not None

    @property
    def traps(self) -> bool:
        """True when an exit signal is a message to it."""
        return False

    @property
    def children(self) -> tuple[Process, ...]:
        """The processes this one owns, oldest first."""
        return tuple(self._children or ())

    @property
    def ancestors(self) -> tuple[int, ...]:
        """The pids of those this process is below in the tree, the nearest first."""
        above, each = [], self.parent
        while each is not None:
            above.append(each.pid)
            each = each.parent
        return tuple(above)

    def chain(self) -> tuple[Process, ...]:
        """The processes that wait for what this one is doing now, itself last."""
        return (self,)

    @property
    def serving(self) -> CallEnvelope | None:
        """The call whose answer this process is working on; a task it starts works on it too."""
        return None

    def owns(self, other: Process) -> bool:
        """True when ``other`` is this process or lies below it in the tree."""
        each: Process | None = other
        while each is not None:
            if each is self:
                return True
            each = each.parent
        return False

    def as_actor(self, what: str) -> ActorProcess:
        """Return self when this is an actor's process; RuntimeError otherwise."""
        raise RuntimeError(f"{what} is for actors; {self.label} has no mailbox, use `await ref.wait_exit()`")

    # --- running --------------------------------------------------------------------------------------------

    def _launch(self, coroutine: Coroutine[object, None, None]) -> None:
        """Run ``coroutine`` as this process's task, past any task factory (an eager one would run it at once)."""
        self.context.run(HOME.set, self)  # before the task is made, whose first step already asks for its process
        task = asyncio.Task(coroutine, loop=self.runtime.loop, name=self.label, context=self.context)
        self._task = task
        task.add_done_callback(self._task_done, context=self.runtime.context)

    def pass_interrupt(self, error: BaseException) -> None:
        """
        Raise the interrupt in ``error`` again if nobody else sees to it; do nothing for other failures.

        It may come in a group. It is raised as itself, for asyncio does not end its loop for a group.
        """
        interrupt = _interrupt_in(error)
        if interrupt is not None and not self.runtime.interrupted(interrupt):
            raise interrupt

    def own(self, resource: T, close: Callable[[T], object]) -> None:
        """Have ``close(resource)`` called on exit; at once when the exit is already past."""
        if self.dead:
            awaitable = begin_closing(self.runtime, resource, close)
            if awaitable is not None:
                Janitor(self.runtime, self.label, [awaitable], lambda: None)
            return
        if self._resources is None:
            self._resources = []
        self._resources.append((resource, close))

    def spawn_task(
        self, work: Callable[..., object], *args: object, label: str = "", context: Context | None = None
    ) -> TaskProcess:
        """Start ``work(*args)`` in this tick as a process without mailbox that dies with this one."""
        return self.runtime.spawn_task(self, work, *args, label=label, context=context)

    # --- signals --------------------------------------------------------------------------------------------

    def receive_exit(
        self, reason: ExitReason, sender: Process | None, *, from_link: bool = False, urgent: bool = False
    ) -> None:
        """Take an exit signal: the matrix of ``erlang:exit/2`` for a process that does not trap."""
        if isinstance(reason, Kill) and not from_link:
            self._kill()
        elif self.exit_reason is None and (not isinstance(reason, Normal) or sender is self):
            self._die(reason)

    def link(self, other: Process, *, priority: bool = False) -> None:
        """
        Tie two processes together; linking a dead one acts as if it died just now, without a process.

        Args:
            priority: If this one traps exits, the ``Exit`` comes before ordinary messages; the last call counts.
        """
        if other is self:
            return
        if other.dead:
            self.receive_exit(NO_PROCESS, other, from_link=True, urgent=priority)
            return
        for one, two in ((self, other), (other, self)):
            if one._links is None:
                one._links = {}
            one._links.setdefault(two, False)
        assert self._links is not None
        self._links[other] = priority

    def unlink(self, other: Process) -> None:
        """Undo ``link``."""
        for one, two in ((self, other), (other, self)):
            if one._links is not None:
                one._links.pop(two, None)

    def owner_died(self, reason: ExitReason) -> None:
        """React to the death of the process above."""
        self.receive_exit(reason if is_abnormal(reason) else SHUTDOWN, self.parent, from_link=True)

    def _kill(self) -> None:
        if self.exit_reason is None:
            self._die(KILLED)
        elif not self.dead and not self.fenced and self._task is not None and not self._task.done():
            self._task.cancel()
            self._arm_fence(self.runtime.kill_budget)
        elif self._waits_for_children:
            self._kill_children()  # they may have been given time to say goodbye: it is over

    def _die(self, reason: ExitReason) -> None:
        """Record the reason and cancel the coroutine; the first reason recorded is the reason."""
        # Recorded before the task is cancelled: from here on nothing that its code still sends is accepted.
        self.exit_reason = reason
        task = self._task
        if task is None:
            self._ended()
        elif not task.done():
            task.cancel()
            self._arm_fence(self.runtime.kill_budget if isinstance(reason, Killed) else self.runtime.exit_budget)

    def _arm_fence(self, budget: float) -> None:
        if self._fence_timer is not None:
            self._fence_timer.cancel()
        clock, context = self.runtime.clock, self.runtime.context
        self._fence_timer = clock.call_later(budget / 2, self._cancel_again, budget / 2, context=context)

    def _cancel_again(self, rest: float) -> None:
        if self._task is not None and not self._task.done():
            self._task.cancel()
            self._fence_timer = self.runtime.clock.call_later(rest, self._fence, context=self.runtime.context)

    def _fence(self) -> None:
        """Declare the process dead although its code goes on: nothing it does from now on has an effect."""
        task = self._task
        if task is None or task.done() or self.fenced:
            return
        self.fenced = True
        stack = _stack_of(task)
        self.runtime.zombies[task] = f"{self.label}\n{stack}"
        _log.error(
            "process ignores cancellation and is fenced",
            says="{path} ignores its cancellation and is fenced; its code goes on at {at}",
            path=path_of(self),
            at=where(stack),
            actor=self.label,
            stack=stack,
        )
        if self.runtime.telemetry.active:
            self.runtime.telemetry.emit("dspex.process.fenced", {}, {"label": self.label, "stack": stack})
        self._ended()

    # --- death ----------------------------------------------------------------------------------------------

    def _task_done(self, task: asyncio.Task[object]) -> None:
        """Turn what became of the coroutine into an exit reason, unless one is recorded already."""
        error = None if task.cancelled() else task.exception()
        if self.fenced:  # it was declared dead long ago, and everybody was told then
            self.runtime.zombies.pop(task, None)
            self._task = None
            return
        if self._fence_timer is not None:
            self._fence_timer.cancel()
            self._fence_timer = None
        if self.exit_reason is None:
            if task.cancelled() or (error is not None and is_cancellation(error)):
                self.exit_reason = KILLED  # a cancellation nobody asked for
            elif error is not None:
                self.exit_reason = Crashed(error)
            else:
                self.exit_reason = NORMAL
        self._ended()

    def _end_here(self) -> None:
        """
        End normally in the last step of the own task, one turn of the loop before its callback would.

        Who is told goes on in a later turn, when the task is done as well. These end by their callback: a task that was
        cancelled meanwhile, a process that has something to clear up, and every process while telemetry is heard,
        because a handler may want to be run in the task's context, and that is entered here.
        """
        task = self._task
        assert task is not None  # it runs this very line, and nobody has ended the process before
        if self._children or self._resources or self.runtime.telemetry.active or task.cancelling():
            return
        task.remove_done_callback(self._task_done)
        self.exit_reason = NORMAL
        self.runtime.context.run(self._finish)

    def _ended(self) -> None:
        """End the children; go on when the last of them is dead."""
        if self._children:
            reason = self.exit_reason or NORMAL
            for child in reversed(tuple(self._children)):  # a copy: a child that dies at once leaves the table
                child.owner_died(reason)
            if self._children:
                clock, context = self.runtime.clock, self.runtime.context
                budget = self.runtime.kill_budget if isinstance(reason, Killed) else self.runtime.exit_budget
                self._fence_timer = clock.call_later(budget, self._kill_children, context=context)
                self._waits_for_children = True
                return
        if self._resources:
            self._close_resources()
        else:
            self._finish()

    def _kill_children(self) -> None:
        for child in reversed(tuple(self._children or ())):
            child.receive_exit(KILL, self)

    def _last_child_gone(self) -> None:
        """Go on dying: the last child that we have waited for is dead."""
        self._waits_for_children = False
        assert self._fence_timer is not None  # since we waited
        self._fence_timer.cancel()
        self._fence_timer = None
        # a turn of the loop for each generation: a deep family must not die on the stack
        self.runtime.loop.call_soon(self._close_resources, context=self.runtime.context)

    def _close_resources(self) -> None:
        """Close what the process owned, the last first; what closes asynchronously gets a bounded janitor task."""
        while self._resources:  # a closer may add a resource: it is closed in the next round
            resources, self._resources = self._resources, None
            pending = [done for each in reversed(resources) if (done := begin_closing(self.runtime, *each)) is not None]
            if pending:
                Janitor(self.runtime, self.label, pending, self._close_resources)
                return
        self._finish()

    def _finish(self) -> None:
        """Release names, fail calls, then tell links, monitors, the parent and those who wait."""
        reason = self.exit_reason or NORMAL
        self.dead = True
        runtime = self.runtime
        # The order matters. The name is free before anybody hears of the death, for a listener may start a successor.
        # Calls fail before links and monitors hear, for a supervisor may restart at once, and a caller of the old actor
        # must not wait while there is a new one.
        runtime.processes.pop(self.pid, None)
        if self._name is not None:
            runtime.free_name(self, self._name)
        self._fail_calls(reason)
        if runtime.telemetry.active:
            runtime.telemetry.emit("dspex.process.exit", {}, {"ref": self.ref, "label": self.label, "reason": reason})
        if self._links:
            links, self._links = self._links, None  # taken first: a signal along a circle of links must end here
            for other in links:
                urgent = other._links is not None and other._links.pop(self, False)
                if self.quiet and isinstance(reason, Normal):
                    continue
                other.receive_exit(reason, self, from_link=True, urgent=urgent)
        if self._watchers:
            watchers, self._watchers = self._watchers, None
            for number, watcher in watchers.items():
                watcher.deliver_down(Down(number, self.ref, reason))
        parent = self.parent
        if parent is not None:
            self._tell_parent(parent, reason)
            siblings = parent._children or {}
            siblings.pop(self, None)
            if parent._waits_for_children and not siblings:
                parent._last_child_gone()
        if self._waiters:
            for waiter in self._waiters:
                if not waiter.done():
                    waiter.set_result(reason)
            self._waiters = None
        if self._on_dead is not None:
            callbacks, self._on_dead = self._on_dead, None
            for callback in callbacks:
                self._call_back(callback)
        if not self.fenced:  # code of a fenced process is known by its task: it has no say
            self._task = None
        self.context = runtime.context  # its own refers to this process: a cycle for the garbage collector

    def _tell_parent(self, parent: Process, reason: ExitReason) -> None:
        """Send the parent what the link between a process and its owner carries upward."""

    def _fail_calls(self, reason: ExitReason) -> None:
        """Raise ActorExited in everyone who waits for an answer."""

    # --- being watched --------------------------------------------------------------------------------------

    def add_watcher(self, number: int, watcher: ActorProcess) -> None:
        """Note that ``watcher`` wants a ``Down``."""
        if self._watchers is None:
            self._watchers = {}
        self._watchers[number] = watcher

    def remove_watcher(self, number: int) -> None:
        """Undo ``add_watcher``; unknown numbers are fine."""
        if self._watchers is not None:
            self._watchers.pop(number, None)

    def on_dead(self, callback: Callable[[], object]) -> None:
        """Call ``callback()`` in the tick this process is dead, at once if it is; one that raises is reported."""
        if self.dead:
            self._call_back(callback)
            return
        if self._on_dead is None:
            self._on_dead = []
        self._on_dead.append(callback)

    def _call_back(self, callback: Callable[[], object]) -> None:
        try:
            callback()
        except BaseException as error:  # noqa: BLE001 - one who is told must not keep the others from hearing
            self.runtime.contain(error)
            says, path = "a callback at the end of {path} failed: {error}", path_of(self)
            _log.error("a last callback failed", says=says, path=path, actor=self.label, exc_info=error)

    def not_on_dead(self, callback: Callable[[], object]) -> None:
        """Undo ``on_dead``; unknown callbacks are fine."""
        if self._on_dead is not None and callback in self._on_dead:
            self._on_dead.remove(callback)

    async def wait_exit(self, timeout: float | None = None) -> ExitReason | None:
        """Return the exit reason once dead, or None after ``timeout`` seconds."""
        if self.dead:
            return self.exit_reason
        runtime = self.runtime
        future: asyncio.Future[ExitReason | None] = runtime.loop.create_future()
        if self._waiters is None:
            self._waiters = {}
        self._waiters[future] = None
        timer = None
        if timeout is not None:
            timer = runtime.clock.call_later(timeout, _give_up, future, context=runtime.context)
        noted = runtime.exit_waits.begin((self,)) if timeout is None else None  # else it ends by itself
        try:
            return await future
        finally:
            runtime.exit_waits.end(noted)
            if timer is not None:
                timer.cancel()
            if self._waiters is not None:
                self._waiters.pop(future, None)

    def __repr__(self) -> str:
        state = "alive" if self.exit_reason is None else f"exited: {text_of(self.exit_reason)}"
        return f"<{type(self).__name__} {self.label} [{state}]>"


def is_cancellation(error: BaseException) -> bool:
    """Say whether ``error`` is a cancellation, or a group of nothing else."""
    return all(issubclass(type(each), asyncio.CancelledError) for each in _leaves(error))


def _interrupt_in(error: BaseException) -> KeyboardInterrupt | None:
    interrupts = (each for each in _leaves(error) if issubclass(type(each), KeyboardInterrupt))
    return next(interrupts, None)  # type: ignore[return-value]  # just asked


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """
    Yield ``error``, or what is in a group and the groups in it.

    The types are asked, not the objects, whose classes may be anybody's; on a stack of our own, for groups may be deep.
    """
    left = [error]
    while left:
        each = left.pop()
        if issubclass(type(each), BaseExceptionGroup):
            left += _EXCEPTIONS.__get__(each)
        else:
            yield each


def _give_up(future: asyncio.Future[ExitReason | None]) -> None:
    if not future.done():
        future.set_result(None)


def _stack_of(task: asyncio.Task[object]) -> str:
    """Return where a suspended task is, innermost frame last: asyncio itself knows the outermost only."""
    try:
        return _frames_of(task)
    except BaseException as error:  # noqa: BLE001 - source lines come from loaders that may be anybody's
        contained(error)
        return "<stack that cannot be shown>"


def _frames_of(task: asyncio.Task[object]) -> str:
    frames = []
    inner: object = task.get_coro()
    while inner is not None:
        frame = getattr(inner, "cr_frame", None) or getattr(inner, "gi_frame", None) or getattr(inner, "ag_frame", None)
        if frame is not None:
            frames.append((frame, frame.f_lineno))
        inner = getattr(inner, "cr_await", None) or getattr(inner, "gi_yieldfrom", None) or begun_in(inner)
    return "".join(traceback.StackSummary.extract(iter(frames)).format())
