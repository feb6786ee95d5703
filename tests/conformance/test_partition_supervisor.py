"""Keys distributed among equal children: the cases of Elixir's PartitionSupervisorTest."""

from __future__ import annotations

import enum
import json
import subprocess
import sys
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.errors import ActorExited, ChildError, NoSuchActor, SpecError, StartFailed
from dspex.runtime import (
    SHUTDOWN,
    ActorRef,
    ChildCounts,
    ChildSpec,
    Other,
    PartitionSupervisor,
    PartitionSupervisorRef,
    Restart,
    Runtime,
)
from dspex.runtime._partition_supervisor import stable_hash
from dspex.testing import VirtualClock
from tests.conformance.kids import Kid, Nursery, actor_of, ends, kids_of


class Colour(enum.Enum):
    RED = 1
    GREEN = 2


async def partitions(runtime: Runtime, spec: ChildSpec, count: int, **options: Any) -> PartitionSupervisorRef:
    ref = await runtime.start(PartitionSupervisor(spec, partitions=count, **options))
    return cast("PartitionSupervisorRef", ref)


async def ids(ref: PartitionSupervisorRef) -> dict[ActorRef | None, int]:
    return {child: int(name) for name, child in (await kids_of(ref)).items()}


async def test_p67_an_int_is_its_own_hash(runtime: Runtime) -> None:
    """Its absolute value, that is, modulo the number of partitions."""
    ref = await partitions(runtime, Nursery().spec("k"), 3)
    numbers = await ids(ref)
    assert [numbers[ref.route(key)] for key in (0, 1, 2, 3, -1)] == [0, 1, 2, 0, 1]
    assert [ref.partition(key) for key in (0, 1, 2, 3, -1)] == [0, 1, 2, 0, 1]
    assert sorted(numbers.values()) == [0, 1, 2]


async def test_p67_each_partition_may_have_arguments_of_its_own(runtime: Runtime) -> None:
    """Made from those of the spec, and the same again after a restart."""
    nursery = Nursery()
    ref = await partitions(
        runtime, nursery.spec("k"), 3, with_arguments=lambda args, number: (f"{args[0]}{number}", args[1])
    )
    assert nursery.take() == ["+k0", "+k1", "+k2"]
    await ends(ref.route(1), Other("boom"))
    assert await ref.count_children() == ChildCounts(3, 3, 0, 3)
    assert nursery.take() == ["-k1", "+k1"]


@pytest.mark.parametrize(
    ("spec", "count", "field"),
    [(None, 1, "spec"), (Kid, 1, "spec"), (ChildSpec("k", Kid), 0, "partitions"), (ChildSpec("k", Kid), True, "parti")],
)
async def test_p67_what_cannot_be_partitioned(spec: Any, count: int, field: str) -> None:
    """The error names the argument."""
    with pytest.raises(SpecError, match=field):
        PartitionSupervisor(spec, partitions=count)


async def test_p67_resizing_starts_and_stops_the_tail(runtime: Runtime) -> None:
    """The specs stay; keys go to those that run."""
    nursery = Nursery()
    numbered = nursery.spec("k")
    ref = await partitions(runtime, numbered, 8, with_arguments=lambda args, number: (f"{number}", args[1]))
    for size in (*range(8, -1, -1), 0, *range(9), 8, 3, 5):
        await ref.resize(size)
        assert await ref.count_children() == ChildCounts(8, size, 0, 8)
        assert ref.size == size
        if size:
            found = await ids(ref)
            assert {found[ref.route(key)] for key in range(100)} == set(range(size))
    await ref.resize(0)
    with pytest.raises(NoSuchActor):
        ref.route(1)
    for wrong in (9, -1, 1.0, True):
        with pytest.raises(SpecError, match="size"):
            await ref.resize(wrong)  # type: ignore[arg-type]  # the point
    nursery.take()
    await ref.resize(3)
    await ref.resize(1)
    assert nursery.take() == ["+0", "+1", "+2", "-2", "-1"]


async def test_a_resize_that_fails_keeps_what_started(runtime: Runtime) -> None:
    """The others can be tried again."""
    nursery = Nursery()
    ref = await partitions(runtime, nursery.spec("k"), 3, with_arguments=lambda args, number: (f"{number}", args[1]))
    await ref.resize(0)
    nursery.failing["1"] = [RuntimeError("not now")]
    with pytest.raises(StartFailed):
        await ref.resize(3)
    assert ref.size == 1
    await ref.resize(3)
    assert await ref.count_children() == ChildCounts(3, 3, 0, 3)


