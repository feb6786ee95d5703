"""A call to an actor that rests is handled in its caller's tick, and nobody can tell but by the time it takes."""

from __future__ import annotations

import asyncio
import traceback
import weakref
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from dspex.errors import ActorExited, CallTimeout
from dspex.runtime import (
    KILL,
    KILLED,
    SHUTDOWN,
    Actor,
    ActorRef,
    Continue,
    Crashed,
    From,
    Idle,
    IdleTimeout,
    Next,
    NoReply,
    Reply,
    Runtime,
    Stop,
    current_process,
)
from dspex.runtime._at_once import CALLS_BEFORE_TURN
from dspex.testing import VirtualClock

MARK: ContextVar[str] = ContextVar("mark", default="clean")

Handler = Callable[["Doing", From], Awaitable[Next]]


class Doing(Actor):
    """Does in ``handle_call`` what it is told."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    async def handle_call(self, message: Handler, sender: From) -> Next:
        return await message(self, sender)

    async def handle_cast(self, message: object) -> Next:
        self.seen.append(message)
        return None

    async def handle_continue(self, argument: object) -> Next:
        self.seen.append(argument)
        return None

    async def handle_info(self, message: object) -> Next:
        self.seen.append(message)
        return None


async def nothing(_: Doing, __: From) -> Next:
    """Answer."""
    return Reply("done")


@pytest.fixture
async def ref(runtime: Runtime) -> ActorRef:
    """An actor that has handled a call already, so rests with a task of its own."""
    ref = await runtime.start(Doing())
    assert await ref.call(nothing) == "done"
    return ref


def doing(ref: ActorRef) -> Doing:
    actor = ref._process.actor
    assert isinstance(actor, Doing)
    return actor


async def test_the_loop_does_not_turn_for_an_answer_that_is_ready(ref: ActorRef) -> None:
    """A callback due in the loop's next turn has not run when the answer is there."""
    turned = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turned.set_result, None)
    assert await ref.call(nothing) == "done"
    assert not turned.done()


async def test_a_class_may_have_its_callers_served_together(runtime: Runtime) -> None:
    """With ``at_once = False`` every call goes through the mailbox."""

    class Together(Doing):
        at_once = False

    ref = await runtime.start(Together())
    assert await ref.call(nothing) == "done"
    turned = asyncio.get_running_loop().create_future()
    asyncio.get_running_loop().call_soon(turned.set_result, None)
    assert await ref.call(nothing) == "done"
    assert turned.done()


async def test_everybody_gets_a_turn(ref: ActorRef) -> None:
    """However many calls follow each other, the loop turns once for so many of them."""
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.ensure_future(count())
    for _ in range(10 * (CALLS_BEFORE_TURN + 1)):
        await ref.call(nothing)
    counting.cancel()
    assert 10 <= turns <= 40


async def test_the_first_step_is_the_actors_own(ref: ActorRef) -> None:
    """Its task, its process and its context, also in what comes after a wait; the caller's are the caller's again."""

    async def who(_: Doing, __: From) -> Next:
        before = (asyncio.current_task(), current_process(), MARK.get())
        MARK.set("the actor's")
        await asyncio.sleep(0)
        return Reply((before, (asyncio.current_task(), current_process(), MARK.get())))

    MARK.set("the caller's")
    mine = asyncio.current_task()
    before, after = await ref.call(who)
    process = ref._process
    assert before == (process._task, process, "clean")
    assert after == (process._task, process, "the actor's")
    assert (asyncio.current_task(), current_process(), MARK.get()) == (mine, None, "the caller's")


@pytest.mark.parametrize("waits", [0, 1, 3])
async def test_a_handler_that_waits_goes_on_in_the_loop(ref: ActorRef, waits: int) -> None:
    """However often it waits, be it for a turn, a future or a task; messages meanwhile come after it, in order."""
    began = asyncio.Event()

    async def wait(actor: Doing, _: From) -> Next:
        began.set()
        for number in range(waits):
            await asyncio.sleep(0)
            actor.seen.append(await asyncio.ensure_future(asyncio.sleep(0, number)))
        return Reply("waited")

    call = asyncio.ensure_future(ref.call(wait))
    await began.wait()
    ref.cast("meanwhile")
    assert await call == "waited"
    await ref.call(nothing)
    assert doing(ref).seen == [*range(waits), "meanwhile"]


