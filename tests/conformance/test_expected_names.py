"""A call by name waits for whom a supervisor is to start, and for nobody else."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from dspex.runtime import (
    NORMAL,
    SHUTDOWN,
    Actor,
    Backoff,
    CallCycle,
    CallTimeout,
    ChildError,
    ChildSpec,
    DynamicSupervisor,
    DynamicSupervisorRef,
    From,
    Ignore,
    Next,
    NoSuchActor,
    Other,
    PartitionSupervisor,
    PartitionSupervisorRef,
    Registry,
    Reply,
    Restart,
    RestartStrategy,
    Runtime,
    ServiceUnavailable,
    ShutdownPolicy,
    SpecError,
    StartFailed,
    Supervisor,
    SupervisorRef,
    Via,
)
from dspex.runtime._announced import Place
from dspex.testing import VirtualClock
from tests.conformance.kids import Host, Kid, Nursery, ends, family, one

BOOM = Other("boom")


class Gated(Kid):
    """Has an ``init`` that waits for a gate, from its second start on."""

    gate: ClassVar[asyncio.Event]

    async def init(self) -> Any:
        if self.nursery.started(self.name):
            self.nursery.log.append(f"?{self.name}")
            await self.gate.wait()
        return await super().init()


class Addressed:
    """The same child under a name and under a key, so that every rule is tried for both."""

    def __init__(self, runtime: Runtime, kind: str) -> None:
        self.runtime = runtime
        self.registry = Registry()
        self.via: Via | None = self.registry.via("kid") if kind == "via" else None
        self.name = "kid" if kind == "name" else None
        self.nursery = Nursery()
        Gated.gate = asyncio.Event()

    def spec(self, kid: type[Kid] = Kid, name: str = "kid", **options: Any) -> ChildSpec:
        return self.nursery.spec(name, kid, name=self.name, via=self.via, **options)

    def call(self, timeout: float | None = None) -> asyncio.Future[Any]:
        handle = self.via if self.via is not None else self.runtime.named("kid")
        return asyncio.ensure_future(handle.call("hello", timeout=timeout))

    async def refused(self, timeout: float | None = None) -> NoSuchActor:
        with pytest.raises(NoSuchActor) as caught:
            await asyncio.wait_for(self.call(timeout), 5.0)
        return caught.value

    @property
    def left(self) -> list[object]:
        """The callers that still wait in the waiting rooms."""
        rooms = (self.runtime._names.parking, self.registry._parking)
        return [each for room in rooms for each in (room._parked, room._expected, room._unavailable) if each]


@pytest.fixture(params=["name", "via"])
def addressed(runtime: Runtime, request: pytest.FixtureRequest) -> Addressed:
    return Addressed(runtime, request.param)


# --- nobody -------------------------------------------------------------------------------------------------


async def test_a_call_to_nobody_fails_at_once(addressed: Addressed, clock: VirtualClock) -> None:
    """Whatever timeout the caller has, for it would wait in vain."""
    for timeout in (None, 5.0):
        error = await addressed.refused(timeout)
        assert error.target == "kid"
        assert "'kid'" in str(error)
    assert clock.now() == 0.0
    assert clock.pending == 0


async def test_the_nearest_names_are_told(runtime: Runtime) -> None:
    """Those held and those expected; of a registry the keys that are texts."""
    nursery, registry = Nursery(), Registry()
    await family(runtime, nursery.spec("store", name="store", via=registry.via("store")))
    await runtime.start(Host(), name="stores")
    await runtime.start(Host(), via=registry.via(7))
    with pytest.raises(NoSuchActor, match=r"'stroe'.*the nearest: 'store', 'stores'$") as caught:
        await runtime.named("stroe").call("x")
    assert (caught.value.target, caught.value.nearest) == ("stroe", ("store", "stores"))
    with pytest.raises(NoSuchActor, match=r"the nearest: 'store'$"):
        await registry.via("stroe").call("x")
    with pytest.raises(NoSuchActor, match="the key 8 of a registry, and no supervisor is about to") as caught:
        await registry.via(8).call("x")
    assert caught.value.nearest == ()
    with pytest.raises(NoSuchActor, match=r"start an actor under it$"):
        await runtime.named("zzz").call("x")


async def test_an_error_does_not_look_through_a_million_names(runtime: Runtime) -> None:
    """Five hundred names are compared, the oldest first."""
    for number in range(500):
        runtime.spawn(Actor(), name=f"{number:03}")
    await runtime.start(Host(), name="zebra")
    with pytest.raises(NoSuchActor) as caught:
        await runtime.named("zebrs").call("x")
    assert caught.value.nearest == ()


async def test_who_waits_explicitly_waits_for_anybody(runtime: Runtime, clock: VirtualClock) -> None:
    """``wait_name``, ``when_named`` and a patient handle are for names that nobody has announced."""
    told: list[object] = []
    runtime.when_named("late", told.append)
    waiting = asyncio.ensure_future(runtime.wait_name("late", 10.0))
    calling = asyncio.ensure_future(runtime.named("late", patient=True).call(_hello, timeout=10.0))
    await clock.advance(5.0)
    ref = await runtime.start(Host(), name="late")
    assert await waiting == ref
    assert await calling == "hello"
    assert told == [ref]
    with pytest.raises(CallTimeout, match="'nobody'"):
        async with clock.autojump():
            await runtime.named("nobody", patient=True).call("x", timeout=1.0)


async def _hello() -> str:
    return "hello"


async def test_the_name_of_an_actor_that_nobody_supervises(addressed: Addressed, clock: VirtualClock) -> None:
    """Callers wait for its ``init``, and go when it is dead; nobody will start it again."""
    runtime, gate = addressed.runtime, asyncio.Event()

    class Slow(Kid):
        async def init(self) -> Any:
            await gate.wait()
            return await super().init()

    process = runtime.spawn(Slow("kid", addressed.nursery), name=addressed.name, via=addressed.via)
    parked = addressed.call()
    await clock.settle()
    assert not parked.done()
    process.receive_exit(BOOM, None)
    with pytest.raises(NoSuchActor):
        await parked
    process = runtime.spawn(Slow("kid", addressed.nursery), name=addressed.name, via=addressed.via)
    parked = addressed.call()
    await clock.settle()
    gate.set()
    assert await parked == "hello"
    await ends(process.ref, BOOM)
    await addressed.refused()
    assert addressed.left == []


# --- a supervisor sees to it --------------------------------------------------------------------------------


async def test_a_call_parks_through_a_restart(addressed: Addressed, clock: VirtualClock) -> None:
    """Up to the caller's deadline; nothing has been sent, so nothing is lost."""
    top = await family(addressed.runtime, addressed.spec(Gated))
    first = await one(top, "kid")
    await ends(first, BOOM)
    await clock.settle()
    assert addressed.nursery.log[-1] == "?kid"
    early, late, parked = addressed.call(1.0), addressed.call(2.0), addressed.call()
    await clock.advance(1.0)
    with pytest.raises(CallTimeout, match="'kid'"):
        await early
    Gated.gate.set()
    assert await parked == "hello"
    assert await late == "hello"
    second = await one(top, "kid")
    assert second != first
    if addressed.via is not None:
        assert addressed.via.whereis() == second
        assert addressed.registry.keys(second) == ("kid",)
        assert addressed.registry.keys(first) == ()
    await top.stop()
    assert addressed.left == []


