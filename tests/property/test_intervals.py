"""Intervals and tests: where they lie, what they cover, and known values."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dspex.evaluation.intervals import (
    binomial_p_value,
    mean_interval,
    paired_p_value,
    signed,
    student_quantile,
    t_interval,
    wilson,
)

shares = st.integers(1, 2000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
scores = st.lists(st.floats(-1e6, 1e6, allow_subnormal=False), min_size=2, max_size=40)


@given(shares)
def test_a_share_lies_in_its_interval_and_that_between_0_and_1(share: tuple[int, int]) -> None:
    successes, trials = share
    low, high = wilson(successes, trials)

    assert 0 <= low <= successes / trials <= high <= 1
    assert low < high


@given(shares)
def test_counting_failures_instead_mirrors_the_interval(share: tuple[int, int]) -> None:
    successes, trials = share
    low, high = wilson(successes, trials)

    assert wilson(trials - successes, trials) == pytest.approx((1 - high, 1 - low))


@given(shares)
def test_more_rows_of_the_same_kind_make_it_narrower(share: tuple[int, int]) -> None:
    successes, trials = share
    low, high = wilson(successes, trials)
    surer_low, surer_high = wilson(4 * successes, 4 * trials)

    assert surer_high - surer_low < high - low


@given(scores)
def test_a_mean_lies_in_the_middle_of_its_interval(values: list[float]) -> None:
    low, high = t_interval(values)
    mean = math.fsum(values) / len(values)

    assert low - 1e-6 <= mean <= high + 1e-6
    assert (low + high) / 2 == pytest.approx(mean, abs=1e-6 + 1e-9 * abs(mean))


@given(st.lists(st.sampled_from([0, 1, 0.0, 1.0, True, False]), min_size=1, max_size=60))
def test_right_and_wrong_is_a_share(values: list[float]) -> None:
    assert mean_interval(values) == wilson(int(sum(values)), len(values))


@given(scores)
def test_a_p_value_is_a_probability_and_forgets_the_direction(values: list[float]) -> None:
    found = paired_p_value(values)

    assert 0 <= found <= 1
    assert paired_p_value([-each for each in values]) == pytest.approx(found)


@given(shares)
def test_the_sign_test_is_symmetric(share: tuple[int, int]) -> None:
    successes, trials = share

    assert binomial_p_value(successes, trials) == binomial_p_value(trials - successes, trials) <= 1


@pytest.mark.parametrize(
    ("freedom", "quantile"), [(1, 12.7062), (2, 4.3027), (5, 2.5706), (30, 2.0423), (1000, 1.9623)]
)
def test_quantiles_are_those_of_the_tables(freedom: int, quantile: float) -> None:
    assert student_quantile(freedom) == pytest.approx(quantile, abs=1e-4)


def test_a_known_share() -> None:
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)


@pytest.mark.parametrize("truth", [0.1, 0.5, 0.9])
def test_19_of_20_intervals_hold_the_truth(truth: float) -> None:
    source = random.Random(7)
    held = 0
    for _ in range(1000):
        low, high = wilson(sum(source.random() < truth for _ in range(80)), 80)
        held += low <= truth <= high

    assert 920 <= held <= 980


def test_without_scores_there_is_no_interval() -> None:
    with pytest.raises(ValueError, match="no scores"):
        mean_interval([])


@given(st.floats(-1, 1))
@example(0.0004)
@example(-0.0005)
def test_a_difference_that_is_there_is_not_shown_as_none(value: float) -> None:
    """It has its sign, and reads back as about itself."""
    text = signed(value)
    assert (float(text) == 0) == (value == 0)
    assert value == 0 or text[0] == ("+" if value > 0 else "-")
    assert math.isclose(float(text), value, abs_tol=0.0005001)
