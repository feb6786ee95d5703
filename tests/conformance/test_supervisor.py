"""How supervisors start, restart and give up: the cases of OTP's supervisor_SUITE."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dspex.errors import ChildError, SpecError, StartFailed
from dspex.runtime import (
    NORMAL,
    SHUTDOWN,
    BadReturn,
    ChildCounts,
    ChildSpec,
    Crashed,
    Exit,
    ExitReason,
    Ignore,
    Other,
    Restart,
    RestartStrategy,
    Runtime,
    Shutdown,
    ShutdownPolicy,
    Stop,
    Supervisor,
)
from dspex.testing import VirtualClock
from tests.conformance.kids import Kid, Nursery, TrappingHost, actor_of, ends, family, kids_of, one

BOOM = Other("boom")
CLEAN = [NORMAL, SHUTDOWN, Shutdown("x")]


@pytest.fixture
def nursery() -> Nursery:
    return Nursery()


# --- start and specs ----------------------------------------------------------------------------------------


async def test_p01_a_supervisor_without_children_starts_and_stops(runtime: Runtime) -> None:
    """The parent's shutdown is the supervisor's own reason."""
    supervisor = await family(runtime)
    supervisor.exit(SHUTDOWN)
    assert await supervisor.wait_exit() == SHUTDOWN


async def test_p02_a_supervisor_may_ignore_its_start(runtime: Runtime) -> None:
    """Ignore is the way to leave a part of the tree out; the process has not failed."""

    class Absent(Supervisor):
        async def init(self) -> Any:
            return Ignore()

    process = runtime.spawn(Absent())
    failure = await runtime.await_start(process, None)
    assert failure is not None
    assert failure.reason == Ignore()
    assert process.exit_reason == NORMAL


@pytest.mark.parametrize("junk", [False, True])
async def test_p03_a_failed_init_is_the_starters_error_and_one_exit(runtime: Runtime, junk: bool) -> None:
    """Who starts learns why, and a parent that traps gets exactly one message with the same reason."""

    class Broken(Supervisor):
        async def init(self) -> Any:
            if junk:
                return "junk"
            raise KeyError("E")

    parent = await runtime.start(TrappingHost())

    async def start() -> StartFailed:
        with pytest.raises(StartFailed) as caught:
            await runtime.start(Broken())
        return caught.value

    failure = await parent.call(start)
    assert isinstance(failure.reason, Crashed)
    assert isinstance(failure.reason.error, BadReturn if junk else KeyError)
    assert failure.__cause__ is failure.reason.error
    seen = actor_of(parent).seen
    assert [(type(each), each.reason) for each in seen] == [(Exit, failure.reason)]


async def test_p04_a_child_that_ignores_is_kept_without_a_process(runtime: Runtime, nursery: Nursery) -> None:
    """It may be started later, by hand."""
    supervisor = await family(runtime)
    nursery.failing["c1"] = [Ignore()]
    with pytest.raises(ChildError) as caught:
        await supervisor.start_child(nursery.spec("c1"))
    assert caught.value.why == "ignored"
    second = await supervisor.start_child(nursery.spec("c2"))
    assert [(info.id, info.ref) for info in await supervisor.which_children()] == [("c2", second), ("c1", None)]
    assert await supervisor.count_children() == ChildCounts(2, 1, 0, 2)
    await supervisor.restart_child("c1")
    assert (await supervisor.count_children()).active == 2


async def test_p05_a_temporary_child_that_ignores_is_not_kept(runtime: Runtime, nursery: Nursery) -> None:
    """A temporary child's spec lives as long as its process."""
    nursery.failing["c1"] = [Ignore(), Ignore()]
    temporary = Restart.TEMPORARY
    supervisor = await family(runtime, nursery.spec("c1", restart=temporary), nursery.spec("c2", restart=temporary))
    assert list(await kids_of(supervisor)) == ["c2"]
    assert await supervisor.count_children() == ChildCounts(1, 1, 0, 1)
    with pytest.raises(ChildError):
        await supervisor.start_child(nursery.spec("c1", restart=temporary))
    assert list(await kids_of(supervisor)) == ["c2"]


