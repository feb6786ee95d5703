"""A supervisor with named children: starts them in order, stops them in reverse, restarts by strategy."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Literal, cast

from dspex.errors import AlreadyRegistered, CallCycle, ChildError, SpecError, StartFailed
from dspex.runtime._actor import Actor
from dspex.runtime._child_spec import (
    AutoShutdown,
    Backoff,
    ChildSpec,
    Restart,
    RestartLimit,
    RestartStrategy,
    ShutdownPolicy,
)
from dspex.runtime._context import current_process
from dspex.runtime._exit import KILL, SHUTDOWN, ExitReason, Shutdown
from dspex.runtime._log import get_logger
from dspex.runtime._messages import Exit, From
from dspex.runtime._next import Ignore, Next, NoReply, Reply, Stop
from dspex.runtime._ref import ActorRef
from dspex.runtime._restart import BackoffState, RestartWindow, plan_restart, should_restart

if TYPE_CHECKING:
    from dspex._clock import TimerHandle
    from dspex.runtime._actor_process import ActorProcess

__all__ = ["ChildCounts", "ChildInfo", "ChildState", "Supervisor", "SupervisorRef"]

_log = get_logger("supervisor")

ChildState = Literal["running", "restarting", "stopped"]


@dataclass(frozen=True, slots=True)
class ChildInfo:
    """One child as its supervisor sees it; ``ref`` is None unless it runs."""

    id: str
    ref: ActorRef | None
    state: ChildState
    kind: Literal["worker", "supervisor"]
    restarts: int
    last_exit: ExitReason | None


@dataclass(frozen=True, slots=True)
class ChildCounts:
    """How many children are specified, alive, supervisors and workers."""

    specs: int
    active: int
    supervisors: int
    workers: int


class Child:
    """A supervisor's record of one child: its spec, and the incarnation that lives."""

    __slots__ = ("backoff", "delay", "last_exit", "process", "restarts", "spec", "state", "timer", "window")

    def __init__(self, spec: ChildSpec, backoff: Backoff | None) -> None:
        self.spec = spec
        self.process: ActorProcess | None = None
        self.state: ChildState = "stopped"
        self.restarts = 0
        self.last_exit: ExitReason | None = None
        self.backoff = BackoffState(backoff) if backoff is not None else None
        self.delay = BackoffState(spec.backoff) if spec.backoff is not None and backoff is None else None
        limit = spec.limit
        self.window = RestartWindow(limit.max_restarts, limit.max_seconds) if limit is not None else None
        self.timer: TimerHandle | None = None

    def info(self) -> ChildInfo:
        """Return the frozen view of this record."""
        ref = self.process.ref if self.process is not None and self.state == "running" else None
        return ChildInfo(self.spec.id, ref, self.state, self.spec.kind, self.restarts, self.last_exit)

    def cancel_timer(self) -> None:
        """Forget a restart that is due later."""
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None


# What a SupervisorRef says to its supervisor.


@dataclass(frozen=True, slots=True)
class _StartChild:
    spec: ChildSpec


@dataclass(frozen=True, slots=True)
class _TerminateChild:
    id: str


@dataclass(frozen=True, slots=True)
class _RestartChild:
    id: str


@dataclass(frozen=True, slots=True)
class _DeleteChild:
    id: str


@dataclass(frozen=True, slots=True)
class _GetChildSpec:
    id: str


@dataclass(frozen=True, slots=True)
class _WhichChildren:
    pass


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


class SupervisorRef(ActorRef):
    """A handle on a supervisor, with its management calls; they wait for as long as it takes."""

    __slots__ = ()

    async def start_child(self, spec: ChildSpec) -> ActorRef:
        """
        Start a child at the end of the start order and wait until it is initialised.

        Raises:
            StartFailed: Its ``init`` failed; the spec is discarded.
            SpecError: A child of this supervisor cannot be significant.
            ChildError: ``already_started`` or ``already_present``; or ``ignored``: its ``init`` returned Ignore, and
                the spec is kept (unless temporary or dynamic) for ``restart_child``.
            CallCycle: Called from below the supervisor while it waits for that very child.
        Cancellation: the child is started all the same.
        """
        return cast("ActorRef", await self._manage(_StartChild(spec)))

    async def terminate_child(self, child_id: str) -> None:
        """Stop a child and keep its spec; fine when it is stopped already. ChildError ``not_found`` otherwise."""
        await self._manage(_TerminateChild(child_id))

    async def restart_child(self, child_id: str) -> ActorRef:
        """Start a stopped child again. ChildError: ``running``, ``restarting``, ``not_found`` or ``ignored``."""
        return cast("ActorRef", await self._manage(_RestartChild(child_id)))

    async def delete_child(self, child_id: str) -> None:
        """Forget a stopped child. ChildError: ``running``, ``restarting`` or ``not_found``."""
        await self._manage(_DeleteChild(child_id))

    async def get_childspec(self, child_id: str) -> ChildSpec:
        """Return the spec of a child, defaults filled in. ChildError ``not_found``."""
        return cast("ChildSpec", await self._manage(_GetChildSpec(child_id)))

    async def which_children(self) -> tuple[ChildInfo, ...]:
        """Return the children, newest first."""
        return cast("tuple[ChildInfo, ...]", await self._manage(_WhichChildren()))

    async def count_children(self) -> ChildCounts:
        """Return how many children there are, of which kind, and how many live."""
        infos = await self.which_children()
        supervisors = sum(info.kind == "supervisor" for info in infos)
        active = sum(info.ref is not None for info in infos)
        return ChildCounts(len(infos), active, supervisors, len(infos) - supervisors)

    async def _manage(self, message: object) -> Any:
        starting, caller = self._process.starting, current_process()
        if starting is not None and starting.started is not None and caller is not None and starting.owns(caller):
            raise CallCycle((caller.label, self._process.label, starting.label))
        answer = await self.call(message, timeout=None)
        if isinstance(answer, Exception):
            raise answer
        return answer


