"""The cache's shared tier on real servers: what is stored comes back, and one process at a time makes an answer."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex import App
from dspex.protocols.lm import Completion, LMResponse, Usage
from dspex.runtime import Backoff, Runtime, Supervisor
from dspex.services.cache.envelope import CacheEntry, decode_entry, encode_entry
from dspex.services.cache.gateway import tier_in
from dspex.services.cache.postgres_tier import PostgresTier
from dspex.services.cache.shared_tier import Claim, Granted, Put, SharedTier, Stored
from dspex.services.shared.address import Shared
from dspex.services.shared.gateway import SharedGateway
from dspex.simulator import FaultPlan, Latency, Simulator
from tests.support.programs import collect, until
from tests.support.stores import FileStore, Place, PostgresServer, RedisServer, Store

ASK = dspex.Predict("question -> answer", repair_turns=0)


@asynccontextmanager
async def tier_of(store: Place, namespace: str = "") -> AsyncIterator[SharedTier]:
    """Open the tier, with a namespace that nobody else has."""
    shared = Shared(store.url, namespace=namespace or secrets.token_hex(4), timeout=10.0)
    async with Runtime() as runtime:
        gateway = SharedGateway(runtime, shared, PostgresTier.parts)
        await runtime.start(Supervisor([gateway.spec()], backoff=Backoff()))
        yield tier_in(gateway)


def envelope(text: str) -> str:
    return encode_entry(CacheEntry(LMResponse((Completion(text),), Usage(1, 2), "rules-1"), 1.0))


def text_of(stored: object) -> str:
    assert isinstance(stored, Stored), stored
    entry = decode_entry(stored.envelope, 0.0)
    assert isinstance(entry, CacheEntry), entry
    assert isinstance(entry.value, LMResponse)
    return entry.value.completions[0].text


async def one(tier: SharedTier, owner: str, key: str = "k", seconds: float = 30.0, *, read: bool = True) -> object:
    (found,) = await tier.claim([Claim(key, read)], owner, seconds)
    return found


# --- leases -----------------------------------------------------------------------------------------------------------


async def test_namespaces_do_not_see_each_other(shared_place: Place) -> None:
    async with tier_of(shared_place) as tier, tier_of(shared_place) as other:
        await tier.put([Put("k", envelope("mine"))], "a")
        assert isinstance(await one(other, "a"), Granted)


async def test_what_has_expired_is_swept_from_postgres(postgres_server: PostgresServer) -> None:
    async with tier_of(postgres_server) as tier:
        await tier.put([Put(f"k{number}", envelope("x"), ttl=0.01) for number in range(5)], "a")
        swept = 0
        async with asyncio.timeout(10):
            while swept < 5:
                swept += await tier.sweep()
            while await tier.sweep():  # what other tests have left behind on the server expires, too
                pass


# --- values -----------------------------------------------------------------------------------------------------------


# --- the App ----------------------------------------------------------------------------------------------------------


def app_on(store: Place, simulator: Simulator, namespace: str, **options: Any) -> App:
    lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key")
    shared = Shared(
        store.url, namespace=namespace, timeout=options.pop("timeout", 10.0), lease=options.pop("lease", 5.0)
    )
    return App(lm, cache=shared, **options)


async def asked(app: App, question: str) -> str | None:
    return dspex.details(await app.run(ASK, question=question)).cached


async def test_what_one_app_asked_another_finds(shared_place: Place) -> None:
    """Also after the first has been closed, and closing waits until the answer is stored."""
    namespace = secrets.token_hex(4)
    async with Simulator() as simulator:
        async with app_on(shared_place, simulator, namespace) as first:
            assert await asked(first, "q") is None
            assert await asked(first, "q") == "memory"
        async with app_on(shared_place, simulator, namespace) as second:
            assert await asked(second, "q") == "shared"
            assert await asked(second, "q") == "memory"
            assert "1 shared" in second.tree().children[1].note
        assert simulator.stats().requests == {"ok": 1}


async def test_a_slow_leader_keeps_its_lead(shared_place: Place) -> None:
    """The answer takes 2.5 times as long as a lease lasts, and is still made once."""
    namespace = secrets.token_hex(4)
    slow = FaultPlan(latency=Latency(median=1.0))
    async with (
        Simulator(faults=slow) as simulator,
        app_on(shared_place, simulator, namespace, lease=0.4) as first,
        app_on(shared_place, simulator, namespace, lease=0.4) as second,
    ):
        found = await asyncio.gather(*(asked(app, "q") for app in (first, second) * 3))

        assert simulator.stats().requests == {"ok": 1}
        assert sorted(map(str, found)) == ["None", "coalesced", "coalesced", "shared", "shared", "shared"]


async def test_a_waiter_that_leaves_does_not_strand_the_next(shared_place: Place) -> None:
    """It waited for another App's answer and is cancelled; who asks later still waits for that answer."""
    namespace = secrets.token_hex(4)
    async with (
        Simulator(faults=FaultPlan(latency=Latency(median=1.0))) as simulator,
        app_on(shared_place, simulator, namespace) as first,
        app_on(shared_place, simulator, namespace) as second,
    ):
        leading = asyncio.ensure_future(asked(first, "q"))
        cache: Any = first.running_tree().cache
        await until(lambda: [each.fence > 0 for each in cache.table.flights.values()] == [True], "the lease")
        leaves = asyncio.ensure_future(asked(second, "q"))
        store: Any = second.running_tree().cache_store
        await until(lambda: store.table.operations >= 2, "the second App to look")
        leaves.cancel()
        with pytest.raises(asyncio.CancelledError):
            await leaves
        server: Any = second.running_tree().runtime.whereis("cache")
        await until(lambda: not server._process.actor._asking, "the look that nobody waits for")

        assert list(await asyncio.gather(leading, asked(second, "q"))) == [None, "shared"]
        assert simulator.stats().requests == {"ok": 1}


