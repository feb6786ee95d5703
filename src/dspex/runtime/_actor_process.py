"""The process of an actor. To the loop it adds exit signals as messages, monitors, and a death with ``terminate``."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from dspex._guard import shown, text_of
from dspex.errors import ActorExited, SpecError, StartFailed
from dspex.runtime._actor import Actor
from dspex.runtime._actor_loop import ActorLoop, ParentExit
from dspex.runtime._deadlines import finite_timeout
from dspex.runtime._exit import KILL, NO_PROCESS, Crashed, ExitReason, Kill, is_abnormal
from dspex.runtime._log import get_logger
from dspex.runtime._messages import CallEnvelope, Down, Exit
from dspex.runtime._process import Process, is_cancellation
from dspex.runtime._ref import ActorRef
from dspex.runtime._sentences import path_of, why

if TYPE_CHECKING:
    from dspex.runtime._runtime import Runtime

__all__ = ["ActorProcess"]

_log = get_logger("runtime")


class ActorProcess(ActorLoop):
    """The process of one ``Actor`` instance."""

    __slots__ = ("_monitors", "_priority_monitors", "released")

    def __init__(self, runtime: Runtime, actor: Actor, parent: Process | None, label: str) -> None:
        super().__init__(runtime, actor, parent, label)
        object.__setattr__(actor, "_dspex_process", self)  # past a frozen class, and whatever else users make of it
        self.released = False  # the parent has given it up: no exit signal for it
        self._monitors: dict[int, Process] | None = None
        self._priority_monitors: set[int] | None = None

    @property
    def ref(self) -> ActorRef:
        """The handle others hold."""
        return self.actor.ref_class(self)

    def as_actor(self, what: str) -> ActorProcess:
        """Return self."""
        return self

    @property
    def traps(self) -> bool:
        """True when an exit signal is a message to it."""
        return self.actor.trap_exit

    # --- signals --------------------------------------------------------------------------------------------

    def receive_exit(
        self, reason: ExitReason, sender: Process | None, *, from_link: bool = False, urgent: bool = False
    ) -> None:
        """Take an exit signal; when trapping, as a message, unless it is a kill."""
        if not self.actor.trap_exit or (isinstance(reason, Kill) and not from_link):
            super().receive_exit(reason, sender, from_link=from_link)
        elif self.exit_reason is None:
            if sender is self.parent:
                self._receive_parent_exit(reason)
            else:
                put = self.mailbox.put_urgent if urgent else self.mailbox.put_always
                put(Exit(sender.ref if sender is not None else None, reason))

    def _receive_parent_exit(self, reason: ExitReason) -> None:
        if self.parent_exit is not None:
            return
        self.parent_exit = reason
        if self.actor.hurried:
            self.mailbox.put_urgent(ParentExit(reason))
            if self.starting is not None:
                self.starting.receive_exit(KILL, self)  # a slow init must not hold up the shutdown
        else:
            self.mailbox.put_always(ParentExit(reason))

    def deliver_down(self, down: Down) -> None:
        """Queue the notice that a monitored process has ended."""
        if self._monitors is not None and self._monitors.pop(down.monitor, None) is not None:
            if self._priority_monitors is not None and down.monitor in self._priority_monitors:
                self._priority_monitors.discard(down.monitor)
                self.mailbox.put_urgent(down)
            else:
                self.mailbox.put_always(down)

    def monitor(self, target: Process, *, priority: bool = False) -> int:
        """Watch ``target``; one ``Down`` comes, at once when it is dead, before ordinary messages if ``priority``."""
        number = self.runtime.next_pid()
        if priority:
            if self._priority_monitors is None:
                self._priority_monitors = set()
            self._priority_monitors.add(number)
        if self._monitors is None:
            self._monitors = {}
        self._monitors[number] = target
        if target.dead:
            self.deliver_down(Down(number, target.ref, NO_PROCESS))
        else:
            target.add_watcher(number, self)
        return number

    def demonitor(self, number: int) -> None:
        """Stop watching, and take a ``Down`` that is already queued out of the mailbox."""
        target = self._monitors.pop(number, None) if self._monitors is not None else None
        if target is not None:
            target.remove_watcher(number)
            if self._priority_monitors is not None:
                self._priority_monitors.discard(number)
        elif self.mailbox.items or self.mailbox.urgent:
            waiting = (*(self.mailbox.items or ()), *(self.mailbox.urgent or ()))
            queued = (item for item in waiting if type(item) is Down and item.monitor == number)
            self.mailbox.remove(next(queued, None))

    # --- death ----------------------------------------------------------------------------------------------

    def _die(self, reason: ExitReason) -> None:
        if self._asleep():
            self.exit_reason = reason
            self._end_asleep()
        elif self._task is None:  # nothing has run yet, but what it owns is not to be closed on the killer's stack
            self.exit_reason = reason
            self.runtime.loop.call_soon(self._ended, context=self.runtime.context)
        else:
            super()._die(reason)

    def stop_asleep(self, reason: ExitReason) -> bool:
        """End with ``reason`` in this tick if nobody would see the difference; False if somebody might."""
        if self.suspended or type(self.actor).terminate is not Actor.terminate or not self._asleep():
            return False
        self._exit_with(reason)
        self._end_asleep()
        return True

    def _asleep(self) -> bool:
        """
        True when it waits for a message and nothing stands against its end right now.

        Its resources are not closed on its killer's stack. A process that it would take along may be running this very
        code, and an exit signal must not meet that code half way through. So a chain of links dies by turns of the
        loop, too.
        """
        waiter = self.mailbox.waiter
        if waiter is None or waiter.done() or self._resources or self._children or self._links:
            return False
        parent = self.parent
        return parent is None or self.released or parent.traps or parent.exit_reason is not None

    def _end_asleep(self) -> None:
        """
        Die now: a sleeping actor's coroutine need not be asked, for there is nothing but our own code in it.

        Its task ends in the next turns of the loop; the runtime's closing waits for that.
        """
        self.mailbox.waiter = None  # first: the failing of its calls below must not wake it
        task, self._task = self._task, None
        if task is not None:
            self.runtime.parting.add(task)  # before the cancellation, so that `_task_done` knows it
            task.cancel()
        self._ended()

    def _task_done(self, task: asyncio.Task[object]) -> None:
        if task in self.runtime.parting:
            self.runtime.parting.discard(task)
            return
        self._stop_timer()
        self.busy_since = None
        wanted, self._final = self._final, None
        if wanted is not None and self.exit_reason is None and not self.fenced:
            if type(self.actor).terminate is not Actor.terminate:
                self._run_terminate(wanted)
                return
            self._exit_with(wanted)
        super()._task_done(task)

    def _exit_with(self, reason: ExitReason) -> None:
        """Record a reason that the actor's own code gave; one that came with a signal is reported where it arose."""
        self.exit_reason = reason
        if is_abnormal(reason) and reason is not self.parent_exit and _log.heard:
            error = reason.error if isinstance(reason, Crashed) else None
            last = shown(self._current.message) if self._current is not None else None
            _log.debug("actor crashed", actor=self.label)  # these words alone, for whoever looks for them
            _log.error(
                "actor crashed",
                says="{path} crashed while it handled {last_call}: {why}" if last else "{path} crashed: {why}",
                path=path_of(self),
                why=why(reason),
                actor=self.label,
                reason=text_of(reason),
                last_call=last,
                exc_info=error,
            )

    def _run_terminate(self, reason: ExitReason) -> None:
        """Run ``terminate`` in a task of its own: a kill during it must not be taken for its cancellation."""
        task = asyncio.Task(self._terminate(reason), loop=self.runtime.loop, context=self.context)
        self._task = task
        seconds = _seconds_of(self.actor)
        if seconds is not None:
            clock, context = self.runtime.clock, self.runtime.context
            self._timer = clock.call_later(seconds, self._terminate_too_slow, reason, context=context)

        def done(task: asyncio.Task[ExitReason]) -> None:
            self._stop_timer()
            error = None if task.cancelled() else task.exception()
            if self.exit_reason is None:
                if error is not None:  # an interrupt, which has gone its way
                    self._exit_with(Crashed(error))
                else:
                    self._exit_with(reason if task.cancelled() else task.result())
            super(ActorProcess, self)._task_done(task)

        task.add_done_callback(done, context=self.runtime.context)

    async def _terminate(self, reason: ExitReason) -> ExitReason:
        try:
            await self.actor.terminate(reason)
        except BaseException as error:  # the same boundary as in the loop
            if is_cancellation(error):
                raise
            self.pass_interrupt(error)
            return Crashed(error)
        return reason

    def _terminate_too_slow(self, reason: ExitReason) -> None:
        if self.exit_reason is None:
            _log.error(
                "terminate took too long",
                says="{path} is ended: its terminate took longer than {seconds} s",
                path=path_of(self),
                actor=self.label,
                seconds=self.actor.terminate_timeout,
            )
            self._die(reason)

    def _ended(self) -> None:
        self._stop_timer()
        if self.started is not None:
            self._resolve_start(StartFailed(self.label, self.exit_reason))
        super()._ended()

    def report_unexpected(self, message: object) -> None:
        """Say that a message came which the actor has no handler for."""
        says = "{path} has no handler for a message, which is dropped: {content}"
        path, content = path_of(self), shown(message)
        _log.warning("unexpected message", says=says, path=path, actor=self.label, content=content)

    def _fail_calls(self, reason: ExitReason) -> None:
        if self._last_reply is not None:
            envelope, value = self._last_reply
            envelope.reply(value)
        unanswered = list(self._deferred or ())  # told in the order in which they asked: so they ask a successor
        if self._current is not None:
            unanswered.append(self._current)
        unanswered += [item for item in self.mailbox.drain() if issubclass(type(item), CallEnvelope)]
        self._current = self._deferred = self._last_reply = None
        for envelope in unanswered:
            envelope.fail(ActorExited(self.label, reason))
        if self._monitors:
            for number, target in self._monitors.items():
                target.remove_watcher(number)
            self._monitors = None

    def _tell_parent(self, parent: Process, reason: ExitReason) -> None:
        if parent.exit_reason is None and not self.released:
            parent.receive_exit(reason, self, from_link=True)


def _seconds_of(actor: Actor) -> float | None:
    """Return the time that ``terminate`` has; that of the base class where an instance has set nonsense."""
    try:
        return finite_timeout(actor.terminate_timeout)
    except SpecError:
        return Actor.terminate_timeout
