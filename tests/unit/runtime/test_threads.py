"""Calls and casts from other threads."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from dspex.errors import ActorExited, CallCycle, CallTimeout, MailboxFull, NoSuchActor, WrongLoop
from dspex.runtime import Actor, ActorRef, Call, From, Next, NoReply, Reply, Runtime, _threads, current_process
from dspex.testing import VirtualClock

MARK: contextvars.ContextVar[str] = contextvars.ContextVar("mark", default="clean")


class Double(Call[int]):
    def __init__(self, number: int) -> None:
        self.number = number


class Server(Actor):
    """Doubles numbers, keeps casts, and does what it is told with the rest."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.kept: list[From] = []

    async def handle_call(self, message: Any, sender: From) -> Next:
        if isinstance(message, Double):
            return Reply(message.number * 2)
        if message == "keep":
            self.kept.append(sender)
            return NoReply()
        if message == "mark":
            return Reply(MARK.get())
        if callable(message):
            return Reply(await message())
        raise message

    async def handle_cast(self, message: Any) -> Next:
        self.seen.append(message)
        return NoReply()


class Narrow(Server):
    mailbox_limit = 1


async def in_thread(function: Callable[[], Any]) -> Any:
    """Run in a thread that knows nothing of this one."""
    return await asyncio.get_running_loop().run_in_executor(None, contextvars.Context().run, function)


async def test_a_thread_gets_its_answer(runtime: Runtime) -> None:
    """With the type of the message, and in order behind its own casts."""
    server = Server()
    ref = await runtime.start(server)

    def work() -> int:
        assert [ref.cast_from_thread(number) for number in range(3)] == [True] * 3
        return ref.call_from_thread(Double(21))

    assert await in_thread(work) == 42
    assert server.seen == [0, 1, 2]


async def test_eight_threads_with_two_hundred_calls_each(runtime: Runtime) -> None:
    """Every answer goes to who asked, and nothing stays behind."""
    ref, threads, calls = await runtime.start(Server()), 8, 200

    def work(thread: int) -> list[int]:
        return [ref.call_from_thread(Double(thread * calls + number), timeout=None) for number in range(calls)]

    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(threads) as pool:
        answers = await asyncio.gather(*(loop.run_in_executor(pool, work, thread) for thread in range(threads)))
    assert [each for some in answers for each in some] == [number * 2 for number in range(threads * calls)]
    assert runtime.gate._waiting == {}


@pytest.mark.parametrize("closed", [False, True])
async def test_the_dead_are_told_apart_from_the_slow(runtime: Runtime, closed: bool) -> None:
    """An actor that has ended, or the whole runtime: NoSuchActor, at once."""
    ref = await runtime.start(Server())
    if closed:
        await runtime.close()
    else:
        await ref.stop()

    def work() -> bool:
        with pytest.raises(NoSuchActor):
            ref.call_from_thread(Double(1), timeout=None)
        return ref.cast_from_thread("x")

    assert await in_thread(work) is False
    runtime.open()


async def test_closing_the_runtime_sends_away_who_waits(clock: VirtualClock) -> None:
    """Nobody waits for ever for a loop that turns for others now."""
    runtime = Runtime(clock=clock)
    runtime.open()
    server = Server()
    ref = await runtime.start(server)

    def work() -> None:
        with pytest.raises(ActorExited):
            ref.call_from_thread("keep", timeout=None)

    waiting = asyncio.ensure_future(in_thread(work))
    while not server.kept:  # noqa: ASYNC110 - a thread brings it about, and has no event of ours
        await asyncio.sleep(0)
    await runtime.close()
    await waiting


def test_a_loop_that_is_gone_is_no_reason_to_wait() -> None:
    """Be the runtime closed or not."""
    loop, runtime = asyncio.new_event_loop(), Runtime()

    async def start() -> ActorRef:
        runtime.open()
        return await runtime.start(Server())

    async def end() -> None:
        await runtime.close()

    ref = loop.run_until_complete(start())
    outcome: list[BaseException] = []

    def work() -> None:
        try:
            ref.call_from_thread(Double(1), timeout=None)
        except NoSuchActor as error:
            outcome.append(error)

    thread = threading.Thread(target=work)  # the loop does not turn: the call waits for its turn
    thread.start()
    while not runtime.gate._waiting:
        thread.join(0.001)
    for task in asyncio.all_tasks(loop):
        task.cancel()
    runtime.gate.close()
    thread.join()
    assert [type(error) for error in outcome] == [NoSuchActor]
    loop.run_until_complete(end())
    loop.close()
    assert not ref.cast_from_thread("x")


