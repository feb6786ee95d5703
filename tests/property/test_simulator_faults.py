"""Faults do not depend on the interleaving of requests, and every plan that can be built can be sent."""

import hashlib
import json
import random
from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from dspex.simulator import Fault, FaultKind, FaultPlan, Latency
from dspex.simulator._desk import Desk, Request

_LATENCIES = st.builds(lambda one, more: Latency(median=one, p95=one + more), st.floats(0.001, 1), st.floats(0, 2))
_FAULTS = st.builds(
    lambda kind, delay, after: Fault(kind=kind, delay=delay, after_bytes=after),
    st.sampled_from(list(FaultKind)),
    st.floats(0, 5),
    st.none() | st.integers(0, 100),
)
_PLANS = st.builds(
    lambda seed, rates, latency, script: FaultPlan(
        seed=seed,
        latency=latency,
        **dict(zip(("rate_429", "rate_500", "rate_reset", "rate_hang", "rate_truncate"), rates, strict=True)),
        script={path: tuple(faults) for path, faults in script.items()},
    ),
    st.integers(),
    st.lists(st.floats(0, 0.2), min_size=5, max_size=5),
    _LATENCIES,
    st.dictionaries(st.sampled_from(["/a", "/b"]), st.lists(_FAULTS, max_size=3), max_size=2),
)


@given(_PLANS)
def test_a_plan_survives_json(plan: FaultPlan) -> None:
    """What is sent to another process is the plan that was meant."""
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


@given(_PLANS, st.lists(st.tuples(st.sampled_from(["GET", "POST"]), st.sampled_from(["/v1/models", "/x", "/health"]))))
def test_every_counted_request_is_in_flight_until_its_outcome(plan: FaultPlan, asked: list[tuple[str, str]]) -> None:
    """Counts balance: what arrives leaves once, and control routes are not counted."""
    desk = Desk(plan, None)
    plans = [desk.plan(Request(method, path, {}, b"")) for method, path in asked]
    counted = [one for one in plans if one.outcome is not None]

    assert desk.counters.in_flight == len(counted)
    for one in plans:
        desk.leave(one, one.outcome or "")
    assert desk.counters.in_flight == 0
    assert desk.counters.requests.total() == len(counted) == len(desk.journal.arrivals())
