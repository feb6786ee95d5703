"""
Every known trap between OTP's semantics and asyncio, and every rule that this runtime adds: each is a test.

The name of a test begins with the rule it holds; those that belong to something larger live with that.

=======  ===========================================================  ================================================
rule     what must hold                                               where, if not here
=======  ===========================================================  ================================================
2.2 a    two exit signals before the next step: the first reason      —
2.2 b    code that catches its cancellation has not succeeded         —
2.2 c    a handler that blocks the loop is named                      unit/runtime/test_watchdog.py
2.2 d    a late answer to a call that has timed out is dropped        unit/runtime/test_calls.py
2.2 e    a caller that is gone leaves nothing behind                  unit/runtime/test_calls.py
2.2 f    cancelling who waits does not cancel what is waited for      conformance/test_tasks.py, and here
2.2 g    no message is lost with the wait for one                     unit/runtime/test_calls.py, and here
2.2 h    a crash cancels no siblings, and new children may come       —
2.2 i    each child has its own time to stop                          —
2.2 j    a timer ends with its actor, and runs in a clean context     conformance/test_timers.py, and here
2.2 k    leaving a stream early ends all of it                        conformance/test_task_stream.py
2.2 l    what is started does not inherit its caller's context        unit/runtime/test_calls.py
2.2 m    a handler that waits can be seen from outside                —
2.2 n    a group of cancellations is a cancellation, others a crash   —
2.2 o    SystemExit is one actor's crash, Ctrl-C the program's        conformance/test_gen_server_end.py,
                                                                      conformance/test_application.py
2.4 a    scopes and groups inside one handler                         unit/runtime/test_anyio.py
2.4 b    a kill goes through a group whose cancellation persists      unit/runtime/test_anyio.py
2.4 c    a shield does not outlast the budget of a kill               —
2.4 d    a cancellation is verified, not believed                     unit/runtime/test_traps.py
2.4 e    a cancellation that was taken back does not come again       —
2.4 g    a crash during a kill is a kill                              —
2.4 h    an eager loop changes nothing                                every test here, on Python 3.12 and later
2.5 a    a handler that swallows its cancellation is fenced           unit/runtime/test_traps.py
2.5 b    a process killed before its first step                       unit/runtime/test_traps.py
2.5 c    a kill during terminate                                      unit/runtime/test_traps.py
2.5 d    a kill during to_thread                                      unit/runtime/test_traps.py
2.5 e    an answer races its timeout                                  — (2.2 d: in one tick)
2.5 f    a crash while suspended                                      —
2.5 g    ten thousand casts do not starve another's timer             unit/runtime/test_calls.py
2.5 h    a stop while start_child waits for a slow init               conformance/test_supervisor_stop.py
2.5 i    a caller's context is not seen by a restarted child          —
2.5 j    the loop closes without a pending task                       —
4 a      tasks are made past any task factory                         —
4 b      a dying actor handles no further message                     unit/runtime/test_traps.py
4 c      a call by name parks; calls fail before anybody hears        unit/runtime/test_services.py,
                                                                      conformance/test_signals.py
4 d      the end is shielded, and bounded                             unit/runtime/test_traps.py, test_anyio.py
4 e      a supervisor races each init against its parent's exit       conformance/test_supervisor_stop.py
4 f      a call into the chain of those who wait is refused           unit/runtime/test_calls.py
4 g      what was granted to somebody cancelled goes on               conformance/test_registry_names.py,
                                                                      unit/runtime/test_calls.py
4 h      nothing of ours pins the context of who made it              —
4 i      signals are exempt from a mailbox's bound                    unit/runtime/test_calls.py
4 j      what a process owns is closed, however it ends               unit/runtime/test_families.py
4 k      a task dies with its owner, before its owner's Down          unit/runtime/test_families.py
=======  ===========================================================  ================================================

2.4 f (no supervisor that restarts is a nursery) is 2.2 h, and 4 l (figures) is what the benchmarks measure.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import gc
import re
import weakref
from pathlib import Path
from typing import Any, ClassVar

import anyio
import pytest

from dspex.errors import ActorExited, CallTimeout, LeakedTasks
from dspex.runtime import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    Actor,
    ActorRef,
    Application,
    ChildSpec,
    Crashed,
    ExitReason,
    Other,
    Reply,
    Runtime,
    Supervisor,
    SupervisorRef,
    TaskSupervisor,
    TaskSupervisorRef,
    tree,
)
from dspex.testing import ExitRecorder, VirtualClock, assert_no_leaks
from tests.conformance.kids import Kid, Nursery, TrappingHost, actor_of, ends, family, kids_of, one
from tests.support.loops import EAGER

TESTS = Path(__file__).parents[1]
PLACE: contextvars.ContextVar[Any] = contextvars.ContextVar("place", default=None)


class Doing(Actor):
    """Awaits what it is sent, and answers with what that returns."""

    def __init__(self) -> None:
        self.seen: list[object] = []

    async def handle_call(self, message: Any, sender: Any) -> Reply:
        return Reply(await message())

    async def handle_cast(self, message: Any) -> None:
        self.seen.append(await message())

    async def handle_info(self, message: object) -> None:
        self.seen.append(message)


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def here() -> object:
    return PLACE.get()


# --- 2.2: OTP's features in asyncio's words -----------------------------------------------------------------


async def test_trap_2_2_a_two_exits_before_the_next_step_leave_the_first_reason(runtime: Runtime) -> None:
    """Cancellations coalesce: two of them are one CancelledError, which says neither who nor why."""
    busy, task = await runtime.start(Doing()), runtime.spawn(Doing()).spawn_task(forever)
    busy.cast(forever)
    await asyncio.sleep(0)
    for process in (busy._process, task):
        for reason in (Other("first"), Other("second"), SHUTDOWN):
            process.receive_exit(reason, None)
        assert await process.wait_exit() == Other("first")


@pytest.mark.parametrize("how", ["except BaseException", "suppress", "raise another"])
async def test_trap_2_2_b_code_that_catches_its_cancellation_has_not_succeeded(runtime: Runtime, how: str) -> None:
    """To asyncio such a task has ended well, or failed; its exit reason is the signal's all the same."""

    async def stubborn() -> str:
        if how == "suppress":
            with contextlib.suppress(asyncio.CancelledError):
                await forever()
            return "well done"
        try:
            await forever()
        except BaseException as error:
            if how == "raise another":
                raise KeyError("another") from error
        return "well done"

    tasks = await runtime.start(TaskSupervisor())
    assert isinstance(tasks, TaskSupervisorRef)
    handle, ref = tasks.start(stubborn), await runtime.start(Doing())
    call = asyncio.ensure_future(ref.call(stubborn))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    for target in (handle.ref, ref):
        target.kill()
        assert await target.wait_exit() == KILLED
    for answer in (handle, call):
        with pytest.raises(ActorExited):
            await answer