async def test_a_sibling_that_has_not_started_yet_is_expected(addressed: Addressed, clock: VirtualClock) -> None:
    """The order in which things start does not matter to who calls from a handler."""
    Gated.gate.clear()
    addressed.nursery.log.append("+kid")  # so that its first start waits, too
    starting = asyncio.ensure_future(family(addressed.runtime, addressed.nursery.spec("a"), addressed.spec(Gated)))
    await clock.settle()
    parked = addressed.call()
    await clock.settle()
    assert not parked.done()
    Gated.gate.set()
    assert await parked == "hello"
    await starting


async def test_an_init_that_calls_a_later_sibling_is_a_cycle(addressed: Addressed, clock: VirtualClock) -> None:
    """The supervisor would start that one only when this one is done."""
    seen: list[BaseException] = []

    class Early(Host):
        async def init(self) -> None:
            try:
                await (addressed.via or self.runtime.named("kid")).call("x", timeout=None)
            except CallCycle as error:
                seen.append(error)

    await family(addressed.runtime, ChildSpec("early", Early), addressed.spec())
    assert "'kid'" in str(seen[0])
    assert clock.now() == 0.0


async def test_two_inits_that_wait_for_each_other_are_a_cycle(runtime: Runtime) -> None:
    """Over one name or several; without a timeout, they would wait for ever."""

    class Waits(Host):
        def __init__(self, other: str) -> None:
            super().__init__()
            self.other = other

        async def init(self) -> None:
            await self.runtime.named(self.other).call("x", timeout=None)

    ring = [asyncio.ensure_future(runtime.start(Waits(other), name=name)) for name, other in ("ab", "bc", "ca")]
    outcomes = await asyncio.gather(*ring, return_exceptions=True)
    failed = [each for each in outcomes if isinstance(each, StartFailed)]
    assert any(isinstance(each.__cause__, CallCycle) for each in failed)
    assert len(failed) == 3
    assert not runtime._names.parking._waiting_for