class Supervisor(Actor):
    """
    Keeps named children alive (OTP's ``supervisor``).

    Args:
        children: Specs, in start order; ids are unique.
        strategy: Who is restarted with a child that crashed.
        max_restarts: Restarts allowed within ``max_seconds``; one more and the supervisor gives up: it stops its
            children and exits ``shutdown``, which its own supervisor sees.
        max_seconds: The length of that window.
        backoff: Restart without limit, ever more slowly, without blocking the mailbox (an extension of OTP, for
            services; needs ONE_FOR_ONE). ``max_restarts`` and the specs' own limits are then not used.
        auto_shutdown: End ``shutdown`` when significant children have ended by themselves.

    Raises:
        SpecError: A flag is not valid or two children share an id.
    """

    trap_exit: ClassVar[bool] = True
    hurried: ClassVar[bool] = True
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
        limit = RestartLimit(max_restarts, max_seconds)
        if backoff is not None and strategy is not RestartStrategy.ONE_FOR_ONE:
            raise SpecError("backoff", backoff, "None unless the strategy is ONE_FOR_ONE")
        self.strategy = strategy
        self.backoff = backoff
        self.auto_shutdown = auto_shutdown
        self._window = RestartWindow(limit.max_restarts, limit.max_seconds)
        self._owns_timers = False
        self._children: dict[str, Child] = {}
        self._by_pid: dict[int, Child] = {}
        for spec in children:
            if spec.id in self._children:
                raise SpecError("id", spec.id, "unique inside one supervisor")
            self._refuse_significance(spec)
            self._children[spec.id] = Child(spec, backoff)

    def records(self) -> tuple[Child, ...]:
        """The children's records, oldest first, for inspection."""
        return tuple(self._children.values())

    # --- callbacks ------------------------------------------------------------------------------------------

    async def init(self) -> Stop | None:
        """Start the children in order; on a failure stop those that run and fail the start."""
        for child in list(self._children.values()):
            failure = await self._start(child)
            if failure is not None:
                await self._stop_all()
                return Stop(Shutdown(failure))
            if child.process is None and child.spec.restart is Restart.TEMPORARY:
                del self._children[child.spec.id]
        return None

    async def handle_call(self, message: Any, sender: From) -> Next:
        """Carry out a management call; rules that refuse it are answers, not crashes."""
        if isinstance(message, _WhichChildren):
            return Reply(tuple(child.info() for child in reversed(self._children.values())))
        try:
            answer = await self._carry_out(message)
        except (ChildError, SpecError, StartFailed) as error:
            answer = error
        return Reply(answer)

    async def handle_cast(self, message: Any) -> Next:
        """Ignore casts: a supervisor has no use for them, and must not crash over one."""
        self._process.report_unexpected(message)
        return NoReply()

    async def handle_info(self, message: Any) -> Next:
        """React to the death of a child, and to notes to self."""
        if isinstance(message, Exit):
            return await self._child_exited(message)
        if isinstance(message, _Retry):
            return await self._retry(message.id)
        if isinstance(message, _Started):
            self._service_started(message)
        else:
            self._process.report_unexpected(message)
        return None

    async def terminate(self, reason: ExitReason) -> None:
        """Stop the children in reverse start order, each within its own shutdown time."""
        await self._stop_all()

    # --- management -----------------------------------------------------------------------------------------

    async def _carry_out(self, message: object) -> object:
        match message:
            case _StartChild(spec):
                return await self._add_child(spec)
            case _TerminateChild(child_id):
                await self._terminate(self._find(child_id))
                return None
            case _RestartChild(child_id):
                child = self._find(child_id)
                self._refuse_unless_stopped(child)
                failure = await self._start(child)
                if failure is not None:
                    raise failure
                return self._answer(child)
            case _DeleteChild(child_id):
                self._refuse_unless_stopped(self._find(child_id))
                del self._children[child_id]
                return None
            case _GetChildSpec(child_id):
                return self._find(child_id).spec
        raise NotImplementedError(f"a supervisor does not handle calls like {message!r}")

    def _find(self, child_id: str) -> Child:
        child = self._children.get(child_id)
        if child is None:
            raise ChildError(child_id, "not_found")
        return child

    @staticmethod
    def _refuse_unless_stopped(child: Child) -> None:
        if child.state != "stopped":
            raise ChildError(child.spec.id, child.state)

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
            raise failure
        if child.process is None and spec.restart is Restart.TEMPORARY:
            del self._children[spec.id]
        return self._answer(child)

    @staticmethod
    def _answer(child: Child) -> ActorRef:
        if child.process is None:
            raise ChildError(child.spec.id, "ignored")
        return child.process.ref

    async def _terminate(self, child: Child) -> None:
        await self._stop(child)
        child.state = "stopped"
        if child.spec.restart is Restart.TEMPORARY:
            self._children.pop(child.spec.id, None)

    # --- starting and stopping ------------------------------------------------------------------------------

    def _spawn(self, child: Child) -> ActorProcess | StartFailed:
        spec = child.spec
        try:
            actor = spec.start(*spec.args, **spec.kwargs)
            if not isinstance(actor, Actor):
                raise TypeError(f"{spec.id}: start returned {actor!r}, not an Actor")
            return self.runtime.spawn(actor, name=spec.name, label=spec.id, parent=self._process)
        except (Exception, AlreadyRegistered) as error:  # noqa: BLE001 - a constructor is user code: its failure is an answer
            failure = StartFailed(spec.id, error)
            failure.__cause__ = error
            return failure

    async def _start(self, child: Child) -> StartFailed | None:
        """
        Start ``child`` and wait for its ``init``; the parent's exit signal cuts the wait short.

        A child whose ``init`` returned Ignore has not failed: it stays stopped.
        """
        if self._process.parent_exit is not None:
            return StartFailed(child.spec.id, SHUTDOWN)
        process = self._spawn(child)
        if isinstance(process, StartFailed):
            return process
        self._process.starting = process
        try:
            outcome = await self.runtime.await_start(process, None)
        finally:
            self._process.starting = None
        if outcome is not None:
            if isinstance(outcome.reason, Ignore):
                child.state = "stopped"
                return None
            return outcome
        self._running(child, process)
        return None

    def _running(self, child: Child, process: ActorProcess) -> None:
        child.process = process
        child.state = "running"
        self._by_pid[process.pid] = child
        for state in (child.backoff, child.delay):
            if state is not None:
                state.started(self.runtime.clock.now())

    async def _stop(self, child: Child) -> None:
        process = self._release(child)
        if process is None:
            return
        if child.spec.shutdown is not ShutdownPolicy.BRUTAL_KILL:
            process.receive_exit(SHUTDOWN, self._process)
            if await process.wait_exit(child.spec.grace) is not None:
                child.last_exit = process.exit_reason
                return
        process.receive_exit(KILL, self._process)
        child.last_exit = await process.wait_exit(None)

    def _release(self, child: Child) -> ActorProcess | None:
        """Stop counting on ``child``: its exit, and what was to be done about an earlier one, are no news any more."""
        child.cancel_timer()
        if child.backoff is not None and child.spec.name is not None:
            self.runtime.no_longer_unavailable(child.spec.name)
        process, child.process = child.process, None
        if process is not None:
            self._by_pid.pop(process.pid, None)
            process.released = True
        return process

    async def _stop_all(self) -> None:
        for child in reversed(list(self._children.values())):
            await self._stop(child)
            child.state = "stopped"

    # --- restarting -----------------------------------------------------------------------------------------

    async def _child_exited(self, message: Exit) -> Next:
        child = self._by_pid.pop(message.ref.pid, None) if message.ref is not None else None
        if child is None:
            return None
        child.process = None
        child.state = "stopped"
        child.last_exit = message.reason
        if not should_restart(child.spec.restart, message.reason):
            if child.spec.restart is Restart.TEMPORARY:
                self._children.pop(child.spec.id, None)
            return self._shut_down_if_done(child)
        child.restarts += 1
        self._report_restart(child, message.reason)
        state = child.backoff or child.delay
        if state is not None:
            self._restart_later(child, state.next_delay(self.runtime.clock.now()))
            return None
        return await self._restart(child)

    def _shut_down_if_done(self, child: Child) -> Next:
        """End if the end of ``child``, by itself and for good, is what auto_shutdown waits for."""
        if not child.spec.significant:
            return None
        if self.auto_shutdown is AutoShutdown.ALL_SIGNIFICANT and any(
            each.spec.significant and each.state != "stopped" for each in self._children.values()
        ):
            return None
        return Stop(SHUTDOWN)

    async def _retry(self, child_id: str) -> Next:
        child = self._children.get(child_id)
        if child is None or child.state != "restarting":
            return None
        child.timer = None
        if child.backoff is not None:
            self._start_service(child)
            return None
        return await self._restart(child)

    async def _restart(self, child: Child) -> Next:
        """Restart ``child`` and whom the strategy says, for one unit of intensity; a failure is retried later."""
        window = child.window if child.window is not None else self._window
        if not window.allow(self.runtime.clock.now()):
            _log.error("too many restarts: supervisor gives up", supervisor=self._process.label, child=child.spec.id)
            if self.runtime.telemetry.active:
                metadata = {"supervisor": self._process.label, "child": child.spec.id}
                self.runtime.telemetry.emit("dspex.supervisor.gave_up", {"restarts": child.restarts}, metadata)
            return Stop(SHUTDOWN)
        alone = self.strategy is RestartStrategy.ONE_FOR_ONE  # then the siblings, who may be many, do not matter
        plan = plan_restart(self.strategy, () if alone else list(self._children), child.spec.id)
        for child_id in plan.stop:
            await self._terminate(self._children[child_id])
        for child_id in plan.start:
            each = self._children.get(child_id)
            if each is None or each.spec.restart is Restart.TEMPORARY:
                continue
            failure = await self._start(each)
            if failure is not None:
                each.state = "restarting"
                self._report_start_failure(each, failure)
                if each.delay is not None:
                    self._restart_later(each, each.delay.next_delay(self.runtime.clock.now()))
                else:
                    self._note(_Retry(child_id))
                return None
        return None

    def _note(self, note: object) -> None:
        """Queue a note to self, whatever bound the mailbox has: one that is lost is a child that is never restarted."""
        if self._process.alive:
            self._process.mailbox.put_always(note)

    # --- services: restart with backoff, never waiting in the mailbox ---------------------------------------

    def _restart_later(self, child: Child, delay: float) -> None:
        child.state = "restarting"
        child.cancel_timer()
        if not self._owns_timers:
            self._owns_timers = True
            self.own(self._children, _cancel_timers)
        clock, context = self.runtime.clock, self.runtime.context
        child.timer = clock.call_later(delay, self._note, _Retry(child.spec.id), context=context)

    def _start_service(self, child: Child) -> None:
        process = self._spawn(child)
        if isinstance(process, StartFailed):
            self._service_failed(child, process)
            return
        child.process = process
        if process.started is None:
            self._running(child, process)
            return
        child_id = child.spec.id
        process.started.add_done_callback(
            lambda future: self._note(_Started(child_id, process, future.result())), context=self.runtime.context
        )

    def _service_started(self, message: _Started) -> None:
        child = self._children.get(message.id)
        if child is None or child.process is not message.process:
            return
        if message.outcome is None:
            self._running(child, message.process)
            return
        child.process = None
        if isinstance(message.outcome, Ignore):
            child.state = "stopped"
        else:
            self._service_failed(child, message.outcome)

    def _service_failed(self, child: Child, failure: object) -> None:
        assert child.backoff is not None
        delay, unavailable = child.backoff.start_failed(self.runtime.clock.now())
        self._report_start_failure(child, failure)
        if unavailable and child.spec.name is not None:
            self.runtime.mark_unavailable(child.spec.name, failure)
        self._restart_later(child, delay)

    # --- reports --------------------------------------------------------------------------------------------

    def _report_restart(self, child: Child, reason: ExitReason) -> None:
        _log.warning("restarting", supervisor=self._process.label, child=child.spec.id, reason=str(reason))
        if self.runtime.telemetry.active:
            metadata = {"supervisor": self._process.label, "child": child.spec.id, "reason": reason}
            self.runtime.telemetry.emit("dspex.child.restart", {"restarts": child.restarts}, metadata)

    def _report_start_failure(self, child: Child, failure: object) -> None:
        _log.error("start failed", supervisor=self._process.label, child=child.spec.id, reason=str(failure))
        if self.runtime.telemetry.active:
            failures = child.backoff.failures if child.backoff is not None else 1
            metadata = {"supervisor": self._process.label, "child": child.spec.id, "reason": failure}
            self.runtime.telemetry.emit("dspex.child.start_failed", {"failures": failures}, metadata)


def _cancel_timers(children: dict[str, Child]) -> None:
    for child in children.values():
        child.cancel_timer()