async def test_what_is_no_answer_counts_as_absent(shared_store: Store) -> None:
    """Somebody has written into the store: the question is asked again, the right answer takes its place."""
    namespace = secrets.token_hex(4)
    async with Simulator() as simulator:
        async with app_on(shared_store, simulator, namespace) as app:
            await asked(app, "q")
            cache: Any = app.running_tree().cache
            (key,) = cache.table.memory._cache
        for written, reason in (("{", "damaged"), ('{"v":99}', "newer"), ("[]", "foreign"), ('{"v":1}', "damaged")):
            async with tier_of(shared_store, namespace) as tier:
                for old in await tier.get([key]):
                    if old is not None:
                        await tier.remove(key, old)
                await write_raw(tier, key, written)
            async with app_on(shared_store, simulator, namespace) as app:
                with collect(app, "dspex.cache.unreadable") as events:
                    assert await asked(app, "q") is None
                assert [facts["reason"] for _, facts in events] == [reason]
            async with app_on(shared_store, simulator, namespace) as app:
                assert await asked(app, "q") == "shared"


async def write_raw(tier: Any, key: str, text: str) -> None:
    """Write what no codec of ours would."""
    if isinstance(tier, PostgresTier):
        insert = (
            "INSERT INTO dspex.answers (namespace, key, fence, model, value, bytes, created) "
            "VALUES ($1, $2, 0, '', $3, 1, now())"
        )
        await tier._gateway.run(lambda each: each.execute(insert, tier._namespace, key, text))
    else:
        await tier._gateway.run(lambda each: each.set(tier._values + key, text))


async def test_an_answer_that_nobody_could_read_leaves_the_shared_tier(shared_place: Place) -> None:
    namespace = secrets.token_hex(4)
    async with Simulator() as simulator:
        async with app_on(shared_place, simulator, namespace) as app:
            await asked(app, "q")
            cache: Any = app.running_tree().cache
            ((key, value),) = cache.table.memory._cache.items()
            cache.remove(key, value)
        async with app_on(shared_place, simulator, namespace) as app:
            assert await asked(app, "q") is None


async def test_a_refresh_reaches_the_others(shared_place: Place) -> None:
    namespace = secrets.token_hex(4)
    async with Simulator() as simulator:
        async with app_on(shared_place, simulator, namespace) as app:
            await asked(app, "q")
            assert await asked(app.options(cache="refresh"), "q") is None  # type: ignore[arg-type]  # a view runs, too
        assert simulator.stats().requests == {"ok": 2}
        async with app_on(shared_place, simulator, namespace) as app:
            assert await asked(app.options(cache="only"), "q") == "shared"  # type: ignore[arg-type]  # likewise


async def test_an_answer_grows_old(shared_place: Place) -> None:
    """``cache_ttl`` ends an answer in every tier."""
    namespace = secrets.token_hex(4)
    async with (
        Simulator() as simulator,
        app_on(shared_place, simulator, namespace, cache_ttl=0.2) as app,
    ):
        assert await asked(app, "q") is None
        async with asyncio.timeout(10):
            while await asked(app, "q") in ("memory", "shared"):
                pass
        assert simulator.stats().requests == {"ok": 2}


# --- processes --------------------------------------------------------------------------------------------------------


