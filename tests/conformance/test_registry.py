"""Keys to processes: the cases of Elixir's RegistryTest."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import pytest

from dspex.errors import ActorExited, AlreadyRegistered
from dspex.runtime import ActorRef, Entry, Registry, Runtime
from tests.conformance.kids import Host, actor_of


async def do(host: ActorRef, action: Callable[..., Any], *args: Any) -> Any:
    async def doing() -> Any:
        return action(*args)

    return await host.call(doing)


async def test_p63_a_unique_key_has_one_owner(runtime: Runtime) -> None:
    """Registering twice is refused even to the owner, so that nobody overwrites a value by accident."""
    registry, owner, other = Registry(), await runtime.start(Host()), await runtime.start(Host())
    await do(owner, registry.register, "k", 1)

    def refused() -> object:
        with pytest.raises(AlreadyRegistered) as caught:
            registry.register("k", 2)
        return caught.value.owner

    assert await do(other, refused) == owner
    assert await do(owner, refused) == owner
    assert registry.lookup("k") == (Entry(owner, 1),)
    assert registry.keys(owner) == ("k",)
    assert registry.keys(other) == ()


@pytest.mark.parametrize("key", ["k", 7, ("user", 7)])
async def test_who_is_refused_reads_the_key_as_it_is(runtime: Runtime, key: Hashable) -> None:
    """Quoted once where it is a string."""
    registry, owner = Registry(), await runtime.start(Host(), label="owner")
    await do(owner, registry.register, key)

    def refused() -> tuple[object, str]:
        with pytest.raises(AlreadyRegistered) as caught:
            registry.register(key)
        return caught.value.name, str(caught.value)

    assert await do(owner, refused) == (key, f"{key!r} is already registered by <owner>")


async def test_p63_a_duplicate_key_has_many(runtime: Runtime) -> None:
    """The same owner may hold several entries."""
    registry, owner, other = Registry("duplicate"), await runtime.start(Host()), await runtime.start(Host())
    for host, value in ((owner, 1), (other, 2), (owner, 3)):
        await do(host, registry.register, "k", value)
    assert registry.lookup("k") == (Entry(owner, 1), Entry(other, 2), Entry(owner, 3))
    assert len(registry) == 3
    await do(owner, registry.unregister, "k")
    assert registry.lookup("k") == (Entry(other, 2),)


async def test_p64_a_dead_owner_holds_nothing(runtime: Runtime) -> None:
    """Its key can be taken in the very tick of its death, and the tables are empty after it."""
    registry, owner, heir = Registry(), await runtime.start(Host()), await runtime.start(Host())
    await do(owner, registry.register, "k", 1)

    def take_over() -> None:
        owner.kill()
        assert registry.lookup("k") == ()
        registry.register("k", 2)

    await do(heir, take_over)
    await owner.wait_exit()
    assert registry.lookup("k") == (Entry(heir, 2),)
    await heir.stop()
    assert registry.lookup("k") == ()
    assert (len(registry), registry._owned, registry._entries) == (0, {}, {})


async def test_p78_dispatch_runs_in_the_caller(runtime: Runtime) -> None:
    """Not at all without entries; with all of them at once; its exception is the caller's."""
    registry, seen = Registry("duplicate"), list[tuple[Entry, ...]]()
    registry.dispatch("unused", seen.append)
    assert seen == []
    hosts = [await runtime.start(Host()) for _ in range(2)]
    for number, host in enumerate(hosts):
        await do(host, registry.register, "k", number)
    registry.dispatch("k", seen.append)
    assert seen == [(Entry(hosts[0], 0), Entry(hosts[1], 1))]
    with pytest.raises(ZeroDivisionError):
        registry.dispatch("k", lambda entries: 1 // 0)


async def test_keys_are_compared_strictly(runtime: Runtime) -> None:
    """To Python 1, 1.0 and True are equal; to who chose them as keys they are not."""
    registry, host = Registry(), await runtime.start(Host())
    for key in (1, 1.0, True):
        await do(host, registry.register, key, key)
    assert [registry.lookup(key)[0].value for key in (1, 1.0, True)] == [1, 1.0, True]
    assert len(registry) == 3


async def test_unregistering_what_is_not_registered_is_fine(runtime: Runtime) -> None:
    """The caller wants it gone, and it is."""
    registry, host = Registry(), await runtime.start(Host())
    await do(host, registry.unregister, "k")
    await do(host, registry.register, "k")
    await do(host, registry.unregister, "k")
    await do(host, registry.register, "k")
    assert len(registry) == 1


async def test_who_may_register(runtime: Runtime) -> None:
    """A process, for itself, while it lives."""
    with pytest.raises(ValueError, match="duplicates"):
        Registry("duplicates")  # type: ignore[arg-type]  # the point
    registry, host = Registry(), await runtime.start(Host())
    with pytest.raises(RuntimeError, match="process"):
        registry.register("k")

    def dying() -> None:
        host.kill()
        with pytest.raises(ActorExited):
            registry.register("k")
        actor_of(host).refused = True

    with pytest.raises(ActorExited):
        await do(host, dying)
    assert actor_of(host).refused
    assert len(registry) == 0
