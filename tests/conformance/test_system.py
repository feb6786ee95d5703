"""Looking into actors and holding them still: the cases of OTP's sys_SUITE, and messages with priority."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from dspex.errors import ActorExited, CallCycle, CallTimeout, NoSuchActor
from dspex.runtime import (
    NORMAL,
    Actor,
    Continue,
    Down,
    Exit,
    ExitReason,
    From,
    Idle,
    IdleTimeout,
    Next,
    NoReply,
    Other,
    PriorityRef,
    Reply,
    Runtime,
    Started,
    TraceEvent,
    current_process,
    set_label,
    tree,
)
from dspex.testing import VirtualClock
from tests.conformance.kids import Host, TrappingHost, actor_of


class Counter(Actor):
    """Counts; can be kept busy, and keeps what it is sent."""

    def __init__(self) -> None:
        self.count = 0
        self.seen: list[object] = []

    async def handle_call(self, message: Any, sender: From) -> Next:
        if isinstance(message, float):
            await self.runtime.sleep(message)
        if message == "quiet":
            return NoReply(Idle(10.0))
        self.count += 1
        return Reply(self.count)

    async def handle_cast(self, message: Any) -> Next:
        self.seen.append(message)
        return None

    async def handle_info(self, message: Any) -> Next:
        self.seen.append(message)
        return None


class TrappingCounter(Counter):
    trap_exit: ClassVar[bool] = True


async def test_p68_a_suspended_actor_answers_questions_but_no_calls(runtime: Runtime, clock: VirtualClock) -> None:
    """Suspending twice is suspending; what came meanwhile is handled in its order after resuming."""
    ref = await runtime.start(Counter())
    await ref.suspend()
    async with clock.autojump():
        with pytest.raises(CallTimeout):
            await ref.call("one", timeout=1.0)
    ref.cast("a")
    ref.cast("b")
    assert await ref.get_state() == {"count": 0, "seen": []}
    await ref.suspend()
    assert tree(ref._process).status == "suspended"
    await ref.resume()
    assert await ref.call("two") == 2
    assert actor_of(ref).seen == ["a", "b"]
    assert tree(ref._process).status == "running"


async def test_p68_a_state_is_replaced_or_left_alone(runtime: Runtime) -> None:
    """A function that fails has changed nothing, and its failure is the caller's."""
    ref = await runtime.start(Counter())
    assert (await ref.replace_state(lambda state: {**state, "count": 41}))["count"] == 41
    assert await ref.call("one") == 42

    def wrong(state: dict[str, Any]) -> dict[str, Any]:
        state["count"] = 0
        raise KeyError("boom")

    with pytest.raises(KeyError, match="boom"):
        await ref.replace_state(wrong)
    with pytest.raises(TypeError):
        await ref.replace_state(lambda state: {"_dspex_process": None})
    assert await ref.call("one") == 43
    await ref.replace_state(lambda state: {"count": 7})
    assert await ref.get_state() == {"count": 7}


async def test_questions_come_before_messages_that_wait_but_not_into_one(runtime: Runtime, clock: VirtualClock) -> None:
    """A stuck handler cannot answer; the snapshot says since when."""
    ref = await runtime.start(Counter())
    await clock.advance(3.0)
    busy = asyncio.ensure_future(ref.call(10.0, timeout=None))
    await clock.advance(1.0)
    ref.cast("later")
    assert tree(ref._process).busy_since == 3.0
    async with clock.autojump():
        with pytest.raises(CallTimeout):
            await ref.get_state(timeout=1.0)
        question = asyncio.ensure_future(ref.replace_state(lambda state: {**state, "seen": ["question"]}, timeout=None))
        assert await busy == 1
        await question
    await clock.settle()
    assert actor_of(ref).seen == ["question", "later"]
    assert tree(ref._process).busy_since is None


async def test_an_actor_cannot_question_itself_nor_the_dead_answer(runtime: Runtime, clock: VirtualClock) -> None:
    """Both are told at once; one that dies while it is suspended fails who waits for it."""
    host = await runtime.start(Host())
    with pytest.raises(ActorExited) as caught:
        await host.call(host.get_state)
    assert isinstance(caught.value.__cause__ or caught.value.reason.error, CallCycle)  # type: ignore[attr-defined]
    with pytest.raises(NoSuchActor):
        await host.get_state()
    ref = await runtime.start(Counter())
    await ref.suspend()
    call = asyncio.ensure_future(ref.call("one"))
    await clock.settle()
    ref.exit(Other("boom"))
    question = asyncio.ensure_future(ref.get_state())
    await asyncio.wait([call, question])
    assert isinstance(call.exception(), ActorExited)
    assert isinstance(question.exception(), NoSuchActor)


