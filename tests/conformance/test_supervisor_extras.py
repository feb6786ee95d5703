"""Options of specs and starts; and the additions of this project to restarts, all of them off by default."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar

import pytest

from dspex.errors import ChildError, SpecError
from dspex.runtime import (
    SHUTDOWN,
    Actor,
    ActorRef,
    Backoff,
    ChildSpec,
    DynamicSupervisor,
    DynamicSupervisorRef,
    ExitReason,
    Other,
    Restart,
    RestartLimit,
    RestartStrategy,
    Runtime,
    ShutdownPolicy,
    Started,
    Supervisor,
    SupervisorRef,
    TaskSupervisor,
)
from dspex.testing import VirtualClock
from tests.conformance.kids import Kid, Nursery, actor_of, ends, family, kids_of, one

BOOM = Other("boom")


async def test_p08_a_spec_is_shown_with_its_defaults(runtime: Runtime) -> None:
    """As the supervisor uses it."""
    nursery = Nursery()
    brutal = nursery.spec("brutal", shutdown=ShutdownPolicy.BRUTAL_KILL)
    supervisor = await family(
        runtime, nursery.spec("worker"), brutal, ChildSpec("supervisor", Supervisor, kind="supervisor")
    )
    shown = [await supervisor.get_childspec(name) for name in ("worker", "brutal", "supervisor")]
    assert [spec.shutdown for spec in shown] == [5.0, ShutdownPolicy.BRUTAL_KILL, ShutdownPolicy.INFINITY]
    assert {spec.restart for spec in shown} == {Restart.PERMANENT}
    with pytest.raises(ChildError, match="not_found"):
        await supervisor.get_childspec("nobody")


@pytest.mark.parametrize(
    "start", [Supervisor, DynamicSupervisor, TaskSupervisor, partial(partial(Supervisor), max_restarts=1)]
)
def test_a_supervisor_below_another_has_all_the_time_it_needs(start: Callable[..., Actor]) -> None:
    """OTP's default for supervisors, of which the class that is started knows that it is one."""
    spec = ChildSpec("branch", start)
    assert (spec.kind, spec.shutdown, spec.grace) == ("supervisor", ShutdownPolicy.INFINITY, None)
    assert ChildSpec("branch", start, shutdown=1.0).shutdown == 1.0
    assert ChildSpec("branch", start, kind="worker").shutdown == 5.0
    assert (ChildSpec("leaf", Actor).kind, ChildSpec("leaf", Actor).shutdown) == ("worker", 5.0)


@pytest.mark.parametrize("below", ["static", "dynamic"])
async def test_what_a_function_starts_says_itself_what_it_is(runtime: Runtime, clock: VirtualClock, below: str) -> None:
    """A spec cannot know; but a branch whose leaves need ten seconds to stop gets them all the same."""
    nursery = Nursery()
    leaf = nursery.spec("leaf", Slow, shutdown=20.0)
    spec = ChildSpec("branch", lambda: Supervisor([leaf]))
    assert (spec.kind, spec.shutdown) == (None, None)
    if below == "static":
        supervisor = await family(runtime, spec)
        known = await supervisor.get_childspec("branch")
    else:
        dynamic = await runtime.start(DynamicSupervisor())
        assert isinstance(dynamic, DynamicSupervisorRef)
        supervisor = dynamic
        await supervisor.start_child(spec)
        known = await supervisor.get_childspec("branch#1")
    assert (known.kind, known.shutdown) == ("supervisor", ShutdownPolicy.INFINITY)
    assert (await supervisor.count_children()).supervisors == 1
    async with clock.autojump():
        await supervisor.stop()
    assert clock.now() == 10.0
    assert "slept" in nursery.log


