"""Faults at numbered points: what they do, when, to whom; and that a plan is data."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from dspex.errors import ActorExited, SpecError, StartFailed
from dspex.runtime import (
    KILLED,
    Actor,
    ActorRef,
    ChildSpec,
    Continue,
    Crashed,
    ExitReason,
    From,
    Next,
    Reply,
    Runtime,
    Supervisor,
    SupervisorRef,
    TaskSupervisor,
    TaskSupervisorRef,
)
from dspex.testing import Action, Delay, ExitRecorder, Fault, FaultPlan, KillProcess, Raise, VirtualClock, applied


class Echo(Actor):
    trap_exit: ClassVar[bool] = True

    def __init__(self) -> None:
        self.seen: list[object] = []

    async def handle_call(self, message: Any, sender: From) -> Next:
        return Reply(message)

    async def handle_cast(self, message: Any) -> Next:
        self.seen.append(message)
        return Continue(message)

    async def handle_continue(self, argument: Any) -> Next:
        self.seen.append(argument)
        return None

    async def terminate(self, reason: ExitReason) -> None:
        self.seen.append(reason)


async def supervised(runtime: Runtime, kind: type[Actor] = Echo) -> SupervisorRef:
    top = await runtime.start(Supervisor([ChildSpec("echo", kind, name="echo")], max_restarts=9), label="top")
    assert isinstance(top, SupervisorRef)
    return top


def echo(runtime: Runtime) -> ActorRef:
    ref = runtime.whereis("echo")
    assert ref is not None
    return ref


async def test_a_process_is_killed_at_its_nth_message(runtime: Runtime, clock: VirtualClock) -> None:
    """Whatever sort of message that is, and whatever incarnation gets it; the handler is not entered."""
    plan = FaultPlan(Fault("message", "echo", 3, KillProcess()), Fault("message", "echo", 4, KillProcess()))
    with applied(plan, runtime) as faults, ExitRecorder(runtime) as exits:
        await supervised(runtime)
        first = echo(runtime)
        seen = first._process.actor.seen  # type: ignore[attr-defined]  # it is an Echo
        first.cast("a")
        assert await first.call("b") == "b"
        with pytest.raises(ActorExited) as caught:
            await first.call("c")
        assert caught.value.reason == KILLED
        await exits.wait_starts("echo", 2)
        with pytest.raises(ActorExited):
            await echo(runtime).call("d")
        await exits.wait_starts("echo", 3)
        assert await echo(runtime).call("e") == "e"
    assert seen == ["a", "a"]
    assert faults.fired == list(plan.faults)
    assert not faults.unfired
    assert faults.visits["call", "echo"] == 4
    assert faults.visits["init", "echo"] == 3


async def test_the_nth_init_of_a_child_fails(runtime: Runtime) -> None:
    """Before it has done anything; the supervisor tries again as always."""
    plan = FaultPlan(Fault("init", "echo", 2, Raise(OSError, "no disk")), Fault("init", "echo", 3, KillProcess()))
    with applied(plan, runtime), ExitRecorder(runtime) as exits:
        await supervised(runtime)
        echo(runtime).kill()
        await exits.wait_starts("echo", 2)
        refused = [str(each) for each in exits.records if "StartRefused" in repr(each)]
        assert len(refused) == 2
        assert "no disk" in refused[0]
        assert await echo(runtime).call(1) == 1
    failing = FaultPlan(Fault("init", "alone", 1, Raise(OSError)))
    with applied(failing, runtime), pytest.raises(StartFailed):
        await runtime.start(Echo(), label="alone")
    assert not isinstance((await runtime.start(Echo(), label="alone")).exit_reason, Crashed)


@pytest.mark.parametrize("point", ["call", "cast", "continue"])
async def test_a_handler_raises(runtime: Runtime, point: Any) -> None:
    """The actor crashes with what the plan says."""
    with applied(FaultPlan(Fault(point, "echo", 1, Raise(KeyError, "fault"))), runtime) as faults:
        ref = await runtime.start(Echo(), name="echo")
        ref.cast("x")
        if point == "call":
            with pytest.raises(ActorExited):
                await ref.call("y")
        reason = await ref.wait_exit()
    assert isinstance(reason, Crashed)
    assert repr(reason.error) == "KeyError('fault')"
    assert not faults.unfired


async def test_terminate_fails_and_those_without_it_have_no_such_point(runtime: Runtime) -> None:
    """An actor without terminate ends in another way than one with it, which a plan must not change."""

    class Plain(Actor):
        pass

    plan = FaultPlan(Fault("terminate", "*", 1, Raise(ValueError)))
    with applied(plan, runtime) as faults:
        plain, polite = await runtime.start(Plain(), label="plain"), await runtime.start(Echo(), label="polite")
        await plain.stop()
        with pytest.raises(ActorExited):
            await polite.stop()
    assert isinstance(polite.exit_reason, Crashed)
    assert [kind for kind, of in faults.visits if of == "plain"] == ["init"]


async def test_code_is_delayed_on_the_runtimes_clock(runtime: Runtime, clock: VirtualClock) -> None:
    """A slow handler without a slow test."""
    with applied(FaultPlan(Fault("call", "echo", 1, Delay(3.0))), runtime):
        ref = await runtime.start(Echo(), name="echo")
        async with clock.autojump():
            assert await ref.call("x") == "x"
        assert clock.now() == 3.0


async def test_a_task_fails_at_its_first_step(runtime: Runtime) -> None:
    """Its work is not entered."""
    plan = FaultPlan(Fault("task", "job", 1, Raise(OSError)), Fault("task", "job", 2, KillProcess()))
    with applied(plan, runtime):
        tasks = await runtime.start(TaskSupervisor())
        assert isinstance(tasks, TaskSupervisorRef)
        entered = list[int]()

        async def work(number: int) -> int:
            entered.append(number)
            return number

        handles = [tasks.start(work, number, label="job") for number in range(3)]
        with pytest.raises(ActorExited) as caught:
            await handles[0]
        assert isinstance(caught.value.reason, Crashed)
        with pytest.raises(ActorExited) as caught:
            await handles[1]
        assert caught.value.reason == KILLED
        assert await handles[2] == 2
    assert entered == [2]


@pytest.mark.parametrize(("action", "reason"), [(KillProcess(), KILLED), (Raise(RuntimeError, "x"), None)])
async def test_who_emits_an_event_dies_of_it(runtime: Runtime, action: Action, reason: ExitReason | None) -> None:
    """Even one that traps exits: it is its own code that failed."""

    class Teller(Echo):
        async def handle_call(self, message: Any, sender: From) -> Next:
            self.runtime.telemetry.emit("shop.sold", {}, {"what": message})
            return Reply(message)

    with applied(FaultPlan(Fault("event", "shop.sold", 2, action)), runtime):
        ref = await runtime.start(Teller())
        assert await ref.call("tea") == "tea"
        with pytest.raises(ActorExited) as caught:
            await ref.call("milk")
    if reason is None:
        assert isinstance(caught.value.reason, Crashed)
        assert str(caught.value.reason.error) == "x"
    else:
        assert caught.value.reason == reason


async def test_an_event_kills_somebody_else(runtime: Runtime) -> None:
    """Named, be it by the runtime's own code; without a name, there is nobody to kill outside of every process."""
    plan = FaultPlan(
        Fault("event", "dspex.process.exit", 1, KillProcess("echo")),
        Fault("event", "outside", 1, KillProcess()),
        Fault("event", "outside", 1, Raise(OSError)),
    )
    with applied(plan, runtime) as faults:
        ref, other = await runtime.start(Echo(), name="echo"), await runtime.start(Echo(), label="other")
        runtime.telemetry.emit("outside")
        assert other.alive
        await other.stop()
        assert await ref.wait_exit() == KILLED
    assert faults.unfired == list(plan.faults[1:])


