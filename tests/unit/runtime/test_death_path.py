"""
Nothing that other people's code raises keeps a process from dying, and nothing of the death is left out.

The hooks are read from the code: what the runtime asks of a class of users', and every argument that is a function.
A new hook fails here until it has a scenario.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
import logging
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, ClassVar

import pytest

import dspex.runtime
import dspex.telemetry
from dspex.runtime import (
    KILLED,
    Actor,
    ActorRef,
    Application,
    ChildSpec,
    Continue,
    Crashed,
    DynamicSupervisor,
    Exit,
    ExitReason,
    From,
    NoReply,
    OsProcess,
    OsProcessInfo,
    Other,
    PartitionSupervisor,
    Registry,
    Reply,
    Runtime,
    Stop,
    StreamOptions,
    Supervisor,
    SupervisorRef,
    TaskStream,
    TaskSupervisor,
    ThreadPool,
    WorkerThread,
    run,
    tree,
)
from dspex.runtime import _application as application_module
from tests.support.loops import LOOPS


class Odd(BaseException):
    """Nobody catches this by accident."""


class Unprintable(Exception):
    def __str__(self) -> str:
        raise Odd("no text")

    __repr__ = __str__


ERRORS: dict[str, Callable[[], BaseException]] = {
    "Exception": lambda: RuntimeError("bad"),
    "BaseException": lambda: Odd("bad"),
    "GeneratorExit": GeneratorExit,
    "KeyboardInterrupt": KeyboardInterrupt,
    "SystemExit": lambda: SystemExit(3),
    "CancelledError": asyncio.CancelledError,
    "StopIteration": lambda: StopIteration("bad"),
    "Unprintable": Unprintable,
}


# --- the hooks, as the code has them ------------------------------------------------------------------------------


def callbacks_of(root: type[Actor]) -> Iterator[str]:
    """Yield what the runtime asks of a subclass: the methods that the base class lets it replace."""
    for name, member in vars(root).items():
        if not inspect.isfunction(member) or name.startswith("_"):
            continue
        try:
            type("Replacing", (root,), {name: member, "__module__": "somewhere"})
        except ValueError:
            continue  # refused: it is there to be called
        yield f"{root.__name__}.{name}"


def hooks_of_application() -> Iterator[str]:
    """Yield the methods of an Application that its own actor refers to."""
    source = ast.parse(inspect.getsource(application_module))
    (master,) = (each for each in source.body if isinstance(each, ast.ClassDef) and each.name == "_Master")
    for node in ast.walk(master):
        asked = isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "application"
        if asked and inspect.iscoroutinefunction(vars(Application).get(node.attr)):  # type: ignore[attr-defined]
            yield f"Application.{node.attr}"  # type: ignore[attr-defined]


def functions_given() -> Iterator[str]:
    """Yield the parameters of the public surface that are functions."""
    for module in (dspex.runtime, dspex.telemetry):
        for name in module.__all__:
            thing = getattr(module, name)
            members = {name: thing} if inspect.isfunction(thing) else {}
            if inspect.isclass(thing):
                public = {each: member for each, member in vars(thing).items() if not each.startswith("_")}
                members = {f"{name}.{each}": member for each, member in public.items() if inspect.isfunction(member)}
                if "__init__" in vars(thing):
                    members[name] = vars(thing)["__init__"]
            for where, member in members.items():
                for parameter in inspect.signature(member).parameters.values():
                    if is_function(str(parameter.annotation), member):
                        yield f"{where}({parameter.name})"
    for name, annotation in inspect.get_annotations(dspex.runtime.Runtime.__init__).items():
        assert not is_function(str(annotation), dspex.runtime.Runtime.__init__), name
    yield "Runtime.on_interrupt"


def is_function(annotation: str, member: Any) -> bool:
    known = vars(sys.modules[member.__module__])
    aliases = [each for each, value in known.items() if str(value).startswith("collections.abc.Callable[")]
    return any(each in annotation for each in ("Callable[", *aliases))


HOOKS = sorted({*callbacks_of(Actor), *hooks_of_application(), *functions_given()})


# --- the family that must live and die well -----------------------------------------------------------------------


class Watcher(Actor):
    """Monitors and is linked to those it is shown, and keeps what it hears."""

    trap_exit: ClassVar[bool] = True

    def __init__(self) -> None:
        self.heard: list[object] = []

    async def handle_call(self, message: ActorRef, sender: From) -> Reply:
        message.monitor()
        message.link()
        return Reply()

    async def handle_info(self, message: object) -> None:
        self.heard.append(message)


class Doer(Actor):
    """Does what a message says; owns three resources."""

    closed: ClassVar[list[str]] = []

    async def init(self) -> Any:
        for name in ("first", "second", "third"):
            self.own(name, self._closes if name != "second" else self._closes_later)

    def _closes(self, name: str) -> None:
        self.closed.append(name)

    async def _closes_later(self, name: str) -> None:
        await asyncio.sleep(0)
        self.closed.append(name)

    async def handle_call(self, message: Callable[[Any], Any], sender: From) -> Any:
        return Reply(await message(self))

    async def handle_cast(self, message: Callable[[Any], Any]) -> Any:
        return message(self)


class Family:
    """A supervised actor with a watcher, and what must be true of its death."""

    def __init__(self, runtime: Runtime, kind: type[Doer]) -> None:
        self.runtime = runtime
        self.kind = kind
        kind.closed = []

    async def start(self) -> ActorRef:
        supervisor = await self.runtime.start(Supervisor([ChildSpec("doer", self.kind)], max_restarts=20))
        assert isinstance(supervisor, SupervisorRef)
        self.supervisor = supervisor
        self.watcher = await self.runtime.start(Watcher())
        self.ref = await self.child()
        await self.watcher.call(self.ref)
        return self.ref

    async def child(self) -> ActorRef:
        (info,) = await self.supervisor.which_children()
        assert info.ref is not None
        return info.ref

    async def died(self) -> ExitReason:
        """Wait for the death, and see that everybody has heard and everything is closed."""
        reason = await self.ref.wait_exit()
        assert reason is not None
        assert sorted(self.kind.closed) == ["first", "second", "third"]
        await asyncio.sleep(0)
        actor: Any = self.watcher._process.actor
        assert [type(each).__name__ for each in actor.heard] in (["Exit", "Down"], ["Down", "Exit"])
        assert all(each.reason is reason for each in actor.heard if isinstance(each, Exit))
        assert (await self.child()).alive
        return reason

    async def lives(self) -> None:
        """See that nobody has died; then that it can."""
        assert await self.ref.call(lambda actor: asyncio.sleep(0, "alive")) == "alive"
        self.ref.kill()
        assert await self.died() == KILLED


def family(runtime: Runtime, **members: Any) -> Family:
    return Family(runtime, type("Hooked", (Doer,), members))


Raise = Callable[[], Any]
SCENARIOS: dict[str, Callable[[Runtime, Raise], Awaitable[None]]] = {}


def scenario(*hooks: str) -> Callable[[Any], Any]:
    def note(function: Any) -> Any:
        for hook in hooks:
            SCENARIOS[hook] = function
        return function

    return note


def asynchronous(fail: Raise) -> Callable[..., Any]:
    async def act(*_: object) -> Any:
        fail()

    return act


def plain(fail: Raise) -> Callable[..., Any]:
    def act(*_: object) -> Any:
        fail()

    return act


# --- callbacks ----------------------------------------------------------------------------------------------------


@scenario("Actor.init")
async def init(runtime: Runtime, fail: Raise) -> None:
    failing = [True]

    class Starting(Doer):
        async def init(self) -> Any:
            await super().init()
            if failing:
                fail()

    grown = Family(runtime, Starting)
    with pytest.raises(dspex.errors.StartFailed):
        await runtime.start(Starting())
    with pytest.raises(dspex.errors.StartFailed):
        await runtime.start(Supervisor([ChildSpec("doer", Starting)]))
    assert sorted(Starting.closed) == sorted(["first", "second", "third"] * 2)
    assert not runtime.processes
    failing.clear()
    Starting.closed.clear()
    await grown.start()
    failing.append(True)
    grown.ref.kill()
    await grown.ref.wait_exit()
    assert await grown.supervisor.wait_exit() is not None  # it has tried as often as it may


@scenario("Actor.handle_call")
async def handle_call(runtime: Runtime, fail: Raise) -> None:
    for busy in (False, True):  # at once in the caller's tick, and by way of the mailbox
        grown = family(runtime, terminate=noting_terminate)
        ref = await grown.start()
        if busy:
            ref.cast(lambda actor: None)
        with pytest.raises(dspex.errors.ActorExited):
            await ref.call(asynchronous(fail))
        await crashed(grown)


@scenario("Actor.handle_cast")
async def handle_cast(runtime: Runtime, fail: Raise) -> None:
    grown = family(runtime, terminate=noting_terminate)
    ref = await grown.start()
    ref.cast(plain(fail))
    await crashed(grown)


@scenario("Actor.handle_info")
async def handle_info(runtime: Runtime, fail: Raise) -> None:
    grown = family(runtime, terminate=noting_terminate, handle_info=asynchronous(fail))
    ref = await grown.start()
    ref.send("x")
    await crashed(grown)


@scenario("Actor.handle_continue")
async def handle_continue(runtime: Runtime, fail: Raise) -> None:
    grown = family(runtime, terminate=noting_terminate, handle_continue=asynchronous(fail))
    ref = await grown.start()
    ref.cast(lambda actor: Continue())
    await crashed(grown)


@scenario("Actor.terminate")
async def terminate(runtime: Runtime, fail: Raise) -> None:
    for act in (lambda actor: Stop(), plain(lambda: 1 / 0)):
        grown = family(runtime, terminate=asynchronous(fail))
        ref = await grown.start()
        ref.cast(act)
        await grown.died()


@scenario("Actor.describe")
async def describe(runtime: Runtime, fail: Raise) -> None:
    grown = family(runtime, describe=plain(fail))
    await grown.start()
    assert "describe failed" in tree(grown.supervisor._process).render()
    await grown.lives()


async def noting_terminate(self: Doer, reason: ExitReason) -> None:
    self.closed.append(f"terminate: {type(reason).__name__}")


async def crashed(grown: Family) -> None:
    """A crash, after which ``terminate`` ran; a bare cancellation is a kill, after which it does not."""
    reason = await grown.ref.wait_exit()
    if isinstance(reason, Crashed):
        grown.kind.closed.remove("terminate: Crashed")
    else:
        assert reason == KILLED
    await grown.died()


@scenario("Application.start", "Application.prep_stop", "Application.stop")
async def hooks_of_an_application(runtime: Runtime, fail: Raise) -> None:
    for name in ("start", "prep_stop", "stop"):
        kind: Any = type("Hooked", (Application,), {name: asynchronous(fail)})
        closed: list[str] = []

        class Child(Doer):
            pass

        Child.closed = closed
        application = kind([ChildSpec("child", Child)], runtime=runtime)
        if name == "start":
            with pytest.raises(dspex.errors.StartFailed):
                await application.open()
        else:
            await application.open()
            await application.close()
            assert sorted(closed) == ["first", "second", "third"]
        assert not runtime.processes


# --- functions that the dying call --------------------------------------------------------------------------------


@scenario("Actor.own(close)", "Process.own(close)")
async def closers(runtime: Runtime, fail: Raise) -> None:
    for close in (plain(fail), asynchronous(fail), lambda _: Hostile(fail)):
        grown = family(runtime)
        ref = await grown.start()
        for _ in range(2):
            ref._process.own("x", close)
        ref._process.own("between", lambda name: None)
        ref.kill()
        assert await grown.died() == KILLED


class Hostile:
    """An awaitable that fails where it is looked at."""

    def __init__(self, fail: Raise) -> None:
        self._fail = fail

    def __await__(self) -> Any:
        return self._fail()


@scenario("Process.on_dead(callback)", "Process.not_on_dead(callback)")
async def told_of_the_end(runtime: Runtime, fail: Raise) -> None:
    grown = family(runtime)
    ref = await grown.start()
    told: list[str] = []
    ref._process.on_dead(lambda: told.append("before"))
    ref._process.on_dead(plain(fail))
    ref._process.on_dead(lambda: told.append("after"))
    ref.kill()
    assert await grown.died() == KILLED
    assert told == ["before", "after"]
    ref._process.on_dead(plain(fail))


def note(told: list[str], name: str, *_: object) -> None:
    told.append(name)


@scenario("Telemetry.attach(handler)")
async def telemetry(runtime: Runtime, fail: Raise) -> None:
    ways: list[Callable[[ActorRef], object]] = [ActorRef.kill, lambda ref: ref.cast(plain(lambda: 1 / 0))]
    for act in ways:
        grown = family(runtime)
        ref = await grown.start()
        told: list[str] = []
        runtime.telemetry.attach("dspex.process.exit", plain(fail))
        detach = runtime.telemetry.attach("dspex.process.exit", partial(note, told))
        act(ref)
        await grown.died()
        assert told == ["dspex.process.exit"]
        detach()
        assert not runtime.telemetry.active


@scenario("Runtime.on_interrupt")
async def on_interrupt(runtime: Runtime, fail: Raise) -> None:
    before, runtime.on_interrupt = runtime.on_interrupt, plain(fail)
    grown = family(runtime)
    ref = await grown.start()

    def interrupt(_: object) -> None:
        raise KeyboardInterrupt

    ref.cast(interrupt)
    await grown.died()
    runtime.on_interrupt = before


# --- functions that run in a process, or that start one -----------------------------------------------------------


@scenario(
    "Actor.spawn_task(work)",
    "Process.spawn_task(work)",
    "Runtime.spawn_task(work)",
    "TaskSupervisorRef.spawn(work)",
    "TaskSupervisorRef.start(work)",
)
async def tasks(runtime: Runtime, fail: Raise) -> None:
    grown = family(runtime)
    await grown.start()
    supervisor: Any = await runtime.start(TaskSupervisor())
    for work in (asynchronous(fail), plain(fail)):
        for spawn in (grown.ref._process.spawn_task, supervisor.spawn):
            assert await spawn(work).wait_exit() is not None
        with pytest.raises(dspex.errors.ActorExited):
            await supervisor.start(work)
    await grown.lives()


@scenario("TaskSupervisorRef.start_link(work)")
async def linked_tasks(runtime: Runtime, fail: Raise) -> None:
    supervisor: Any = await runtime.start(TaskSupervisor())
    grown = family(runtime)
    ref = await grown.start()

    async def start(actor: Doer) -> None:
        supervisor.start_link(asynchronous(fail))
        await asyncio.get_running_loop().create_future()

    with pytest.raises(dspex.errors.ActorExited):
        await ref.call(start)
    await grown.died()


@scenario("TaskSupervisorRef.stream(work)", "TaskStream(work)", "TaskStream(admit)")
async def streams(runtime: Runtime, fail: Raise) -> None:
    supervisor: Any = await runtime.start(TaskSupervisor())
    grown = family(runtime)
    ref = await grown.start()

    async def consume(actor: Doer) -> None:
        async with supervisor.stream(asynchronous(fail), [1, 2, 3], max_concurrency=2) as results:
            assert [result.ok async for result in results] == [False, False, False]
        fail()

    with pytest.raises(dspex.errors.ActorExited):
        await ref.call(consume)
    await grown.died()
    assert supervisor.alive
    grown = family(runtime)
    ref = await grown.start()

    async def refused(actor: Doer) -> None:
        stream = TaskStream(actor.ref._process, asyncio.sleep, [0], StreamOptions(1), admit=plain(fail))
        with suppress(BaseException):
            async with stream as results:
                assert [result async for result in results] == []

    await ref.call(refused)
    await grown.lives()


@scenario("ChildSpec(start)")
async def constructors(runtime: Runtime, fail: Raise) -> None:
    failing = [True]

    def make() -> Doer:
        if failing:
            fail()
        return Doer()

    with pytest.raises(dspex.errors.StartFailed):
        await runtime.start(Supervisor([ChildSpec("doer", make)]))
    dynamic: Any = await runtime.start(DynamicSupervisor())
    fixed: Any = await runtime.start(Supervisor())
    for supervisor in (dynamic, fixed):
        with pytest.raises(dspex.errors.StartFailed):
            await supervisor.start_child(ChildSpec("doer", make))
    failing.clear()
    first = await dynamic.start_child(ChildSpec("doer", make))
    failing.append(True)
    first.kill()
    assert await dynamic.wait_exit() is not None  # it gives up in its own time, with its own reason
    assert isinstance(dynamic.exit_reason, dspex.runtime.Shutdown)
    assert fixed.alive


@scenario("PartitionSupervisor(with_arguments)")
async def partitions(runtime: Runtime, fail: Raise) -> None:
    top: Any = await runtime.start(Supervisor())
    arguments = (ChildSpec("doer", Doer),)
    keywords = {"partitions": 2, "with_arguments": plain(fail)}
    with pytest.raises(dspex.errors.StartFailed):
        await top.start_child(ChildSpec("partitions", PartitionSupervisor, arguments, keywords))
    assert top.alive


# --- functions of those who look on -------------------------------------------------------------------------------


@scenario("ActorRef.install_trace(hook)", "ActorRef.remove_trace(hook)")
async def traces(runtime: Runtime, fail: Raise) -> None:
    grown = family(runtime)
    ref = await grown.start()
    hook = plain(fail)
    await ref.install_trace(hook)
    await ref.call(lambda actor: asyncio.sleep(0))
    await ref.remove_trace(hook)
    await grown.lives()


@scenario("ActorRef.replace_state(change)")
async def states(runtime: Runtime, fail: Raise) -> None:
    grown = family(runtime)
    ref = await grown.start()
    with pytest.raises(Exception) as caught:
        await ref.replace_state(plain(fail))
    assert not isinstance(caught.value, dspex.errors.ActorExited)
    await grown.lives()


@scenario(
    "Registry.count(where)",
    "Registry.dispatch(function)",
    "Registry.lock(function)",
    "Registry.select(where)",
    "Registry.update_value(function)",
)
async def registries(runtime: Runtime, fail: Raise) -> None:
    registry = Registry()
    grown = family(runtime)
    ref = await grown.start()

    async def use(actor: Doer) -> None:
        registry.register("k")
        for act in (
            lambda: registry.update_value("k", plain(fail)),
            lambda: registry.dispatch("k", plain(fail)),
            lambda: registry.select(plain(fail)),
            lambda: registry.count(plain(fail)),
        ):
            with suppress(BaseException):
                act()
        with suppress(BaseException):
            await registry.lock("l", plain(fail))
        with suppress(BaseException):
            await registry.lock("l", asynchronous(fail))

    await ref.call(use)
    assert await registry.lock("l", lambda: "free") == "free"
    assert [entry.ref for entry in registry.lookup("k")] == [ref]
    await grown.lives()
    assert registry.lookup("k") == ()


@scenario("Runtime.when_named(callback)")
async def names(runtime: Runtime, fail: Raise) -> None:
    told: list[ActorRef] = []
    runtime.when_named("n", plain(fail))
    runtime.when_named("n", told.append)
    ref = await runtime.start(Doer(), name="n")
    await asyncio.sleep(0)
    assert told == [ref]
    grown = family(runtime)
    await grown.start()
    await grown.lives()


# --- threads ------------------------------------------------------------------------------------------------------


@scenario("ThreadPool(on_late)", "ThreadPool.run(function)", "ThreadPool.when_empty(callback)")
async def thread_pools(runtime: Runtime, fail: Raise) -> None:
    import threading

    pool = ThreadPool("pool", limit=1, spare=0, on_late=plain(fail))
    with pytest.raises(BaseException) as caught:
        await pool.run(plain(fail))
    assert caught.value.__traceback__ is not None
    gate = threading.Event()
    late = asyncio.ensure_future(pool.run(gate.wait))
    await asyncio.sleep(0)
    late.cancel()
    with suppress(asyncio.CancelledError):
        await late
    gate.set()
    assert await pool.run(lambda: "goes on") == "goes on"
    pool.when_empty(plain(fail))
    assert await pool.aclose(60.0) == []


@scenario(
    "WorkerThread.submit(function)",
    "WorkerThread.submit(failed)",
    "WorkerThread.run(function)",
    "WorkerThread.aclose(last)",
)
async def worker_threads(runtime: Runtime, fail: Raise) -> None:
    worker = WorkerThread("worker")
    told: list[BaseException] = []
    worker.submit(plain(fail), failed=told.append)
    worker.submit(plain(fail), failed=plain(fail))
    assert await worker.run(lambda: "goes on") == "goes on"
    assert len(told) == 1
    with suppress(BaseException):
        await worker.run(plain(fail))
    with suppress(BaseException):
        await worker.aclose(plain(fail))
    assert worker._pool._shutdown  # the thread is gone, whatever was raised


@scenario("OsProcess(ready)")
async def readiness(runtime: Runtime, fail: Raise) -> None:
    """The question is asked again until the start has taken too long; no program is left."""
    started: list[int] = []

    async def ready(info: OsProcessInfo) -> bool:
        started.append(info.pid)
        fail()
        return True

    keywords = {"ready": ready, "start_timeout": 0.1, "stop_timeout": 0.1}
    top: Any = await runtime.start(Supervisor())
    with pytest.raises(dspex.errors.StartFailed):
        await top.start_child(ChildSpec("program", OsProcess, (["sleep", "60"],), keywords))
    assert started
    assert top.alive


@scenario("run(loop_factory)")
async def before_anything_runs(runtime: Runtime, fail: Raise) -> None:
    """It is called before there is a process."""
    outcome: list[BaseException] = []

    def call() -> None:
        try:
            run(loop_factory=plain(fail))
        except BaseException as error:
            outcome.append(error)

    call()
    assert len(outcome) == 1


# --- texts and logs, which no signature shows ---------------------------------------------------------------------


async def texts(runtime: Runtime, fail: Raise) -> None:
    class Mute:
        def __repr__(self) -> str:
            return str(fail())

        __str__ = __repr__

    class Mumbling(ExitReason):
        def __str__(self) -> str:
            return str(fail())

        __repr__ = __str__

    mute: Any = Mute()
    ways: list[Callable[[ActorRef], object]] = [
        lambda ref: ref.exit(Other(mute)),
        lambda ref: ref.exit(Mumbling()),
        lambda ref: ref.exit(mute),
        lambda ref: ref.cast(lambda actor: Stop(Other(mute))),
        lambda ref: ref.cast(lambda actor: Stop(mute)),
        lambda ref: ref.cast(lambda actor: mute),
    ]
    for act in ways:
        grown = family(runtime)
        ref = await grown.start()
        act(ref)
        await grown.died()
    ref.send(mute)


async def logs(runtime: Runtime, fail: Raise) -> None:
    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            fail()

        def handle(self, record: logging.LogRecord) -> bool:
            fail()
            return True

    handler = Broken()
    logger = logging.getLogger("dspex")
    logger.addHandler(handler)
    try:
        grown = family(runtime, terminate=asynchronous(lambda: 1 / 0))
        ref = await grown.start()
        ref._process.own("x", plain(fail))
        ref.cast(plain(lambda: 1 / 0))
        await grown.died()
    finally:
        logger.removeHandler(handler)


async def answers(runtime: Runtime, fail: Raise) -> None:
    """An exception given to a caller is the caller's; the server lives."""
    grown = family(runtime)
    ref = await grown.start()
    try:
        fail()
    except BaseException as error:
        given: Any = error

    class Server(Actor):
        async def handle_call(self, message: Any, sender: From) -> Any:
            sender.fail(given)
            return NoReply()

    server = await runtime.start(Server())
    with pytest.raises(Exception) as caught:
        await server.call("x")
    assert caught.value is given or caught.value.__cause__ is given
    assert server.alive
    assert ref.alive
    await grown.lives()


