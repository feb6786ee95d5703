"""One actor for a place, whoever asks first; and supervisors that are found by name."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from dspex.runtime import (
    Actor,
    ActorExited,
    ActorRef,
    AlreadyRegistered,
    CallCycle,
    CallTimeout,
    ChildError,
    ChildSpec,
    DynamicSupervisor,
    NoSuchActor,
    Other,
    Registry,
    Runtime,
    SpecError,
    StartFailed,
    Supervisor,
    SupervisorRef,
)
from dspex.testing import VirtualClock
from tests.conformance.kids import Host, Kid, Nursery, actor_of, ends, family, kids_of, one

BOOM = Other("boom")


class Slow(Kid):
    """Waits for a gate in its ``init``."""

    gate: ClassVar[asyncio.Event]

    async def init(self) -> Any:
        self.nursery.log.append(f"?{self.name}")
        await self.gate.wait()
        return await super().init()


class Asked:
    """The four ways to ask for one actor: by name or key, of the runtime or a supervisor of either kind."""

    def __init__(self, runtime: Runtime, how: str) -> None:
        self.runtime, self.nursery, self.registry = runtime, Nursery(), Registry()
        self.where, self.place = how.split(" by ")
        self.via = self.registry.via("kid") if self.place == "key" else None
        self.name = "kid" if self.place == "name" else None
        self.top: Any = None
        Slow.gate = asyncio.Event()

    async def open(self) -> None:
        if self.where != "runtime":
            kind: Any = Supervisor if self.where == "static" else DynamicSupervisor
            self.top = await self.runtime.start(kind(), name="top")

    def ask(self, kid: type[Kid] = Kid) -> asyncio.Future[ActorRef]:
        if self.top is None:
            actor = kid("kid", self.nursery)
            return asyncio.ensure_future(self.runtime.start_or_get(actor, name=self.name, via=self.via))
        spec = self.nursery.spec("kid", kid, name=self.name, via=self.via)
        asking: asyncio.Future[ActorRef] = asyncio.ensure_future(self.top.start_or_get(spec))
        return asking

    async def answers(self, ref: ActorRef) -> None:
        assert await ref.call("hello") == "hello"
        found = self.via.whereis() if self.via is not None else self.runtime.whereis("kid")
        assert found == ref


WAYS = [f"{where} by {place}" for where in ("runtime", "static", "dynamic") for place in ("name", "key")]


@pytest.fixture(params=WAYS)
async def asked(runtime: Runtime, request: pytest.FixtureRequest) -> Asked:
    asked = Asked(runtime, request.param)
    await asked.open()
    return asked


async def test_the_race_has_one_winner(asked: Asked, clock: VirtualClock) -> None:
    """All get its ref, once it is initialised, and so does who comes later."""
    asking = [asked.ask(Slow) for _ in range(20)]
    await clock.settle()
    assert not any(each.done() for each in asking)
    Slow.gate.set()
    refs = await asyncio.gather(*asking)
    assert len(set(refs)) == 1
    assert await asked.ask() == refs[0]
    assert asked.nursery.log == ["?kid", "+kid"]
    await asked.answers(refs[0])


@pytest.mark.parametrize("kind", [Supervisor, DynamicSupervisor])
@pytest.mark.parametrize("place", ["name", "key"])
async def test_the_race_may_be_decided_by_the_supervisor(runtime: Runtime, kind: Any, place: str) -> None:
    """Both asked it to start the child before it had read either: who is refused gets the other's ref."""
    nursery, registry = Nursery(), Registry()
    top: Any = await runtime.start(kind(), name="top")
    via = registry.via("kid") if place == "key" else None
    spec = nursery.spec("kid", name="kid" if place == "name" else None, via=via)
    await top.suspend()
    asking = [asyncio.ensure_future(runtime.named_supervisor("top").start_or_get(spec)) for _ in range(3)]
    await asyncio.sleep(0)
    await top.resume()
    assert len(set(await asyncio.gather(*asking))) == 1
    assert nursery.log == ["+kid"]
    assert (await top.count_children()).specs == 1


async def test_when_the_winner_fails_the_next_tries(asked: Asked, clock: VirtualClock) -> None:
    """So the failure that somebody gets is that of his own actor, and nobody waits for ever."""
    asked.nursery.failing["kid"] = [OSError("first"), OSError("second")]
    asking = [asked.ask(Slow) for _ in range(5)]
    await clock.settle()
    Slow.gate.set()
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    failed = [each for each in outcomes if isinstance(each, StartFailed)]
    assert [str(each.__cause__) for each in failed] == ["first", "second"]
    refs = {each for each in outcomes if isinstance(each, ActorRef)}
    assert len(refs) == 1
    assert asked.nursery.log.count("+kid") == 1
    await asked.answers(refs.pop())


