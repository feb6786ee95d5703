"""Reports: what they add up, and how two of them are compared."""

from __future__ import annotations

import math
from collections.abc import Sequence
from decimal import Decimal

import pytest

from dspex.errors import ActorExited, AppClosed, EvaluationError, RateLimited
from dspex.evaluation import Change, Report, Score, Scored
from dspex.programs import Example
from dspex.protocols.executor import Failed
from dspex.protocols.lm import Usage
from dspex.protocols.scope import RequestTotals
from dspex.runtime import KILL


def report(scores: Sequence[float | None], max_failed: float = 0.5, seconds: Sequence[float] | None = None) -> Report:
    examples = tuple(Example(number=number) for number in range(len(scores)))
    took = seconds if seconds is not None else [1.0] * len(scores)
    outcomes = tuple(
        Failed(RateLimited("slow down"), example, totals(time))
        if score is None
        else Scored(example, "answer", Score(score), totals=totals(time))
        for example, score, time in zip(examples, scores, took, strict=True)
    )
    return Report("Program", examples, outcomes, max_failed)


def totals(seconds: float, cost: str | None = None) -> RequestTotals:
    return RequestTotals("r1", Usage(10, 2), 1, 0, (), 0, 0, seconds, Decimal(cost) if cost is not None else None)


def priced(*costs: str | None, also: Sequence[Failed] = ()) -> Report:
    """Return a report of rows that cost so much; None is a price nobody knows."""
    rows = [Scored(Example(), "answer", Score(1.0), totals=totals(1.0, cost)) for cost in costs]
    return Report("Program", (Example(),) * (len(rows) + len(also)), (*rows, *also), 1.0)


def test_usage_counts_failed_rows_too() -> None:
    assert report([1.0, None]).usage == Usage(20, 4)


def test_costs_add_up_to_the_last_digit() -> None:
    """Ten times a tenth of a millionth is a millionth."""
    assert priced(*["0.0000001"] * 10).cost == Decimal("0.000001")
    assert "; 0.000001 USD" in str(priced(*["0.0000001"] * 10))


def test_a_failed_row_has_cost_what_its_request_has() -> None:
    """The provider was paid all the same."""
    failed = Failed(RateLimited("slow down"), Example(), totals(1.0, "0.25"))

    assert priced("1", also=[failed]).cost == Decimal("1.25")


def test_one_unknown_price_makes_the_cost_unknown() -> None:
    """None is not zero, and a sum of what is known would look like the whole."""
    assert priced("1", None).cost is None
    assert "price unknown" in str(priced("1", None))


def test_a_killed_row_takes_its_bill_with_it() -> None:
    """One that was never started has none."""
    assert priced("1", also=[Failed(ActorExited("row 1", KILL), Example())]).cost is None
    assert priced("1", also=[Failed(AppClosed(), Example())]).cost == Decimal(1)


def test_latency_is_by_nearest_rank() -> None:
    found = report([1.0] * 100, seconds=[float(n) for n in range(1, 101)]).latency

    assert found == (50.0, 95.0, 99.0)


def test_a_report_prints_score_interval_failures_and_cost() -> None:
    text = str(report([1.0, 0.0, None, 1.0]))

    assert "Program: 0.667 (95 % 0.208 to 0.939) on 3 of 4 rows" in text
    assert "failed: 1 RateLimited" in text
    assert "tokens: 40 in, 8 out" in text


def test_a_comparison_names_the_rows_that_changed() -> None:
    found = report([1.0, 1.0, 0.0, None]).compare(report([0.0, 1.0, 0.0, 1.0]))

    assert found.difference == pytest.approx(1 / 3)
    assert found.pairs == 3
    assert found.changed == (Change(0, 0.0, 1.0), Change(3, 1.0, None))
    assert "1 rows better, 1 worse" in str(found)


def test_right_and_wrong_answers_get_an_exact_sign_test() -> None:
    found = report([1.0] * 8 + [0.0]).compare(report([0.0] * 8 + [1.0]))

    assert found.p_value == pytest.approx(2 * (1 + 9) / 2**9)


def test_graded_answers_get_a_paired_t_test() -> None:
    found = report([0.5, 0.6, 0.9, 0.8]).compare(report([0.4, 0.6, 0.7, 0.5]))

    assert found.difference == pytest.approx(0.15)
    assert found.p_value == pytest.approx(0.1027, abs=1e-4)
    assert found.interval.low == pytest.approx(-0.0554, abs=1e-4)
    assert found.interval.high == pytest.approx(0.3554, abs=1e-4)


def test_nothing_changed_is_no_evidence() -> None:
    found = report([1.0, 0.5]).compare(report([1.0, 0.5]))

    assert (found.difference, found.p_value, found.changed) == (0.0, 1.0, ())


def test_reports_of_other_examples_are_refused() -> None:
    with pytest.raises(EvaluationError, match="different examples"):
        report([1.0]).compare(report([1.0, 1.0]))


def test_reports_without_a_common_row_are_refused() -> None:
    with pytest.raises(EvaluationError, match="no row"):
        report([1.0, None]).compare(report([None, 1.0]))


def test_one_pair_says_nothing_about_its_spread() -> None:
    assert report([1.0]).compare(report([0.5])).interval == (-math.inf, math.inf)
