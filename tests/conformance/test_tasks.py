"""Tasks and who started them: Elixir's TaskTest and Task.SupervisorTest, but for streams."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import pytest

from dspex.errors import ActorExited, CallTimeout, ChildError, NoSuchActor, SpecError
from dspex.runtime import (
    KILL,
    KILLED,
    NO_PROCESS,
    NORMAL,
    ActorRef,
    Crashed,
    Down,
    Exit,
    OnTimeout,
    Other,
    Returned,
    Runtime,
    ShutdownPolicy,
    TaskHandle,
    TaskSupervisor,
    TaskSupervisorRef,
    await_many,
    current_process,
    yield_many,
)
from dspex.testing import VirtualClock
from tests.conformance.kids import Host, TrappingHost, actor_of

T = TypeVar("T")

BOOM = Other("boom")


@pytest.fixture
async def tasks(runtime: Runtime) -> TaskSupervisorRef:
    ref = await runtime.start(TaskSupervisor())
    assert isinstance(ref, TaskSupervisorRef)
    return ref


async def give(value: T) -> T:
    return value


async def crash() -> None:
    raise KeyError("boom")


async def exit_normally() -> None:
    """End for no reason of its own, but without a result: ``exit(self(), normal)``."""
    process = current_process()
    assert process is not None
    process.ref.exit(NORMAL)
    await asyncio.get_running_loop().create_future()


def reason_of(caught: pytest.ExceptionInfo[ActorExited]) -> object:
    return caught.value.reason


async def in_background(host: ActorRef, work: Callable[[], Awaitable[Any]]) -> asyncio.Future[Any]:
    """Have ``host`` await ``work``."""
    return asyncio.ensure_future(host.call(work, timeout=None))


# --- await --------------------------------------------------------------------------------------------------


async def test_p65_awaiting_a_crashed_task_fails_with_its_reason(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """A linked caller that traps exits lives, and hears of it twice: by its await and by an ``Exit``."""
    host = await runtime.start(TrappingHost())

    async def work() -> str:
        with pytest.raises(ActorExited) as caught:
            await tasks.start_link(crash)
        assert isinstance(reason_of(caught), Crashed)
        assert isinstance(caught.value.__cause__, KeyError)
        return "lives"

    assert await host.call(work) == "lives"
    await clock.settle()
    (heard,) = actor_of(host).seen
    assert isinstance(heard, Exit)
    assert isinstance(heard.reason, Crashed)


async def test_p65_a_linked_task_takes_a_caller_down_before_it_awaits(
    runtime: Runtime, tasks: TaskSupervisorRef
) -> None:
    """The reason is the task's."""
    host = await runtime.start(Host())

    async def work() -> None:
        tasks.start_link(crash)
        await asyncio.get_running_loop().create_future()

    with pytest.raises(ActorExited):
        await host.call(work)
    assert isinstance(host.exit_reason, Crashed)