async def test_nothing_is_left_of_a_plan(runtime: Runtime) -> None:
    """A process that starts afterwards has no fault points, and looks as it always did."""
    spawn = runtime.spawn
    with applied(FaultPlan(), runtime) as faults:
        during = await runtime.start(Echo(), label="during")
    after = await runtime.start(Echo(), label="after")
    assert runtime.spawn == spawn
    assert not runtime.telemetry.active
    assert set(faults.visits) == {("init", "during"), ("event", "dspex.process.start")}
    assert type(after._process.actor) is Echo
    assert type(during._process.actor).__name__ == "Echo"
    assert isinstance(during._process.actor, Echo)
    assert await during.get_state() == await after.get_state() == {"seen": []}


async def test_the_points_of_one_run_are_the_plans_of_the_next(clock: VirtualClock) -> None:
    """Every numbered point is failed, one by one, and the tree stands after each."""

    async def run(plan: FaultPlan) -> Any:
        async with Runtime(clock=clock) as runtime:
            with applied(plan, runtime) as faults, ExitRecorder(runtime) as exits:
                top = await supervised(runtime)
                for message in range(3):
                    echo(runtime).cast(message)
                    await clock.settle()
                assert top.alive
                assert runtime.whereis("echo") is not None
        return faults, exits

    dry, _ = await run(FaultPlan())
    points = [
        (kind, visit) for (kind, of), count in dry.visits.items() if of == "echo" for visit in range(1, count + 1)
    ]
    assert points == [("init", 1), *(("cast", n) for n in (1, 2, 3)), *(("continue", n) for n in (1, 2, 3))]
    for kind, visit in points[1:]:
        faults, exits = await run(FaultPlan(Fault(kind, "echo", visit, KillProcess())))
        assert len(faults.fired) == 1
        assert exits.exits("echo") == [KILLED]
        assert exits.restarts() == ["echo"]


