"""The pure states of the LM client against models that are too simple to be wrong."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from dspex.errors import RateLimited, ServerFailed
from dspex.services.lm.breaker import BreakerState, CircuitBreaker
from dspex.services.lm.limiter import Gradient, Limiter
from dspex.services.lm.retry import Raise, RetryAfter, RetryBudget, RetryPolicy

seconds = st.floats(0, 100, allow_nan=False)
steps = st.floats(0, 4, allow_nan=False)


@given(
    attempt=st.integers(1, 10),
    retry_after=st.none() | seconds,
    now=seconds,
    left=seconds,
    draw=st.floats(0, 1, exclude_max=True),
)
def test_a_retry_starts_before_the_deadline_and_not_before_it_may(
    attempt: int, retry_after: float | None, now: float, left: float, draw: float
) -> None:
    """Full jitter between zero and the capped backoff, Retry-After the floor, the deadline the end."""
    policy = RetryPolicy(max_attempts=6)
    error = RateLimited("x", retry_after=retry_after)

    match policy.judge(error, attempt, now=now, deadline=now + left, rand=lambda: draw):
        case RetryAfter(delay):
            assert attempt < 6
            assert delay >= (retry_after or 0.0)
            assert delay <= max(retry_after or 0.0, min(8.0, 0.5 * 2 ** (attempt - 1)))
            assert now + delay < now + left
        case Raise(caught, why):
            assert isinstance(caught, RateLimited)
            too_long = (retry_after or 0.0) > policy.max_retry_after
            assert why == ("attempts" if attempt >= 6 else "retry-after" if too_long else "deadline")


@given(st.lists(st.tuples(st.sampled_from(["first", "retry"]), steps), max_size=200))
def test_retries_stay_a_share_of_the_traffic(events: list[tuple[str, float]]) -> None:
    """At most the reserve, what traffic earned and what time gave back."""
    budget, now, firsts, retries = RetryBudget(now=0.0, share=0.2, reserve=3.0, refill=0.1), 0.0, 0, 0
    for kind, step in events:
        now += step
        if kind == "first":
            firsts += 1
            budget.earn(now)
        else:
            retries += budget.spend(now)
        assert retries <= 3.0 + 0.2 * firsts + 0.1 * now + 1e-6


class LimiterMachine(RuleBasedStateMachine):
    """Slots as a counter, the limit as the textbook formula, the pause as one number."""

    def __init__(self) -> None:
        super().__init__()
        self.limiter = Limiter(8, initial=4)
        self.now = self.pause_until = 0.0
        self.in_flight, self.limit, self.shrunk_at, self.good = 0, 4.0, -10.0, 0
        self.slow_start = True
        self.narrowed = 1.0
        self.ramp_at, self.ramp_from = -1e9, 0.0

    @property
    def whole(self) -> int:
        return int(self.limit) if self.narrowed == 1.0 else max(1, int(self.limit * self.narrowed))

    @rule(step=steps)
    def time_passes(self, step: float) -> None:
        self.now += step

    @rule()
    def acquire(self) -> None:
        expected = self.now >= self.pause_until and self.in_flight < self.whole
        assert self.limiter.try_acquire(self.now) is expected
        self.in_flight += expected

    @precondition(lambda self: self.in_flight)
    @rule()
    def succeed(self) -> None:
        if self.in_flight * 2 >= self.whole:
            self.good += 1
            if self.slow_start or self.good >= self.whole:
                ramp = 8.0
                if self.now - self.ramp_at < 900:
                    ramp = max(1.0, self.limit, self.ramp_from * (1 + 0.5 * (self.now - self.ramp_at) / 900))
                self.good, self.limit = 0, min(8.0, ramp, self.limit + 1)
        self.in_flight -= 1
        self.limiter.succeeded(self.now)

    @precondition(lambda self: self.in_flight)
    @rule(retry_after=st.none() | steps, slow_down=st.booleans())
    def overload(self, retry_after: float | None, slow_down: bool) -> None:
        self.in_flight, self.good, self.slow_start = self.in_flight - 1, 0, False
        if self.now - self.shrunk_at >= 1.0:
            self.shrunk_at, self.limit = self.now, max(1.0, self.limit * 0.7)
        if slow_down:
            self.ramp_at, self.ramp_from = self.now, self.limit
        self.pause_until = max(self.pause_until, self.now + (retry_after or 0.0))
        self.limiter.overloaded(self.now, retry_after, slow_down=slow_down)

    @rule(left=st.floats(-0.5, 1.0, allow_nan=False))
    def narrow(self, left: float) -> None:
        self.narrowed = 1.0 if left >= 0.1 else max(0.0, left) / 0.1
        self.limiter.narrow(left)

    @rule(hours=st.integers(1, 3))
    def a_ramp_is_over(self, hours: int) -> None:
        self.now += hours * 3600.0

    @precondition(lambda self: self.in_flight)
    @rule()
    def let_go(self) -> None:
        self.in_flight -= 1
        self.limiter.release()

    @rule(count=st.integers(0, 3))
    def adopt(self, count: int) -> None:
        self.in_flight += count
        self.limiter.adopt(count)

    @invariant()
    def agrees(self) -> None:
        assert self.limiter.in_flight == self.in_flight
        assert self.limiter.limit == self.whole
        assert 1 <= self.limiter.limit <= 8

    @invariant()
    def somebody_can_always_go_on(self) -> None:
        """Never idle for ever: with nothing in flight the wait is a finite number of seconds."""
        wait = self.limiter.wait(self.now)
        assert wait is not None or self.in_flight > 0


TestLimiterMachine = LimiterMachine.TestCase


class BreakerMachine(RuleBasedStateMachine):
    """All outcomes of the present closed period in a list, recounted each time."""

    def __init__(self) -> None:
        super().__init__()
        self.breaker = CircuitBreaker(share=0.5, min_calls=3, window=10.0, cooldown=2.0)
        self.now = 0.0
        self.state = "closed"
        self.opened_at = self.probed_at = 0.0
        self.outcomes: list[tuple[float, bool]] = []
        self.current: set[int] = set()  # sent in this closed period
        self.stale: set[int] = set()
        self.probes: set[int] = set()

    @rule(step=steps)
    def time_passes(self, step: float) -> None:
        self.now += step

    @rule()
    def admit(self) -> None:
        if self.state == "open" and self.now >= self.opened_at + 2.0:
            self.state, self.probed_at = "half_open", -2.0
        is_due = not self.probes or self.now >= self.probed_at + 2.0
        allowed = self.state == "closed" or (self.state == "half_open" and is_due)
        ticket = self.breaker.admit(self.now)
        assert (ticket is not None) == allowed
        if ticket is None:
            return
        if self.state == "half_open":
            self.probes.add(ticket)
            self.probed_at = self.now
        else:
            self.current.add(ticket)

    def opens(self) -> None:
        self.state, self.opened_at = "open", self.now
        self.stale |= self.current
        self.current, self.outcomes = set(), []

    def count(self, failed: bool) -> None:
        self.outcomes.append((self.now // 1.0, failed))
        recent = [bad for place, bad in self.outcomes if place > self.now // 1.0 - 10]
        if failed and len(recent) >= 3 and sum(recent) >= 0.5 * len(recent):
            self.opens()

    @precondition(lambda self: self.current)
    @rule(data=st.data(), failed=st.booleans())
    def call_ends(self, data: st.DataObject, failed: bool) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.current)))
        self.current.remove(ticket)
        (self.breaker.failed if failed else self.breaker.succeeded)(ticket, self.now)
        self.count(failed)

    @precondition(lambda self: self.stale)
    @rule(data=st.data(), failed=st.booleans())
    def stale_call_ends(self, data: st.DataObject, failed: bool) -> None:
        ticket = data.draw(st.sampled_from(sorted(self.stale)))
        self.stale.remove(ticket)
        (self.breaker.failed if failed else self.breaker.succeeded)(ticket, self.now)

    @precondition(lambda self: self.probes)
    @rule(data=st.data(), outcome=st.sampled_from(["failed", "succeeded", "forgotten"]))
    def probe_ends(self, data: st.DataObject, outcome: str) -> None:
        probe = data.draw(st.sampled_from(sorted(self.probes)))
        self.probes.remove(probe)
        match outcome:
            case "failed":
                self.breaker.failed(probe, self.now)
                if self.state == "half_open":
                    self.opens()
            case "succeeded":
                self.breaker.succeeded(probe, self.now)
                self.state = "closed"
                self.stale |= self.probes
                self.probes = set()
            case _:
                self.breaker.forgotten(probe)

    @invariant()
    def agrees(self) -> None:
        assert self.breaker.state is BreakerState(self.state)


TestBreakerMachine = BreakerMachine.TestCase


@given(st.integers(0, 50))
def test_an_error_of_the_provider_is_never_retried_without_end(seed: int) -> None:
    """Whatever the draws, the attempts of one call are bounded."""
    policy, attempt, now = RetryPolicy(), 1, 0.0
    while isinstance(
        verdict := policy.judge(ServerFailed("x"), attempt, now=now, deadline=1e9, rand=lambda: seed / 51), RetryAfter
    ):
        attempt, now = attempt + 1, now + verdict.delay

    assert attempt == policy.max_attempts


@given(
    st.lists(st.floats(0.01, 10, allow_nan=False), min_size=1, max_size=300),
    st.floats(1, 500, allow_nan=False),
    st.floats(1, 4, allow_nan=False),
)
def test_a_gradient_only_ever_asks_for_less_and_never_for_much_less_at_once(
    latencies: list[float], limit: float, tolerance: float
) -> None:
    """A fifth of the way to a half at most; and nothing while latencies stay within the tolerance of the past."""
    gradient = Gradient(tolerance=tolerance, batch=5)
    steady = max(latencies) <= tolerance * min(latencies)
    for latency in latencies:
        shrunk = gradient.shrunk(limit, latency, 0.0)
        if shrunk is not None:
            assert not steady
            assert 0.9 * limit <= shrunk < limit
            limit = max(1.0, shrunk)


def test_a_server_of_ones_own_is_found_to_queue_and_to_have_recovered() -> None:
    """Latency grows with what is in flight beyond 8: the limit settles near there, not at 1 and not at 64."""
    limiter, now = Limiter(64, gradient=Gradient()), 0.0
    for _ in range(20):  # what it is like with nobody there
        limiter.try_acquire(now)
        limiter.succeeded(now, 0.1)
    limits = []
    for _ in range(1000):
        count = limiter.limit
        for _ in range(count):
            assert limiter.try_acquire(now)
        latency = 0.1 * max(1.0, count / 8)
        now += latency
        for _ in range(count):
            limiter.succeeded(now, latency)
        limits.append(limiter.limit)

    assert min(limits[-300:]) >= 8
    assert max(limits[-300:]) <= 40
