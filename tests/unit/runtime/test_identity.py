"""Who am I: the process whose task runs, or that waits for the task that runs; never whatever a context says."""

from __future__ import annotations

import asyncio
import contextvars
import copy
import dataclasses
import functools
import itertools
import pickle
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest

from dspex.errors import (
    ActorExited,
    CallCycle,
    NoSuchActor,
    RuntimeClosed,
    SpecError,
    StartFailed,
    UnknownMessage,
    WrongLoop,
)
from dspex.runtime import (
    KILLED,
    NORMAL,
    Actor,
    ActorRef,
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    Exit,
    Groups,
    Idle,
    NamedRef,
    Other,
    Registry,
    Reply,
    Restart,
    Runtime,
    StreamOptions,
    Supervisor,
    SupervisorRef,
    TaskStream,
    TaskSupervisor,
    ThreadPool,
    await_many,
    current_process,
    tree,
    yield_many,
)
from dspex.runtime._awaited import waits_for
from dspex.testing import VirtualClock
from tests.unit.runtime.doer import Doer, answer

Act = Callable[[Doer, Callable[[], Awaitable[Any]]], Awaitable[Any]]


# --- those who wait for the code that calls -----------------------------------------------------------------------


async def _itself(actor: Doer, call: Callable[[], Awaitable[Any]]) -> None:
    await call()


async def _task(actor: Doer, call: Callable[[], Awaitable[Any]]) -> None:
    await asyncio.ensure_future(call())


async def _task_of_a_task(actor: Doer, call: Callable[[], Awaitable[Any]]) -> None:
    await asyncio.create_task(_task(actor, call))


async def _gather(actor: Doer, call: Callable[[], Awaitable[Any]]) -> None:
    await asyncio.gather(call(), asyncio.sleep(0))


async def _wait(actor: Doer, call: Callable[[], Awaitable[Any]]) -> None:
    done, _ = await asyncio.wait([asyncio.ensure_future(call()), asyncio.ensure_future(asyncio.sleep(0))])
    for each in done:
        each.result()


async def _wait_for(actor: Doer, call: Callable[[], Awaitable[Any]]) -> None:
    await asyncio.wait_for(call(), 60)


async def _shield(actor: Doer, call: Callable[[], Awaitable[Any]]) -> None:
    await asyncio.shield(call())


