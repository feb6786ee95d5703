"""Via names, values, listeners and locks: the rest of Elixir's RegistryTest."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from dspex.errors import ActorExited, AlreadyRegistered, CallCycle, NoSuchActor, NotRegistered, SpecError, StartFailed
from dspex.runtime import (
    ActorRef,
    Continue,
    Entry,
    ExitReason,
    Idle,
    Ignore,
    Registered,
    Registration,
    Registry,
    Runtime,
    Stop,
    Unregistered,
)
from dspex.testing import VirtualClock
from tests.conformance.kids import Host, Kid, Nursery, actor_of


async def do(host: ActorRef, action: Callable[[], Any]) -> Any:
    """Have a host do something itself."""

    async def doing() -> Any:
        result = action()
        return await result if isinstance(result, Awaitable) else result

    return await host.call(doing, timeout=None)


# --- via names ----------------------------------------------------------------------------------------------


async def test_p64_a_via_name_has_one_holder(runtime: Runtime) -> None:
    """The second start is refused before anything of it has run; after the holder's death the name is free."""
    registry, nursery = Registry(), Nursery()
    via = registry.via("k", "a value")
    first = await runtime.start(Kid("first", nursery), via=via)
    assert via.whereis() == first
    assert registry.lookup("k") == (Entry(first, "a value"),)
    before = len(runtime.processes)
    with pytest.raises(AlreadyRegistered) as caught:
        await runtime.start(Kid("second", nursery), via=via)
    assert caught.value.owner == first
    assert (nursery.log, len(runtime.processes)) == (["+first"], before)
    first.kill()
    await first.wait_exit()
    assert registry.lookup("k") == ()
    second = await runtime.start(Kid("third", nursery), via=via)
    assert via.whereis() == second
    assert registry.keys(second) == ("k",)


async def test_p64_messages_go_to_whoever_holds_the_key(runtime: Runtime) -> None:
    """And to nobody when nobody does."""
    registry = Registry()
    via = registry.via(("user", 7))
    with pytest.raises(NoSuchActor, match="user"):
        await via.call("hello")
    assert not via.cast("x")
    assert not via.send("x")
    host = await runtime.start(Host(), via=via)

    async def answer() -> int:
        return 7

    assert await via.call(answer) == 7
    assert via.send("info")
    await via.call(answer)
    assert actor_of(host).seen == ["info"]
    nursery = Nursery()
    kid = await runtime.start(Kid("kid", nursery), via=registry.via("kid"))
    assert registry.via("kid").cast(Stop().reason)
    assert await kid.wait_exit() == Stop().reason


async def test_a_via_name_is_held_during_init_and_given_back_when_it_fails(runtime: Runtime) -> None:
    """Two starts at once: one wins, and when its init fails the name is free."""
    registry, gate = Registry(), asyncio.Event()

    class Slow(Host):
        async def init(self) -> Continue | Idle | Ignore | Stop | None:
            await gate.wait()
            raise ValueError("no")

    first = asyncio.ensure_future(runtime.start(Slow(), via=registry.via("k")))
    await asyncio.sleep(0)
    with pytest.raises(AlreadyRegistered):
        await runtime.start(Host(), via=registry.via("k"))
    gate.set()
    with pytest.raises(StartFailed):
        await first
    assert (len(registry), registry._owned) == (0, {})
    await runtime.start(Host(), via=registry.via("k"))


def test_a_duplicate_key_names_nobody() -> None:
    """Nor has it one value."""
    registry = Registry("duplicate")
    with pytest.raises(SpecError, match="unique"):
        registry.via("k")
    with pytest.raises(SpecError, match="unique"):
        registry.update_value("k", str)


