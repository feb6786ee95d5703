"""Groups of actors: the cases of OTP's pg_SUITE."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dspex.errors import ActorExited, NoSuchActor, NotRegistered
from dspex.runtime import ActorRef, GroupChange, Groups, Runtime
from dspex.testing import VirtualClock
from tests.conformance.kids import Host, actor_of


async def do(host: ActorRef, action: Callable[..., Any], *args: Any) -> Any:
    async def doing() -> Any:
        return action(*args)

    return await host.call(doing)


async def hosts(runtime: Runtime, count: int) -> list[ActorRef]:
    return [await runtime.start(Host()) for _ in range(count)]


async def test_p69_joining_again_counts(runtime: Runtime) -> None:
    """Once, then twice in one call, is three times; the death of a member removes all of it."""
    groups = Groups()
    one, two = await hosts(runtime, 2)
    groups.join("g", one)
    groups.join("g", one, one)
    assert groups.members("g") == (one, one, one)
    with pytest.raises(NotRegistered, match="unknown"):
        groups.leave("unknown", one)
    groups.join("g", two)
    await one.stop()
    assert groups.members("g") == (two,)
    await two.stop()
    assert groups.members("g") == ()
    assert groups.which_groups() == ()
    assert [groups._members, groups._joined, groups._monitors, groups._watching] == [{}, {}, {}, {}]


async def test_p69_as_many_leaves_as_joins(runtime: Runtime) -> None:
    """Then it is a member no longer, and the group is not there."""
    groups = Groups()
    one, two = await hosts(runtime, 2)
    groups.join("g", one, one, two)
    groups.leave("g", one)
    assert groups.members("g") == (one, two)
    groups.leave("g", one, one, two)  # more than it has is fine, as long as one has something
    assert groups.which_groups() == ()
    with pytest.raises(NotRegistered) as caught:
        groups.leave("g", one, two)
    assert str(one) in str(caught.value)


async def test_an_actor_joins_and_leaves_itself(runtime: Runtime) -> None:
    """Without a ref the caller is meant; outside of actors there is none."""
    (host,) = await hosts(runtime, 1)
    await do(host, runtime.groups.join, "g")
    assert runtime.groups.members("g") == (host,)
    await do(host, runtime.groups.leave, "g")
    assert runtime.groups.members("g") == ()
    for action in (runtime.groups.join, runtime.groups.leave, runtime.groups.monitor):
        with pytest.raises(RuntimeError, match="handler"):
            action("g")


async def test_every_instance_is_a_scope(runtime: Runtime) -> None:
    """Of the same names, and 1 is not 1.0."""
    one, other = Groups(), Groups()
    (host,) = await hosts(runtime, 1)
    one.join(1, host)
    assert (one.members(1), one.members(1.0), other.members(1)) == ((host,), (), ())
    assert one.which_groups() == (1,)


async def test_a_dead_actor_cannot_join(runtime: Runtime) -> None:
    """Nor can anybody in the same call; and the dying change nothing."""
    groups = Groups()
    live, dead, dying = await hosts(runtime, 3)
    await dead.stop()
    with pytest.raises(NoSuchActor):
        groups.join("g", live, dead)
    assert groups.which_groups() == ()

    refused: list[str] = []

    def die() -> None:
        dying.kill()
        for action in (groups.join, groups.leave, groups.monitor):
            with pytest.raises(ActorExited):
                action("g", *((live,) if action != groups.monitor else ()))
            refused.append(action.__name__)

    with pytest.raises(ActorExited):
        await do(dying, die)
    assert refused == ["join", "leave", "monitor"]
    assert groups.which_groups() == ()


async def test_the_killed_are_no_members_from_that_moment(runtime: Runtime) -> None:
    """Even before their end has been cleared up."""
    groups = Groups()
    one, two = await hosts(runtime, 2)
    groups.join("g", one, two)
    groups.join("h", one)
    one.kill()
    assert groups.members("g") == (two,)
    assert groups.which_groups() == ("g",)


async def test_changes_are_told(runtime: Runtime, clock: VirtualClock) -> None:
    """Of one group or of all, in order, deaths included, as many as they were."""
    groups = Groups()
    watcher, one, two = await hosts(runtime, 3)
    groups.join("g", one)
    number, members = await do(watcher, groups.monitor, "g")
    everything, all_members = await do(watcher, groups.monitor_all)
    assert members == (one,)
    assert all_members == {"g": (one,)}
    groups.join("g", two, one)
    groups.join("h", two)
    groups.leave("g", two)
    one.kill()
    await one.wait_exit()
    await clock.settle()
    told = [
        GroupChange(0, "g", "join", (two, one)),
        GroupChange(0, "h", "join", (two,)),
        GroupChange(0, "g", "leave", (two,)),
        GroupChange(0, "g", "leave", (one, one)),
    ]
    seen = actor_of(watcher).seen
    for monitor, expected in ((number, [each for each in told if each.group == "g"]), (everything, told)):
        mine = [(each.group, each.kind, each.refs) for each in seen if each.monitor == monitor]
        assert mine == [(each.group, each.kind, each.refs) for each in expected]


async def test_who_watches_no_more_hears_nothing(runtime: Runtime, clock: VirtualClock) -> None:
    """Not even what was queued already; and it must be who watches who says so."""
    groups = Groups()
    watcher, other, one = await hosts(runtime, 3)
    number, _ = await do(watcher, groups.monitor, "g")
    kept, _ = await do(watcher, groups.monitor, "g")

    def forget() -> None:
        groups.join("g", one)
        groups.demonitor(number)
        groups.demonitor(number)

    await do(other, groups.demonitor, kept)
    await do(watcher, forget)
    await clock.settle()
    assert [each.monitor for each in actor_of(watcher).seen] == [kept]
    await watcher.stop()
    assert (groups._monitors, groups._watching) == ({}, {})
    groups.leave("g", one)
