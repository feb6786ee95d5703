"""Redis and Postgres are killed, stopped and started again under load: no request is lost, and none waits for them."""

from __future__ import annotations

import asyncio
import secrets

import pytest

import dspex
from dspex import App
from dspex.services.shared.address import Shared
from dspex.simulator import FaultPlan, Latency, Simulator
from tests.support.programs import until
from tests.support.stores import Store

ASK = dspex.Predict("question -> answer", repair_turns=0)
WORKERS = 8


class Load:
    """Two Apps that share a store, and workers that ask until they are told to stop."""

    def __init__(self, first: App, second: App) -> None:
        self.apps = (first, second)
        self.going = True
        self.answered = 0
        self.slowest = 0.0

    async def work(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        count = 0
        while self.going:
            count += 1
            began = loop.time()
            # Half of the questions are asked by the other App, too.
            question = f"{count}" if number % 2 else f"{number}-{count}"
            await self.apps[number % 4 // 2].run(ASK, question=question)
            self.slowest = max(self.slowest, loop.time() - began)
            self.answered += 1

    async def some_more(self) -> None:
        """Wait until every worker has surely begun and ended a request since now."""
        aim = self.answered + 3 * WORKERS
        await until(lambda: self.answered >= aim, "more answers", seconds=60)


def app_on(store: Store, simulator: Simulator, namespace: str, lease: float = 1.0) -> App:
    lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key")
    return App(lm, cache=Shared(store.url, namespace=namespace, timeout=0.5, lease=lease))


@pytest.mark.slow
async def test_no_request_is_lost_while_the_store_dies_hangs_and_comes_back(shared_store: Store) -> None:
    """Killed and started twice, stopped once; afterwards it is used again, and answers are found in it."""
    namespace = secrets.token_hex(4)
    async with (
        Simulator(faults=FaultPlan(latency=Latency(median=0.005))) as simulator,
        app_on(shared_store, simulator, namespace) as first,
        app_on(shared_store, simulator, namespace) as second,
    ):
        load = Load(first, second)
        workers = [asyncio.ensure_future(load.work(number)) for number in range(WORKERS)]
        stores = [app.running_tree().cache_store for app in load.apps]
        try:
            for _ in range(2):
                await load.some_more()
                shared_store.kill()
                await load.some_more()
                shared_store.start()
                await until(lambda: all(each is not None and each.is_up for each in stores), "it to be used again")
            await load.some_more()
            shared_store.stop()
            await load.some_more()
            shared_store.go_on()
            await until(lambda: all(each is not None and each.is_up for each in stores), "it to be used again")
            await load.some_more()
        finally:
            shared_store.start()
            shared_store.go_on()
            load.going = False
            ends = await asyncio.gather(*workers, return_exceptions=True)

        assert [each for each in ends if each is not None] == []
        assert first.health()["failed"] == second.health()["failed"] == 0
        asked = "one that both ask now"
        await first.run(ASK, question=asked)
        found = dspex.details(await second.run(ASK, question=asked)).cached
        assert found == "shared"


async def test_a_killed_cache_goes_on_with_its_leases(shared_store: Store) -> None:
    """The actor dies while it leads: its successor renews the lease, and the other App still waits for the answer."""
    namespace = secrets.token_hex(4)
    async with (
        Simulator(faults=FaultPlan(latency=Latency(median=1.0))) as simulator,
        app_on(shared_store, simulator, namespace, 0.4) as first,
        app_on(shared_store, simulator, namespace, 0.4) as second,
    ):
        leading = asyncio.ensure_future(first.run(ASK, question="q"))
        cache = first.running_tree().cache
        assert cache is not None
        await until(lambda: [each.fence > 0 for each in cache.table.flights.values()] == [True], "the lease")
        waiting = asyncio.ensure_future(second.run(ASK, question="q"))
        server = first.running_tree().runtime.whereis("cache")
        assert server is not None
        server.kill()
        await server.wait_exit()

        answers = await asyncio.gather(leading, waiting)

        assert [dspex.details(each).cached for each in answers] == [None, "shared"]
        assert simulator.stats().requests == {"ok": 1}