async def test_p65_without_a_link_the_caller_lives_and_gets_a_down(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """Nothing else reaches it."""
    host = await runtime.start(Host())

    async def work() -> int:
        handle = tasks.start(crash)
        return handle.ref.monitor()

    number = await host.call(work)
    await clock.settle()
    (heard,) = actor_of(host).seen
    assert isinstance(heard, Down)
    assert (heard.monitor, type(heard.reason)) == (number, Crashed)
    assert host.alive


async def test_p65_only_the_owner_may_wait(runtime: Runtime, tasks: TaskSupervisorRef) -> None:
    """Whoever else asks has made a mistake, and is told at once."""
    host = await runtime.start(Host())

    async def start() -> TaskHandle[float]:
        return tasks.start(give, 1.5)

    theirs: TaskHandle[float] = await host.call(start)
    ours = tasks.start(give, 2.5)

    async def await_ours() -> Any:
        return await ours

    async def await_theirs() -> Any:
        return await theirs

    waits: list[Callable[[], Awaitable[Any]]] = [
        await_theirs,
        theirs.wait,
        theirs.shutdown,
        lambda: await_many([theirs]),
        lambda: yield_many([theirs]),
    ]
    for wait in waits:
        with pytest.raises(RuntimeError, match="who started it"):
            await wait()
    with pytest.raises(RuntimeError, match="who started it"):
        theirs.ignore()
    with pytest.raises(ActorExited) as caught:
        await host.call(await_ours)
    assert isinstance(reason_of(caught), Crashed)
    assert await ours == 2.5


async def test_trap_2_2_f_a_result_is_taken_once_and_a_cancelled_await_takes_nothing(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """An await that was given up can be repeated."""
    handle = tasks.start(_sleep_and_return, runtime, 3.0)

    async def result() -> float:
        return await handle

    first = asyncio.ensure_future(result())
    await clock.advance(1.0)
    first.cancel()
    await asyncio.wait([first])
    async with clock.autojump():
        assert await handle == 3.0
    with pytest.raises(RuntimeError, match="already"):
        await handle
    assert await handle.wait() == Returned(3.0)
    assert await handle.shutdown() == NO_PROCESS
    assert clock.now() == 3.0


async def test_a_normal_end_without_a_result_is_no_result(runtime: Runtime, tasks: TaskSupervisorRef) -> None:
    """Who awaits a value must not be given None for it."""
    handle = tasks.start(exit_normally)
    with pytest.raises(ActorExited) as caught:
        await handle
    assert reason_of(caught) == NORMAL
    async with tasks.stream(lambda _: exit_normally(), [1], max_concurrency=1) as results:
        result = await anext(results)
    assert (result.ok, result.reason) == (False, NORMAL)


async def test_a_linked_task_ends_with_its_owner_and_a_supervised_one_does_not(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """Whoever waits for neither; a normal end of the owner is not a signal."""
    host = await runtime.start(Host())

    async def work() -> tuple[Any, Any]:
        return tasks.start_link(_sleep_and_return, runtime, 9.0).ref, tasks.start(_sleep_and_return, runtime, 9.0).ref

    linked, free = await host.call(work)
    host.exit(BOOM)
    await host.wait_exit()
    await clock.settle()
    assert (linked.exit_reason, free.alive) == (BOOM, True)


async def test_the_dead_start_nothing(runtime: Runtime, tasks: TaskSupervisorRef) -> None:
    """Neither below a dead supervisor nor linked to a dying caller."""
    host = await runtime.start(Host())

    async def work() -> None:
        host.exit(BOOM)
        with pytest.raises(ActorExited):
            tasks.start_link(crash)

    with pytest.raises(ActorExited) as caught:
        await host.call(work)
    assert reason_of(caught) == BOOM
    assert tasks._process.children == ()
    await tasks.stop()
    with pytest.raises(NoSuchActor):
        tasks.start_link(crash)


# --- await_many ---------------------------------------------------------------------------------------------


async def _sleep_and_return(runtime: Runtime, seconds: float) -> float:
    await runtime.sleep(seconds)
    return seconds


async def test_p79_results_come_in_input_order(runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock) -> None:
    """Whoever is ready first."""
    handles = [tasks.start(_sleep_and_return, runtime, seconds) for seconds in (3.0, 1.0, 2.0)]
    async with clock.autojump():
        assert await await_many(handles) == [3.0, 1.0, 2.0]
    assert clock.now() == 3.0
    assert await await_many([]) == []
    with pytest.raises(RuntimeError, match="already"):
        await await_many(handles)


@pytest.mark.parametrize("how", [crash, exit_normally])
async def test_p79_the_first_failure_fails_the_caller_at_once(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock, how: Callable[[], Awaitable[Any]]
) -> None:
    """A normal end without a result is one; the others go on, and nothing is left behind of the wait."""
    host = await runtime.start(Host())
    slow: list[TaskHandle[Any]] = []

    async def work() -> object:
        slow.append(tasks.start(_sleep_and_return, runtime, 4.0))
        with pytest.raises(ActorExited) as caught:
            await await_many([slow[0], tasks.start(how)], None)
        assert not slow[0]._task._on_dead
        return reason_of(caught), await slow[0].wait(0.0)

    asked = await in_background(host, work)
    async with clock.autojump():
        reason, still = await asked
    assert reason == NORMAL if how is exit_normally else isinstance(reason, Crashed)
    assert still is None
    assert clock.now() == 0.0
    assert actor_of(host).seen == []


async def test_await_many_has_one_timeout_for_all(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """Two tasks of 3 seconds take 3 seconds, not 6; late ones go on and can be awaited again."""
    handles = [tasks.start(_sleep_and_return, runtime, seconds) for seconds in (3.0, 3.0, 5.0)]
    async with clock.autojump():
        with pytest.raises(CallTimeout):
            await await_many(handles, 4.0)
        assert clock.now() == 4.0
        assert await await_many(handles, 4.0) == [3.0, 3.0, 5.0]


# --- wait and yield_many ------------------------------------------------------------------------------------


async def test_p80_waiting_leaves_the_task_alone(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """As often as one likes."""
    handle = tasks.start(_sleep_and_return, runtime, 2.0)
    async with clock.autojump():
        assert await handle.wait(0.0) is None
        assert await handle.wait(1.0) is None
        assert await handle.wait() == Returned(2.0)
    assert clock.now() == 2.0


async def test_p80_yield_many_kills_or_ignores_or_leaves_who_is_late(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """None for those, and what the others returned."""
    for on_timeout in (OnTimeout.NOTHING, OnTimeout.IGNORE, OnTimeout.KILL_TASK):
        handles = [tasks.start(_sleep_and_return, runtime, seconds) for seconds in (1.0, 9.0)]
        async with clock.autojump():
            assert await yield_many(handles, 2.0, on_timeout=on_timeout) == [Returned(1.0), None]
        late = handles[1]
        if on_timeout is OnTimeout.KILL_TASK:
            assert late.ref.exit_reason == KILLED
        elif on_timeout is OnTimeout.IGNORE:
            with pytest.raises(RuntimeError, match="ignored"):
                await late
            assert late.ref.alive
        else:
            async with clock.autojump():
                assert await late.wait(None) == Returned(9.0)


async def test_yield_many_may_be_content_with_some(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """``limit`` ends it early, which is not a timeout."""
    handles = [tasks.start(_sleep_and_return, runtime, seconds) for seconds in (3.0, 1.0, 2.0)]
    async with clock.autojump():
        outcomes = await yield_many(handles, 5.0, limit=2, on_timeout=OnTimeout.KILL_TASK)
    assert outcomes == [None, Returned(1.0), Returned(2.0)]
    assert handles[0].ref.alive
    assert await yield_many([]) == []
    with pytest.raises(SpecError):
        await yield_many(handles, limit=0)
    with pytest.raises(SpecError):
        await yield_many(handles, on_timeout=OnTimeout.EXIT)


# --- shutdown and ignore ------------------------------------------------------------------------------------


async def test_shutdown_tells_how_it_found_the_task(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """None means that it died of the shutdown itself."""
    running = tasks.start(_sleep_and_return, runtime, 9.0)
    assert await running.shutdown() is None
    assert await tasks.start(_sleep_and_return, runtime, 9.0).shutdown(ShutdownPolicy.BRUTAL_KILL) is None
    assert await tasks.start(_sleep_and_return, runtime, 9.0).shutdown(ShutdownPolicy.INFINITY) is None
    done, crashed, killed = tasks.start(give, "done"), tasks.start(crash), tasks.start(crash)
    killed.ref.exit(KILL)
    await clock.settle()
    assert await done.shutdown() == Returned("done")
    assert isinstance(await crashed.shutdown(), Crashed)
    assert await killed.shutdown() == KILLED
    with pytest.raises(SpecError):
        await done.shutdown(-1.0)


async def test_shutdown_of_a_task_that_does_not_listen_kills_it(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """After its time it is killed; a linked caller that does not trap is not hit by that."""
    host = await runtime.start(Host())
    goodbyes = 0

    async def stubborn() -> None:
        nonlocal goodbyes
        try:
            await runtime.sleep(100.0)
        finally:
            goodbyes += 1
            await runtime.sleep(100.0)

    async def work() -> Any:
        handle = tasks.start_link(stubborn)
        await runtime.sleep(1.0)
        return await handle.shutdown(0.1), runtime.clock.now()

    asked = await in_background(host, work)
    async with clock.autojump():
        outcome, when = await asked
    assert (outcome, when, goodbyes) == (None, 1.1, 1)
    assert host.alive


async def test_an_ignored_task_goes_on_by_itself(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """Its crash hits nobody."""
    host = await runtime.start(Host())

    async def late_crash() -> None:
        await runtime.sleep(1.0)
        raise KeyError("boom")

    async def work() -> Any:
        handle = tasks.start_link(late_crash)
        return handle.ignore(), handle.ref

    outcome, ref = await host.call(work)
    await clock.advance(2.0)
    assert (outcome, type(ref.exit_reason), host.alive) == (None, Crashed, True)


# --- who asked, who supervises ------------------------------------------------------------------------------


async def test_p71_callers_and_ancestors_are_two_chains(runtime: Runtime, tasks: TaskSupervisorRef) -> None:
    """Who asked is not who supervises."""
    host = await runtime.start(Host())
    seen: list[Any] = []

    async def inner() -> None:
        process = current_process()
        assert process is not None
        seen.append(process.ref)

    async def outer() -> None:
        process = current_process()
        assert process is not None
        seen.append(process.ref)
        await tasks.start(inner)

    async def work() -> None:
        await tasks.start(outer)

    await host.call(work)
    first, second = seen
    assert (first.callers, first.ancestors) == ((host.pid,), (tasks.pid,))
    assert (second.callers, second.ancestors) == ((first.pid, host.pid), (tasks.pid,))
    assert host.callers == ()


async def test_a_task_that_starts_its_successor_for_ever_does_not_grow(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """Callers that are far away are forgotten."""
    longest = 0

    async def work(left: int) -> None:
        nonlocal longest
        process = current_process()
        assert process is not None
        longest = max(longest, len(process.callers))
        if left:
            tasks.spawn(work, left - 1)

    tasks.spawn(work, 100)
    await clock.settle()
    assert longest == 32


async def test_an_owner_that_is_told_to_die_lets_its_children_say_goodbye(
    runtime: Runtime, clock: VirtualClock
) -> None:
    """They get more than the time of one that is killed, unless it is killed."""
    said: list[str] = []

    class Polite(TrappingHost):
        def __init__(self, name: str) -> None:
            super().__init__()
            self.name = name

        async def terminate(self, reason: object) -> None:
            await self.runtime.sleep(2.0)
            said.append(self.name)

    class Owner(Host):
        pass

    async def with_child(name: str) -> ActorRef:
        owner = await runtime.start(Owner())
        await owner.call(lambda: runtime.start(Polite(name)))
        return owner

    async with clock.autojump():
        await (await with_child("stopped")).stop()
        assert clock.now() == 2.0
        told = await with_child("told")
        told.exit(BOOM)
        await told.wait_exit()
        for how in ("killed", "told, then killed"):
            before, owner = clock.now(), await with_child(how)
            if how != "killed":
                owner.exit(BOOM)
                await runtime.sleep(0.1)
            owner.kill()
            await owner.wait_exit()
            assert clock.now() - before < 2.0
    assert said == ["stopped", "told"]


# --- limits -------------------------------------------------------------------------------------------------


async def test_a_task_supervisor_refuses_one_task_too_many(runtime: Runtime, clock: VirtualClock) -> None:
    """As a dynamic supervisor does (``max_children``); a task that has ended makes room."""
    tasks = await runtime.start(TaskSupervisor(max_children=2))
    assert isinstance(tasks, TaskSupervisorRef)
    first = tasks.start(runtime.sleep, 1.0)
    tasks.spawn(runtime.sleep, 2.0)
    for begin in (tasks.start, tasks.start_link, tasks.spawn):
        with pytest.raises(ChildError) as caught:
            begin(give, 1, label="third")
        assert (caught.value.why, caught.value.child_id) == ("max_children", "third")
    async with clock.autojump():
        await first
    assert await tasks.start(give, 3) == 3
    nobody = await runtime.start(TaskSupervisor(max_children=0))
    assert isinstance(nobody, TaskSupervisorRef)
    with pytest.raises(ChildError):
        nobody.start(give, 1)


@pytest.mark.parametrize("limit", [-1, 1.5, "2"])
def test_a_limit_of_tasks_is_a_number(limit: Any) -> None:
    """A limit that cannot be compared would be found out at the first task."""
    with pytest.raises(SpecError, match="max_children"):
        TaskSupervisor(max_children=limit)
