"""How supervisors stop their children and are managed: the rest of supervisor_SUITE and DynamicSupervisorTest."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from dspex.errors import ActorExited, CallCycle, ChildError, NoSuchActor, SpecError, StartFailed
from dspex.runtime import (
    KILLED,
    NORMAL,
    SHUTDOWN,
    Actor,
    ChildCounts,
    ChildSpec,
    Crashed,
    Down,
    DynamicSupervisor,
    DynamicSupervisorRef,
    ExitReason,
    Idle,
    Ignore,
    Next,
    Other,
    Restart,
    Runtime,
    Shutdown,
    ShutdownPolicy,
    Stop,
    Supervisor,
    SupervisorRef,
)
from dspex.testing import VirtualClock
from tests.conformance.kids import Host, Kid, Nursery, TrappingHost, TrappingKid, actor_of, ends, family, kids_of, one

BOOM = Other("boom")
INFINITY = ShutdownPolicy.INFINITY
BRUTAL_KILL = ShutdownPolicy.BRUTAL_KILL


@pytest.fixture
def nursery() -> Nursery:
    return Nursery()


@pytest.fixture
async def dynamic(runtime: Runtime) -> DynamicSupervisorRef:
    return await dynamic_family(runtime)


async def dynamic_family(runtime: Runtime, **options: Any) -> DynamicSupervisorRef:
    ref = await runtime.start(DynamicSupervisor(**{"max_restarts": 2, "max_seconds": 3600.0, **options}))
    assert isinstance(ref, DynamicSupervisorRef)
    return ref


class SlowKid(TrappingKid):
    """Takes its time to say goodbye."""

    seconds = 200.0

    async def terminate(self, reason: ExitReason) -> None:
        await self.runtime.sleep(self.seconds)
        await super().terminate(reason)


class QuickerKid(SlowKid):
    seconds = 0.2


async def stop(clock: VirtualClock, supervisor: SupervisorRef) -> float:
    """Have the parent end a supervisor; return how many seconds it took."""
    began = clock.now()
    async with clock.autojump():
        supervisor.exit(SHUTDOWN)
        assert await supervisor.wait_exit() == SHUTDOWN
    return clock.now() - began


# --- stopping -----------------------------------------------------------------------------------------------


async def test_p25_infinity_waits_as_long_as_it_takes(runtime: Runtime, nursery: Nursery, clock: VirtualClock) -> None:
    """Neither a worker nor a subtree is killed half way."""
    inner = ChildSpec("inner", Supervisor, ([nursery.spec("leaf", SlowKid, shutdown=INFINITY)],), kind="supervisor")
    supervisor = await family(runtime, nursery.spec("worker", SlowKid, shutdown=INFINITY), inner)
    refs = [await one(supervisor, name) for name in ("worker", "inner")]
    assert await stop(clock, supervisor) == pytest.approx(400.0)
    assert [ref.exit_reason for ref in refs] == [SHUTDOWN, SHUTDOWN]
    assert nursery.log == ["+worker", "+leaf", "~leaf", "-leaf", "~worker", "-worker"]


async def test_p26_a_child_that_takes_too_long_is_killed(
    runtime: Runtime, nursery: Nursery, clock: VirtualClock
) -> None:
    """Its shutdown time is a promise to everybody who waits for the tree."""
    supervisor = await family(runtime, nursery.spec("c1"), nursery.spec("c2", SlowKid, shutdown=1.0))
    refs = [await one(supervisor, name) for name in ("c1", "c2")]
    assert await stop(clock, supervisor) == pytest.approx(1.0)
    assert [ref.exit_reason for ref in refs] == [SHUTDOWN, KILLED]
    assert "~c2" not in nursery.log


async def test_p27_brutal_kill_asks_nobody(runtime: Runtime, nursery: Nursery, clock: VirtualClock) -> None:
    """The hook does not run."""
    supervisor = await family(runtime, nursery.spec("c", TrappingKid, shutdown=BRUTAL_KILL))
    ref = await one(supervisor, "c")
    assert await stop(clock, supervisor) == 0.0
    assert ref.exit_reason == KILLED
    assert nursery.log == ["+c", "-c"]


async def test_p28_no_time_at_all_is_enough_for_who_does_not_trap(
    runtime: Runtime, nursery: Nursery, clock: VirtualClock
) -> None:
    """A signal that kills needs no time to be obeyed."""
    supervisor = await family(runtime, nursery.spec("c1", shutdown=0), nursery.spec("c2", SlowKid, shutdown=1.0))
    refs = [await one(supervisor, name) for name in ("c1", "c2")]
    await stop(clock, supervisor)
    assert [ref.exit_reason for ref in refs] == [SHUTDOWN, KILLED]


async def test_p29_dynamic_children_stop_side_by_side(
    dynamic: DynamicSupervisorRef, nursery: Nursery, clock: VirtualClock
) -> None:
    """Three children of 200 ms need 200 ms."""
    for name in "abc":
        await dynamic.start_child(nursery.spec(name, QuickerKid))
    assert await stop(clock, dynamic) == pytest.approx(0.2)
    assert [line for line in nursery.log if line[0] == "~"] == ["~a", "~b", "~c"]


async def test_p30_dynamic_children_stop_each_in_their_way(
    dynamic: DynamicSupervisorRef, nursery: Nursery, clock: VirtualClock
) -> None:
    """One that may take for ever holds up nobody's deadline."""
    patient = await dynamic.start_child(nursery.spec("a", SlowKid, shutdown=INFINITY))
    brutal = await dynamic.start_child(nursery.spec("b", SlowKid, shutdown=BRUTAL_KILL))
    limited = await dynamic.start_child(nursery.spec("c", SlowKid, shutdown=1.0))
    began = clock.now()
    dynamic.exit(SHUTDOWN)
    await clock.advance(1.0)
    assert (brutal.exit_reason, limited.exit_reason, patient.exit_reason) == (KILLED, KILLED, None)
    async with clock.autojump():
        await dynamic.wait_exit()
    assert patient.exit_reason == SHUTDOWN
    assert clock.now() - began == pytest.approx(200.0)