# --- all of it ----------------------------------------------------------------------------------------------------


def drive(factory: Callable[[], asyncio.AbstractEventLoop], main: Callable[[], Any]) -> int:
    """Run ``main`` to its end, over every interrupt that leaves the loop; return how many did."""
    loop = factory()
    asyncio.set_event_loop(loop)
    task = loop.create_task(main())
    task.add_done_callback(lambda _: loop.stop())
    interrupts = 0
    try:
        while not task.done():
            try:
                loop.run_forever()
            except KeyboardInterrupt:
                interrupts += 1
                assert interrupts < 100
        task.result()
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        asyncio.set_event_loop(None)
        loop.close()
    return interrupts


def name_of(act: Any) -> str:
    return str(act.__name__)


def test_every_hook_has_its_scenario() -> None:
    """A new hook in the code must be tried here, and a removed one must go."""
    assert sorted(SCENARIOS) == HOOKS


@pytest.mark.parametrize("heard", [False, True], ids=["unheard", "heard"])
@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize("act", sorted({*SCENARIOS.values(), texts, logs, answers}, key=str), ids=name_of)
@pytest.mark.parametrize("loop", LOOPS)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_nothing_stops_a_death(loop: str, act: Any, error: str, heard: bool, caplog: pytest.LogCaptureFixture) -> None:
    """Whatever is raised, wherever: finished, closed, told, decided. Interrupts go to who hears them, or the loop."""
    told: list[BaseException] = []

    def fail() -> None:
        made = ERRORS[error]()
        raise made

    async def main() -> None:
        runtime = Runtime()
        if heard:
            runtime.on_interrupt = told.append
        async with runtime:
            await asyncio.wait_for(act(runtime, fail), 20)
        assert not runtime.processes
        assert not runtime.zombies

    with caplog.at_level(logging.DEBUG):
        interrupts = drive(LOOPS[loop], main)
    if error != "KeyboardInterrupt" and act is not on_interrupt:
        assert interrupts == 0
        assert not told
