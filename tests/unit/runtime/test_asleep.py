"""Actors that wait for a message cost little, and die in the tick they are told to."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import weakref
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import pytest

from dspex.errors import ActorExited, NoSuchActor
from dspex.runtime import (
    KILL,
    KILLED,
    NORMAL,
    SHUTDOWN,
    Actor,
    ActorRef,
    ChildSpec,
    Down,
    DynamicSupervisor,
    DynamicSupervisorRef,
    ExitReason,
    From,
    Next,
    NoReply,
    Other,
    Reply,
    Runtime,
    current_process,
)
from dspex.testing import VirtualClock
from tests.conformance.kids import actor_of

MARK: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="clean")


class Sleepy(Actor):
    """Answers, and has nothing to begin with."""

    async def handle_call(self, message: Any, sender: From) -> Next:
        return Reply(message)

    async def handle_cast(self, message: Any) -> Next:
        return message() if callable(message) else None


class Prepared(Sleepy):
    """Has something to do before its first message."""

    async def init(self) -> None:
        self.ready = True


class Watcher(Actor):
    """Keeps what it hears."""

    trap_exit: ClassVar[bool] = True

    def __init__(self) -> None:
        self.heard: list[Any] = []

    async def handle_call(self, message: Any, sender: From) -> Next:
        message.monitor()
        return Reply()

    async def handle_info(self, message: Any) -> Next:
        self.heard.append(message)
        return None


async def asleep(runtime: Runtime, how: str) -> ActorRef:
    """Return an actor that waits: for its first message, or for another one."""
    ref = await runtime.start(Prepared() if how == "after init" else Sleepy(), name="sleeper")
    if how == "after a message":
        assert await ref.call("x") == "x"
        await asyncio.sleep(0)
    return ref


WAYS = pytest.mark.parametrize("how", ["never begun", "after init", "after a message"])


async def test_an_actor_without_init_gets_its_task_with_its_first_message(runtime: Runtime) -> None:
    """Until then there is nothing to run: a hundred thousand that nobody talks to are hardly more than records."""
    before = asyncio.all_tasks()
    ref = await runtime.start(Sleepy(), name="n")
    assert runtime.whereis("n") == ref
    assert asyncio.all_tasks() == before
    assert await ref.call("x") == "x"
    assert len(asyncio.all_tasks() - before) == 1
    assert await ref.get_state() == {}


async def test_the_first_message_does_not_bring_its_context(runtime: Runtime) -> None:
    """The task is made in the sender's tick, but not in the sender's context."""
    seen = list[Any]()
    ref = await runtime.start(Sleepy())
    MARK.set("the sender's")
    ref.cast(lambda: seen.append((MARK.get(), current_process())))
    await ref.call("done")
    assert seen == [("clean", ref._process)]


@WAYS
@pytest.mark.parametrize(("reason", "seen"), [(KILL, KILLED), (SHUTDOWN, SHUTDOWN), (Other("x"), Other("x"))])
async def test_a_sleeping_actor_dies_at_once(runtime: Runtime, how: str, reason: ExitReason, seen: ExitReason) -> None:
    """Its name is free and everybody has been told before ``exit`` returns."""
    ref = await asleep(runtime, how)
    watcher = await runtime.start(Watcher())
    await watcher.call(ref)
    ref.exit(reason)
    assert ref._process.dead
    assert ref.exit_reason == seen
    assert runtime.whereis("sleeper") is None
    assert "sleeper" not in runtime._names
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert [type(each).__name__ for each in actor_of(watcher).heard] == ["Down"]
    assert {each.reason for each in actor_of(watcher).heard} == {seen}
    with pytest.raises(NoSuchActor):
        await ref.call("x")


@WAYS
async def test_stopping_a_sleeping_actor_takes_no_turn(runtime: Runtime, how: str) -> None:
    """There is nothing it would do."""
    ref = await asleep(runtime, how)
    stopping = ref.stop(Other("enough"))
    with pytest.raises(StopIteration):
        stopping.send(None)
    assert ref.exit_reason == Other("enough")
    assert ref._process.dead


async def test_who_has_something_to_say_or_to_do_is_woken(runtime: Runtime, clock: VirtualClock) -> None:
    """A goodbye, a trapped signal, queued messages, resources and children all take their turns as ever."""
    said = list[Any]()

    class Polite(Sleepy):
        async def terminate(self, reason: ExitReason) -> None:
            said.append(reason)

    polite = await runtime.start(Polite())
    await polite.stop()
    assert said == [NORMAL]

    busy = await runtime.start(Sleepy())
    busy.cast(partial(said.append, "handled"))
    await busy.stop()
    assert said == [NORMAL, "handled"]

    owner = await runtime.start(Sleepy())
    owner._process.own("file", said.append)
    owner.exit(SHUTDOWN)
    assert not owner._process.dead
    assert await owner.wait_exit() == SHUTDOWN
    assert said[-1] == "file"

    suspended = await runtime.start(Sleepy())
    await suspended.suspend()
    await suspended.stop()
    assert suspended.exit_reason == NORMAL


@WAYS
async def test_what_a_sleeping_actor_owns_is_closed_in_a_clean_context(runtime: Runtime, how: str) -> None:
    """Not in that of who killed it."""
    seen = list[str]()
    ref = await asleep(runtime, how)
    ref._process.own(ref, lambda _: seen.append(MARK.get()))
    MARK.set("the killer's")
    ref.kill()
    await ref.wait_exit()
    assert seen == ["clean"]


@pytest.mark.parametrize("how", ["never begun", "after a message"])
async def test_a_long_chain_of_links_dies_without_a_deep_stack(runtime: Runtime, how: str) -> None:
    """Thousands of them, each taking the next along in a turn of its own."""
    refs = [await runtime.start(Sleepy()) for _ in range(3_000)]
    if how == "after a message":
        for ref in refs:
            await ref.call("x")
        await asyncio.sleep(0)
    for one, two in pairwise(refs):
        one._process.link(two._process)
    refs[0].exit(Other("x"))
    assert await refs[-1].wait_exit() == Other("x")
    assert all(ref.exit_reason == Other("x") for ref in refs)


class Killer(Actor):
    """Ends others in the middle of a message."""

    async def handle_call(self, message: ActorRef, sender: From) -> Next:
        message.exit(KILL)
        return Reply("still here")

    async def handle_cast(self, message: asyncio.Future[ActorRef]) -> Next:
        message.set_result(await self.runtime.start(Sleepy()))
        return None


@WAYS
@pytest.mark.parametrize("tie", ["link", "parent"])
async def test_whom_a_death_takes_along_ends_its_message_first(runtime: Runtime, how: str, tie: str) -> None:
    """An exit signal does not meet its receiver half way through a handler that has not waited for anything."""
    killer = await runtime.start(Killer())
    if tie == "link":
        victim = await asleep(runtime, how)
        victim._process.link(killer._process)
    else:
        started: asyncio.Future[ActorRef] = asyncio.get_running_loop().create_future()
        killer.cast(started)
        victim = await started
        if how != "never begun":
            await victim.call("x")
            await asyncio.sleep(0)
    assert await killer.call(victim) == "still here"
    assert await killer.wait_exit() == KILLED


async def test_closing_waits_for_the_tasks_of_those_who_died_at_once(clock: VirtualClock) -> None:
    """Dead is dead, but a task is a task until the loop has seen its end."""
    before = asyncio.all_tasks()
    async with Runtime(clock=clock) as runtime:
        for _ in range(10):
            (await asleep(runtime, "after a message")).kill()
        assert runtime.parting
    assert asyncio.all_tasks() == before
    assert not runtime.parting


async def test_an_actor_that_dies_asleep_fails_its_callers(runtime: Runtime) -> None:
    """Those whose answers it had put off."""

    class Later(Sleepy):
        async def handle_call(self, message: Any, sender: From) -> Next:
            return NoReply()

    ref = await runtime.start(Later())
    calls = [asyncio.ensure_future(ref.call(number)) for number in range(3)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    ref.kill()
    assert ref._process.dead
    assert [type(each) for each in await asyncio.gather(*calls, return_exceptions=True)] == [ActorExited] * 3


async def test_a_sleeping_actor_keeps_nothing_of_its_last_message(runtime: Runtime) -> None:
    """A message that has been handled is garbage, however long the actor then sleeps."""

    class Big:
        """Something worth being rid of."""

    ref = await runtime.start(Sleepy())
    big = Big()
    gone = weakref.ref(big)
    ref.cast(big)
    del big
    await ref.call("x")
    await asyncio.sleep(0)
    gc.collect()
    assert gone() is None


async def test_a_supervisor_hears_nothing_of_a_child_it_has_stopped(runtime: Runtime) -> None:
    """It is unlinked first, as in OTP: a message for each stopped child would be handled for nothing."""
    supervisor = await runtime.start(DynamicSupervisor())
    assert isinstance(supervisor, DynamicSupervisorRef)
    for _ in range(10):
        await supervisor.start_child(ChildSpec("sleepy", Sleepy))
    handled = supervisor._process.handled
    for info in await supervisor.which_children():
        assert info.ref is not None
        await supervisor.terminate(info.ref)
    await asyncio.sleep(0)
    assert supervisor._process.handled == handled + 11
    assert await supervisor.which_children() == ()


async def test_a_down_for_an_actor_that_never_began(runtime: Runtime) -> None:
    """It may watch others although no code of it has run; the notice is its first message."""
    watcher, watched = await runtime.start(Watcher()), await runtime.start(Sleepy())
    watcher._process.monitor(watched._process)
    watched.kill()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    (down,) = actor_of(watcher).heard
    assert isinstance(down, Down)