async def test_trap_2_2_f_cancelling_who_waits_cancels_nobody_else(runtime: Runtime, clock: VirtualClock) -> None:
    """Plain ``await task`` would; neither an exit, a start of somebody else's, a result nor an answer is harmed."""
    ref = await runtime.start(Doing())
    gate = runtime.loop.create_future()

    async def pass_gate() -> str:
        await asyncio.shield(gate)
        return "passed"

    ref.cast(pass_gate)
    task = ref._process.spawn_task(pass_gate)
    waiting = [asyncio.ensure_future(each) for each in (ref.wait_exit(), task.wait_exit(), ref.call(here))]
    await clock.settle()
    for each in waiting:
        each.cancel()
    await asyncio.wait(waiting)
    assert ref.alive
    assert task.alive
    gate.set_result(None)
    assert await task.wait_exit() == NORMAL
    assert await ref.call(here) is None
    assert actor_of(ref).seen == ["passed"]


async def test_trap_2_2_g_a_message_is_not_lost_with_the_wait_for_it(runtime: Runtime, clock: VirtualClock) -> None:
    """One that arrives in the tick in which the idle time is over, or a wait ends otherwise, is handled, once."""
    seen = list[object]()

    class Idling(Actor):
        async def handle_cast(self, message: object) -> Any:
            seen.append(message)
            return None

    ref = await runtime.start(Idling())
    for number in range(50):
        ref.cast(number)
        for _ in range(number % 4):
            await asyncio.sleep(0)
        await ref.get_state()
    await clock.settle()
    assert seen == list(range(50))