@pytest.mark.parametrize("how", [Stop(BOOM), "junk"])
async def test_p06_a_child_that_fails_to_start_is_an_error_and_no_child(
    runtime: Runtime, nursery: Nursery, how: object
) -> None:
    """The supervisor is none the worse, and does not try again."""
    supervisor = await family(runtime)
    nursery.failing["c1"] = [how]
    with pytest.raises(StartFailed) as caught:
        await supervisor.start_child(nursery.spec("c1"))
    assert ("boom" if isinstance(how, Stop) else "junk") in str(caught.value)
    with pytest.raises(StartFailed, match="not an Actor"):
        await supervisor.start_child(ChildSpec("c2", lambda: 7))  # type: ignore[arg-type,return-value]  # the point
    assert await supervisor.which_children() == ()
    assert supervisor.alive


async def test_p07_a_restart_by_hand_that_fails_is_not_repeated(
    runtime: Runtime, nursery: Nursery, clock: VirtualClock
) -> None:
    """Only automatic restarts are retried."""
    supervisor = await family(runtime, nursery.spec("c1"))
    await supervisor.terminate_child("c1")
    nursery.failing["c1"] = [ValueError("no")]
    with pytest.raises(StartFailed) as caught:
        await supervisor.restart_child("c1")
    assert isinstance(caught.value.__cause__, ValueError)
    await clock.advance(3600.0)
    assert await kids_of(supervisor) == {"c1": None}
    assert nursery.started("c1") == 1


async def test_p08_what_a_spec_leaves_out(nursery: Nursery) -> None:
    """The defaults are OTP's."""
    worker, supervisor = nursery.spec("w"), nursery.spec("s", kind="supervisor")
    assert (worker.restart, worker.shutdown, worker.kind) == (Restart.PERMANENT, 5.0, "worker")
    assert supervisor.shutdown is ShutdownPolicy.INFINITY
    brutal = nursery.spec("b", shutdown=ShutdownPolicy.BRUTAL_KILL)
    assert (brutal.restart, brutal.grace) == (Restart.PERMANENT, 0.0)


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("strategy", "one_for_one"),
        ("max_restarts", -1),
        ("max_restarts", float("inf")),
        ("max_restarts", True),
        ("max_seconds", 0),
        ("max_seconds", float("nan")),
        ("max_seconds", "5"),
    ],
)
def test_p09_a_bad_flag_is_named(flag: str, value: object) -> None:
    """A supervisor that cannot work as asked must not start at all."""
    with pytest.raises(SpecError) as caught:
        Supervisor(**{flag: value})  # type: ignore[arg-type]  # the point
    assert caught.value.field == flag


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", ""),
        ("id", 7),
        ("start", "Kid"),
        ("restart", "permanent"),
        ("shutdown", -10),
        ("shutdown", "infinity"),
        ("shutdown", True),
        ("kind", "actor"),
    ],
)
def test_p10_a_bad_spec_is_named(field: str, value: object) -> None:
    """The mistake is reported where it was written down, not when the child is due."""
    good: dict[str, Any] = {"id": "c", "start": Kid}
    with pytest.raises(SpecError) as caught:
        ChildSpec(**{**good, field: value})
    assert caught.value.field == field


def test_p10_equal_ids_are_found_before_anything_starts(nursery: Nursery) -> None:
    """Half a family must not be running when the mistake is noticed."""
    with pytest.raises(SpecError, match="unique"):
        Supervisor([nursery.spec("c"), nursery.spec("c")])
    assert nursery.log == []


async def test_p12_a_failed_start_takes_down_who_runs_already(runtime: Runtime, nursery: Nursery) -> None:
    """A tree that is not whole does not exist."""
    nursery.failing["b"] = [Stop(BOOM)]
    specs = [nursery.spec(name) for name in "abc"]
    with pytest.raises(StartFailed) as caught:
        await family(runtime, *specs)
    reason = caught.value.reason
    assert isinstance(reason, Shutdown)
    assert isinstance(reason.detail, StartFailed)
    assert (reason.detail.child_id, reason.detail.reason) == ("b", BOOM)
    assert nursery.log == ["+a", "-a"]
    assert not runtime.processes


