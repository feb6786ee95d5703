"""Pools of models over real sockets: who answers when the first cannot, is slow, or is at its limit."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

import dspex
from dspex.runtime import Runtime
from dspex.services.lm.limits import ClientLimits
from dspex.services.lm.retry import RetryPolicy
from dspex.simulator import Fault, FaultKind, FaultPlan, Latency, Limits, Simulator
from tests.support.programs import Ask, Question, collect, living, until

CHAT = "/v1/chat/completions"
HANG = Fault(kind=FaultKind.HANG)
QUICK = ClientLimits(retry=RetryPolicy(base=0.01, cap=0.05))


@pytest.fixture
async def first() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


@pytest.fixture
async def second() -> AsyncIterator[Simulator]:
    async with Simulator() as running:
        yield running


def member(simulator: Simulator, name: str = "rules", **params: Any) -> dspex.LM:
    return dspex.LM(f"openai/{name}", api_base=simulator.url, api_key="key", **params)


def pooled(*members: dspex.LM, limits: ClientLimits = QUICK, seed: int = 1, **options: Any) -> dspex.App:
    return dspex.App(dspex.LMPool(members, **options), limits=limits, cache=None, seed=seed)


def failing(kind: FaultKind, **options: Any) -> FaultPlan:
    return FaultPlan(shares={kind: 1.0}, **options)


def outcomes(request: Any) -> list[tuple[str, str]]:
    return [(attempt.lm, attempt.outcome) for attempt in request.details.attempts]


# --- fallback -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "error"),
    [
        (FaultKind.QUOTA, "QuotaExhausted"),
        (FaultKind.UNAUTHORIZED, "AuthFailed"),
        (FaultKind.OVERLOADED, "ServerFailed"),
        (FaultKind.RATE_LIMIT, "RateLimited"),
        (FaultKind.RESET, "TransportFailed"),
        (FaultKind.CONTEXT, "ContextTooLong"),
    ],
)
async def test_the_next_member_answers_at_once_what_the_first_cannot(
    first: Simulator, second: Simulator, kind: FaultKind, error: str
) -> None:
    """One logical call: both attempts in its list with the member's name, and the record that answered."""
    first.set_faults(failing(kind, retry_after=30.0))
    async with pooled(member(first, "a"), member(second, "b")) as app:
        with collect(app, "dspex.lm.fallback") as fallbacks:
            request = app.start(Ask(), question="q")
            prediction = await asyncio.wait_for(request, 5)

        assert outcomes(request) == [("openai/a", error), ("openai/b", "ok")]
        assert dspex.details(prediction).lm == member(second, "b")
        assert [facts["error"] for _, facts in fallbacks] == [error]


@pytest.mark.parametrize("kind", [FaultKind.INVALID, FaultKind.NOT_FOUND])
async def test_a_wrong_request_is_not_offered_around(first: Simulator, second: Simulator, kind: FaultKind) -> None:
    """A caller's own mistake is the caller's to hear."""
    first.set_faults(failing(kind))
    async with pooled(member(first), member(second, "b")) as app:
        with pytest.raises(dspex.RequestRejected):
            await app.run(Ask(), question="q")

    assert not second.stats().requests


async def test_a_key_without_credit_is_not_asked_again_by_anybody(first: Simulator, second: Simulator) -> None:
    """The first call finds out; the nine others go straight to the second key, the weights notwithstanding."""
    first.set_faults(failing(FaultKind.QUOTA))
    async with pooled(member(first, "a"), member(second, "b"), weights=(1.0, 0.0)) as app:
        for number in range(10):
            await app.run(Ask(), question=f"q{number}")

    assert sum(first.stats().requests.values()) == 1
    assert second.stats().requests == {"ok": 10}


async def test_a_pool_comes_back_to_the_member_that_will_be_ready_first(first: Simulator, second: Simulator) -> None:
    """Both are overloaded for a moment; the waits do not add up, and the list tells of every try."""
    busy = Fault(kind=FaultKind.RATE_LIMIT, retry_after=0.05)
    first.set_faults(FaultPlan(script={CHAT: (busy,)}))
    second.set_faults(FaultPlan(script={CHAT: (Fault(kind=FaultKind.RATE_LIMIT, retry_after=20.0),)}))
    async with pooled(member(first, "a"), member(second, "b")) as app:
        request = app.start(Ask(), question="q")
        await asyncio.wait_for(request, 5)

    assert outcomes(request) == [("openai/a", "RateLimited"), ("openai/b", "RateLimited"), ("openai/a", "ok")]


