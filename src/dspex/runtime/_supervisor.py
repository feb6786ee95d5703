"""A supervisor with named children: starts them in order, stops them in reverse, restarts by strategy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from dspex._guard import exact_text, shown
from dspex.errors import ChildError, SpecError, StartFailed
from dspex.runtime._announced import places_of
from dspex.runtime._child_spec import (
    AutoShutdown,
    Backoff,
    ChildSpec,
    Restart,
    RestartLimit,
    RestartStrategy,
)
from dspex.runtime._children import Child
from dspex.runtime._exit import SHUTDOWN, ExitReason, Shutdown
from dspex.runtime._messages import Exit, From
from dspex.runtime._next import Ignore, Next, Reply, Stop
from dspex.runtime._parent import Parent
from dspex.runtime._ref import ActorRef
from dspex.runtime._reports import report_giving_up, report_restart, report_start_failure
from dspex.runtime._restart import RestartWindow, ends_supervisor, plan_restart, should_restart
from dspex.runtime._supervisor_ref import (
    DeleteChild,
    GetChildSpec,
    Management,
    RestartChild,
    StartChild,
    SupervisorRef,
    TerminateChild,
    TerminateRef,
    WhichChild,
    WhichChildren,
)

if TYPE_CHECKING:
    from dspex.runtime._actor_process import ActorProcess

__all__ = ["Supervisor"]


@dataclass(frozen=True, slots=True)
class _Retry:
    """The supervisor's note to itself to try a start again."""

    id: str


@dataclass(frozen=True, slots=True)
class _Started:
    """A start that the supervisor did not wait for has ended."""

    id: str
    process: ActorProcess
    outcome: object