async def test_trap_2_2_h_a_crash_cancels_no_siblings(runtime: Runtime, clock: VirtualClock) -> None:
    """A task group would cancel them, and refuse to start others until they had ended."""
    nursery = Nursery()
    top = await family(runtime, nursery.spec("a"), nursery.spec("b"))
    await top.start_child(ChildSpec("busy", Doing))
    before, busy = await one(top, "b"), await one(top, "busy")
    call = asyncio.ensure_future(busy.call(lambda: runtime.sleep(1.0)))
    await ends(await one(top, "a"), KeyError("crash"))
    await top.start_child(nursery.spec("c"))
    async with clock.autojump():
        assert await call is None
    assert await one(top, "b") == before
    assert set(await kids_of(top)) == {"a", "b", "busy", "c"}


async def test_trap_2_2_i_each_child_has_its_own_time_to_stop(runtime: Runtime, clock: VirtualClock) -> None:
    """A slot of one is not another's; and it is counted from its own turn."""

    class Slow(Kid):
        trap_exit: ClassVar[bool] = True
        terminate_timeout: ClassVar[float | None] = None

        async def terminate(self, reason: ExitReason) -> None:
            await self.runtime.sleep(3.0)

    nursery = Nursery()
    top = await family(runtime, *(nursery.spec(name, Slow, shutdown=4.0) for name in "abc"))
    async with clock.autojump():
        await top.stop()
    assert clock.now() == 9.0
    assert nursery.take()[-3:] == ["-c", "-b", "-a"]


async def test_trap_2_2_j_a_timers_message_brings_no_context(runtime: Runtime, clock: VirtualClock) -> None:
    """call_later would carry that of whoever set the timer."""

    class Telling(Doing):
        async def handle_info(self, message: object) -> None:
            self.seen.append((message, PLACE.get()))

    ref = await runtime.start(Telling())
    PLACE.set("a request")
    runtime.send_after(1.0, ref, "ping")
    await clock.advance(1.0)
    assert actor_of(ref).seen == [("ping", None)]


async def test_trap_2_2_m_a_handler_that_waits_is_seen_from_outside(runtime: Runtime, clock: VirtualClock) -> None:
    """It cannot answer questions meanwhile; the tree says since when it is busy."""
    await clock.advance(7.0)
    ref = await runtime.start(Doing())
    ref.cast(forever)
    await clock.advance(3.0)
    node = tree(ref._process)
    assert (node.status, node.busy_since) == ("running", 7.0)
    async with clock.autojump():
        with pytest.raises(CallTimeout):
            await ref.get_state(timeout=1.0)


@pytest.mark.parametrize(
    ("errors", "killed"),
    [
        ([asyncio.CancelledError()], True),
        ([BaseExceptionGroup("inner", [asyncio.CancelledError()]), asyncio.CancelledError()], True),
        ([asyncio.CancelledError(), KeyError("x")], False),
        ([BaseExceptionGroup("inner", [SystemExit(3)])], False),
    ],
)
async def test_trap_2_2_n_a_group_is_what_is_in_it(runtime: Runtime, errors: list[BaseException], killed: bool) -> None:
    """One of nothing but cancellations is a cancellation; any other is a crash, and is kept whole in the reason."""
    group = BaseExceptionGroup("outer", errors)

    async def fail() -> None:
        raise group

    ref = await runtime.start(Doing())
    task = ref._process.spawn_task(fail)
    ref.cast(fail)
    for process in (task, ref._process):
        reason = await process.wait_exit()
        if killed:
            assert reason == KILLED
        else:
            assert isinstance(reason, Crashed)
            assert reason.error is group


# --- 2.4: cancellation by scopes ----------------------------------------------------------------------------


async def test_trap_2_4_c_a_shield_does_not_outlast_the_budget_of_a_kill(clock: VirtualClock) -> None:
    """A shield without a deadline would defeat every shutdown; whoever hides behind one is fenced and reported."""
    free = asyncio.Event()
    runtime = Runtime(clock=clock)
    runtime.open()
    ref = await runtime.start(Doing())

    async def shielded() -> None:
        with anyio.CancelScope(shield=True):
            for _ in range(20):
                with contextlib.suppress(asyncio.CancelledError):
                    await free.wait()
                    return

    ref.cast(shielded)
    await clock.settle()
    async with clock.autojump():
        ref.kill()
        assert await ref.wait_exit() == KILLED
        assert clock.now() <= runtime.kill_budget
        with pytest.raises(LeakedTasks):
            await runtime.close()
    free.set()
    await clock.settle()


