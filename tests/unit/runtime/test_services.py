"""Services: restarted with backoff, called by name, and found unavailable when they cannot start."""

from __future__ import annotations

import asyncio
from typing import Any, ClassVar

import pytest

from dspex.errors import ActorExited, ChildError, NoSuchActor, ServiceUnavailable, SpecError
from dspex.runtime import (
    KILLED,
    NORMAL,
    Actor,
    Backoff,
    ChildSpec,
    Continue,
    From,
    Ignore,
    NoReply,
    Reply,
    RestartStrategy,
    Runtime,
    Supervisor,
    SupervisorRef,
    TreeNode,
    tree,
)
from dspex.testing import VirtualClock
from tests.support.programs import until

NAMED = "service"


class Service(Actor):
    """Starts unless it is told not to; crashes when called with an exception."""

    failing: ClassVar[list[Any]] = []

    def __init__(self, log: list[str], failing: list[Any]) -> None:
        self.log = log
        self.outcomes = failing

    async def init(self) -> Any:
        self.log.append("init")
        outcome = self.outcomes.pop(0) if self.outcomes else None
        if isinstance(outcome, Exception):
            raise outcome
        return await outcome(self) if callable(outcome) else outcome

    async def handle_call(self, message: Any, sender: From) -> Reply:
        if isinstance(message, Exception):
            raise message
        return Reply(message)

    async def handle_continue(self, argument: Any) -> None:
        raise argument

    def describe(self) -> str:
        return "well"


class Fixture:
    def __init__(self, runtime: Runtime, clock: VirtualClock) -> None:
        self.runtime, self.clock = runtime, clock
        self.log: list[str] = []
        self.failing: list[Any] = []
        self.service = runtime.named(NAMED)
        self.supervisor: SupervisorRef

    async def start(self, **options: Any) -> None:
        spec = ChildSpec(NAMED, Service, (self.log, self.failing), name=NAMED)
        ref = await self.runtime.start(Supervisor([spec], backoff=Backoff(**options)), label="family")
        assert isinstance(ref, SupervisorRef)
        self.supervisor = ref

    def kill(self) -> None:
        ref = self.runtime.whereis(NAMED)
        assert ref is not None
        ref.kill()

    def call(self, timeout: float | None = 5.0) -> asyncio.Future[Any]:
        return asyncio.ensure_future(self.service.call("x", timeout=timeout))


@pytest.fixture
async def family(runtime: Runtime, clock: VirtualClock) -> Fixture:
    return Fixture(runtime, clock)


async def test_rule_4_c_a_call_by_name_waits_for_the_successor(family: Fixture, clock: VirtualClock) -> None:
    """Nothing was sent to the one that died, so nothing is lost, and nobody has to try again."""
    await family.start(initial=0.5)
    family.kill()
    call = family.call()
    await clock.advance(0.4)
    assert not call.done()
    await clock.advance(0.1)
    assert await call == "x"
    assert family.log == ["init", "init"]
    assert clock.pending == 0


async def test_a_successor_that_dies_at_once_is_not_called(family: Fixture, clock: VirtualClock) -> None:
    """The caller that was woken for it waits for the next one instead."""
    await family.start(initial=0.1)
    family.kill()
    family.failing += [Continue(ValueError("at once"))]
    call = family.call()
    await clock.advance(0.1)
    assert not call.done()
    await clock.advance(0.2)
    assert await call == "x"


async def test_the_delay_doubles_and_health_resets_it(family: Fixture, clock: VirtualClock) -> None:
    """Restarted without limit, but ever more slowly."""
    await family.start(initial=1.0, maximum=4.0, reset_after=10.0)
    for delay in (1.0, 2.0, 4.0, 4.0):
        starts = len(family.log)
        family.kill()
        await clock.advance(delay - 0.01)
        assert len(family.log) == starts
        await clock.advance(0.01)
        assert len(family.log) == starts + 1
    await clock.advance(10.0)
    starts = len(family.log)
    family.kill()
    await clock.advance(1.0)
    assert len(family.log) == starts + 1


