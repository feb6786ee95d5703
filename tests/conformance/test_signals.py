"""Signals, links and monitors: the cases of OTP's process_SUITE and monitor_SUITE."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dspex.errors import ActorExited
from dspex.runtime import (
    KILL,
    KILLED,
    NO_PROCESS,
    NORMAL,
    ActorRef,
    Crashed,
    Down,
    Exit,
    ExitReason,
    Other,
    Runtime,
    TaskSupervisor,
)
from tests.conformance.kids import Host, TrappingHost, actor_of

BOOM = Other("boom")


async def do(host: ActorRef, action: Callable[[], Any]) -> Any:
    """Have a host do something itself."""

    async def doing() -> Any:
        result = action()
        return await result if isinstance(result, Awaitable) else result

    return await host.call(doing)


@pytest.mark.parametrize("trapping", [False, True])
async def test_p56_a_normal_exit_from_another_kills_nobody(runtime: Runtime, trapping: bool) -> None:
    """Who traps is told; who does not never hears of it."""
    sender = await runtime.start(Host())
    target = await runtime.start(TrappingHost() if trapping else Host())
    await do(sender, lambda: target.exit(NORMAL))
    await do(target, lambda: None)
    assert target.alive
    assert actor_of(target).seen == ([Exit(sender, NORMAL)] if trapping else [])


async def test_a_normal_exit_to_oneself_is_obeyed(runtime: Runtime) -> None:
    """The one case in which normal kills."""
    host = await runtime.start(Host())
    with pytest.raises(ActorExited):
        await do(host, lambda: host.exit(NORMAL))
    assert host.exit_reason == NORMAL
    trapping = await runtime.start(TrappingHost())
    await do(trapping, lambda: trapping.exit(NORMAL))
    assert actor_of(trapping).seen in ([], [Exit(trapping, NORMAL)])
    await do(trapping, lambda: None)
    assert actor_of(trapping).seen == [Exit(trapping, NORMAL)]


@pytest.mark.parametrize(("reason", "spreads"), [(BOOM, True), (NORMAL, False)])
async def test_p57_an_exit_runs_along_a_chain_of_links(runtime: Runtime, reason: ExitReason, spreads: bool) -> None:
    """An abnormal one; a normal one ends with its process."""
    a, b, c = [await runtime.start(Host()) for _ in range(3)]
    await do(a, b.link)
    await do(b, c.link)
    await a.stop(reason)
    if spreads:
        assert await b.wait_exit() == await c.wait_exit() == BOOM
    else:
        await do(b, lambda: None)
        assert b.alive
        assert c.alive


async def test_p58_the_first_reason_is_the_reason(runtime: Runtime) -> None:
    """A later signal meets a dying process."""
    sender, target = await runtime.start(Host()), await runtime.start(Host())

    def twice() -> None:
        target.exit(Other("first"))
        target.exit(Other("second"))
        target.kill()

    await do(sender, twice)
    assert await target.wait_exit() == Other("first")


async def test_p59_one_down_for_each_monitor(runtime: Runtime) -> None:
    """Monitors do not add up, and one set too late answers at once."""
    watcher, target = await runtime.start(Host()), await runtime.start(Host())
    first, second = await do(watcher, target.monitor), await do(watcher, target.monitor)
    target.exit(Other("frop"))
    await target.wait_exit()
    late = await do(watcher, target.monitor)
    await do(watcher, lambda: None)
    assert actor_of(watcher).seen == [
        Down(first, target, Other("frop")),
        Down(second, target, Other("frop")),
        Down(late, target, NO_PROCESS),
    ]


async def test_p60_a_monitor_taken_back_is_silent(runtime: Runtime) -> None:
    """Twice is fine; a Down that is queued already is taken out, whatever else is queued."""
    watcher, target = await runtime.start(Host()), await runtime.start(Host())
    number = await do(watcher, target.monitor)
    for _ in range(2):
        await do(watcher, lambda: target.demonitor(number))

    class Incomparable:
        def __eq__(self, other: object) -> bool:
            raise ValueError("no truth in this")

        __hash__ = object.__hash__

    async def with_a_queued_down() -> None:
        queued = target.monitor()
        watcher.send(Incomparable())
        target.kill()
        await target.wait_exit()
        target.demonitor(queued)

    await watcher.call(with_a_queued_down)
    await do(watcher, lambda: None)
    assert [type(each).__name__ for each in actor_of(watcher).seen] == ["Incomparable"]


async def test_p61_kill_cannot_be_trapped_but_its_echo_can(runtime: Runtime) -> None:
    """Partners see `killed`, a reason like any other."""
    observer, target = await runtime.start(TrappingHost()), await runtime.start(TrappingHost())
    await do(observer, target.link)
    target.exit(KILL)
    assert await target.wait_exit() == KILLED
    await do(observer, lambda: None)
    assert actor_of(observer).seen == [Exit(target, KILLED)]


@pytest.mark.parametrize("trapping", [False, True])
async def test_a_link_that_breaks_with_kill_is_no_kill(runtime: Runtime, trapping: bool) -> None:
    """Only an explicit kill is untrappable."""
    partner = await runtime.start(TrappingHost() if trapping else Host())
    target = await runtime.start(Host())
    await do(partner, target.link)
    await target.stop(KILL)
    if trapping:
        await do(partner, lambda: None)
        assert actor_of(partner).seen == [Exit(target, KILL)]
    else:
        assert await partner.wait_exit() == KILL


async def test_links_to_oneself_to_the_dead_and_undone(runtime: Runtime) -> None:
    """The corners of the rule."""
    host, dead, partner = [await runtime.start(kind()) for kind in (TrappingHost, Host, Host)]
    dead.kill()
    await dead.wait_exit()
    await do(host, host.link)
    await do(host, dead.link)
    await do(host, partner.link)
    await do(host, partner.link)
    await do(host, partner.unlink)
    await do(host, partner.unlink)
    partner.kill()
    await partner.wait_exit()
    await do(host, lambda: None)
    assert actor_of(host).seen == [Exit(dead, NO_PROCESS)]
    brave = await runtime.start(Host())
    with pytest.raises(ActorExited):
        await do(brave, dead.link)
    assert brave.exit_reason == NO_PROCESS


async def test_names_are_free_before_anybody_hears_of_the_death(runtime: Runtime) -> None:
    """Links, monitors and those who wait can all take the name."""
    owner = await runtime.start(Host(), name="n")
    seen: list[object] = []

    class Watcher(TrappingHost):
        async def handle_info(self, message: object) -> None:
            seen.append((type(message), self.runtime.whereis("n"), "n" in self.runtime._names))

    watcher = await runtime.start(Watcher())
    await do(watcher, owner.monitor)
    await do(watcher, owner.link)
    owner._process.on_dead(lambda: seen.append("n" in runtime._names))
    owner.kill()
    await owner.wait_exit()
    await do(watcher, lambda: None)
    assert seen == [False, (Exit, None, False), (Down, None, False)]


async def test_rule_4_c_pending_calls_fail_before_links_and_monitors_hear(runtime: Runtime) -> None:
    """Who called knows first, and does not have to guess from a Down."""
    target, caller = await runtime.start(Host()), await runtime.start(TrappingHost())
    order: list[str] = []

    class Watcher(TrappingHost):
        async def handle_info(self, message: object) -> None:
            order.append("down")

    watcher = await runtime.start(Watcher())
    await do(watcher, target.monitor)

    async def ask() -> None:
        try:
            await target.call(runtime.loop.create_future, timeout=None)
        except ActorExited:
            order.append("failed")

    task = actor_of(caller).spawn_task(ask)
    await do(caller, lambda: None)
    target.kill()
    await task.wait_exit()
    await do(watcher, lambda: None)
    assert order == ["failed", "down"]


async def test_only_actors_watch_and_link(runtime: Runtime) -> None:
    """A task has no mailbox, and code outside has no process at all; both are told what to do instead."""
    target = await runtime.start(Host())
    for action in (target.monitor, target.link, target.unlink, lambda: target.demonitor(1)):
        with pytest.raises(RuntimeError, match="wait_exit"):
            action()
    tasks = await runtime.start(TaskSupervisor())

    async def monitor() -> None:
        target.monitor()

    reason = await tasks._process.spawn_task(monitor).wait_exit()
    assert isinstance(reason, Crashed)
    assert "no mailbox" in str(reason)


async def test_a_watcher_that_dies_leaves_nothing_on_what_it_watched(runtime: Runtime) -> None:
    """A service is watched by thousands, one after the other."""
    target = await runtime.start(Host())
    for _ in range(3):
        watcher = await runtime.start(Host())
        await do(watcher, target.monitor)
        await do(watcher, target.link)
        await watcher.stop()
    assert not target._process._watchers
    assert not target._process._links
