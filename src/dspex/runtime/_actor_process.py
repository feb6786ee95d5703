"""The receive loop of an actor, and what its process adds to the others: a mailbox, monitors, links, terminate."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dspex.errors import ActorExited, StartFailed
from dspex.runtime._actor import Actor
from dspex.runtime._exit import KILL, NO_PROCESS, NORMAL, Crashed, ExitReason, Kill, Shutdown, is_abnormal
from dspex.runtime._log import get_logger, shown
from dspex.runtime._mailbox import Mailbox
from dspex.runtime._messages import CAST, CallEnvelope, Down, Exit, IdleTimeout, StopEnvelope, SystemEnvelope
from dspex.runtime._next import NOTHING, Continue, Idle, Ignore, NoReply, Reply, Started, Stop
from dspex.runtime._process import Process
from dspex.runtime._ref import ActorRef

if TYPE_CHECKING:
    from dspex._clock import TimerHandle
    from dspex.runtime._runtime import Runtime

__all__ = ["ActorProcess", "BadReturn"]

_log = get_logger("runtime")

TURNS_BEFORE_YIELD = 128
"""Messages handled without suspending before the loop gets a turn (OTP's reductions, roughly)."""

DEEPEST_DEATH = 32
"""Deaths on one stack: a longer chain of links goes on in the loop's next turn."""


class BadReturn(Exception):
    """A handler returned something that does not say what happens next."""

    def __init__(self, handler: str, value: object) -> None:
        super().__init__(f"{handler} returned {value!r}; expected Reply, NoReply, Stop, Continue or Idle")


class ParentExit:
    """The parent's exit signal to an actor that traps: taken by the loop, never shown to handlers."""

    __slots__ = ("reason",)

    def __init__(self, reason: ExitReason) -> None:
        self.reason = reason


class ActorProcess(Process):
    """The process of one ``Actor`` instance."""

    __slots__ = (
        "_chain",
        "_current",
        "_deferred",
        "_final",
        "_last_reply",
        "_monitors",
        "_priority_monitors",
        "_timer",
        "actor",
        "busy_since",
        "counted_from",
        "handled",
        "mailbox",
        "parent_exit",
        "released",
        "start_info",
        "started",
        "starting",
        "suspended",
    )

    def __init__(self, runtime: Runtime, actor: Actor, parent: Process | None, label: str) -> None:
        super().__init__(runtime, parent, label, runtime.context)
        self.actor = actor
        actor._process = self
        self.mailbox = Mailbox(actor.mailbox_limit)
        self.handled = 0
        self.started: asyncio.Future[StartFailed | Ignore | None] | None = None  # while ``init`` runs
        self.released = False  # the parent has given it up: no exit signal for it
        self.parent_exit: ExitReason | None = None
        self.starting: ActorProcess | None = None
        self.start_info: object = None
        self.suspended = False
        self.busy_since: float | None = None
        self.counted_from: tuple[float, int] | None = None  # statistics
        self._chain: tuple[Process, ...] = ()
        self._current: CallEnvelope | None = None
        self._deferred: set[CallEnvelope] | None = None
        self._final: ExitReason | None = None
        self._last_reply: tuple[CallEnvelope, object] | None = None
        self._timer: TimerHandle | None = None  # of being idle, later of terminate
        self._monitors: dict[int, Process] | None = None
        self._priority_monitors: set[int] | None = None

    @property
    def ref(self) -> ActorRef:
        """The handle others hold."""
        return self.actor.ref_class(self)

    @property
    def stopping(self) -> bool:
        """Whether the loop has decided to end: what is queued from now on will not be handled."""
        return self._final is not None

    def chain(self) -> tuple[Process, ...]:
        """The processes that wait for the message being handled, itself last."""
        return (*self._chain, self)

    def as_actor(self, what: str) -> ActorProcess:
        """Return self."""
        return self

    @property
    def serving(self) -> CallEnvelope | None:
        """The call being handled."""
        return self._current

    # --- the loop -------------------------------------------------------------------------------------------

    def run(self) -> None:
        """
        Schedule the actor; ``started`` is resolved when ``init`` has ended.

        Without an ``init`` of its own there is nothing to run before the first message: it has started, and gets its
        task when that comes.
        """
        if getattr(self.actor.init, "__func__", None) is Actor.init:
            self.mailbox.waiter = self
            self._resolve_start(None)
            if self.runtime.telemetry.active:
                self._tell_started(0.0)
        else:
            self.started = self.runtime.create_future()
            self._begin()

    def _begin(self) -> None:
        self.context = self.runtime.context.copy()
        self._launch(self._main())

    def done(self) -> bool:
        """Whether nobody sleeps here (as what the mailbox wakes before there is a task)."""
        return self.exit_reason is not None

    def set_result(self, _: None, /) -> None:
        """Begin, for the first message has come."""
        self._begin()

    async def _main(self) -> None:
        """Init, then take and handle messages until something ends the actor; the only place that pops."""
        then = None if self.started is None else await self._init()
        runtime, mailbox, actor, now = self.runtime, self.mailbox, self.actor, self.runtime.clock.now
        turns = 0
        idle: Idle | None = None
        try:
            while self._final is None and self.exit_reason is None:
                if then is not None:
                    if type(then) is Continue:
                        self.busy_since = now()
                        then = self._follow("handle_continue", await actor.handle_continue(then.argument))
                        continue
                    assert type(then) is Idle
                    idle, then = then, None
                    if not mailbox.items and not mailbox.urgent:
                        self._start_idle_timer(idle.seconds)
                items = mailbox.items
                if not items and not mailbox.urgent:
                    turns = 0
                    self.busy_since = mailbox.items = items = None
                    waiter = mailbox.waiter = runtime.create_future()
                    try:
                        await waiter
                    finally:
                        mailbox.waiter = None
                    if self.exit_reason is not None:
                        return
                    items = mailbox.items
                    if not items and not mailbox.urgent:
                        self.busy_since = now()
                        then = self._follow("handle_info", await actor.handle_info(IdleTimeout()))
                        continue
                elif turns >= TURNS_BEFORE_YIELD:
                    turns = 0
                    await asyncio.sleep(0)
                    continue
                turns += 1
                if mailbox.urgent or not items:
                    if type(mailbox.urgent[0]) is SystemEnvelope:  # type: ignore[index]  # one of the two is not empty
                        await self._serve_system()
                        then = idle  # whoever looks on does not count as a message
                        continue
                    envelope = mailbox.take()
                else:
                    envelope = items.popleft()
                    if mailbox._room:
                        mailbox.wake_putter()
                if idle is not None:
                    idle = None
                    self._stop_timer()
                self.handled += 1
                self.busy_since = now()
                kind = type(envelope)
                if kind is CallEnvelope:
                    self._current = envelope
                    self._chain = envelope.chain
                    then = self._answered(envelope, await actor.handle_call(envelope.message, envelope))
                elif kind is tuple and envelope and envelope[0] is CAST:
                    outcome = await actor.handle_cast(envelope[1])
                    if outcome is not None:
                        then = self._follow("handle_cast", outcome)
                elif kind is StopEnvelope or kind is ParentExit:
                    self._final = envelope.reason
                else:
                    then = self._follow("handle_info", await actor.handle_info(envelope))
        except asyncio.CancelledError:
            raise
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - where a crash becomes a reason
            self.let_through(error)
            self._final = Crashed(error)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def begin_start(self, starter: Process) -> None:
        """Note that ``starter`` waits for ``init``, which can therefore not call it."""
        self._chain = starter.chain()

    async def _init(self) -> Continue | Idle | None:
        telemetry, clock = self.runtime.telemetry, self.runtime.clock
        began = clock.now() if telemetry.active else 0.0
        try:
            then = await self.actor.init()
        except asyncio.CancelledError:
            raise
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - a failed init is an answer to the starter
            self.let_through(error)
            if self.exit_reason is None:
                self._fail_start(Crashed(error), error)
            return None
        if self.exit_reason is not None:
            return None  # told to die meanwhile, whatever it returned: the starter hears of it when it is dead
        self._chain = ()
        if isinstance(then, Started):
            self.start_info = then.info
            then = then.then
        if isinstance(then, Stop):
            self._fail_start(then.reason, None)
        elif isinstance(then, Ignore):
            self._resolve_start(then)
            self.exit_reason = NORMAL
        elif then is None or isinstance(then, (Continue, Idle)):
            self._resolve_start(None)
            if telemetry.active:
                self._tell_started(clock.now() - began)
            return then
        else:
            bad = BadReturn("init", then)
            self._fail_start(Crashed(bad), bad)
        return None

    def _tell_started(self, seconds: float) -> None:
        metadata = {"ref": self.ref, "label": self.label}
        self.runtime.telemetry.emit("dspex.process.start", {"seconds": seconds}, metadata)

    def _fail_start(self, reason: ExitReason, cause: BaseException | None) -> None:
        self.exit_reason = reason
        failure = StartFailed(self.label, reason)
        if cause is None and isinstance(reason, Shutdown) and isinstance(reason.detail, BaseException):
            cause = reason.detail
        failure.__cause__ = cause
        self._resolve_start(failure)

    def _resolve_start(self, outcome: StartFailed | Ignore | None) -> None:
        started, self.started = self.started, None
        if started is not None and not started.done():
            started.set_result(outcome)
        if outcome is None:
            self.runtime.announce(self)

    async def _serve_system(self) -> None:
        """Answer the question that is first in the mailbox; while the actor is suspended, all others too."""
        self._stop_timer()
        self.busy_since = None
        mailbox, create_future = self.mailbox, self.runtime.create_future
        self._answer(mailbox.take())
        kept = []  # messages that come first, but not before we are resumed
        while self.suspended and self._final is None and self.exit_reason is None:
            if self.parent_exit is not None:
                self._final = self.parent_exit
            elif not mailbox.urgent:
                waiter = mailbox.waiter = create_future()
                try:
                    await waiter
                finally:
                    mailbox.waiter = None
            elif type(envelope := mailbox.urgent.popleft()) is SystemEnvelope:
                self._answer(envelope)
            elif type(envelope) is StopEnvelope:
                self._final = envelope.reason
            else:
                kept.append(envelope)
        if kept and mailbox.urgent is not None:
            mailbox.urgent.extendleft(reversed(kept))

    def _answer(self, envelope: SystemEnvelope) -> None:
        if not envelope.waiting:
            return
        try:
            answer = envelope.message(self)  # type: ignore[operator]  # a system message is a function
        except Exception as error:  # noqa: BLE001 - the function is the caller's, and so is its failure
            envelope.future.set_exception(error)
        else:
            envelope.future.set_result(answer)

    def _answered(self, envelope: CallEnvelope, outcome: object) -> Continue | Idle | None:
        """Read what ``handle_call`` wants next."""
        if self.exit_reason is not None:
            return None  # the caller hears of our death, not of our opinion
        self._current = None
        self._chain = ()
        kind = type(outcome)
        if kind is Reply:
            future = envelope.future
            if not future.done():
                future.set_result(outcome.value)  # type: ignore[attr-defined]  # kind says which
            return outcome.then  # type: ignore[attr-defined,no-any-return]  # kind says which
        if kind is NoReply:
            if not envelope.future.done():
                if self._deferred is None:
                    self._deferred = set()
                self._deferred.add(envelope)
                envelope.deferred_by = self._deferred
            return outcome.then  # type: ignore[attr-defined,no-any-return]  # kind says which
        self._current = envelope  # still to be answered, by our death at the latest
        if isinstance(outcome, Stop):
            self._final = outcome.reason
            if outcome.reply is not NOTHING:
                self._last_reply = (envelope, outcome.reply)
            return None
        raise BadReturn("handle_call", outcome)

    def _follow(self, handler: str, outcome: object) -> Continue | Idle | None:
        """Read what a handler that has nobody to answer wants next."""
        if outcome is None or self.exit_reason is not None:
            return None
        if isinstance(outcome, (Continue, Idle)):
            return outcome
        if isinstance(outcome, NoReply):
            return outcome.then
        if isinstance(outcome, Stop):
            self._final = outcome.reason
            return None
        raise BadReturn(handler, outcome)

    def _start_idle_timer(self, seconds: float) -> None:
        self._timer = self.runtime.clock.call_later(seconds, self._idle, context=self.runtime.context)

    def _idle(self) -> None:
        self._timer = None
        waiter = self.mailbox.waiter
        if waiter is not None and not waiter.done():
            self.mailbox.waiter = None
            waiter.set_result(None)

    # --- signals --------------------------------------------------------------------------------------------

    def receive_exit(self, reason: ExitReason, sender: Process | None, *, from_link: bool = False) -> None:
        """Take an exit signal; when trapping, as a message, unless it is a kill."""
        if not self.actor.trap_exit or (isinstance(reason, Kill) and not from_link):
            super().receive_exit(reason, sender, from_link=from_link)
        elif self.exit_reason is None:
            if sender is self.parent:
                self._receive_parent_exit(reason)
            else:
                self.mailbox.put_always(Exit(sender.ref if sender is not None else None, reason))

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
        if not self._asleep():
            super()._die(reason)
            return
        self.exit_reason = reason
        self._end_asleep()

    def stop_asleep(self, reason: ExitReason) -> bool:
        """End with ``reason`` in this tick if nobody would see the difference; False if somebody might."""
        if self.suspended or type(self.actor).terminate is not Actor.terminate or not self._asleep():
            return False
        self._exit_with(reason)
        self._end_asleep()
        return True

    def _asleep(self) -> bool:
        """Whether it waits for a message, and has nothing whose end is anybody's code or takes time."""
        waiter = self.mailbox.waiter
        return waiter is not None and not waiter.done() and not self._resources and not self._children

    def _end_asleep(self) -> None:
        """
        Die now: a sleeping actor's coroutine need not be asked, for there is nothing but our own code in it.

        Its task ends in the next turns of the loop; the runtime's closing waits for that.
        """
        runtime, task = self.runtime, self._task
        self.mailbox.waiter = None
        if task is not None:
            self._task = None
            runtime.parting.add(task)
            task.cancel()
        if runtime.dying >= DEEPEST_DEATH:
            runtime.loop.call_soon(self._ended, context=runtime.context)
            return
        runtime.dying += 1
        try:
            self._ended()
        finally:
            runtime.dying -= 1

    def _task_done(self, task: asyncio.Task[Any]) -> None:
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
        if is_abnormal(reason) and reason is not self.parent_exit:
            error = reason.error if isinstance(reason, Crashed) else None
            last = shown(self._current.message) if self._current is not None else None
            _log.error("actor crashed", actor=self.label, reason=str(reason), last_call=last, exc_info=error)

    def _run_terminate(self, reason: ExitReason) -> None:
        """Run ``terminate`` in a task of its own: a kill during it must not be taken for its cancellation."""
        task = asyncio.Task(self._terminate(reason), loop=self.runtime.loop, context=self.context)
        self._task = task
        seconds = self.actor.terminate_timeout
        if seconds is not None:
            clock, context = self.runtime.clock, self.runtime.context
            self._timer = clock.call_later(seconds, self._terminate_too_slow, reason, context=context)

        def done(task: asyncio.Task[ExitReason]) -> None:
            self._stop_timer()
            if self.exit_reason is None:
                self._exit_with(reason if task.cancelled() else task.result())
            super(ActorProcess, self)._task_done(task)

        task.add_done_callback(done, context=self.runtime.context)

    async def _terminate(self, reason: ExitReason) -> ExitReason:
        try:
            await self.actor.terminate(reason)
        except asyncio.CancelledError:
            raise
        except (Exception, SystemExit, KeyboardInterrupt) as error:  # noqa: BLE001 - the same boundary as in the loop
            self.let_through(error)
            return Crashed(error)
        return reason

    def _terminate_too_slow(self, reason: ExitReason) -> None:
        if self.exit_reason is None:
            _log.error("terminate took too long", actor=self.label, seconds=self.actor.terminate_timeout)
            self._die(reason)

    def _ended(self) -> None:
        self._stop_timer()
        if self.started is not None:
            self._resolve_start(StartFailed(self.label, self.exit_reason))
        super()._ended()

    def report_unexpected(self, message: object) -> None:
        """Say that a message came which the actor has no handler for."""
        _log.warning("unexpected message", actor=self.label, content=shown(message))

    def _fail_calls(self, reason: ExitReason) -> None:
        if self._last_reply is not None and reason == self.exit_reason:
            envelope, value = self._last_reply
            envelope.reply(value)
        unanswered = [item for item in self.mailbox.drain() if isinstance(item, CallEnvelope)]
        if self._current is not None:
            unanswered.append(self._current)
        unanswered += self._deferred or ()
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