async def test_when_every_member_is_out_the_last_word_is_raised_with_all_attempts(
    first: Simulator, second: Simulator
) -> None:
    """No silent loop over members that cannot."""
    first.set_faults(failing(FaultKind.QUOTA))
    second.set_faults(failing(FaultKind.UNAUTHORIZED))
    async with pooled(member(first, "a"), member(second, "b")) as app:
        with pytest.raises(dspex.AuthFailed) as caught:
            await app.run(Ask(), question="q")

    assert [attempt.lm for attempt in caught.value.attempts] == ["openai/a", "openai/b"]  # type: ignore[attr-defined]


async def test_traffic_follows_the_weights_and_each_member_has_its_own_parameters(
    first: Simulator, second: Simulator
) -> None:
    """Three of four calls to the first; a run with the same seed shares them the same way."""
    shares = []
    for _ in range(2):
        before = first.stats().requests.get("ok", 0)
        async with pooled(member(first, max_tokens=50), member(second, max_tokens=60), weights=(3.0, 1.0)) as app:
            for number in range(60):
                await app.run(Ask(), question=f"q{number}")
        shares.append(first.stats().requests.get("ok", 0) - before)

    assert shares[0] == shares[1]
    assert 36 <= shares[0] <= 54


async def test_two_keys_of_one_provider_share_what_neither_could_alone() -> None:
    """Each key has 5 requests a minute; the first call of each teaches that, nothing is sent that would be refused."""
    async with Simulator(limits=Limits(rpm=5)) as provider:
        keys = [dspex.LM("openai/rules", api_base=provider.url, api_key=key) for key in ("one", "two")]
        async with pooled(*keys, weights=(1.0, 1.0)) as app:
            await app.run(Ask(), question="first")
            for number in range(9):
                await asyncio.wait_for(app.run(Ask(), question=f"q{number}"), 5)
            with pytest.raises(dspex.RateLimited, match="may be asked again in"):
                await app.options(deadline=1.0).run(Ask(), question="one too many")

        assert provider.stats().requests == {"ok": 10}


# --- limits -------------------------------------------------------------------------------------------------


async def test_a_limit_learned_from_headers_keeps_us_below_it() -> None:
    """Many at once after the first answer: none is sent that the provider would refuse."""
    async with Simulator(limits=Limits(rpm=20)) as provider:
        async with dspex.App(member(provider), cache=None) as app:
            await app.run(Ask(), question="first")
            quick = app.options(deadline=2.0)
            requests = [quick.run(Ask(), question=f"q{number}") for number in range(40)]
            results = await asyncio.gather(*requests, return_exceptions=True)
            node = next(node for node in app.tree().walk() if "in flight" in node.note)

        answered = [each for each in results if isinstance(each, Question)]
        refused = [each for each in results if isinstance(each, dspex.RateLimited)]
        assert 18 <= len(answered) <= 20
        assert len(answered) + len(refused) == 40
        assert set(provider.stats().requests) == {"ok"}
        assert "of 20 requests/min left" in node.note


async def test_limits_of_one_model_do_not_hold_for_another(first: Simulator) -> None:
    """By provider/model; the others have the defaults."""
    limits = {"openai/a": ClientLimits(max_in_flight=1), "openai/*": ClientLimits(max_in_flight=3)}
    first.set_faults(FaultPlan(latency=Latency(median=0.05)))
    high = []
    for name in ("a", "b"):
        async with dspex.App(member(first, name), limits=limits, cache=None) as app:
            await asyncio.gather(*(app.run(Ask(), question=f"{name}{number}") for number in range(6)))
            high.append(first.stats().in_flight_high)

    assert high == [1, 3]


@pytest.mark.parametrize("limits", [{"gpt-5": ClientLimits()}, {"openai/a": 3}, {"acme/*": ClientLimits()}])
def test_limits_that_name_no_model_are_refused(limits: Any) -> None:
    """Silently ignored limits would be found out on the bill."""
    with pytest.raises(dspex.ConfigError):
        dspex.App("openai/a", limits=limits)


