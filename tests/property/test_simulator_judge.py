"""The judge has nothing to say about a client that behaves, and something about each that does not."""

import random
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from dspex.simulator import Arrival, FindingKind, judge

_TRANSIENT = ["429", "slow_down", "limited", "overloaded", "500", "504", "reset", "truncate", "cut_stream", "html"]
_FINAL = ["ok", "quota", "billing", "400", "401", "context", "rejected", "refusal"]
_STATUS = {"429": 429, "slow_down": 429, "limited": 429, "overloaded": 503, "500": 500, "504": 504, "quota": 429}
_WAITS = ("429", "slow_down", "limited", "overloaded")
_CALLS = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from(_TRANSIENT), st.floats(0, 3)), max_size=4),
        st.sampled_from(_FINAL),
        st.floats(0, 5),
    ),
    min_size=1,
    max_size=6,
)


def _behaved(calls: list[tuple[list[tuple[str, float]], str, float]]) -> list[Arrival]:
    """Play a client that sends one request at a time for each call, and waits as it is told."""
    found: list[Arrival] = []
    for name, (stumbles, end, start) in enumerate(calls):
        at = start
        for attempt, (outcome, wait) in enumerate([*stumbles, (end, 0.0)], 1):
            found.append(
                Arrival(
                    call=str(name),
                    named_by="idempotency-key",
                    attempt=attempt,
                    at=at,
                    ended=at + 0.25,
                    path="/v1/x",
                    outcome=outcome,
                    status=_STATUS.get(outcome, 400 if outcome in ("400", "context", "rejected") else 200),
                    retry_after=wait if outcome in _WAITS else None,
                )
            )
            at += 0.25 + wait
    found.sort(key=lambda one: one.at)
    return [replace(one, number=number) for number, one in enumerate(found, 1)]


@given(_CALLS)
def test_a_client_that_behaves_is_found_to(calls: list[tuple[list[tuple[str, float]], str, float]]) -> None:
    """Whatever it met: no finding, and every request is counted."""
    arrivals = _behaved(calls)
    report = judge(arrivals)

    assert not report.findings
    assert (report.calls, report.requests) == (len(calls), len(arrivals))
    assert report.answered == sum(end == "ok" for _, end, _ in calls)
    report.assert_resilient(max_extra_load=report.extra_load)


@given(_CALLS, st.randoms(use_true_random=False))
def test_the_order_of_the_list_does_not_matter(
    calls: list[tuple[list[tuple[str, float]], str, float]], source: random.Random
) -> None:
    """Requests have numbers."""
    arrivals = _behaved(calls)
    shuffled = arrivals.copy()
    source.shuffle(shuffled)

    assert judge(shuffled) == judge(arrivals)


@given(st.floats(0.01, 60), st.floats(0, 0.99))
def test_every_early_retry_is_found(asked: float, share: float) -> None:
    """Any part of the wait is too little, but for the grain of a timer."""
    first = Arrival(number=1, call="a", at=0.0, ended=1.0, outcome="429", status=429, retry_after=asked)
    second = Arrival(number=2, call="a", at=1.0 + asked * share, ended=99.0, outcome="ok", status=200)
    found = [one.kind for one in judge([first, second]).findings]

    assert found == ([FindingKind.EARLY_RETRY] if asked * (1 - share) > 0.0011 else found)