async def _task_group(actor: Doer, call: Callable[[], Awaitable[Any]]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(_itself(actor, call))


async def _busy_task_group(actor: Doer, call: Callable[[], Awaitable[Any]]) -> None:
    """The block waits for something else yet, but it cannot end before its tasks."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_itself(actor, call))
        await asyncio.get_running_loop().create_future()


async def _anyio_group(actor: Doer, call: Callable[[], Awaitable[Any]]) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(_itself, actor, call)


async def _own_task(actor: Doer, call: Callable[[], Awaitable[Any]]) -> None:
    task = actor.spawn_task(call)
    await task.ref.wait_exit()
    raise task.exit_reason.error  # type: ignore[union-attr]  # it has crashed


async def _gathered_handles(actor: Doer, call: Callable[[], Awaitable[Any]]) -> None:
    tasks: Any = await actor.runtime.start(TaskSupervisor())
    handles = [tasks.start(call), tasks.start(asyncio.sleep, 0)]
    try:
        await asyncio.gather(*handles)
    except ActorExited as exited:
        raise exited.__cause__ from None  # type: ignore[misc]  # it has one


async def _await_many(actor: Doer, call: Callable[[], Awaitable[Any]]) -> None:
    tasks: Any = await actor.runtime.start(TaskSupervisor())
    (outcome,) = await yield_many([tasks.start(call)], None)
    assert await await_many([tasks.start(asyncio.sleep, 0)], None) == [None]
    raise outcome.error  # type: ignore[union-attr]  # it has crashed


async def _stream(actor: Doer, call: Callable[[], Awaitable[Any]]) -> None:
    process = actor.ref._process
    async with TaskStream(process, lambda _: call(), [1], StreamOptions(1)) as results:
        (result,) = [result async for result in results]
    raise result.reason.error  # type: ignore[attr-defined]  # it has crashed


async def _thread(actor: Doer, call: Callable[[], Awaitable[Any]]) -> None:
    await asyncio.to_thread(actor.ref.call_from_thread, answer, timeout=None)


async def _thread_of_a_task(actor: Doer, call: Callable[[], Awaitable[Any]]) -> None:
    await asyncio.gather(_thread(actor, call))


async def _thread_of_a_pool(actor: Doer, call: Callable[[], Awaitable[Any]]) -> None:
    pool = ThreadPool("pool", limit=1, on_late=print)
    context = contextvars.copy_context()
    try:
        await pool.run(lambda: context.run(actor.ref.call_from_thread, answer, timeout=None))
    finally:
        await pool.aclose(60)


async def _name(actor: Doer, call: Callable[[], Awaitable[Any]]) -> None:
    await actor.runtime.named("me").call(answer, timeout=None)


async def _stop(actor: Doer, call: Callable[[], Awaitable[Any]]) -> None:
    await actor.ref.stop()


async def _through_another(actor: Doer, call: Callable[[], Awaitable[Any]]) -> None:
    async def back(other: Doer, _: object) -> None:
        await call()

    other = await actor.runtime.start(Doer())
    try:
        await other.call(back, timeout=None)
    except ActorExited as exited:
        raise exited.reason.error from None  # type: ignore[attr-defined]  # it has crashed


async def _through_another_and_a_task(actor: Doer, call: Callable[[], Awaitable[Any]]) -> None:
    async def back(other: Doer, _: object) -> None:
        await asyncio.gather(call())

    other = await actor.runtime.start(Doer())
    try:
        await asyncio.gather(other.call(back, timeout=None))
    except ActorExited as exited:
        raise exited.reason.error from None  # type: ignore[attr-defined]  # it has crashed


CYCLES = [
    *(_itself, _task, _task_of_a_task, _gather, _wait, _wait_for, _shield, _task_group, _busy_task_group, _anyio_group),
    *(_own_task, _gathered_handles, _await_many, _stream, _thread, _thread_of_a_task, _thread_of_a_pool),
    *(_name, _stop, _through_another, _through_another_and_a_task),
]


@pytest.mark.parametrize("way", CYCLES)
async def test_a_call_that_nobody_could_answer_is_refused(runtime: Runtime, way: Act) -> None:
    """Without a timeout it would wait for ever, for the actor waits for who calls it."""

    async def go(actor: Doer, _: object) -> Any:
        with pytest.raises((CallCycle, ExceptionGroup)) as caught:
            await way(actor, lambda: actor.ref.call(answer, timeout=None))
        error: Any = caught.value
        while isinstance(error, ExceptionGroup):
            (error,) = error.exceptions
        assert isinstance(error, CallCycle)
        return await answer()

    class Trapping(Doer):
        trap_exit = True

    ref = await runtime.start(Trapping(), name="me")
    assert await asyncio.wait_for(ref.call(go, timeout=None), 20) == "answer"
    assert not runtime.exit_waits
    assert not runtime._names.parking._waiting_for


# --- those for whom nobody waits ----------------------------------------------------------------------------------


async def test_what_an_actor_has_started_and_left_calls_it_as_anybody(runtime: Runtime) -> None:
    """Plain tasks, callbacks, shared contexts: they have the actor's context, and are not the actor."""
    seen: list[object] = []
    gate = asyncio.Event()

    async def call(actor: Doer) -> None:
        await gate.wait()
        seen.append(current_process())
        seen.append(await actor.ref.call(answer, timeout=None))
        child = await actor.runtime.start(Doer())
        seen.append(child._process.parent)

    async def leave(actor: Doer, _: object) -> Any:
        loop = asyncio.get_running_loop()
        tasks = [
            loop.create_task(call(actor)),
            asyncio.Task(call(actor), loop=loop, context=actor.ref._process.context),
        ]
        loop.call_soon(lambda: tasks.append(asyncio.ensure_future(call(actor))))
        loop.call_soon(lambda: seen.append(current_process()))
        actor.own(tasks, lambda tasks: None)
        return await answer_with(tasks)

    async def busy(actor: Doer, _: object) -> Any:
        gate.set()
        for _ in range(10):  # the others come meanwhile, and wait for their turn
            await asyncio.sleep(0)
        return await answer()

    ref = await runtime.start(Doer())
    tasks = await ref.call(leave)
    await asyncio.sleep(0)
    assert await ref.call(busy) == "answer"
    await asyncio.gather(*tasks)
    assert [each for each in seen if each != "answer"] == [None] * 7
    assert seen.count("answer") == 3


async def answer_with(value: object) -> Any:
    return Reply(value)


async def test_a_first_of_several_is_no_cycle_while_others_may_come(runtime: Runtime) -> None:
    """The actor waits for whichever is first; the one that calls it is answered afterwards."""
    gate = asyncio.Event()
    left: list[asyncio.Future[Any]] = []

    async def go(actor: Doer, _: object) -> Any:
        calling = asyncio.ensure_future(actor.ref.call(answer, timeout=None))
        opened = asyncio.ensure_future(gate.wait())
        await asyncio.wait([calling, opened], return_when=asyncio.FIRST_COMPLETED)
        left.append(calling)
        return await answer()

    ref = await runtime.start(Doer())
    going = asyncio.ensure_future(ref.call(go))
    for _ in range(5):
        await asyncio.sleep(0)
    gate.set()
    assert await going == "answer"
    assert await left[0] == "answer"


async def test_connections_of_a_server_that_an_actor_started_may_call_it(runtime: Runtime) -> None:
    """asyncio runs the callbacks of connections in the context of who started the server."""

    class Server(Doer):
        async def init(self) -> None:
            server = await asyncio.start_server(self.connected, "127.0.0.1", 0)
            self.own(server, lambda server: server.close())
            self.port = server.sockets[0].getsockname()[1]

        async def connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            assert current_process() is None
            writer.write(str(await self.ref.call(answer)).encode())
            writer.close()

    ref = await runtime.start(Server())
    server: Any = ref._process.actor
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    assert await reader.read() == b"answer"
    writer.close()
    await writer.wait_closed()


async def test_what_is_not_at_work_registers_monitors_and_joins_nothing(runtime: Runtime) -> None:
    """It would speak in the name of an actor that knows nothing of it."""
    registry, groups = Registry(), Groups()
    other = await runtime.start(Doer())
    refused: list[str] = []

    async def stray(actor: Doer) -> None:
        for act in (
            lambda: registry.register("k"),
            lambda: groups.join("g"),
            lambda: other.monitor(),
            lambda: other.link(),
        ):
            try:
                act()
            except RuntimeError as error:
                refused.append(str(error))

    async def leave(actor: Doer, _: object) -> Any:
        return await answer_with(asyncio.ensure_future(stray(actor)))

    ref = await runtime.start(Doer())
    await (await ref.call(leave))
    assert len(refused) == 4
    assert "plain task" in refused[-1]


async def test_a_wait_is_not_found_where_there_is_none(runtime: Runtime) -> None:
    """Neither for one that sleeps, nor for one that is dead."""
    ref = await runtime.start(Doer())
    future = asyncio.get_running_loop().create_future()
    assert not waits_for(ref._process, future)
    future.add_done_callback(print)
    await ref.call(answer)
    assert not waits_for(ref._process, future)
    ref.kill()
    await ref.wait_exit()
    assert not waits_for(ref._process, future)
    future.cancel()


# --- other loops and threads, and no loop any more ----------------------------------------------------------------


async def everything(runtime: Runtime, ref: ActorRef) -> dict[str, Callable[[], Any]]:
    supervisor = await runtime.start(DynamicSupervisor(), name="sup")
    tasks: Any = await runtime.start(TaskSupervisor())
    registry = Registry()
    await runtime.start(Doer(), via=registry.via("k"), name="n")
    named, via = runtime.named("n"), registry.via("k")
    assert isinstance(supervisor, SupervisorRef)
    return {
        "call": lambda: ref.call(answer, timeout=1.0),
        "cast": lambda: ref.cast("x"),
        "send": lambda: ref.send("x"),
        "put": lambda: ref.put("x"),
        "exit": lambda: ref.exit(),
        "kill": lambda: ref.kill(),
        "stop": lambda: ref.stop(),
        "wait_exit": lambda: ref.wait_exit(1.0),
        "get_state": lambda: ref.get_state(timeout=1.0),
        "suspend": lambda: ref.suspend(timeout=1.0),
        "statistics": lambda: ref.statistics(timeout=1.0),
        "priority": lambda: ref._process.actor.priority_ref().cast("x"),
        "named call": lambda: named.call(answer),
        "named cast": lambda: named.cast("x"),
        "named send": lambda: named.send("x"),
        "via call": lambda: via.call(answer),
        "via cast": lambda: via.cast("x"),
        "start_child": lambda: supervisor.start_child(ChildSpec("c", Doer)),
        "which_children": lambda: supervisor.which_children(),
        "task": lambda: tasks.start(asyncio.sleep, 0),
        "spawn_task": lambda: ref._process.spawn_task(answer),
        "start": lambda: runtime.start(Doer()),
        "send_after": lambda: runtime.send_after(1.0, ref, "x"),
        "wait_name": lambda: runtime.wait_name("nobody", 1.0),
        "close": lambda: runtime.close(),
    }


async def ended(act: Callable[[], Any]) -> BaseException | None:
    try:
        outcome = act()
        if isinstance(outcome, Awaitable):
            await asyncio.wait_for(outcome, 5)
    except BaseException as error:
        return error
    return None


async def test_another_threads_loop_is_refused_by_every_method(runtime: Runtime) -> None:
    """A handler must never run in two threads; ``call_from_thread`` is for that."""
    ref = await runtime.start(Doer())
    ways = await everything(runtime, ref)
    found: dict[str, BaseException | None] = {}

    async def elsewhere() -> None:
        for name, act in ways.items():
            found[name] = await ended(act)

    worker = threading.Thread(target=lambda: asyncio.run(elsewhere()))
    worker.start()
    await asyncio.get_running_loop().run_in_executor(None, worker.join)
    assert {name: type(error) for name, error in found.items()} == dict.fromkeys(ways, WrongLoop)
    assert ref.alive
    assert await ref.call(answer) == "answer"
    plain = threading.Thread(target=lambda: found.update(plain=_raised(lambda: ref.cast("x"))))
    plain.start()
    await asyncio.get_running_loop().run_in_executor(None, plain.join)
    assert isinstance(found["plain"], WrongLoop)


def _raised(act: Callable[[], object]) -> BaseException | None:
    try:
        act()
    except BaseException as error:
        return error
    return None


async def test_closed_is_closed(clock: VirtualClock) -> None:
    """Nothing starts, nobody is waited for; a second close does nothing."""
    runtime = Runtime(clock=clock)
    with pytest.raises(RuntimeClosed):
        await runtime.start(Doer())
    async with runtime:
        ref = await runtime.start(Doer())
        ways = await everything(runtime, ref)
        named = runtime.named("nobody")
        waiting = asyncio.ensure_future(runtime.wait_name("nobody", None))
        await asyncio.sleep(0)
    with pytest.raises((NoSuchActor, RuntimeClosed)):
        await waiting
    await runtime.close()
    for act in (lambda: runtime.start(Doer()), lambda: named.call("x", timeout=None)):
        assert isinstance(await ended(act), RuntimeClosed)
    for name in ("call", "put", "stop", "get_state", "named call", "via call", "start_child", "task"):
        assert isinstance(await ended(ways[name]), (NoSuchActor, RuntimeClosed)), name
    for name in ("cast", "send", "named cast", "via cast"):
        assert await ended(ways[name]) is None
        assert ways[name]() is False


def test_a_loop_that_has_ended_is_another_loop() -> None:
    """Whoever was left alive in it is beyond reach: said at once, not by a call that waits."""

    async def leave() -> tuple[Runtime, ActorRef]:
        runtime = Runtime()
        runtime.open()
        return runtime, await runtime.start(Doer())

    runtime, ref = asyncio.run(leave())
    for say in (ref.cast, ref.send):
        with pytest.raises(WrongLoop, match="ended"):
            say("x")
        ref._process.mailbox.waiter = ref._process  # asleep again, as the next finds it

    async def after() -> None:
        for act in (lambda: ref.call(answer), runtime.close, lambda: runtime.start(Doer()), ref.stop):
            assert isinstance(await ended(act), WrongLoop)
        with pytest.raises(NoSuchActor):
            await asyncio.to_thread(ref.call_from_thread, answer, timeout=5.0)

    asyncio.run(after())
    loop = asyncio.new_event_loop()
    other = loop.run_until_complete(_opened())
    assert other.cast(answer)  # its loop rests, and this is its thread
    loop.run_until_complete(other._process.runtime.close())
    loop.close()


async def _opened() -> ActorRef:
    runtime = Runtime()
    runtime.open()
    return await runtime.start(Doer())


# --- supervisors and signals --------------------------------------------------------------------------------------


async def test_only_the_death_of_a_child_is_its_death(runtime: Runtime, clock: VirtualClock) -> None:
    """Not a signal that it sends while it lives, nor one of another runtime's process with its number."""
    other = Runtime(clock=clock)
    other.open()
    for kind in (Supervisor, DynamicSupervisor):
        supervisor: Any = await runtime.start(kind())
        child = await supervisor.start_child(ChildSpec("c", Doer))
        stranger = await other.start(Doer())
        while stranger.pid < child.pid:
            stranger = await other.start(Doer())

        async def signal(actor: Doer, _: object, supervisor: ActorRef = supervisor) -> Any:
            supervisor.exit(Other("boom"))
            return await answer()

        for sender in (stranger, child):
            await sender.call(signal)
        supervisor.send(Exit(child, Other("forged")))
        supervisor.send(Exit(None, Other("forged")))
        (info,) = await supervisor.which_children()
        assert (info.ref, info.restarts) == (child, 0)
    await other.close()


async def test_a_child_that_is_being_restarted_is_still_meant_by_its_ref(runtime: Runtime, clock: VirtualClock) -> None:
    """As in Elixir's DynamicSupervisor."""
    supervisor: Any = await runtime.start(DynamicSupervisor())
    spec = ChildSpec("c", Doer, backoff=Backoff(initial=1.0))
    first, second = await supervisor.start_child(spec), await supervisor.start_child(spec)
    for ref in (first, second):
        ref.kill()
        await ref.wait_exit()
    assert (await supervisor.which_child(first)).state == "restarting"
    await supervisor.terminate(first)
    assert len(await supervisor.which_children()) == 1
    async with clock.autojump():
        await runtime.sleep(2.0)
    (info,) = await supervisor.which_children()
    assert info.state == "running"
    assert info.ref is not None
    fixed: Any = await runtime.start(Supervisor())
    ref = await fixed.start_child(ChildSpec("c", Doer, restart=Restart.PERMANENT, backoff=Backoff(initial=1.0)))
    ref.kill()
    await ref.wait_exit()
    assert (await fixed.which_child(ref)).state == "restarting"
    await fixed.terminate_child(ref)
    assert (await fixed.get_childspec("c")).id == "c"
    await fixed.delete_child("c")
    assert await fixed.which_children() == ()


@pytest.mark.parametrize("message", ["x", None, object, ("a", 1)])
async def test_library_actors_do_not_fall_over_a_message(runtime: Runtime, message: object) -> None:
    """One caller's mistake must not be everybody's."""
    for kind in (Supervisor, DynamicSupervisor, TaskSupervisor):
        ref = await runtime.start(kind())
        with pytest.raises(UnknownMessage):
            await ref.call(message)
        ref.cast(message)
        ref.send(message)
        with pytest.raises(UnknownMessage):
            await ref.call(message)
    supervisor: Any = await runtime.start(Supervisor())
    with pytest.raises(SpecError):
        await supervisor.start_child(message)
    with pytest.raises(Exception, match="not_found"):
        await supervisor.terminate_child(message)


# --- small things -------------------------------------------------------------------------------------------------


async def test_one_instance_is_one_process(runtime: Runtime) -> None:
    """It is the state of one; a restart needs a new one."""
    actor = Doer()
    first = await runtime.start(actor)
    with pytest.raises(SpecError, match="never started"):
        await runtime.start(actor)
    with pytest.raises(StartFailed):
        await runtime.start(Supervisor([ChildSpec("again", lambda: actor)]))
    with pytest.raises(SpecError, match="subclass of Actor"):
        await runtime.start(Doer)  # type: ignore[arg-type]  # the class itself
    assert await first.call(answer) == "answer"


@pytest.mark.filterwarnings("error")
async def test_a_coroutine_function_is_no_start(runtime: Runtime) -> None:
    """Its coroutine is closed, so that nothing complains that nobody awaited it."""

    async def make() -> Doer:
        return Doer()

    start: Any = make
    with pytest.raises(StartFailed, match="coroutine function"):
        await runtime.start(Supervisor([ChildSpec("c", start)]))


@pytest.mark.parametrize("timeout", [float("nan"), float("-inf"), "5"])
async def test_a_timeout_is_a_number(runtime: Runtime, timeout: Any) -> None:
    """Nothing is sent before that is known."""
    ref = await runtime.start(Doer(), name="n")
    waits: list[Callable[[], Awaitable[Any]]] = [
        lambda: ref.call(answer, timeout=timeout),
        lambda: ref.wait_exit(timeout),
        lambda: ref.stop(NORMAL, timeout),
        lambda: ref.get_state(timeout=timeout),
        lambda: runtime.named("n").call(answer, timeout=timeout),
        lambda: runtime.start(Doer(), timeout=timeout),
        lambda: asyncio.to_thread(ref.call_from_thread, answer, timeout=timeout),
    ]
    for wait in waits:
        with pytest.raises((ValueError, TypeError)):
            await wait()
    assert ref._process.handled == 0
    assert await ref.call(answer, timeout=float("inf")) == "answer"
    assert not runtime.deadlines


async def test_names_that_the_base_class_needs_are_refused_when_the_class_is_made() -> None:
    """A private name of one's own is harmless; what would take the runtime's place is told at once."""
    for namespace in ({"ref": 1}, {"own": None}, {"__slots__": ("runtime",)}, {"_dspex_process": 1}):
        with pytest.raises(SpecError, match="another name"):
            type("Bad", (Actor,), {"__module__": "theirs", **namespace})
    with pytest.raises(SpecError, match="private to Supervisor"):
        type("Bad", (Supervisor,), {"__module__": "theirs", "_restart": None})
    mixin = type("Mixin", (), {"spawn_task": None})
    with pytest.raises(SpecError, match="spawn_task"):
        type("Bad", (mixin, Actor), {"__module__": "theirs"})
    for ref_class in (int, "ActorRef", type("Odd", (ActorRef,), {"__init__": lambda self, _: None})):
        with pytest.raises(SpecError, match="ref_class"):
            type("Bad", (Actor,), {"__module__": "theirs", "ref_class": ref_class})


async def test_an_attribute_called_process_is_harmless(runtime: Runtime) -> None:
    """It is what one calls a subprocess."""

    class Shell(Doer):
        async def init(self) -> None:
            self._process = "a subprocess"

        async def which(self, _: object) -> Any:
            return await answer_with((self._process, self.ref))

    ref = await runtime.start(Shell())
    assert await ref.call(Shell.which) == ("a subprocess", ref)


async def test_locks_that_wait_for_each_other_are_found_out(runtime: Runtime, clock: VirtualClock) -> None:
    """One of the two is refused, and the other goes on."""
    registry = Registry()
    both = asyncio.Barrier(2)

    def take(one: str, two: str) -> Callable[[], Awaitable[Any]]:
        async def inner() -> str:
            return two

        async def outer() -> Any:
            await both.wait()
            return await registry.lock(two, inner)

        return lambda: registry.lock(one, outer)

    outcomes = await asyncio.gather(take("a", "b")(), take("b", "a")(), return_exceptions=True)
    assert sorted(type(each).__name__ for each in outcomes) == ["CallCycle", "str"]
    assert len(registry._locks) == 0


async def test_a_lock_of_who_waits_for_the_caller_is_refused(runtime: Runtime) -> None:
    """The one who holds it waits for the answer of the one who asks for it."""
    registry = Registry()

    async def ask(actor: Doer, _: object) -> Any:
        with pytest.raises(CallCycle):
            await registry.lock("k", lambda: None)
        return await answer()

    other = await runtime.start(Doer())

    async def hold(actor: Doer, _: object) -> Any:
        assert await registry.lock("k", lambda: other.call(ask, timeout=None)) == "answer"
        return await answer()

    assert await (await runtime.start(Doer())).call(hold) == "answer"


async def test_a_tree_of_a_thousand_levels_is_shown(runtime: Runtime) -> None:
    """Looking at it takes no stack."""
    spec = ChildSpec("leaf", Doer)
    for level in range(1000):
        spec = ChildSpec(f"level {level}", Supervisor, ([spec],))
    top = await runtime.start(Supervisor([spec]))
    snapshot = tree(top._process)
    assert [node.label for node in snapshot.walk()][-1] == "leaf"
    assert len(snapshot.render().splitlines()) == 1002
    assert repr(snapshot) == "<TreeNode Supervisor, 1 below>"
    top.kill()
    assert await top.wait_exit() == KILLED


# --- handles are copied as themselves -----------------------------------------------------------------------------


async def test_a_handle_copies_to_itself_and_is_not_pickled(runtime: Runtime) -> None:
    """``dataclasses.asdict`` deep-copies a message; what leaves the OS process is a name."""

    @dataclasses.dataclass
    class Hello:
        who: object

    registry = Registry()
    ref = await runtime.start(Doer(), name="d", via=registry.via("k"))
    process: Any = ref._process
    via = registry.via("k")
    for handle in (ref, runtime.named("d"), via, process.actor.priority_ref()):
        assert copy.copy(handle) is handle
        assert copy.deepcopy(handle) is handle
        assert dataclasses.asdict(Hello([handle]))["who"] == [handle]
        with pytest.raises(TypeError, match="Send a name"):
            pickle.dumps(handle)
    assert registry.via("k") == via
    assert registry.via("k") != registry.via("l")
    assert via != "k"
    assert len({via, registry.via("k")}) == 1
    assert repr(via) == "<'k' of a registry>"
    kept: list[Any] = []

    async def keep(actor: Doer, sender: Any) -> Any:
        kept.append(sender)
        return await answer()

    await ref.call(keep)
    assert copy.copy(kept[0]) is kept[0]
    assert copy.deepcopy(kept) == kept


async def test_an_answer_is_an_exception_or_a_mistake(runtime: Runtime) -> None:
    """A class is made an exception of; what is none is the server's own mistake."""

    class Server(Doer):
        async def handle_call(self, message: Any, sender: Any) -> Any:
            sender.fail(message)
            return None

    for given, expected in ((KeyError, KeyError), (StopIteration, RuntimeError), ("text", ActorExited)):
        ref = await runtime.start(Server())
        with pytest.raises(expected):
            await ref.call(given)


async def test_code_that_somebody_drives_by_hand_waits_for_nobody_else(runtime: Runtime) -> None:
    """There is no task to be found waiting; nothing is left of it either."""
    registry = Registry()
    gate = asyncio.Event()
    other = await runtime.start(Doer())

    async def go(actor: Doer, _: object) -> Any:
        def by_hand() -> None:
            for coroutine in (other.wait_exit(), registry.lock("k", gate.wait)):
                coroutine.send(None)
                coroutine.close()
            gate.set()

        asyncio.get_running_loop().call_soon(by_hand)
        return await answer()

    holding = asyncio.ensure_future(registry.lock("k", gate.wait))
    await asyncio.sleep(0)
    ref = await runtime.start(Doer())
    await ref.call(go)
    await holding
    assert not runtime.exit_waits
    assert len(registry._locks) == 0


async def test_searches_look_at_what_is_not_there_yet(runtime: Runtime) -> None:
    """A closure whose cell is empty, and futures beyond the farthest."""
    loop = asyncio.get_running_loop()
    ref = await runtime.start(Doer())
    seen: list[bool] = []

    async def go(actor: Doer, _: object) -> Any:
        future = loop.create_future()

        def callback(_: object) -> object:
            return later  # bound below, after the search

        future.add_done_callback(callback)
        seen.append(waits_for(actor.ref._process, future))
        later = None
        many = [loop.create_future() for _ in range(400)]
        for each, following in itertools.pairwise(many):
            each.add_done_callback(functools.partial(_pass_on, following))
        seen.append(waits_for(actor.ref._process, many[0]))
        for each in (future, *many):
            each.cancel()
        return await answer_with(later)

    await ref.call(go)
    assert seen == [False, False]


def _pass_on(following: object, _: object) -> None:
    """Only mention it."""


async def test_a_handler_that_is_a_plain_function_cannot_return_by_an_exception(runtime: Runtime) -> None:
    """StopIteration is how a coroutine returns: from a function it is a crash as any."""

    class Server(Doer):
        def handle_call(self, message: Any, sender: Any) -> Any:
            if message == "return":
                return answer()
            raise StopIteration("not a return")

    for before in ([], ["return"]):  # by way of the mailbox, and at once in the caller's tick
        ref = await runtime.start(Server())
        for message in before:
            assert await ref.call(message) == "answer"
            await asyncio.sleep(0)
        with pytest.raises(ActorExited, match="StopIteration"):
            await ref.call("x")


async def test_a_wait_that_comes_after_the_call_is_refused(runtime: Runtime) -> None:
    """The task has called already, and waits in the mailbox of who now would wait for it."""

    async def go(actor: Doer, _: object) -> Any:
        task = actor.spawn_task(_calls, actor.ref)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert actor.ref._process.mailbox.items
        with pytest.raises(CallCycle):
            await task.ref.wait_exit()
        return await answer()

    ref = await runtime.start(Doer())
    assert await ref.call(go, timeout=None) == "answer"
    assert await ref.call(answer) == "answer"


async def _calls(ref: ActorRef) -> None:
    await ref.call(answer, timeout=None)


async def test_a_key_that_fails_when_it_is_hashed_stays_alone(
    runtime: Runtime, caplog: pytest.LogCaptureFixture
) -> None:
    """The other keys of the dead are free; and a listener in another loop is not an affair of who registers."""

    class Key:
        broken = False

        def __hash__(self) -> int:
            if self.broken:
                raise ZeroDivisionError
            return 1

    registry = Registry(listeners=[_Foreign(runtime, "x"), runtime.named("nobody")])
    key = Key()

    async def register(actor: Doer, _: object) -> Any:
        registry.register(key)
        registry.register("plain")
        return await answer()

    ref = await runtime.start(Doer())
    await ref.call(register)
    key.broken = True
    ref.kill()
    await ref.wait_exit()
    assert registry.lookup("plain") == ()
    assert [record.event for record in caplog.records if hasattr(record, "event")].count("key not removed") == 1
    assert any("cannot hear of" in record.message for record in caplog.records)


class _Foreign(NamedRef):
    """A name in a runtime of another loop."""

    __slots__ = ()

    def send(self, message: object) -> bool:
        raise WrongLoop


async def test_what_there_is_once_is_copied_as_itself(runtime: Runtime) -> None:
    """Messages of the library's own mention registries, and users' may mention anything."""
    registry, groups = Registry(), Groups()
    ref = await runtime.start(Doer())
    tasks: Any = await runtime.start(TaskSupervisor())
    handle, timer = tasks.start(asyncio.sleep, 0), runtime.send_after(5.0, ref, "x")
    for each in (runtime, registry, groups, handle, timer):
        assert copy.deepcopy([each])[0] is each
        assert copy.copy(each) is each
    await handle
    timer.cancel()


@pytest.mark.parametrize("seconds", [float("nan"), float("-inf"), "5"])
async def test_seconds_are_a_number_everywhere(runtime: Runtime, clock: VirtualClock, seconds: Any) -> None:
    """A timer that is due at no time at all would keep others from being due."""
    with pytest.raises(SpecError):
        Idle(seconds)
    with pytest.raises(SpecError):
        await runtime.sleep(seconds)
    with pytest.raises(SpecError, match="kill_budget"):
        Runtime(kill_budget=seconds)

    class Patient(Doer):
        async def init(self) -> Any:
            return Idle(float("inf"))

    ref = await runtime.start(Patient())
    assert clock.pending == 0
    sleeping = asyncio.ensure_future(runtime.sleep(float("inf")))
    await clock.settle()
    assert clock.pending == 0
    sleeping.cancel()
    assert await ref.call(answer) == "answer"


async def test_a_supervisor_below_another_cannot_stop_it(runtime: Runtime) -> None:
    """It would wait for the end of who waits for its own; it is not a chain of calls, but the tree says so."""
    top: Any = await runtime.start(Supervisor([ChildSpec("child", Doer)]))
    (info,) = await top.which_children()

    async def stop(actor: Doer, _: object) -> Any:
        with pytest.raises(CallCycle):
            await top.stop()
        return await answer()

    assert await info.ref.call(stop) == "answer"


async def test_a_call_that_a_supervisor_has_no_rule_for_is_refused(runtime: Runtime) -> None:
    """One of another kind of supervisor, for example."""
    from dspex.runtime._partition_supervisor import _Resize

    top = await runtime.start(Supervisor())
    answer_of_it = await top.call(_Resize(1))
    assert isinstance(answer_of_it, SpecError)


async def test_a_stray_task_speaks_for_nobody_when_it_starts_another(runtime: Runtime) -> None:
    """A task serves the call that its starter works on; who only comes from an actor works on none of its calls."""
    seen: list[object] = []

    async def stray(actor: Doer) -> None:
        await asyncio.sleep(0)
        task = actor.spawn_task(answer)
        seen.append(task.serving)
        await task.ref.wait_exit()

    async def leave(actor: Doer, _: object) -> Any:
        return await answer_with(asyncio.ensure_future(stray(actor)))

    ref = await runtime.start(Doer())
    await (await ref.call(leave))
    assert seen == [None]


async def test_a_thread_that_nobody_waits_for_is_answered(runtime: Runtime) -> None:
    """It has the actor's context, and the actor goes on."""
    seen: list[Any] = []
    gate = threading.Event()

    def work(ref: ActorRef) -> None:
        gate.wait(20)
        seen.append(ref.call_from_thread(answer, timeout=20))

    async def leave(actor: Doer, _: object) -> Any:
        return await answer_with(asyncio.ensure_future(asyncio.to_thread(work, actor.ref)))

    ref = await runtime.start(Doer())
    working = await ref.call(leave)
    gate.set()
    await working
    assert seen == ["answer"]


async def test_two_tasks_of_one_actor_wait_for_names_at_once(runtime: Runtime) -> None:
    """Those whom they work for wait for both, until both are there."""

    async def wait(actor: Doer, _: object) -> Any:
        both = [actor.runtime.wait_name(name, None) for name in ("a", "b")]
        await asyncio.gather(*both)
        return await answer()

    ref = await runtime.start(Doer())
    waiting = asyncio.ensure_future(ref.call(wait, timeout=None))
    for name in ("a", "b"):
        for _ in range(5):
            await asyncio.sleep(0)
        await runtime.start(Doer(), name=name)
    assert await waiting == "answer"
    assert not runtime._names.parking._waiting_for


async def test_a_gathered_handle_that_calls_back_is_found_by_its_call(runtime: Runtime) -> None:
    """The plain task that ``gather`` makes waits for the exit, and the actor for the plain task."""

    async def go(actor: Doer, _: object) -> Any:
        gate = asyncio.Event()

        async def late() -> None:
            await gate.wait()
            try:
                await actor.ref.call(answer, timeout=None)
            finally:
                other.kill()

        task = actor.spawn_task(late)
        asyncio.get_running_loop().call_later(0, gate.set)
        await asyncio.gather(other.wait_exit(), task.ref.wait_exit())
        raise task.exit_reason.error  # type: ignore[union-attr]  # it has crashed

    ref, other = await runtime.start(Doer()), await runtime.start(Doer())
    with pytest.raises(ActorExited, match="call cycle"):
        await ref.call(go, timeout=None)


async def test_a_reason_may_be_any_object(runtime: Runtime) -> None:
    """It is wrapped, so that a death needs to know nothing of it."""
    ref = await runtime.start(Doer())
    reason: Any = "bye"
    await ref.stop(reason)
    assert ref.exit_reason == Other("bye")
