"""Each known trap between OTP's cancellation and asyncio's, once fallen into and fenced off since."""

from __future__ import annotations

import asyncio
import threading
from typing import ClassVar

import anyio
import pytest

from dspex.errors import ActorExited, LeakedTasks, NoSuchActor, StartFailed
from dspex.runtime import (
    KILL,
    KILLED,
    SHUTDOWN,
    Actor,
    ExitReason,
    From,
    Other,
    Reply,
    Runtime,
    Stop,
    TaskSupervisor,
)
from dspex.testing import VirtualClock
from tests.unit.runtime.doer import Doer, answer, deaf, forever


async def test_trap_2_5_a_code_that_swallows_cancellation_is_fenced(runtime: Runtime, clock: VirtualClock) -> None:
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


async def test_trap_2_4_d_closing_reports_what_still_runs(clock: VirtualClock) -> None:
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


async def test_trap_2_5_b_a_process_killed_before_its_first_step(runtime: Runtime) -> None:
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
async def test_trap_2_5_c_a_kill_during_terminate(runtime: Runtime, clock: VirtualClock, stubborn: bool) -> None:
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


async def test_trap_2_5_d_a_kill_during_to_thread(runtime: Runtime, clock: VirtualClock) -> None:
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
            runtime.loop.call_soon(lambda: starting.cancel())  # before the starter hears that all is well

    starting = asyncio.ensure_future(runtime.start(Slow()))
    if when == "in init":
        await clock.settle()
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
    parked = asyncio.ensure_future(runtime.named("n", patient=True).call(answer, timeout=None))
    await asyncio.sleep(0)
    process.receive_exit(Other("told to"), None)
    failure = await runtime.await_start(process, None)
    assert failure is not None
    assert failure.reason == Other("told to")
    assert not parked.done()
    await runtime.start(Doer(), name="n")
    assert await parked == "answer"


async def test_rule_4_b_a_dying_actor_handles_no_further_message(runtime: Runtime) -> None:
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


@pytest.mark.parametrize("how", ["twice", "scope"])
async def test_rule_4_d_closing_survives_cancellation(clock: VirtualClock, how: str) -> None:
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
        waiting = asyncio.ensure_future(runtime.named("nobody", patient=True).call("x", timeout=None))
        await clock.settle()
    with pytest.raises(NoSuchActor, match="runtime"):
        await waiting


async def test_roots_end_side_by_side_and_the_stubborn_are_killed(clock: VirtualClock) -> None:
    """All are told in one tick, the newest first, and share one budget: many slow roots take no longer than one."""
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
    kinds = ((Root, "a"), (Stubborn, "b"), (Stubborn, "c"), (Root, "d"))
    refs = [await runtime.start(kind(name)) for kind, name in kinds]
    async with clock.autojump():
        await runtime.close(timeout=1.0)
    assert order == ["d", "a", "c", "b"]
    assert [ref.exit_reason for ref in refs] == [SHUTDOWN, KILLED, KILLED, SHUTDOWN]
    assert clock.now() == 1.0


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