async def test_a_ring_that_one_stands_outside_of_is_not_ones_own_cycle(runtime: Runtime, clock: VirtualClock) -> None:
    """Who waits for two that wait for each other patiently waits like anybody else."""

    class Waits(Host):
        async def init(self) -> None:
            await self.runtime._names.parking.wait("b", self.runtime, None, patient=True)

    starting = asyncio.ensure_future(runtime.start(Waits(), name="a"))
    await clock.settle()
    parking = runtime._names.parking
    (process,) = runtime.processes.values()
    parking._waiting_for[process].append("a")  # as if it waited for itself: nobody can make it so, but nothing may hang
    host = await runtime.start(Host())

    async def ask() -> None:
        with pytest.raises(CallTimeout):
            await runtime.named("a").call("x", timeout=1.0)

    async with clock.autojump():
        await host.call(ask)
    parking._waiting_for[process].remove("a")
    await runtime.start(Host(), name="b")
    await starting


@pytest.mark.parametrize("restart", [Restart.TEMPORARY, Restart.TRANSIENT])
async def test_a_child_that_has_ended_for_good_is_not_expected(
    addressed: Addressed, clock: VirtualClock, restart: Restart
) -> None:
    """Callers who wait when that comes out leave; it may be started again by hand."""
    top = await family(addressed.runtime, addressed.spec(restart=restart))
    kid = await one(top, "kid")
    await kid.stop()
    with pytest.raises(NoSuchActor):
        await addressed.call()
    assert addressed.left == []
    if restart is Restart.TRANSIENT:
        await top.restart_child("kid")
        assert await addressed.call() == "hello"
        kid = await one(top, "kid")
        await ends(kid, BOOM)
        assert await addressed.call() == "hello"


async def test_a_start_that_fails_or_is_ignored_expects_nobody(addressed: Addressed) -> None:
    """Not even while its spec is kept."""
    top, nursery = await family(addressed.runtime), addressed.nursery
    nursery.failing["kid"] = [OSError("no"), Ignore(), Ignore()]
    with pytest.raises(StartFailed):
        await top.start_child(addressed.spec())
    await addressed.refused()
    for restart in (Restart.TEMPORARY, Restart.PERMANENT):
        with pytest.raises(ChildError, match="ignored"):
            await top.start_child(addressed.spec(restart=restart))
        await addressed.refused()
    assert addressed.left == []
    await top.restart_child("kid")
    await ends(await one(top, "kid"), BOOM)
    assert await addressed.call() == "hello"


async def test_a_restart_by_hand_that_fails_or_is_ignored_expects_nobody(addressed: Addressed) -> None:
    """It is not tried again."""
    top, nursery = await family(addressed.runtime, addressed.spec()), addressed.nursery
    await top.terminate_child("kid")
    nursery.failing["kid"] = [OSError("no"), Ignore()]
    with pytest.raises(StartFailed):
        await top.restart_child("kid")
    await addressed.refused()
    with pytest.raises(ChildError, match="ignored"):
        await top.restart_child("kid")
    await addressed.refused()
    assert addressed.left == []
    await top.restart_child("kid")
    assert await addressed.call() == "hello"
    await top.terminate_child("kid")
    await top.delete_child("kid")
    await addressed.refused()


