"""Corners of processes, refs and the runtime that other tests pass by."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any

import pytest

from dspex._guard import shown
from dspex.errors import ActorExited, StartFailed, UnknownMessage, WrongLoop
from dspex.runtime import (
    KILLED,
    NORMAL,
    Actor,
    Backoff,
    ChildSpec,
    Crashed,
    DynamicSupervisor,
    From,
    LibraryActor,
    Reply,
    Runtime,
    Stop,
    Supervisor,
    TaskProcess,
    TaskSupervisor,
    TaskSupervisorRef,
)
from dspex.runtime._log import get_logger, heard
from dspex.runtime._process import _stack_of
from dspex.testing import VirtualClock


class Echo(Actor):
    async def handle_call(self, message: Any, sender: From) -> Any:
        return await message() if callable(message) else Reply(message)


async def test_a_cancellation_nobody_asked_for_is_a_kill(runtime: Runtime) -> None:
    """Neither a success nor a crash: somebody cancelled the task behind the runtime's back."""
    ref = await runtime.start(Echo())

    async def cancelled() -> None:
        raise asyncio.CancelledError

    with pytest.raises(ActorExited):
        await ref.call(cancelled)
    assert ref.exit_reason == KILLED
    tasks = await runtime.start(TaskSupervisor())
    assert await tasks._process.spawn_task(cancelled).wait_exit() == KILLED


async def test_a_cancelled_goodbye_keeps_the_reason(runtime: Runtime) -> None:
    """Terminate that cancels itself has still been told why."""

    class Odd(Echo):
        async def terminate(self, reason: object) -> None:
            raise asyncio.CancelledError

    ref = await runtime.start(Odd())
    await ref.stop()
    assert ref.exit_reason == NORMAL


async def test_refs_are_values(runtime: Runtime) -> None:
    """Two refs to one process are one key, and say what they refer to."""
    ref = await runtime.start(Echo(), name="echo")
    again = runtime.whereis("echo")
    assert again is not None
    assert {ref: 1}[again] == 1
    assert ref != "echo"
    assert repr(ref) == "<Echo 'echo'>"
    assert repr(runtime.named("echo")) == "<echo by name>"
    assert repr(ref._process) == "<ActorProcess Echo 'echo' [alive]>"
    await ref.stop()
    assert repr(ref._process) == "<ActorProcess Echo 'echo' [exited: normal]>"
    assert await ref.wait_exit() == NORMAL
    called: list[str] = []
    ref._process.on_dead(lambda: called.append("at once"))
    assert called == ["at once"]


async def test_an_actor_reaches_its_own_runtime_and_ref(runtime: Runtime) -> None:
    """Without having been handed either."""
    actor = Echo()
    ref = await runtime.start(actor)
    assert (actor.runtime, actor.ref) == (runtime, ref)
    assert await actor.ref.call("x") == "x"


async def test_another_loop_is_refused(runtime: Runtime) -> None:
    """Futures of one loop are no good on another."""

    def elsewhere() -> None:
        async def spawn() -> None:
            with pytest.raises(WrongLoop):
                runtime.spawn(Echo())

        asyncio.run(spawn())

    await asyncio.to_thread(elsewhere)
    await runtime.loop.shutdown_default_executor()
    assert not runtime.processes


async def test_waiting_for_a_start_that_is_over(runtime: Runtime) -> None:
    """There is nothing to wait for, and nothing went wrong."""
    ref = await runtime.start(Echo())
    assert await runtime.await_start(ref._process, None) is None
    named = await runtime.start(Echo(), name="n")
    assert await runtime.wait_name("n", None) == named


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor, TaskSupervisor])
async def test_a_supervisor_refuses_what_it_does_not_know(runtime: Runtime, kind: type[LibraryActor]) -> None:
    """The bug is the caller's, and must show there; the children are not to pay for it."""
    ref = await runtime.start(kind())
    with pytest.raises(UnknownMessage, match="'what'"):
        await ref.call("what")
    ref.cast("what")
    ref.send("what")
    with pytest.raises(UnknownMessage):
        await ref.call("what")


async def test_a_service_whose_constructor_fails_is_tried_again(runtime: Runtime, clock: VirtualClock) -> None:
    """A constructor is user code like any other."""
    made: list[int] = []

    def make() -> Echo:
        made.append(1)
        if len(made) == 2:
            raise OSError("no")
        return Echo()

    supervisor = await runtime.start(Supervisor([ChildSpec("c", make)], backoff=Backoff(initial=1.0, maximum=1.0)))
    supervisor._process.children[0].receive_exit(KILLED, None)
    await clock.advance(3.0)
    assert len(made) == 3
    assert len(supervisor._process.children) == 1


