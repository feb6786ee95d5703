"""Awaiting a coroutine in another context, in the same task."""

from __future__ import annotations

import asyncio
from contextvars import Context, ContextVar

import pytest

from dspex.services.lm._clean_context import in_context

value: ContextVar[str] = ContextVar("value", default="none")


async def test_the_coroutine_sees_its_own_context_across_awaits() -> None:
    """And the caller keeps its own."""

    async def look() -> list[str]:
        seen = [value.get()]
        value.set("inside")
        await asyncio.sleep(0)
        return [*seen, value.get()]

    value.set("outside")
    context = Context()

    assert await in_context(look(), context) == ["none", "inside"]
    assert value.get() == "outside"
    assert context[value] == "inside"


async def test_it_stays_in_the_callers_task() -> None:
    """No task is made, so none can be lost."""

    async def task() -> asyncio.Task[object] | None:
        await asyncio.sleep(0)
        return asyncio.current_task()

    assert await in_context(task(), Context()) is asyncio.current_task()


async def test_errors_come_through() -> None:
    """As from a plain await, before and after the first wait."""

    async def fail(waits: int) -> None:
        for _ in range(waits):
            await asyncio.sleep(0)
        raise KeyError("mine")

    for waits in (0, 2):
        with pytest.raises(KeyError, match="mine"):
            await in_context(fail(waits), Context())


async def test_cancellation_arrives_inside() -> None:
    """The coroutine cleans up in its own context."""
    started, cleaned = asyncio.Event(), []

    async def wait() -> None:
        value.set("inside")
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.append(value.get())

    task = asyncio.ensure_future(in_context(wait(), Context()))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert cleaned == ["inside"]


async def test_a_timeout_around_it_works() -> None:
    """It swallows the cancellation it caused, as around a plain await."""
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await in_context(asyncio.Event().wait(), Context())


def test_closing_the_outer_coroutine_closes_the_inner_one() -> None:
    """A task that never finishes leaves no coroutine behind."""
    closed = []

    async def inner() -> None:
        try:
            await asyncio.sleep(0)
        finally:
            closed.append(value.get())

    async def outer() -> None:
        await in_context(inner(), Context())

    coroutine = outer()
    coroutine.send(None)
    coroutine.close()

    assert closed == ["none"]