async def test_a_supervisor_that_gives_up_takes_its_callers_hope_away(
    addressed: Addressed, clock: VirtualClock
) -> None:
    """At its death, for until then the one above it may still be going to restart it."""
    top = await family(addressed.runtime, addressed.spec(), max_restarts=0)
    kid = await one(top, "kid")
    kid.kill()
    with pytest.raises(NoSuchActor):
        await addressed.call()
    assert await top.wait_exit() == SHUTDOWN
    assert addressed.left == []


async def test_a_supervisor_whose_start_fails_leaves_no_expectation(addressed: Addressed) -> None:
    """None of its children comes."""
    addressed.nursery.failing["kid"] = [OSError("no")]
    with pytest.raises(StartFailed):
        await family(addressed.runtime, addressed.spec())
    await addressed.refused()
    assert addressed.left == []


@pytest.mark.parametrize("above", [1, 3])
async def test_a_call_parks_through_the_restart_of_whatever_is_above(
    addressed: Addressed, clock: VirtualClock, above: int
) -> None:
    """The name of a leaf is expected as long as somebody above it is going to be restarted."""
    spec = addressed.spec(Gated)
    for level in range(above):
        spec = ChildSpec(f"level {level}", Supervisor, ([spec],), name=f"level {level}")
    top = await family(addressed.runtime, spec)
    for level in range(above):
        supervisor = addressed.runtime.whereis(f"level {level}")
        assert supervisor is not None
        Gated.gate.clear()
        supervisor.kill()
        await supervisor.wait_exit()
        parked = addressed.call()
        await clock.settle()
        assert not parked.done()
        Gated.gate.set()
        assert await parked == "hello"
        await clock.settle()
    assert sum(len(each) for each in addressed.runtime._names.parking._expected.values()) <= above + 1
    await top.stop()
    await addressed.refused()
    assert addressed.left == []


@pytest.mark.parametrize("restart", [Restart.TEMPORARY, Restart.TRANSIENT])
async def test_a_supervisor_that_nobody_restarts_takes_its_family_along(
    addressed: Addressed, clock: VirtualClock, restart: Restart
) -> None:
    """A transient supervisor that gives up ends with ``shutdown``, and is not restarted."""
    middle = ChildSpec("middle", Supervisor, ([addressed.spec()],), {"max_restarts": 0}, restart=restart, name="middle")
    top = await family(addressed.runtime, middle)
    kid = addressed.runtime.whereis("kid") if addressed.name else addressed.via.whereis()  # type: ignore[union-attr]  # it has one of the two
    assert kid is not None
    kid.kill()
    with pytest.raises(NoSuchActor):
        await addressed.call()
    with pytest.raises(NoSuchActor):
        await addressed.runtime.named("middle").call("x")
    assert top.alive
    assert addressed.left == []


async def test_failed_restarts_of_a_supervisor_do_not_add_up(addressed: Addressed, clock: VirtualClock) -> None:
    """Earlier time still counts, however often the restart fails; callers wait, and nothing grows."""
    runtime, nursery = addressed.runtime, addressed.nursery
    nursery.failing["kid"] = [None, *[OSError("no")] * 20]
    middle = ChildSpec("middle", Supervisor, ([addressed.spec()],), name="middle")
    top = await runtime.start(Supervisor([middle], backoff=Backoff(0.1, 0.1, unavailable_after=100)))
    ref = runtime.whereis("middle")
    assert ref is not None
    ref.kill()
    await ref.wait_exit()
    parked = addressed.call()
    for _ in range(15):
        await clock.advance(0.1)
    assert not parked.done()
    place: Place = addressed.via.place if addressed.via else (runtime._names.parking, "kid")
    parking, key = place
    assert len(parking._expected[key]) <= 3
    await clock.advance(2.0)
    assert await parked == "hello"
    assert len(parking._expected[key]) == 1
    await top.stop()
    assert addressed.left == []


