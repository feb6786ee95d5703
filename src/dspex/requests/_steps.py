"""A step: one call to the world, as a process; the coroutine that awaits it performs its restarts."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar, cast

from dspex.errors import ActorExited, NoSuchActor, ScopeClosed, StepCrashed
from dspex.runtime import Crashed, ExitReason, Normal, Runtime

if TYPE_CHECKING:
    from dspex.requests._record import RequestRecord
    from dspex.requests._scope import RequestScope

__all__ = ["StepPolicy", "noted_step", "run_step"]

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class StepPolicy:
    """The number of times a step may be restarted, and the wait before: full jitter up to ``cap`` seconds."""

    max_restarts: int = 3
    base: float = 0.02
    cap: float = 1.0


async def run_step(scope: RequestScope, name: str, work: Callable[[], Awaitable[R]], *, restartable: bool) -> R:
    """
    Run ``work`` as a process below the request's own and return its result.

    It is started again only after a runtime exit (it was killed, or a service died under it), only when
    ``restartable``, and within the deadline. A kill costs one of ``max_restarts``; a service that died under the
    step costs none, because its supervisor already limits how fast it comes back.

    Raises:
        ScopeClosed: The request has ended; nothing was started.
        StepCrashed: It was killed too often, or may not be repeated.
        Exception: Any exception of ``work``, unchanged.
    Cancellation: the step is dead, its sockets closed, before this returns.
    """
    owner, runtime, policy = scope.process, scope.runtime, scope.policy
    if owner is None or owner.exit_reason is not None:
        raise ScopeClosed(scope.request_record.id)
    killed = service_deaths = 0
    while True:
        step = runtime.spawn_task(owner, work, label=name, context=contextvars.copy_context())
        try:
            reason = await step.wait_newborn()
        except asyncio.CancelledError:
            await runtime.kill_tasks((step,))
            raise
        if isinstance(reason, Normal):
            return cast("R", step.result)
        if isinstance(reason, Crashed):
            if not _service_died(reason.error):
                raise reason.error
            service_deaths += 1
        else:
            killed += 1
        if not restartable or killed > policy.max_restarts:
            raise StepCrashed(name, reason, killed + service_deaths - 1)
        await _before_restart(runtime, scope.request_record, name, reason, killed + service_deaths, policy)


def noted_step(
    scope: RequestScope, name: str, work: Callable[[], Awaitable[R]], *, restartable: bool, retriever: str = ""
) -> Coroutine[object, object, R]:
    """Run a step as ``run_step`` does, and write it down where somebody watches: it is not an LM call."""
    running = run_step(scope, name, work, restartable=restartable)
    record = scope.request_record
    return running if record.steps is None else _noted(scope.runtime, record, name, running, retriever)


async def _noted(runtime: Runtime, record: RequestRecord, name: str, running: Awaitable[R], retriever: str) -> R:
    """Await a step, and write down for whoever watches when it began, and how and when it ended."""
    note = record.note_step(name, runtime.clock.now(), None)
    note.retriever = retriever
    try:
        result = await running
    except BaseException as error:  # whatever it is: noted, then raised on
        note.end(runtime.clock.now(), error)
        raise
    note.ended = runtime.clock.now()
    return result


def _service_died(error: BaseException) -> bool:
    return isinstance(error, (ActorExited, NoSuchActor))


async def _before_restart(
    runtime: Runtime, record: RequestRecord, name: str, reason: ExitReason | None, number: int, policy: StepPolicy
) -> None:
    delay = runtime.random.random() * min(policy.cap, policy.base * 2.0 ** min(number - 1, 30))
    record.note_restart(name)
    if runtime.telemetry.active:
        metadata = {"request": record.id, "step": name, "reason": reason}
        runtime.telemetry.emit("dspex.step.restart", {"restarts": number, "delay": delay}, metadata)
    await runtime.sleep(delay)