# --- restart types and strategies ---------------------------------------------------------------------------


@pytest.mark.parametrize("how", [*CLEAN, BOOM, ValueError("boom")])
async def test_p13_a_permanent_child_is_always_restarted(
    runtime: Runtime, nursery: Nursery, how: ExitReason | Exception
) -> None:
    """Permanent means that it is never supposed to be gone."""
    supervisor = await family(runtime, nursery.spec("c"))
    first = await one(supervisor, "c")
    await ends(first, how)
    second = await one(supervisor, "c")
    assert second.pid != first.pid
    assert await supervisor.count_children() == ChildCounts(1, 1, 0, 1)


@pytest.mark.parametrize("how", CLEAN)
async def test_p14_a_transient_child_may_finish(runtime: Runtime, nursery: Nursery, how: ExitReason) -> None:
    """It stays on the books, so that it can be started once more."""
    supervisor = await family(runtime, nursery.spec("c", restart=Restart.TRANSIENT))
    await ends(await one(supervisor, "c"), how)
    assert await supervisor.count_children() == ChildCounts(1, 0, 0, 1)
    assert (await supervisor.restart_child("c")).alive


async def test_p15_a_transient_child_that_crashes_is_restarted(runtime: Runtime, nursery: Nursery) -> None:
    """It had not finished."""
    supervisor = await family(runtime, nursery.spec("c", restart=Restart.TRANSIENT))
    first = await one(supervisor, "c")
    await ends(first, BOOM)
    assert (await one(supervisor, "c")).pid != first.pid


@pytest.mark.parametrize("how", [*CLEAN, BOOM, RuntimeError("boom")])
async def test_p16_a_temporary_child_leaves_no_trace(
    runtime: Runtime, nursery: Nursery, how: ExitReason | Exception
) -> None:
    """Its id is free at once."""
    supervisor = await family(runtime, nursery.spec("c", restart=Restart.TEMPORARY))
    await ends(await one(supervisor, "c"), how)
    assert await supervisor.count_children() == ChildCounts(0, 0, 0, 0)
    assert (await supervisor.start_child(nursery.spec("c", restart=Restart.TEMPORARY))).alive


async def test_p17_one_for_one_restarts_nobody_else_and_gives_up_in_the_end(runtime: Runtime, nursery: Nursery) -> None:
    """Two restarts are allowed; the third crash is the supervisor's own end."""
    supervisor = await family(runtime, nursery.spec("c1"), nursery.spec("c2"))
    c1, c2 = await one(supervisor, "c1"), await one(supervisor, "c2")
    await ends(c1, BOOM)
    assert (await one(supervisor, "c1")).pid != c1.pid
    assert (await one(supervisor, "c2")).pid == c2.pid
    await ends(c2, BOOM)
    await ends(await one(supervisor, "c2"), BOOM)
    assert await supervisor.wait_exit() == SHUTDOWN


async def test_p18_one_for_all_restarts_everybody(runtime: Runtime, nursery: Nursery) -> None:
    """Children that cannot do without each other start afresh together."""
    strategy = RestartStrategy.ONE_FOR_ALL
    supervisor = await family(runtime, nursery.spec("c1"), nursery.spec("c2"), strategy=strategy)
    before = await kids_of(supervisor)
    c1 = before["c1"]
    assert c1 is not None
    await ends(c1, BOOM)
    after = await kids_of(supervisor)
    assert all(after[name] not in (None, before[name]) for name in ("c1", "c2"))
    assert await supervisor.count_children() == ChildCounts(2, 2, 0, 2)


