"""The receive loop of an actor: init, then one message at a time."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from dspex._guard import shown
from dspex.errors import StartFailed, WrongLoop
from dspex.runtime._actor import Actor
from dspex.runtime._at_once import StartedHandler
from dspex.runtime._deadlines import finite_timeout
from dspex.runtime._exit import NORMAL, Crashed, ExitReason, Shutdown, as_reason
from dspex.runtime._log import get_logger
from dspex.runtime._mailbox import Mailbox
from dspex.runtime._messages import (
    CAST,
    CallEnvelope,
    IdleTimeout,
    InfoEnvelope,
    StopEnvelope,
    SystemEnvelope,
    as_answer,
)
from dspex.runtime._next import NOTHING, Continue, Idle, Ignore, NoReply, Reply, Started, Stop
from dspex.runtime._process import Process, is_cancellation

if TYPE_CHECKING:
    from dspex._clock import TimerHandle
    from dspex.runtime._actor_process import ActorProcess
    from dspex.runtime._runtime import Runtime

__all__ = ["ActorLoop", "BadReturn", "ParentExit"]

_log = get_logger("runtime")

TURNS_BEFORE_YIELD = 128
"""Messages handled without suspending before the loop gets a turn (OTP's reductions, roughly)."""


class BadReturn(Exception):
    """A handler returned something that does not say what happens next."""

    def __init__(self, handler: str, value: object) -> None:
        super().__init__(f"{handler} returned {shown(value)}; expected Reply, NoReply, Stop, Continue or Idle")


class ParentExit:
    """The parent's exit signal to an actor that traps: taken by the loop, never shown to handlers."""

    __slots__ = ("reason",)

    def __init__(self, reason: ExitReason) -> None:
        self.reason = reason


class ActorLoop(Process):
    """The loop of one ``Actor`` instance; the base of its process."""

    __slots__ = (
        "_chain",
        "_current",
        "_deferred",
        "_final",
        "_last_reply",
        "_timer",
        "actor",
        "begun",
        "busy_since",
        "counted_from",
        "handled",
        "mailbox",
        "parent_exit",
        "resting",
        "start_info",
        "started",
        "starting",
        "suspended",
    )

    def __init__(self, runtime: Runtime, actor: Actor, parent: Process | None, label: str) -> None:
        super().__init__(runtime, parent, label, runtime.context)
        self.actor = actor
        self.mailbox = Mailbox(actor.mailbox_limit)
        self.handled = 0
        self.started: asyncio.Future[StartFailed | Ignore | None] | None = None  # while ``init`` runs
        self.parent_exit: ExitReason | None = None
        self.starting: ActorProcess | None = None
        self.start_info: object = None
        self.suspended = False
        self.resting: asyncio.Future[None] | None = None  # while it waits for whatever message comes
        self.begun: StartedHandler | None = None  # the call that a caller has begun to handle for us
        self.busy_since: float | None = None
        self.counted_from: tuple[float, int] | None = None  # statistics
        self._chain: tuple[Process, ...] = ()
        self._current: CallEnvelope | None = None
        self._deferred: dict[CallEnvelope, None] | None = None  # the oldest first
        self._final: ExitReason | None = None
        self._last_reply: tuple[CallEnvelope, object] | None = None
        self._timer: TimerHandle | None = None  # of being idle, later of terminate

    @property
    def stopping(self) -> bool:
        """True when the loop has decided to end: messages queued from now on are not handled."""
        return self._final is not None

    def chain(self) -> tuple[Process, ...]:
        """The processes that wait for the message being handled, itself last."""
        return (*self._chain, self)

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
        """True when nobody sleeps here (an item that the mailbox wakes before there is a task)."""
        return self.exit_reason is not None

    def set_result(self, _: None, /) -> None:
        """Begin, for the first message has come; WrongLoop when the loop has ended meanwhile."""
        if self.runtime.loop.is_closed():  # a task that cannot be scheduled would complain of that when it is collected
            raise WrongLoop
        self._begin()

    async def _main(self) -> None:
        """Init, then take and handle messages until something ends the actor; the only place that pops."""
        then = None if self.started is None else await self._init()
        runtime, mailbox, actor, now = self.runtime, self.mailbox, self.actor, self.runtime.clock.now
        turns = 0
        idle: Idle | None = None
        envelope: Any  # an envelope, or a user's own info message
        outcome: object
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
                    self.busy_since = mailbox.items = items = envelope = outcome = None  # keep nothing alive
                    # No await between the look into the mailbox above and this line: a message in between would wake
                    # nobody.
                    waiter = mailbox.waiter = runtime.create_future()
                    if idle is None and actor.at_once:
                        self.resting = waiter
                    try:
                        await waiter
                    except asyncio.CancelledError as cancelled:
                        # A caller has begun a handler here, and the cancellation came before this loop went on with
                        # it: it is meant for the handler.
                        if self.begun is None:
                            raise
                        self.begun.cancelled = cancelled
                    finally:
                        mailbox.waiter = self.resting = None
                    items = mailbox.items
                    if self.begun is not None:
                        then = await self._go_on()
                        continue
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
                    outcome = await actor.handle_call(envelope.message, envelope)
                    then = self._answered(envelope, outcome)
                elif kind is tuple and envelope and envelope[0] is CAST:
                    outcome = await actor.handle_cast(envelope[1])
                    if outcome is not None:
                        then = self._follow("handle_cast", outcome)
                elif kind is StopEnvelope or kind is ParentExit:
                    self._final = envelope.reason
                else:
                    if kind is InfoEnvelope:
                        envelope = envelope.message
                    then = self._follow("handle_info", await actor.handle_info(envelope))
        except BaseException as error:  # where a crash becomes a reason, whatever was raised
            if is_cancellation(error):
                raise
            self._final = Crashed(error)  # before the interrupt goes on: ``terminate`` runs after that, too
            self.pass_interrupt(error)

    async def _go_on(self) -> Continue | Idle | None:
        """Handle the rest of a call whose first step its caller has made for us."""
        begun, envelope = self.begun, self._current
        assert begun is not None
        assert envelope is not None
        self.begun = None
        self.busy_since = self.runtime.clock.now()
        return self._answered(envelope, await begun)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def begin_start(self, chain: tuple[Process, ...]) -> None:
        """Note that the processes of ``chain`` wait for ``init``, which can therefore not call them."""
        self._chain = chain

    async def _init(self) -> Continue | Idle | None:
        telemetry, clock = self.runtime.telemetry, self.runtime.clock
        began = clock.now() if telemetry.active else 0.0
        try:
            then = await self.actor.init()
        except BaseException as error:  # a failed init is an answer to the starter
            if is_cancellation(error):
                raise
            if self.exit_reason is None:
                self._fail_start(Crashed(error), error)
            self.pass_interrupt(error)
            return None
        if self.exit_reason is not None:
            return None  # told to die meanwhile, whatever it returned: the starter hears of it when it is dead
        self._chain = ()
        if isinstance(then, Started):
            self.start_info = then.info
            then = then.then
        if isinstance(then, Stop):
            self._fail_start(as_reason(then.reason), None)
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
            self.runtime._names.announce(self)  # type: ignore[arg-type]  # every loop is an actor's process

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
        except BaseException as error:  # noqa: BLE001 - the function is the caller's, and so is its failure
            self.runtime.contain(error)
            envelope.future.set_exception(as_answer(error))
        else:
            envelope.future.set_result(answer)

    def _answered(self, envelope: CallEnvelope, outcome: object) -> Continue | Idle | None:
        """Answer a call with what ``handle_call`` returned, and read what it wants next."""
        if self.exit_reason is not None:
            return None  # the caller hears of our death, not of our opinion
        self._current = None
        self._chain = ()
        if type(outcome) is Reply:
            if not envelope.future.done():
                envelope.future.set_result(outcome.value)
            return outcome.then
        if type(outcome) is NoReply:
            if not envelope.future.done():
                if self._deferred is None:
                    self._deferred = {}
                self._deferred[envelope] = None
                envelope.deferred_by = self._deferred
            return outcome.then
        self._current = envelope  # still to be answered, by our death at the latest
        if isinstance(outcome, Stop):
            self._final = as_reason(outcome.reason)
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
            self._final = as_reason(outcome.reason)
            return None
        raise BadReturn(handler, outcome)

    def _start_idle_timer(self, seconds: float) -> None:
        if finite_timeout(seconds) is None:  # for ever, which a timer cannot be set to
            return
        self._timer = self.runtime.clock.call_later(seconds, self._idle, context=self.runtime.context)

    def _idle(self) -> None:
        self._timer = None
        waiter = self.mailbox.waiter
        if waiter is not None and not waiter.done():
            self.mailbox.waiter = None
            waiter.set_result(None)