async def test_the_loops_own_thread_is_refused(runtime: Runtime) -> None:
    """It would wait for itself."""
    ref = await runtime.start(Server())
    with pytest.raises(WrongLoop):
        ref.call_from_thread(Double(1))
    assert runtime.gate._waiting == {}
    assert ref.cast_from_thread("fine")


async def test_what_goes_wrong_is_said_in_the_thread(runtime: Runtime) -> None:
    """With the errors of an ordinary call."""
    ref = await runtime.start(Server())

    def crash() -> None:
        with pytest.raises(ActorExited, match="ValueError"):
            ref.call_from_thread(ValueError("no"))

    await in_thread(crash)
    assert not ref.alive


async def test_no_answer_in_time(runtime: Runtime, clock: VirtualClock) -> None:
    """On the runtime's clock; nothing of the call stays with the actor, or in the clock."""
    server = Server()
    ref = await runtime.start(server)

    def work() -> None:
        with pytest.raises(CallTimeout):
            ref.call_from_thread("keep", timeout=30)

    waiting = asyncio.ensure_future(in_thread(work))
    while not server.kept:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0)
    await clock.advance(30)
    await waiting
    assert not server.kept[0].reply("late")
    assert clock.pending == 0
    assert not ref._process._deferred


def test_a_loop_that_stands_still_answers_nobody_in_time() -> None:
    """The thread looks at the clock itself, and takes its call back when the loop turns again."""
    loop, runtime, server = asyncio.new_event_loop(), Runtime(), Server()

    async def start() -> ActorRef:
        runtime.open()
        return await runtime.start(server)

    ref = loop.run_until_complete(start())
    with ThreadPoolExecutor(1) as pool, pytest.raises(CallTimeout):
        pool.submit(ref.call_from_thread, "keep", timeout=0.01).result()
    loop.run_until_complete(runtime.close())
    loop.close()
    assert server.kept == []


async def test_a_thread_keeps_its_own_time_as_well(runtime: Runtime, clock: VirtualClock) -> None:
    """A clock that nobody moves is a loop that stands still to whoever waits in real time."""
    server = Server()
    ref = await runtime.start(server)

    def work() -> None:
        with pytest.raises(CallTimeout):
            ref.call_from_thread("keep", timeout=0.05)

    await in_thread(work)
    await clock.settle()
    assert [sender.waiting for sender in server.kept] == [False]
    assert not ref._process._deferred
    assert clock.pending == 0