async def test_children_of_a_dynamic_supervisor_share_their_spec(runtime: Runtime) -> None:
    """The supervisor remembers an id of each, not a copy of what they have in common."""
    nursery = Nursery()
    dynamic = await runtime.start(DynamicSupervisor(extra_arguments=("given",)))
    assert isinstance(dynamic, DynamicSupervisorRef)
    spec = ChildSpec("kid", Kid, (nursery,))
    for _ in range(2):
        await dynamic.start_child(spec)
    assert nursery.log == ["+given", "+given"]
    records = actor_of(dynamic).records()
    assert [record.id for record in records] == ["kid#1", "kid#2"]
    assert all(record.spec is spec for record in records)
    shown = await dynamic.get_childspec("kid#2")
    assert (shown.id, shown.args) == ("kid#2", ("given", nursery))


class Slow(Kid):
    """Takes ten seconds to stop."""

    trap_exit: ClassVar[bool] = True
    terminate_timeout: ClassVar[float | None] = None

    async def terminate(self, reason: ExitReason) -> None:
        await self.runtime.sleep(10.0)
        self.nursery.log.append("slept")


class Numbered(Kid):
    """Tells its starter which start this is."""

    async def init(self) -> Started:
        self.nursery.log.append(f"+{self.name}")
        return Started(self.nursery.started(self.name))


async def test_p35_every_start_tells_its_info(runtime: Runtime, clock: VirtualClock) -> None:
    """Those that were asked for, and those after a crash."""
    supervisor, nursery = await family(runtime), Nursery()
    started = await supervisor.start_child(nursery.spec("c", Numbered))
    assert started.start_info == 1
    await supervisor.terminate_child("c")
    assert (await supervisor.restart_child("c")).start_info == 2
    await ends(await one(supervisor, "c"), BOOM)
    await clock.settle()
    assert (await one(supervisor, "c")).start_info == 3


class Taker(Actor):
    """Keeps what it was made with."""

    def __init__(self, *args: object) -> None:
        self.args = args


async def test_p38_extra_arguments_come_first_at_every_start(runtime: Runtime, clock: VirtualClock) -> None:
    """After a crash too."""
    supervisor = await runtime.start(DynamicSupervisor(extra_arguments=["first"]))
    assert isinstance(supervisor, DynamicSupervisorRef)
    for args in ((), ("second",)):
        ref = await supervisor.start_child(ChildSpec("c", Taker, args))
        assert actor_of(ref).args == ("first", *args)
        ref.exit(BOOM)
        await ref.wait_exit()
    await clock.settle()
    again = [info.ref for info in await supervisor.which_children()]
    assert [actor_of(ref).args for ref in again if ref is not None] == [("first", "second"), ("first",)]


# --- limits of a child's own --------------------------------------------------------------------------------


async def test_a_child_with_a_limit_does_not_use_up_its_supervisors(runtime: Runtime, clock: VirtualClock) -> None:
    """One restart too many of its own, and the supervisor gives up all the same."""
    nursery = Nursery()
    supervisor = await family(
        runtime, nursery.spec("often", limit=RestartLimit(4, 100.0)), nursery.spec("seldom"), max_restarts=0
    )
    for _ in range(4):
        await ends(await one(supervisor, "often"), BOOM)
        await clock.settle()
    assert (nursery.started("often"), nursery.started("seldom")) == (5, 1)
    await clock.advance(101.0)
    for _ in range(4):
        await ends(await one(supervisor, "often"), BOOM)
        await clock.settle()
    await ends(await one(supervisor, "often"), BOOM)
    assert await supervisor.wait_exit() == SHUTDOWN


async def test_limits_and_delays_are_checked(runtime: Runtime) -> None:
    """When they are written down."""
    for max_restarts, max_seconds in ((-1, 5.0), (True, 5.0), (1, 0.0)):
        with pytest.raises(SpecError, match="max_"):
            RestartLimit(max_restarts, max_seconds)
    wrong: tuple[dict[str, Any], ...] = ({"limit": 3}, {"backoff": 1.0})
    for options in wrong:
        with pytest.raises(SpecError, match=next(iter(options))):
            Nursery().spec("c", **options)


# --- restarts that wait -------------------------------------------------------------------------------------


