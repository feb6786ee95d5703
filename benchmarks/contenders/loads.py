"""Actors under load: many senders, long rings, pipelines, crowds of children."""

from __future__ import annotations

import asyncio
import time
from typing import Any, ClassVar

from benchmarks._contender import Measured, Run, Setup
from benchmarks.contenders.load_floors import BOUND, BURST, RING, SENDERS, STAGES, shares
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
)

__all__ = ["children", "children_at_once", "fan_in_calls", "fan_in_casts", "pipeline", "ring"]


class Sink(Actor):
    """Answers calls; counts casts and tells when the last has come."""

    def __init__(self) -> None:
        self.left = 0
        self.done: asyncio.Future[None] | None = None

    async def handle_call(self, message: Any, sender: From) -> Next:
        return Reply(message)

    async def handle_cast(self, message: Any) -> Next:
        self.left -= 1
        if self.left == 0 and self.done is not None:
            self.done.set_result(None)
        return None


class Hop(Actor):
    """Passes a number on to its neighbour, one less each time; zero ends the journey."""

    neighbour: ActorRef

    def __init__(self, journey: list[asyncio.Future[None]]) -> None:
        self.journey = journey

    async def handle_cast(self, message: Any) -> Next:
        if message:
            self.neighbour.cast(message - 1)
        else:
            self.journey[0].set_result(None)
        return None


class Stage(Actor):
    """Puts each message into the next stage's mailbox, waiting for room there."""

    mailbox_limit: ClassVar[int | None] = BOUND

    def __init__(self, following: ActorRef) -> None:
        self.following = following

    async def handle_cast(self, message: Any) -> Next:
        await self.following.put(message)
        return None


class LastStage(Sink):
    """The end of the pipeline, as bounded as the rest."""

    mailbox_limit: ClassVar[int | None] = BOUND


class Idle(Actor):
    """Does nothing, for as long as it lives."""


async def _runtime(setup: Setup) -> Runtime:
    return await setup.stack.enter_async_context(Runtime())


async def fan_in_calls(setup: Setup) -> Run:
    """A thousand tasks that call one actor, each its share, one call after the other."""
    runtime = await _runtime(setup)
    ref = await runtime.start(Sink())

    async def sender(number: int) -> None:
        for _ in range(number):
            await ref.call("ping", timeout=60.0)

    async def run(operations: int) -> None:
        await asyncio.gather(*[sender(number) for number in shares(operations, SENDERS)])

    return run


async def fan_in_casts(setup: Setup) -> Run:
    """A thousand tasks that cast to one actor, in small bursts with a turn of the loop after each."""
    runtime = await _runtime(setup)
    sink = Sink()
    ref = await runtime.start(sink)

    async def sender(number: int) -> None:
        while number > 0:
            for _ in range(min(number, BURST)):
                ref.cast("message")
            number -= BURST
            await asyncio.sleep(0)

    async def run(operations: int) -> None:
        sink.left, sink.done = operations, asyncio.get_running_loop().create_future()
        await asyncio.gather(*[sender(number) for number in shares(operations, SENDERS)])
        await sink.done

    return run


async def ring(setup: Setup) -> Run:
    """One message on its way through ten thousand actors; an operation is a hop."""
    runtime = await _runtime(setup)
    loop = asyncio.get_running_loop()
    journey: list[asyncio.Future[None]] = [loop.create_future()]
    hops = [Hop(journey) for _ in range(RING)]
    refs = [await runtime.start(hop) for hop in hops]
    for number, hop in enumerate(hops):
        hop.neighbour = refs[(number + 1) % RING]

    async def run(operations: int) -> None:
        journey[0] = loop.create_future()
        refs[0].cast(operations)
        await journey[0]

    return run


async def pipeline(setup: Setup) -> Run:
    """Items through stages with bounded mailboxes; an operation is an item all the way."""
    runtime = await _runtime(setup)
    last = LastStage()
    first = await runtime.start(last)
    for _ in range(STAGES - 1):
        first = await runtime.start(Stage(first))

    async def run(operations: int) -> None:
        last.left, last.done = operations, asyncio.get_running_loop().create_future()
        for number in range(operations):
            await first.put(number)
        await last.done

    return run


async def _supervisor(runtime: Runtime) -> DynamicSupervisorRef:
    ref = await runtime.start(DynamicSupervisor())
    assert isinstance(ref, DynamicSupervisorRef)
    return ref


async def children(setup: Setup) -> Run:
    """Start so many children, all alive together, then stop them one by one."""
    runtime = await _runtime(setup)
    supervisor = await _supervisor(runtime)
    spec = ChildSpec("idle", Idle)

    async def run(operations: int) -> None:
        refs = [await supervisor.start_child(spec) for _ in range(operations)]
        for ref in refs:
            await supervisor.terminate(ref)

    return run


async def children_at_once(setup: Setup) -> Run:
    """Stop a supervisor below which so many children live; starting them is not counted."""
    runtime = await _runtime(setup)
    spec = ChildSpec("idle", Idle)

    async def run(operations: int) -> Measured:
        supervisor = await _supervisor(runtime)
        for _ in range(operations):
            await supervisor.start_child(spec)
        cpu, wall = time.process_time(), time.perf_counter()
        await supervisor.stop()
        return Measured(time.process_time() - cpu, time.perf_counter() - wall)

    return run
