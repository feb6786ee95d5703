"""Retries, budget, limiter and breaker, each told the time by hand."""

from __future__ import annotations

import math

import pytest

from dspex.errors import (
    AuthFailed,
    CircuitOpen,
    ContextTooLong,
    LMError,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    ResponseInvalid,
    ServerFailed,
    TransportFailed,
)
from dspex.services.lm.breaker import BreakerState, CircuitBreaker
from dspex.services.lm.limiter import Limiter
from dspex.services.lm.retry import (
    Raise,
    RetryAfter,
    RetryBudget,
    RetryPolicy,
    Verdict,
    is_outage,
    is_overload,
)

POLICY = RetryPolicy(max_attempts=4, base=0.5, cap=8.0)


def judge(error: LMError, attempt: int = 1, *, deadline: float = 1000.0, rand: float = 0.5) -> Verdict:
    return POLICY.judge(error, attempt, now=100.0, deadline=deadline, rand=lambda: rand)


def state_of(breaker: CircuitBreaker) -> BreakerState:
    return breaker.state


class TestRetryPolicy:
    @pytest.mark.parametrize(("attempt", "delay"), [(1, 0.25), (2, 0.5), (3, 1.0)])
    def test_the_backoff_doubles(self, attempt: int, delay: float) -> None:
        """Half of the longest wait, as the draw says."""
        assert judge(ServerFailed("x"), attempt) == RetryAfter(delay)

    def test_the_backoff_has_a_cap(self) -> None:
        """Also where doubling would overflow."""
        policy = RetryPolicy(max_attempts=10_000)

        verdict = policy.judge(ServerFailed("x"), 9_999, now=0.0, deadline=1e9, rand=lambda: 1.0)

        assert verdict == RetryAfter(8.0)

    def test_retry_after_is_a_minimum(self) -> None:
        """The provider knows better, also above our cap."""
        assert judge(RateLimited("x", retry_after=20.0)) == RetryAfter(20.0)
        assert judge(RateLimited("x", retry_after=0.1)) == RetryAfter(0.25)

    def test_a_wait_that_reaches_the_deadline_is_raised_now(self) -> None:
        """Waiting for nothing is worse than the answer."""
        error = RateLimited("x", retry_after=20.0)

        assert judge(error, deadline=120.0) == Raise(error, "deadline")

    def test_the_last_attempt_is_the_last(self) -> None:
        """Attempts count from one."""
        error = TransportFailed("x")

        assert judge(error, 4) == Raise(error, "attempts")

    @pytest.mark.parametrize("kind", [AuthFailed, QuotaExhausted, RequestRejected, ContextTooLong])
    def test_what_cannot_get_better_is_not_retried(self, kind: type[LMError]) -> None:
        """Retry-After or not."""
        error = kind("x", retry_after=0.1)

        assert judge(error) == Raise(error, "final")

    def test_a_policy_that_makes_no_sense_is_refused(self) -> None:
        """It would show up as a hang otherwise."""
        with pytest.raises(ValueError, match="max_attempts"):
            RetryPolicy(max_attempts=0)
        with pytest.raises(ValueError, match="base <= cap"):
            RetryPolicy(base=9.0)


class TestRetryBudget:
    def test_the_reserve_is_spent_and_grows_back(self) -> None:
        """A quiet client has its first retries free."""
        budget = RetryBudget(now=0.0, reserve=2.0, refill=0.5)

        assert [budget.spend(0.0) for _ in range(3)] == [True, True, False]
        assert [budget.spend(2.0) for _ in range(2)] == [True, False]
        assert budget.spend(1_000.0)
        assert budget.available == 1

    def test_traffic_earns_retries(self) -> None:
        """Five first attempts earn one at 20 %."""
        budget = RetryBudget(now=0.0, reserve=1.0, share=0.2, refill=0.0)
        budget.spend(0.0)
        for _ in range(5):
            budget.earn(0.0)

        assert budget.available == 1


