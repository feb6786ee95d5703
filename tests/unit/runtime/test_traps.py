"""Each known trap between OTP's semantics and asyncio's, once fallen into and fenced off since."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
from collections.abc import Awaitable, Callable
from typing import Any, ClassVar

import anyio
import pytest

from dspex.errors import ActorExited, CallCycle, CallTimeout, LeakedTasks, MailboxFull, NoSuchActor, StartFailed
from dspex.runtime import (
    KILL,
    KILLED,
    SHUTDOWN,
    Actor,
    ActorRef,
    ChildSpec,
    Crashed,
    Down,
    ExitReason,
    From,
    NoReply,
    Other,
    Reply,
    Runtime,
    Stop,
    Supervisor,
    SupervisorRef,
    TaskSupervisor,
    TaskSupervisorRef,
)
from dspex.testing import VirtualClock


class Doer(Actor):
    """Calls the message: to answer with what it returns, or just to have it done."""

    trap_exit: ClassVar[bool] = False

    def __init__(self) -> None:
        self.seen: list[object] = []

    async def handle_call(self, message: Any, sender: From) -> Any:
        return await message(self, sender)

    async def handle_cast(self, message: Any) -> Any:
        outcome = await message(self)
        return None if isinstance(outcome, Reply) else outcome

    async def handle_info(self, message: object) -> None:
        self.seen.append(message)


async def forever(*_: object) -> None:
    await asyncio.get_running_loop().create_future()


async def answer(*_: object) -> Reply:
    return Reply("answer")


async def deaf(loop: asyncio.AbstractEventLoop, until: asyncio.Event) -> None:
    """Ignore cancellations until told otherwise; not for ever, or a test that fails would hang."""
    for _ in range(20):
        try:
            await until.wait()
        except asyncio.CancelledError:
            continue
        return


# --- cancellation -------------------------------------------------------------------------------------------


async def test_code_that_swallows_cancellation_is_fenced(runtime: Runtime, clock: VirtualClock) -> None:
    """It is declared dead, its name is free, nothing it says counts, and closing reports it."""
    free, allowed = asyncio.Event(), list[object]()
    other = await runtime.start(Doer())

    async def swallow(actor: Doer, sender: From) -> Reply:
        await deaf(runtime.loop, free)
        allowed.extend([other.cast(forever), other.send("x"), sender.reply("x"), sender.fail(ValueError())])
        for attempt in (other.call, other.put):
            with pytest.raises((ActorExited, NoSuchActor)):
                await attempt(answer)
        for act in (other.monitor, other.link, lambda: runtime.spawn(Doer(), parent=ref._process)):
            with pytest.raises(ActorExited):
                act()
        other.kill()
        actor.own("late", allowed.append)
        actor.own("later", deferred)
        return Reply("late")

    async def deferred(resource: str) -> None:
        allowed.append(resource)

    ref = await runtime.start(Doer(), name="n")
    call = asyncio.ensure_future(ref.call(swallow, timeout=None))
    await clock.settle()
    ref.kill()
    await clock.settle()
    assert not call.done()
    await clock.advance(runtime.kill_budget)
    with pytest.raises(ActorExited):
        await call
    assert ref.exit_reason == KILLED
    assert runtime.whereis("n") is None
    assert "test_traps" in next(iter(runtime.zombies.values()))
    assert "deaf" in next(iter(runtime.zombies.values()))
    free.set()
    await clock.settle()
    assert not runtime.zombies
    assert allowed == [False, False, False, False, "late", "later"]
    assert other.alive


async def test_closing_reports_what_still_runs(clock: VirtualClock) -> None:
    """The one exception to leaving nothing behind is told with its stack."""
    free = asyncio.Event()
    runtime = Runtime(clock=clock)
    runtime.open()
    ref = await runtime.start(Doer())

    async def swallow(actor: Doer) -> None:
        await deaf(runtime.loop, free)

    ref.cast(swallow)
    await clock.settle()
    async with clock.autojump():
        with pytest.raises(LeakedTasks, match="deaf"):
            await runtime.close()
    assert not runtime.processes
    free.set()
    await clock.settle()


async def test_a_process_killed_before_its_first_step(runtime: Runtime) -> None:
    """Its body never runs, so nothing in it can be relied on to say that it is over."""
    process = runtime.spawn(Doer(), name="n")
    process.receive_exit(KILL, None)
    failure = await runtime.await_start(process, None)
    assert failure is not None
    assert failure.reason == KILLED
    assert not runtime.processes
    tasks = (await runtime.start(TaskSupervisor()))._process
    task = tasks.spawn_task(pytest.fail)
    task.receive_exit(Other("never mind"), None)
    assert await task.wait_exit() == Other("never mind")


@pytest.mark.parametrize("stubborn", [False, True])
async def test_a_kill_during_terminate(runtime: Runtime, clock: VirtualClock, stubborn: bool) -> None:
    """It is a kill all the same, whether or not terminate lets go, and children do not hold it up."""
    free, said = asyncio.Event(), list[object]()

    class Slow(Doer):
        trap_exit: ClassVar[bool] = True
        terminate_timeout: ClassVar[float | None] = None

        async def terminate(self, reason: ExitReason) -> None:
            said.append(other.cast(answer))
            if stubborn:
                await deaf(runtime.loop, free)
                said.append(other.cast(answer))
            else:
                await forever()

    other = await runtime.start(Doer())
    ref = await runtime.start(Slow())
    task = ref._process.spawn_task(forever)
    ref.exit(SHUTDOWN)
    await clock.settle()
    assert ref.alive
    ref.kill()
    async with clock.autojump():
        assert await ref.wait_exit() == KILLED
    assert task.dead
    assert clock.pending == 0
    free.set()
    await clock.settle()
    assert said == ([True, False] if stubborn else [True])


async def test_terminate_has_its_time_and_no_more(runtime: Runtime, clock: VirtualClock) -> None:
    """A goodbye that hangs must not hang those who wait for it; the reason stays what it was."""

    class Slow(Doer):
        async def terminate(self, reason: ExitReason) -> None:
            await forever()

    ref = await runtime.start(Slow())
    async with clock.autojump():
        await ref.stop(Other("done"))
    assert clock.now() == 5.0


async def test_a_kill_during_to_thread(runtime: Runtime, clock: VirtualClock) -> None:
    """The thread goes on, for threads cannot be killed; its late result goes nowhere."""
    begun, release = threading.Event(), threading.Event()

    async def in_thread(actor: Doer, sender: From) -> Reply:
        def work() -> str:
            begun.set()
            release.wait()
            return "late"

        return Reply(await asyncio.to_thread(work))

    ref = await runtime.start(Doer())
    call = asyncio.ensure_future(ref.call(in_thread, timeout=None))
    await asyncio.sleep(0)
    await asyncio.to_thread(begun.wait)
    ref.kill()
    with pytest.raises(ActorExited):
        await call
    assert ref.exit_reason == KILLED
    release.set()
    await runtime.loop.shutdown_default_executor()


@pytest.mark.parametrize("when", ["in init", "after init"])
async def test_the_starter_is_cancelled(runtime: Runtime, clock: VirtualClock, when: str) -> None:
    """Nobody would know of the actor, so there must be none."""

    class Slow(Doer):
        async def init(self) -> None:
            if when == "in init":
                await forever()

    starting = asyncio.ensure_future(runtime.start(Slow()))
    await (clock.settle() if when == "in init" else asyncio.sleep(0))
    if when == "after init":
        await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not runtime.processes


@pytest.mark.parametrize("raising", [False, True])
async def test_an_init_that_swallows_its_cancellation_has_not_succeeded(runtime: Runtime, raising: bool) -> None:
    """Whatever it returns or raises: the first reason is the reason."""

    class Stubborn(Doer):
        async def init(self) -> None:
            try:
                await forever()
            except asyncio.CancelledError:
                if raising:
                    raise KeyError("other") from None

    process = runtime.spawn(Stubborn(), name="n")
    parked = asyncio.ensure_future(runtime.named("n").call(answer, timeout=None))
    await asyncio.sleep(0)
    process.receive_exit(Other("told to"), None)
    failure = await runtime.await_start(process, None)
    assert failure is not None
    assert failure.reason == Other("told to")
    assert not parked.done()
    await runtime.start(Doer(), name="n")
    assert await parked == "answer"


async def test_a_dying_actor_handles_no_further_message(runtime: Runtime) -> None:
    """Cancellation strikes at the next suspension only; three messages would get through until then."""
    handled: list[int] = []

    class Counting(Actor):
        async def handle_cast(self, message: int) -> None:
            handled.append(message)
            if message == 1:
                self.ref.exit(Other("enough"))

    ref = await runtime.start(Counting())
    for number in range(4):
        ref.cast(number)
    await ref.wait_exit()
    assert handled == [0, 1]


# --- calls --------------------------------------------------------------------------------------------------


async def test_an_answer_and_a_timeout_in_one_tick(runtime: Runtime, clock: VirtualClock) -> None:
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


async def test_a_caller_that_is_cancelled_leaves_nothing_behind(
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


async def test_ten_thousand_casts_do_not_starve_anothers_timer(runtime: Runtime) -> None:
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


async def test_calls_that_can_never_end_are_refused(runtime: Runtime, clock: VirtualClock) -> None:
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


# --- bounded mailboxes --------------------------------------------------------------------------------------


class Bounded(Doer):
    mailbox_limit: ClassVar[int | None] = 2


async def test_a_full_mailbox_refuses_calls_and_casts_but_no_signals(runtime: Runtime, clock: VirtualClock) -> None:
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


async def test_put_waits_for_room_and_cancelled_putters_pass_their_place_on(
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


async def test_room_made_by_demonitor_is_offered(runtime: Runtime, clock: VirtualClock) -> None:
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


# --- families and resources ---------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["normal", "crash", "kill", "signal", "fence"])
async def test_owned_resources_are_closed_on_every_exit(runtime: Runtime, clock: VirtualClock, how: str) -> None:
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
    """A resource that will not close delays the end by a bounded time; what comes after it is given up."""
    free = asyncio.Event()

    async def hang(_: object) -> None:
        await (deaf(runtime.loop, free) if stubborn else forever())

    doer = Doer()
    ref = await runtime.start(doer)
    doer.own("after", hang)
    doer.own("hangs", hang)
    ref.kill()
    async with clock.autojump():
        assert await ref.wait_exit() == KILLED
    assert clock.now() == runtime.close_budget + (runtime.kill_budget if stubborn else 0.0)
    assert len(runtime.zombies) == stubborn
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


async def test_tasks_are_dead_before_their_owners_down(runtime: Runtime, clock: VirtualClock) -> None:
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


async def test_nobody_is_born_into_a_dying_family(runtime: Runtime) -> None:
    """Nobody would ever end it."""
    ref = await runtime.start(Doer())
    ref.kill()
    with pytest.raises(ActorExited):
        runtime.spawn(Doer(), parent=ref._process)
    await ref.wait_exit()
    with pytest.raises(ActorExited):
        runtime.spawn(Doer(), parent=ref._process)
    assert not runtime.processes


# --- context ------------------------------------------------------------------------------------------------

REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("request", default="clean")


async def test_a_callers_context_is_not_seen_by_actors_and_tasks(runtime: Runtime, clock: VirtualClock) -> None:
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


# --- growth -------------------------------------------------------------------------------------------------


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
    assert not runtime._parked
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


# --- closing the runtime ------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["twice", "scope"])
async def test_closing_survives_cancellation(clock: VirtualClock, how: str) -> None:
    """Who is in a hurry kills what is left; then the cancellation goes on its way."""
    runtime = Runtime(clock=clock)

    class Slow(Doer):
        trap_exit: ClassVar[bool] = True

        async def terminate(self, reason: ExitReason) -> None:
            await forever()

    async def use() -> None:
        async with runtime:
            for _ in range(3):
                await runtime.start(Slow())
            await forever()

    async def use_in_scope() -> None:
        with anyio.CancelScope() as scope:
            runtime.loop = asyncio.get_running_loop()
            runtime.loop.call_soon(lambda: runtime.loop.call_soon(scope.cancel))
            await use()

    using = asyncio.ensure_future(use() if how == "twice" else use_in_scope())
    await clock.settle()
    if how == "twice":
        using.cancel()
        await clock.settle()
        assert not using.done()
        using.cancel()
    async with clock.autojump():
        outcome = (await asyncio.gather(using, return_exceptions=True))[0]
    assert isinstance(outcome, asyncio.CancelledError) if how == "twice" else outcome is None
    assert not runtime.processes
    assert clock.pending == 0
    assert (clock.now() == 0.0) == (how == "twice")


async def test_closing_ends_who_waits_for_a_name(clock: VirtualClock) -> None:
    """Nobody will ever take it."""
    async with Runtime(clock=clock) as runtime:
        waiting = asyncio.ensure_future(runtime.named("nobody").call("x", timeout=None))
        await clock.settle()
    with pytest.raises(CallTimeout, match="closed"):
        await waiting


async def test_the_newest_root_is_ended_first_and_the_stubborn_killed(clock: VirtualClock) -> None:
    """Who was started later may lean on who was there before."""
    order: list[str] = []

    class Root(Doer):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        async def init(self) -> None:
            self.own(self.name, order.append)

    class Stubborn(Root):
        trap_exit: ClassVar[bool] = True

        async def terminate(self, reason: ExitReason) -> None:
            await forever()

    runtime = Runtime(clock=clock)
    runtime.open()
    refs = [await runtime.start(kind(name)) for kind, name in ((Root, "a"), (Stubborn, "b"), (Root, "c"))]
    async with clock.autojump():
        await runtime.close(timeout=1.0)
    assert order == ["c", "b", "a"]
    assert [ref.exit_reason for ref in refs] == [SHUTDOWN, KILLED, SHUTDOWN]


async def test_a_start_that_fails_takes_its_starter_down_unless_it_traps(runtime: Runtime) -> None:
    """They are linked from the first moment on, as by start_link."""

    class Failing(Actor):
        async def init(self) -> Stop:
            return Stop(Other("no"))

    async def start(actor: Doer, sender: From) -> Reply:
        with pytest.raises(StartFailed):
            await runtime.start(Failing())
        return Reply("lived")

    class Trapping(Doer):
        trap_exit: ClassVar[bool] = True

    assert await (await runtime.start(Trapping())).call(start) == "lived"
    with pytest.raises(ActorExited) as caught:
        await (await runtime.start(Doer())).call(start)
    assert caught.value.reason == Other("no")
