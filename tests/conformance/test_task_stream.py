"""Many tasks over many inputs: the stream cases of Elixir's Task.SupervisorTest, and its back-pressure."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from dspex.errors import ActorExited, CallTimeout, ChildError, NoSuchActor, SpecError
from dspex.runtime import (
    KILL,
    KILLED,
    NORMAL,
    TIMED_OUT,
    Actor,
    Crashed,
    OnTimeout,
    Other,
    Runtime,
    StreamOptions,
    TaskStream,
    TaskSupervisor,
    TaskSupervisorRef,
)
from dspex.testing import VirtualClock
from tests.conformance.kids import Host, TrappingHost, actor_of


@pytest.fixture
async def tasks(runtime: Runtime) -> TaskSupervisorRef:
    ref = await runtime.start(TaskSupervisor())
    assert isinstance(ref, TaskSupervisorRef)
    return ref


class Sleepers:
    """Work that takes as many seconds as its input says, and knows how many are at it."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.running = self.most = self.begun = self.ended = 0

    async def __call__(self, seconds: float) -> float:
        self.running += 1
        self.begun += 1
        self.most = max(self.most, self.running)
        try:
            await self.runtime.sleep(seconds)
        finally:
            self.running -= 1
        self.ended += 1
        return seconds


@pytest.mark.parametrize(("concurrency", "order"), [(1, [4, 3, 2, 1]), (4, [1, 2, 3, 4])])
async def test_p66_unordered_results_come_as_they_are_ready(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock, concurrency: int, order: list[float]
) -> None:
    """With one at a time there is only one order."""
    async with (
        clock.autojump(),
        tasks.stream(Sleepers(runtime), [4, 3, 2, 1], max_concurrency=concurrency, ordered=False) as results,
    ):
        assert [result.value async for result in results] == order


