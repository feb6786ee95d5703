"""Handles: what other code may hold of a process."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from math import ceil, inf
from typing import TYPE_CHECKING, Any, NoReturn, Self, TypeVar, overload

from dspex.errors import ActorExited, CallCycle, CallTimeout, DeadlineExceeded, MailboxFull, NoSuchActor, WrongLoop
from dspex.runtime import _system
from dspex.runtime._at_once import CALLS_BEFORE_TURN, DEEPEST, NOT_YET, handle_at_once
from dspex.runtime._chain import chain_into, refuse_cycle, refuse_wait
from dspex.runtime._context import HOME, current_process
from dspex.runtime._deadlines import LONGEST, NEVER, finite_timeout
from dspex.runtime._exit import KILL, NORMAL, SHUTDOWN, ExitReason, as_reason
from dspex.runtime._here import here, task_of
from dspex.runtime._messages import CAST, Call, CallEnvelope, InfoEnvelope, StopEnvelope
from dspex.runtime._system import Statistics, TraceHook, ask
from dspex.runtime._threads import call_from_thread, cast_from_thread

if TYPE_CHECKING:
    from dspex.runtime._actor_process import ActorProcess
    from dspex.runtime._process import Process
    from dspex.runtime._runtime import Runtime

__all__ = ["ActorRef", "NamedRef", "ProcessRef"]

R = TypeVar("R")


class Itself:
    """Something that there is once: a copy of it, also as a part of something else that is copied, is itself."""

    __slots__ = ()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: object) -> Self:
        return self


class Handle(Itself):
    """A handle on a process, or on whoever has a name: it stays with its runtime."""

    __slots__ = ()

    def __reduce__(self) -> NoReturn:
        raise TypeError(
            f"{self!r} means a process of this runtime, in this OS process: it cannot be pickled. "
            "Send a name, and use `runtime.named(name)` where it arrives"
        )


class ProcessRef(Handle):
    """
    A handle on one incarnation of one process; after its death it only ever says so.

    It belongs to the loop of its runtime: elsewhere its methods raise WrongLoop, and its properties may be read.
    """

    __slots__ = ("_process",)

    def __init__(self, process: Process) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """A number no other process of this runtime has or will have."""
        return self._process.pid

    @property
    def label(self) -> str:
        """Its name in logs and snapshots; ``set_label`` changes it."""
        return self._process.label

    @property
    def callers(self) -> tuple[int, ...]:
        """The pids of those at whose wish a task runs, the nearest first (32 at most); empty for actors."""
        return self._process.callers

    @property
    def ancestors(self) -> tuple[int, ...]:
        """The pids of those it is below in the tree, the nearest first: who supervises, not who asked."""
        return self._process.ancestors

    @property
    def alive(self) -> bool:
        """True when no exit reason has been recorded yet."""
        return self._process.alive

    @property
    def exit_reason(self) -> ExitReason | None:
        """Why it ended, or None while it lives."""
        return self._process.exit_reason

    def exit(self, reason: ExitReason = SHUTDOWN) -> None:
        """Signal an exit: trapping actors get a message, others die unless ``reason`` is normal; ``KILL`` kills."""
        self._refuse_elsewhere()
        caller = current_process()
        if caller is None or not caller.dead:  # code of a fenced process has no say
            self._process.receive_exit(as_reason(reason), caller)

    def kill(self) -> None:
        """End the process at once, without clean-up of its own; ``exit(KILL)``."""
        self.exit(KILL)

    def monitor(self, *, priority: bool = False) -> int:
        """
        Have one ``Down`` delivered to the calling actor when this process ends; at once if it already has.

        Args:
            priority: Deliver it before ordinary messages, so that it may overtake what the process sent.

        Returns:
            The number that ``Down.monitor`` carries.

        Raises:
            RuntimeError: The caller is not an actor.
        """
        self._refuse_elsewhere()
        return _calling_actor("monitor").monitor(self._process, priority=priority)

    def demonitor(self, monitor: int) -> None:
        """Forget a monitor of the calling actor and remove its ``Down`` if it is still queued."""
        self._refuse_elsewhere()
        _calling_actor("demonitor").demonitor(monitor)

    def link(self, *, priority: bool = False) -> None:
        """
        Tie the calling actor and this process together: each gets an exit signal when the other ends.

        Args:
            priority: If the caller traps exits, its ``Exit`` comes before ordinary messages, so that it may overtake
                what the process sent. A second call with another ``priority`` changes it.
        """
        self._refuse_elsewhere()
        _calling_actor("link").link(self._process, priority=priority)

    def unlink(self) -> None:
        """Undo ``link``; no exit signal from it arrives afterwards."""
        self._refuse_elsewhere()
        _calling_actor("unlink").unlink(self._process)

    async def wait_exit(self, timeout: float | None = None) -> ExitReason | None:
        """
        Return the exit reason once the process is dead, its children too; None after ``timeout`` seconds.

        Raises:
            CallCycle: The process waits for an answer of the caller, and the caller would wait without end.
            WrongLoop: Called from another loop or thread.
            SpecError: ``timeout`` is not a number.
        Cancellation: the process goes on.
        """
        timeout = finite_timeout(timeout)
        if not self._process.dead:
            self._refuse_elsewhere()
            if timeout is None:
                refuse_wait((self._process,))
        return await self._process.wait_exit(timeout)

    def _refuse_elsewhere(self) -> None:
        runtime = self._process.runtime
        if not self._process.dead and (here() != runtime.here or runtime.loop.is_closed()):
            runtime.refuse_other_loops()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ProcessRef) and other._process is self._process

    def __hash__(self) -> int:
        return self._process.pid

    def __repr__(self) -> str:
        return f"<{self._process.label}>"


class ActorRef(ProcessRef):
    """A handle on one incarnation of one actor; calls to a dead one raise NoSuchActor at once."""

    __slots__ = ()

    _process: ActorProcess

    @overload
    async def call(self, message: Call[R], *, timeout: float | None = 5.0) -> R: ...
    @overload
    async def call(self, message: object, *, timeout: float | None = 5.0) -> Any: ...
    async def call(self, message: object, *, timeout: float | None = 5.0) -> object:
        """
        Send ``message`` to ``handle_call`` and return the answer.

        Args:
            timeout: Seconds; ``None`` waits as long as the actor lives.

        Raises:
            CallTimeout: No answer came in time; the work is not cancelled, a late answer is dropped.
            ActorExited: The actor died first, for whatever reason.
            NoSuchActor: The actor was dead already.
            MailboxFull: Its bounded mailbox has no room.
            CallCycle: The actor (or one it waits for) is waiting for the caller.
            WrongLoop: Called from another loop or thread; ``call_from_thread`` is for that.
            SpecError: ``timeout`` is not a number.
        Cancellation: the answer is dropped; nothing of the call stays behind.
        """
        process = self._process
        if process.exit_reason is not None:
            raise NoSuchActor(process.label)
        if timeout is not None and (type(timeout) is not float or not NEVER < timeout <= LONGEST):
            timeout = finite_timeout(timeout)
        runtime, home = process.runtime, HOME.get()
        if here() != runtime.here:
            runtime.refuse_other_loops()
        chain: tuple[Process, ...] = ()
        if home is not None:
            if home.exit_reason is None and home._task is task_of(runtime.loop):  # most calls
                chain, waits = home.chain(), runtime.exit_waits
                if process in chain or process in waits or waits.of_tasks:
                    refuse_cycle(chain, process)
            else:
                chain = chain_into(home, process)
        envelope = CallEnvelope(message, chain)
        mailbox, resting = process.mailbox, process.resting
        if resting is not None and mailbox.waiter is resting and runtime.calls_at_once and len(chain) < DEEPEST:
            runtime.calls_at_once -= 1
            answer = handle_at_once(process, resting, envelope)
            if answer is not NOT_YET and (not chain or chain[-1].exit_reason is None):
                return answer
        else:
            runtime.calls_at_once = CALLS_BEFORE_TURN
            envelope.future = runtime.create_future()
            if not mailbox.put(envelope):
                raise MailboxFull(process.label, mailbox.limit or 0)
        future = envelope.future
        queue = deadline = None
        try:
            if timeout is not None:
                queue = runtime.deadlines[timeout]
                deadline = queue.add(future, process)
            return await future
        except BaseException as error:  # whatever it is: undone here, then raised on
            envelope.abandon()
            del future  # it has the error, whose traceback has this frame: not to be left to the garbage collector
            if type(error) is RuntimeError:  # as a future says of a task of another loop
                runtime.refuse_other_loops()
            raise
        finally:
            if queue is not None and deadline is not None:
                queue.finish(deadline)

    def cast(self, message: object) -> bool:
        """Send ``message`` to ``handle_cast``; False when the actor is dead or its mailbox full."""
        process = self._process
        if process.exit_reason is not None:
            return False
        runtime, home = process.runtime, HOME.get()
        if here() != runtime.here:
            runtime.refuse_other_loops()
        if home is not None and home.exit_reason is not None and current_process() is home:
            return False  # a process that is dead to the world sends nothing
        try:
            return process.mailbox.put((CAST, message))
        except RuntimeError as error:  # the loop is closed
            raise WrongLoop from error

    def send(self, message: object) -> bool:
        """Send ``message`` to ``handle_info``; False when the actor is dead or its mailbox full."""
        process = self._process
        if process.exit_reason is not None:
            return False
        runtime, home = process.runtime, HOME.get()
        if here() != runtime.here:
            runtime.refuse_other_loops()
        if home is not None and home.exit_reason is not None and current_process() is home:
            return False  # as for ``cast``
        try:
            return process.mailbox.put(InfoEnvelope(message) if type(message) is CallEnvelope else message)
        except RuntimeError as error:  # as for ``cast``
            raise WrongLoop from error

    @overload
    def call_from_thread(self, message: Call[R], *, timeout: float | None = 5.0) -> R: ...
    @overload
    def call_from_thread(self, message: object, *, timeout: float | None = 5.0) -> object: ...
    def call_from_thread(self, message: object, *, timeout: float | None = 5.0) -> object:
        """
        Call from another thread than the loop's, which blocks until the answer is there; errors as ``call``.

        Raises:
            WrongLoop: Called in the loop's own thread, which would wait for itself.
            NoSuchActor: The actor is dead, or its runtime is closed, also while this waits.
            CallTimeout: No answer came in time, be it because the loop stands still.
        """
        return call_from_thread(self._process, message, timeout)

    def cast_from_thread(self, message: object) -> bool:
        """Cast from any thread; False when the actor is dead. Messages from one thread arrive in order."""
        return cast_from_thread(self._process, message)

    async def put(self, message: object) -> None:
        """
        Cast ``message``, waiting for room first: back-pressure.

        Raises:
            NoSuchActor: The actor is dead.
        Cancellation: the message is not sent.
        """
        process = self._process
        self._refuse_elsewhere()
        while process.exit_reason is None and not _is_fenced():
            if process.mailbox.put((CAST, message)):
                return
            await process.mailbox.wait_room(process.runtime.loop)
        process.mailbox.wake_putter()  # the place that was offered to us is somebody else's
        raise NoSuchActor(process.label)

    async def stop(self, reason: ExitReason = NORMAL, timeout: float | None = None) -> None:
        """
        Ask the actor to end with ``reason`` after the messages it already has, and wait for it.

        Raises:
            NoSuchActor: It was dead already.
            ActorExited: It ended for another reason.
            CallTimeout: It is still alive after ``timeout`` seconds.
            CallCycle: The caller is the actor itself, or below it in the tree.
        """
        process = self._process
        if not isinstance(reason, ExitReason):
            reason = as_reason(reason)
        if timeout is not None:
            timeout = finite_timeout(timeout)
        if process.exit_reason is not None:
            raise NoSuchActor(process.label)
        self._refuse_elsewhere()
        home = HOME.get()
        if home is not None:
            chain_into(home, process)
            caller = current_process()
            if caller is not None and process.owns(caller):
                raise CallCycle((caller.label, process.label))
        if process.stop_asleep(reason):
            return
        if process.suspended:
            process.mailbox.put_urgent(StopEnvelope(reason))
        else:
            process.mailbox.put_always(StopEnvelope(reason))
        actual = await process.wait_exit(timeout)
        if actual is None:
            raise CallTimeout(process.label, timeout or 0.0)
        if actual is not reason and (type(actual) is not type(reason) or actual != reason):
            raise ActorExited(process.label, actual)

    @property
    def start_info(self) -> object:
        """The value that its ``init`` gave to its starter by ``Started(info)``."""
        return self._process.start_info

    # The rest is for people who look into a running system. The actor answers between two messages, before
    # those that wait, also while it is suspended; one that is busy with a message answers afterwards. All raise as
    # ``call`` does.

    async def get_state(self, *, timeout: float | None = 5.0) -> dict[str, Any]:
        """Return the actor's attributes, in a dict of their own."""
        state: dict[str, object] = await ask(self._process, _system.get_state, timeout)
        return state

    async def replace_state(
        self, change: Callable[[dict[str, Any]], Mapping[str, object]], *, timeout: float | None = 5.0
    ) -> dict[str, Any]:
        """Replace the actor's attributes by what ``change`` makes of them; if it raises, so does this, and no more."""
        state: dict[str, object] = await ask(self._process, partial(_system.replace_state, change), timeout)
        return state

    async def suspend(self, *, timeout: float | None = 5.0) -> None:
        """Have the actor handle no messages until it is resumed; a second time does nothing. Exit signals work."""
        await ask(self._process, _system.suspend, timeout)

    async def resume(self, *, timeout: float | None = 5.0) -> None:
        """Undo ``suspend``: what came meanwhile is handled in its order."""
        await ask(self._process, _system.resume, timeout)

    async def keep_statistics(self, on: bool = True, *, timeout: float | None = 5.0) -> None:
        """Begin to count what the actor does, afresh, or stop counting."""
        await ask(self._process, partial(_system.keep_statistics, on), timeout)

    async def statistics(self, *, timeout: float | None = 5.0) -> Statistics | None:
        """Return what was counted; None while nobody counts."""
        statistics: Statistics | None = await ask(self._process, _system.statistics, timeout)
        return statistics

    async def install_trace(self, hook: TraceHook, *, timeout: float | None = 5.0) -> None:
        """Have ``hook(event)`` called for every message that a handler gets, and for what it returns."""
        await ask(self._process, partial(_system.install_trace, hook), timeout)

    async def remove_trace(self, hook: TraceHook, *, timeout: float | None = 5.0) -> None:
        """Undo ``install_trace``; unknown hooks are fine."""
        await ask(self._process, partial(_system.remove_trace, hook), timeout)


