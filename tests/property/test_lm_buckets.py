"""Requests and tokens a minute: whatever the schedule, never more than the bucket and what flowed into it."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from dspex.protocols.wire import Headroom
from dspex.services.lm.buckets import Bucket, RateLimits, TokenHold

steps = st.floats(0, 40, allow_nan=False)
TINY = 1e-3


@given(st.lists(st.tuples(steps, st.integers(1, 150)), max_size=60), st.integers(1, 100))
def test_no_stretch_of_time_sees_more_than_the_bucket_and_its_refill(
    wishes: list[tuple[float, int]], capacity: int
) -> None:
    """Every window, not only those from the start: a full bucket, plus a minute's worth a minute."""
    bucket, now, sent = Bucket(capacity, now=0.0), 0.0, list[tuple[float, int]]()
    for step, wish in wishes:
        now += step
        amount = min(wish, capacity)
        if bucket.wait(wish, now) == 0.0:
            bucket.take(wish, now)
            sent.append((now, amount))
        for start, _ in sent:
            within = sum(each for at, each in sent if at >= start)
            assert within <= capacity + (now - start) * capacity / 60 + TINY


@given(capacity=st.integers(1, 1000), amount=st.integers(1, 2000), taken=st.integers(0, 1000), step=steps)
def test_the_wait_is_exactly_as_long_as_it_must_be(capacity: int, amount: int, taken: int, step: float) -> None:
    """Not takeable a moment before, takeable then; what is larger than the bucket waits for a full one."""
    bucket = Bucket(capacity, now=0.0)
    bucket.take(min(taken, capacity), 0.0)
    wait = bucket.wait(amount, step)

    assert wait <= 60.0
    assert bucket.wait(amount, step + wait) == 0.0
    if wait > 0.01:
        assert Bucket(capacity, now=0.0, level=capacity - min(taken, capacity)).wait(amount, step + wait * 0.9) > 0


@dataclass
class Out:
    """A call on the wire, as the model sees it."""

    held: TokenHold
    estimate: int


class RatesMachine(RuleBasedStateMachine):
    """The user's limits: levels recomputed as exact sums, corrections and all."""

    @initialize(rpm=st.integers(1, 8), tpm=st.integers(50, 400), empty=st.booleans())
    def begin(self, rpm: int, tpm: int, empty: bool) -> None:
        self.now = 0.0
        self.rpm, self.tpm = rpm, tpm
        self.rates = RateLimits(rpm=rpm, tpm=tpm, learn=True, now=0.0, empty=empty)
        self.requests, self.tokens = (0.0, 0.0) if empty else (float(rpm), float(tpm))
        self.begun = self.tokens
        self.out: list[Out] = []
        self.used = 0.0

    @rule(step=steps)
    def time_passes(self, step: float) -> None:
        self.now += step
        self.requests = min(self.rpm, self.requests + step * self.rpm / 60)
        self.tokens = min(self.tpm, self.tokens + step * self.tpm / 60)

    @rule(tokens=st.integers(1, 400))
    def ask(self, tokens: int) -> None:
        wanted = min(tokens, self.tpm)
        may = self.requests > 1 - TINY and self.tokens > wanted - TINY
        wait = self.rates.wait(tokens, self.now)
        if abs(self.requests - 1) > TINY and abs(self.tokens - wanted) > TINY:
            assert (wait == 0.0) == may
        if wait == 0.0:
            self.requests -= 1
            self.tokens -= wanted
            self.out.append(Out(self.rates.reserve(tokens, self.now), wanted))

    @precondition(lambda self: self.out)
    @rule(data=st.data(), share=st.floats(0, 1))
    def settle(self, data: st.DataObject, share: float) -> None:
        call = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        used = int(call.estimate * share)
        self.rates.charge(call.held, used, self.now)
        self.tokens = min(self.tpm, self.tokens + call.estimate - used)
        self.used += used

    @precondition(lambda self: self.out)
    @rule(over=st.integers(1, 500))
    def an_answer_is_longer_than_its_estimate(self, over: int) -> None:
        call = self.out.pop()
        self.rates.charge(call.held, call.estimate + over, self.now)
        self.tokens -= over
        self.used += call.estimate
        self.begun += over  # the one thing that may take more than is there, and it is waited for

    @precondition(lambda self: self.out)
    @rule()
    def never_sent(self) -> None:
        call = self.out.pop()
        self.rates.refund(call.held, self.now)
        self.requests = min(self.rpm, self.requests + 1)
        self.tokens = min(self.tpm, self.tokens + call.estimate)

    @rule(left=st.integers(0, 400))
    def the_provider_says_less_is_left(self, left: int) -> None:
        """Others use the key too: the level goes down to what it says, never up."""
        held = TokenHold(0, self.rates.requests.taken, self.rates.tokens.taken)  # type: ignore[union-attr]
        self.rates.observe(Headroom(tokens=left, token_limit=10_000), held, self.now, self.now)
        if self.tokens > left:
            self.tokens = float(left)

    @invariant()
    def agrees(self) -> None:
        if not hasattr(self, "rates"):
            return
        requests, tokens = self.rates.requests, self.rates.tokens
        assert requests is not None
        assert tokens is not None
        assert math.isclose(requests.level(self.now), self.requests, abs_tol=TINY)
        assert math.isclose(tokens.level(self.now), self.tokens, abs_tol=TINY)
        assert tokens.capacity == self.tpm  # what the user gave stands
        assert tokens.level(self.now) <= self.tpm

    @invariant()
    def nobody_used_more_than_there_was(self) -> None:
        if hasattr(self, "rates"):
            on_the_wire = sum(call.estimate for call in self.out)
            assert self.used + on_the_wire <= self.begun + self.now * self.tpm / 60 + TINY


TestRatesMachine = RatesMachine.TestCase


class Provider:
    """A provider that keeps a bucket itself and tells what is left: what learning is judged by."""

    def __init__(self, limit: int) -> None:
        self.bucket = Bucket(limit, now=5e3)
        self.limit = limit

    def answer(self, now: float) -> Headroom | None:
        """Count one request; None is a 429."""
        if self.bucket.wait(1, now) > 0:
            return None
        self.bucket.take(1, now)
        left = int(self.bucket.level(now) + 1e-6)
        reset = (self.limit - self.bucket.level(now)) * 60 / self.limit
        return Headroom(requests=left, requests_reset=reset, request_limit=self.limit)


@given(st.integers(2, 60), st.lists(st.floats(0, 10, allow_nan=False), min_size=5, max_size=60))
def test_a_learned_limit_is_never_overrun_by_one_who_asks_one_at_a_time(limit: int, pauses: list[float]) -> None:
    """From the first answer on, what the headers taught keeps us below 429, for whatever rhythm."""
    rates, provider, now = RateLimits(rpm=None, tpm=None, learn=True, now=5e3), Provider(limit), 5e3
    for pause in pauses:
        now += pause
        wait = rates.wait(10, now)
        assert wait <= 61.0
        now += wait
        held = rates.reserve(10, now)
        told = provider.answer(now + 1e-3)
        assert told is not None
        rates.observe(told, held, now, now)
        assert rates.requests is not None
        assert rates.requests.capacity == limit
        assert rates.requests.period == 60.0