async def test_those_who_wait_for_an_answer_are_told_of_a_death_in_their_order(runtime: Runtime) -> None:
    """So they ask the successor in that order, and nobody's turn is lost by a restart."""

    class Slow(Actor):
        async def handle_call(self, message: Any, sender: From) -> NoReply:
            return NoReply()

    slow = await runtime.start(Slow())
    told: list[int] = []

    async def ask(number: int) -> None:
        with pytest.raises(ActorExited):
            await slow.call(number, timeout=None)
        told.append(number)

    asking = [asyncio.ensure_future(ask(number)) for number in range(100)]
    await until(lambda: len(slow._process._deferred or ()) == 100)
    slow.kill()
    await asyncio.gather(*asking)
    assert told == list(range(100))


async def test_a_service_that_is_killed_again_and_again_is_back_soon(family: Fixture, clock: VirtualClock) -> None:
    """A child that lives for longer than it was waited for does not crash by itself: the delay grows no more."""
    await family.start(initial=0.01, maximum=1.0)
    for _ in range(100):
        family.kill()
        await clock.advance(0.16)
        assert family.runtime.whereis(NAMED) is not None
        await clock.advance(0.04)


async def test_a_service_that_cannot_start_is_unavailable_until_it_can(family: Fixture, clock: VirtualClock) -> None:
    """Callers are told instead of being kept, and served again when it is back; nobody gives up."""
    await family.start(initial=1.0, maximum=1.0, unavailable_after=5)
    family.failing += [OSError("no disk")] * 6
    family.kill()
    parked = family.call(timeout=None)
    await clock.advance(4.0)
    assert not parked.done()
    await clock.advance(1.0)
    with pytest.raises(ServiceUnavailable, match="no disk"):
        await parked
    with pytest.raises(ServiceUnavailable):
        await family.call()
    await clock.advance(2.0)
    assert await family.call() == "x"
    assert family.supervisor.alive
    assert len(family.log) == 8


async def test_a_start_that_is_ignored_or_interrupted(family: Fixture, clock: VirtualClock) -> None:
    """Ignore ends the trying; a kill during init is one more failure."""

    async def hang(service: Service) -> None:
        await asyncio.get_running_loop().create_future()

    await family.start(initial=1.0)
    family.failing += [hang, Ignore()]
    family.kill()
    await clock.advance(1.0)
    (info,) = await family.supervisor.which_children()
    assert (info.state, info.ref) == ("restarting", None)
    (child,) = family.supervisor._process.children
    assert [each.status for each in tree(family.supervisor._process).walk()] == ["running", "starting"]
    child.receive_exit(KILLED, None)
    await clock.advance(2.0)
    (info,) = await family.supervisor.which_children()
    assert (info.state, info.restarts) == ("stopped", 1)
    await clock.advance(100.0)
    assert len(family.log) == 3
    assert (await family.supervisor.restart_child(NAMED)).alive


async def test_management_of_a_service_that_waits_for_its_restart(family: Fixture, clock: VirtualClock) -> None:
    """A child that is not wanted any more does not come back, and leaves no timer or reputation."""
    await family.start(initial=1.0, unavailable_after=1)
    family.failing += [OSError("no")]
    family.kill()
    await clock.advance(1.0)
    with pytest.raises(ServiceUnavailable):
        await family.call()
    with pytest.raises(ChildError, match="restarting"):
        await family.supervisor.restart_child(NAMED)
    await family.supervisor.terminate_child(NAMED)
    assert clock.pending == 0
    with pytest.raises(NoSuchActor):
        await family.call(timeout=None)
    waiting = asyncio.ensure_future(family.runtime.wait_name(NAMED, None))
    await clock.advance(10.0)
    assert not waiting.done()
    await family.supervisor.restart_child(NAMED)
    assert await waiting == family.runtime.whereis(NAMED)
    assert await family.call() == "x"


