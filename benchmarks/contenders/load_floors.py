"""The same loads on bare asyncio: tasks, deques, Futures and Queues."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections import deque
from typing import Any

from benchmarks._contender import Measured, Run, Setup

__all__ = [
    "BOUND",
    "BURST",
    "RING",
    "SENDERS",
    "STAGES",
    "fan_in_deque",
    "fan_in_futures",
    "queues",
    "ring_of_tasks",
    "shares",
    "tasks",
    "tasks_at_once",
]

SENDERS = 1_000
BURST = 10
RING = 10_000
STAGES = 10
BOUND = 10


def shares(operations: int, senders: int) -> list[int]:
    """Divide so many operations among at most so many senders, as evenly as it goes; nobody gets nothing."""
    each, rest = divmod(operations, senders)
    return [share for share in (each + (number < rest) for number in range(senders)) if share]


async def fan_in_futures(setup: Setup) -> Run:
    """A thousand tasks that ask one task: questions into one deque, each answer through its Future."""
    loop = asyncio.get_running_loop()
    questions: deque[tuple[object, asyncio.Future[object]]] = deque()
    waiter: asyncio.Future[None] | None = None

    async def answer() -> None:
        nonlocal waiter
        while True:
            if not questions:
                waiter = loop.create_future()
                await waiter
            message, future = questions.popleft()
            future.set_result(message)

    answering = asyncio.create_task(answer())
    setup.stack.callback(answering.cancel)

    async def sender(number: int) -> None:
        nonlocal waiter
        for _ in range(number):
            future: asyncio.Future[object] = loop.create_future()
            questions.append(("ping", future))
            if waiter is not None:
                waiter.set_result(None)
                waiter = None
            await future

    async def run(operations: int) -> None:
        await asyncio.gather(*[sender(number) for number in shares(operations, SENDERS)])

    return run


async def fan_in_deque(setup: Setup) -> Run:
    """A thousand tasks that append to one deque; its reader awaits an async handler for each message."""
    loop = asyncio.get_running_loop()
    messages: deque[object] = deque()
    waiter: asyncio.Future[None] | None = None
    left = 0
    done: asyncio.Future[None] = loop.create_future()

    async def handle(_message: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            done.set_result(None)

    async def consume() -> None:
        nonlocal waiter
        while True:
            if not messages:
                waiter = loop.create_future()
                await waiter
            await handle(messages.popleft())

    consuming = asyncio.create_task(consume())
    setup.stack.callback(consuming.cancel)

    async def sender(number: int) -> None:
        nonlocal waiter
        while number > 0:
            for _ in range(min(number, BURST)):
                messages.append("message")
                if waiter is not None:
                    waiter.set_result(None)
                    waiter = None
            number -= BURST
            await asyncio.sleep(0)

    async def run(operations: int) -> None:
        nonlocal left, done
        left, done = operations, loop.create_future()
        await asyncio.gather(*[sender(number) for number in shares(operations, SENDERS)])
        await done

    return run


async def ring_of_tasks(setup: Setup) -> Run:
    """One number on its way through ten thousand tasks, each asleep on a Future that its neighbour resolves."""
    loop = asyncio.get_running_loop()
    futures: list[asyncio.Future[int]] = [loop.create_future() for _ in range(RING)]
    journey: asyncio.Future[None] = loop.create_future()

    async def hop(number: int) -> None:
        neighbour = (number + 1) % RING
        while True:
            left = await futures[number]
            futures[number] = loop.create_future()
            if left:
                futures[neighbour].set_result(left - 1)
            else:
                journey.set_result(None)

    hops = [asyncio.create_task(hop(number)) for number in range(RING)]
    for each in hops:
        setup.stack.callback(each.cancel)

    async def run(operations: int) -> None:
        nonlocal journey
        journey = loop.create_future()
        futures[0].set_result(operations)
        await journey

    return run


async def queues(setup: Setup) -> Run:
    """Items through bounded ``asyncio.Queue`` objects, a task between each two."""
    line: list[asyncio.Queue[Any]] = [asyncio.Queue(BOUND) for _ in range(STAGES)]
    left = 0
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def stage(mine: asyncio.Queue[Any], following: asyncio.Queue[Any]) -> None:
        while True:
            await following.put(await mine.get())

    async def last(mine: asyncio.Queue[Any]) -> None:
        nonlocal left
        while True:
            await mine.get()
            left -= 1
            if left == 0:
                done.set_result(None)

    stages = [asyncio.create_task(stage(*pair)) for pair in itertools.pairwise(line)]
    stages.append(asyncio.create_task(last(line[-1])))
    for each in stages:
        setup.stack.callback(each.cancel)

    async def run(operations: int) -> None:
        nonlocal left, done
        left, done = operations, asyncio.get_running_loop().create_future()
        for number in range(operations):
            await line[0].put(number)
        await done

    return run


async def _sleep(future: asyncio.Future[None]) -> None:
    await future


async def tasks(_setup: Setup) -> Run:
    """Start so many tasks, each seen to run, all alive together; then cancel and await them one by one."""
    loop = asyncio.get_running_loop()

    async def run(operations: int) -> None:
        alive = []
        for _ in range(operations):
            alive.append(asyncio.create_task(_sleep(loop.create_future())))
            await asyncio.sleep(0)
        for each in alive:
            each.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await each

    return run


async def tasks_at_once(_setup: Setup) -> Run:
    """Cancel so many tasks at once and gather them; starting them is not counted."""
    loop = asyncio.get_running_loop()

    async def run(operations: int) -> Measured:
        alive = [asyncio.create_task(_sleep(loop.create_future())) for _ in range(operations)]
        await asyncio.sleep(0)
        cpu, wall = time.process_time(), time.perf_counter()
        for each in alive:
            each.cancel()
        await asyncio.gather(*alive, return_exceptions=True)
        return Measured(time.process_time() - cpu, time.perf_counter() - wall)

    return run
