"""Budgets of requests, maps, jobs and the App, held on real sockets while calls overlap and steps die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path

import pytest

import dspex
from dspex.errors import BudgetExceeded, EvaluationError
from dspex.runtime import KILL
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.retry import RetryPolicy
from dspex.services.money.ledger import LEDGER
from dspex.simulator import Fault, FaultKind, FaultPlan, Latency, Simulator
from tests.support.programs import Ask, living, until


class Twice(dspex.Module):
    """Two calls, one after the other."""

    def __init__(self) -> None:
        self.ask = Ask()

    async def forward(self, question: str) -> str:
        first = await self.ask(question=question)
        return str((await self.ask(question=first.answer + "?")).answer)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


PRICES = {"openai/rules": dspex.Price(1, 2)}


def app_at(simulator: Simulator, **arguments: object) -> dspex.App:
    lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key", max_tokens=500)
    return dspex.App(lm, prices=PRICES, **arguments)  # type: ignore[arg-type]  # tests pass what they mean


async def test_cost_is_told_per_call_and_per_request(simulator: Simulator) -> None:
    """From the provider's own count; a cached answer costs nothing."""
    async with app_at(simulator) as app:
        answer = await app.run(Ask(), question="Who?")
        usage = dspex.details(answer).usage
        assert dspex.details(answer).cost == PRICES["openai/rules"].cost(usage)
        assert "USD" in dspex.details(answer).explain()

        request = app.start(Ask(), question="Who?")
        again = await request
        assert dspex.details(again).cost == 0
        assert request.details.cost == 0
        assert app.running_tree().book.root.spent.usd == dspex.details(answer).cost


async def test_unknown_price_is_unknown_cost_and_no_dollar_budget(simulator: Simulator) -> None:
    """Zero would be a lie; a budget that cannot be kept refuses, and says what to give."""
    lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key")
    async with dspex.App(lm) as app:
        request = app.start(Ask(), question="Who?")
        assert dspex.details(await request).cost is None
        assert request.details.cost is None
        with pytest.raises(BudgetExceeded, match="price of openai/rules is unknown"):
            await app.options(budget=dspex.Budget(usd=1)).run(Ask(), question="What?")
        assert (await app.options(budget=dspex.Budget(tokens=10_000)).run(Ask(), question="What?")).answer
    assert simulator.requests["ok"] == 2


async def test_request_stops_before_the_call_that_its_budget_does_not_allow(simulator: Simulator) -> None:
    """The second call is refused unsent; the first is paid."""
    async with app_at(simulator) as app:
        with pytest.raises(BudgetExceeded, match=r"request r1 may use 1 calls"):
            await app.options(budget=dspex.Budget(calls=1)).run(Twice(), question="Who?")
        assert simulator.requests["ok"] == 1
        assert await app.options(budget=dspex.Budget(calls=2)).run(Twice(), question="What?")


async def test_app_budget_holds_for_requests_at_once(simulator: Simulator) -> None:
    """Set aside before it is sent: fifty calls that start together cannot overrun it together."""
    simulator.set_faults(FaultPlan(latency=Latency(median=0.02)))
    async with app_at(simulator, budget=dspex.Budget(usd=Decimal("0.006"))) as app:
        outcomes = await asyncio.gather(
            *(app.run(Ask(), question=f"Who is {number}?") for number in range(50)), return_exceptions=True
        )
        root = app.running_tree().book.root
        answered = [each for each in outcomes if not isinstance(each, BaseException)]
        assert 1 <= len(answered) < 50
        assert all(isinstance(each, BudgetExceeded) for each in outcomes if isinstance(each, BaseException))
        assert root.spent.usd <= Decimal("0.006")
        assert root.spent.usd == sum((dspex.details(each).cost or 0 for each in answered), Decimal(0))
        assert root.reserved.usd == root.reserved.calls == 0
    assert simulator.requests["ok"] == len(answered)