async def test_an_actor_that_dies_before_a_threads_call_reaches_it(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thread is told so; a cast is lost, as one to the dead is."""
    server, handed_over, hand_over = Server(), threading.Event(), _threads._hand_over
    ref = await runtime.start(server)

    def tell(*args: Any) -> None:
        hand_over(*args)
        handed_over.set()

    monkeypatch.setattr(_threads, "_hand_over", tell)
    with ThreadPoolExecutor(1) as pool:
        calling = pool.submit(ref.call_from_thread, Double(1), timeout=None)
        assert handed_over.wait(20.0)
        assert ref.cast_from_thread("x")
        ref.kill()
        with pytest.raises(NoSuchActor):
            await asyncio.wrap_future(calling)
    assert server.seen == []


async def test_an_answer_that_comes_as_the_thread_gives_up(runtime: Runtime) -> None:
    """The loop hears of both in one turn; the thread has gone, and the answer is dropped."""
    server, gone = Server(), threading.Event()
    ref = await runtime.start(server)

    async def hold_the_loop() -> str:
        assert gone.wait(20.0)
        return "too late"

    def work() -> None:
        with pytest.raises(CallTimeout):
            ref.call_from_thread(hold_the_loop, timeout=0.05)
        gone.set()

    await in_thread(work)
    assert await ref.call(Double(1)) == 2
    assert runtime.gate._waiting == {}


async def test_a_thread_that_waits_for_long_looks_now_and_then(runtime: Runtime) -> None:
    """And goes on waiting while the loop is there."""

    class Late(Future[int]):
        looks = 0

        def result(self, timeout: float | None = None) -> int:
            self.looks += 1
            if self.looks == 3:
                self.set_result(42)
            return super().result(0)

    assert _threads._wait(runtime, "somebody", Late(), None) == 42
    assert _threads._wait(runtime, "somebody", Late(), 1000.0) == 42


class Held:
    """The context of a caller while it calls."""


@pytest.mark.parametrize("how", ["handled", "queued", "asked", "thread"])
async def test_a_caller_that_gave_up_is_kept_alive_by_nobody(runtime: Runtime, clock: VirtualClock, how: str) -> None:
    """However long the actor goes on with the message: the error's traceback holds the caller's frames."""
    ref, free = await runtime.start(Server()), asyncio.Event()

    async def busy() -> None:
        await free.wait()

    async def caller() -> weakref.ref[Held]:
        held = Held()
        with pytest.raises(CallTimeout):
            await (ref.get_state(timeout=1.0) if how == "asked" else ref.call(busy, timeout=1.0))
        return weakref.ref(held)

    def thread() -> weakref.ref[Held]:
        held = Held()
        with pytest.raises(CallTimeout):
            ref.call_from_thread(busy, timeout=1000.0)
        return weakref.ref(held)

    others = [asyncio.ensure_future(ref.call(busy, timeout=None))] if how in ("queued", "asked") else []
    await clock.settle()
    waiting = asyncio.ensure_future(in_thread(thread) if how == "thread" else caller())
    await clock.settle()
    while ref._process.busy_since is None:  # noqa: ASYNC110 - a thread brings it about, and has no event of ours
        await asyncio.sleep(0)
    await clock.advance(1000.0)
    left = await waiting
    del waiting
    gc.collect()
    assert left() is None
    assert ref._process.busy_since is not None
    free.set()
    await asyncio.gather(*others)


def test_a_loop_that_is_closed_under_its_runtime() -> None:
    """Nothing can be asked there any more, and who waits is told soon."""
    loop, runtime = asyncio.new_event_loop(), Runtime()

    async def start() -> ActorRef:
        runtime.open()
        return await runtime.start(Server())

    ref = loop.run_until_complete(start())
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ref.call_from_thread, Double(1), timeout=None)
        while not runtime.gate._waiting:
            pass
        for task in asyncio.all_tasks(loop):
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is the point
        loop.close()
        with pytest.raises(NoSuchActor):
            waiting.result()
        with pytest.raises(NoSuchActor):
            pool.submit(ref.call_from_thread, Double(1), timeout=None).result()
        assert not ref.cast_from_thread("x")


async def test_a_full_mailbox_is_full_for_threads_too(runtime: Runtime) -> None:
    """As for everybody."""
    narrow, gate = Narrow(), asyncio.Event()
    ref = await runtime.start(narrow)
    busy = asyncio.ensure_future(ref.call(gate.wait))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert ref.cast("fills it")

    def work() -> None:
        with pytest.raises(MailboxFull):
            ref.call_from_thread(Double(1))

    await in_thread(work)
    gate.set()
    await busy


async def test_an_actors_context_is_clean_of_the_threads(runtime: Runtime) -> None:
    """And the loop's callbacks run in the runtime's."""
    ref = await runtime.start(Server())

    def work() -> Any:
        MARK.set("dirty")
        return ref.call_from_thread("mark")

    assert await in_thread(work) == "clean"
    assert MARK.get() == "clean"
    assert runtime.context.get(MARK) is None


async def test_a_thread_of_an_actor_speaks_for_it(runtime: Runtime) -> None:
    """A call back into an actor that waits for its thread is a cycle; what the dying say is dropped."""
    ref, other = await runtime.start(Server()), await runtime.start(Server())
    found: list[object] = []

    def work() -> int:
        assert current_process() is None  # a thread is nobody's own code
        with pytest.raises(CallCycle):
            ref.call_from_thread(Double(1), timeout=None)
        return other.call_from_thread(Double(4))

    async def offload() -> int:
        return await asyncio.to_thread(work)

    assert await ref.call(offload) == 8

    def late() -> None:
        found.append(other.cast_from_thread("late"))
        with pytest.raises(ActorExited):
            other.call_from_thread(Double(1))

    async def die() -> None:
        ref.kill()
        context = contextvars.copy_context()
        thread = threading.Thread(target=lambda: found.append(context.run(late)))
        thread.start()
        found.append(thread)

    with pytest.raises(ActorExited):
        await ref.call(die)
    thread: Any = next(each for each in found if isinstance(each, threading.Thread))
    await in_thread(thread.join)
    assert [each for each in found if each is not thread] == [False, None]
