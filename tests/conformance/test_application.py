"""Applications inside a loop of somebody else's: hooks, order, drains, and what goes wrong in them."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from dspex.errors import AppAlreadyRunning, AppNotRunning, CallCycle, SpecError, StartFailed
from dspex.runtime import SHUTDOWN, Actor, Application, ChildSpec, ExitReason, Other, Runtime
from dspex.testing import VirtualClock
from tests.conformance.kids import Host, Kid, Nursery, TrappingKid, ends, one


class Loud(Application):
    """Notes its hooks among what its children note, and does in them what a test wants done."""

    def __init__(self, nursery: Nursery, *names: str, name: str = "app", **options: Any) -> None:
        super().__init__([nursery.spec(each, TrappingKid) for each in names], name=name, **options)
        self.log = nursery
        self.faults: dict[str, Any] = {}

    async def _do(self, hook: str, state: object) -> None:
        self.log.log.append(f"{self.name}.{hook}({state})")
        fault = self.faults.get(hook)
        if isinstance(fault, Exception):
            raise fault
        if fault is not None:
            await fault.wait()

    async def start(self) -> str:
        await self._do("start", None)
        return "state"

    async def prep_stop(self, state: str) -> str:
        await self._do("prep_stop", state)
        return "prepared"

    async def stop(self, state: str) -> None:
        await self._do("stop", state)


END = ["app.prep_stop(state)", "~b", "-b", "~a", "-a", "app.stop(prepared)"]


async def test_p70_hooks_and_children_in_their_order(runtime: Runtime) -> None:
    """The state goes from hook to hook; the tree is whole in prep_stop and gone in stop."""
    nursery = Nursery()
    application = Loud(nursery, "a", "b", runtime=runtime)
    async with application:
        assert nursery.take() == ["app.start(None)", "+a", "+b"]
        assert (await one(application.supervisor, "a")).alive
    assert nursery.take() == END
    assert not runtime.processes
    assert not application.failed


async def test_p70_several_stop_in_reverse(runtime: Runtime) -> None:
    """Who started last may need those before it, to the end."""
    nursery = Nursery()
    async with Loud(nursery, "a", name="one", runtime=runtime), Loud(nursery, "b", name="two", runtime=runtime):
        nursery.take()
    two = ["two.prep_stop(state)", "~b", "-b", "two.stop(prepared)"]
    assert nursery.take() == [*two, "one.prep_stop(state)", "~a", "-a", "one.stop(prepared)"]


async def test_a_drain_comes_last_and_ends_first(runtime: Runtime, clock: VirtualClock) -> None:
    """Its terminate waits for the work in hand, while those that do it still run."""
    nursery, worker = Nursery(), Host()

    class Drain(Actor):
        trap_exit: ClassVar[bool] = True

        async def terminate(self, reason: ExitReason) -> None:
            await self.runtime.named("worker").call(self.last_work)

        async def last_work(self) -> None:
            await self.runtime.sleep(3)
            nursery.log.append("drained")

    specs = [ChildSpec("worker", lambda: worker, name="worker"), ChildSpec("drain", Drain)]
    async with clock.autojump(), Application(specs, runtime=runtime):
        worker.own("worker", lambda name: nursery.log.append(f"-{name}"))
    assert nursery.log == ["drained", "-worker"]


@pytest.mark.parametrize("hook", ["prep_stop", "stop"])
@pytest.mark.parametrize("how", ["raises", "hangs"])
async def test_a_hook_holds_nothing_up(runtime: Runtime, clock: VirtualClock, hook: str, how: str) -> None:
    """It is reported, the state stays as it was, and the rest of the end goes on."""
    nursery = Nursery()
    application = Loud(nursery, "a", runtime=runtime, hook_timeout=7.0)
    application.faults[hook] = ValueError("no") if how == "raises" else asyncio.Event()
    async with clock.autojump(), application:
        nursery.take()
    state = "state" if hook == "prep_stop" else "prepared"
    assert nursery.take() == ["app.prep_stop(state)", "~a", "-a", f"app.stop({state})"]
    assert clock.now() == (0.0 if how == "raises" else 7.0)


async def test_children_have_so_much_time_and_no_more(runtime: Runtime, clock: VirtualClock) -> None:
    """Then they are killed, and stop runs."""

    class Endless(Kid):
        trap_exit: ClassVar[bool] = True
        terminate_timeout: ClassVar[float | None] = None

        async def terminate(self, reason: ExitReason) -> None:
            await asyncio.Event().wait()

    nursery = Nursery()
    application = Loud(nursery, runtime=runtime, stop_timeout=20.0)
    application.children = (nursery.spec("endless", Endless, shutdown=1e6),)
    async with clock.autojump(), application:
        nursery.take()
    assert nursery.take() == ["app.prep_stop(state)", "-endless", "app.stop(prepared)"]
    assert 20.0 <= clock.now() <= 25.0


async def test_a_start_that_fails_gives_back_what_it_acquired(runtime: Runtime) -> None:
    """A child's failure ends those before it, and stop runs; the hook's own failure leaves nothing to give back."""
    nursery = Nursery()
    nursery.failing["b"] = [RuntimeError("no")]
    with pytest.raises(StartFailed):
        await Loud(nursery, "a", "b", runtime=runtime).open()
    assert nursery.take() == ["app.start(None)", "+a", "~a", "-a", "app.stop(state)"]
    application = Loud(nursery, "a", runtime=runtime)
    application.faults["start"] = RuntimeError("no")
    with pytest.raises(StartFailed, match="no"):
        async with application:
            pytest.fail("it did not start")
    assert nursery.take() == ["app.start(None)"]
    assert not runtime.processes


async def test_a_tree_that_gives_up_ends_its_application(runtime: Runtime) -> None:
    """There is nothing left to prepare."""
    nursery = Nursery()
    application = Loud(nursery, "a", runtime=runtime, max_restarts=0)
    async with application:
        nursery.take()
        await ends(await one(application.supervisor, "a"), Other("boom"))
        assert await application.wait() == SHUTDOWN
        assert application.failed
    assert nursery.take() == ["~a", "-a", "app.stop(state)"]


async def test_an_actor_may_ask_for_the_end_but_not_wait_for_it(runtime: Runtime) -> None:
    """It would wait for itself."""
    application = Application([ChildSpec("host", Host)], runtime=runtime)
    async with application:
        host = await one(application.supervisor, "host")

        async def ask() -> None:
            with pytest.raises(CallCycle):
                await application.close()
            application.request_stop()

        await host.call(ask)
        assert await application.wait() == SHUTDOWN
        assert not application.failed


async def test_cancelling_the_end_kills_and_goes_on(runtime: Runtime, clock: VirtualClock) -> None:
    """Nothing is left when the cancellation arrives."""
    nursery = Nursery()
    application = Loud(nursery, "a", runtime=runtime)
    application.faults["prep_stop"] = asyncio.Event()
    await application.open()
    closing = asyncio.ensure_future(application.close())
    await clock.settle()
    closing.cancel()
    async with clock.autojump():
        with pytest.raises(asyncio.CancelledError):
            await closing
    assert not runtime.processes


async def test_trap_2_2_o_an_interrupt_in_an_actor_leaves_the_block(runtime: Runtime) -> None:
    """In order, as the interrupt itself; the host's task is cancelled no longer."""

    class Interrupted(Kid):
        async def handle_info(self, message: object) -> None:
            raise KeyboardInterrupt

    nursery = Nursery()
    application = Loud(nursery, "a", runtime=runtime)
    application.children = (*application.children, ChildSpec("i", Interrupted, ("i", nursery)))
    with pytest.raises(KeyboardInterrupt):
        async with application:
            nursery.take()
            (await one(application.supervisor, "i")).send("now")
            await asyncio.Event().wait()
    assert nursery.take()[-4:] == ["-i", "~a", "-a", "app.stop(prepared)"]
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert runtime.on_interrupt is None


