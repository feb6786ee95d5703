"""KeyboardInterrupt in an actor is meant for the program, whenever it comes and however it is wrapped."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from typing import Any

import pytest

from dspex.errors import StartFailed
from dspex.runtime import (
    KILLED,
    NORMAL,
    Actor,
    Application,
    ChildSpec,
    Crashed,
    ExitReason,
    Restart,
    Runtime,
    run,
)
from tests.unit.runtime.doer import forever


def raises(error: BaseException) -> Callable[[], None]:
    def act() -> None:
        raise error

    return act


def group(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("several things", errors)


class Acting(Actor):
    """Does what a message says."""

    async def handle_info(self, message: Any) -> None:
        message()


def acting(name: str, actor: type[Actor] = Acting, *args: Any) -> ChildSpec:
    return ChildSpec(name, actor, args, restart=Restart.TEMPORARY, name=name)


# --- the block of an application --------------------------------------------------------------------------------


async def test_an_interrupt_as_the_start_is_over(runtime: Runtime) -> None:
    """The block is not entered."""
    application = Application(runtime=runtime)

    class Impatient(Actor):
        async def init(self) -> None:
            self.ref.send("go")

        async def handle_info(self, message: Any) -> None:
            process = application._process
            while process is None or process.started is not None:
                await asyncio.sleep(0)
                process = application._process
            raise KeyboardInterrupt

    application.children = (acting("impatient", Impatient),)
    with pytest.raises(KeyboardInterrupt):
        async with application:
            pytest.fail("it was entered")
    assert not runtime.processes


async def test_of_two_interrupts_the_first_counts(runtime: Runtime) -> None:
    """The block is left once, and the host is cancelled once."""
    application = Application([acting("one"), acting("two")], runtime=runtime)
    with pytest.raises(KeyboardInterrupt, match="one"):
        async with application:
            for name in ("one", "two"):
                runtime.named(name).send(raises(KeyboardInterrupt(name)))
            await forever()
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_an_interrupt_on_the_way_out(runtime: Runtime) -> None:
    """It is raised when all has ended; nobody was cancelled for it, and who was cancelled before still is."""

    class Last(Application):
        async def prep_stop(self, state: object) -> None:
            interrupted = self.runtime.whereis("one")
            assert interrupted is not None
            interrupted.send(raises(KeyboardInterrupt("late")))
            await interrupted.wait_exit()

    host = asyncio.current_task()
    assert host is not None
    host.cancel()
    with pytest.raises(asyncio.CancelledError):
        await forever()
    with pytest.raises(KeyboardInterrupt, match="late"):
        async with Last([acting("one")], runtime=runtime):
            pass
    assert host.cancelling() == 1
    host.uncancel()
    assert not runtime.processes


@pytest.mark.parametrize(
    "error",
    [group(KeyboardInterrupt("inside")), group(ValueError(), group(SystemExit(), KeyboardInterrupt("inside")))],
    ids=["alone", "nested"],
)
@pytest.mark.parametrize("where", ["handler", "init", "terminate", "task"])
async def test_an_interrupt_in_a_group_leaves_the_block(
    runtime: Runtime, where: str, error: BaseExceptionGroup[BaseException]
) -> None:
    """As one that comes by itself."""

    class Grouping(Actor):
        async def init(self) -> None:
            if where == "init":
                raise error
            self.ref.send("go")

        async def handle_info(self, message: Any) -> None:
            match where:
                case "handler":
                    raise error
                case "terminate":
                    raise ValueError
                case "task":
                    self.spawn_task(self.work)

        async def work(self) -> None:
            raise error

        async def terminate(self, reason: ExitReason) -> None:
            if where == "terminate":
                raise error

    with pytest.raises(KeyboardInterrupt, match="inside"):
        async with Application([acting("grouping", Grouping)], runtime=runtime):
            await forever()
    assert not runtime.processes


# --- other groups -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [group(ValueError(), asyncio.CancelledError()), ExceptionGroup("", [ValueError()])])
async def test_a_group_with_a_failure_is_a_crash(runtime: Runtime, error: BaseExceptionGroup[BaseException]) -> None:
    """So ``terminate`` runs, and an ``init`` has failed for it."""
    reasons = list[ExitReason]()

    class Grouping(Acting):
        async def terminate(self, reason: ExitReason) -> None:
            reasons.append(reason)

    class Failing(Actor):
        async def init(self) -> None:
            raise error

    ref = await runtime.start(Grouping())
    task = ref._process.spawn_task(raising, error)
    assert await task.wait_exit() == Crashed(error)
    ref.send(raises(error))
    assert await ref.wait_exit() == Crashed(error)
    assert reasons == [Crashed(error)]
    with pytest.raises(StartFailed) as caught:
        await runtime.start(Failing())
    assert caught.value.__cause__ is error


async def raising(error: BaseException) -> None:
    raise error


async def test_a_group_of_cancellations_is_a_cancellation(runtime: Runtime) -> None:
    """One that nobody asked for is a kill."""
    ref, other = await runtime.start(Acting()), await runtime.start(Acting())
    task = other._process.spawn_task(raising, group(asyncio.CancelledError()))
    ref.send(raises(group(asyncio.CancelledError(), group(asyncio.CancelledError()))))
    assert (await ref.wait_exit(), await task.wait_exit()) == (KILLED, KILLED)


# --- the end of an application ------------------------------------------------------------------------------------


async def test_a_stop_asked_for_while_a_failed_start_is_undone(runtime: Runtime) -> None:
    """There is nothing more to end; ``stop`` goes on."""
    said = list[str]()

    class Failing(Actor):
        async def init(self) -> None:
            raise ValueError("no")

    class Asking(Application):
        async def stop(self, state: object) -> None:
            self.request_stop()
            await asyncio.sleep(0)
            said.append("stop")

    with pytest.raises(StartFailed, match="no"):
        await Asking([acting("failing", Failing)], runtime=runtime).open()
    assert said == ["stop"]


async def test_a_tree_that_is_stopped_from_outside_has_not_failed(runtime: Runtime) -> None:
    """Who has its supervisor may end it; the application ends with it, normally."""
    application = Application([acting("one")], runtime=runtime)
    await application.open()
    await application.supervisor.stop()
    assert await application.wait() == NORMAL
    assert not application.failed


# --- programs -----------------------------------------------------------------------------------------------------


def test_a_signal_between_two_applications() -> None:
    """The second does not start, and the first ends in order."""
    said = list[str]()

    class Saying(Application):
        async def start(self) -> None:
            said.append(f"start {self.name}")

        async def stop(self, state: object) -> None:
            said.append(f"stop {self.name}")

    class Signalled(Saying):
        async def open(self, runtime: Runtime | None = None) -> None:
            await super().open(runtime)
            signal.raise_signal(signal.SIGTERM)
            await asyncio.sleep(0)

    assert run(Signalled(name="first"), Saying(name="second")) == 0
    assert said == ["start first", "stop first"]


def test_interrupts_of_several_actors_stop_a_program_once() -> None:
    """In order, with exit code 0."""

    class Telling(Application):
        async def start(self) -> None:
            for name in ("one", "two"):
                assert self.runtime.named(name).send(raises(KeyboardInterrupt()))

    assert run(Application([acting("one"), acting("two")]), Telling()) == 0