@pytest.mark.parametrize("kind", [Counter, TrappingCounter])
async def test_a_suspended_actor_can_be_stopped_and_ended_by_its_parent(
    runtime: Runtime, clock: VirtualClock, kind: type[Counter]
) -> None:
    """Holding it still is not keeping it alive."""
    stopped = await runtime.start(kind())
    await stopped.suspend()
    stopped.cast("never")
    await stopped.stop()
    assert stopped.exit_reason == NORMAL
    parent = await runtime.start(Host())
    child = await parent.call(lambda: runtime.start(kind()))
    await child.suspend()
    await parent.stop()
    assert not child.alive


async def test_p75_statistics_count_messages_and_not_questions(runtime: Runtime, clock: VirtualClock) -> None:
    """Two questions are not messages; after switching off there are none."""
    ref = await runtime.start(Counter())
    assert await ref.statistics() is None
    await ref.call("one")
    await clock.advance(1.0)
    await ref.keep_statistics()
    await ref.call("one")
    await ref.get_state()
    await ref.get_state()
    await clock.advance(2.0)
    counted = await ref.statistics()
    assert counted is not None
    assert (counted.messages_in, counted.since, counted.now) == (1, 1.0, 3.0)
    await ref.keep_statistics(False)
    assert await ref.statistics() is None


async def test_a_trace_sees_what_goes_in_and_comes_out(runtime: Runtime, clock: VirtualClock) -> None:
    """One that raises is taken out; without any the actor is as it was."""
    ref = await runtime.start(Counter())
    before = dict(vars(actor_of(ref)))
    seen: list[TraceEvent] = []

    def bad(event: TraceEvent) -> None:
        raise KeyError(event.kind)

    for hook in (seen.append, seen.append, bad):
        await ref.install_trace(hook)
    assert await ref.call("one") == 1
    ref.send("hello")
    assert (await ref.get_state()).keys() == {"count", "seen"}
    await ref.remove_trace(bad)
    await clock.settle()
    assert [(event.kind, event.handler, event.message, event.outcome) for event in seen] == [
        ("in", "handle_call", "one", None),
        ("out", "handle_call", "one", Reply(1)),
        ("in", "handle_info", "hello", None),
        ("out", "handle_info", "hello", None),
    ]
    await ref.remove_trace(seen.append)
    assert vars(actor_of(ref)).keys() == before.keys()
    assert await ref.call("two") == 2
    assert len(seen) == 4


async def test_a_question_does_not_end_the_idle_time(runtime: Runtime, clock: VirtualClock) -> None:
    """Who looks on is not a message; the time begins afresh."""
    ref = await runtime.start(Counter())
    asking = asyncio.ensure_future(ref.call("quiet", timeout=None))
    await clock.advance(6.0)
    await ref.get_state()
    await clock.advance(9.0)
    assert actor_of(ref).seen == []
    await clock.advance(1.0)
    assert actor_of(ref).seen == [IdleTimeout()]
    asking.cancel()


# --- priority -----------------------------------------------------------------------------------------------


class Receiver(Counter):
    """Hands out a way to the front of its queue."""

    async def handle_call(self, message: Any, sender: From) -> Next:
        return Reply(self.priority_ref()) if message == "priority" else await super().handle_call(message, sender)


@pytest.mark.parametrize("opted_in", [True, False])
async def test_p73_messages_with_priority_come_first_if_the_receiver_allowed_it(
    runtime: Runtime, clock: VirtualClock, opted_in: bool
) -> None:
    """In their own order, before all that waits; others cannot."""
    ref = await runtime.start(Receiver())
    allowed: PriorityRef = await ref.call("priority")
    front = allowed if opted_in else ref
    ref.send("o1")
    ref.send("o2")
    front.send("p1")
    front.send("p2")
    ref.send("o3")
    await clock.settle()
    plain = ["o1", "o2", "p1", "p2", "o3"]
    assert actor_of(ref).seen == (["p1", "p2", "o1", "o2", "o3"] if opted_in else plain)


