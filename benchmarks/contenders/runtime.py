"""Actors and supervisors."""

from __future__ import annotations

import contextlib
import time
from typing import Any

from benchmarks._contender import Measured, Run, Setup
from benchmarks.contenders.floors import BURST
from dspex.errors import ActorExited
from dspex.runtime import (
    Actor,
    ActorRef,
    ChildSpec,
    DynamicSupervisor,
    DynamicSupervisorRef,
    From,
    Next,
    Reply,
    Runtime,
    Supervisor,
    SupervisorRef,
    TaskSupervisor,
    TaskSupervisorRef,
)

__all__ = ["call", "cast", "crash_to_answer", "spawn_stop", "start_stop", "start_to_answer", "task_process"]


class Echo(Actor):
    """Answers with the question; ``"crash"`` makes it crash."""

    async def handle_call(self, message: Any, sender: From) -> Next:
        if message == "crash":
            raise RuntimeError(message)
        return Reply(message)

    async def handle_cast(self, message: Any) -> Next:
        return None


async def _runtime(setup: Setup) -> Runtime:
    return await setup.stack.enter_async_context(Runtime())


async def call(setup: Setup) -> Run:
    """One call after the other, each with a timeout."""
    runtime = await _runtime(setup)
    ref = await runtime.start(Echo())

    async def run(operations: int) -> None:
        for _ in range(operations):
            await ref.call("ping", timeout=5.0)

    return run


async def cast(setup: Setup) -> Run:
    """Bursts of casts; a call at the end of each tells that all have been handled."""
    runtime = await _runtime(setup)
    ref = await runtime.start(Echo())

    async def run(operations: int) -> None:
        left = operations
        while left > 0:
            for _ in range(min(left, BURST)):
                ref.cast("message")
            left -= BURST
            await ref.call("done", timeout=5.0)

    return run


async def _dynamic(setup: Setup) -> DynamicSupervisorRef:
    runtime = await _runtime(setup)
    ref = await runtime.start(DynamicSupervisor())
    assert isinstance(ref, DynamicSupervisorRef)
    return ref


async def start_stop(setup: Setup) -> Run:
    """Start a child of a supervisor, wait for its ``init``, have it stopped."""
    supervisor = await _dynamic(setup)
    spec = ChildSpec("echo", Echo)

    async def run(operations: int) -> None:
        for _ in range(operations):
            await supervisor.terminate(await supervisor.start_child(spec))

    return run


async def spawn_stop(setup: Setup) -> Run:
    """Spawn an actor in this tick and stop it."""
    runtime = await _runtime(setup)

    async def run(operations: int) -> None:
        for _ in range(operations):
            await runtime.spawn(Echo()).ref.stop()

    return run


async def task_process(setup: Setup) -> Run:
    """Start a coroutine below a TaskSupervisor and wait for its end."""
    runtime = await _runtime(setup)
    supervisor = await runtime.start(TaskSupervisor())
    assert isinstance(supervisor, TaskSupervisorRef)

    async def work() -> int:
        return 1

    async def run(operations: int) -> None:
        for _ in range(operations):
            await supervisor.spawn(work, label="work").wait_exit()

    return run


async def start_to_answer(setup: Setup) -> Run:
    """Start a supervised actor and hear its first answer; stopping them is not counted."""
    supervisor = await _dynamic(setup)
    spec = ChildSpec("echo", Echo)

    async def run(operations: int) -> Measured:
        started: list[ActorRef] = []
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(operations):
            ref = await supervisor.start_child(spec)
            await ref.call("ping", timeout=5.0)
            started.append(ref)
        spent = Measured(time.process_time() - cpu, time.perf_counter() - wall)
        for ref in started:
            await supervisor.terminate(ref)
        return spent

    return run


async def crash_to_answer(setup: Setup) -> Run:
    """Make a supervised actor crash, and hear the first answer of its successor."""
    runtime = await _runtime(setup)
    spec = ChildSpec("echo", Echo, name="echo")
    supervisor = await runtime.start(Supervisor([spec], max_restarts=1_000_000, max_seconds=0.001))
    assert isinstance(supervisor, SupervisorRef)
    ref = runtime.named("echo")

    async def run(operations: int) -> None:
        for _ in range(operations):
            with contextlib.suppress(ActorExited):
                await ref.call("crash", timeout=5.0)
            await ref.call("ping", timeout=5.0)

    return run