async def test_p19_a_group_restart_costs_one_unit(runtime: Runtime, nursery: Nursery) -> None:
    """Otherwise a large family would be given up at its first crash."""
    specs = [nursery.spec(name) for name in ("c1", "c2", "c3")]
    supervisor = await family(runtime, *specs, strategy=RestartStrategy.ONE_FOR_ALL)
    for name in ("c1", "c3"):
        await ends(await one(supervisor, name), BOOM)
        assert (await supervisor.count_children()).active == 3
    await ends(await one(supervisor, "c2"), BOOM)
    assert await supervisor.wait_exit() == SHUTDOWN


async def test_p20_rest_for_one_spares_those_started_earlier(runtime: Runtime, nursery: Nursery) -> None:
    """Who was there first cannot depend on who came later."""
    specs = [nursery.spec(name) for name in ("c1", "c2", "c3")]
    supervisor = await family(runtime, *specs, strategy=RestartStrategy.REST_FOR_ONE)
    before = await kids_of(supervisor)
    c2 = before["c2"]
    assert c2 is not None
    await ends(c2, BOOM)
    after = await kids_of(supervisor)
    assert [after[name] == before[name] for name in before] == [True, False, False]
    assert None not in after.values()


async def test_p21_order_of_children(runtime: Runtime, nursery: Nursery) -> None:
    """Start order is the order of the specs, whatever the ids; everything stops in reverse."""
    specs = [nursery.spec(name) for name in ("ch7", "ch3", "ch10", "ch2", "ch5")]
    supervisor = await family(runtime, *specs, strategy=RestartStrategy.REST_FOR_ONE)
    assert nursery.take() == ["+ch7", "+ch3", "+ch10", "+ch2", "+ch5"]
    await ends(await one(supervisor, "ch10"), BOOM)
    await kids_of(supervisor)
    assert nursery.take() == ["-ch10", "-ch5", "-ch2", "+ch10", "+ch2", "+ch5"]
    supervisor.exit(SHUTDOWN)
    await supervisor.wait_exit()
    assert nursery.take() == ["-ch5", "-ch2", "-ch10", "-ch3", "-ch7"]


async def test_p22_only_time_takes_restarts_off_the_books(
    runtime: Runtime, nursery: Nursery, clock: VirtualClock
) -> None:
    """Four crashes, each outside the window of the one before."""
    supervisor = await family(runtime, nursery.spec("c"), max_restarts=1, max_seconds=1.0)
    for _ in range(4):
        await ends(await one(supervisor, "c"), BOOM)
        await clock.advance(2.1)
    assert supervisor.alive
    assert nursery.started("c") == 5


async def test_p22_a_restart_exactly_as_old_as_the_window_counts(
    runtime: Runtime, nursery: Nursery, clock: VirtualClock
) -> None:
    """The window includes its edge, as OTP's does."""
    supervisor = await family(runtime, nursery.spec("c"), max_restarts=1, max_seconds=1.0)
    await ends(await one(supervisor, "c"), BOOM)
    await one(supervisor, "c")
    await clock.advance(1.0)
    await ends(await one(supervisor, "c"), BOOM)
    assert await supervisor.wait_exit() == SHUTDOWN


async def test_p23_intensity_zero_restarts_nobody(runtime: Runtime, nursery: Nursery) -> None:
    """The first crash is the last."""
    supervisor = await family(runtime, nursery.spec("c"), max_restarts=0)
    await ends(await one(supervisor, "c"), BOOM)
    assert await supervisor.wait_exit() == SHUTDOWN
    assert nursery.started("c") == 1


async def test_p24_a_supervisor_that_gave_up_is_restarted_as_it_was_specified(
    runtime: Runtime, nursery: Nursery
) -> None:
    """Children added at run time are gone: the spec is all that its own supervisor knows."""
    inner = ChildSpec("inner", Supervisor, ([nursery.spec("s1")],), {"max_restarts": 0}, kind="supervisor")
    top = await family(runtime, inner)
    first: Any = await one(top, "inner")
    await first.start_child(nursery.spec("d1"))
    await ends(await one(first, "d1"), BOOM)
    await first.wait_exit()
    second: Any = await one(top, "inner")
    assert second.pid != first.pid
    assert list(await kids_of(second)) == ["s1"]
    assert (await one(second, "s1")).alive


