"""Owners and what they own: tasks, actors, resources; and that nothing of them is left."""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import pytest

from dspex.errors import ActorExited, CallTimeout
from dspex.runtime import (
    KILL,
    KILLED,
    Other,
    Runtime,
    Stop,
    TaskSupervisor,
)
from dspex.testing import VirtualClock
from tests.unit.runtime.doer import Doer, deaf, forever


@pytest.mark.parametrize("how", ["normal", "crash", "kill", "signal", "fence"])
async def test_rule_4_j_owned_resources_are_closed_on_every_exit(
    runtime: Runtime, clock: VirtualClock, how: str
) -> None:
    """The last first; before the name is free and before anybody hears of the end; one failure hides no other."""
    log: list[object] = []
    free = asyncio.Event()

    async def close(name: str) -> None:
        await asyncio.sleep(0)
        log.append((name, "n" in runtime._names))

    def fail(name: str) -> None:
        raise OSError(name)

    async def fail_later(name: str) -> None:
        raise OSError(name)

    async def act(actor: Doer) -> Any:
        if how == "normal":
            return Stop()
        if how == "crash":
            raise KeyError("crash")
        return await (deaf(runtime.loop, free) if how == "fence" else forever())

    doer = Doer()
    ref = await runtime.start(doer, name="n")
    for name, closing in (("first", close), ("bad", fail), ("worse", fail_later), ("second", close)):
        assert doer.own(name, closing) == name
    ref._process.on_dead(lambda: log.append("dead"))
    ref.cast(act)
    await clock.settle()
    if how in ("kill", "fence"):
        ref.kill()
    elif how == "signal":
        ref.exit(Other("signal"))
    async with clock.autojump():
        await ref.wait_exit()
    assert log == [("second", True), ("first", True), "dead"]
    free.set()
    await clock.settle()


@pytest.mark.parametrize("stubborn", [False, True])
async def test_closing_has_its_time_and_no_more(runtime: Runtime, clock: VirtualClock, stubborn: bool) -> None:
    """A resource that will not close delays the end by a bounded time, and keeps no other one open."""
    free = asyncio.Event()
    closed: list[str] = []

    async def hang(_: object) -> None:
        await (deaf(runtime.loop, free) if stubborn else forever())

    async def close(name: str) -> None:
        await runtime.sleep(0.0)
        closed.append(name)

    doer = Doer()
    ref = await runtime.start(doer)
    doer.own("first", close)
    doer.own("hangs, too", hang)
    doer.own("second", close)
    doer.own("hangs", hang)
    ref.kill()
    async with clock.autojump():
        assert await ref.wait_exit() == KILLED
    assert closed == ["second", "first"]
    assert clock.now() == runtime.close_budget + runtime.kill_budget * (2 if stubborn else 1)
    assert len(runtime.zombies) == 2 * stubborn
    free.set()
    await clock.settle()
    assert not runtime.zombies


async def test_a_resource_owned_while_others_close_is_closed(runtime: Runtime, clock: VirtualClock) -> None:
    """The exit path looks again before it says that it is over."""
    closed: list[str] = []
    doer = Doer()

    async def slowly(name: str) -> None:
        doer.own("late", closed.append)
        await runtime.sleep(0.1)
        closed.append(name)

    ref = await runtime.start(doer)
    doer.own("early", slowly)
    ref.kill()
    async with clock.autojump():
        await ref.wait_exit()
    assert closed == ["early", "late"]


async def test_an_owner_and_its_task_die_in_one_tick(runtime: Runtime) -> None:
    """Whoever is first, the owner ends once: one Down, one exit event, its closers once."""
    events: list[str] = []
    for first in ("owner", "task"):
        doer = Doer()
        ref = await runtime.start(doer, label="owner")
        task = doer.spawn_task(forever, label="task")
        doer.own("r", lambda _: events.append("closed"))
        await asyncio.sleep(0)
        detach = runtime.telemetry.attach("dspex.process.exit", lambda _, __, about: events.append(about["label"]))
        for each in (ref._process, task) if first == "owner" else (task, ref._process):
            each.receive_exit(KILL, None)
        await ref.wait_exit()
        await asyncio.sleep(0)
        detach()
        assert sorted(events) == ["closed", "owner", "task"]
        assert events.index("task") < events.index("owner")
        events.clear()


async def test_rule_4_k_tasks_are_dead_before_their_owners_down(runtime: Runtime, clock: VirtualClock) -> None:
    """Those that ignore their kill are fenced first."""
    free = asyncio.Event()
    doer = Doer()
    ref = await runtime.start(doer)
    tasks = [doer.spawn_task(forever), doer.spawn_task(deaf, runtime.loop, free)]
    states: list[bool] = []
    ref._process.on_dead(lambda: states.extend(task.dead for task in tasks))
    await clock.settle()
    async with clock.autojump():
        await ref.stop()
    assert states == [True, True]
    free.set()
    await clock.settle()


async def test_a_deep_family_does_not_die_on_the_stack(runtime: Runtime) -> None:
    """A thousand generations end one after the other, and the oldest of them too."""
    tasks = await runtime.start(TaskSupervisor())
    process: Any = tasks._process
    for _ in range(1000):
        process = process.spawn_task(forever)
    await asyncio.sleep(0)
    tasks.kill()
    await tasks.wait_exit()
    assert not runtime.processes


async def test_rule_4_k_nobody_is_born_into_a_dying_family(runtime: Runtime) -> None:
    """Nobody would ever end it."""
    ref = await runtime.start(Doer())
    ref.kill()
    with pytest.raises(ActorExited):
        runtime.spawn(Doer(), parent=ref._process)
    await ref.wait_exit()
    with pytest.raises(ActorExited):
        runtime.spawn(Doer(), parent=ref._process)
    assert not runtime.processes


async def test_waiting_and_giving_up_leaves_nothing_behind(runtime: Runtime, clock: VirtualClock) -> None:
    """A service is waited for, and called by name, a thousand times in its life."""
    ref = await runtime.start(Doer())
    waits = [asyncio.ensure_future(ref.wait_exit(timeout)) for timeout in (None, 1.0, 100.0)]
    parked = [asyncio.ensure_future(runtime.wait_name("nobody", timeout)) for timeout in (None, 1.0, 100.0)]
    take_back = runtime.when_named("nobody", lambda ref: pytest.fail("nobody came"))
    await clock.advance(1.0)
    assert waits[1].result() is None
    for each in (*waits, *parked):
        each.cancel()
    take_back()
    outcomes = await asyncio.gather(*waits, *parked, return_exceptions=True)
    assert isinstance(outcomes[4], CallTimeout)
    assert not ref._process._waiters
    assert runtime._names.waiting == 0
    assert clock.pending == 0


@pytest.mark.allow_blocking("starts ten thousand actors on one loop")
async def test_ten_thousand_lives_leave_no_trace(runtime: Runtime) -> None:
    """Not in the tables, and not in the garbage collector's."""

    async def live(count: int) -> None:
        for _ in range(count):
            ref = await runtime.start(Doer())
            await ref.stop()

    await live(100)
    gc.collect()
    before = len(gc.get_objects())
    await live(10_000)
    gc.collect()
    assert len(gc.get_objects()) - before < 500
    assert not runtime.processes
