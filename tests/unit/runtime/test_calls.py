"""Calls, contexts and bounded mailboxes, where asyncio would have it otherwise."""

from __future__ import annotations

import asyncio
import contextvars
import gc
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import pytest

from dspex.errors import ActorExited, CallCycle, CallTimeout, MailboxFull, NoSuchActor
from dspex.runtime import (
    Actor,
    ActorRef,
    ChildSpec,
    Crashed,
    Down,
    From,
    NoReply,
    Reply,
    Runtime,
    Supervisor,
    SupervisorRef,
    TaskSupervisor,
    TaskSupervisorRef,
)
from dspex.testing import VirtualClock
from tests.unit.runtime.doer import Doer, answer


async def test_trap_2_2_d_an_answer_and_a_timeout_in_one_tick(runtime: Runtime, clock: VirtualClock) -> None:
    """One of them is first, and the other finds the question settled."""

    async def slow(actor: Doer, sender: From) -> Reply:
        await runtime.sleep(1.0)
        return Reply("answer")

    ref = await runtime.start(Doer())
    call = asyncio.ensure_future(ref.call(slow, timeout=1.0))
    await clock.advance(1.0)
    outcome = await asyncio.gather(call, return_exceptions=True)
    assert outcome[0] == "answer" or isinstance(outcome[0], CallTimeout)
    assert await ref.call(answer) == "answer"