async def start(
    store: Place, simulator: Simulator, namespace: str, questions: Sequence[str], lease: float = 5
) -> asyncio.subprocess.Process:
    told = {"store": store.url, "provider": simulator.url, "namespace": namespace, "questions": questions}
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.support.cache_process",
        json.dumps({**told, "lease": lease}),
        stdin=pipe,
        stdout=pipe,
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"started\n"
    return process


async def said(process: asyncio.subprocess.Process) -> list[list[str]]:
    output, _ = await process.communicate()
    answers: list[list[str]] = json.loads(output)
    return answers


async def once_over_two_processes(store: Place) -> None:
    """Ask the same from a process of its own and from here, at the same time."""
    namespace = secrets.token_hex(4)
    questions = [f"q{number % 10}" for number in range(30)]
    async with (
        Simulator(faults=FaultPlan(latency=Latency(median=0.1))) as simulator,
        app_on(store, simulator, namespace) as app,
    ):
        other = await start(store, simulator, namespace, questions)
        assert other.stdin is not None
        other.stdin.write(b"\n")
        mine, its = await asyncio.gather(asyncio.gather(*(asked(app, each) for each in questions)), said(other))

        assert simulator.stats().requests == {"ok": 10}
        assert [*mine, *(None if where == "None" else where for where, _ in its)].count(None) == 10


async def test_two_processes_ask_the_provider_once_for_each_question(redis_server: RedisServer) -> None:
    await once_over_two_processes(redis_server)


@pytest.mark.slow
async def test_two_processes_ask_once_over_a_file(tmp_path: Path) -> None:
    await once_over_two_processes(FileStore(tmp_path))


@pytest.mark.slow
async def test_two_processes_ask_once_over_postgres(postgres_server: PostgresServer) -> None:
    await once_over_two_processes(postgres_server)


@pytest.mark.slow
async def test_a_killed_leader_is_followed_within_its_lease(shared_place: Place) -> None:
    """SIGKILL while its call hangs: another process makes the answer, and nobody else does."""
    namespace = secrets.token_hex(4)
    async with Simulator(faults=FaultPlan(latency=Latency(median=30.0))) as simulator:
        leader = await start(shared_place, simulator, namespace, ["q"], lease=0.5)
        assert leader.stdin is not None
        leader.stdin.write(b"\n")
        await asyncio.wait_for(simulator.wait_until(lambda stats: stats.in_flight == 1), 20)
        simulator.set_faults(FaultPlan())
        async with app_on(shared_place, simulator, namespace, lease=0.5) as app:
            waiting = asyncio.ensure_future(asked(app, "q"))
            cache: Any = app.running_tree().cache
            await until(lambda: app.running_tree().cache_store.table.operations >= 2)  # type: ignore[union-attr]
            assert cache.table.flights == {}

            leader.kill()
            await leader.communicate()

            assert await asyncio.wait_for(waiting, 10) is None
        assert simulator.stats().requests["ok"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("away", ["hangs", "is killed"])
async def test_a_leader_that_dies_while_the_store_is_away_holds_up_nobody(shared_store: Store, away: str) -> None:
    """Who waits for it goes on alone; once the store is back its lease ends, and answers are shared as before."""
    namespace = secrets.token_hex(4)
    async with Simulator(faults=FaultPlan(latency=Latency(median=30.0))) as simulator:
        leader = await start(shared_store, simulator, namespace, ["q"], lease=1.0)
        assert leader.stdin is not None
        leader.stdin.write(b"\n")
        await asyncio.wait_for(simulator.wait_until(lambda stats: stats.in_flight == 1), 20)
        simulator.set_faults(FaultPlan())
        async with (
            app_on(shared_store, simulator, namespace, lease=1.0, timeout=1.0) as one,
            app_on(shared_store, simulator, namespace, lease=1.0, timeout=1.0) as other,
        ):
            store: Any = one.running_tree().cache_store
            waiting = asyncio.ensure_future(asked(one, "q"))
            await until(lambda: store.table.operations >= 2)
            try:
                shared_store.stop() if away == "hangs" else shared_store.kill()
                leader.kill()
                await leader.communicate()
                assert await asyncio.wait_for(waiting, 10) is None
            finally:
                shared_store.go_on()
                shared_store.start()
            await until(lambda: store.is_up and other.running_tree().cache_store.is_up)  # type: ignore[union-attr]
            assert await asyncio.wait_for(asked(other, "q"), 10) in (None, "shared")
            assert await asyncio.wait_for(asked(other, "another"), 10) is None
            assert await asyncio.wait_for(asked(one, "another"), 10) == "shared"
        assert simulator.stats().requests["ok"] <= 3