async def test_trap_2_4_e_a_cancellation_that_was_taken_back_does_not_come_again(clock: VirtualClock) -> None:
    """The host of an application is cancelled to leave the block; later timeouts in that task must work."""
    application = Application([ChildSpec("doing", Doing, name="doing")], runtime=Runtime(clock=clock))

    async def interrupt() -> None:
        raise KeyboardInterrupt

    application.runtime.open()
    with pytest.raises(KeyboardInterrupt):
        async with application:
            ref = application.runtime.whereis("doing")
            assert ref is not None
            ref.cast(interrupt)
            await forever()
    await application.runtime.close()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await forever()


async def test_trap_2_4_g_a_crash_during_a_kill_is_a_kill(runtime: Runtime, clock: VirtualClock) -> None:
    """A group in which one fails while it is cancelled raises either, as it happens; the runtime's record decides."""

    async def fail_when_cancelled() -> None:
        try:
            await forever()
        finally:
            raise ValueError("while dying")

    async def together() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(fail_when_cancelled)
            await forever()

    ref = await runtime.start(Doing())
    ref.cast(together)
    await clock.settle()
    ref.kill()
    assert await ref.wait_exit() == KILLED


@pytest.mark.skipif(EAGER is None, reason="Python 3.11 has no eager tasks: asyncio.eager_task_factory came with 3.12")
async def test_trap_2_4_h_a_process_is_whole_before_its_code_runs(runtime: Runtime) -> None:
    """On an eager loop create_task returns when the body has begun, or is over; ours begin with the next turn."""
    loop, order = asyncio.get_running_loop(), list[str]()
    before = loop.get_task_factory()
    loop.set_task_factory(EAGER)

    class Whole(Actor):
        async def init(self) -> None:
            order.append(f"init of {self._dspex_process.pid}, {self._dspex_process._task is asyncio.current_task()}")

    async def work() -> None:
        order.append("work")

    try:
        process = runtime.spawn(Whole())
        order.append(f"spawned {process.pid}")
        assert await runtime.await_start(process, None) is None
        task = process.spawn_task(work)
        order.append("task spawned")
        await task.wait_exit()
    finally:
        loop.set_task_factory(before)
    assert order == [f"spawned {process.pid}", f"init of {process.pid}, True", "task spawned", "work"]


# --- 2.5: what else once went wrong -------------------------------------------------------------------------


@pytest.mark.parametrize("first", ["answer", "timeout"])
async def test_trap_2_5_e_an_answer_races_its_timeout(runtime: Runtime, clock: VirtualClock, first: str) -> None:
    """Whichever is first in the tick counts, and the other is dropped without a word."""

    async def answer_late() -> str:
        await runtime.sleep(5.0 if first == "answer" else 5.1)
        return "in time"

    ref = await runtime.start(Doing())
    call = asyncio.ensure_future(ref.call(answer_late, timeout=5.05))
    async with clock.autojump():
        outcome = (await asyncio.gather(call, return_exceptions=True))[0]
        assert outcome == "in time" if first == "answer" else isinstance(outcome, CallTimeout)
        assert await ref.call(here) is None


async def test_trap_2_5_f_a_crash_while_suspended(runtime: Runtime) -> None:
    """It is restarted like any other, and its successor is not suspended."""
    with ExitRecorder(runtime) as exits:
        await runtime.start(Supervisor([ChildSpec("doing", Doing, name="doing")]))
        ref = runtime.whereis("doing")
        assert ref is not None
        await ref.suspend()
        call = asyncio.ensure_future(ref.call(here))
        await asyncio.sleep(0)
        ref.exit(Crashed(KeyError("from outside")))
        with pytest.raises(ActorExited):
            await call
        await exits.wait_starts("doing", 2)
    assert await runtime.named("doing").call(here) is None


async def test_trap_2_5_i_a_restarted_child_sees_no_callers_context(runtime: Runtime) -> None:
    """Neither that of who started it by hand, nor of who was there when it crashed."""
    top = await runtime.start(Supervisor())
    assert isinstance(top, SupervisorRef)
    PLACE.set("a request")
    ref: ActorRef = await top.start_child(ChildSpec("doing", Doing, name="doing"))
    assert await ref.call(here) is None
    with ExitRecorder(runtime) as exits:
        ref.kill()
        await exits.wait_starts("doing")
    assert await runtime.named("doing").call(here) is None


