"""Charges of a provider without an answer: counted by ledger, request, details and every budget."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import httpx
import pytest

import dspex
from dspex.protocols.lm import Usage
from dspex.protocols.model import LMParams
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.retry import RetryPolicy
from dspex.simulator import Fault, FaultKind, FaultPlan, Simulator
from dspex.testing import ScriptedLM
from tests.support.programs import Ask, until
from tests.support.streaming import Talk

PRICES = {"*": dspex.Price(1, 2)}
QUICK = ClientLimits(retry=RetryPolicy(base=0.0, cap=0.0))
COUNT = {"usage": {"prompt_tokens": 10, "completion_tokens": 7}}
COUNTED = Usage(10, 7)
PRICE = PRICES["*"].cost(COUNTED)


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


class Scripted(httpx.AsyncBaseTransport):
    """Answers the n-th request with the n-th document; None never ends."""

    def __init__(self, *documents: dict[str, Any] | None) -> None:
        self.documents = list(documents)
        self.asked = 0

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        document = self.documents[self.asked]
        self.asked += 1
        if document is None:
            await asyncio.get_running_loop().create_future()
        return httpx.Response(200, json=document)


def chat(text: str, reason: str = "stop") -> dict[str, Any]:
    return {"choices": [{"message": {"content": text}, "finish_reason": reason}], **COUNT}


ANSWER = chat("a")
WITHHELD = chat("ha", "content_filter")
EMPTY: dict[str, Any] = {"choices": [], **COUNT}


def app_for(transport: Scripted, *, lm: dspex.LM | dspex.LMPool | None = None, **options: Any) -> dspex.App:
    lm = lm or dspex.LM("openai/m", api_key="k", max_tokens=500)
    return dspex.App(lm, transport=transport, prices=PRICES, **{"limits": QUICK, "cache": None, **options})


BUDGETS = [None, dspex.Budget(usd=1)]
"""Without a budget the ledger books when the call has ended; with one, the reservation is settled."""


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("streamed", [True, False])
@pytest.mark.parametrize("kind", [FaultKind.FILTERED, FaultKind.REFUSAL])
@pytest.mark.parametrize("provider", ["openai", "openai-responses", "anthropic", "gemini"])
async def test_a_withheld_answer_is_paid_for(
    simulator: Simulator, provider: str, kind: FaultKind, streamed: bool, budget: dspex.Budget | None
) -> None:
    """By every wire: the error tells what was counted, and all who count have counted it."""
    simulator.set_faults(FaultPlan(shares={kind: 1.0}))
    base = simulator.url.removesuffix("/v1") + "/v1beta" if provider == "gemini" else simulator.url
    lm = dspex.LM(f"{provider}/rules", api_base=base, api_key="k", max_tokens=500)
    async with dspex.App(lm, prices=PRICES, budget=budget, cache=None) as app:
        request = app.start(Talk(), text="q") if streamed else app.start(Ask(), question="q")
        with pytest.raises(dspex.ContentRefused) as caught:
            await request
        book = app.running_tree().book

        usage = caught.value.usage
        assert usage.input_tokens > 0
        assert request.details.usage == book.usage == book.by_model[lm.model] == usage
        assert request.details.cost == book.root.spent.usd == PRICES["*"].cost(usage)
        assert (book.root.spent.tokens, book.root.spent.calls) == (usage.total_tokens, 1)
        assert (book.calls, book.attempts, request.details.calls) == (1, 1, 1)
        assert book.root.reserved == type(book.root.reserved)()
        assert [each.usage for each in request.details.attempts] == [usage]


@pytest.mark.parametrize("budget", BUDGETS)
async def test_what_came_to_nothing_is_paid_beside_the_answer(budget: dspex.Budget | None) -> None:
    """An empty answer was counted, and asked for again: the prediction cost both."""
    async with app_for(Scripted(EMPTY, EMPTY, ANSWER), budget=budget) as app:
        request = app.start(Ask(), question="q")
        details = dspex.details(await request)
        book = app.running_tree().book

    assert [(each.outcome, each.usage) for each in details.attempts] == [
        ("ResponseInvalid", COUNTED),
        ("ResponseInvalid", COUNTED),
        ("ok", None),
    ]
    assert details.usage == request.details.usage == book.usage == Usage(30, 21)
    assert details.cost == request.details.cost == book.root.spent.usd == 3 * PRICE
    assert (book.calls, book.attempts, request.details.calls) == (1, 3, 1)
    assert (book.root.spent.calls, book.root.spent.tokens) == (3, 51)


CHARGES: dict[str, tuple[dict[str, Any], str | None]] = {
    "a gateway's": ({"cost": 0.00123}, "0.00123"),
    "tiny": ({"cost": 1e-07}, "1E-7"),
    "nothing": ({"cost": 0}, "0"),
    "with the user's key behind it": (
        {"cost": 0.001, "is_byok": True, "cost_details": {"upstream_inference_cost": 0.02}},
        "0.021",
    ),
    "with a key whose cost is unknown": ({"cost": 0.001, "is_byok": True}, None),
    "in parts": ({"cost": {"input_tokens_cost": 0.1, "total_cost": 0.5}}, "0.5"),
    "no number": ({"cost": "much"}, None),
    "below nothing": ({"cost": -1}, None),
    "not said": ({}, None),
}


@pytest.mark.parametrize("budget", BUDGETS)
@pytest.mark.parametrize("case", CHARGES)
async def test_the_charge_that_a_server_tells_is_the_cost(case: str, budget: dspex.Budget | None) -> None:
    """Whatever the price list says; without one told, the list decides."""
    fields, charged = CHARGES[case]
    answer = {**ANSWER, "usage": {**COUNT["usage"], **fields}}
    async with app_for(Scripted(answer), budget=budget) as app:
        request = app.start(Ask(), question="q")
        details = dspex.details(await request)
        spent = app.running_tree().book.root.spent

    assert details.usage.charged == (None if charged is None else Decimal(charged))
    wanted = PRICE if charged is None else Decimal(charged)
    assert details.cost == request.details.cost == spent.usd == wanted


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": 10, "completion_tokens": 7},
        {"prompt_tokens": 10.0, "completion_tokens": 7.0},
        {"input_tokens": 10, "output_tokens": 7},
    ],
)
async def test_counts_are_read_in_every_spelling(usage: dict[str, Any]) -> None:
    async with app_for(Scripted({**ANSWER, "usage": usage})) as app:
        assert dspex.details(await app.run(Ask(), question="q")).usage == COUNTED


async def test_charges_of_several_answers_add_up_where_all_are_known() -> None:
    """Half a sum would look like the whole."""
    lm = dspex.LM("openai/m", api_key="k", max_tokens=500, capabilities={"many": False})
    told = {**ANSWER, "usage": {**COUNT["usage"], "cost": 0.5}}
    for answers, cost in (([told, told], Decimal(1)), ([told, ANSWER], 2 * PRICE)):
        async with app_for(Scripted(*answers), lm=lm) as app:
            request = app.start(Talk(params=LMParams(n=2)), text="q")
            await request
        assert request.details.cost == cost


async def test_what_cannot_be_priced_makes_the_whole_unknown() -> None:
    """Zero would be a lie."""
    async with dspex.App(
        dspex.LM("openai/m", api_base="http://x/v1", api_key="k"),
        transport=Scripted(EMPTY, ANSWER),
        limits=QUICK,
        cache=None,
    ) as app:
        request = app.start(Ask(), question="q")
        details = dspex.details(await request)

    assert (details.cost, request.details.cost, details.usage) == (None, None, Usage(20, 14))


async def test_refused_answers_use_up_a_budget() -> None:
    """Calls, tokens and dollars: the next one is not sent."""
    for budget in (dspex.Budget(calls=1), dspex.Budget(tokens=521), dspex.Budget(usd=Decimal("0.00102"))):
        transport = Scripted(WITHHELD, WITHHELD)
        async with app_for(transport, budget=budget) as app:
            with pytest.raises(dspex.ContentRefused):
                await app.run(Ask(), question="q")
            with pytest.raises(dspex.BudgetExceeded, match="left"):
                await app.run(Ask(), question="q")
        assert transport.asked == 1


@pytest.mark.parametrize("budget", BUDGETS)
async def test_each_member_of_a_pool_has_its_own_price(budget: dspex.Budget | None) -> None:
    """One gave nothing and charges it, the other answers."""
    pool = dspex.LMPool(tuple(dspex.LM(f"openai/{name}", api_key="k", max_tokens=500) for name in ("a", "b")))
    prices = {"openai/a": dspex.Price(1, 2), "openai/b": dspex.Price(100, 200)}
    limits = ClientLimits(retry=RetryPolicy(max_attempts=1))
    async with app_for(Scripted(EMPTY, ANSWER), lm=pool, limits=limits, budget=budget) as app:
        app.running_tree().book.prices._own.update(prices)
        details = dspex.details(await app.run(Ask(), question="q"))
        book = app.running_tree().book

    assert [each.lm for each in details.attempts] == ["openai/a", "openai/b"]
    assert details.cost == book.root.spent.usd == 101 * PRICE
    assert book.by_model == {"openai/a": COUNTED, "openai/b": COUNTED}


@pytest.mark.parametrize("budget", BUDGETS)
async def test_of_several_answers_the_withheld_ones_are_paid_too(budget: dspex.Budget | None) -> None:
    """One at a time: two are given, one is withheld, three were counted."""
    lm = dspex.LM("openai/m", api_key="k", max_tokens=500, capabilities={"many": False})
    async with app_for(Scripted(chat("a"), WITHHELD, chat("c")), lm=lm, budget=budget) as app:
        request = app.start(Talk(params=LMParams(n=3)), text="q")
        result = await request
        spent = app.running_tree().book.root.spent

    assert result.response.withheld == 1
    assert result.cost == request.details.cost == spent.usd == 3 * PRICE
    assert request.details.usage == Usage(30, 21)
    assert spent.calls == 3


@pytest.mark.parametrize("budget", BUDGETS)
async def test_answers_that_are_thrown_away_with_a_failed_one_are_paid(budget: dspex.Budget | None) -> None:
    """Two of three had come when the third failed for good: nobody gets them, and they were counted."""
    lm = dspex.LM("openai/m", api_key="k", max_tokens=500, capabilities={"many": False})
    transport = Scripted(chat("a"), chat("b"), {"error": {"message": "no", "code": "invalid_prompt"}})
    async with app_for(transport, lm=lm, budget=budget) as app:
        request = app.start(Talk(params=LMParams(n=3)), text="q")
        with pytest.raises(dspex.RequestRejected):
            await request
        spent = app.running_tree().book.root.spent

    assert (request.details.usage, spent.usd, spent.calls) == (Usage(20, 14), 2 * PRICE, 3)


async def test_the_rate_limits_are_corrected_by_what_was_counted() -> None:
    """A refusal is not held to be as long as the longest answer."""
    limits = ClientLimits(tpm=2_000, learn=False)
    async with app_for(Scripted(WITHHELD), limits=limits) as app:
        clock = app.running_tree().runtime.clock

        def level(now: float) -> float:
            ((_, _, facts),) = app.running_tree().lm.facts(now)
            assert facts is not None
            return facts.buckets[0].level

        began = clock.now()
        with pytest.raises(dspex.ContentRefused):
            await app.run(Ask(), question="q")
        left = 2_000 - COUNTED.total_tokens
        await until(lambda: level(clock.now()) >= left, "the bucket to be corrected")  # uncorrected: after 15 s
        now = clock.now()
        assert left <= level(now) <= left + (now - began) * 2_000 / 60 + 1e-6, "no more than what has come back since"


async def test_a_call_that_was_killed_after_a_count_pays_it_once() -> None:
    """The first attempt was counted, the second was on the wire when the step died; the third answers."""
    transport = Scripted(EMPTY, None, ANSWER)
    async with app_for(transport, budget=dspex.Budget(usd=1)) as app:
        request = app.start(Ask(), question="q")
        await until(lambda: transport.asked == 2, "the second attempt")
        root = app.running_tree().book.root
        held = root.reserved.usd
        for process in list(app.runtime.processes.values()):
            if process.label.startswith("lm "):
                process.ref.kill()
        details = dspex.details(await request)

    assert [each.outcome for each in details.attempts] == ["ResponseInvalid", "killed", "ok"]
    assert details.cost == request.details.cost == 2 * PRICE
    assert root.spent.usd == 2 * PRICE + held
    assert root.reserved.usd == 0


async def test_an_ask_that_lost_its_race_is_paid_as_estimated(simulator: Simulator) -> None:
    """The provider saw it, and nobody its bill."""
    simulator.set_faults(FaultPlan(script={"/v1/chat/completions": (Fault(kind=FaultKind.HANG),)}))
    lm = dspex.LM("openai/m", api_base=simulator.url, api_key="k", max_tokens=500)
    pool = dspex.LMPool((lm,), hedge_after=0.05, hedge_share=1.0)
    async with dspex.App(pool, prices=PRICES, budget=dspex.Budget(usd=1), cache=None) as app:
        request = app.start(Ask(), question="q")
        details = dspex.details(await request)
        spent = app.running_tree().book.root.spent

    assert sorted(each.outcome for each in details.attempts) == ["cancelled", "ok"]
    assert details.cost is not None
    assert spent.usd > details.cost + Decimal("0.001")  # 500 tokens at 2 USD a million were set aside


@pytest.mark.parametrize(
    ("fault", "is_paid"),
    [
        (Fault(kind=FaultKind.TRUNCATE), True),
        (Fault(kind=FaultKind.TRUNCATE, after_bytes=0), False),
        (Fault(kind=FaultKind.RESET), False),
    ],
)
async def test_an_answer_that_broke_off_is_paid_as_estimated(simulator: Simulator, fault: Fault, is_paid: bool) -> None:
    """Where it had begun, the model had run; a connection that broke before may not have reached it."""
    simulator.set_faults(FaultPlan(script={"/v1/chat/completions": (fault,)}))
    lm = dspex.LM("openai/m", api_base=simulator.url, api_key="k", max_tokens=500)
    budget = dspex.Budget(usd=1)
    async with dspex.App(lm, prices=PRICES, budget=budget, limits=QUICK, cache=None) as app:
        details = dspex.details(await app.run(Ask(), question="q"))
        spent = app.running_tree().book.root.spent

    assert [each.outcome for each in details.attempts] == ["TransportFailed", "ok"]
    assert details.cost is not None
    assert (spent.usd - details.cost > Decimal("0.001")) == is_paid  # 500 tokens at 2 USD a million were set aside


async def test_vectors_that_are_none_are_paid_too() -> None:
    """The texts were read, and counted."""
    counted = {"usage": {"prompt_tokens": 10}}
    vectors = {"data": [{"embedding": [1.0]}], **counted}
    async with app_for(Scripted({"data": [], **counted}, vectors)) as app:
        request = app.start(dspex.Embed(), ["a"])
        await request
        spent = app.running_tree().book.root.spent

    assert request.details.usage == Usage(20, 0)
    assert (spent.tokens, spent.calls) == (20, 2)


async def test_a_local_model_may_say_what_its_refusal_took() -> None:
    """As a provider does; one that says nothing took nothing."""
    counted, silent = dspex.ContentRefused("no"), dspex.ContentRefused("no")
    counted.usage = COUNTED
    for error, usage in ((counted, COUNTED), (silent, Usage())):
        async with dspex.App(ScriptedLM([error]), prices=PRICES, cache=None) as app:
            request = app.start(Ask(), question="q")
            with pytest.raises(dspex.ContentRefused):
                await request
            assert request.details.usage == app.running_tree().book.usage == usage


async def test_one_who_shares_the_refusal_of_another_pays_nothing() -> None:
    """Two ask the same at once; one asked the provider."""
    answer = asyncio.Event()

    class Late(Scripted):
        async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
            await answer.wait()
            return await super().handle_async_request(request)

    async with app_for(Late(WITHHELD), cache="memory") as app:
        leader, waiter = (app.start(Ask(), question="q") for _ in range(2))
        cache = app.running_tree().cache
        assert cache is not None
        await until(lambda: any(each.waiters for each in cache.table.flights.values()), "the waiter")
        answer.set()
        for request in (leader, waiter):
            with pytest.raises(dspex.ContentRefused):
                await request
        assert app.running_tree().book.usage == COUNTED

    assert sorted(each.details.usage.total_tokens for each in (leader, waiter)) == [0, 17]
