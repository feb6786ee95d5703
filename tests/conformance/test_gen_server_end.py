"""How an actor ends, and what a crowded mailbox costs: the rest of OTP's gen_server_SUITE."""

from __future__ import annotations

import asyncio
import gc
import time
from typing import Any, ClassVar

import pytest

from dspex.errors import ActorExited, StartFailed
from dspex.runtime import (
    KILL,
    NORMAL,
    Actor,
    Call,
    Crashed,
    ExitReason,
    From,
    Other,
    Reply,
    Runtime,
    Stop,
)
from tests.conformance.kids import Host, actor_of
from tests.conformance.test_gen_server import Server, start

BOOM = Other("boom")


@pytest.mark.parametrize("broken", [False, True])
async def test_stop_with_a_reply_terminates_first(runtime: Runtime, broken: bool) -> None:
    """The caller that has its answer knows that the clean-up is over, even a failed one."""
    seen: list[bool] = []

    class Last(Server):
        async def terminate(self, reason: ExitReason) -> None:
            seen.append(answer.done())
            if broken:
                raise ValueError("late")

    async def stop(*_: object) -> Stop:
        return Stop(NORMAL, "bye")

    ref = await runtime.start(Last())
    answer = asyncio.ensure_future(ref.call(stop))
    assert await answer == "bye"
    assert seen == [False]
    assert isinstance(await ref.wait_exit(), Crashed if broken else type(NORMAL))


@pytest.mark.parametrize("error", [ValueError("late"), SystemExit(3)])
async def test_an_exception_in_terminate_replaces_the_reason(runtime: Runtime, error: BaseException) -> None:
    """The last failure is the one to look at; SystemExit does not end the OS process either."""

    class Late(Server):
        async def terminate(self, reason: ExitReason) -> None:
            raise error

    ref = await runtime.start(Late())
    with pytest.raises(ActorExited) as caught:
        await ref.stop()
    assert caught.value.reason == Crashed(error)


@pytest.mark.parametrize("how", ["kill", "signal", "crash in init"])
async def test_terminate_is_not_called(runtime: Runtime, how: str) -> None:
    """After a kill, a signal to an actor that does not trap, and a failed init."""
    server = Server(ValueError if how == "crash in init" else None)
    if how == "crash in init":
        with pytest.raises(StartFailed):
            await runtime.start(server)
    else:
        ref = await runtime.start(server)
        ref.exit(KILL if how == "kill" else BOOM)
        await ref.wait_exit()
    assert server.log == []


async def test_a_parents_exit_waits_its_turn_in_an_actor_that_traps(runtime: Runtime) -> None:
    """Messages queued earlier are handled first, and handle_info never sees it."""

    class Trapping(Server):
        trap_exit: ClassVar[bool] = True

    ref = await runtime.start(Trapping())
    ref.cast("before")
    ref.exit(NORMAL)
    ref.exit(BOOM)
    ref.cast("after")
    assert await ref.wait_exit() == NORMAL
    assert actor_of(ref).log == ["before", ("terminate", NORMAL)]


@pytest.mark.parametrize("where", ["init", "handler", "task"])
async def test_trap_2_2_o_system_exit_is_a_crash_of_one_process(runtime: Runtime, where: str) -> None:
    """It must not tear the whole loop down."""

    async def leave(*_: object) -> None:
        raise SystemExit(3)

    reason: object
    if where == "init":
        with pytest.raises(StartFailed) as caught:
            await start(runtime, leave)
        reason = caught.value.reason
    elif where == "handler":
        ref = await start(runtime)
        ref.cast(leave)
        reason = await ref.wait_exit()
    else:
        host = await start(runtime)
        reason = await actor_of(host).spawn_task(leave).wait_exit()
    assert isinstance(reason, Crashed)
    assert isinstance(reason.error, SystemExit)


async def test_an_answer_has_the_type_its_question_names(runtime: Runtime) -> None:
    """For the type checker; at run time any message may be called."""

    class Add(Call[int]):
        def __init__(self, left: int, right: int) -> None:
            self.left, self.right = left, right

    class Adder(Actor):
        async def handle_call(self, message: Any, sender: From) -> Reply:
            return Reply(message.left + message.right)

    ref = await runtime.start(Adder(), name="adder")
    total: int = await ref.call(Add(1, 2))
    assert total == 3
    assert await runtime.named("adder").call(Add(3, 4)) == 7


@pytest.mark.allow_blocking("measures with a mailbox of half a million messages")
async def test_p76_a_call_from_an_actor_with_a_huge_mailbox_is_as_quick(runtime: Runtime) -> None:
    """Answers do not go through the mailbox."""
    echo = await start(runtime)
    host = await runtime.start(Host())

    async def answer(server: Server, _: From) -> Reply:
        server.log.clear()
        return Reply()

    async def seconds() -> float:
        began = time.process_time()
        for _ in range(10_000):
            await echo.call(answer, timeout=None)
        return time.process_time() - began

    empty = await host.call(seconds, timeout=None)

    async def with_messages() -> float:
        for _ in range(500_000):
            host.send(None)
        return await seconds()

    try:
        assert await host.call(with_messages, timeout=None) < 10 * empty
    finally:
        host.kill()
        await host.wait_exit()
        gc.collect()
