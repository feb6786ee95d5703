"""Whatever fails at whatever point of a tree: it is up again or has given up, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dspex.errors import ActorError
from dspex.runtime import (
    Actor,
    ChildSpec,
    Continue,
    From,
    Next,
    Reply,
    RestartStrategy,
    Runtime,
    Supervisor,
)
from dspex.testing import (
    AppliedFaults,
    Delay,
    ExitRecorder,
    FaultPlan,
    KillProcess,
    VirtualClock,
    applied,
    assert_no_leaks,
)
from dspex.testing.strategies import fault_plans


class Worker(Actor):
    async def handle_call(self, message: Any, sender: From) -> Next:
        return Reply(await self.spawn_task(asyncio.sleep, 0, label="work").wait_exit(), then=Continue(message))

    async def handle_continue(self, argument: Any) -> Next:
        return None


POINTS: list[Any] = [
    *(("init", name) for name in ("a", "b")),
    *(("call", name) for name in ("a", "b")),
    ("message", "*"),
    ("continue", "a"),
    ("task", "work"),
    ("init", "top"),
    ("event", "dspex.child.restart"),
    ("event", "dspex.process.start"),
]


async def scenario(plan: FaultPlan, strategy: RestartStrategy) -> tuple[AppliedFaults, ExitRecorder]:
    """Ask two workers in turn, whatever becomes of them."""
    clock = VirtualClock()
    async with assert_no_leaks(clock=clock), clock.autojump():
        async with Runtime(clock=clock) as runtime:
            with applied(plan, runtime) as faults, ExitRecorder(runtime) as exits:
                specs = [ChildSpec(name, Worker, name=name) for name in ("a", "b")]
                top = None
                try:
                    top = await runtime.start(Supervisor(specs, strategy=strategy), label="top")
                except ActorError:
                    assert faults.fired
                for name in ("a", "b", "a", "b"):
                    try:
                        await runtime.named(name).call(name, timeout=60.0)
                    except ActorError:
                        assert faults.fired
                await runtime.sleep(60.0)
                if top is not None and top.alive:
                    assert {"a", "b"} == {name for name in "ab" if runtime.whereis(name) is not None}
        assert not runtime.processes
    return faults, exits


def run(work: Awaitable[Any]) -> Any:
    async def doing() -> Any:
        return await work

    return asyncio.run(doing())


@given(fault_plans(POINTS), st.sampled_from(RestartStrategy))
def test_a_tree_survives_or_gives_up_and_the_same_plan_does_the_same(
    plan: FaultPlan, strategy: RestartStrategy
) -> None:
    """With at most three faults and three restarts allowed, only a killed supervisor is gone."""
    first, second = run(scenario(plan, strategy)), run(scenario(plan, strategy))
    assert first[0].fired == second[0].fired
    assert first[0].visits == second[0].visits
    assert list(map(repr, first[1].records)) == list(map(repr, second[1].records))
    assert len(first[0].fired) + len(first[0].unfired) == len(plan.faults)
    assert eval(repr(plan), {**globals(), **vars(__import__("dspex.testing", fromlist=["*"]))}) == plan


@given(fault_plans([("init", "a"), ("event", "e")], max_faults=4, max_visit=2, actions=[Delay(1.0), KillProcess()]))
def test_plans_are_what_was_asked_for(plan: FaultPlan) -> None:
    """No delay at an event, no more faults and no later visits than allowed."""
    assert len(plan.faults) <= 4
    for fault in plan.faults:
        assert fault.visit in (1, 2)
        assert (fault.kind, fault.of) in [("init", "a"), ("event", "e")]
        assert fault.kind == "init" or fault.action == KillProcess()
