"""Tasks below an owner: killed together, and waited for by who has just started them."""

from __future__ import annotations

import asyncio

from dspex.runtime import KILLED, NORMAL, Runtime
from dspex.testing import VirtualClock
from tests.unit.runtime.doer import Doer, deaf, forever


async def nothing() -> None:
    """End at once."""


async def test_killed_tasks_are_dead_when_that_returns(runtime: Runtime) -> None:
    """All of them, those included that had ended before; their owner lives on."""
    ref = await runtime.start(Doer())
    ended, *others = tasks = [runtime.spawn_task(ref._process, work) for work in (nothing, forever, forever)]
    assert await ended.wait_newborn() == NORMAL
    await runtime.kill_tasks(tasks)
    assert [task.exit_reason for task in tasks] == [NORMAL, KILLED, KILLED]
    assert all(task.dead for task in others)
    assert ref.alive


async def test_a_deaf_task_is_not_waited_for_for_ever(runtime: Runtime, clock: VirtualClock) -> None:
    """Nobody waits for it longer than twice the kill budget."""
    ref, free = await runtime.start(Doer()), asyncio.Event()
    task = runtime.spawn_task(ref._process, deaf, runtime.loop, free)
    await clock.settle()
    async with clock.autojump():
        await runtime.kill_tasks([task])
    assert task.exit_reason == KILLED
    free.set()
    await clock.settle()