# --- restarts that fail -------------------------------------------------------------------------------------


async def test_a_restart_that_fails_is_retried_between_other_messages(runtime: Runtime, nursery: Nursery) -> None:
    """Every try costs a unit of intensity, and whoever asks meanwhile is answered."""
    supervisor = await family(runtime, nursery.spec("c"))
    nursery.failing["c"] = [ValueError("no")]
    child = await one(supervisor, "c")
    await ends(child, BOOM)
    states = [info.state for _ in range(2) for info in await supervisor.which_children()]
    assert states == ["restarting", "running"]
    nursery.failing["c"] = [ValueError("no")] * 5
    await ends(await one(supervisor, "c"), BOOM)
    assert await supervisor.wait_exit() == SHUTDOWN


async def test_terminate_child_calls_off_a_retry(runtime: Runtime, nursery: Nursery) -> None:
    """A child that is not wanted any more must not come back."""
    supervisor = await family(runtime, nursery.spec("c"))
    nursery.failing["c"] = [ValueError("no")]
    child = await one(supervisor, "c")
    child.cast(BOOM)
    await child.wait_exit()
    refused, _ = await asyncio.gather(
        supervisor.delete_child("c"), supervisor.terminate_child("c"), return_exceptions=True
    )
    assert isinstance(refused, ChildError)
    assert refused.why == "restarting"
    assert await kids_of(supervisor) == {"c": None}
    assert nursery.started("c") == 1


async def test_rest_for_one_goes_on_from_the_child_that_failed(runtime: Runtime, nursery: Nursery) -> None:
    """Those restarted before it stay."""
    specs = [nursery.spec(name) for name in "abc"]
    supervisor = await family(runtime, *specs, strategy=RestartStrategy.REST_FOR_ONE)
    nursery.take()
    nursery.failing["b"] = [ValueError("no")]
    await ends(await one(supervisor, "a"), BOOM)
    while None in (await kids_of(supervisor)).values():
        pass
    assert nursery.take() == ["-a", "-c", "-b", "+a", "+b", "+c"]


async def test_one_for_all_starts_over_when_one_fails(runtime: Runtime, nursery: Nursery) -> None:
    """Nobody may run beside a sibling that has not come back."""
    specs = [nursery.spec(name) for name in "abc"]
    supervisor = await family(runtime, *specs, strategy=RestartStrategy.ONE_FOR_ALL)
    nursery.take()
    nursery.failing["b"] = [ValueError("no")]
    await ends(await one(supervisor, "c"), BOOM)
    while None in (await kids_of(supervisor)).values():
        pass
    assert nursery.take() == ["-c", "-b", "-a", "+a", "-a", "+a", "+b", "+c"]


async def test_a_group_restart_revives_who_was_stopped_by_hand_and_drops_temporaries(
    runtime: Runtime, nursery: Nursery
) -> None:
    """The family starts as specified: every spec that is kept, and nobody else."""
    specs = [nursery.spec("a"), nursery.spec("b"), nursery.spec("t", restart=Restart.TEMPORARY)]
    supervisor = await family(runtime, *specs, strategy=RestartStrategy.ONE_FOR_ALL)
    await supervisor.terminate_child("b")
    await ends(await one(supervisor, "a"), BOOM)
    kids = await kids_of(supervisor)
    assert list(kids) == ["a", "b"]
    assert None not in kids.values()


async def test_a_restart_that_is_ignored_is_not_retried(runtime: Runtime, nursery: Nursery) -> None:
    """Ignore is an answer, not a failure: the child stays stopped and nothing is charged for it."""
    supervisor = await family(runtime, nursery.spec("c"), max_restarts=1)
    nursery.failing["c"] = [Ignore()]
    await ends(await one(supervisor, "c"), BOOM)
    assert await kids_of(supervisor) == {"c": None}
    assert [info.state for info in await supervisor.which_children()] == ["stopped"]
    assert (await supervisor.restart_child("c")).alive