@pytest.mark.parametrize("how", ["kill", "stop"])
async def test_a_dead_supervisor_leaves_no_timer(family: Fixture, clock: VirtualClock, how: str) -> None:
    """Nobody would be there for the restart."""
    await family.start(initial=100.0, maximum=100.0)
    family.kill()
    await clock.settle()
    assert clock.pending == 1
    family.supervisor.kill() if how == "kill" else family.supervisor.exit()
    await family.supervisor.wait_exit()
    assert clock.pending == 0


async def test_a_service_is_stopped_in_the_middle_of_its_init(family: Fixture, clock: VirtualClock) -> None:
    """The shutdown does not wait for it."""

    async def hang(service: Service) -> None:
        await asyncio.get_running_loop().create_future()

    await family.start(initial=1.0)
    family.failing += [hang]
    family.kill()
    await clock.advance(1.0)
    family.supervisor.exit()
    await family.supervisor.wait_exit()
    assert clock.now() == 1.0


@pytest.mark.parametrize(
    ("field", "value"),
    [("initial", -1.0), ("maximum", 0.001), ("reset_after", -1.0), ("unavailable_after", 0)],
)
def test_a_backoff_that_makes_no_sense_is_refused(field: str, value: Any) -> None:
    """By the name of the field, when it is written down."""
    with pytest.raises(SpecError) as caught:
        Backoff(**{field: value})
    assert caught.value.field == field
    with pytest.raises(SpecError, match="backoff"):
        Supervisor(strategy=RestartStrategy.ONE_FOR_ALL, backoff=Backoff())


async def test_the_tree_is_a_snapshot(family: Fixture, clock: VirtualClock) -> None:
    """It says how things stood, even when an actor cannot say it of itself."""
    await family.start(initial=1.0)
    ref = family.runtime.whereis(NAMED)
    assert ref is not None
    task = ref._process.spawn_task(asyncio.sleep, 0)
    ref.send("unexpected")
    before = tree(family.supervisor._process)
    assert isinstance(before, TreeNode)
    assert before.render().splitlines() == ["family", "  service  (mailbox max 1, 1 tasks, well)"]
    await task.wait_exit()
    family.kill()
    await clock.settle()
    after = tree(family.supervisor._process)
    assert after.render().splitlines() == ["family  (mailbox max 1)", "  service  (restarting, restarts 1)"]
    assert after.children[0].last_exit == KILLED
    await clock.advance(1.0)
    assert [node.status for node in tree(family.supervisor._process).walk()] == ["running", "running"]
    assert [node.label for node in before.walk()] == ["family", "service"]
    broken = await family.runtime.start(Service([], []))
    broken._process.actor.describe = lambda: 1 // 0  # type: ignore[method-assign,return-value,assignment]  # the point
    assert "ZeroDivisionError" in tree(broken._process).note
    await broken.stop(NORMAL)
    assert tree(broken._process).status == "ending"
    assert tree(task).tasks == 0


async def test_what_happens_is_told(family: Fixture, clock: VirtualClock) -> None:
    """Starts, exits, restarts and failed starts are events; giving up is one too."""
    events: list[str] = []
    family.runtime.telemetry.attach("dspex.", lambda name, _, __: events.append(name.removeprefix("dspex.")))
    await family.start(initial=1.0)
    family.failing += [OSError("no")]
    family.kill()
    await clock.advance(3.0)
    assert events == [
        "process.start",
        "process.start",
        "process.exit",
        "child.restart",
        "process.exit",
        "child.start_failed",
        "process.start",
    ]
    family.supervisor.exit()
    await family.supervisor.wait_exit()
    events.clear()
    spec = ChildSpec("c", Service, ([], []))
    strict = await family.runtime.start(Supervisor([spec], max_restarts=0))
    strict._process.children[0].receive_exit(KILLED, None)
    await strict.wait_exit()
    assert "supervisor.gave_up" in events
