"""The cost of asyncio itself, without any library."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from benchmarks._contender import Run, Setup

__all__ = ["append_and_handle", "ping_pong", "task"]

BURST = 1_000
"""Messages sent before the receiver gets a turn; the runtime's contender does the same."""


async def ping_pong(setup: Setup) -> Run:
    """A question into a deque, its answer through a Future; the answering task sleeps on a Future of its own."""
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

    async def run(operations: int) -> None:
        nonlocal waiter
        for _ in range(operations):
            future: asyncio.Future[object] = loop.create_future()
            questions.append(("ping", future))
            if waiter is not None:
                waiter.set_result(None)
                waiter = None
            await future

    return run


async def append_and_handle(setup: Setup) -> Run:
    """Bursts of messages into a deque, taken out by a loop that awaits an async handler for each."""
    loop = asyncio.get_running_loop()
    messages: deque[Any] = deque()  # a message, or a Future that marks the end of a burst
    waiter: asyncio.Future[None] | None = None

    async def handle(_message: object) -> None:
        return None

    async def consume() -> None:
        nonlocal waiter
        while True:
            if not messages:
                waiter = loop.create_future()
                await waiter
            message = messages.popleft()
            if isinstance(message, asyncio.Future):
                message.set_result(None)
            else:
                await handle(message)

    consuming = asyncio.create_task(consume())
    setup.stack.callback(consuming.cancel)

    async def run(operations: int) -> None:
        nonlocal waiter
        left = operations
        while left > 0:
            for _ in range(min(left, BURST)):
                messages.append("message")
                if waiter is not None:
                    waiter.set_result(None)
                    waiter = None
            left -= BURST
            done: asyncio.Future[None] = loop.create_future()
            messages.append(done)
            await done

    return run


async def task(_setup: Setup) -> Run:
    """A task that returns at once, awaited."""

    async def work() -> int:
        return 1

    async def run(operations: int) -> None:
        for _ in range(operations):
            await asyncio.create_task(work())

    return run