async def test_a_group_restart_expects_whom_it_starts_again(addressed: Addressed, clock: VirtualClock) -> None:
    """Those it stops on the way, and one that was stopped by hand; not the temporary ones, who are gone."""
    nursery = addressed.nursery
    top = await family(
        addressed.runtime,
        nursery.spec("first"),
        addressed.spec(Gated),
        nursery.spec("brief", name="brief", restart=Restart.TEMPORARY),
        strategy=RestartStrategy.ONE_FOR_ALL,
    )
    await top.terminate_child("kid")
    await addressed.refused()
    await ends(await one(top, "first"), BOOM)
    await clock.settle()
    parked = addressed.call()
    await clock.settle()
    assert not parked.done()
    with pytest.raises(NoSuchActor):
        await addressed.runtime.named("brief").call("x")
    Gated.gate.set()
    assert await parked == "hello"


async def test_dynamic_children_are_expected_while_they_are_there(addressed: Addressed, clock: VirtualClock) -> None:
    """A dynamic supervisor comes back empty: who waited for its children learns that nobody brings them back."""
    runtime = addressed.runtime
    spec = ChildSpec("rooms", DynamicSupervisor, name="rooms")
    await family(runtime, spec)
    rooms = runtime.named_supervisor("rooms")
    kid = await rooms.start_child(addressed.spec(Gated))
    await ends(kid, BOOM)
    parked = addressed.call()
    Gated.gate.set()
    assert await parked == "hello"
    (info,) = await rooms.which_children()
    assert info.ref is not None
    await rooms.terminate(info.ref)
    await addressed.refused()
    await rooms.start_child(addressed.spec(Gated))
    supervisor = runtime.whereis("rooms")
    assert supervisor is not None
    supervisor.kill()
    await supervisor.wait_exit()
    parked = addressed.call()
    with pytest.raises(NoSuchActor):
        await parked
    again = await rooms.start_child(addressed.spec(restart=Restart.TEMPORARY))
    await ends(again, BOOM)
    with pytest.raises(NoSuchActor):
        await addressed.call()
    addressed.nursery.failing["kid"] = [Ignore(), OSError("no")]
    for error in (ChildError, StartFailed):
        with pytest.raises(error):
            await rooms.start_child(addressed.spec())
        await addressed.refused()


async def test_partitions_have_keys_of_their_own(runtime: Runtime) -> None:
    """And those that are not in use are expected by nobody."""
    nursery, registry = Nursery(), Registry()
    spec = nursery.spec("p", name="p", via=registry.via("p", "value"))
    top = await runtime.start(PartitionSupervisor(spec, partitions=2))
    assert isinstance(top, PartitionSupervisorRef)
    assert registry.keys() == (("p", 0), ("p", 1))
    assert await registry.via(("p", 1)).call("x") == "x"
    await top.resize(1)
    for call in (registry.via(("p", 1)).call("x"), runtime.named("p/1").call("x")):
        with pytest.raises(NoSuchActor):
            await call
    nursery.failing["p"] = [OSError("no")]
    with pytest.raises(StartFailed):
        await top.resize(2)
    with pytest.raises(NoSuchActor):
        await runtime.named("p/1").call("x")
    await top.resize(2)
    assert await runtime.named("p/1").call("x") == "x"


async def test_a_service_that_cannot_start_is_unavailable_by_key_too(addressed: Addressed, clock: VirtualClock) -> None:
    """Who waits is told; who comes later, too; and all is well when it is back."""
    spec = addressed.spec()
    top = await addressed.runtime.start(Supervisor([spec], backoff=Backoff(1.0, 1.0, unavailable_after=2)))
    assert isinstance(top, SupervisorRef)
    addressed.nursery.failing["kid"] = [OSError("no disk")] * 3
    (await one(top, "kid")).kill()
    parked = addressed.call()
    await clock.advance(2.5)
    for call in (parked, addressed.call()):
        with pytest.raises(ServiceUnavailable, match=r"^kid is unavailable: .*no disk"):
            await call
    await clock.advance(2.0)
    assert await addressed.call() == "hello"
    addressed.nursery.failing["kid"] = [OSError("no disk")] * 3
    (await one(top, "kid")).kill()
    await clock.advance(2.5)
    await top.stop()
    await addressed.refused()
    assert addressed.left == []


