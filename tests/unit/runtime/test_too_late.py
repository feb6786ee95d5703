"""An event that comes too late, twice or for nobody does nothing: a callback cannot know what else its tick brings."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from dspex.errors import AppAlreadyRunning, AppNotRunning, NoSuchActor
from dspex.runtime import (
    KILL,
    KILLED,
    NORMAL,
    Actor,
    Application,
    ChildSpec,
    Down,
    DynamicSupervisor,
    DynamicSupervisorRef,
    Other,
    Process,
    Registry,
    Runtime,
    ShutdownPolicy,
    Supervisor,
    TaskSupervisor,
    TaskSupervisorRef,
    Via,
    WorkerThread,
    _deadlines,
    _parking,
    _runtime,
    _task_handle,
)
from dspex.runtime import _process as process_module
from dspex.testing import VirtualClock
from tests.unit.runtime.doer import Doer, answer, deaf, forever


def done(runtime: Runtime) -> Any:
    future: Any = runtime.loop.create_future()
    future.set_result("first")
    return future


@pytest.mark.parametrize(
    "late",
    [
        lambda future: process_module._give_up(future),
        lambda future: _parking._nobody_came(future, "the name 'n'", 1.0),
        lambda future: _deadlines.expire(future, None, 1.0),  # type: ignore[arg-type]  # it is not looked at
        lambda future: _runtime._wake(future),
        lambda future: _task_handle._settle(future, True),
    ],
)
async def test_a_timer_that_fires_with_what_it_waits_for(runtime: Runtime, late: Callable[[Any], object]) -> None:
    """The first of the tick counts; to set a future twice would be an error of ours."""
    future = done(runtime)
    late(future)
    assert future.result() == "first"


async def test_signals_to_the_dead_and_the_unknown(runtime: Runtime, clock: VirtualClock) -> None:
    """Notices, timers and undone wishes that nobody waits for any more."""
    ref, other = await runtime.start(Doer()), await runtime.start(Doer())
    process = ref._process
    process.deliver_down(Down(99, other, NORMAL))
    process.demonitor(99)
    process.remove_watcher(99)
    assert not Process.traps.fget(process)  # type: ignore[attr-defined]  # it is a property
    await ref.stop()
    process._idle()
    process._fence()
    process._cancel_again(1.0)
    process._terminate_too_slow(Other("late"))
    process._kill()
    assert ref.exit_reason == NORMAL
    assert process.chain() == (process,)
    assert Process.chain(other._process) == (other._process,)
    assert Process.serving.fget(other._process) is None  # type: ignore[attr-defined]  # it is a property
    with pytest.raises(NotImplementedError):
        _ = Process.ref.fget(other._process)  # type: ignore[attr-defined]  # it is a property


async def test_who_gave_up_waiting_is_not_told(runtime: Runtime, clock: VirtualClock) -> None:
    """A name is taken, unavailable or given up, in the tick in which somebody stops waiting for it, or just before."""
    names, told = runtime._names, list[object]()

    async def wait_for(name: str) -> Any:
        waiting: Any = asyncio.ensure_future(runtime.wait_name(name, None))
        await clock.settle()
        return waiting

    taken, unavailable, closed = [await wait_for(name) for name in ("taken", "unavailable", "closed")]
    for waiting in (taken, unavailable, closed):
        waiting.cancel()
    process = (await runtime.start(Doer()))._process
    process._name = "taken"
    names.announce(process)
    names.parking.mark_unavailable("unavailable", "reason")
    names.close()
    process._name = None
    failing = await wait_for("failing")
    names.parking.mark_unavailable("failing", "reason")
    failing.cancel()
    for waiting in (taken, unavailable, closed, failing):
        with pytest.raises(asyncio.CancelledError):
            await waiting
    runtime.when_named("other", told.append)()
    runtime.when_named("failing", told.append)
    names.parking.mark_unavailable("failing", "reason")
    await clock.settle()
    names.leave("nobody's", process)
    assert told == []
    assert list(names) == []
    assert "other" not in names


async def test_an_interrupt_that_nobody_wants_goes_on(runtime: Runtime) -> None:
    """It leaves the loop, as it would without us."""
    process = (await runtime.start(Doer()))._process
    with pytest.raises(KeyboardInterrupt):
        process.pass_interrupt(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt, match="inside"):
        process.pass_interrupt(
            BaseExceptionGroup("", [ExceptionGroup("", [ValueError()]), KeyboardInterrupt("inside")])
        )
    process.pass_interrupt(SystemExit())


async def test_a_handle_for_priority_names_its_actor(runtime: Runtime) -> None:
    """And a priority monitor that is taken back is forgotten."""
    ref, other = await runtime.start(Doer(), label="first"), await runtime.start(Doer())
    assert repr(ref._process.actor.priority_ref()) == "<first first>"
    number = ref._process.monitor(other._process, priority=True)
    ref._process.demonitor(number)
    assert not ref._process._priority_monitors
    await other.stop()
    assert actor_seen(ref) == []


def actor_seen(ref: Any) -> list[object]:
    seen: list[object] = ref._process.actor.seen
    return seen


async def test_the_room_of_a_mailbox_is_offered_to_who_still_waits(runtime: Runtime, clock: VirtualClock) -> None:
    """Also when those who wait are cancelled in the tick in which the mailbox is emptied."""

    class Small(Doer):
        mailbox_limit: ClassVar[int | None] = 1

    ref = await runtime.start(Small())
    ref.cast(forever)
    await clock.settle()
    ref.cast(answer)
    putters = [asyncio.ensure_future(ref.put(answer)) for _ in range(3)]
    await clock.settle()
    for putter in putters[:2]:
        putter.cancel()
    ref._process.mailbox.wake_putter()
    ref.kill()
    outcomes = await asyncio.gather(*putters, return_exceptions=True)
    assert [type(each) for each in outcomes] == [asyncio.CancelledError, asyncio.CancelledError, NoSuchActor]


async def test_shutdown_of_a_task_is_cancelled(runtime: Runtime, clock: VirtualClock) -> None:
    """It was to end, so it is killed; a handle names its task."""
    tasks = await runtime.start(TaskSupervisor())
    assert isinstance(tasks, TaskSupervisorRef)
    free = asyncio.Event()
    handle = tasks.start(deaf, runtime.loop, free, label="job")
    await clock.settle()
    stopping = asyncio.ensure_future(handle.shutdown(ShutdownPolicy.INFINITY))
    await clock.settle()
    stopping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await stopping
    assert "job" in repr(handle)
    assert tasks.start_link(answer).ref.alive  # outside of every process there is nothing to link
    free.set()
    async with clock.autojump():
        assert await handle.ref.wait_exit() is not None


async def test_an_exit_in_a_dying_task_is_not_its_reason(runtime: Runtime, clock: VirtualClock) -> None:
    """The first reason is the reason, SystemExit or not."""

    async def stubborn() -> None:
        try:
            await forever()
        except asyncio.CancelledError:
            raise SystemExit(3) from None

    task = (await runtime.start(Doer()))._process.spawn_task(stubborn)
    await clock.settle()
    task.receive_exit(KILL, None)
    assert await task.wait_exit() == KILLED


async def test_a_janitor_reports_what_it_cannot_close(runtime: Runtime, clock: VirtualClock) -> None:
    """Futures and coroutines that there was no time for are let go, and the end goes on."""
    ref = await runtime.start(Doer())
    never: Any = runtime.loop.create_future()

    async def hang(_: object) -> None:
        await forever()

    async def interrupted(_: object) -> None:
        raise GeneratorExit

    for close in (lambda _: never, hang):
        ref._process.own("x", close)
    ref.kill()
    async with clock.autojump():
        assert await ref.wait_exit() == KILLED
    ref = await runtime.start(Doer())
    ref._process.own("x", interrupted)
    ref.kill()
    assert await ref.wait_exit() == KILLED
    never.cancel()


async def test_a_child_of_a_dynamic_supervisor_is_terminated_before_its_retry(
    runtime: Runtime, clock: VirtualClock
) -> None:
    """The note to try again finds nobody."""
    ref = await runtime.start(DynamicSupervisor())
    assert isinstance(ref, DynamicSupervisorRef)
    assert await ref._process.actor._retry("nobody") is None  # type: ignore[attr-defined]  # it is one of those


async def test_notes_to_a_dead_supervisor_are_dropped(runtime: Runtime) -> None:
    """A timer that is due in the tick of the death."""
    ref = await runtime.start(Supervisor())
    supervisor: Any = ref._process.actor
    await ref.stop()
    supervisor._note("late")
    assert len(ref._process.mailbox) == 0


async def test_removing_a_trace_that_was_never_installed(runtime: Runtime) -> None:
    """Nothing is there to be undone."""
    ref = await runtime.start(Doer())
    await ref.remove_trace(print)
    assert await ref.call(answer) == "answer"


async def test_a_key_held_by_a_task_names_no_actor(runtime: Runtime) -> None:
    """It has no mailbox to send to."""
    registry = Registry()
    gate: Any = runtime.loop.create_future()

    async def hold() -> None:
        registry.register("k")
        await gate

    task = (await runtime.start(Doer()))._process.spawn_task(hold)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(registry) == 1
    assert Via(registry, "k").whereis() is None
    gate.set_result(None)
    await task.wait_exit()


async def test_a_worker_thread_runs_in_order_and_ends(runtime: Runtime) -> None:
    """A failure there is told; the closer waits for all that was queued, and may have a last word."""
    worker, order, failed = WorkerThread("worker"), list[object](), list[str]()

    def fail() -> None:
        raise OSError("no")

    worker.submit(order.append, 1, failed=lambda error: failed.append(repr(error)))
    worker.submit(fail, failed=lambda error: failed.append(repr(error)))
    assert await worker.run(len, "abc") == 3
    await worker.aclose(lambda: order.append("last"))
    assert (order, failed) == ([1, "last"], ["OSError('no')"])
    other = WorkerThread("other")
    await other.aclose()
    third = WorkerThread("third")
    closing = asyncio.ensure_future(third.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await closing


async def test_applications_that_do_not_run(runtime: Runtime, clock: VirtualClock) -> None:
    """Have no supervisor and no wait; a second start is refused; a stop during the start is one."""
    idle = Application(runtime=runtime)
    for ask in (lambda: idle.supervisor, lambda: Application().runtime):
        with pytest.raises(AppNotRunning):
            ask()
    await idle.close()
    async with idle:
        with pytest.raises(AppAlreadyRunning):
            await idle.open()
        assert idle._process is not None
        idle._process.ref.send("a stray message")
        await clock.settle()
    assert not idle.failed

    class Slow(Application):
        async def start(self) -> None:
            await forever()

    class SlowChild(Actor):
        async def init(self) -> None:
            await forever()

    for application in (Slow(runtime=runtime), Application([ChildSpec("x", SlowChild)], runtime=runtime)):
        opening = asyncio.ensure_future(application.open())
        await clock.settle()
        with pytest.raises(AppNotRunning):
            _ = application.supervisor
        application.request_stop()
        with pytest.raises(Exception, match=r"shutdown|killed"):
            await opening
        application.request_stop()