async def test_trap_2_5_j_a_life_with_every_sort_of_process_leaves_nothing(clock: VirtualClock) -> None:
    """No task, no timer, no thread and no file: the loop could be closed in the next tick."""
    async with assert_no_leaks(clock=clock):
        runtime = Runtime(clock=clock)
        runtime.open()
        tasks = await runtime.start(TaskSupervisor(), name="tasks")
        assert isinstance(tasks, TaskSupervisorRef)
        nursery = Nursery()
        top = await family(runtime, nursery.spec("a"), nursery.spec("b"))
        await ends(await one(top, "a"), KeyError("crash"))
        host = await runtime.start(TrappingHost())
        stream = tasks.stream(runtime.sleep, [1.0] * 9, max_concurrency=3)
        asking = [
            asyncio.ensure_future(each)
            for each in (
                host.call(forever),
                anext(stream),
                runtime.named("nobody", patient=True).call("x"),
                runtime.sleep(900.0),
            )
        ]
        runtime.send_after(600.0, host, "later")
        await clock.settle()
        async with clock.autojump():
            await runtime.close()
        asking[-1].cancel()
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
        await stream.aclose()
    assert len(outcomes) == 4


# --- 4: rules of this runtime's own -------------------------------------------------------------------------


async def test_rule_4_a_tasks_are_made_past_any_task_factory(clock: VirtualClock) -> None:
    """Somebody's factory may know nothing of contexts, run the body at once, or make tasks of another sort."""
    loop, asked = asyncio.get_running_loop(), list[object]()

    def factory(loop: asyncio.AbstractEventLoop, coroutine: Any) -> asyncio.Task[Any]:
        asked.append(coroutine)
        return asyncio.Task(coroutine, loop=loop)

    before = loop.get_task_factory()
    loop.set_task_factory(factory)  # one without ``context=``, as there are many
    try:
        async with Runtime(clock=clock) as runtime:
            ref = await runtime.start(Supervisor([ChildSpec("doing", Doing, name="doing")]))
            assert await runtime.named("doing").call(here) is None
            task = ref._process.spawn_task(here)
            assert await task.wait_exit() == NORMAL
    finally:
        loop.set_task_factory(before)
    assert asked == []


@pytest.mark.parametrize("what", ["call", "answered call", "timer", "start", "task", "monitor"])
async def test_rule_4_h_nothing_pins_the_context_of_who_made_it(
    runtime: Runtime, clock: VirtualClock, what: str
) -> None:
    """A timer that was cancelled, a call that is over, an actor that lives on: none keeps a request's values."""

    class Value:
        pass

    ref = await runtime.start(TrappingHost())

    async def use() -> weakref.ref[Value]:
        PLACE.set(Value())
        if what == "call":
            with contextlib.suppress(CallTimeout):
                await ref.call(forever, timeout=0.0)
        elif what == "answered call":
            await ref.call(here, timeout=3600.0)
        elif what == "timer":
            runtime.send_after(3600.0, ref, "later").cancel()
            runtime.send_after(3600.0, ref, "later")
        elif what == "start":
            await runtime.start(Doing())
        elif what == "task":
            ref._process.spawn_task(forever)
        else:
            await ref.wait_exit(0.0)
        return weakref.ref(PLACE.get())

    async with clock.autojump():
        gone = await asyncio.ensure_future(use())
    await clock.settle()
    gc.collect()
    assert gone() is None
    if what == "call":
        ref.kill()


# --- the table ----------------------------------------------------------------------------------------------


def test_every_rule_of_the_table_has_a_test_where_it_says() -> None:
    """A rule that is listed and not tested would be worse than one that is not listed."""
    assert __doc__ is not None
    rows = re.findall(r"^(2\.\d [a-z]|4 [a-z])  +(\S.*?)(?:  +(.*))?$", __doc__, re.MULTILINE)
    assert len(rows) == 43
    files = {path: re.findall(r"^(?:async )?def (test_\w+)\(", path.read_text(), re.MULTILINE) for path in _tests()}
    for rule, _, _ in rows:
        kind = "rule" if rule.startswith("4") else "trap"
        prefix = f"test_{kind}_{rule.replace('.', '_').replace(' ', '_')}_"
        assert any(name.startswith(prefix) for names in files.values() for name in names), rule
    for mentioned in re.findall(r"(?:unit/runtime|conformance)/test_\w+\.py", __doc__):
        assert any(name.startswith(("test_trap_", "test_rule_")) for name in files[TESTS / mentioned]), mentioned


def _tests() -> list[Path]:
    return [*TESTS.glob("conformance/test_*.py"), *TESTS.glob("unit/runtime/test_*.py")]