async def test_an_interrupt_while_it_starts(runtime: Runtime) -> None:
    """The start ends in order, and the interrupt is what the host sees."""

    class Interrupted(Kid):
        async def init(self) -> None:
            raise KeyboardInterrupt

    nursery = Nursery()
    application = Loud(nursery, "a", runtime=runtime)
    application.children = (*application.children, ChildSpec("i", Interrupted, ("i", nursery)))
    with pytest.raises(KeyboardInterrupt):
        async with application:
            pytest.fail("it did not start")
    assert nursery.take() == ["app.start(None)", "+a", "~a", "-a", "app.stop(state)"]


async def test_it_is_open_once_and_can_be_opened_again(runtime: Runtime) -> None:
    """Before and after, what needs it to run says so."""
    nursery = Nursery()
    application = Loud(nursery, "a", runtime=runtime)
    for act in (lambda: application.supervisor, lambda: application.failed):
        with pytest.raises(AppNotRunning):
            act()
    with pytest.raises(AppNotRunning):
        await application.wait()
    with pytest.raises(AppNotRunning):
        _ = Application().runtime
    await application.close()
    application.request_stop()
    for _ in range(2):
        async with application:
            with pytest.raises(AppAlreadyRunning):
                await application.open()
    assert nursery.log.count("app.stop(prepared)") == 2


async def test_without_a_runtime_it_makes_its_own() -> None:
    """Which ends with it, however often."""
    nursery = Nursery()
    application = Loud(nursery, "a")
    for _ in range(2):
        async with application:
            own = application.runtime
            assert own.processes
        assert not own.processes
    nursery.failing["a"] = [RuntimeError("no")]
    with pytest.raises(StartFailed):
        await application.open()
    assert not application.runtime.processes


@pytest.mark.parametrize("field", ["hook_timeout", "stop_timeout"])
def test_times_are_numbers_of_seconds(field: str) -> None:
    """The error names the argument."""
    with pytest.raises(SpecError, match=field):
        Application(**{field: -1.0})  # type: ignore[arg-type]  # the point
