"""How an actor serves: the cases of OTP's gen_server_SUITE and of GenServerTest."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from dspex.errors import ActorExited, AlreadyRegistered, CallCycle, CallTimeout, NoSuchActor, StartFailed
from dspex.runtime import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    Actor,
    ActorRef,
    BadReturn,
    Continue,
    Crashed,
    Down,
    ExitReason,
    From,
    Idle,
    IdleTimeout,
    Ignore,
    NoReply,
    Other,
    Reply,
    Runtime,
    Shutdown,
    Stop,
    current_process,
)
from dspex.testing import VirtualClock
from tests.conformance.kids import Host, TrappingHost, actor_of

BOOM = Other("boom")


class Server(Actor):
    """Does what each message says, and writes down what it saw."""

    def __init__(self, starting: Any = None) -> None:
        self.starting = starting
        self.log: list[object] = []

    async def init(self) -> Any:
        if callable(self.starting):
            return await self.starting(self)
        return self.starting

    async def handle_call(self, message: Any, sender: From) -> Any:
        self.log.append(message)
        return await message(self, sender) if callable(message) else Reply(list(self.log))

    async def handle_cast(self, message: Any) -> Any:
        self.log.append(message)
        return await message(self) if callable(message) else None

    async def handle_info(self, message: Any) -> Any:
        self.log.append(message)
        return await message(self) if callable(message) else None

    async def handle_continue(self, argument: Any) -> Any:
        self.log.append(("continue", argument))
        return await argument(self) if callable(argument) else None

    async def terminate(self, reason: ExitReason) -> None:
        self.log.append(("terminate", reason))


async def start(runtime: Runtime, starting: Any = None, **options: Any) -> ActorRef:
    return await runtime.start(Server(starting), **options)


def crashes(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.levelno >= logging.ERROR for record in caplog.records)


# --- start --------------------------------------------------------------------------------------------------


async def test_p40_start_returns_when_init_has(runtime: Runtime, clock: VirtualClock) -> None:
    """A ref in hand means a server that is ready; one that takes too long is dead, not forgotten."""

    async def slowly(server: Server) -> None:
        await server.runtime.sleep(0.3)
        server.log.append("ready")

    async with clock.autojump():
        ref = await start(runtime, slowly)
        assert actor_of(ref).log == ["ready"]
        assert clock.now() == pytest.approx(0.3)
        with pytest.raises(StartFailed) as caught:
            await start(runtime, slowly, timeout=0.1)
    assert caught.value.reason == KILLED
    assert list(runtime.processes) == [ref.pid]


@pytest.mark.parametrize("outcome", [Ignore(), Stop(BOOM)])
async def test_p41_who_does_not_start_has_nothing_to_terminate(runtime: Runtime, outcome: object) -> None:
    """Its init never promised that there is something to clean up."""
    server = Server(outcome)
    with pytest.raises(StartFailed) as caught:
        await runtime.start(server, name="n")
    assert caught.value.reason == (BOOM if isinstance(outcome, Stop) else outcome)
    assert server.log == []
    assert not runtime.processes
    assert (await start(runtime, name="n")).alive


async def test_p42_a_name_has_one_holder(runtime: Runtime) -> None:
    """The second start does not happen at all; after the holder's Down the name is free."""
    first = await start(runtime, name="n")
    second = Server(Stop(BOOM))
    with pytest.raises(AlreadyRegistered) as caught:
        await runtime.start(second, name="n")
    assert caught.value.owner == first
    assert not hasattr(second, "_process")
    successors = []

    class Heir(TrappingHost):
        async def handle_info(self, message: object) -> None:
            assert isinstance(message, Down)
            successors.append(await self.runtime.start(Server(), name="n"))

    heir = await runtime.start(Heir())
    monitored: Any = first.monitor

    async def monitor() -> Any:
        return monitored()

    await heir.call(monitor)
    first.kill()
    await first.wait_exit()
    assert await heir.call(_nothing) is None
    assert runtime.whereis("n") == successors[0]