async def test_partitions_share_three_restarts_in_five_seconds(runtime: Runtime, clock: VirtualClock) -> None:
    """The fourth is one too many, whichever partition it is."""
    ref = await partitions(runtime, Nursery().spec("k"), 4)
    for number in range(3):
        await ends(ref.route(number), Other("boom"))
        await clock.settle()
    assert await ref.count_children() == ChildCounts(4, 4, 0, 4)
    await ends(ref.route(3), Other("boom"))
    assert await ref.wait_exit() == SHUTDOWN
    with pytest.raises(NoSuchActor):
        ref.route(0)
    with pytest.raises(NoSuchActor):
        ref.partition(0)


async def test_one_partition_falls_and_the_others_stand(runtime: Runtime, clock: VirtualClock) -> None:
    """While it is down its keys have nobody to go to, unless they go by name, and wait."""
    ref = await partitions(runtime, ChildSpec("k", Kid, ("k", Nursery()), name="k"), 2)
    zero, one = ref.route(0), ref.route(1)
    zero.kill()
    with pytest.raises(NoSuchActor):
        ref.route(0)
    assert ref.route(1) == one
    assert await ref.route_named(0).call("hello") == "hello"
    assert ref.route(0) != zero
    assert ref.route_named(1).name == "k/1"


async def test_the_number_of_partitions_is_fixed(runtime: Runtime) -> None:
    """None is added; a temporary one that has ended comes back with a resize."""
    ref = await partitions(runtime, Nursery().spec("k", restart=Restart.TEMPORARY), 2)
    with pytest.raises(ChildError, match="fixed_partitions"):
        await ref.start_child(Nursery().spec("x"))
    await ends(ref.route(1), Other("boom"))
    with pytest.raises(NoSuchActor):
        ref.route(1)
    await ref.resize(1)
    await ref.resize(2)
    assert ref.route(1).alive
    with pytest.raises(SpecError, match="name"):
        ref.route_named(1)


async def test_by_default_there_is_one_for_each_core(runtime: Runtime) -> None:
    """At least one, wherever it runs."""
    ref = await runtime.start(PartitionSupervisor(Nursery().spec("k")))
    assert isinstance(ref, PartitionSupervisorRef)
    assert ref.size == len(await ref.which_children()) == actor_of(ref).partitions >= 1


async def test_a_partition_that_cannot_start_fails_them_all(runtime: Runtime) -> None:
    """As any child of any supervisor."""
    nursery = Nursery()
    nursery.failing["k"] = [None, RuntimeError("no")]
    with pytest.raises((StartFailed, ActorExited)):
        await partitions(runtime, nursery.spec("k"), 2)
    assert nursery.log == ["+k", "-k"]


KEYS: list[Any] = ["a", "", "\ud800", b"a", b"", 1.5, None, (), ("a", 1), ("a", (b"x", None)), Colour.RED, Colour.GREEN]


def test_hashes_are_the_same_in_every_process() -> None:
    """The built-in one is not."""
    keys = ["user-7", "ünï", ("a", 1, None), -2.5]
    code = "import json,sys; from dspex.runtime._partition_supervisor import stable_hash as h; print(json.dumps("
    code += "[h('user-7'), h('\\u00fcn\\u00ef'), h(('a', 1, None)), h(-2.5)]))"
    for seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True, env={"PYTHONHASHSEED": seed}
        )
        assert json.loads(done.stdout) == [stable_hash(key) for key in keys]
    assert len({stable_hash(key) for key in KEYS}) == len(KEYS)


@pytest.mark.parametrize("key", [[], {}, object(), ("a", []), {1}])
def test_a_key_without_a_stable_hash_is_refused(key: object) -> None:
    """An address in memory says nothing about the key."""
    with pytest.raises(SpecError, match="key"):
        stable_hash(key)


scalars = st.none() | st.booleans() | st.integers() | st.text() | st.binary()
keys_strategy = st.recursive(scalars, lambda inner: st.lists(inner, max_size=3).map(tuple))


@given(keys_strategy, keys_strategy)
def test_equal_keys_and_only_they_have_equal_hashes(one: object, two: object) -> None:
    assert (stable_hash(one) == stable_hash(two)) == (one == two)