class TestLimiter:
    def test_slots_run_out_and_come_back(self) -> None:
        """The limit is on what is in flight, not on a rate."""
        limiter = Limiter(2)

        assert [limiter.try_acquire(0.0) for _ in range(3)] == [True, True, False]
        limiter.release()
        assert limiter.try_acquire(0.0)
        assert repr(limiter) == "<Limiter 2 of 2 in flight, at most 2>"

    def test_one_burst_of_overloads_shrinks_once(self) -> None:
        """They all tell of the same moment."""
        limiter = Limiter(10)
        for _ in range(10):
            limiter.try_acquire(0.0)
        for _ in range(4):
            limiter.overloaded(1.0)

        assert limiter.limit == 7
        limiter.overloaded(2.5)
        assert limiter.limit == 4

    def test_a_limits_worth_of_success_adds_one(self) -> None:
        """Additive increase, only while the limit is in use, up to the maximum."""
        limiter = Limiter(4)
        limiter.try_acquire(0.0)
        limiter.overloaded(0.0)
        assert limiter.limit == 2
        for _ in range(2):
            limiter.try_acquire(0.0)
            limiter.try_acquire(0.0)
            limiter.succeeded(0.0)
            limiter.release()

        assert limiter.limit == 3

    def test_a_limiter_begun_low_grows_with_every_success_until_the_first_overload(self) -> None:
        """Slow start: a successor finds its provider's limit in a few rounds."""
        limiter = Limiter(100, initial=4)
        for _ in range(4):
            limiter.try_acquire(0.0)
        limiter.succeeded(0.0)
        limiter.succeeded(0.0)
        assert limiter.limit == 6
        limiter.overloaded(0.0)
        assert limiter.limit == 4
        for _ in range(3):
            limiter.try_acquire(0.0)
        limiter.succeeded(0.0)

        assert limiter.limit == 4

    def test_retry_after_pauses_the_whole_client(self) -> None:
        """Other calls would be refused as well."""
        limiter = Limiter(10)
        limiter.try_acquire(0.0)
        limiter.overloaded(0.0, retry_after=5.0)

        assert limiter.wait(2.0) == 3.0
        assert not limiter.try_acquire(4.9)
        assert limiter.try_acquire(5.0)

    def test_adopted_calls_count(self) -> None:
        """A restarted client starts with what its predecessor put on the wire."""
        limiter = Limiter(2)
        limiter.adopt(3)

        assert limiter.wait(0.0) is None

    def test_releasing_twice_is_refused(self) -> None:
        """A lease is settled once."""
        with pytest.raises(ValueError, match="released"):
            Limiter(1).release()