async def _nothing() -> None: ...


# --- call and cast ------------------------------------------------------------------------------------------


async def test_p43_messages_of_one_sender_keep_their_order(runtime: Runtime) -> None:
    """Whatever their kind."""
    ref = await start(runtime)
    ref.cast("a")
    ref.send("b")
    assert await ref.call("get") == ["a", "b", "get"]


async def test_p44_calls_that_can_never_be_answered_fail_at_once(runtime: Runtime, clock: VirtualClock) -> None:
    """Nobody has to wait five seconds to learn it."""
    dead = await start(runtime)
    await dead.stop()
    with pytest.raises(NoSuchActor):
        await dead.call("x")
    ref = await start(runtime, name="me")

    async def call_myself(server: Server, _: From) -> Reply:
        with pytest.raises(CallCycle):
            await server.ref.call("x")
        with pytest.raises(CallCycle):
            await server.runtime.named("me").call("x")
        return Reply("refused")

    assert await ref.call(call_myself) == "refused"

    async def call_my_name(server: Server) -> None:
        with pytest.raises(CallCycle):
            await server.runtime.named("newcomer").call("x")

    await start(runtime, call_my_name, name="newcomer")
    assert clock.now() == 0.0


async def test_p45_casts_to_nobody_are_dropped(runtime: Runtime) -> None:
    """A cast has no one to tell; False says that it went nowhere."""
    dead = await start(runtime)
    await dead.stop()
    assert not dead.cast("x")
    assert not dead.send("x")
    nobody = runtime.named("nobody")
    assert not nobody.cast("x")
    assert not nobody.send("x")


async def test_p46_a_timeout_does_not_undo_the_work(runtime: Runtime, clock: VirtualClock) -> None:
    """The server never learns that nobody waits any more; the late answer is dropped."""
    ref = await start(runtime)

    async def work(server: Server, _: From) -> Reply:
        await server.runtime.sleep(0.03)
        server.log.append("done")
        return Reply("late")

    async with clock.autojump():
        with pytest.raises(CallTimeout):
            await ref.call(work, timeout=0.001)
        assert "done" in await ref.call("get")


@pytest.mark.parametrize("by", ["itself", "another"])
async def test_p47_an_answer_may_come_later_and_from_anybody(runtime: Runtime, by: str) -> None:
    """The first answer counts, and who answered learns whether anybody listened."""
    ref = await start(runtime)
    kept: list[From] = []

    async def keep(server: Server, sender: From) -> NoReply:
        kept.append(sender)
        return NoReply()

    async def answer(server: Server) -> None:
        assert kept[0].waiting
        assert kept[0].reply("answer")
        assert not kept[0].reply("again")
        assert not kept[0].fail(ValueError("again"))

    waiting = asyncio.ensure_future(ref.call(keep))
    await asyncio.sleep(0)
    (ref if by == "itself" else await start(runtime)).cast(answer)
    assert await waiting == "answer"
    assert not actor_of(ref)._dspex_process._deferred


@pytest.mark.parametrize("kind", ["call", "cast", "info", "continue", "init"])
async def test_p48_junk_is_a_crash(runtime: Runtime, kind: str) -> None:
    """A handler that says something the loop does not understand has lost track; terminate still runs."""

    async def junk(*_: object) -> str:
        return "junk"

    if kind == "init":
        with pytest.raises(StartFailed) as failed:
            await start(runtime, junk)
        reason = failed.value.reason
    else:
        ref = await start(runtime, Continue(junk) if kind == "continue" else None)
        if kind == "call":
            with pytest.raises(ActorExited) as exited:
                await ref.call(junk)
            assert exited.value.reason == await ref.wait_exit()
        elif kind == "cast":
            ref.cast(junk)
        elif kind == "info":
            ref.send(junk)
        reason = await ref.wait_exit()
        assert actor_of(ref).log[-1] == ("terminate", reason)
    assert isinstance(reason, Crashed)
    assert isinstance(reason.error, BadReturn)