async def test_a_service_whose_init_is_ignored_is_expected_no_more(addressed: Addressed, clock: VirtualClock) -> None:
    """Ignore ends the trying."""
    top = await addressed.runtime.start(Supervisor([addressed.spec()], backoff=Backoff(1.0, 1.0)))
    assert isinstance(top, SupervisorRef)
    addressed.nursery.failing["kid"] = [Ignore()]
    (await one(top, "kid")).kill()
    parked = addressed.call()
    await clock.advance(1.0)
    with pytest.raises(NoSuchActor):
        await parked


# --- trees that are being started ---------------------------------------------------------------------------


async def test_while_a_tree_starts_unknown_names_are_waited_for(runtime: Runtime, clock: VirtualClock) -> None:
    """A supervisor that has not started yet brings who knows which names; when all have started, it is known."""
    nursery, gate = Nursery(), asyncio.Event()

    class Slow(Kid):
        async def init(self) -> Any:
            await gate.wait()
            return await super().init()

    inner = ChildSpec("inner", Supervisor, ([nursery.spec("deep", name="deep")],))
    starting = asyncio.ensure_future(family(runtime, nursery.spec("slow", Slow), inner))
    await clock.settle()
    deep = asyncio.ensure_future(runtime.named("deep").call("hello", timeout=None))
    nobody = asyncio.ensure_future(runtime.named("nobody").call("hello", timeout=None))
    await clock.settle()
    assert not deep.done()
    assert not nobody.done()
    gate.set()
    assert await deep == "hello"
    with pytest.raises(NoSuchActor):
        await nobody
    await starting
    assert not runtime._names._starting
    assert clock.now() == 0.0


async def test_an_init_does_not_wait_for_the_tree_that_waits_for_it(runtime: Runtime, clock: VirtualClock) -> None:
    """It would be a deadlock: a name that nobody has announced fails at once."""
    seen: list[BaseException] = []

    class Early(Host):
        async def init(self) -> None:
            try:
                await self.runtime.named("unknown").call("x", timeout=None)
            except NoSuchActor as error:
                seen.append(error)

    await family(runtime, ChildSpec("inner", Supervisor, ([ChildSpec("early", Early)],)))
    assert len(seen) == 1


# --- who waits ----------------------------------------------------------------------------------------------


async def test_a_caller_that_gives_up_leaves_nothing(addressed: Addressed, clock: VirtualClock) -> None:
    """Be it in the very tick in which it is sent away."""
    top = await family(addressed.runtime, addressed.spec(Gated), max_restarts=5)
    await ends(await one(top, "kid"), BOOM)
    await clock.settle()
    gone, late = addressed.call(5.0), addressed.call(5.0)
    await clock.settle()
    gone.cancel()
    await asyncio.wait([gone])
    top.kill()
    asyncio.get_running_loop().call_soon(late.cancel)
    await asyncio.wait([late])
    await top.wait_exit()
    assert addressed.left == []
    assert clock.pending == 0


async def test_a_key_that_a_plain_task_holds_is_called_by_nobody(runtime: Runtime, clock: VirtualClock) -> None:
    """A task may register itself, and has no mailbox."""
    registry = Registry()
    host = await runtime.start(Host())
    gate = asyncio.Event()

    async def work() -> None:
        registry.register("k")
        await gate.wait()

    task = host._process.spawn_task(work)
    await clock.settle()
    assert registry.keys() == ("k",)
    with pytest.raises(NoSuchActor):
        await registry.via("k").call("x")
    gate.set()
    assert await task.wait_exit() == NORMAL


