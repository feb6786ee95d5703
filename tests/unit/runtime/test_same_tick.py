"""Two things in one turn of the loop: whichever comes first, nothing is lost, started or left behind."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from dspex.errors import ActorExited, StartFailed
from dspex.runtime import (
    KILL,
    KILLED,
    NORMAL,
    SHUTDOWN,
    Actor,
    ActorRef,
    Backoff,
    ChildSpec,
    Continue,
    ExitReason,
    RestartStrategy,
    Runtime,
    Stop,
    Supervisor,
    SupervisorRef,
)
from dspex.runtime._mailbox import Mailbox
from dspex.testing import VirtualClock
from tests.unit.runtime.doer import Doer, forever


async def test_a_mailbox_is_emptied_as_those_who_wait_for_room_give_up(clock: VirtualClock) -> None:
    """They are cancelled, and are not among those who are woken."""
    mailbox, loop = Mailbox(1), asyncio.get_running_loop()
    assert mailbox.put("first")
    patient, hasty = (asyncio.ensure_future(mailbox.wait_room(loop)) for _ in range(2))
    await clock.settle()
    hasty.cancel()
    assert mailbox.drain() == ["first"]
    with pytest.raises(asyncio.CancelledError):
        await hasty
    await patient


def test_a_mailbox_gives_back_the_item_itself() -> None:
    """From either lane, and not one that equals it; what is not there is no error."""
    mailbox = Mailbox(3)
    one, same, urgent = [1], [1], [1]
    for item in (one, same, one):
        assert mailbox.put(item)
    mailbox.put_urgent(urgent)
    assert (len(mailbox), mailbox.full) == (4, True)
    for item in (same, urgent, [1]):
        mailbox.remove(item)
    assert (len(mailbox), mailbox.full) == (2, False)
    assert mailbox.take() is one
    assert mailbox.drain() == [one]


async def test_who_takes_an_item_makes_room(clock: VirtualClock) -> None:
    """For who has waited longest."""
    mailbox, loop = Mailbox(1), asyncio.get_running_loop()
    assert mailbox.put("first")
    first, second = (asyncio.ensure_future(mailbox.wait_room(loop)) for _ in range(2))
    await clock.settle()
    assert mailbox.take() == "first"
    await clock.settle()
    assert (first.done(), second.done()) == (True, False)
    mailbox.drain()
    await second


async def test_calls_one_after_the_other_in_one_turn_need_no_second_sweep(
    runtime: Runtime, clock: VirtualClock
) -> None:
    """The queue of their deadlines goes when the turn is over."""
    process, queue = (await runtime.start(Doer()))._process, runtime.deadlines[5.0]
    for _ in range(2):
        queue.finish(queue.add(runtime.loop.create_future(), process))
    assert clock.pending == 1
    await clock.settle()
    assert (dict(runtime.deadlines), clock.pending) == ({}, 0)


async def test_a_kill_as_the_code_of_an_actor_ends(runtime: Runtime) -> None:
    """It is the reason, for none is recorded yet."""

    async def stop(_: object) -> Stop:
        return Stop(NORMAL)

    ref = await runtime.start(Doer())
    ref.cast(stop)
    await asyncio.sleep(0)  # its code has come to its end, its death is for the next turn
    ref.kill()
    assert await ref.wait_exit() == KILLED


async def test_an_actor_that_ends_itself_in_its_init_has_not_started(runtime: Runtime) -> None:
    """Whatever ``init`` returns then."""

    class Undone(Actor):
        async def init(self) -> None:
            self.ref.kill()

    with pytest.raises(StartFailed) as caught:
        await runtime.start(Undone())
    assert caught.value.reason == KILLED


async def test_a_runtime_is_closed_as_its_last_actor_dies(runtime: Runtime, clock: VirtualClock) -> None:
    """Who called that actor hears of its death, and the deadline of the call is gone."""
    ref = await runtime.start(Doer())
    waiting = asyncio.ensure_future(ref.call(forever))
    await clock.settle()
    ref.kill()
    await asyncio.sleep(0)  # its code has been cancelled, its death is for the next turn
    await runtime.close()
    assert (dict(runtime.deadlines), clock.pending) == ({}, 0)
    with pytest.raises(ActorExited):
        await waiting


async def test_a_runtime_that_closes_waits_for_what_the_dead_still_close(runtime: Runtime, clock: VirtualClock) -> None:
    """A resource may be given to an actor that has died meanwhile."""
    ref = await runtime.start(Doer())
    ref.kill()
    await ref.wait_exit()
    gate: asyncio.Future[None] = runtime.loop.create_future()

    async def close(_: object) -> None:
        await gate

    ref._process.own("resource", close)
    closing = asyncio.ensure_future(runtime.close())
    await clock.settle()
    assert not closing.done()
    gate.set_result(None)
    await closing
    assert not runtime.janitors


async def test_an_actor_that_ends_as_it_starts_has_not_started_in_time(runtime: Runtime) -> None:
    """Who sets a time for the start is told that it came to nothing."""

    class ShortLived(Actor):
        async def init(self) -> Continue:
            return Continue("the end")

        async def handle_continue(self, argument: object) -> None:
            self.ref.kill()

    with pytest.raises(StartFailed) as caught:
        await runtime.start(ShortLived(), timeout=1.0)
    assert caught.value.reason == KILLED


async def test_a_supervisor_told_to_end_during_a_restart_starts_nobody(runtime: Runtime, clock: VirtualClock) -> None:
    """It stops the siblings first, which takes its time; the end that comes meanwhile is the last word."""
    started, goodbye = list[str](), asyncio.Event()

    class Child(Actor):
        trap_exit: ClassVar[bool] = True
        terminate_timeout: ClassVar[float | None] = None

        def __init__(self, name: str) -> None:
            self.name = name

        async def init(self) -> None:
            started.append(self.name)

        async def terminate(self, reason: ExitReason) -> None:
            await goodbye.wait()

    specs = [ChildSpec(name, Child, (name,), shutdown=60.0) for name in ("a", "b")]
    ref = await runtime.start(Supervisor(specs, strategy=RestartStrategy.ONE_FOR_ALL))
    assert isinstance(ref, SupervisorRef)
    crashing, stopping = ref._process.children
    crashing.receive_exit(KILL, None)
    await clock.settle()
    assert not stopping.dead
    ref.exit(SHUTDOWN)
    await clock.settle()
    goodbye.set()
    assert await ref.wait_exit() == SHUTDOWN
    assert started == ["a", "b"]


async def test_a_service_that_is_terminated_while_it_starts_is_not_tried_again(
    runtime: Runtime, clock: VirtualClock
) -> None:
    """The news of the start that failed find nobody who waits for it."""
    hanging = asyncio.Event()

    class Service(Actor):
        async def init(self) -> None:
            if hanging.is_set():
                await forever()

    supervisor = await runtime.start(Supervisor([ChildSpec("service", Service)], backoff=Backoff(initial=1.0)))
    assert isinstance(supervisor, SupervisorRef)
    hanging.set()
    supervisor._process.children[0].receive_exit(KILL, None)
    await clock.advance(1.0)
    assert len(supervisor._process.children) == 1
    await supervisor.terminate_child("service")
    (child,) = await supervisor.which_children()
    await clock.advance(10.0)
    assert child.state == "stopped"
    assert not any(process.alive for process in supervisor._process.children)


async def test_who_waits_for_a_name_is_told_once(runtime: Runtime, clock: VirtualClock) -> None:
    """Of the first who takes it."""
    told = list[ActorRef]()
    runtime.when_named("name", told.append)
    first: Any = await runtime.start(Doer(), name="name")
    await clock.settle()
    first.kill()
    await first.wait_exit()
    await runtime.start(Doer(), name="name")
    await clock.settle()
    assert told == [first]