async def test_p49_a_crash_reaches_the_caller_at_once_and_the_log_once(
    runtime: Runtime, caplog: pytest.LogCaptureFixture, clock: VirtualClock
) -> None:
    """With the reason; whoever is linked to it dies of it without a report of their own."""
    host = await runtime.start(Host())
    refs: list[ActorRef] = []

    async def crash(*_: object) -> None:
        raise ValueError("boom")

    async def start_below() -> None:
        refs.append(await start(runtime))

    await host.call(start_below)
    with pytest.raises(ActorExited) as caught:
        await refs[0].call(crash, timeout=5.0)
    assert isinstance(caught.value.reason, Crashed)
    assert isinstance(caught.value.reason.error, ValueError)
    assert await host.wait_exit() == caught.value.reason
    assert crashes(caplog) == 1
    assert clock.now() == 0.0


@pytest.mark.parametrize(("reason", "logged"), [(NORMAL, 0), (SHUTDOWN, 0), (Shutdown("x"), 0), (BOOM, 1)])
async def test_p49_only_abnormal_ends_are_logged(
    runtime: Runtime, caplog: pytest.LogCaptureFixture, reason: ExitReason, logged: int
) -> None:
    """Who stops as planned is not news."""
    ref = await start(runtime)

    async def stop(*_: object) -> Stop:
        return Stop(reason)

    with pytest.raises(ActorExited) as caught:
        await ref.call(stop)
    assert caught.value.reason == reason
    assert crashes(caplog) == logged


async def test_p50_stop_waits_for_the_end_and_says_when_it_was_another(runtime: Runtime) -> None:
    """Terminate has run when it returns."""
    for reason in (NORMAL, Other("other")):
        ref = await start(runtime)
        await ref.stop(reason)
        assert actor_of(ref).log == [("terminate", reason)]
        with pytest.raises(NoSuchActor):
            await ref.stop()

    async def crash(*_: object) -> None:
        raise ValueError("boom")

    ref = await start(runtime)
    ref.cast(crash)
    with pytest.raises(ActorExited) as caught:
        await ref.stop()
    assert isinstance(caught.value.reason, Crashed)


async def test_p50_nobody_can_wait_for_their_own_end(runtime: Runtime, clock: VirtualClock) -> None:
    """Nor for the end of somebody above, which would wait for them; a stop that takes too long says so."""
    host = await runtime.start(Host())

    async def stop_host() -> None:
        await host.stop()

    async def from_below() -> object:
        child = await runtime.start(Host())
        child.send("x")
        task = actor_of(host).spawn_task(stop_host)
        await task.wait_exit()
        return task.exit_reason

    for attempt in (stop_me, runtime.close):
        with pytest.raises(ActorExited) as caught:
            await (await runtime.start(Host())).call(attempt)
        assert isinstance(caught.value.reason, Crashed)
        assert isinstance(caught.value.reason.error, CallCycle)
    reason = await host.call(from_below)
    assert isinstance(reason, Crashed)
    assert isinstance(reason.error, CallCycle)

    async def busy(server: Server) -> None:
        await server.runtime.sleep(10.0)

    ref = await start(runtime)
    ref.cast(busy)
    async with clock.autojump():
        with pytest.raises(CallTimeout):
            await ref.stop(timeout=1.0)


async def stop_me() -> None:
    process = current_process()
    assert process is not None
    await process.as_actor("stop").ref.stop()


# --- continue, idle, unknown --------------------------------------------------------------------------------