async def test_a_winner_that_is_cancelled_does_not_take_the_others_along(asked: Asked, clock: VirtualClock) -> None:
    """The runtime kills an actor whose starter is cancelled; a supervisor starts its child all the same."""
    first = asked.ask(Slow)
    await clock.settle()
    others = [asked.ask(Slow) for _ in range(3)]
    await clock.settle()
    first.cancel()
    await asyncio.wait([first])
    Slow.gate.set()
    refs = await asyncio.gather(*others)
    assert len(set(refs)) == 1
    await asked.answers(refs[0])


async def test_one_that_is_being_restarted_is_waited_for(asked: Asked, clock: VirtualClock) -> None:
    """It is not to be overtaken: the supervisor's restart would find the place taken."""
    spec = asked.nursery.spec("other", Slow, name=asked.name, via=asked.via)
    Slow.gate.set()
    keeper = await family(asked.runtime, spec)
    Slow.gate.clear()
    await ends(await one(keeper, "other"), BOOM)
    await clock.settle()
    asking = asked.ask()
    await clock.settle()
    assert not asking.done()
    Slow.gate.set()
    assert await asking == await one(keeper, "other")
    assert "+kid" not in asked.nursery.log


async def test_who_holds_the_place_already_is_taken_whoever_it_is(asked: Asked) -> None:
    """Also while it dies: then it is our turn."""
    holder = await asked.runtime.start(Kid("old", asked.nursery), name=asked.name, via=asked.via)
    assert await asked.ask() == holder
    holder.cast(BOOM)
    ref = await asked.ask()
    while ref == holder:  # it had not read the message yet
        await holder.wait_exit()
        ref = await asked.ask()
    await asked.answers(ref)


async def test_it_needs_a_place(runtime: Runtime) -> None:
    """Else there is nothing to be found by."""
    nursery = Nursery()
    top = await family(runtime)
    with pytest.raises(SpecError, match="name"):
        await runtime.start_or_get(Kid("kid", nursery))
    with pytest.raises(SpecError, match="name"):
        await top.start_or_get(nursery.spec("kid"))
    assert nursery.log == []


async def test_of_two_places_the_name_counts(runtime: Runtime) -> None:
    """A key that somebody else holds is a conflict, not an answer."""
    registry = Registry()
    other = await runtime.start(Host(), via=registry.via("k"))
    with pytest.raises(AlreadyRegistered) as caught:
        await runtime.start_or_get(Host(), name="n", via=registry.via("k"))
    assert caught.value.owner == other
    top = await family(runtime)
    with pytest.raises(StartFailed, match="already registered"):
        await top.start_or_get(ChildSpec("c", Host, name="n", via=registry.via("k")))
    other.kill()
    await other.wait_exit()
    ref = await runtime.start_or_get(Host(), name="n", via=registry.via("k"))
    assert runtime.whereis("n") == registry.via("k").whereis() == ref
    assert await runtime.start_or_get(Host(), name="n") == ref


async def test_an_id_that_is_taken_is_a_conflict_too(runtime: Runtime) -> None:
    """Unless its child is whom one asked for."""
    nursery = Nursery()
    top = await family(runtime, nursery.spec("kid"))
    with pytest.raises(ChildError, match="already_started"):
        await top.start_or_get(nursery.spec("kid", name="kid"))
    await top.terminate_child("kid")
    with pytest.raises(ChildError, match="already_present"):
        await top.start_or_get(nursery.spec("kid", name="kid"))


async def test_the_last_place_of_a_dynamic_supervisor(runtime: Runtime, clock: VirtualClock) -> None:
    """Who lost the race gets the winner's ref although there is no room; for another there is none."""
    nursery = Nursery()
    Slow.gate = asyncio.Event()
    top: Any = await runtime.start(DynamicSupervisor(max_children=1))
    asking = [asyncio.ensure_future(top.start_or_get(nursery.spec("kid", Slow, name="kid"))) for _ in range(3)]
    await clock.settle()
    Slow.gate.set()
    assert len(set(await asyncio.gather(*asking))) == 1
    with pytest.raises(ChildError, match="max_children"):
        await top.start_or_get(nursery.spec("other", name="other"))


async def test_the_timeout_is_for_all_of_it(runtime: Runtime, clock: VirtualClock) -> None:
    """For the wait for another's actor, and for one's own."""
    nursery = Nursery()
    Slow.gate = asyncio.Event()
    first = runtime.spawn(Slow("kid", nursery), name="kid")
    waiting = asyncio.ensure_future(runtime.start_or_get(Kid("kid", nursery), name="kid", timeout=2.0))
    await clock.advance(2.0)
    with pytest.raises(CallTimeout, match="'kid'"):
        await waiting
    own = asyncio.ensure_future(runtime.start_or_get(Slow("kid", nursery), name="kid", timeout=2.0))
    await clock.advance(1.0)
    first.receive_exit(BOOM, None)
    await clock.advance(1.0)
    with pytest.raises(StartFailed, match="killed"):
        await own
    Slow.gate.set()
    assert clock.pending == 0