def test_a_plan_can_be_pasted() -> None:
    """The output of a failing test reproduces it."""
    plan = FaultPlan(
        Fault("init", "cache", 2, Raise(OSError, 28, "disk full")),
        Fault("event", "dspex.cache.miss", 1, KillProcess("cache")),
        Fault("message", "worker#*", 5, Delay(0.5)),
    )
    assert eval(repr(plan)) == plan
    assert eval(repr(FaultPlan(*plan.faults[:1]))) == FaultPlan(*plan.faults[:1])
    assert repr(plan).splitlines()[1] == "    Fault('init', 'cache', 2, Raise(OSError, 28, 'disk full')),"
    assert len({plan, eval(repr(plan)), FaultPlan()}) == 2
    assert hash(Raise(OSError)) == hash(Raise(OSError))
    assert Raise(OSError) != KillProcess()


def test_a_random_plan_is_its_seeds() -> None:
    """Whatever order the points come in."""
    points: list[Any] = [("init", "a"), ("call", "b"), ("event", "c")]
    actions: list[Action] = [KillProcess(), Delay(1.0), Raise(OSError)]
    plans = [FaultPlan.random(7, each, faults=20, visits=4, actions=actions) for each in (points, points[::-1])]
    assert plans[0] == plans[1]
    assert len(plans[0].faults) == 20
    assert {fault.of for fault in plans[0].faults} == {"a", "b", "c"}
    assert all(1 <= fault.visit <= 4 for fault in plans[0].faults)
    assert FaultPlan.random(8, points, faults=20) != FaultPlan.random(9, points, faults=20)


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        (lambda: Fault("nowhere", "a", 1, KillProcess()), "kind"),  # type: ignore[arg-type]  # on purpose
        (lambda: Fault("init", "", 1, KillProcess()), "of"),
        (lambda: Fault("init", "a", 0, KillProcess()), "visit"),
        (lambda: Fault("init", "a", 1, OSError()), "action"),  # type: ignore[arg-type]  # on purpose
        (lambda: Fault("event", "a", 1, Delay(1.0)), "action"),
        (lambda: Raise(OSError("x")), "error"),  # type: ignore[arg-type]  # on purpose
    ],
)
def test_a_fault_that_makes_no_sense_is_refused(wrong: Callable[[], object], field: str) -> None:
    """A misspelt point would never be reached, and the test would prove nothing."""
    with pytest.raises(SpecError) as caught:
        wrong()
    assert caught.value.field == field