@pytest.mark.parametrize("reason", [Shutdown("x"), NORMAL])
async def test_p31_the_childs_own_last_word_counts(
    runtime: Runtime, dynamic: DynamicSupervisorRef, nursery: Nursery, clock: VirtualClock, reason: ExitReason
) -> None:
    """A child that ends for a reason of its own while the tree stops is neither restarted nor rewritten."""

    class Stubborn(TrappingKid):
        async def init(self) -> Any:
            await super().init()
            return Idle(0.0)

        async def handle_info(self, message: object) -> Next:
            await self.runtime.sleep(0.1)
            return Stop(reason)

    watcher = await runtime.start(TrappingHost())
    child = await dynamic.start_child(nursery.spec("c", Stubborn))

    async def monitor() -> int:
        return child.monitor()

    number = await watcher.call(monitor)
    await clock.settle()
    await stop(clock, dynamic)
    await clock.settle()
    assert actor_of(watcher).seen == [Down(number, child, reason)]


async def test_p32_the_starters_normal_end_is_the_supervisors_end(runtime: Runtime, nursery: Nursery) -> None:
    """From its parent even a normal exit is an order."""
    starter = await runtime.start(Host())

    async def start() -> SupervisorRef:
        return await family(runtime, nursery.spec("c", TrappingKid))

    supervisor = await starter.call(start)
    await starter.stop()
    assert supervisor.exit_reason in (NORMAL, SHUTDOWN)
    assert not runtime.processes
    assert nursery.log == ["+c", "~c", "-c"]


async def test_a_child_found_dead_while_the_tree_stops_is_not_restarted(
    runtime: Runtime, nursery: Nursery, clock: VirtualClock
) -> None:
    """Its exit and the order to stop may meet."""
    supervisor = await family(runtime, nursery.spec("a"), nursery.spec("b", SlowKid, shutdown=1.0))
    (await one(supervisor, "a")).cast(BOOM)
    await stop(clock, supervisor)
    assert nursery.started("a") == 1


async def test_strangers_exits_do_not_concern_a_supervisor(runtime: Runtime, nursery: Nursery) -> None:
    """Only its parent and its children matter; the rest is noise."""
    supervisor = await family(runtime, nursery.spec("c"))
    stranger = await runtime.start(Host())

    async def annoy() -> None:
        supervisor.exit(BOOM)
        supervisor.send("noise")
        supervisor.cast("noise")

    await stranger.call(annoy)
    assert (await supervisor.count_children()).active == 1


# --- management ---------------------------------------------------------------------------------------------


