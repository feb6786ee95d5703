"""Accepts requests, runs each in a process below the RequestSupervisor, and sees to it that each ends once."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

from dspex._clock import TimerHandle
from dspex.errors import ActorExited, AppClosed, DeadlineExceeded, RequestKilled
from dspex.protocols.executor import Failed, Ok, Outcome, RunOptions
from dspex.protocols.money import Account
from dspex.protocols.scope import RequestTotals, current_scope
from dspex.requests._admission import Admission, Ticket
from dspex.requests._dry_scope import DryScope
from dspex.requests._record import RequestRecord
from dspex.requests._request import Request
from dspex.requests._scope import RequestScope, Services
from dspex.requests._steps import StepPolicy
from dspex.runtime import (
    KILL,
    ActorRef,
    ChildSpec,
    Crashed,
    ExitReason,
    Normal,
    Other,
    Runtime,
    Shutdown,
    TaskProcess,
    TaskSupervisor,
    TaskSupervisorRef,
)
from dspex.telemetry import current_span

__all__ = ["REQUESTS", "LiveRequest", "RequestRunner", "Services"]

REQUESTS = "requests"
"""The name under which the RequestSupervisor is registered."""

CANCEL_TO_KILL = 0.5
"""Seconds between the cancellation of a request and its kill; its caller is released as long again after that."""


class RequestRunner:
    """
    The requests of one App.

    Args:
        runtime: Where they run.
        services: The services they may use.
        policy: The policy for restarts of their steps.
        max_running: Requests at once; nested ones run in their parent's place.
        max_waiting: Requests that wait for a place; one more is Overloaded.
    """

    def __init__(
        self,
        runtime: Runtime,
        services: Services,
        *,
        policy: StepPolicy,
        max_running: int = 1_000,
        max_waiting: int = 10_000,
    ) -> None:
        self.runtime = runtime
        self.services = services
        self.policy = policy
        self.admission = Admission(max_running, max_waiting)
        self.supervisor: ActorRef | None = None
        """The RequestSupervisor that was found last; it may be dead."""
        self.live: dict[str, LiveRequest] = {}
        self.completed = 0
        self.failed = 0
        self.watcher: Callable[[LiveRequest], object] | None = None
        """Is told of each request that has ended; while there is one, requests write their steps down."""
        self.cancelled = 0
        self.closed_by: Callable[[], Exception | None] = _nothing
        """Returns the error of requests that died with the whole App, once that has happened."""
        self._closed = False
        self._number = 0
        self._idle: list[asyncio.Future[None]] = []

    @property
    def accepted(self) -> int:
        """The requests that were taken so far: each is alive, or has ended in one of the three ways."""
        return self._number

    @staticmethod
    def spec() -> ChildSpec:
        """Return the child spec of the RequestSupervisor."""
        return ChildSpec(REQUESTS, TaskSupervisor, name=REQUESTS)

    def start(self, program: object, inputs: Mapping[str, object], options: RunOptions) -> Request[Any]:
        """
        Accept a request; its process is spawned in this tick when there is a place.

        Raises:
            AppClosed: No more requests are taken.
            Overloaded: Too many wait.
        """
        if self._closed:
            raise AppClosed
        parent = current_scope.get(None)
        outer = parent if isinstance(parent, RequestScope) else None
        if outer is not None and outer.dry is not None:
            options = replace(options, dry=outer.dry)  # whatever App it is of: nothing is sent from a dry run
        now = self.runtime.clock.now()
        self._number += 1
        number = f"r{self._number}"
        account = options.paying_account or self.services.account
        if outer is not None or options.budget is not None:
            account = self._account(number, options, outer)
        record = RequestRecord(number, program, inputs, options, now, account)
        if self.watcher is not None:
            record.steps = []
        if outer is not None:  # of another App, maybe: its deadline binds us, its place is not ours
            record.deadline = min(record.deadline, outer.deadline)
        live = LiveRequest(self, record, takes_place=outer is None or outer.runtime is not self.runtime)
        live.begin()
        return Request(live)

    def _account(self, number: str, options: RunOptions, outer: RequestScope | None) -> Account:
        """Return who pays: the request itself where it has a budget, below its parent, its job or the App."""
        above = options.paying_account or self.services.account
        if outer is not None and outer.runtime is self.runtime:
            above = outer.account
        return above if options.budget is None else Account(f"request {number}", options.budget, above)

    async def run(self, program: object, inputs: Mapping[str, object], options: RunOptions) -> Outcome:
        """Run one program to its outcome: ``protocols.Executor`` on this loop."""
        try:
            request = self.start(program, inputs, options)
        except AppClosed as error:
            return Failed(error)
        return await request.outcome()

    def close_intake(self) -> None:
        """Refuse new requests from now on."""
        self._closed = True

    def stop_all(self, reason: ExitReason) -> None:
        """End every live request with ``reason``."""
        for live in tuple(self.live.values()):
            live.stop(reason)

    async def drained(self, timeout: float) -> bool:
        """Wait until no request lives; False after ``timeout`` seconds."""
        if not self.live:
            return True
        future: asyncio.Future[None] = self.runtime.loop.create_future()
        self._idle.append(future)
        timer = self.runtime.clock.call_later(timeout, _finish, future, context=self.runtime.context)
        try:
            await future
        finally:
            timer.cancel()
        return not self.live

    def _note_end(self, live: LiveRequest) -> None:
        self.live.pop(live.record.id, None)
        if live.cancelled and live.error is not None:  # given up
            self.cancelled += 1
        elif live.error is None:
            self.completed += 1
        else:
            self.failed += 1
        if self.watcher is not None:
            self.watcher(live)
        if not self.live:
            for future in self._idle:
                _finish(future)
            self._idle.clear()


class LiveRequest:
    """One request between acceptance and end: its process, its timers and who waits for it."""

    __slots__ = (
        "_context",
        "_parent",
        "_process",
        "_runner",
        "_scope",
        "_takes_place",
        "_ticket",
        "_timer",
        "_unpark",
        "_waiters",
        "_why",
        "cancelled",
        "ended",
        "error",
        "record",
        "value",
    )

    def __init__(self, runner: RequestRunner, record: RequestRecord, *, takes_place: bool) -> None:
        self.record = record
        self.ended = False
        self.value: Any = None  # what forward returned
        self.error: Exception | None = None
        self.cancelled = False
        self._runner = runner
        self._takes_place = takes_place
        self._ticket: Ticket | None = None
        self._process: TaskProcess | None = None
        self._scope: RequestScope | None = None
        self._unpark: Callable[[], None] | None = None
        self._why: ExitReason | None = None
        self._waiters: list[asyncio.Future[None]] = []
        self._parent = current_span.get()
        self._context = contextvars.copy_context()
        runtime, left = runner.runtime, max(0.0, record.deadline - record.started)
        self._timer: TimerHandle = runtime.clock.call_later(left, self._out_of_time, context=runtime.context)

    @property
    def patience(self) -> float:
        """Seconds after a stop until whoever waits is released in any case."""
        return 2 * CANCEL_TO_KILL

    @property
    def waits(self) -> bool:
        """True while it waits for a place."""
        return self._ticket is not None and not self._ticket.gone

    @property
    def was_given_up(self) -> bool:
        """True when it ended because its caller wanted it no longer; one that ended by itself before did so."""
        return self.cancelled and self.error is not None

    def totals(self) -> RequestTotals:
        """Return what the request took so far."""
        return self.record.totals(self._runner.runtime.clock.now())

    def outcome(self) -> Outcome:
        """Return how the request has ended, as a value."""
        record, totals = self.record, self.totals()
        if self.error is not None:
            return Failed(self.error, record.inputs, totals)
        return Ok(self.value, record.inputs, record.trace() if record.options.trace else (), totals)

    def begin(self) -> None:
        """Take a place, or wait for one."""
        try:
            if self._takes_place:
                self._ticket = self._runner.admission.enter(self.record.options.priority, self._launch)
            if self._ticket is None:
                self._launch()
        except BaseException:  # whatever it is: undone here, then raised on
            self._timer.cancel()
            raise
        self._runner.live[self.record.id] = self
        if self._runner.runtime.telemetry.active:
            self._emit("start", {}, {})

    # --- the process ----------------------------------------------------------------------------------------

    def _launch(self, supervisor: ActorRef | None = None) -> None:
        """Spawn the process below the RequestSupervisor; while that is being restarted, wait for its name."""
        self._unpark = None
        if self.ended or self._why is not None:
            return
        record = self.record
        runner, dry = self._runner, record.options.dry
        if supervisor is None:
            supervisor = runner.supervisor
            if supervisor is None or supervisor.exit_reason is not None:
                supervisor = runner.runtime.whereis(REQUESTS)
                if supervisor is None:
                    self._unpark = runner.runtime.when_named(REQUESTS, self._launch)
                    return
        runner.supervisor = supervisor
        if dry is None:
            scope = RequestScope(runner.runtime, runner.services, record, runner.policy)
        else:
            scope = DryScope(runner.runtime, runner.services, record, runner.policy, dry)
        self._scope = scope
        context = self._context if record.resubmitted == 0 else self._context.copy()
        context.run(current_scope.set, scope)
        context.run(current_span.set, record.id)
        process = cast("TaskSupervisorRef", supervisor).spawn(
            _enter, record, label=f"{record.id} {type(record.program).__name__}", context=context
        )
        scope.process = process
        # Before `on_dead`, which calls back at once when the process is dead already: that one asks whose it is.
        self._process = process
        process.on_dead(partial(self._process_ended, process))

    def _process_ended(self, process: TaskProcess) -> None:
        if self._scope is not None:
            self._scope.close()
            self._scope = None
        if process is not self._process or self.ended:  # the caller was released before this process died
            return
        reason = process.exit_reason
        assert reason is not None
        record = self.record
        unstarted = not record.entered and not isinstance(reason, (Normal, Crashed))
        if unstarted and self._why is None and record.resubmitted == 0:
            record.resubmitted = 1
            self._emit("resubmit", {}, {"reason": reason})
            self._launch()
            return
        if isinstance(reason, Normal):
            self._end(process.result, None)
        elif isinstance(reason, Crashed):
            self._end(None, _as_exception(reason.error))
        else:
            self._end(None, self._error_for(reason))

    def _error_for(self, reason: ExitReason) -> Exception:
        """Return what the caller of a request that did not end by itself is told."""
        self.record.ended = self._runner.runtime.clock.now()  # so that what was on the wire is among its attempts
        why = self._why if self._why is not None else reason
        if isinstance(why, Other) and isinstance(why.value, Exception):
            return self._with_last_attempt(why.value)
        closed = self._runner.closed_by()
        return closed if closed is not None else RequestKilled(self.record.id, why, self.record.attempts)

    def _with_last_attempt(self, error: Exception) -> Exception:
        """Return the end of a request that was out of time with what used it up: a failure, or a silent server."""
        if type(error) is not DeadlineExceeded:
            return error
        # The deadline itself broke off those that are cancelled: they say nothing new.
        last = next((each for each in reversed(self.record.attempts) if each.outcome != "cancelled"), None)
        if last is not None and last.outcome != "ok" and last.message:
            return DeadlineExceeded(error.deadline, last.message)
        asked = next((log for log in reversed(self.record.logs) if log.on_wire and log.server), None)
        if asked is None or asked.sent_at is None or self.record.ended is None:
            return error
        waited = self.record.ended - asked.sent_at
        return DeadlineExceeded(error.deadline, f"{asked.server} had not answered in whole after {waited:.3g} s")

    # --- the end --------------------------------------------------------------------------------------------

    def _out_of_time(self) -> None:
        self.stop(Other(DeadlineExceeded(self.record.options.deadline)))

    def stop(self, why: ExitReason) -> None:
        """Cancel now, kill after half a second, release the caller half a second later; the first reason counts."""
        if self.ended or self._why is not None:
            return
        # Noted before the process is told: it may die at once, and `_process_ended` looks here for the reason.
        self._why = why
        self.cancelled = isinstance(why, Shutdown)
        self._timer.cancel()
        process = self._process
        if process is None or process.dead:
            self._end(None, self._error_for(why))
            return
        process.receive_exit(why, None)
        self._timer = self._after(CANCEL_TO_KILL, self._kill)

    def _kill(self) -> None:
        if not self.ended and self._process is not None:
            self._process.receive_exit(KILL, None)
            self._timer = self._after(CANCEL_TO_KILL, self._give_up)

    def _give_up(self) -> None:
        """Release the caller although something below still refuses to die; the fence reports it."""
        if not self.ended and self._process is not None:
            reason = self._process.exit_reason or Shutdown()
            self._end(None, self._error_for(reason))

    def _end(self, value: object, error: Exception | None) -> None:
        runner = self._runner
        self.record.ended = runner.runtime.clock.now()
        # First of all: whatever is called below may come back here, and a request ends once.
        self.ended, self.value, self.error = True, value, error
        self._timer.cancel()
        if self._unpark is not None:
            self._unpark()
        if self._scope is not None:
            self._scope.close()
            self._scope = None
        if self._ticket is not None and not self._ticket.gone:
            runner.admission.withdraw(self._ticket)
        elif self._takes_place:
            runner.admission.leave()
        # The place is given back before the callers wake: one that runs the next program finds it free.
        runner._note_end(self)  # noqa: SLF001 - a request and its runner are two halves of one ledger
        if runner.runtime.telemetry.active:
            self._emit_end()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()

    async def wait(self) -> None:
        """Return when the request has ended; any number may wait."""
        if not self.ended:
            await self.end_of()

    def end_of(self) -> asyncio.Future[None]:
        """Return what is done when the request, which lives, has ended."""
        future: asyncio.Future[None] = self._runner.runtime.loop.create_future()
        self._waiters.append(future)
        return future

    def when_ended(self, callback: Callable[[], object]) -> None:
        """Have ``callback`` called when the request has ended."""
        future: asyncio.Future[None] = self._runner.runtime.loop.create_future()
        future.add_done_callback(lambda _: callback())
        if self.ended:
            future.set_result(None)
        else:
            self._waiters.append(future)

    # --- small things ---------------------------------------------------------------------------------------

    def _after(self, delay: float, callback: Callable[[], None]) -> TimerHandle:
        runtime = self._runner.runtime
        return runtime.clock.call_later(max(0.0, delay), callback, context=runtime.context)

    def _emit(self, event: str, measurements: Mapping[str, float], metadata: Mapping[str, object]) -> None:
        telemetry = self._runner.runtime.telemetry
        if not telemetry.active:
            return
        program = self.record.program
        agent = getattr(program, "is_agent", False)
        base = {"request": self.record.id, "program": type(program).__name__, "agent": agent}
        about = {**base, "span": self.record.id, "parent": self._parent, **metadata}
        captured: Mapping[str, object] = {}
        if telemetry.captures:
            captured = {"inputs": self.record.inputs} if event == "start" else {"outputs": self.value}
        # In the caller's variables from the start to the end; ``forward`` sees what a handler sets at the start.
        self._context.run(telemetry.emit, f"dspex.request.{event}", measurements, about, captured)

    def _emit_end(self) -> None:
        totals = self.totals()
        measurements = {
            "duration": totals.duration,
            "attempts": float(len(self.record.attempts)),
            "cached_calls": float(totals.cached_calls),
            "input_tokens": float(totals.usage.input_tokens),
            "output_tokens": float(totals.usage.output_tokens),
        }
        if totals.cost is not None:
            measurements["cost"] = float(totals.cost)
        if self.was_given_up:
            self._emit("stop", measurements, {"outcome": "cancelled"})
        elif self.error is None:
            self._emit("stop", measurements, {"outcome": "completed"})
        else:
            self._emit("exception", measurements, {"outcome": "failed", "error": self.error})


def _enter(record: RequestRecord) -> Awaitable[object]:
    """Call ``forward``; from the first line on, the request is never run again."""
    record.entered = True  # before the first line of user code, which may have effects that must not happen twice
    forward = cast("Callable[..., Awaitable[object]]", record.program.forward)  # type: ignore[attr-defined]  # a program
    return forward(**record.inputs)


def _as_exception(error: BaseException) -> Exception:
    """Return the error a program ended with; exits of the interpreter become an error of its own."""
    if isinstance(error, Exception):
        return error
    wrapped = ActorExited("forward", error)
    wrapped.__cause__ = error
    return wrapped


def _nothing() -> None:
    return None


def _finish(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