async def test_an_actor_that_registers_itself_serves_who_waits(runtime: Runtime, clock: VirtualClock) -> None:
    """In its ``init``, or in a handler; who was told to die meanwhile serves nobody."""
    registry, gate = Registry(), asyncio.Event()

    class Registering(Actor):
        async def init(self) -> None:
            registry.register("k")
            await gate.wait()

        async def handle_call(self, message: Any, sender: From) -> Next:
            return Reply(message)

    def ask() -> asyncio.Future[Any]:
        return asyncio.ensure_future(registry.via("k").call("hello", timeout=None))

    process = runtime.spawn(Registering())
    await clock.settle()
    parked = ask()
    await clock.settle()
    assert not parked.done()
    process.receive_exit(BOOM, None)
    with pytest.raises(NoSuchActor):
        await parked
    runtime.spawn(Registering())
    await clock.settle()
    parked = ask()
    gate.set()
    assert await parked == "hello"


async def test_a_key_that_its_owner_gives_up(runtime: Runtime, clock: VirtualClock) -> None:
    """Callers who wait for it, since its owner has not started yet, have nobody to wait for."""
    registry, leave, go = Registry(), asyncio.Event(), asyncio.Event()

    class Leaving(Host):
        async def init(self) -> None:
            await leave.wait()
            registry.unregister("k")
            await go.wait()

    process = runtime.spawn(Leaving(), via=registry.via("k"))
    parked = asyncio.ensure_future(registry.via("k").call("x", timeout=None))
    await clock.settle()
    leave.set()
    with pytest.raises(NoSuchActor):
        await parked
    go.set()
    assert await runtime.await_start(process, None) is None


@pytest.mark.parametrize("kill", [True, False])
async def test_terminating_a_branch_ends_the_hope_for_its_leaves(
    addressed: Addressed, clock: VirtualClock, kill: bool
) -> None:
    """While it stops they still answer; then nobody is expected."""
    policy: Any = ShutdownPolicy.BRUTAL_KILL if kill else 5.0
    top = await family(addressed.runtime, ChildSpec("branch", Supervisor, ([addressed.spec()],), shutdown=policy))
    assert await addressed.call() == "hello"
    await top.terminate_child("branch")
    await addressed.refused()
    assert addressed.left == []
    await top.restart_child("branch")
    assert await addressed.call() == "hello"


async def test_a_deep_tree_is_forgotten_without_the_stack(addressed: Addressed) -> None:
    """A thousand supervisors above one leaf."""
    spec = addressed.spec()
    for level in range(1000):
        spec = ChildSpec(f"level {level}", Supervisor, ([spec],))
    top = await family(addressed.runtime, spec)
    assert await addressed.call() == "hello"
    top.kill()
    await top.wait_exit()
    await addressed.refused()
    assert addressed.left == []


def test_a_via_that_is_none_is_refused() -> None:
    """By the name of the field, when it is written down."""
    with pytest.raises(SpecError, match="via"):
        ChildSpec("c", Actor, via="key")  # type: ignore[arg-type]  # the point


async def test_a_child_may_have_both(runtime: Runtime, clock: VirtualClock) -> None:
    """A name for the program and a key for the data; one taken by another is a failed start."""
    nursery, registry = Nursery(), Registry()
    top = await family(runtime, nursery.spec("kid", name="kid", via=registry.via("key", 1)))
    kid = await one(top, "kid")
    assert runtime.whereis("kid") == registry.via("key").whereis() == kid
    with pytest.raises(StartFailed, match="'key' is already registered"):
        await top.start_child(nursery.spec("other", name="other", via=registry.via("key")))
    assert runtime.whereis("other") is None
    assert "other" not in runtime._names
    assert await registry.via("key").call("x") == "x"


async def test_static_terminate_by_ref(runtime: Runtime) -> None:
    """By name one does not know of which kind a supervisor is; a static one keeps the spec."""
    nursery = Nursery()
    top = await runtime.start(Supervisor([nursery.spec("kid")]), name="top")
    assert isinstance(top, SupervisorRef)
    assert not isinstance(top, DynamicSupervisorRef)
    handle = runtime.named_supervisor("top")
    kid = await one(top, "kid")
    await handle.terminate(kid)
    (info,) = await handle.which_children()
    assert (info.state, info.ref) == ("stopped", None)
    with pytest.raises(ChildError, match="not_found"):
        await handle.terminate(kid)