async def test_p33_the_words_of_management(runtime: Runtime, nursery: Nursery) -> None:
    """Each call says exactly which rule it ran into."""
    supervisor = await family(runtime)
    child = await supervisor.start_child(nursery.spec("c1"))

    async def refused(call: Any) -> tuple[str, object]:
        with pytest.raises(ChildError) as caught:
            await call
        return caught.value.why, caught.value.child

    assert await refused(supervisor.start_child(nursery.spec("c1"))) == ("already_started", child)
    await supervisor.terminate_child("c1")
    await supervisor.terminate_child("c1")
    assert await refused(supervisor.start_child(nursery.spec("c1"))) == ("already_present", None)
    assert (await supervisor.restart_child("c1")).alive
    assert await refused(supervisor.restart_child("c1")) == ("running", None)
    assert await refused(supervisor.delete_child("c1")) == ("running", None)
    assert await refused(supervisor.delete_child("nobody")) == ("not_found", None)
    await supervisor.terminate_child("c1")
    await supervisor.delete_child("c1")
    assert await refused(supervisor.restart_child("c1")) == ("not_found", None)
    assert await refused(supervisor.terminate_child("c1")) == ("not_found", None)


async def test_p34_a_dead_supervisor_manages_nothing(runtime: Runtime, nursery: Nursery) -> None:
    """The caller learns it at once."""
    supervisor = await family(runtime)
    await supervisor.stop()
    for call in (supervisor.start_child(nursery.spec("c")), supervisor.which_children(), supervisor.delete_child("c")):
        with pytest.raises(NoSuchActor):
            await call


async def test_p36_a_dynamic_child_is_terminated_by_its_ref(dynamic: DynamicSupervisorRef, nursery: Nursery) -> None:
    """And forgotten: a second time it is a stranger."""
    first = await dynamic.start_child(nursery.spec("c"))
    await dynamic.start_child(nursery.spec("c"))
    await dynamic.terminate(first)
    with pytest.raises(ChildError, match="not_found"):
        await dynamic.terminate(first)
    assert await dynamic.count_children() == ChildCounts(1, 1, 0, 1)


async def test_p37_no_more_than_max_children(runtime: Runtime, nursery: Nursery) -> None:
    """A child that is being restarted keeps its place."""
    nobody = await dynamic_family(runtime, max_children=0)
    with pytest.raises(ChildError, match="max_children"):
        await nobody.start_child(nursery.spec("c"))
    single = await dynamic_family(runtime, max_children=1, max_restarts=100)
    child = await single.start_child(nursery.spec("c"))
    nursery.failing["c"] = [ValueError("no")] * 3
    child.cast(BOOM)
    await child.wait_exit()
    with pytest.raises(ChildError, match="max_children"):
        await single.start_child(nursery.spec("d"))
    with pytest.raises(SpecError):
        DynamicSupervisor(max_children=-1)


@pytest.mark.parametrize("how", ["raise", "stop", "exit"])
async def test_p39_a_dynamic_child_that_fails_to_start(
    dynamic: DynamicSupervisorRef, nursery: Nursery, how: str
) -> None:
    """The error carries the reason; there is no child, and the supervisor lives."""
    nursery.failing["c"] = [{"raise": ValueError("E"), "stop": Stop(BOOM), "exit": Stop(NORMAL)}[how]]
    with pytest.raises(StartFailed) as caught:
        await dynamic.start_child(nursery.spec("c"))
    reason: Any = caught.value.reason
    if how == "raise":
        assert isinstance(reason, Crashed)
        assert isinstance(reason.error, ValueError)
    else:
        assert reason == (BOOM if how == "stop" else NORMAL)
    assert await dynamic.count_children() == ChildCounts(0, 0, 0, 0)


async def test_a_dynamic_child_that_ignores_is_not_kept(runtime: Runtime, nursery: Nursery) -> None:
    """Neither at its start nor when a restart is ignored, at once or after a failed one."""
    dynamic = await dynamic_family(runtime, max_restarts=10)
    nursery.failing["c"] = [Ignore()]
    with pytest.raises(ChildError, match="ignored"):
        await dynamic.start_child(nursery.spec("c"))
    assert await dynamic.which_children() == ()
    for failing in ([Ignore()], [ValueError("no"), Ignore()]):
        child = await dynamic.start_child(nursery.spec("c"))
        nursery.failing["c"] = list(failing)
        await ends(child, BOOM)
        while await dynamic.which_children():
            pass
    assert dynamic.alive


@pytest.mark.parametrize("restart", [Restart.TRANSIENT, Restart.TEMPORARY])
async def test_a_dynamic_child_that_has_finished_is_forgotten(
    dynamic: DynamicSupervisorRef, nursery: Nursery, restart: Restart
) -> None:
    """There is no id by which it could be started again."""
    child = await dynamic.start_child(nursery.spec("c", restart=restart))
    await ends(child, NORMAL)
    assert await dynamic.count_children() == ChildCounts(0, 0, 0, 0)