async def test_trap_2_2_e_a_caller_that_is_cancelled_leaves_nothing_behind(
    runtime: Runtime, clock: VirtualClock, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither a timer nor a place among those whose answers were put off, nor a complaint of asyncio's."""
    ref = await runtime.start(Doer())

    async def put_off(*_: object) -> NoReply:
        return NoReply()

    calls = [asyncio.ensure_future(ref.call(put_off)) for _ in range(3)]
    await clock.settle()
    assert len(ref._process._deferred or ()) == 3
    calls[0].cancel()
    await clock.settle()
    assert len(ref._process._deferred or ()) == 2
    await clock.advance(5.0)
    assert not ref._process._deferred
    assert clock.pending == 0
    last = asyncio.ensure_future(ref.call(put_off))
    await clock.settle()
    ref.kill()
    ref._process.on_dead(last.cancel)
    await asyncio.gather(*calls, last, return_exceptions=True)
    del calls, last
    gc.collect()
    assert [record for record in caplog.records if record.name == "asyncio"] == []


async def test_trap_2_5_g_ten_thousand_casts_do_not_starve_anothers_timer(runtime: Runtime) -> None:
    """A busy mailbox gives way now and then."""
    handled = 0
    at_timer: list[int] = []

    class Busy(Actor):
        async def handle_cast(self, message: object) -> None:
            nonlocal handled
            handled += 1

    ref = await runtime.start(Busy())
    for _ in range(10_000):
        ref.cast(None)
    runtime.loop.call_soon(lambda: runtime.loop.call_soon(lambda: at_timer.append(handled)))
    await ref.stop()
    assert handled == 10_000
    assert at_timer[0] < 1_000


async def test_rule_4_f_calls_that_can_never_end_are_refused(runtime: Runtime, clock: VirtualClock) -> None:
    """Directly, through another actor, and through a task that answers for it; with the path to look at."""
    a, b = await runtime.start(Doer(), label="a"), await runtime.start(Doer(), label="b")
    tasks = await runtime.start(TaskSupervisor())
    assert isinstance(tasks, TaskSupervisorRef)

    def through(*steps: Callable[[Any], Awaitable[Any]]) -> Any:
        async def step(actor: Doer, sender: From) -> Any:
            return await steps[0](through(*steps[1:])) if steps else Reply("end")

        async def replying(actor: Doer, sender: From) -> Reply:
            result = await step(actor, sender)
            return result if isinstance(result, Reply) else Reply(result)

        return replying

    def deferred(target: ActorRef, owner: str) -> Any:
        async def ask(sender: From) -> None:
            try:
                sender.reply(await target.call(answer))
            except CallCycle as cycle:
                sender.fail(cycle)

        async def handle(actor: Doer, sender: From) -> NoReply:
            _ = actor.spawn_task(ask, sender) if owner == "actor" else tasks.start(ask, sender)
            return NoReply()

        return handle

    with pytest.raises(ActorExited) as direct:
        await a.call(through(a.call))
    assert isinstance(direct.value.reason, Crashed)
    assert isinstance(direct.value.reason.error, CallCycle)
    a = await runtime.start(Doer(), label="a")
    with pytest.raises(ActorExited) as indirect:
        await a.call(through(b.call, a.call))
    assert "a -> b -> a" in str(_root(indirect.value))
    for owner in ("actor", "supervisor"):
        a, b = await runtime.start(Doer(), label="a"), await runtime.start(Doer(), label="b")

        async def over_b(actor: Doer, sender: From, owner: str = owner, a: ActorRef = a, b: ActorRef = b) -> Reply:
            with pytest.raises(CallCycle):
                await b.call(deferred(a, owner))
            return Reply("refused")

        assert await a.call(over_b) == "refused"
    assert clock.now() == 0.0


def _root(error: BaseException) -> BaseException:
    while isinstance(error, ActorExited) and isinstance(error.reason, Crashed):
        error = error.reason.error
    return error


async def test_who_has_been_answered_may_be_called(runtime: Runtime) -> None:
    """A task started for a call goes on after the answer; then nobody waits for it any more."""
    a, b = await runtime.start(Doer()), await runtime.start(Doer())
    outcome: asyncio.Future[str] = runtime.loop.create_future()

    async def later(sender: From) -> None:
        sender.reply("at once")
        outcome.set_result(await a.call(answer))

    async def start_later(actor: Doer, sender: From) -> NoReply:
        actor.spawn_task(later, sender)
        return NoReply()

    async def over_b(actor: Doer, sender: From) -> Reply:
        return Reply(await b.call(start_later))

    assert await a.call(over_b) == "at once"
    assert await outcome == "answer"


class Bounded(Doer):
    mailbox_limit: ClassVar[int | None] = 2


async def test_rule_4_i_a_full_mailbox_refuses_calls_and_casts_but_no_signals(
    runtime: Runtime, clock: VirtualClock
) -> None:
    """The runtime's own notices always get through."""
    ref, target = await runtime.start(Bounded()), await runtime.start(Doer())
    gate = asyncio.Event()

    async def watch_and_wait(actor: Doer) -> None:
        target.monitor()
        await gate.wait()

    ref.cast(watch_and_wait)
    await clock.settle()
    assert ref.cast(answer)
    assert ref.send("x")
    assert not ref.cast(answer)
    assert not ref.send("y")
    with pytest.raises(MailboxFull):
        await ref.call(answer)
    target.kill()
    await target.wait_exit()
    gate.set()
    await ref.stop()
    assert [type(each) for each in vars(ref._process.actor)["seen"]] == [str, Down]


async def test_trap_2_2_g_put_waits_for_room_and_cancelled_putters_pass_their_place_on(
    runtime: Runtime, clock: VirtualClock
) -> None:
    """Back-pressure, the longest waiting first; a place offered to who has left is offered to the next."""
    ref, gate, done = await runtime.start(Bounded()), asyncio.Event(), list[int]()

    async def wait(actor: Doer) -> None:
        await gate.wait()
        gate.clear()

    def note(number: int) -> Any:
        async def noting(actor: Doer) -> None:
            done.append(number)
            await wait(actor)

        return noting

    ref.cast(wait)
    await clock.settle()
    assert ref.cast(note(0))
    assert ref.cast(note(1))
    putters = [asyncio.ensure_future(ref.put(note(number))) for number in range(2, 6)]
    await clock.settle()
    putters[0].cancel()
    await clock.settle()
    assert len(ref._process.mailbox._room or ()) == 3
    gate.set()
    ref._process.mailbox.wake_putter()
    putters[1].cancel()
    for _ in range(4):
        await clock.settle()
        gate.set()
    await clock.settle()
    gate.set()
    await clock.settle()
    assert [putter.cancelled() for putter in putters] == [True, True, False, False]
    assert done == [0, 1, 4, 5]
    waiting = [asyncio.ensure_future(ref.put(note(number))) for number in range(6, 12)]
    await clock.settle()
    ref.kill()
    outcomes = await asyncio.gather(*waiting, return_exceptions=True)
    assert isinstance(outcomes[-1], NoSuchActor)


async def test_rule_4_g_room_made_by_demonitor_is_offered(runtime: Runtime, clock: VirtualClock) -> None:
    """A queued Down that is taken back leaves room that no pop would ever announce."""

    class Single(Doer):
        mailbox_limit: ClassVar[int | None] = 1

    ref, target, gate = await runtime.start(Single()), await runtime.start(Doer()), asyncio.Event()

    async def watch(actor: Doer) -> None:
        number = target.monitor()
        target.kill()
        await gate.wait()
        target.demonitor(number)

    ref.cast(watch)
    await target.wait_exit()
    putter = asyncio.ensure_future(ref.put(answer))
    await clock.settle()
    assert not putter.done()
    gate.set()
    await clock.settle()
    assert putter.done()


REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="clean")


async def test_trap_2_2_l_a_callers_context_is_not_seen_by_actors_and_tasks(
    runtime: Runtime, clock: VirtualClock
) -> None:
    """An actor outlives the request that happened to start it, and so do its restarts and its timers."""
    seen: list[str] = []

    class Reader(Actor):
        async def init(self) -> None:
            seen.append(REQUEST.get())

        async def handle_cast(self, message: object) -> None:
            seen.append(REQUEST.get())
            raise KeyError("crash")

    async def read() -> None:
        seen.append(REQUEST.get())

    REQUEST.set("dirty")
    supervisor = await runtime.start(Supervisor())
    assert isinstance(supervisor, SupervisorRef)
    child = await supervisor.start_child(ChildSpec("c", Reader))
    child.cast("x")
    await child.wait_exit()
    await supervisor.count_children()
    await supervisor._process.spawn_task(read).wait_exit()
    runtime.clock.call_later(0.0, lambda: seen.append(REQUEST.get()), context=runtime.context)
    await clock.settle()
    assert seen == ["clean"] * 5
    task = supervisor._process.spawn_task(read, context=contextvars.copy_context())
    await task.wait_exit()
    assert seen[-1] == "dirty"