class NamedRef(Handle):
    """
    A handle on whoever holds a name; resolved at each use.

    While the name is free and a supervisor is to start its actor (again), ``call`` parks, up to its timeout: nothing
    has been sent, so nothing is lost. When nobody is expected, it fails at once, unless the handle is ``patient``.
    """

    __slots__ = ("name", "patient", "runtime")

    def __init__(self, runtime: Runtime, name: str, *, patient: bool = False) -> None:
        self.runtime = runtime
        self.name = name
        self.patient = patient

    @overload
    async def call(self, message: Call[R], *, timeout: float | None = 5.0) -> R: ...
    @overload
    async def call(self, message: object, *, timeout: float | None = 5.0) -> Any: ...
    async def call(self, message: object, *, timeout: float | None = 5.0) -> object:
        """
        Call the holder of the name, waiting for one if need be; errors as ``ActorRef.call``.

        Raises:
            NoSuchActor: Nobody has the name, and no supervisor is about to start an actor under it; with the nearest
                names.
            ServiceUnavailable: The name's service has failed to start several times running.
            CallTimeout: Nobody took the name, or answered, in time.
        """
        runtime, timeout = self.runtime, finite_timeout(timeout)
        while (ref := runtime._names.whereis(self.name)) is None:
            started = runtime.clock.now()
            await runtime._names.wait(self.name, timeout, patient=self.patient)
            if timeout is not None:
                timeout = max(0.0, timeout - (runtime.clock.now() - started))
        return await ref.call(message, timeout=timeout)

    async def ask(self, message: object, deadline: float = inf, *, patience: float | None = None) -> Any:
        """
        Call until somebody answers: a holder that dies with the question has a successor, which is asked again.

        For a handle that is ``patient``, so that each try waits. A message that is handled twice must do no harm.

        Args:
            message: The question, the same one each time.
            deadline: When there is no use in an answer any more: the runtime clock's seconds.
            patience: Seconds to wait at a time for somebody to take the name, where that is less.

        Raises:
            DeadlineExceeded: Nobody answered by then, or within the second that follows.
            CallTimeout: Nobody took the name within ``patience``; nobody has the question.
            ServiceUnavailable: The name's service has failed to start several times running.
            CallCycle, MailboxFull, WrongLoop: As ``call``.
        Cancellation: the answer is dropped; nothing of the call stays behind.
        """
        runtime = self.runtime
        while True:
            left = deadline - runtime.clock.now()
            # In whole seconds, which many calls share: each timeout has a queue and a timer of its own. Within the
            # second too long it is the caller's own deadline that ends the wait.
            timeout = float(ceil(min(max(left, 0.0), LONGEST))) if deadline != inf else None
            ref: ActorRef | None = runtime._names.whereis(self.name)
            if ref is None and patience is not None:
                ref = await runtime._names.wait(self.name, patience)
            try:
                return await (ref if ref is not None else self).call(message, timeout=timeout)
            except (ActorExited, NoSuchActor):
                if left <= 0.0:
                    raise DeadlineExceeded(0.0) from None
            except CallTimeout as error:
                raise DeadlineExceeded(0.0) from error

    def cast(self, message: object) -> bool:
        """Cast to the holder of the name; False when nobody holds it."""
        self._refuse_elsewhere()
        ref = self.runtime._names.whereis(self.name)
        return ref is not None and ref.cast(message)

    def send(self, message: object) -> bool:
        """Send to the holder of the name; False when nobody holds it."""
        self._refuse_elsewhere()
        ref = self.runtime._names.whereis(self.name)
        return ref is not None and ref.send(message)

    def _refuse_elsewhere(self) -> None:
        if not self.runtime.closed:
            self.runtime.refuse_other_loops()

    def __repr__(self) -> str:
        return f"<{self.name} by name>"


def _is_fenced() -> bool:
    caller = current_process()
    return caller is not None and caller.dead_to_the_world


def _calling_actor(what: str) -> ActorProcess:
    caller = current_process()
    if caller is None:
        raise RuntimeError(
            f"{what} is for actors: call it from a handler itself (not from a plain task that it started), "
            "or use `await ref.wait_exit()`"
        )
    if caller.dead_to_the_world:
        raise ActorExited(caller.label, caller.exit_reason)
    return caller.as_actor(what)