@pytest.mark.allow_blocking("starts ten thousand children on one loop")
async def test_p77_temporary_children_leave_nothing_behind(dynamic: DynamicSupervisorRef, nursery: Nursery) -> None:
    """Ten times as many take about ten times as long to terminate, and their arguments are gone."""

    class Idler(Actor):
        def __init__(self, argument: object) -> None: ...

    async def seconds(count: int) -> float:
        spec = ChildSpec("c", Idler, (object(),), restart=Restart.TEMPORARY)
        refs = [await dynamic.start_child(spec) for _ in range(count)]
        began = time.process_time()
        for ref in refs:
            await dynamic.terminate(ref)
        return time.process_time() - began

    few, many = await seconds(1000), await seconds(10_000)
    assert many / few < 50
    supervisor = actor_of(dynamic)
    assert not supervisor._children
    assert not supervisor._by_pid


# --- shutdown in the middle of things -----------------------------------------------------------------------


class SlowStarter(Kid):
    """Never gets ready."""

    async def init(self) -> Any:
        await asyncio.get_running_loop().create_future()


async def test_trap_2_5_h_a_slow_init_does_not_hold_up_the_shutdown(
    runtime: Runtime, nursery: Nursery, clock: VirtualClock
) -> None:
    """The parent's order is taken while start_child waits: the init is killed, queued starts fail."""
    supervisor = await family(runtime, nursery.spec("a"))
    first = asyncio.ensure_future(supervisor.start_child(nursery.spec("slow", SlowStarter)))
    second = asyncio.ensure_future(supervisor.start_child(nursery.spec("next")))
    await clock.settle()
    assert await stop(clock, supervisor) == 0.0
    with pytest.raises(StartFailed):
        await first
    with pytest.raises(ActorExited) as caught:
        await second
    assert caught.value.reason == SHUTDOWN
    assert nursery.log == ["+a", "-a"]


async def test_rule_4_e_a_shutdown_meets_a_supervisor_in_its_own_init(
    runtime: Runtime, nursery: Nursery, clock: VirtualClock
) -> None:
    """A tree that is told to end while it starts ends, and starts nobody else."""
    process = runtime.spawn(Supervisor([nursery.spec("a"), nursery.spec("slow", SlowStarter), nursery.spec("never")]))
    await clock.settle()
    process.receive_exit(SHUTDOWN, None)
    assert isinstance(await process.wait_exit(), Shutdown)
    assert nursery.log == ["+a", "-a"]
    assert clock.now() == 0.0


async def test_rule_4_e_start_child_from_the_childs_own_init_is_a_cycle(runtime: Runtime, nursery: Nursery) -> None:
    """The supervisor is busy with that very init; an answer can never come."""
    refused: list[CallCycle] = []

    class Greedy(Kid):
        async def init(self) -> Any:
            for call in (supervisor.start_child(nursery.spec("more")), supervisor.call("anything")):
                try:
                    await call
                except CallCycle as cycle:
                    refused.append(cycle)
            self.spawn_task(self.later)

        async def later(self) -> None:
            await supervisor.start_child(nursery.spec("later"))

    supervisor = await family(runtime)
    await supervisor.start_child(nursery.spec("greedy", Greedy))
    assert len(refused) == 2
    while len(await kids_of(supervisor)) < 2:
        pass
    assert list(await kids_of(supervisor)) == ["greedy", "later"]


async def test_killing_a_supervisor_kills_its_tree_before_its_down(
    runtime: Runtime, nursery: Nursery, clock: VirtualClock
) -> None:
    """Children that trap get their time to say goodbye, those that take too long are killed; then comes the Down."""
    supervisor = await family(
        runtime, nursery.spec("a"), nursery.spec("b", TrappingKid), nursery.spec("c", SlowKid, shutdown=INFINITY)
    )
    kids = [ref for ref in (await kids_of(supervisor)).values() if ref is not None]
    watcher = await runtime.start(TrappingHost())
    states: list[bool] = []

    async def monitor() -> int:
        return supervisor.monitor()

    number = await watcher.call(monitor)
    supervisor._process.on_dead(lambda: states.extend(kid._process.dead for kid in kids))
    supervisor.kill()
    async with clock.autojump():
        assert await supervisor.wait_exit() == KILLED
    await clock.settle()
    assert states == [True, True, True]
    assert [kid.exit_reason for kid in kids] == [KILLED, KILLED, KILLED]
    assert [line for line in nursery.log if line[0] == "~"] == ["~b"]
    assert actor_of(watcher).seen == [Down(number, supervisor, KILLED)]