async def test_ordered_results_come_as_their_inputs_did(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """Whoever is ready first; each result says which input it belongs to."""
    async with (
        clock.autojump(),
        tasks.stream(Sleepers(runtime), [4.0, 3.0, 2.0, 1.0], max_concurrency=4) as results,
    ):
        assert [(result.item, result.value, result.ok) async for result in results] == [
            (seconds, seconds, True) for seconds in (4.0, 3.0, 2.0, 1.0)
        ]
    assert clock.now() == 4.0


async def test_a_slow_head_does_not_make_the_buffer_grow(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """A finished task behind an unfinished one keeps its place, so that memory stays bounded."""
    taken: list[float] = []

    def source() -> Iterator[float]:
        for seconds in (100.0, *[1.0] * 50):
            taken.append(seconds)
            yield seconds

    work = Sleepers(runtime)
    async with tasks.stream(work, source(), max_concurrency=4) as results:
        first = asyncio.ensure_future(anext(results))
        await clock.advance(50.0)
        assert len(taken) == 4
        assert work.ended == 3
        async with clock.autojump():
            assert (await first).value == 100.0
            assert len([result async for result in results]) == 50
    assert work.most == 4


async def test_nothing_runs_before_somebody_asks_or_while_nobody_does(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """The consumer sets the pace."""
    work = Sleepers(runtime)
    async with tasks.stream(work, [0.0] * 100, max_concurrency=3) as results:
        await clock.advance(10.0)
        assert work.begun == 0
        async with clock.autojump():
            await anext(results)
        await clock.advance(10.0)
        assert work.begun == 3


@pytest.mark.parametrize("how", ["break", "raise", "cancel", "cancel twice"])
async def test_trap_2_2_k_leaving_early_kills_and_awaits_what_runs_and_closes_the_source(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock, how: str
) -> None:
    """Whatever way the consumer leaves, nothing goes on behind its back."""
    work, closed = Sleepers(runtime), list[bool]()

    async def source() -> AsyncIterator[float]:
        try:
            for seconds in range(1, 100):
                yield seconds
        finally:
            closed.append(True)

    async def consume() -> None:
        async with tasks.stream(work, source(), max_concurrency=5, ordered=False) as results:
            async for _ in results:
                if how == "break":
                    break
                if how == "raise":
                    raise KeyError("enough")
                await asyncio.get_running_loop().create_future()

    consumer = asyncio.ensure_future(consume())
    await clock.advance(1.0)
    if how.startswith("cancel"):
        for _ in range(2 if how == "cancel twice" else 1):
            consumer.cancel()
            await asyncio.sleep(0)
    await asyncio.wait([consumer])
    assert (work.running, work.ended, closed) == (0, 1, [True])
    assert tasks._process.children == ()
    assert clock.pending == 0
    if how == "raise":
        with pytest.raises(KeyError):
            consumer.result()


async def test_closing_closes_a_plain_generator_and_twice_is_fine(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """A generator may hold a file open."""
    closed = list[bool]()

    def source() -> Iterator[float]:
        try:
            yield from [0.0] * 100
        finally:
            closed.append(True)

    stream = tasks.stream(Sleepers(runtime), source(), max_concurrency=2)
    async with clock.autojump():
        await anext(stream)
    await stream.aclose()
    await stream.aclose()
    assert closed == [True]
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def test_a_source_that_fails_fails_the_consumer(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """Its exception is not swallowed, and the tasks begun for earlier inputs do not outlive the block."""
    work = Sleepers(runtime)

    async def source() -> AsyncIterator[float]:
        yield 5.0
        raise OSError("no more")

    with pytest.raises(OSError, match="no more"):
        async with tasks.stream(work, source(), max_concurrency=5) as results:
            async for _ in results:
                pass
    assert (work.running, work.ended, tasks._process.children) == (0, 0, ())


async def test_a_crash_is_a_result(runtime: Runtime, tasks: TaskSupervisorRef) -> None:
    """One bad input does not spoil the others; a killed task says so."""

    async def work(number: int) -> int:
        if number == 2:
            tasks._process.children[-1].receive_exit(KILLED, None)
        return 10 // number

    async with tasks.stream(work, [5, 0, 1], max_concurrency=1) as results:
        first, second, third = [result async for result in results]
    assert (first.value, third.value) == (2, 10)
    assert isinstance(second.reason, Crashed)
    assert not second.ok
    assert isinstance(second.reason.error, ZeroDivisionError)


async def test_system_exit_in_a_task_is_the_consumers(runtime: Runtime, tasks: TaskSupervisorRef) -> None:
    """It is not a result that a loop over results should step over."""

    async def work(_: int) -> None:
        raise SystemExit(3)

    with pytest.raises(SystemExit):
        async with tasks.stream(work, [1], max_concurrency=1) as results:
            await anext(results)


async def test_a_supervisor_that_dies_ends_the_stream(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """Its running tasks were killed with it; nothing new can be started."""
    async with tasks.stream(Sleepers(runtime), [100.0] * 9, max_concurrency=2) as results:
        first = asyncio.ensure_future(anext(results))
        await clock.settle()
        tasks.kill()
        assert (await first).reason == KILLED
        with pytest.raises(ActorExited):
            await anext(results)
    with pytest.raises(NoSuchActor):
        tasks.start(Sleepers(runtime), 1.0)
    with pytest.raises(ValueError, match="max_concurrency"):
        tasks.stream(Sleepers(runtime), [], max_concurrency=0)


async def test_a_slow_source_does_not_hold_back_results(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """A result is handed over when it is there, not when the next input is."""

    async def source() -> AsyncIterator[float]:
        yield 1.0
        await runtime.sleep(1000.0)
        yield 2.0

    async with tasks.stream(Sleepers(runtime), source(), max_concurrency=5) as results, clock.autojump():
        assert (await anext(results)).value == 1.0
        assert clock.now() == 1.0
        assert (await anext(results)).value == 2.0
        assert clock.now() == 1002.0


async def test_a_source_that_is_killed_is_no_end_of_the_inputs(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """A stream that stopped half way must not look like one that was finished."""

    async def source() -> AsyncIterator[float]:
        yield 1.0
        await runtime.sleep(1000.0)

    async with tasks.stream(Sleepers(runtime), source(), max_concurrency=5) as results:
        async with clock.autojump():
            await anext(results)
        (feeder,) = tasks._process.children
        feeder.receive_exit(KILL, None)
        with pytest.raises(ActorExited):
            await anext(results)


async def test_a_task_is_started_in_the_tick_and_dies_with_its_supervisor(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """Its result is there when it is; a supervisor's stop leaves none behind; bad arguments are its own crash."""
    work = Sleepers(runtime)
    short, long = tasks.spawn(work, 1.0, label="short"), tasks.spawn(work, 9.0)
    wrong = tasks.spawn(work)
    assert tasks._process.children == (short, long, wrong)
    await clock.advance(1.0)
    assert (short.result, short.label) == (1.0, "short")
    assert isinstance(wrong.exit_reason, Crashed)
    await tasks.stop()
    assert long.dead
    assert long.exit_reason == KILLED


async def test_a_task_of_a_dead_owner_never_begins(runtime: Runtime) -> None:
    """Its work is not even called."""

    class Owner(Actor):
        pass

    owner = (await runtime.start(Owner()))._process
    owner.actor.own(owner, lambda process: late.append(process.spawn_task(pytest.fail)))
    late = [owner.spawn_task(asyncio.sleep, 3600)]
    owner.receive_exit(KILLED, None)
    late.append(owner.spawn_task(pytest.fail))
    await owner.wait_exit()
    late.append(owner.spawn_task(pytest.fail))
    assert [task.exit_reason for task in late] == [KILLED] * 4
    assert all(task.dead for task in late)


async def test_p66_a_task_that_takes_too_long_is_killed_and_its_result_says_so(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """The time is each task's own; every result carries its input."""
    work = Sleepers(runtime)
    async with (
        clock.autojump(),
        tasks.stream(
            work, [100.0, 1.0, 100.0, 1.0], max_concurrency=4, timeout=50.0, on_timeout=OnTimeout.KILL_TASK
        ) as results,
    ):
        assert [(result.item, result.reason, result.value) async for result in results] == [
            (100.0, TIMED_OUT, None),
            (1.0, NORMAL, 1.0),
            (100.0, TIMED_OUT, None),
            (1.0, NORMAL, 1.0),
        ]
    assert clock.now() == 50.0
    assert work.running == 0


async def test_a_task_that_takes_too_long_fails_the_consumer(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """At once, be its result the last that is due; what runs is killed."""
    work = Sleepers(runtime)
    with pytest.raises(CallTimeout):
        async with (
            clock.autojump(),
            tasks.stream(work, [60.0, 100.0], max_concurrency=2, timeout=50.0, ordered=True) as results,
        ):
            await anext(results)
    assert (clock.now(), work.running, tasks._process.children) == (50.0, 0, ())
    with pytest.raises(SpecError):
        tasks.stream(work, [], max_concurrency=1, timeout=-1.0)
    with pytest.raises(SpecError):
        tasks.stream(work, [], max_concurrency=1, on_timeout=OnTimeout.IGNORE)


async def test_a_linked_stream_ends_its_consumer_with_the_first_crash(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """A consumer that traps exits gets an ``Exit`` and the result; leaving early hits nobody."""

    async def invert(number: int) -> float:
        return 1 / number

    async def consume() -> list[bool]:
        async with tasks.stream(invert, [1, 0, 2], max_concurrency=1, linked=True) as results:
            return [result.ok async for result in results]

    async def leave() -> None:
        async with tasks.stream(Sleepers(runtime), [0.0, 9.0, 9.0], max_concurrency=3, linked=True) as results:
            await anext(results)

    plain, trapping = await runtime.start(Host()), await runtime.start(TrappingHost())
    async with clock.autojump():
        await plain.call(leave)
    assert plain.alive
    with pytest.raises(ActorExited):
        await plain.call(consume)
    assert isinstance(plain.exit_reason, Crashed)
    assert await trapping.call(consume) == [True, False, True]
    await clock.settle()
    assert [type(message.reason) for message in actor_of(trapping).seen] == [Crashed]  # no news is a normal end


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_a_stream_respects_max_children(runtime: Runtime, clock: VirtualClock, asynchronous: bool) -> None:
    """The consumer hears of the task that was refused, and nothing of the stream stays behind."""
    tasks = await runtime.start(TaskSupervisor(max_children=3))
    assert isinstance(tasks, TaskSupervisorRef)
    work = Sleepers(runtime)

    async def later() -> AsyncIterator[float]:
        for _ in range(9):
            yield 1.0

    source = later() if asynchronous else [1.0] * 9
    async with clock.autojump(), tasks.stream(work, source, max_concurrency=2) as results:
        assert len([result async for result in results]) == 9
    source = later() if asynchronous else [1.0] * 9
    with pytest.raises(ChildError, match="max_children"):
        async with tasks.stream(work, source, max_concurrency=4) as results:
            await anext(results)
    assert tasks._process.children == ()
    assert work.running == 0


async def test_any_process_may_own_a_stream_of_any_asynchronous_source(runtime: Runtime) -> None:
    """A source need not be a generator: what cannot be closed is just left."""

    class Countdown:
        def __init__(self) -> None:
            self.left = 3

        def __aiter__(self) -> AsyncIterator[int]:
            return self

        async def __anext__(self) -> int:
            if not self.left:
                raise StopAsyncIteration
            self.left -= 1
            return self.left

    async def square(number: int) -> int:
        return number * number

    owner = (await runtime.start(Host()))._process
    async with TaskStream(owner, square, Countdown(), StreamOptions(2)) as results:
        assert [result.value async for result in results] == [4, 1, 0]


async def test_a_task_that_is_dying_is_not_too_slow(
    runtime: Runtime, tasks: TaskSupervisorRef, clock: VirtualClock
) -> None:
    """Its time is up while it ends for another reason, which stays the reason."""

    async def slow_to_die(_: int) -> None:
        try:
            await runtime.sleep(3600.0)
        finally:
            await runtime.sleep(2.0)

    async with tasks.stream(
        slow_to_die, [1], max_concurrency=1, timeout=1.0, on_timeout=OnTimeout.KILL_TASK
    ) as results:
        result = asyncio.ensure_future(anext(results))
        await clock.settle()
        tasks._process.children[0].receive_exit(Other("told to"), None)
        await clock.advance(1.0)
        async with clock.autojump():
            assert (await result).reason == Other("told to")