class TestCircuitBreaker:
    def opened(self, now: float = 0.0) -> CircuitBreaker:
        breaker = CircuitBreaker(min_calls=4, cooldown=2.0)
        for ticket in [breaker.admit(now) for _ in range(4)]:
            assert ticket is not None
            breaker.failed(ticket, now)
        assert state_of(breaker) is BreakerState.OPEN
        return breaker

    def test_it_opens_when_half_of_enough_calls_failed(self) -> None:
        """Few failures, or many among more successes, are normal."""
        breaker = CircuitBreaker(min_calls=4)
        outcomes = [False, True, False]
        for failed in outcomes:
            ticket = breaker.admit(0.0)
            assert ticket is not None
            (breaker.failed if failed else breaker.succeeded)(ticket, 0.0)
        assert state_of(breaker) is BreakerState.CLOSED
        ticket = breaker.admit(0.0)
        assert ticket is not None
        breaker.failed(ticket, 0.0)
        assert state_of(breaker) is BreakerState.OPEN

    def test_open_it_admits_nothing_until_the_probe_is_due(self) -> None:
        """``retry_after`` says when."""
        breaker = self.opened()

        assert breaker.admit(1.5) is None
        assert breaker.retry_after(1.5) == 0.5
        assert breaker.admit(2.0) is not None

    def test_half_open_one_call_is_the_probe(self) -> None:
        """The second waits for its verdict."""
        breaker = self.opened()
        probe = breaker.admit(2.0)
        assert probe is not None

        assert breaker.admit(2.0) is None
        breaker.succeeded(probe, 3.0)
        assert state_of(breaker) is BreakerState.CLOSED

    def test_beside_a_silent_probe_another_goes_out_after_each_cooldown(self) -> None:
        """The connection of the first may be lost without a word: the answer of any of them closes the breaker."""
        breaker = self.opened()
        probes = [breaker.admit(now) for now in (2.0, 3.5, 4.0, 5.5, 6.0)]
        assert [probe is not None for probe in probes] == [True, False, True, False, True]
        assert breaker.next_probe(6.5) == 1.5
        assert probes[0] is not None
        assert probes[2] is not None

        breaker.failed(probes[0], 7.0)
        assert state_of(breaker) is BreakerState.OPEN
        assert breaker.next_probe(7.0) == math.inf
        breaker.succeeded(probes[2], 7.5)
        assert state_of(breaker) is BreakerState.CLOSED

    def test_after_it_opened_again_the_next_probe_waits_for_no_older_one(self) -> None:
        """However long a server is away, it is found a cooldown after it is back at the latest."""
        breaker = self.opened()
        first, second = breaker.admit(2.0), breaker.admit(4.0)
        assert first is not None
        assert second is not None
        breaker.failed(second, 4.5)

        assert breaker.retry_after(4.5) == 2.0
        assert breaker.admit(6.5) is not None

    def test_a_probe_without_verdict_frees_its_place(self) -> None:
        """Its caller was cancelled, or its step died."""
        breaker = self.opened()
        probe = breaker.admit(2.0)
        assert probe is not None
        breaker.forgotten(probe)

        assert state_of(breaker) is BreakerState.HALF_OPEN
        assert breaker.admit(2.0) is not None

    def test_late_outcomes_of_the_time_before_change_nothing(self) -> None:
        """They tell of another provider than the one probed now."""
        breaker = CircuitBreaker(min_calls=4)
        tickets = [breaker.admit(0.0) for _ in range(6)]
        late = [ticket for ticket in tickets if ticket is not None]
        for ticket in late[:4]:
            breaker.failed(ticket, 0.0)
        probe = breaker.admit(2.0)
        assert probe is not None
        breaker.succeeded(late[4], 2.0)
        assert state_of(breaker) is BreakerState.HALF_OPEN
        breaker.succeeded(probe, 2.0)
        breaker.failed(late[5], 2.0)
        assert state_of(breaker) is BreakerState.CLOSED

    def test_old_failures_are_forgotten(self) -> None:
        """The window slides."""
        breaker = CircuitBreaker(min_calls=4, window=10.0)
        for now in (0.0, 1.0, 2.0, 11.5):
            ticket = breaker.admit(now)
            assert ticket is not None
            breaker.failed(ticket, now)

        assert state_of(breaker) is BreakerState.CLOSED


def test_where_nothing_was_sent_the_next_try_is_soon() -> None:
    """However many tries have failed: a server that is down is not burdened, and one that is back is found."""
    refused, reset = TransportFailed("x"), TransportFailed("x")
    refused.may_be_charged = False
    policy = RetryPolicy()
    for error, longest in ((refused, 1.0), (CircuitOpen("x", retry_after=0.5), 1.0), (reset, 8.0)):
        assert policy.judge(error, 5, now=0.0, deadline=99.0, rand=lambda: 1.0) == RetryAfter(longest)
    assert policy.judge(refused, 6, now=0.0, deadline=99.0, rand=lambda: 1.0) == Raise(refused, "attempts")


def test_what_counts_as_outage_and_as_overload() -> None:
    """The limiter and the breaker read the same errors differently."""
    errors = {
        "rate": RateLimited("x", status=429),
        "overloaded": ServerFailed("x", status=529),
        "server": ServerFailed("x", status=500),
        "refused": TransportFailed("x"),
        "conflict": TransportFailed("x", status=409),
        "nonsense": ResponseInvalid("x", status=200),
        "quota": QuotaExhausted("x", status=429),
    }

    assert {name for name, error in errors.items() if is_outage(error)} == {"overloaded", "server", "refused"}
    assert {name for name, error in errors.items() if is_overload(error)} == {"rate", "overloaded"}