# --- hedging ------------------------------------------------------------------------------------------------


async def test_a_slow_first_member_is_hedged_and_broken_off(first: Simulator, second: Simulator) -> None:
    """The second answers, the first one's socket is closed, its lease settled, its cost unknown and told."""
    first.set_faults(FaultPlan(script={CHAT: (HANG,)}))
    async with pooled(member(first, "a"), member(second, "b"), hedge_after=0.02, hedge_share=1.0) as app:
        with collect(app, "dspex.lm.") as events:
            request = app.start(Ask(), question="q")
            prediction = await asyncio.wait_for(request, 5)
        await asyncio.wait_for(first.wait_until(lambda stats: stats.in_flight == 0), 5)
        leases = [account.table.leases for account in app.running_tree().lm._endpoints.values()]
        await until(lambda: not any(leases), "the leases to be settled")
        assert outcomes(request) == [("openai/b", "ok"), ("openai/a", "cancelled")]
        assert sorted(attempt.number for attempt in request.details.attempts) == [1, 2]
        assert dspex.details(prediction).lm == member(second, "b")
        names = [name for name, _ in events]
        assert names.count("dspex.lm.hedge") == names.count("dspex.lm.hedge.won") == 1
        assert names.count("dspex.lm.unknown_charge") == 1
        assert living(runtime_of(app), "lm ") == []


async def test_a_pool_of_one_asks_the_same_model_again_under_another_key(first: Simulator) -> None:
    """The same idempotency key would be the same call to the provider."""
    first.set_faults(FaultPlan(script={CHAT: (HANG,)}))
    async with pooled(member(first), hedge_after=0.02, hedge_share=1.0) as app:
        request = app.start(Ask(), question="q")
        await asyncio.wait_for(request, 5)

    assert [outcome for _, outcome in outcomes(request)] == ["ok", "cancelled"]


async def test_a_quick_first_answer_is_never_hedged(first: Simulator, second: Simulator) -> None:
    """Nobody else hears of the call."""
    async with pooled(member(first, "a"), member(second, "b"), hedge_after=5.0, hedge_share=1.0) as app:
        for number in range(5):
            await app.run(Ask(), question=f"q{number}")

    assert not second.stats().requests


async def test_hedges_stay_within_their_share(first: Simulator, second: Simulator) -> None:
    """Every call is slow; a tenth of them may be asked twice."""
    first.set_faults(FaultPlan(latency=Latency(median=0.05)))
    async with pooled(member(first, "a"), member(second, "b"), hedge_after=0.001, hedge_share=0.1) as app:
        await asyncio.gather(*(app.run(Ask(), question=f"q{number}") for number in range(40)))

    assert 1 <= sum(second.stats().requests.values()) <= 4


async def test_a_hedge_that_fails_leaves_the_first_ask_alone(first: Simulator, second: Simulator) -> None:
    """Its error is noted, and the first answer is waited for."""
    first.set_faults(FaultPlan(script={CHAT: (Fault(delay=1.0),)}))
    second.set_faults(failing(FaultKind.SERVER_ERROR))
    async with pooled(member(first, "a"), member(second, "b"), hedge_after=0.02, hedge_share=1.0) as app:
        request = app.start(Ask(), question="q")
        await asyncio.wait_for(request, 5)

    assert outcomes(request) == [("openai/b", "ServerFailed"), ("openai/a", "ok")]


async def test_killing_a_step_in_the_middle_of_a_race_leaves_nothing_of_either(
    first: Simulator, second: Simulator
) -> None:
    """Both sockets are closed, both leases settled, both possible charges told; the restarted step asks again."""
    first.set_faults(FaultPlan(script={CHAT: (HANG,)}))
    second.set_faults(FaultPlan(script={CHAT: (HANG,)}))
    async with pooled(member(first, "a"), member(second, "b"), hedge_after=0.02, hedge_share=1.0) as app:
        request = app.start(Ask(), question="q")
        for simulator in (first, second):
            await asyncio.wait_for(simulator.wait_until(lambda stats: stats.in_flight == 1), 5)
        step = next(each for each in living(runtime_of(app), "lm answer") if " asks " not in each.label)
        step.ref.kill()
        for simulator in (first, second):
            await asyncio.wait_for(simulator.wait_until(lambda stats: stats.in_flight == 0), 5)
        await asyncio.wait_for(request, 5)

        _, _, *again = found = [outcome for _, outcome in outcomes(request)]
        assert found[:2] == ["killed", "killed"]
        assert sorted(again, reverse=True) in (["ok"], ["ok", "cancelled"])  # a slow machine is hedged once more
        leases = [account.table.leases for account in app.running_tree().lm._endpoints.values()]
        await until(lambda: not any(leases), "the leases to be settled")
        assert [each for each in runtime_of(app).processes.values() if " asks " in each.label] == []


