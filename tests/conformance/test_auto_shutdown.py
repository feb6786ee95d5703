"""Supervisors that end when their significant children have done their work: OTP's auto_shutdown."""

from __future__ import annotations

import pytest

from dspex.errors import SpecError
from dspex.runtime import (
    NORMAL,
    SHUTDOWN,
    AutoShutdown,
    ChildSpec,
    DynamicSupervisor,
    DynamicSupervisorRef,
    ExitReason,
    Other,
    Restart,
    RestartStrategy,
    Runtime,
    Shutdown,
    Supervisor,
)
from dspex.testing import VirtualClock
from tests.conformance.kids import Nursery, ends, family, kids_of, one

ANY, ALL = AutoShutdown.ANY_SIGNIFICANT, AutoShutdown.ALL_SIGNIFICANT
BOOM = Other("boom")


def significant(nursery: Nursery, name: str, restart: Restart = Restart.TRANSIENT) -> ChildSpec:
    return nursery.spec(name, restart=restart, significant=True)


async def test_p11_significant_children_need_a_supervisor_that_shuts_down(runtime: Runtime) -> None:
    """And a permanent child, which never ends by itself, cannot be significant."""
    nursery = Nursery()
    with pytest.raises(SpecError, match="significant"):
        significant(nursery, "c", Restart.PERMANENT)
    with pytest.raises(SpecError, match="significant"):
        nursery.spec("c", significant=1)
    with pytest.raises(SpecError, match="significant"):
        Supervisor([significant(nursery, "c")])
    with pytest.raises(SpecError, match="auto_shutdown"):
        Supervisor(auto_shutdown="never")  # type: ignore[arg-type]  # that it is wrong is the point
    static, dynamic = await family(runtime), await runtime.start(DynamicSupervisor())
    assert isinstance(dynamic, DynamicSupervisorRef)
    for supervisor in (static, dynamic):
        with pytest.raises(SpecError, match="significant"):
            await supervisor.start_child(significant(nursery, "c"))
        assert supervisor.alive
        assert await supervisor.which_children() == ()


@pytest.mark.parametrize("reason", [NORMAL, SHUTDOWN, Shutdown("x")])
async def test_the_first_significant_child_that_ends_cleanly_ends_the_supervisor(
    runtime: Runtime, reason: ExitReason
) -> None:
    """With any_significant; its siblings are stopped."""
    nursery = Nursery()
    supervisor = await family(
        runtime, nursery.spec("a"), significant(nursery, "s"), significant(nursery, "t"), auto_shutdown=ANY
    )
    await ends(await one(supervisor, "s"), reason)
    assert await supervisor.wait_exit() == SHUTDOWN
    assert nursery.log[-3:] == ["-s", "-t", "-a"]


async def test_the_last_significant_child_that_ends_cleanly_ends_the_supervisor(
    runtime: Runtime, clock: VirtualClock
) -> None:
    """With all_significant; others do not count."""
    nursery = Nursery()
    supervisor = await family(
        runtime,
        significant(nursery, "s"),
        significant(nursery, "t", Restart.TEMPORARY),
        nursery.spec("u", restart=Restart.TRANSIENT),
        auto_shutdown=ALL,
    )
    for name in ("s", "u"):
        await ends(await one(supervisor, name), NORMAL)
        await clock.settle()
        assert supervisor.alive
    await ends(await one(supervisor, "t"), BOOM)
    assert await supervisor.wait_exit() == SHUTDOWN


async def test_a_temporary_significant_child_counts_however_it_ends(runtime: Runtime) -> None:
    """There is no second chance for it."""
    nursery = Nursery()
    supervisor = await family(runtime, significant(nursery, "s", Restart.TEMPORARY), auto_shutdown=ANY)
    await ends(await one(supervisor, "s"), BOOM)
    assert await supervisor.wait_exit() == SHUTDOWN


@pytest.mark.parametrize("how", [ANY, ALL])
async def test_crashes_management_and_siblings_do_not_trigger_it(
    runtime: Runtime, clock: VirtualClock, how: AutoShutdown
) -> None:
    """Only an end by itself, and for good, does."""
    nursery = Nursery()
    supervisor = await family(
        runtime,
        nursery.spec("a"),
        significant(nursery, "s"),
        significant(nursery, "t", Restart.TEMPORARY),
        auto_shutdown=how,
        strategy=RestartStrategy.ONE_FOR_ALL,
    )
    await ends(await one(supervisor, "s"), BOOM)
    await clock.settle()
    assert list(await kids_of(supervisor)) == ["a", "s"]
    await supervisor.terminate_child("s")
    await clock.settle()
    assert supervisor.alive
    await supervisor.restart_child("s")
    await ends(await one(supervisor, "s"), NORMAL)
    assert await supervisor.wait_exit() == SHUTDOWN


async def test_an_automatic_shutdown_propagates_through_significant_supervisors(runtime: Runtime) -> None:
    """It is a clean end; a permanent supervisor is just restarted."""
    nursery = Nursery()

    def inner() -> Supervisor:
        return Supervisor([significant(nursery, "s")], auto_shutdown=ANY)

    spec = ChildSpec("inner", inner, kind="supervisor", restart=Restart.TRANSIENT, significant=True)
    outer = await family(runtime, spec, auto_shutdown=ALL)
    below = await one(outer, "inner")
    await ends(await one(below, "s"), NORMAL)
    assert await below.wait_exit() == SHUTDOWN
    assert await outer.wait_exit() == SHUTDOWN