async def test_a_child_with_backoff_is_restarted_later_and_still_limited(runtime: Runtime, clock: VirtualClock) -> None:
    """Ever later, while its supervisor answers; a limit that is used up is used up."""
    nursery = Nursery()
    backoff = Backoff(initial=1.0, maximum=8.0, reset_after=100.0)
    supervisor = await family(runtime, nursery.spec("c", backoff=backoff), nursery.spec("d"))
    for delay in (1.0, 2.0):
        before = nursery.started("c")
        await ends(await one(supervisor, "c"), BOOM)
        await clock.advance(delay - 0.1)
        assert (await kids_of(supervisor))["c"] is None
        assert nursery.started("c") == before
        await clock.advance(0.2)
        assert nursery.started("c") == before + 1
    await ends(await one(supervisor, "c"), BOOM)
    await clock.advance(4.0)
    assert await supervisor.wait_exit() == SHUTDOWN
    assert nursery.started("d") == 1


async def test_a_start_that_fails_is_retried_later_too(runtime: Runtime, clock: VirtualClock) -> None:
    """Without backoff it would be retried at once, until the limit is used up."""
    nursery = Nursery()
    supervisor = await family(runtime, nursery.spec("c", backoff=Backoff(initial=1.0)), max_restarts=9)
    nursery.failing["c"] = [KeyError("one"), KeyError("two")]
    await ends(await one(supervisor, "c"), BOOM)
    await clock.advance(1.5)
    assert len(nursery.failing["c"]) == 1
    await clock.advance(1.0)
    assert nursery.failing["c"] == []
    await clock.advance(1.0)
    assert (await one(supervisor, "c")).alive


async def test_a_sibling_that_restarts_a_waiting_child_ends_its_wait(runtime: Runtime, clock: VirtualClock) -> None:
    """It is started once, not twice."""
    nursery = Nursery()
    supervisor = await family(
        runtime,
        nursery.spec("a"),
        nursery.spec("c", backoff=Backoff(initial=5.0, maximum=5.0)),
        strategy=RestartStrategy.REST_FOR_ONE,
    )
    await ends(await one(supervisor, "c"), BOOM)
    await clock.advance(1.0)
    await ends(await one(supervisor, "a"), BOOM)
    await clock.settle()
    started = await one(supervisor, "c")
    await clock.advance(10.0)
    assert await one(supervisor, "c") == started
    assert nursery.started("c") == 2


async def test_terminating_a_waiting_child_ends_its_wait(runtime: Runtime, clock: VirtualClock) -> None:
    """It stays stopped, and no timer stays behind."""
    nursery = Nursery()
    supervisor = await family(runtime, nursery.spec("c", backoff=Backoff(initial=5.0, maximum=5.0)))
    await ends(await one(supervisor, "c"), BOOM)
    await clock.settle()
    await supervisor.terminate_child("c")
    assert clock.pending == 0
    await clock.advance(10.0)
    assert await kids_of(supervisor) == {"c": None}


@pytest.mark.parametrize("backoff", [None, Backoff(initial=0.0)])
async def test_a_bounded_mailbox_does_not_lose_a_restart(
    runtime: Runtime, clock: VirtualClock, backoff: Backoff | None
) -> None:
    """A note that the supervisor writes to itself is not a message that may be refused."""

    class Bounded(Supervisor):
        mailbox_limit: ClassVar[int | None] = 1

    nursery = Nursery()
    ref = await runtime.start(Bounded([nursery.spec("c")], max_restarts=9, backoff=backoff))
    assert isinstance(ref, SupervisorRef)
    nursery.failing["c"] = [_Filling(ref), None]
    await ends(await one(ref, "c"), BOOM)
    await clock.advance(1.0)
    child: ActorRef = await one(ref, "c")
    assert child.alive


class _Filling(Exception):
    """Fills the supervisor's mailbox when the start that it fails is reported."""

    def __init__(self, ref: ActorRef) -> None:
        super().__init__("boom")
        self.ref = ref

    def __str__(self) -> str:
        self.ref.send("unexpected")
        return "boom"