async def test_p51_continue_runs_before_anything_queued(runtime: Runtime) -> None:
    """From wherever it was asked for, in the order in which it was asked for."""

    async def twice(*_: object) -> Continue:
        return Continue(once)

    async def once(*_: object) -> Continue:
        return Continue("last")

    async def reply_then(server: Server, _: From) -> Reply:
        server.ref.cast("queued")
        return Reply(None, Continue(twice))

    async def defer_then(server: Server, sender: From) -> NoReply:
        sender.reply(None)
        return NoReply(Continue("deferred"))

    async def plain_then(server: Server) -> NoReply:
        return NoReply(Continue("plain"))

    ref = await start(runtime, Continue("init"))
    await ref.call(reply_then)
    await ref.call(defer_then)
    ref.cast(plain_then)
    ref.send(twice)
    log = await ref.call("get")
    assert [each if isinstance(each, (str, tuple)) else "message" for each in log] == [
        ("continue", "init"),
        "message",
        ("continue", twice),
        ("continue", once),
        ("continue", "last"),
        "queued",
        "message",
        ("continue", "deferred"),
        "message",
        ("continue", "plain"),
        "message",
        ("continue", once),
        ("continue", "last"),
        "get",
    ]

    async def stop(*_: object) -> Stop:
        return Stop()

    ending = await start(runtime, Continue(stop))
    assert await ending.wait_exit() == NORMAL


async def test_p52_continue_comes_before_messages_sent_during_init(runtime: Runtime) -> None:
    """The starter is released, yet nobody gets in between."""

    async def init(server: Server) -> Continue:
        server.ref.cast("m")
        return Continue("first")

    ref = await start(runtime, init)
    assert await ref.call("get") == [("continue", "first"), "m", "get"]


async def test_p53_idle_means_that_nothing_came(runtime: Runtime, clock: VirtualClock) -> None:
    """Any message calls it off, and one that waits already wins over a timeout of zero."""
    ref = await start(runtime, Idle(0.1))
    await clock.advance(0.05)
    ref.cast("m")
    await clock.advance(1.0)
    assert await ref.call("get") == ["m", "get"]
    idle = await start(runtime, Idle(0.1))
    await clock.advance(0.099)
    assert actor_of(idle).log == []
    await clock.advance(0.001)
    assert actor_of(idle).log == [IdleTimeout()]

    async def at_once(server: Server) -> Idle:
        server.ref.cast("queued")
        return Idle(0.0)

    busy = await start(runtime, at_once)
    await clock.advance(1.0)
    assert actor_of(busy).log == ["queued"]
    assert clock.pending == 0


async def test_p53_an_idle_actor_that_dies_leaves_no_timer(runtime: Runtime, clock: VirtualClock) -> None:
    """A timer keeps what it refers to."""
    ref = await start(runtime, Idle(3600.0))
    await clock.settle()
    assert clock.pending == 1
    ref.kill()
    await ref.wait_exit()
    assert clock.pending == 0


async def test_p54_unknown_messages(runtime: Runtime, caplog: pytest.LogCaptureFixture) -> None:
    """Stray information is logged and forgotten; a call or a cast nobody handles is a bug of its sender."""

    class Bare(Actor):
        pass

    class Unprintable:
        def __repr__(self) -> str:
            raise ValueError("no")

    ref = await runtime.start(Bare())
    ref.send("stray")
    ref.send(Unprintable())
    ref.cast("unknown")
    assert isinstance(await ref.wait_exit(), Crashed)
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert [record.__dict__["content"] for record in warnings] == ["'stray'", "<Unprintable that cannot be shown>"]
    for message in ("unknown", Unprintable()):
        ref = await runtime.start(Bare())
        with pytest.raises(ActorExited):
            await ref.call(message)

    async def init() -> Continue:
        return Continue("unknown")

    bare = Bare()
    bare.init = init  # type: ignore[method-assign]  # shorter than a class
    assert isinstance(await (await runtime.start(bare)).wait_exit(), Crashed)


async def test_p55_a_server_that_stops_without_answering_fails_its_callers(runtime: Runtime) -> None:
    """Those it was handling, those it had put off and those still queued; none of them hangs."""
    ref = await start(runtime)

    async def put_off(*_: object) -> NoReply:
        return NoReply()

    async def stop(*_: object) -> Stop:
        return Stop()

    calls = [asyncio.ensure_future(ref.call(message)) for message in (put_off, stop, "queued")]
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    assert [each.reason for each in outcomes if isinstance(each, ActorExited)] == [NORMAL] * 3
