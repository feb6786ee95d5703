"""Faults do not depend on the interleaving of requests, and every plan that can be built can be sent."""

import dataclasses
import hashlib
import json
import random
from collections import defaultdict
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from dspex.simulator import Fault, FaultKind, FaultPlan, Latency, Limits
from dspex.simulator._request_handler import AnswerPlan, ReceivedRequest, RequestHandler
from dspex.simulator.faults import RETRY_FORMS
from dspex.simulator.limits import Meter

_LATENCIES = st.builds(lambda one, more: Latency(median=one, p95=one + more), st.floats(0.001, 1), st.floats(0, 2))
_FAULTS = st.builds(
    lambda kind, delay, after, form, retry, piece: Fault(
        kind=kind, delay=delay, after_bytes=after, retry_form=form, should_retry=retry, piece=piece
    ),
    st.sampled_from(list(FaultKind)),
    st.floats(0, 5),
    st.none() | st.integers(0, 100),
    st.sampled_from(RETRY_FORMS),
    st.sampled_from([None, True, False]),
    st.integers(1, 9),
)
_OTHERS = [kind for kind in FaultKind if kind.value not in ("ok", "429", "500", "reset", "hang", "truncate")]
_PLANS = st.builds(
    lambda seed, rates, shares, latency, script: FaultPlan(
        seed=seed,
        latency=latency,
        shares=shares,
        **dict(zip(("rate_429", "rate_500", "rate_reset", "rate_hang", "rate_truncate"), rates, strict=True)),
        script={path: tuple(faults) for path, faults in script.items()},
    ),
    st.integers(),
    st.lists(st.floats(0, 0.1), min_size=5, max_size=5),
    st.dictionaries(st.sampled_from(_OTHERS), st.floats(0, 0.1), max_size=5),
    _LATENCIES,
    st.dictionaries(st.sampled_from(["/a", "/b"]), st.lists(_FAULTS, max_size=3), max_size=2),
)


@given(_PLANS)
def test_a_plan_survives_json(plan: FaultPlan) -> None:
    """A plan sent to another process is the plan that was meant."""
    assert FaultPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@given(_PLANS, st.lists(st.integers(0, 4), min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_the_interleaving_does_not_matter(plan: FaultPlan, arrivals: list[int], source: random.Random) -> None:
    """Whatever the order of different bodies, the k-th arrival of each meets the same fault."""

    def fates(order: list[int]) -> dict[int, list[Fault]]:
        met: dict[int, list[Fault]] = defaultdict(list)
        for body in order:
            digest = hashlib.sha256(b"%d" % body).digest()
            met[body].append(plan.decide(digest, len(met[body])))
        return dict(met)

    shuffled = arrivals.copy()
    source.shuffle(shuffled)

    assert fates(arrivals) == fates(shuffled)


_WAYS: tuple[tuple[str, dict[str, Any], dict[str, str]], ...] = (
    ("/v1/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "x"}], "stream": True}, {}),
    ("/v1/responses", {"model": "m", "input": "x"}, {}),
    (
        "/v1/messages",
        {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "x"}]},
        {"anthropic-version": "1"},
    ),
    ("/v1beta/models/m:generateContent", {"contents": [{"parts": [{"text": "x"}]}]}, {}),
    ("/v1/embeddings", {"model": "m", "input": "x"}, {}),
)


@given(
    st.integers(),
    st.dictionaries(st.sampled_from(list(FaultKind)[1:]), st.floats(0, 0.04), min_size=8),
    st.lists(st.tuples(st.sampled_from(_WAYS), st.integers(0, 2)), min_size=1, max_size=12),
    st.randoms(use_true_random=False),
)
def test_what_is_sent_does_not_depend_on_the_interleaving(
    seed: int, shares: dict[FaultKind, float], arrivals: list[Any], source: random.Random
) -> None:
    """For every dialect: the k-th arrival of a body gets the same bytes and meets the same end."""
    plan = FaultPlan(seed=seed, shares=shares)

    def answers(order: list[Any]) -> dict[str, list[AnswerPlan]]:
        handler = RequestHandler(plan, None, clock=lambda: 0.0)
        met: dict[str, list[AnswerPlan]] = defaultdict(list)
        for (path, body, headers), number in order:
            raw = json.dumps({**body, "user": f"{path} {number}"}).encode()
            done = handler.plan(ReceivedRequest("POST", path, headers, raw))
            met[f"{path} {number}"].append(dataclasses.replace(done, arrival=0))
        return dict(met)

    shuffled = arrivals.copy()
    source.shuffle(shuffled)

    assert answers(arrivals) == answers(shuffled)


@given(
    st.integers(1, 50),
    st.integers(1, 500),
    st.lists(st.tuples(st.floats(0, 30), st.integers(0, 700)), max_size=30),
)
def test_a_meter_never_gives_more_than_its_limits(rpm: int, tpm: int, asked: list[tuple[float, int]]) -> None:
    """At most a full bucket and what has flowed in since; whoever waits as told is served."""
    meter = Meter(Limits(rpm=rpm, tpm=tpm))
    now = requests = tokens = 0.0
    for wait, count in asked:
        now += wait
        refused = meter.take(now, count)
        if refused is not None:
            now += refused[1]
            assert meter.take(now, count) is None
        requests, tokens = requests + 1, tokens + min(count, tpm)
        left = meter.left(now)
        assert requests <= rpm * (1 + now / 60) + 1e-6
        assert tokens <= tpm * (1 + now / 60) + 1e-6
        assert all(0 <= one.remaining <= one.limit and 0 <= one.reset <= 60 + 1e-6 for one in left.values())


@given(_PLANS, st.lists(st.tuples(st.sampled_from(["GET", "POST"]), st.sampled_from(["/v1/models", "/x", "/health"]))))
def test_every_counted_request_is_in_flight_until_its_outcome(plan: FaultPlan, asked: list[tuple[str, str]]) -> None:
    """Counts balance: what arrives leaves once, and control routes are not counted."""
    handler = RequestHandler(plan, None)
    plans = [handler.plan(ReceivedRequest(method, path, {}, b"")) for method, path in asked]
    counted = [one for one in plans if one.outcome is not None]

    assert handler.counters.in_flight == len(counted)
    for one in plans:
        handler.leave(one, one.outcome or "")
    assert handler.counters.in_flight == 0
    assert handler.counters.requests.total() == len(counted) == len(handler.arrival_log.arrivals())
