"""The fault plan: what it decides, and what it refuses to be."""

import hashlib
import json
import statistics
from collections import Counter

import pytest

from dspex.simulator import Fault, FaultKind, FaultPlan, FaultPlanInvalid, Latency


def _digests(count: int) -> list[bytes]:
    return [hashlib.sha256(b"%d" % at).digest() for at in range(count)]


def test_the_default_plan_fails_nothing() -> None:
    """Without rates every request is answered at once."""
    assert FaultPlan().decide(b"x", 0) == Fault()


def test_each_kind_is_drawn_at_its_rate() -> None:
    """One draw decides, so the kinds exclude each other and their rates add up."""
    plan = FaultPlan(seed=3, rate_429=0.2, rate_500=0.15, rate_reset=0.1, rate_hang=0.05, rate_truncate=0.3)
    seen = Counter(plan.decide(digest, 0).kind for digest in _digests(4000))

    for kind, rate in plan.rates().items():
        assert abs(seen[kind] / 4000 - rate) < 0.03
    assert abs(seen[FaultKind.NONE] / 4000 - 0.2) < 0.03


def test_any_kind_is_drawn_at_its_share() -> None:
    """Shares and rates are drawn together, and take from the plan what a fault is made of."""
    plan = FaultPlan(shares={FaultKind.QUOTA: 0.3, FaultKind.DRIP: 0.3, FaultKind.RATE_LIMIT: 0.2}, pause=2, piece=7)
    drawn = [plan.decide(digest, 0) for digest in _digests(4000)]
    seen = Counter(one.kind for one in drawn)

    assert {kind: round(count / 4000, 1) for kind, count in seen.items()} == {
        FaultKind.QUOTA: 0.3,
        FaultKind.DRIP: 0.3,
        FaultKind.RATE_LIMIT: 0.2,
        FaultKind.NONE: 0.2,
    }
    assert {(one.pause, one.piece) for one in drawn if one.kind is FaultKind.DRIP} == {(2, 7)}


def test_a_fault_may_be_written_as_its_kind() -> None:
    """In a script that comes from a file or a command line."""
    plan = FaultPlan.from_json({"script": {"/a": ["429", {"kind": "reset", "after_bytes": 3}]}})

    assert plan.script["/a"] == (Fault(kind=FaultKind.RATE_LIMIT), Fault(kind=FaultKind.RESET, after_bytes=3))


def test_the_same_body_meets_another_fate_when_it_comes_again() -> None:
    """Retrying helps: the decision depends on how often the body has arrived."""
    plan = FaultPlan(rate_500=0.5)
    seen = {plan.decide(b"x", arrival).kind for arrival in range(20)}

    assert seen == {FaultKind.NONE, FaultKind.SERVER_ERROR}


def test_another_seed_fails_other_requests() -> None:
    """The seed moves the faults, not their rate."""
    one, two = ([FaultPlan(seed=seed, rate_500=0.5).decide(one, 0).kind for one in _digests(50)] for seed in (1, 2))

    assert one != two


def test_lognormal_latency_has_the_median_and_percentile_asked_for() -> None:
    """Half of the answers come within the median, 19 of 20 within the 95th percentile."""
    plan = FaultPlan(latency=Latency(median=0.2, p95=0.8))
    delays = sorted(plan.decide(digest, 0).delay for digest in _digests(4000))

    assert statistics.median(delays) == pytest.approx(0.2, rel=0.05)
    assert delays[3800] == pytest.approx(0.8, rel=0.1)


def test_fixed_latency_is_the_median() -> None:
    """Without a 95th percentile every answer takes the median."""
    assert FaultPlan(latency=Latency(median=0.3)).decide(b"x", 0).delay == 0.3


def test_a_script_is_played_once_in_order() -> None:
    """A scripted route goes through its list, then back to the rates."""
    first, second = Fault(kind=FaultKind.RESET), Fault()
    plan = FaultPlan(script={"/a": (first, second)})

    assert [plan.scripted("/a", at) for at in range(3)] == [first, second, None]
    assert plan.scripted("/b", 0) is None


def test_a_plan_survives_json() -> None:
    """A plan that travels to another process arrives as it was."""
    script = {"/a": (Fault(kind=FaultKind.RATE_LIMIT, retry_after=0.25), Fault(kind=FaultKind.RESET, after_bytes=7))}
    plan = FaultPlan(seed=7, latency=Latency(median=0.1, p95=0.2), rate_hang=0.5, script=script)

    assert FaultPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


@pytest.mark.parametrize(
    ("value", "field"),
    [
        ({"rate_429": 1.5}, "rate_429"),
        ({"rate_429": "often"}, "rate_429"),
        ({"rate_429": 0.6, "rate_500": 0.6}, "rates"),
        ({"rate_418": 0.1}, "rate_418"),
        ({"seed": 1.5}, "seed"),
        ({"latency": {"median": 0, "p95": 1}}, "latency"),
        ({"latency": {"median": -1}}, "latency"),
        ({"latency": 3}, "latency"),
        ({"latency": {"gap": -1}}, "latency"),
        ({"script": {"/a": [{"kind": "explode"}]}}, "kind"),
        ({"script": {"/a": [{"kind": "500", "status": 200}]}}, "status"),
        ({"script": {"/a": [{"delay": -1}]}}, "delay"),
        ({"script": {"/a": [{"after_bytes": -1}]}}, "after_bytes"),
        ({"script": [1]}, "script"),
        ({"script": {"v1/chat/completions": ["429"]}}, "script"),
        ({"script": {"/a": [3]}}, "fault"),
        ({"script": {"/a": [{"kind": "400", "status": 500}]}}, "status"),
        ({"script": {"/a": [{"retry_form": "fax"}]}}, "retry_form"),
        ({"script": {"/a": [{"should_retry": "yes"}]}}, "should_retry"),
        ({"script": {"/a": [{"piece": 0}]}}, "piece"),
        ({"script": {"/a": [{"pause": -1}]}}, "pause"),
        ({"shares": {"explode": 0.1}}, "kind"),
        ({"shares": {"ok": 0.1}}, "shares.ok"),
        ({"shares": {"quota": 1.1}}, "shares.quota"),
        ({"shares": [1]}, "shares"),
        ({"shares": {"429": 0.1}, "rate_429": 0.1}, "rate_429"),
        ({"shares": {"quota": 0.6}, "rate_429": 0.6}, "rates"),
        ({"retry_form": "fax"}, "retry_form"),
        ({"piece": 0}, "piece"),
        ([], "plan"),
    ],
)
def test_a_plan_that_cannot_be_carried_out_is_refused(value: object, field: str) -> None:
    """The error names the member at fault."""
    with pytest.raises(FaultPlanInvalid) as caught:
        FaultPlan.from_json(value)

    assert caught.value.field == field
    assert field in str(caught.value)