async def test_a_fenced_process_is_an_event(runtime: Runtime, clock: VirtualClock) -> None:
    """With the stack that shows which code does not let go."""
    events: list[Any] = []
    runtime.telemetry.attach("dspex.process.fenced", lambda *event: events.append(event))
    tasks = await runtime.start(TaskSupervisor())
    assert isinstance(tasks, TaskSupervisorRef)

    async def stubborn() -> None:
        for _ in range(3):
            try:
                await runtime.sleep(1000.0)
            except asyncio.CancelledError:
                continue

    task: TaskProcess = tasks.spawn(stubborn)
    await clock.settle()
    task.ref.kill()
    await clock.advance(1.0)
    assert task.fenced
    ((name, _, about),) = events
    assert name == "dspex.process.fenced"
    assert "stubborn" in about["stack"]
    await clock.advance(1000.0)
    assert not runtime.zombies


async def test_a_failed_start_names_the_cause(runtime: Runtime) -> None:
    """Also when it lies one supervisor below."""

    class Failing(Actor):
        async def init(self) -> Stop:
            raise OSError("disk")

    inner = ChildSpec("inner", Supervisor, ([ChildSpec("leaf", Failing)],), kind="supervisor")
    with pytest.raises(StartFailed, match="disk") as caught:
        await runtime.start(Supervisor([inner]))
    causes: list[BaseException] = []
    cause: BaseException | None = caught.value
    while cause is not None:
        causes.append(cause)
        cause = cause.__cause__
    assert [type(each).__name__ for each in causes] == ["StartFailed"] * 3 + ["OSError"]


def test_reports_survive_what_they_report(caplog: pytest.LogCaptureFixture) -> None:
    """A field that a log record has of its own is renamed; what cannot be shown is said to be so."""

    class Unprintable(Exception):
        def __str__(self) -> str:
            raise ValueError("no")

        __repr__ = __str__

    get_logger("test").warning("said", name="n", message="m", own="o")
    (record,) = caplog.records
    assert (record.__dict__["name_"], record.__dict__["message_"], record.__dict__["own"]) == ("n", "m", "o")
    assert shown(Unprintable()) == "<Unprintable that cannot be shown>"
    assert str(Crashed(Unprintable())) == "crashed: Unprintable: <Unprintable that cannot be shown>"


def test_nobody_but_a_null_handler_is_nobody() -> None:
    """A record that nobody would hear is not made; a handler anywhere above the logger hears."""
    root = logging.Logger("root")  # noqa: LOG001 - not in the tree that the whole process shares
    room = logging.Logger("room")  # noqa: LOG001 - as above
    room.parent = root
    assert not heard(room)
    room.addHandler(logging.NullHandler())
    assert not heard(room)
    handler = logging.StreamHandler()
    root.addHandler(handler)
    assert heard(room)
    room.propagate = False
    assert not heard(room)


def test_silence_does_not_even_look_at_its_fields(monkeypatch: pytest.MonkeyPatch) -> None:
    """The parts of a report are not found out, let alone written."""
    logger, records = get_logger("test_silence"), list[logging.LogRecord]()
    plain = logging.getLogger("dspex.test_silence")
    monkeypatch.setattr(plain, "propagate", False)
    monkeypatch.setattr(plain, "handle", records.append)
    logger.error("unheard")
    assert (logger.heard, records) == (False, [])
    monkeypatch.setattr(plain, "handlers", [logging.StreamHandler()])
    logger.error("heard", field=1)
    assert logger.heard
    assert [(each.getMessage(), vars(each)["field"]) for each in records] == [("heard", 1)]


class Failing(logging.Handler):
    def handle(self, record: logging.LogRecord) -> bool:
        raise ZeroDivisionError


@pytest.mark.parametrize("stderr", ["open", "none", "broken", "off"])
def test_a_log_handler_that_fails_is_told_of_where_logging_tells(
    stderr: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """On stderr, unless there is none, or nobody wants to know."""

    class Broken:
        def write(self, text: str) -> None:
            raise OSError("closed")

        flush = write

    handler, logger = Failing(), logging.getLogger("dspex")
    if stderr == "off":
        monkeypatch.setattr(logging, "raiseExceptions", False)
    elif stderr != "open":
        monkeypatch.setattr(sys, "stderr", None if stderr == "none" else Broken())
    logger.addHandler(handler)
    try:
        get_logger("test").error("said")
    finally:
        logger.removeHandler(handler)
    assert ("ZeroDivisionError" in capsys.readouterr().err) == (stderr == "open")


async def test_a_stack_that_cannot_be_read_is_said_to_be_so(runtime: Runtime) -> None:
    """Source lines come from loaders, which may raise anything."""

    class Odd:
        cr_frame = property(lambda self: 1 / 0)

    task: Any = type("Task", (), {"get_coro": lambda self: Odd()})()
    assert _stack_of(task) == "<stack that cannot be shown>"
