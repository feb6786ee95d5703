"""The behaviour users subclass: state, and what to do with each message."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, TypeVar, cast

from dspex._guard import shown
from dspex.runtime._exit import ExitReason
from dspex.runtime._next import Continue, Idle, Ignore, Next, Started, Stop
from dspex.runtime._priority import PriorityRef
from dspex.runtime._ref import ActorRef
from dspex.runtime._shadows import refuse_shadows

if TYPE_CHECKING:
    from dspex.runtime._actor_process import ActorProcess
    from dspex.runtime._messages import From
    from dspex.runtime._runtime import Runtime
    from dspex.runtime._task_process import TaskProcess
    from dspex.runtime._timers import Timer

__all__ = ["Actor"]

T = TypeVar("T")


class Actor:
    """
    A server with private state that handles one message at a time (OTP's ``gen_server``).

    ``__init__`` stores configuration and does nothing else; ``init`` acquires what the actor needs. A restart makes
    a new instance. A raised exception is a crash: the supervisor decides what follows.

    Attributes:
        trap_exit: Turn exit signals into ``Exit`` messages, and run ``terminate`` when the parent ends us.
        mailbox_limit: Refuse messages beyond this many waiting ones; ``None`` is unbounded.
        terminate_timeout: Seconds that ``terminate`` may take; ``None`` leaves that to who stops us.
        at_once: Handle a call in its caller's tick while the actor rests. Where many callers come in one turn of the
            loop and each has far to go, it is cheaper for them to be served together: False.
        hurried: Take the parent's exit signal before queued messages (supervisors do).
        ref_class: The class that ``ref`` is an instance of.
        kind: ``"supervisor"`` for those who keep others alive: by default they have all the time they need to stop.
    """

    trap_exit: ClassVar[bool] = False
    mailbox_limit: ClassVar[int | None] = None
    terminate_timeout: ClassVar[float | None] = 5.0
    at_once: ClassVar[bool] = True
    hurried: ClassVar[bool] = False
    ref_class: ClassVar[type[ActorRef]] = ActorRef
    kind: ClassVar[Literal["worker", "supervisor"]] = "worker"

    _dspex_process: ActorProcess = cast("ActorProcess", None)  # until it is started

    def __init_subclass__(cls, **options: object) -> None:
        """Refuse a class that would take the place of what the runtime calls: that breaks far from here, and late."""
        super().__init_subclass__(**options)
        refuse_shadows(cls, Actor)

    async def init(self) -> Continue | Idle | Ignore | Started | Stop | None:
        """Acquire resources; ``start`` returns when this has. Raising means that the start failed."""
        return None

    async def handle_call(self, message: Any, sender: From) -> Next:
        """Answer with ``Reply(value)``, or keep ``sender``, return ``NoReply()`` and ``sender.reply(value)`` later."""
        raise NotImplementedError(f"{type(self).__name__} does not handle calls ({shown(message)})")

    async def handle_cast(self, message: Any) -> Next:
        """React to a message that wants no answer."""
        raise NotImplementedError(f"{type(self).__name__} does not handle casts ({shown(message)})")

    async def handle_info(self, message: object) -> Next:
        """React to ``send``, ``Down``, ``Exit``, ``IdleTimeout``; by default the message is logged and dropped."""
        self._dspex_process.report_unexpected(message)
        return None

    async def handle_continue(self, argument: object) -> Next:
        """Do what ``Continue(argument)`` asked for."""
        raise NotImplementedError(f"{type(self).__name__} does not handle continue ({shown(argument)})")

    async def terminate(self, reason: ExitReason) -> None:
        """Say goodbye within ``terminate_timeout``; not after a kill, a failed ``init`` or an untrapped exit signal."""

    def describe(self) -> str:
        """Say in a few words how things stand, for ``tree()``; called at any time, so it must only look."""
        return ""

    @property
    def ref(self) -> ActorRef:
        """The handle others hold."""
        return self._dspex_process.ref

    @property
    def runtime(self) -> Runtime:
        """The runtime this actor lives in."""
        return self._dspex_process.runtime

    def own(self, resource: T, close: Callable[[T], object]) -> T:
        """
        Have ``close(resource)`` called when this actor ends, for whatever reason, kill included.

        ``close`` may be sync or async; the last resource owned is closed first, all within a bounded time.
        """
        self._dspex_process.own(resource, close)
        return resource

    def spawn_task(self, work: Callable[..., object], *args: object, label: str = "") -> TaskProcess:
        """
        Run ``work(*args)`` (a coroutine function) beside the mailbox, as a process this actor owns.

        The task ends with the actor; its end is not a message: reply from inside it, or let it send.
        """
        return self._dspex_process.spawn_task(work, *args, label=label)

    def priority_ref(self) -> PriorityRef:
        """Return a handle whose messages this actor handles before ordinary ones; give it to whom you trust."""
        return PriorityRef(self._dspex_process)

    def send_after(self, delay: float, message: object) -> Timer:
        """Send ``message`` to this actor's own ``handle_info`` in ``delay`` seconds; never after its death."""
        return self.runtime.send_after(delay, self.ref, message)
