"""Who ended, why, and who was restarted: in order, and without polling."""

from __future__ import annotations

import asyncio

import pytest

from dspex.runtime import KILLED, NORMAL, SHUTDOWN, ChildSpec, Runtime, Supervisor
from dspex.testing import Began, Exited, ExitRecorder, GaveUp, Restarted, StartRefused, VirtualClock
from tests.conformance.kids import Kid, Nursery, ends
from tests.unit.runtime.doer import Doer


async def test_lives_are_told_in_order(runtime: Runtime, clock: VirtualClock) -> None:
    """Exits, restarts, starts that fail, and a supervisor that gives up."""
    nursery = Nursery()
    with ExitRecorder(runtime) as exits:
        top = await runtime.start(
            Supervisor([ChildSpec("a", Kid, ("a", nursery), name="a")], max_restarts=2), label="top"
        )
        nursery.failing["a"] = [OSError("no")]
        for _ in range(2):
            ref = runtime.whereis("a")
            assert ref is not None
            ref.kill()
            await clock.settle()
        assert await top.wait_exit() == SHUTDOWN
    kinds = [type(each) for each in exits.records]
    # fmt: off
    assert kinds == [
        Began, Began, Exited, Restarted, Exited, StartRefused, Began, Exited, Restarted, GaveUp, Exited,
    ]
    # fmt: on
    assert exits.records[:4] == [Began("a"), Began("top"), Exited("a", KILLED), Restarted("a", "top", KILLED)]
    assert exits.records[-2:] == [GaveUp("a", "top"), Exited("top", SHUTDOWN)]
    assert exits.exits("a")[::2] == [KILLED, KILLED]
    assert len(exits.exits()) == 4
    assert exits.starts() == ["a", "top", "a"]
    assert exits.starts("a") == ["a", "a"]
    assert exits.restarts() == exits.restarts("top") == ["a", "a"]
    assert exits.restarts("other") == []


async def test_a_test_waits_for_exits_and_starts(runtime: Runtime) -> None:
    """For the n-th, at once when it has been; two may wait; nothing is heard after the block."""
    nursery = Nursery()
    await runtime.start(Supervisor([ChildSpec("a", Kid, ("a", nursery), name="a")], max_restarts=9))
    with ExitRecorder(runtime) as exits:
        waiting = [asyncio.ensure_future(exits.wait_exits("a", count)) for count in (1, 2)]
        for count in (1, 2):
            ref = runtime.whereis("a")
            assert ref is not None
            await ends(ref, NORMAL)
            await exits.wait_starts("a", count)
        assert await waiting[1] == [NORMAL, NORMAL]
        assert len(await waiting[0]) in (1, 2)
        assert await exits.wait_exits("a") == [NORMAL, NORMAL]
    heard = len(exits.records)
    other = await runtime.start(Doer())
    await other.stop()
    assert len(exits.records) == heard
    assert not runtime.telemetry.active


async def test_what_does_not_happen_is_told_with_what_did(runtime: Runtime) -> None:
    """Whatever clock the runtime has; nothing of the wait stays behind."""
    with ExitRecorder(runtime) as exits:
        await runtime.start(Doer(), label="somebody")
        with pytest.raises(TimeoutError, match=r"no 1 exits of 'nobody'.*\n  Began\(label='somebody'\)"):
            await exits.wait_exits("nobody", timeout=0.0)
        assert not exits._waiting
        exits.__exit__(None, None, None)


async def test_a_child_spec_names_its_process(runtime: Runtime) -> None:
    """The id is the label, also of a task that has one."""
    with ExitRecorder(runtime) as exits:
        await runtime.start(Supervisor([ChildSpec("worker", Doer)]), label="top")
        runtime.roots()[0].spawn_task(asyncio.sleep, 0, label="job")
        assert await exits.wait_exits("job") == [NORMAL]
    assert exits.starts() == ["worker", "top"]