# --- all keys -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["unique", "duplicate"])
async def test_p73_keys_select_and_count_see_the_living(runtime: Runtime, kind: Any) -> None:
    """The oldest key first; of who dies nothing is shown, be its entries still there."""
    registry = Registry(kind)
    first, second = await runtime.start(Host()), await runtime.start(Host())
    assert (registry.keys(), registry.select(), registry.count()) == ((), (), 0)
    await do(first, lambda: registry.register("a", 1))
    await do(second, lambda: registry.register(1, 2))
    await do(second, lambda: registry.register(1.0, 3))
    expected = [Registration("a", first, 1), Registration(1, second, 2), Registration(1.0, second, 3)]
    if kind == "duplicate":
        await do(second, lambda: registry.register("a", 4))
        expected.insert(1, Registration("a", second, 4))
    assert registry.keys() == ("a", 1, 1.0)
    assert list(map(type, registry.keys())) == [str, int, float]
    assert registry.select() == tuple(expected)
    assert registry.select(lambda key, ref, value: ref == second and value < 4) == tuple(
        each for each in expected if each.ref == second and each.value < 4
    )
    assert registry.select(lambda key, ref, value: isinstance(key, str) and value == 1) == (expected[0],)
    assert registry.count(lambda key, ref, value: value > 1) == len(expected) - 1

    def dying() -> object:
        second.kill()
        return registry.keys(), registry.count(), registry.count(lambda key, ref, value: ref == second)

    with pytest.raises(ActorExited):
        await do(second, dying)
    assert (registry.keys(), registry.select(), registry.count()) == (("a",), (Registration("a", first, 1),), 1)