async def test_a_closed_priority_ref_sends_nothing(runtime: Runtime, clock: VirtualClock) -> None:
    """Nor does one of a dead actor; one that is suspended gets them first when it is resumed."""
    ref = await runtime.start(Receiver())
    front: PriorityRef = await ref.call("priority")
    await ref.suspend()
    ref.send("ordinary")
    assert front.cast("first")
    assert front.send("second")
    await ref.get_state()
    front.close()
    assert not front.send("third")
    await ref.resume()
    await clock.settle()
    assert actor_of(ref).seen == ["first", "second", "ordinary"]
    assert front.ref == ref
    again: PriorityRef = await ref.call("priority")
    await ref.stop()
    assert not again.send("nobody")


async def test_a_bound_holds_for_messages_with_priority_too(runtime: Runtime, clock: VirtualClock) -> None:
    """A trusted sender must not exhaust the memory either."""

    class Small(Receiver):
        mailbox_limit: ClassVar[int | None] = 2

    ref = await runtime.start(Small())
    front: PriorityRef = await ref.call("priority")
    assert [front.send(number) for number in range(3)] == [True, True, False]


async def test_p73_a_down_comes_first_only_for_a_monitor_that_asked_for_it(
    runtime: Runtime, clock: VirtualClock
) -> None:
    """And a demonitor takes it out again, from wherever it waits."""
    for priority in (True, False):
        watcher, target = await runtime.start(Host()), await runtime.start(Host())

        async def work(target: Any = target, priority: bool = priority) -> None:
            kept, gone = target.monitor(priority=priority), target.monitor(priority=priority)
            process = current_process()
            assert process is not None
            process.ref.send("before")  # type: ignore[attr-defined]  # it is an actor
            await target.stop()
            target.demonitor(gone)
            assert kept != gone

        await watcher.call(work)
        await clock.settle()
        kinds = [type(message) for message in actor_of(watcher).seen]
        assert kinds == ([Down, str] if priority else [str, Down])


async def test_p73_an_exit_comes_first_only_over_a_link_that_asked_for_it(
    runtime: Runtime, clock: VirtualClock
) -> None:
    """The last wish counts, and only for the side that had it; to a dead process as well."""
    for wishes, first in (((True,), True), ((False,), False), ((True, False), False), ((False, True), True)):
        watcher, target = await runtime.start(TrappingHost()), await runtime.start(TrappingHost())

        async def work(target: Any = target, wishes: tuple[bool, ...] = wishes) -> None:
            for priority in wishes:
                target.link(priority=priority)
            process = current_process()
            assert process is not None
            process.ref.send("before")  # type: ignore[attr-defined]  # it is an actor
            await target.stop()
            target.link(priority=wishes[-1])

        await watcher.call(work)
        await clock.settle()
        kinds = [type(message) for message in actor_of(watcher).seen]
        assert kinds == ([Exit, Exit, str] if first else [str, Exit, Exit])
    one, other = await runtime.start(TrappingHost()), await runtime.start(TrappingHost())

    async def link_and_end() -> None:
        other.link(priority=True)
        other.send("before")
        one.kill()

    with pytest.raises(ActorExited):
        await one.call(link_and_end)
    await clock.settle()
    assert [type(message) for message in actor_of(other).seen] == [str, Exit]


# --- labels and start info ----------------------------------------------------------------------------------


async def test_a_process_names_itself(runtime: Runtime) -> None:
    """In snapshots too; code outside of every process has no label."""
    host = await runtime.start(Host())

    async def work() -> None:
        set_label("shard 7")

    await host.call(work)
    assert host.label == "shard 7"
    assert tree(host._process).label == "shard 7"
    with pytest.raises(RuntimeError, match="label"):
        set_label("nobody")


async def test_an_init_may_tell_its_starter_something(runtime: Runtime) -> None:
    """And still say what comes next."""

    class Listener(Counter):
        async def init(self) -> Started:
            return Started({"port": 4711}, Continue("go"))

        async def handle_continue(self, argument: Any) -> Next:
            self.seen.append(argument)
            return None

        async def terminate(self, reason: ExitReason) -> None:
            self.seen.append(reason)

    ref = await runtime.start(Listener())
    assert ref.start_info == {"port": 4711}
    await ref.call("one")
    assert actor_of(ref).seen == ["go"]
    assert (await runtime.start(Counter())).start_info is None