async def test_what_it_casts_to_itself_comes_next(ref: ActorRef) -> None:
    """Also when the answer was given at once."""

    async def cast(_: Doing, __: From) -> Next:
        ref.cast(1)
        ref.cast(2)
        return Reply(len(doing(ref).seen))

    assert await ref.call(cast) == 0
    await ref.call(nothing)
    assert doing(ref).seen == [1, 2]


async def test_timeouts_scopes_and_groups_in_the_first_step(ref: ActorRef, clock: VirtualClock) -> None:
    """Whatever asks for the current task gets the actor's, before and after the hand-over."""

    async def inside(_: Doing, __: From) -> Next:
        got = []
        try:
            async with asyncio.timeout(0):
                await asyncio.sleep(3600)
        except TimeoutError:
            got.append("timeout")
        with anyio.move_on_after(0) as scope:
            await anyio.sleep(3600)
        got.append(f"scope {scope.cancelled_caught}")
        async with asyncio.TaskGroup() as group:
            one = group.create_task(asyncio.sleep(0, "one"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(anyio.sleep, 3600)
            tasks.cancel_scope.cancel()
        return Reply([*got, one.result()])

    assert await ref.call(inside) == ["timeout", "scope True", "one"]
    assert await ref.call(nothing) == "done"


async def test_a_scope_of_the_caller_stays_its_own(ref: ActorRef) -> None:
    """A caller inside scopes and groups calls an actor that waits: neither is cancelled in the other's place."""

    async def wait(_: Doing, __: From) -> Next:
        await asyncio.sleep(0)
        return Reply("waited")

    with anyio.CancelScope() as scope:
        async with anyio.create_task_group() as group:
            group.start_soon(anyio.lowlevel.checkpoint)
            assert await ref.call(wait) == "waited"
    assert not scope.cancelled_caught


async def test_a_crash_is_the_actors(ref: ActorRef) -> None:
    """The caller hears of a death, and the trace shows the handler but none of the machinery that began it."""

    async def crash(_: Doing, __: From) -> Next:
        raise LookupError("nowhere")

    with pytest.raises(ActorExited):
        await ref.call(crash)
    reason = await ref.wait_exit()
    assert isinstance(reason, Crashed)
    assert isinstance(reason.error, LookupError)
    names = [frame.name for frame in traceback.extract_tb(reason.error.__traceback__)]
    assert names[-1] == "crash"
    assert not {"handle_at_once", "_first_step", "call"} & set(names)


async def test_a_crash_after_a_wait_is_the_actors(ref: ActorRef) -> None:
    """The same when the loop has taken over."""

    async def crash(_: Doing, __: From) -> Next:
        await asyncio.sleep(0)
        raise LookupError("nowhere")

    with pytest.raises(ActorExited):
        await ref.call(crash)
    assert isinstance(await ref.wait_exit(), Crashed)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
async def test_no_interrupt_goes_into_the_caller(runtime: Runtime, ref: ActorRef, error: type[BaseException]) -> None:
    """SystemExit is the actor's crash; Ctrl-C goes to whom the runtime tells of it."""
    told: list[BaseException] = []
    runtime.on_interrupt = told.append

    async def interrupt(_: Doing, __: From) -> Next:
        raise error("now")

    with pytest.raises(ActorExited):
        await ref.call(interrupt)
    assert [type(each) for each in told] == [error] * (error is KeyboardInterrupt)


@pytest.mark.parametrize("waits", [False, True])
async def test_whoever_is_killed_in_its_first_step_does_not_answer(ref: ActorRef, waits: bool) -> None:
    """By its own hand; a reply that it returns all the same is dropped, and what it waits for is cancelled."""
    cleaned = []

    async def die(_: Doing, __: From) -> Next:
        ref.kill()
        try:
            if waits:
                await asyncio.sleep(3600)
        finally:
            cleaned.append(waits)
        return Reply("from beyond")

    with pytest.raises(ActorExited):
        await ref.call(die)
    assert await ref.wait_exit() == KILLED
    assert cleaned == [waits]


async def test_a_task_that_it_waits_for_ends_with_it(ref: ActorRef) -> None:
    """A kill before the loop has taken over cancels what the handler waits for, as ``Task.cancel`` would."""
    inner: list[asyncio.Task[None]] = []

    async def wait(_: Doing, __: From) -> Next:
        inner.append(asyncio.ensure_future(asyncio.sleep(3600)))
        await inner[0]
        return Reply()

    async def caller() -> None:
        with pytest.raises(ActorExited):
            await ref.call(wait)

    calling = asyncio.ensure_future(caller())
    asyncio.get_running_loop().call_soon(ref.kill)  # behind the caller's first step, before the actor's next
    await calling
    assert inner[0].cancelled()


async def test_it_may_cancel_itself(ref: ActorRef) -> None:
    """A cancellation by its own hand meets it at its next wait; the answer was given before."""

    async def cancel(_: Doing, __: From) -> Next:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        return Reply("answered")

    assert await ref.call(cancel) == "answered"
    assert await ref.wait_exit() == KILLED


async def test_a_cancellation_that_is_caught_is_over(ref: ActorRef) -> None:
    """As with ``asyncio.timeout``: who catches and uncancels goes on."""

    async def cancel(_: Doing, __: From) -> Next:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            task.uncancel()
        await asyncio.sleep(0)
        return Reply("went on")

    assert await ref.call(cancel) == "went on"
    assert await ref.call(nothing) == "done"


async def test_a_caller_that_its_callee_kills_is_dead(runtime: Runtime, ref: ActorRef) -> None:
    """It does not go on with the answer, although nobody had to wait for that."""
    went_on = []

    class Caller(Actor):
        async def handle_cast(self, message: object) -> Next:
            me = self.ref

            async def kill_me(_: Doing, __: From) -> Next:
                me.kill()
                return Reply("too late")

            went_on.append(await ref.call(kill_me))
            return None

    caller = await runtime.start(Caller())
    caller.cast("go")
    assert await caller.wait_exit() == KILLED
    assert went_on == []
    assert await ref.call(nothing) == "done"


async def test_every_outcome_is_taken(runtime: Runtime, ref: ActorRef, clock: VirtualClock) -> None:
    """Deferred answers, continuations, idle times and stops, all from a first step."""
    kept: list[From] = []

    async def defer(_: Doing, sender: From) -> Next:
        kept.append(sender)
        return NoReply()

    async def go_on(_: Doing, __: From) -> Next:
        return Reply("continued", Continue("more"))

    async def rest(_: Doing, __: From) -> Next:
        return Reply("idle", Idle(5.0))

    async def early(_: Doing, sender: From) -> Next:
        sender.reply("early")
        return NoReply(Continue("after"))

    async def stop(_: Doing, __: From) -> Next:
        return Stop(SHUTDOWN, "bye")

    call = asyncio.ensure_future(ref.call(defer))
    await clock.settle()
    kept[0].reply("deferred")
    assert await call == "deferred"
    assert await ref.call(go_on) == "continued"
    assert await ref.call(early) == "early"
    assert await ref.call(rest) == "idle"
    await clock.advance(5.0)
    assert doing(ref).seen == ["more", "after", IdleTimeout()]
    assert await ref.call(rest) == "idle"
    await clock.advance(4.0)
    assert await ref.call(nothing) == "done"  # a message in time: no timeout comes
    await clock.advance(4.0)
    assert len(doing(ref).seen) == 3
    assert await ref.call(stop) == "bye"
    assert await ref.wait_exit() == SHUTDOWN
    await clock.settle()
    assert not runtime.deadlines


async def test_a_timeout_counts_from_the_call(ref: ActorRef, clock: VirtualClock) -> None:
    """The handler has begun and waits; its caller gives up in time, and the late answer is dropped."""

    async def slow(_: Doing, __: From) -> Next:
        await current_runtime().sleep(10.0)
        return Reply("late")

    def current_runtime() -> Runtime:
        process = current_process()
        assert process is not None
        return process.runtime

    call = asyncio.ensure_future(ref.call(slow, timeout=2.0))
    await clock.advance(2.0)
    with pytest.raises(CallTimeout):
        await call
    await clock.advance(8.0)
    assert await ref.call(nothing) == "done"


async def test_a_handler_may_be_any_awaitable(runtime: Runtime) -> None:
    """A function that returns one, run in the actor's context like the rest; one that raises before is a crash."""

    class Odd(Actor):
        def handle_call(self, message: Any, sender: From) -> Any:
            who = current_process()
            if message == "raise":
                raise LookupError("before it began")
            future = asyncio.get_running_loop().create_future()
            future.set_result(Reply(who))
            return future

    ref = await runtime.start(Odd())
    for _ in range(3):
        assert await ref.call("who") is ref._process
    with pytest.raises(ActorExited):
        await ref.call("raise")


async def test_a_call_that_is_driven_by_hand_goes_through_the_mailbox(ref: ActorRef) -> None:
    """A coroutine without a task is nobody whose place the actor could take."""
    done = asyncio.get_running_loop().create_future()

    def drive() -> None:
        call = ref.call(nothing)
        call.send(None)
        done.set_result(len(ref._process.mailbox))
        call.close()

    asyncio.get_running_loop().call_soon(drive)
    assert await done == 1


async def test_a_long_chain_of_actors_needs_no_deep_stack(runtime: Runtime) -> None:
    """Each calls the next in its first step: after so many the loop takes over."""

    class Link(Actor):
        def __init__(self, next_one: ActorRef | None) -> None:
            self.next_one = next_one

        async def handle_call(self, message: int, sender: From) -> Next:
            depth.append(len(traceback.extract_stack()))
            return Reply(message if self.next_one is None else await self.next_one.call(message + 1))

    depth = list[int]()
    ref: ActorRef | None = None
    for _ in range(200):
        ref = await runtime.start(Link(ref))
    assert ref is not None
    assert await ref.call(0) == 199  # each makes its task
    assert await ref.call(0) == 199
    assert max(depth) < 200


async def test_a_handler_that_ignores_its_end_is_shown_where_it_is(
    runtime: Runtime, ref: ActorRef, clock: VirtualClock
) -> None:
    """The stack of one that was begun at once goes down to the line that waits."""
    free = asyncio.Event()

    async def stubborn(_: Doing, __: From) -> Next:
        while not free.is_set():
            try:
                await free.wait()
            except asyncio.CancelledError:
                continue
        return Reply()

    call = asyncio.ensure_future(ref.call(stubborn))
    await clock.settle()
    ref.exit(KILL)
    await clock.advance(2 * runtime.kill_budget)
    with pytest.raises(ActorExited):
        await call
    (story,) = runtime.zombies.values()
    assert "in stubborn" in story
    free.set()
    await clock.settle()
    assert not runtime.zombies


async def test_nothing_of_a_call_is_kept(ref: ActorRef) -> None:
    """Neither its message nor its answer, once it is answered; the garbage collector is not needed."""

    class Thing:
        pass

    class Making:
        async def __call__(self, _: Doing, __: From) -> Next:
            return Reply(Thing())

    message = Making()
    answer = await ref.call(message)
    left = [weakref.ref(message), weakref.ref(answer)]
    del message, answer
    assert [each() for each in left] == [None, None]


async def test_the_sender_has_no_other_attributes(ref: ActorRef) -> None:
    """Its future is made when it is asked for; a misspelt name is an AttributeError like anywhere."""

    async def ask(_: Doing, sender: From) -> Next:
        with pytest.raises(AttributeError, match="waits"):
            sender.waits  # type: ignore[attr-defined]  # noqa: B018
        return Reply(sender.waiting)

    assert await ref.call(ask) is True
