"""Calls inside anyio's task groups and cancel scopes: a caller that leaves takes everything of its call with it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import anyio
import pytest

from dspex.errors import CallTimeout
from dspex.runtime import Actor, ActorRef, From, Next, NoReply, Registry, Reply, Runtime, current_process
from dspex.testing import VirtualClock


class Server(Actor):
    """Answers at once, later, or after work of its own."""

    def __init__(self) -> None:
        self.kept: list[From] = []

    async def handle_call(self, message: Any, sender: From) -> Next:
        if callable(message):
            return Reply(await message())
        if message == "keep":
            self.kept.append(sender)
            return NoReply()
        return Reply(message)


@pytest.fixture
async def server(runtime: Runtime, clock: VirtualClock) -> AsyncIterator[ActorRef]:
    """A server of which nothing is left afterwards: no message, no deferred answer, no timer."""
    ref = await runtime.start(Server())
    yield ref
    await clock.settle()
    process = ref._process
    assert len(process.mailbox) == 0
    assert not process._deferred
    assert process._current is None
    assert clock.pending == 0


async def test_calls_in_a_task_group(server: ActorRef) -> None:
    """As many as one likes, each with its own answer."""
    answers: dict[int, int] = {}

    async def ask(number: int) -> None:
        answers[number] = await server.call(number)

    async with anyio.create_task_group() as group:
        for number in range(50):
            group.start_soon(ask, number)
    assert answers == {number: number for number in range(50)}


async def test_a_failed_call_cancels_its_siblings(server: ActorRef, clock: VirtualClock) -> None:
    """And they leave nothing with the actor they waited for."""
    with pytest.raises(ExceptionGroup) as caught:
        async with clock.autojump(), anyio.create_task_group() as group:
            for _ in range(5):
                group.start_soon(lambda: server.call("keep", timeout=None))
            group.start_soon(lambda: server.call("keep", timeout=2))
    assert [type(error) for error in caught.value.exceptions] == [CallTimeout]
    assert all(not sender.waiting for sender in server._process.actor.kept)  # type: ignore[attr-defined]  # a Server


@pytest.mark.parametrize("message", ["keep", "wait"])
async def test_a_scope_around_a_call_ends_it(server: ActorRef, message: str, clock: VirtualClock) -> None:
    """Be the answer deferred or the actor still at work on it; a late one is dropped."""
    gate = asyncio.Event()
    asked: Any = gate.wait if message == "wait" else message
    with anyio.move_on_after(0) as scope:
        await server.call(asked, timeout=30)
    assert scope.cancelled_caught
    with anyio.CancelScope() as scope:
        asyncio.get_running_loop().call_soon(scope.cancel)
        await server.call(asked, timeout=30)
    assert scope.cancelled_caught
    gate.set()
    await clock.settle()
    actor: Any = server._process.actor
    assert not any(sender.reply("late") for sender in actor.kept)
    assert await server.call("still here") == "still here"


async def test_a_call_that_is_queued_is_handled_but_waits_for_nobody(server: ActorRef, clock: VirtualClock) -> None:
    """The message has been sent; that is the caller's risk, as with a timeout."""
    gate = asyncio.Event()
    busy = asyncio.ensure_future(server.call(gate.wait))
    await clock.settle()
    with anyio.CancelScope() as scope:
        asyncio.get_running_loop().call_soon(scope.cancel)
        await server.call("keep", timeout=30)
    gate.set()
    await busy
    await clock.settle()
    actor: Any = server._process.actor
    assert not any(sender.waiting for sender in actor.kept)


@pytest.mark.parametrize("answer_first", [True, False])
async def test_an_answer_in_the_tick_of_the_cancellation(
    server: ActorRef, clock: VirtualClock, answer_first: bool
) -> None:
    """Whichever comes first, the caller has left, and nothing complains later."""
    actor: Any = server._process.actor
    replied: list[bool] = []

    async def ask(scope: anyio.CancelScope) -> None:
        with scope:
            await server.call("keep", timeout=30)

    scope = anyio.CancelScope()
    asking = asyncio.ensure_future(ask(scope))
    await clock.settle()
    steps: list[Callable[[], object]] = [lambda: replied.append(actor.kept[0].reply("now")), scope.cancel]
    for step in steps if answer_first else reversed(steps):
        step()
    await asking
    assert scope.cancelled_caught or replied == [True]
    assert len(replied) == 1
    assert not actor.kept[0].reply("late")


async def test_trap_2_4_a_scopes_and_groups_inside_a_handler(
    runtime: Runtime, server: ActorRef, clock: VirtualClock
) -> None:
    """They belong to the actor's own task; its tasks speak for it."""
    outer = await runtime.start(Server())

    async def fan_out() -> list[object]:
        found: list[object] = []

        async def ask(number: int) -> None:
            assert current_process() is outer._process
            found.append(await server.call(number))

        async with anyio.create_task_group() as group:
            for number in range(3):
                group.start_soon(ask, number)
        with anyio.move_on_after(0):
            await server.call("keep", timeout=None)
        return sorted(found, key=str)

    assert await outer.call(fan_out) == [0, 1, 2]
    assert outer.alive


async def test_trap_2_4_b_a_kill_goes_through_a_task_group(
    runtime: Runtime, server: ActorRef, clock: VirtualClock
) -> None:
    """The handler's group is cancelled with it, and its calls leave nothing behind."""
    outer = await runtime.start(Server())

    async def fan_out() -> None:
        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(lambda: server.call("keep", timeout=30))

    calling = asyncio.ensure_future(outer.call(fan_out, timeout=None))
    await clock.settle()
    outer.kill()
    with pytest.raises(Exception, match="killed"):
        await calling
    await outer.wait_exit()


async def test_rule_4_d_starting_stopping_and_locking_in_cancelled_scopes(
    runtime: Runtime, clock: VirtualClock
) -> None:
    """An actor whose start is cancelled is dead, a lock that is not got is not held."""
    gate, registry = asyncio.Event(), Registry()

    class Slow(Actor):
        async def init(self) -> None:
            await gate.wait()

    with anyio.CancelScope() as scope:
        asyncio.get_running_loop().call_soon(scope.cancel)
        await runtime.start(Slow())
    assert scope.cancelled_caught
    holding = asyncio.ensure_future(registry.lock("k", gate.wait))
    await clock.settle()
    assert not runtime.processes
    with anyio.move_on_after(0) as scope:
        await registry.lock("k", gate.wait)
    assert scope.cancelled_caught
    gate.set()
    await holding
    assert len(registry._locks) == 0


async def test_waiting_for_a_name_or_an_exit_leaves_nothing(
    runtime: Runtime, server: ActorRef, clock: VirtualClock
) -> None:
    """Nor does sleeping on the runtime's clock."""
    for wait in (
        lambda: runtime.named("nobody", patient=True).call("x", timeout=30),
        lambda: server.wait_exit(30),
        lambda: runtime.sleep(30),
    ):
        with anyio.CancelScope() as scope:
            asyncio.get_running_loop().call_soon(scope.cancel)
            await wait()
        assert scope.cancelled_caught
    assert (runtime._names.waiting, server._process._waiters) == (0, {})
    assert clock.pending == 0