async def test_a_cancelled_caller_ends_both_asks(first: Simulator, second: Simulator) -> None:
    """Before the cancellation travels on."""
    first.set_faults(FaultPlan(script={CHAT: (HANG,)}))
    second.set_faults(FaultPlan(script={CHAT: (HANG,)}))
    async with pooled(member(first, "a"), member(second, "b"), hedge_after=0.02, hedge_share=1.0) as app:
        caller = asyncio.ensure_future(app.run(Ask(), question="q"))
        for simulator in (first, second):
            await asyncio.wait_for(simulator.wait_until(lambda stats: stats.in_flight == 1), 5)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller

        assert [each for each in runtime_of(app).processes.values() if " asks " in each.label] == []
        for simulator in (first, second):
            await asyncio.wait_for(simulator.wait_until(lambda stats: stats.in_flight == 0), 5)


async def test_a_killed_ask_is_made_again(first: Simulator) -> None:
    """Something killed the process of one ask, not the step: that is not an answer, and no end either."""
    first.set_faults(FaultPlan(script={CHAT: (HANG,)}))
    async with pooled(member(first, "a"), hedge_after=60.0, hedge_share=1.0) as app:
        request = app.start(Ask(), question="q")
        await asyncio.wait_for(first.wait_until(lambda stats: stats.in_flight == 1), 5)
        next(each for each in living(runtime_of(app), "lm answer") if " asks " in each.label).ref.kill()
        await asyncio.wait_for(request, 5)

    assert [outcome for _, outcome in outcomes(request)] == ["killed", "ok"]


async def test_a_wait_is_learned_from_the_answers_of_each_member(first: Simulator, second: Simulator) -> None:
    """Twenty quick answers, and then none: the second is asked as soon as the first is slower than it uses to be."""
    async with pooled(member(first, "a"), member(second, "b"), hedge_after="auto", hedge_share=1.0) as app:
        first.set_faults(FaultPlan(script={CHAT: (*[Fault()] * 20, HANG)}))
        for number in range(20):
            await app.run(Ask(), question=f"q{number}")
        assert not second.stats().requests
        with collect(app, "dspex.lm.hedge") as events:
            request = app.start(Ask(), question="q")
            await asyncio.wait_for(request, 5)
        state = app.running_tree().lm._pools[dspex.LMPool((member(first, "a"), member(second, "b")), (), "auto", 1.0)]

    assert outcomes(request) == [("openai/b", "ok"), ("openai/a", "cancelled")]
    assert [name for name, _ in events] == ["dspex.lm.hedge", "dspex.lm.hedge.won"]
    assert [len(seen._latest) for seen in state.first_bytes.values()] == [21, 1]


def runtime_of(app: dspex.App) -> Runtime:
    return app.running_tree().runtime


async def test_of_streamed_answers_the_first_piece_decides(first: Simulator, second: Simulator) -> None:
    """The reader sees one answer, whole, from the member that spoke first."""
    first.set_faults(FaultPlan(script={CHAT: (HANG,)}))
    async with pooled(member(first, "a"), member(second, "b"), hedge_after=0.02, hedge_share=1.0) as app:
        async with app.stream(dspex.Predict(Question), question="q") as stream:
            pieces = [delta.text async for delta in stream if isinstance(delta, dspex.Delta)]
            prediction = await stream.result()

        assert "".join(pieces) == prediction.answer
        assert dspex.details(prediction).lm == member(second, "b")
        await asyncio.wait_for(first.wait_until(lambda stats: stats.in_flight == 0), 5)