async def test_map_and_evaluation_share_one_budget_over_their_rows(simulator: Simulator) -> None:
    """``options(budget=…)`` is of the whole thing that is started."""
    rows = [{"question": f"Who is {number}?", "answer": "x"} for number in range(10)]
    async with app_at(simulator, cache=None) as app:
        view = app.options(budget=dspex.Budget(calls=4))
        async with view.map(Ask(), rows, max_concurrency=3) as results:
            outcomes = [result async for result in results]
        refused = [each for each in outcomes if isinstance(each, dspex.Failed)]
        assert len(refused) == 6
        assert all(isinstance(each.reason, BudgetExceeded) for each in refused)
        with pytest.raises(EvaluationError) as failed:
            await view.evaluate(Ask(), rows, dspex.exact_match())
        report = failed.value.partial
        assert isinstance(report, dspex.Report)
        assert len(report.failed) == 6


async def test_job_ends_at_its_budget_with_the_best_so_far(simulator: Simulator, tmp_path: Path) -> None:
    """The same job again returns what it has found, and pays nothing."""
    train = [{"question": f"Who is {number}?", "answer": "x"} for number in range(8)]

    async def calls(app: dspex.App, limit: int) -> int:
        optimizer = dspex.BootstrapFewShot(dspex.exact_match(), threshold=2.0)
        view = app.options(budget=dspex.Budget(calls=limit))
        before = simulator.requests.get("ok", 0)
        job = await view.compile(Ask(), optimizer, trainset=train, job="dear")
        found = await job.result()
        assert len(found.predictors()["answer"].demos) == 8  # labelled rows: none was worked out
        async with job.events() as events:
            assert [event.data["why"] async for event in events if event.kind == "ended"] == ["budget"]
        return simulator.requests["ok"] - before

    for limit, wanted in ((2, 2), (2, 0)):
        async with app_at(simulator, cache=None, home=tmp_path) as app:
            assert await calls(app, limit) == wanted


async def test_killed_step_is_charged_its_estimate_and_the_restarted_one_its_price(simulator: Simulator) -> None:
    """Sent and unknown: the provider may have charged it, so the budget counts it."""
    simulator.set_faults(FaultPlan(latency=Latency(median=0.2)))
    async with app_at(simulator, budget=dspex.Budget(usd=1)) as app:
        request = app.start(Ask(), question="Who?")
        await simulator.wait_until(lambda stats: stats.in_flight == 1)
        (step,) = living(app.runtime, "lm ")
        step.receive_exit(KILL, None)
        answer = await request
        root = app.running_tree().book.root
        cost = dspex.details(answer).cost
        assert cost is not None
        assert root.spent.usd > cost + Decimal("0.001")  # 500 tokens at 2 USD a million were set aside
        assert root.spent.calls == 2  # the killed one was sent, so it counts
        assert root.reserved.usd == 0


async def test_killed_ledger_forgets_nothing_and_releases_what_the_dead_held(simulator: Simulator) -> None:
    """The sums set aside are data: a successor watches over them, and settles for those who died meanwhile."""
    simulator.set_faults(FaultPlan(latency=Latency(median=0.2)))
    async with app_at(simulator, budget=dspex.Budget(calls=3)) as app:
        one = app.start(Ask(), question="One?")
        two = app.start(Ask(), question="Two?")
        await simulator.wait_until(lambda stats: stats.in_flight == 2)
        root = app.running_tree().book.root
        assert root.reserved.calls == 2
        ledger = app.runtime.whereis(LEDGER)
        assert ledger is not None
        ledger.exit(KILL)
        two.cancel()
        await until(lambda: root.reserved.calls == 1, "the cancelled call's place")
        assert (await one).answer
        assert root.reserved.calls == 0
        assert root.spent.calls == 2  # the cancelled one was sent, so it counts
        assert (await app.run(Ask(), question="Three?")).answer


QUICK = ClientLimits(retry=RetryPolicy(base=0.0, cap=0.0))