class Supervisor(Parent):
    """
    Keeps named children alive (OTP's ``supervisor``).

    Args:
        children: Specs, in start order; ids are unique.
        strategy: The children that are restarted with a child that crashed.
        max_restarts: Restarts allowed within ``max_seconds``; one more and the supervisor gives up: it stops its
            children and exits ``shutdown``, which its own supervisor sees.
        max_seconds: The length of that window.
        backoff: Restart without limit, ever more slowly, without blocking the mailbox (an extension of OTP, for
            services; needs ONE_FOR_ONE). ``max_restarts`` and the specs' own limits are then not used.
        auto_shutdown: End ``shutdown`` when significant children have ended by themselves.

    Raises:
        SpecError: A flag is not valid or two children share an id.
    """

    kind: ClassVar[Literal["worker", "supervisor"]] = "supervisor"
    terminate_timeout: ClassVar[float | None] = None
    ref_class: ClassVar[type[ActorRef]] = SupervisorRef

    def __init__(
        self,
        children: Iterable[ChildSpec] = (),
        *,
        strategy: RestartStrategy = RestartStrategy.ONE_FOR_ONE,
        max_restarts: int = 3,
        max_seconds: float = 5.0,
        backoff: Backoff | None = None,
        auto_shutdown: AutoShutdown = AutoShutdown.NEVER,
    ) -> None:
        if not isinstance(strategy, RestartStrategy):
            raise SpecError("strategy", strategy, "a member of RestartStrategy")
        if not isinstance(auto_shutdown, AutoShutdown):
            raise SpecError("auto_shutdown", auto_shutdown, "a member of AutoShutdown")
        super().__init__()
        limit = RestartLimit(max_restarts, max_seconds)
        if backoff is not None and strategy is not RestartStrategy.ONE_FOR_ONE:
            raise SpecError("backoff", backoff, "None unless the strategy is ONE_FOR_ONE")
        self.strategy = strategy
        self.backoff = backoff
        self.auto_shutdown = auto_shutdown
        self._window = RestartWindow(limit.max_restarts, limit.max_seconds)
        self._owns_timers = False
        for spec in children:
            if spec.id in self._children:
                raise SpecError("id", spec.id, "unique inside one supervisor")
            self._refuse_significance(spec)
            self._children[spec.id] = Child(spec, backoff)

    # --- callbacks ------------------------------------------------------------------------------------------

    async def init(self) -> Stop | None:
        """Start the children in order; on a failure stop those that run and fail the start."""
        for child in self._children.values():
            self._expect(child)  # before the first of them starts: its init may call the others, and parks then
        for child in list(self._children.values()):
            failure = await self._start(child)
            if failure is not None:
                await self._stop_all()
                return Stop(Shutdown(failure))
            if child.process is None and child.spec.restart is Restart.TEMPORARY:
                del self._children[child.id]
        return None

    async def handle_call(self, message: object, sender: From) -> Next:
        """Carry out a management call; rules that refuse it are answers, not crashes."""
        if type(message) is WhichChildren:
            return Reply(tuple(child.info() for child in reversed(self._children.values())))
        if not issubclass(type(message), Management):
            return self.refuse(message, sender)
        try:
            answer = await self._carry_out(message)
        except Exception as error:  # noqa: BLE001 - a mistake in what is asked must not end the children
            answer = error
        return Reply(answer)

    async def handle_info(self, message: object) -> Next:
        """React to the death of a child, and to notes to self."""
        if type(message) is Exit:
            return await self._child_exited(message)
        if type(message) is _Retry:
            return await self._retry(message.id)
        if type(message) is _Started:
            self._service_started(message)
        else:
            self._dspex_process.report_unexpected(message)
        return None

    async def terminate(self, reason: ExitReason) -> None:
        """Stop the children in reverse start order, each within its own shutdown time."""
        await self._stop_all()

    # --- management -----------------------------------------------------------------------------------------

    async def _carry_out(self, message: object) -> object:
        match message:
            case StartChild(spec):
                if not isinstance(spec, ChildSpec):
                    raise SpecError("spec", spec, "a ChildSpec")
                return await self._add_child(spec)
            case TerminateChild(which) | TerminateRef(which):
                child = self._find(which)
                self._no_longer_expect(child)
                await self._terminate(child)
                return None
            case RestartChild(which):
                child = self._find(which)
                self._refuse_unless_stopped(child)
                failure = await self._start(child)
                if failure is not None:
                    self._no_longer_expect(child)
                    raise failure
                return self._answer(child)
            case DeleteChild(which):
                child = self._find(which)
                self._refuse_unless_stopped(child)
                del self._children[child.id]
                return None
            case GetChildSpec(which):
                return self._spec_of(self._find(which))
            case WhichChild(which):
                return self._find(which).info()
        raise SpecError("message", message, f"a management call that {type(self).__name__} knows")

    def _find(self, which: str | ActorRef) -> Child:
        child = None
        text = exact_text(which) if issubclass(type(which), str) else None  # type: ignore[arg-type]  # just asked
        if text is not None:
            child = self._children.get(text)
        elif issubclass(type(which), ActorRef):
            child = self._found(which)  # type: ignore[arg-type]  # just asked
        if child is None:
            raise ChildError(shown(which) if text is None else text, "not_found")
        return child

    @staticmethod
    def _refuse_unless_stopped(child: Child) -> None:
        if child.state != "stopped":
            raise ChildError(child.id, child.state)

    def _refuse_significance(self, spec: ChildSpec) -> None:
        if spec.significant and self.auto_shutdown is AutoShutdown.NEVER:
            raise SpecError("significant", spec.significant, "False under a supervisor that never shuts down by itself")

    async def _add_child(self, spec: ChildSpec) -> object:
        self._refuse_significance(spec)
        known = self._children.get(spec.id)
        if known is not None:
            if known.state == "running" and known.process is not None:
                raise ChildError(spec.id, "already_started", known.process.ref)
            raise ChildError(spec.id, "already_present")
        child = Child(spec, self.backoff)
        self._children[spec.id] = child
        failure = await self._start(child)
        if failure is not None:
            self._children.pop(spec.id, None)
            self._no_longer_expect(child)
            raise failure
        if child.process is None and spec.restart is Restart.TEMPORARY:
            del self._children[spec.id]
        return self._answer(child)

    @staticmethod
    def _answer(child: Child) -> ActorRef:
        if child.process is None:
            raise ChildError(child.id, "ignored")
        return child.process.ref

    async def _terminate(self, child: Child) -> None:
        await self._stop(child)
        child.state = "stopped"
        if child.spec.restart is Restart.TEMPORARY:
            self._children.pop(child.id, None)
            self._no_longer_expect(child)

    # --- restarting -----------------------------------------------------------------------------------------

    async def _child_exited(self, message: Exit) -> Next:
        child = self._dead_child(message)
        if child is None:
            return None
        child.process = None
        child.state = "stopped"
        child.last_exit = message.reason
        if not should_restart(child.spec.restart, message.reason):
            self._by_pid.pop(child.pid, None)
            self._no_longer_expect(child)
            if child.spec.restart is Restart.TEMPORARY:
                self._children.pop(child.id, None)
            return self._shut_down_if_done(child)
        child.restarts += 1
        report_restart(self._dspex_process, child, message.reason, self._window_of(child))
        state = child.backoff or child.delay
        if state is not None:
            self._restart_later(child, state.next_delay(self.runtime.clock.now()))
            return None
        return await self._restart(child)

    def _shut_down_if_done(self, child: Child) -> Next:
        """End if the end of ``child``, by itself and for good, is what auto_shutdown waits for."""
        active = (each.spec.significant and each.state != "stopped" for each in self._children.values())
        if not ends_supervisor(self.auto_shutdown, significant=child.spec.significant, others_active=active):
            return None
        return Stop(SHUTDOWN)

    async def _retry(self, child_id: str) -> Next:
        child = self._children.get(child_id)
        if child is None or child.state != "restarting":
            return None  # somebody terminated or restarted it while the note was in the mailbox
        child.timer = None
        if child.backoff is not None:
            self._start_service(child)
            return None
        return await self._restart(child)

    async def _restart(self, child: Child) -> Next:
        """Restart ``child`` and whom the strategy says, for one unit of intensity; a failure is retried later."""
        window = self._window_of(child)
        if not window.allow(self.runtime.clock.now()):
            report_giving_up(self._dspex_process, child, window)
            return Stop(SHUTDOWN)
        alone = self.strategy is RestartStrategy.ONE_FOR_ONE  # then the siblings, who may be many, do not matter
        plan = plan_restart(self.strategy, () if alone else list(self._children), child.id)
        for child_id in plan.stop:
            await self._terminate(self._children[child_id])
        for child_id in plan.start:
            each = self._children.get(child_id)
            if each is None or each.spec.restart is Restart.TEMPORARY:
                continue
            failure = await self._start(each)
            if failure is not None:
                each.state = "restarting"
                report_start_failure(self._dspex_process, each, failure)
                if each.delay is not None:
                    self._restart_later(each, each.delay.next_delay(self.runtime.clock.now()))
                else:
                    self._note(_Retry(child_id))
                return None
        return None

    def _window_of(self, child: Child) -> RestartWindow:
        return child.window if child.window is not None else self._window

    def _note(self, note: object) -> None:
        """Queue a note to self, whatever bound the mailbox has: one that is lost is a child that is never restarted."""
        if self._dspex_process.alive:
            self._dspex_process.mailbox.put_always(note)

    # --- services: restart with backoff, never waiting in the mailbox ---------------------------------------

    def _restart_later(self, child: Child, delay: float) -> None:
        child.state = "restarting"
        child.cancel_timer()
        if not self._owns_timers:
            self._owns_timers = True
            self.own(self._children, _cancel_timers)
        clock, context = self.runtime.clock, self.runtime.context
        child.timer = clock.call_later(delay, self._note, _Retry(child.id), context=context)

    def _start_service(self, child: Child) -> None:
        process = self._spawn(child)
        if isinstance(process, StartFailed):
            self._service_failed(child, process)
            return
        child.process = process  # before the outcome is known: a shutdown meanwhile must find it to stop it
        if process.started is None:
            self._running(child, process)
            return
        child_id = child.id
        process.started.add_done_callback(
            lambda future: self._note(_Started(child_id, process, future.result())), context=self.runtime.context
        )

    def _service_started(self, message: _Started) -> None:
        child = self._children.get(message.id)
        if child is None or child.process is not message.process:
            return  # terminated, or started anew, while the note was in the mailbox
        if message.outcome is None:
            self._running(child, message.process)
            return
        child.process = None
        if isinstance(message.outcome, Ignore):
            child.state = "stopped"
            self._no_longer_expect(child)
        else:
            self._service_failed(child, message.outcome)

    def _service_failed(self, child: Child, failure: object) -> None:
        assert child.backoff is not None
        delay, unavailable = child.backoff.start_failed(self.runtime.clock.now())
        report_start_failure(self._dspex_process, child, failure)
        if unavailable:
            for parking, key in places_of(self.runtime, child.spec):
                parking.mark_unavailable(key, failure)
        self._restart_later(child, delay)


def _cancel_timers(children: dict[str, Child]) -> None:
    for child in children.values():
        child.cancel_timer()