async def test_who_starts_the_place_does_not_ask_for_it(runtime: Runtime) -> None:
    """It would wait for itself; once it is there, it gets its own ref."""
    seen: list[BaseException] = []

    class Asking(Host):
        async def init(self) -> None:
            try:
                await self.runtime.start_or_get(Host(), name="n")
            except CallCycle as error:
                seen.append(error)

    ref = await runtime.start_or_get(Asking(), name="n")
    assert len(seen) == 1

    async def again() -> ActorRef:
        return await runtime.start_or_get(Host(), name="n")

    assert await ref.call(again) == ref
    assert actor_of(ref).seen == []


async def test_the_winner_is_linked_below_who_started_it(runtime: Runtime) -> None:
    """As by ``start``."""
    starter = await runtime.start(Host())
    ref = await starter.call(lambda: runtime.start_or_get(Actor(), name="n"))
    assert ref.ancestors == (starter.pid,)
    starter.kill()
    await ref.wait_exit()
    assert runtime.whereis("n") is None


# --- supervisors by name ------------------------------------------------------------------------------------


async def test_a_supervisor_by_name_does_what_its_ref_does(runtime: Runtime) -> None:
    """All of it, whatever its kind."""
    nursery = Nursery()
    handle = runtime.named_supervisor("top")
    assert (handle.name, repr(handle)) == ("top", "<top by name>")
    await runtime.start(Supervisor(), name="top")
    kid = await handle.start_child(nursery.spec("kid"))
    assert await kid.call("x") == "x"
    (info,) = await handle.which_children()
    assert info.ref == kid
    assert (await handle.count_children()).active == 1
    assert (await handle.get_childspec("kid")).id == "kid"
    await handle.terminate_child("kid")
    assert (await handle.restart_child("kid")).alive
    await handle.terminate_child("kid")
    await handle.delete_child("kid")
    with pytest.raises(ChildError, match="not_found"):
        await handle.delete_child("kid")
    other = await handle.start_or_get(nursery.spec("other", name="other"))
    assert await handle.start_or_get(nursery.spec("other", name="other")) == other
    assert handle.send("info")
    assert handle.cast("cast")


async def test_a_call_by_name_parks_while_the_supervisor_is_restarted(runtime: Runtime, clock: VirtualClock) -> None:
    """And fails at once when nobody restarts it."""
    nursery, gate = Nursery(), asyncio.Event()

    class Rooms(DynamicSupervisor):
        async def init(self) -> None:
            if nursery.log:
                await gate.wait()
            nursery.log.append("rooms")

    keeper = await family(runtime, ChildSpec("rooms", Rooms, name="rooms"))
    rooms = runtime.named_supervisor("rooms")
    first = await rooms.start_child(nursery.spec("kid"))
    supervisor = runtime.whereis("rooms")
    assert supervisor is not None
    supervisor.kill()
    await supervisor.wait_exit()
    starting = asyncio.ensure_future(rooms.start_child(nursery.spec("kid")))
    await clock.settle()
    assert not starting.done()
    gate.set()
    second = await starting
    assert second != first
    assert isinstance(runtime.whereis("rooms"), SupervisorRef)
    await rooms.terminate(second)
    assert await kids_of(runtime.whereis("rooms") or supervisor) == {}
    await keeper.terminate_child("rooms")
    with pytest.raises(NoSuchActor, match="'rooms'"):
        await rooms.which_children()
    late = asyncio.ensure_future(runtime.named_supervisor("late", patient=True).which_children())
    await clock.settle()
    await runtime.start(Supervisor(), name="late")
    assert await late == ()


async def test_a_name_that_is_not_a_supervisors(runtime: Runtime) -> None:
    """Is said to be another's, and a supervisor that dies with the question says so as well."""
    await runtime.start(Host(), name="host")
    with pytest.raises(SpecError, match="<Host 'host'>"):
        await runtime.named_supervisor("host").which_children()
    top = await runtime.start(Supervisor(), name="top")
    await top.suspend()
    asking = asyncio.ensure_future(runtime.named_supervisor("top").which_children())
    await asyncio.sleep(0)
    top.kill()
    with pytest.raises(ActorExited):
        await asking


async def test_a_child_does_not_manage_who_starts_it(runtime: Runtime) -> None:
    """By name it is found out as by ref."""
    seen: list[BaseException] = []

    class Early(Host):
        async def init(self) -> None:
            top = self.runtime.named_supervisor("top")
            try:
                await top.start_child(ChildSpec("x", Host))
            except CallCycle as error:
                seen.append(error)

    top = await runtime.start(Supervisor(), name="top")
    assert isinstance(top, SupervisorRef)
    await top.start_child(ChildSpec("early", Early))
    assert len(seen) == 1