@pytest.mark.parametrize("kind", [FaultKind.HANG, FaultKind.EMPTY, FaultKind.RESET, FaultKind.MALFORMED])
async def test_a_retry_of_what_was_sent_needs_a_call_of_the_budget(simulator: Simulator, kind: FaultKind) -> None:
    """Whatever came of it: it timed out, said nothing, broke off. The error tells what the last one ended in."""
    simulator.set_faults(FaultPlan(shares={kind: 1.0}))
    lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key")
    waits = dspex.Timeouts(first_byte=0.1)
    async with dspex.App(lm, limits=QUICK, cache=None, budget=dspex.Budget(calls=5), timeouts=waits) as app:
        outcomes = await asyncio.gather(
            *(app.run(Ask(), question=f"q{number}") for number in range(6)), return_exceptions=True
        )
        root = app.running_tree().book.root
        assert (root.spent.calls, root.reserved.calls) == (5, 0)
    assert all(isinstance(each, dspex.LMError) for each in outcomes)
    refused = [each for each in outcomes if isinstance(each, BudgetExceeded)]
    assert any(isinstance(each.__cause__, dspex.LMError) for each in refused)
    assert sum(simulator.requests.values()) == 5


async def test_a_request_that_was_refused_in_words_is_not_a_call(simulator: Simulator) -> None:
    """The server said no before it worked: as often as the policy allows, the one call is still there."""
    fault = (Fault(kind=FaultKind.RATE_LIMIT, retry_after=0.0), Fault(kind=FaultKind.SERVER_ERROR))
    simulator.set_faults(FaultPlan(script={"/v1/chat/completions": fault}))
    lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key")
    async with dspex.App(lm, limits=QUICK, cache=None, budget=dspex.Budget(calls=1)) as app:
        details = dspex.details(await app.run(Ask(), question="q"))
        assert [each.outcome for each in details.attempts] == ["RateLimited", "ServerFailed", "ok"]
        assert app.running_tree().book.root.spent.calls == 1


async def test_several_answers_of_a_model_that_gives_one_are_several_calls(simulator: Simulator) -> None:
    """They are allowed together, before the first is sent."""
    lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key", capabilities={"many": False})
    ask = dspex.Predict("question -> answer", n=3)
    async with dspex.App(lm, cache=None) as app:
        with pytest.raises(BudgetExceeded, match="may use 2 calls"):
            await app.options(budget=dspex.Budget(calls=2)).run(ask, question="q")
        assert sum(simulator.requests.values()) == 0
        await app.options(budget=dspex.Budget(calls=3)).run(ask, question="q")
    assert sum(simulator.requests.values()) == 3


async def test_a_second_ask_of_a_slow_model_is_made_only_within_the_budget(simulator: Simulator) -> None:
    """It would be another call: without one, the first goes on alone."""
    simulator.set_faults(FaultPlan(latency=Latency(median=0.3)))
    lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key")
    pool = dspex.LMPool((lm,), hedge_after=0.01, hedge_share=1.0)
    async with dspex.App(pool, cache=None, budget=dspex.Budget(calls=1)) as app:
        assert (await app.run(Ask(), question="q")).answer
    assert sum(simulator.requests.values()) == 1


async def test_vectors_keep_to_the_budget_too(simulator: Simulator) -> None:
    """The texts' tokens are set aside before they are sent; what they really had is paid."""
    async with app_at(simulator) as app:
        embed = dspex.Embed()
        with pytest.raises(BudgetExceeded, match="tokens"):
            await app.options(budget=dspex.Budget(tokens=3)).run(embed, ["a text of far more than three tokens"])
        assert simulator.requests.get("ok", 0) == 0
        view = app.options(budget=dspex.Budget(tokens=100, calls=1, usd=1))
        request = view.start(embed, ["a short text"])
        assert len(await request) == 1
        root = app.running_tree().book.root
        assert root.spent.tokens == request.details.usage.total_tokens > 0
        assert root.spent.calls == 1
        assert root.reserved.tokens == root.reserved.calls == 0