async def test_a_filter_may_do_what_it_likes(runtime: Runtime) -> None:
    """It sees what there was when it began; what it raises is its caller's."""
    registry, host = Registry(), await runtime.start(Host())
    for key in "abc":
        await do(host, lambda key=key: registry.register(key))  # type: ignore[misc]  # a lambda's defaults have no types

    def where(key: str, ref: object, value: object) -> bool:
        registry.unregister(key)
        registry.register(f"{key}{key}")
        return key != "b"

    found = await do(host, lambda: registry.select(where))
    assert [each.key for each in found] == ["a", "c"]
    assert registry.keys() == ("aa", "bb", "cc")
    with pytest.raises(ZeroDivisionError):
        registry.select(lambda key, ref, value: 1 // 0)


# --- values and listeners -----------------------------------------------------------------------------------


async def test_p63_the_owner_updates_its_value(runtime: Runtime) -> None:
    """Nobody else may, and a function that raises changes nothing."""
    registry, owner, other = Registry(), await runtime.start(Host()), await runtime.start(Host())
    await do(owner, lambda: registry.register("k", 1))
    assert await do(owner, lambda: registry.update_value("k", lambda value: value + 1)) == 2
    assert registry.lookup("k") == (Entry(owner, 2),)

    def refused() -> None:
        for key in ("k", "unknown"):
            with pytest.raises(NotRegistered, match=key):
                registry.update_value(key, lambda _: 3)

    await do(other, refused)

    def failing() -> None:
        with pytest.raises(ZeroDivisionError):
            registry.update_value("k", lambda value: value // 0)

    await do(owner, failing)
    assert registry.lookup("k") == (Entry(owner, 2),)

    def dying() -> None:
        owner.kill()
        with pytest.raises(ActorExited):
            registry.update_value("k", lambda _: 4)

    with pytest.raises(ActorExited):
        await do(owner, dying)


async def test_listeners_hear_of_calls_only(runtime: Runtime, clock: VirtualClock) -> None:
    """A death is not a call: who wants to know of it monitors."""
    listener = await runtime.start(Host())
    named = await runtime.start(Host(), name="listener")
    registry = Registry(listeners=[listener, runtime.named("listener"), runtime.named("nobody")])
    owner = await runtime.start(Host(), via=registry.via("via", 0))
    await do(owner, lambda: registry.register("k", 1))
    await do(owner, lambda: registry.register("l", 2))
    await do(owner, lambda: registry.unregister("k"))
    await do(owner, lambda: registry.unregister("k"))
    owner.kill()
    await clock.settle()
    expected = [
        Registered(registry, "via", owner, 0),
        Registered(registry, "k", owner, 1),
        Registered(registry, "l", owner, 2),
        Unregistered(registry, "k", owner),
    ]
    assert actor_of(listener).seen == actor_of(named).seen == expected


# --- locks --------------------------------------------------------------------------------------------------


async def test_p74_one_at_a_time_for_each_key(runtime: Runtime, clock: VirtualClock) -> None:
    """Another key does not wait; the next of the same key goes on when the first has ended, in order."""
    registry, order, gate = Registry(), list[str](), asyncio.Event()
    hosts = [await runtime.start(Host()) for _ in range(4)]

    def locked(name: str, wait: bool) -> Callable[[], Awaitable[str]]:
        async def inside() -> str:
            order.append(f"+{name}")
            if wait:
                await gate.wait()
            order.append(f"-{name}")
            return name

        return inside

    works = [("a", "k", True), ("b", "k", False), ("c", "other", False), ("d", "k", False)]
    calls = []
    for host, (name, key, wait) in zip(hosts, works, strict=True):
        calls.append(asyncio.ensure_future(do(host, lambda k=key, n=name, w=wait: registry.lock(k, locked(n, w)))))  # type: ignore[misc]  # a lambda's defaults have no types
        await clock.settle()
    assert order == ["+a", "+c", "-c"]
    gate.set()
    assert await asyncio.gather(*calls) == ["a", "b", "c", "d"]
    assert order == ["+a", "+c", "-c", "-a", "+b", "-b", "+d", "-d"]
    assert (len(registry._locks), registry._locks._queues) == (0, {})


@pytest.mark.parametrize("end", ["raises", "killed", "fenced", "waiter cancelled"])
async def test_p74_a_lock_does_not_outlive_its_holder(runtime: Runtime, clock: VirtualClock, end: str) -> None:
    """However the holder ends, be its code still running."""
    registry, gate, held = Registry(), asyncio.Event(), asyncio.Event()
    holder, other, third = [await runtime.start(Host()) for _ in range(3)]
    stubborn = end == "fenced"

    async def hold() -> None:
        held.set()
        while True:
            try:
                await gate.wait()
                break
            except asyncio.CancelledError:
                if not stubborn:
                    raise
        raise ValueError("raised inside")

    async def inside() -> str:
        return "done"

    holding = asyncio.ensure_future(do(holder, lambda: registry.lock("k", hold)))
    await held.wait()
    waiting = asyncio.ensure_future(do(other, lambda: registry.lock("k", inside)))
    behind = asyncio.ensure_future(do(third, lambda: registry.lock("k", inside)))
    await clock.settle()
    assert not waiting.done()
    if end == "waiter cancelled":
        other.kill()
        with pytest.raises(ActorExited):
            await waiting
        gate.set()
    elif end == "raises":
        gate.set()
        assert await waiting == "done"
    else:
        holder.kill()
        await clock.advance(1)
        assert await waiting == "done"
    assert await behind == "done"
    stubborn = False
    gate.set()
    with pytest.raises(ActorExited):
        await holding
    await clock.settle()
    assert registry._locks._queues == {}


async def test_rule_4_g_a_lock_that_is_granted_to_somebody_cancelled_goes_on(runtime: Runtime) -> None:
    """In the very tick in which it was granted: the cancellation was queued before who is next could wake."""
    registry, called = Registry(), list[str]()

    async def first() -> None:
        await asyncio.sleep(0)
        asyncio.get_running_loop().call_soon(second.cancel)

    holding = asyncio.ensure_future(registry.lock("k", first))
    second = asyncio.ensure_future(registry.lock("k", lambda: called.append("second")))
    third = asyncio.ensure_future(registry.lock("k", lambda: called.append("third")))
    await asyncio.wait([holding, second, third])
    assert second.cancelled()
    assert called == ["third"]
    assert registry._locks._queues == {}


async def test_a_lock_inside_itself_is_a_cycle(runtime: Runtime) -> None:
    """It would wait for itself for ever; another key is fine, and so is a plain function."""
    registry, host = Registry(), await runtime.start(Host())

    async def nested() -> str:
        with pytest.raises(CallCycle, match="lock"):
            await registry.lock("k", lambda: None)
        return await registry.lock("other", lambda: "plain")

    assert await do(host, lambda: registry.lock("k", nested)) == "plain"
    assert await registry.lock("k", nested) == "plain"


async def test_the_dying_get_no_lock(runtime: Runtime) -> None:
    """Its actions under the name have no effect anyway."""
    registry, host, called = Registry(), await runtime.start(Host()), list[ExitReason | None]()

    async def die() -> None:
        host.kill()
        with pytest.raises(ActorExited):
            await registry.lock("k", lambda: called.append(None))
        called.append(host.exit_reason)

    with pytest.raises(ActorExited):
        await do(host, die)
    assert called == [host.exit_reason]
