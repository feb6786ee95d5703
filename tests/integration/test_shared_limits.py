"""Limits, budgets and news of the provider over several Apps with one real store, which dies and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import dspex
from dspex.errors import BudgetExceeded, RateLimited
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.retry import RetryPolicy
from dspex.simulator import FaultPlan, Simulator
from dspex.simulator.limits import Limits
from tests.support.programs import Ask, until
from tests.support.stores import Place, RedisServer, Store

pytestmark = pytest.mark.timeout(240)  # processes of their own start slowly on a busy machine

PATIENT = 10.0
ONCE = RetryPolicy(max_attempts=1)


@asynccontextmanager
async def two(
    store: Place, name: str, simulator: Simulator, *limits: ClientLimits, budget: dspex.Budget | None = None
) -> AsyncIterator[tuple[dspex.App, dspex.App]]:
    """Two Apps of one namespace; a limit each, or one for both."""
    lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key", max_tokens=20)
    shared = dspex.Shared(store.url, namespace=name, timeout=PATIENT)

    def app(each: ClientLimits) -> dspex.App:
        return dspex.App(lm, cache=None, shared=shared, limits=each, budget=budget, deadline=20.0)

    async with app(limits[0]) as one, app(limits[-1]) as other:
        yield one, other


async def asked(*apps: dspex.App, count: int, deadline: float = 20.0) -> list[BaseException]:
    """Ask each so often at the same time, and return the errors."""
    runs = (app.options(deadline=deadline).run(Ask(), question=f"{n}") for n in range(count) for app in apps)
    outcomes = await asyncio.gather(*runs, return_exceptions=True)
    return [each for each in outcomes if isinstance(each, BaseException)]


def told(app: dspex.App, prefix: str) -> list[str]:
    names: list[str] = []
    app.telemetry.attach(prefix, lambda name, _, about: names.append(name))
    return names


async def test_one_limit_is_for_both(shared_store: Store) -> None:
    """A bucket of sixty is emptied by two, and the provider has to refuse nobody."""
    async with Simulator(limits=Limits(rpm=60)) as simulator:
        async with two(shared_store, "limit", simulator, ClientLimits(rpm=60, retry=ONCE)) as (one, other):
            asking = asyncio.create_task(asked(one, other, count=40, deadline=5.0))
            # While both ask: who has nothing to ask for some seconds counts no more.
            await until(lambda: "2 processes share the limits" in one.tree().render(), "both to be counted")
            errors = await asking
            assert all(isinstance(each, RateLimited) for each in errors), errors
        answered = simulator.requests["ok"]
        assert simulator.requests == {"ok": answered}
        assert answered == 80 - len(errors)
        assert answered >= 60


async def test_the_smaller_limit_holds_and_is_told(shared_place: Place) -> None:
    small, large = ClientLimits(rpm=10, retry=ONCE), ClientLimits(rpm=100, retry=ONCE)
    async with Simulator(limits=Limits(rpm=10)) as simulator:
        async with two(shared_place, "differ", simulator, small, large) as (one, other):
            seen = told(other, "dspex.shared.limits_differ")
            await asked(one, count=1)
            errors = await asked(other, count=20, deadline=3.0)
            assert len(errors) >= 10
            assert seen == ["dspex.shared.limits_differ"]
        assert set(simulator.requests) == {"ok"}


async def test_an_outage_and_its_end_are_told(shared_place: Place) -> None:
    """Who has sent nothing asks nothing; one call finds out for both that the provider is back."""
    async with (
        Simulator(faults=FaultPlan(rate_500=1.0)) as simulator,
        two(shared_place, "outage", simulator, ClientLimits(retry=ONCE)) as (one, other),
    ):
        await asked(one, count=12)
        (account,) = one.running_tree().lm._endpoints.values()
        (share,) = account.table.shares.values()
        await until(lambda: not share.opened, "the news to be told")
        failed = simulator.requests["500"]
        errors = await asked(other, count=30, deadline=5.0)
        assert len(errors) == 30
        assert simulator.requests["500"] - failed <= 2, "no more than those that looked whether it is back"
        assert "breaker" in other.tree().render()
        simulator.set_faults(FaultPlan())
        async with asyncio.timeout(20.0):
            while await asked(one, other, count=1, deadline=5.0):
                pass  # refused unsent, until somebody looks
        assert "breaker" not in one.tree().render()
        assert "breaker" not in other.tree().render()


async def test_patience_is_asked_of_all(shared_place: Place) -> None:
    async with Simulator(faults=FaultPlan(rate_429=1.0, retry_after=30.0)) as simulator:
        async with two(shared_place, "patience", simulator, ClientLimits(rpm=600, retry=ONCE)) as (one, other):
            assert len(await asked(one, count=1)) == 1
            (error,) = await asked(other, count=1, deadline=5.0)
            assert isinstance(error, RateLimited)
        assert sum(simulator.requests.values()) <= 2


async def test_a_budget_is_for_both_and_lasts(shared_place: Place) -> None:
    """To the last call; the next Apps of the same namespace find it spent."""
    async with Simulator() as simulator:
        for expected in (10, 0):
            budget = dspex.Budget(calls=10)
            async with two(shared_place, "budget", simulator, ClientLimits(), budget=budget) as (one, other):
                errors = await asked(one, other, count=8)
                assert 16 - len(errors) == expected
                assert all(isinstance(each, BudgetExceeded) for each in errors)
        assert simulator.requests == {"ok": 10}


async def test_what_others_have_written_is_not_believed(redis_server: RedisServer) -> None:
    """A cell that holds something else ends the sharing, says so, and costs no call."""
    async with (
        Simulator() as simulator,
        two(redis_server, "foreign", simulator, ClientLimits(rpm=6_000)) as (one, _),
    ):
        assert await asked(one, count=1) == []
        shared = one.running_tree().shared
        assert shared is not None
        (key,) = await shared.run(lambda client: client.keys("foreign:cell:limits/*"))
        await shared.run(lambda client: client.set(key, b"\xff[1, 2]"))
        assert await asked(one, count=20) == []
        await until(lambda: "alone: the shared limits" in one.tree().render(), "it to be told")


@pytest.mark.slow
async def test_without_its_store_each_has_its_share(shared_store: Store) -> None:
    """SIGKILL: the tree tells it, nobody sends more than its share, nothing is lost; later all is shared again."""
    async with Simulator(limits=Limits(rpm=600)) as simulator:
        async with two(shared_store, "share", simulator, ClientLimits(rpm=600)) as (one, other):
            seen = told(one, "dspex.shared.")
            assert await asked(one, other, count=250) == []
            try:
                shared_store.kill()
                assert await asked(one, other, count=70) == []
                assert "alone with 1/2 of the limits" in one.tree().render()
            finally:
                shared_store.start()
            await until(lambda: "dspex.shared.together" in seen, "both to share again")
            assert "dspex.shared.alone" in seen
            assert await asked(one, other, count=20) == []
        assert set(simulator.requests) == {"ok"}


@pytest.mark.slow
async def test_a_budget_outlives_a_store_that_is_killed(shared_store: Store) -> None:
    """Calls that a slice covers go on, the others wait for it; what it has lost is brought back by the living."""
    async with Simulator() as simulator:
        budget = dspex.Budget(calls=60)
        async with two(shared_store, "killed", simulator, ClientLimits(), budget=budget) as (one, other):
            assert await asked(one, other, count=10) == []
            shared_store.kill()
            waiting = asyncio.gather(asked(one, count=30), asked(other, count=30))
            await asyncio.sleep(0)
            shared_store.start()
            refused = [error for errors in await waiting for error in errors]
            assert all(isinstance(each, BudgetExceeded) for each in refused), refused
            assert len(refused) == 20
        assert simulator.requests == {"ok": 60}
