"""The shared tier against a model: whatever several owners do, in any order, each key has one leader and one value."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dspex.runtime import Backoff, Runtime, Supervisor
from dspex.services.cache.gateway import tier_in
from dspex.services.cache.postgres_tier import PostgresTier
from dspex.services.cache.shared_tier import NEWEST, NO_LEASE, Claim, Granted, Held, Put, SharedTier, Stored
from dspex.services.shared.address import Shared
from dspex.services.shared.gateway import SharedGateway
from tests.support.stores import PostgresServer, RedisServer

KEYS = ("a", "b")
OWNERS = ("one", "two")
LONG = 60.0

operations = st.one_of(
    st.tuples(st.just("claim"), st.sampled_from(KEYS), st.sampled_from(OWNERS), st.booleans()),
    st.tuples(st.just("put"), st.sampled_from(KEYS), st.sampled_from(OWNERS), st.integers(0, 3)),
    st.tuples(st.just("late put"), st.sampled_from(KEYS), st.sampled_from(OWNERS), st.integers(0, 3)),
    st.tuples(st.just("put without"), st.sampled_from(KEYS), st.sampled_from(OWNERS), st.integers(0, 3)),
    st.tuples(st.just("refresh"), st.sampled_from(KEYS), st.sampled_from(OWNERS), st.integers(0, 3)),
    st.tuples(st.just("release"), st.sampled_from(KEYS), st.sampled_from(OWNERS), st.booleans()),
    st.tuples(st.just("renew"), st.sampled_from(KEYS), st.sampled_from(OWNERS), st.booleans()),
    st.tuples(st.just("remove"), st.sampled_from(KEYS), st.sampled_from(OWNERS), st.integers(0, 3)),
)


@dataclass
class Place:
    """The model of one key: ranks stand for fences, the newest of which is the largest."""

    value: str | None = None
    rank: float = -1.0
    holder: tuple[str, int] | None = None
    ended: list[tuple[str, int]] = field(default_factory=list)


def text(number: int) -> str:
    return f'{{"v":1,"number":{number}}}'


def number_of(envelope: str) -> str:
    return envelope.rpartition(",")[2]


class Machine:
    """Does each operation to the tier and to the model, and compares."""

    def __init__(self, tier: SharedTier) -> None:
        self.tier = tier
        self.prefix = secrets.token_hex(4)
        self.places = {key: Place() for key in KEYS}
        self.newest = float(2**60)  # a refresh is newer than every fence so far, and older than those to come

    async def do(self, operation: str, key: str, owner: str, more: Any) -> None:
        place, name = self.places[key], self.prefix + key
        mine = place.holder if place.holder is not None and place.holder[0] == owner else None
        if operation == "claim":
            (found,) = await self.tier.claim([Claim(name, more)], owner, LONG)
            if more and place.value is not None:
                assert isinstance(found, Stored)
                assert number_of(found.envelope) == number_of(place.value)
            elif place.holder is not None:
                assert isinstance(found, Held)
                assert 0 < found.seconds <= LONG
            else:
                assert isinstance(found, Granted)
                assert not place.ended or found.fence > max(fence for _, fence in place.ended)
                assert found.fence >= place.rank or place.value is None
                place.holder = (owner, found.fence)
        elif operation == "put" and mine is not None:
            await self.put(place, name, owner, mine[1], more)
            place.ended.append(mine)
            place.holder = None
        elif operation == "late put" and place.ended:
            late_owner, fence = place.ended[0]
            await self.put(place, name, late_owner, fence, more)
        elif operation == "put without":
            await self.put(place, name, owner, NO_LEASE, more)
        elif operation == "refresh":
            await self.tier.put([Put(name, text(more), NEWEST)], owner)
            place.value = text(more)
            # Its fence is known to the store alone: newer than all there were, older than all that come.
            place.rank = max([fence for _, fence in place.ended], default=0)
            place.rank = max(place.rank, place.holder[1] if place.holder is not None else 0) + 0.5
        elif operation == "release":
            fence = place.holder[1] if place.holder is not None else 7
            await self.tier.release([(name, fence if more else fence - 1)], owner)
            if mine is not None and more:
                place.ended.append(mine)
                place.holder = None
        elif operation == "renew" and place.holder is not None:
            await self.tier.renew([(name, place.holder[1] if more else place.holder[1] - 1)], owner, LONG)
        elif operation == "remove":
            (stored,) = await self.tier.get([name])
            assert (stored is None) == (place.value is None)
            if stored is not None and number_of(stored) == number_of(text(more)):
                await self.tier.remove(name, stored)
                place.value, place.rank = None, -1.0
            else:
                await self.tier.remove(name, text(more))

    async def put(self, place: Place, name: str, owner: str, fence: int, number: int) -> None:
        await self.tier.put([Put(name, text(number), fence)], owner)
        if place.value is None or place.rank <= fence:
            place.value, place.rank = text(number), fence


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[SharedTier]:
    async with Runtime() as runtime:
        shared = Shared(url, namespace=secrets.token_hex(4), timeout=10.0)
        gateway = SharedGateway(runtime, shared, PostgresTier.parts)
        await runtime.start(Supervisor([gateway.spec()], backoff=Backoff()))
        yield tier_in(gateway)


def check(url: str) -> None:
    """Give many lists of operations to one open tier."""
    with asyncio.Runner() as runner:
        context = opened(url)
        tier = runner.run(context.__aenter__())
        try:

            @settings(deadline=None, max_examples=60, suppress_health_check=list(HealthCheck))
            @given(st.lists(operations, min_size=3, max_size=12))
            def every(steps: Sequence[tuple[str, str, str, Any]]) -> None:
                async def run() -> None:
                    machine = Machine(tier)
                    for step in steps:
                        await machine.do(*step)

                runner.run(run())

            every()
        finally:
            runner.run(context.__aexit__(None, None, None))


def test_redis_keeps_to_the_model(redis_server: RedisServer) -> None:
    check(redis_server.url)


def test_postgres_keeps_to_the_model(postgres_server: PostgresServer) -> None:
    check(postgres_server.url)


def test_a_file_keeps_to_the_model(tmp_path: Path) -> None:
    check(f"sqlite:///{tmp_path}/shared.db")
