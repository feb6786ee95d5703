"""Whose turn it is in a pool, and how often a second one may be asked."""

from __future__ import annotations

import math
import random
from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st

from dspex.protocols.model import LM, LMPool
from dspex.services.lm.first_bytes import FirstBytes
from dspex.services.lm.pool_policy import HedgeBudget, Round, order_of

NAMES = [f"openai/m{number}" for number in range(6)]
weights = st.lists(st.floats(0, 10, allow_nan=False), min_size=1, max_size=6).filter(lambda each: sum(each) > 0.1)


def resolve(lm: str | LM | LMPool) -> LM | LMPool:
    return LM(lm) if isinstance(lm, str) else lm


def order(pool: LMPool, seed: int = 0) -> list[str]:
    return [lm.model for lm in order_of(pool, resolve, random.Random(seed).random)]


@given(weights, st.integers())
def test_every_member_is_asked_once_those_without_weight_last(shares: list[float], seed: int) -> None:
    """A drawn order is a permutation; a weight of 0 is a reserve."""
    names = NAMES[: len(shares)]
    drawn = order(LMPool(tuple(names), weights=tuple(shares)), seed)

    assert sorted(drawn) == names
    reserves = [name for name, share in zip(names, shares, strict=True) if share == 0]
    assert drawn[len(drawn) - len(reserves) :] == reserves


@settings(max_examples=15)
@given(st.integers(0, 5), st.lists(st.integers(1, 9), min_size=2, max_size=4))
def test_the_first_choice_follows_the_weights_whoever_is_passed_over(seed: int, shares: list[int]) -> None:
    """Leaving out a member that cannot answer, the others' shares among themselves stay what they were."""
    names, out, rand = NAMES[: len(shares)], NAMES[0], random.Random(seed).random
    pool = LMPool(tuple(names), weights=tuple(map(float, shares)))
    firsts = Counter(next(lm.model for lm in order_of(pool, resolve, rand) if lm.model != out) for _ in range(500))

    for name, share in list(zip(names, shares, strict=True))[1:]:
        expected = share / sum(shares[1:])
        assert abs(firsts[name] / 500 - expected) < 5 * math.sqrt(0.25 / 500)


def test_pools_in_pools_are_unfolded_in_their_place() -> None:
    """A model that is in there twice is asked where it comes first."""
    inner = LMPool((NAMES[1], NAMES[2]))

    assert order(LMPool((NAMES[0], inner, NAMES[1], NAMES[3]))) == NAMES[:4]


def test_the_same_seed_gives_the_same_order() -> None:
    """A run can be repeated."""
    pool = LMPool(tuple(NAMES), weights=(1.0,) * 6)

    assert order(pool, 7) == order(pool, 7)


@given(st.floats(0, 1, allow_nan=False), st.lists(st.booleans(), max_size=300))
def test_hedges_stay_a_share_of_the_calls(share: float, wishes: list[bool]) -> None:
    """Whatever the order in which calls turn out to be slow."""
    budget = HedgeBudget(share)
    for slow in wishes:
        budget.earn()
        if slow:
            assert budget.available == budget.spend()
        assert budget.hedges <= share * budget.calls + 1e-6


def test_a_budget_that_is_asked_for_all_the_time_gives_its_share() -> None:
    """It is a share, not a share of a share."""
    budget = HedgeBudget(0.05)
    for _ in range(1000):
        budget.earn()
        budget.spend()

    assert budget.hedges == 50


@given(st.integers(1, 5), st.lists(st.tuples(st.integers(0, 4), st.none() | st.floats(0, 5, allow_nan=False))))
def test_a_round_knows_who_may_be_asked(count: int, events: list[tuple[int, float | None]]) -> None:
    """Against a dictionary of times; out is for ever."""
    pool_round, model, now = Round(count), dict.fromkeys(range(count), 0.0), 0.0
    for member, delay in events:
        now += 1.0
        if member >= count or model[member] == math.inf:
            continue
        if delay is None:
            pool_round.out(member)
            model[member] = math.inf
        else:
            pool_round.wait(member, now + delay)
            model[member] = now + delay
        assert pool_round.due(now) == [each for each in range(count) if model[each] <= now]
        alive = [at for at in model.values() if at < math.inf]
        assert pool_round.left() == bool(alive)
        if not pool_round.due(now):
            assert pool_round.next_at() == (min(alive) if alive else None)


seconds = st.floats(0, 1000, allow_nan=False)


@given(st.lists(seconds, max_size=60), st.integers(1, 30), st.floats(0.01, 1.0))
def test_a_learned_wait_is_the_quantile_of_the_latest_answers(seen: list[float], window: int, share: float) -> None:
    """Against the definition: the smallest time seen within which that share of them has begun."""
    learned = FirstBytes(share=share, least=5, window=window)
    for number, each in enumerate(seen, 1):
        learned.note(each)
        latest = seen[:number][-window:]

        if len(latest) < 5:
            assert learned.value is None
            continue
        value = learned.value
        assert value in latest
        assert sum(each <= value for each in latest) >= share * len(latest) - 1e-9
        assert sum(each < value for each in latest) < share * len(latest) + 1e-9


@given(st.lists(seconds, min_size=20, max_size=300))
def test_few_are_slower_than_a_learned_wait(seen: list[float]) -> None:
    """At most one in twenty of what was seen lately: about what a hedge budget of 5 % allows."""
    learned = FirstBytes()
    for each in seen:
        learned.note(each)

    value = learned.value
    assert value is not None
    assert sum(each > value for each in seen[-200:]) <= 0.05 * len(seen[-200:])


def test_nothing_is_known_before_twenty_answers() -> None:
    """A wait learned from a handful would be chance."""
    learned = FirstBytes()
    for _ in range(19):
        learned.note(1.0)
    assert learned.value is None

    learned.note(2.0)
    assert learned.value == 1.0
