"""Intervals and tests for means: pure functions of the scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

__all__ = [
    "Interval",
    "binomial_p_value",
    "mean_interval",
    "paired_p_value",
    "signed",
    "student_quantile",
    "t_interval",
    "wilson",
]

Z_95 = 1.959963984540054
"""The standard normal distribution's 97.5th percentile."""

_TINY = 1e-300
_STEPS = 300


class Interval(NamedTuple):
    """Where the true mean lies, with 95 % confidence."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.3f} to {self.high:.3f}"


def mean_interval(scores: Sequence[float]) -> Interval:
    """
    Return a 95 % interval for the mean: Wilson's for scores that are all 0 or 1, else Student's t.

    Raises:
        ValueError: There are no scores.
    """
    if not scores:
        raise ValueError("no scores: there is no mean to speak of")
    if all(score in (0, 1) for score in scores):
        return wilson(int(sum(scores)), len(scores))
    return t_interval(scores)


def wilson(successes: int, trials: int) -> Interval:
    """Return the score interval of Wilson (1927) for a share; it never leaves 0 to 1 and is never empty."""
    share = successes / trials
    weight = Z_95**2 / trials
    centre = (share + weight / 2) / (1 + weight)
    half = math.sqrt(max(0.0, weight * (share * (1 - share) + weight / 4))) / (1 + weight)
    low = 0.0 if successes == 0 else max(0.0, centre - half)
    high = 1.0 if successes == trials else min(1.0, centre + half)
    return Interval(low, high)


def t_interval(values: Sequence[float]) -> Interval:
    """Return Student's interval for a mean; a single value says nothing about its spread, so it has no bounds."""
    count = len(values)
    if count < 2:
        return Interval(-math.inf, math.inf)
    mean, error = _mean_and_error(values)
    half = student_quantile(count - 1) * error
    return Interval(mean - half, mean + half)


def paired_p_value(differences: Sequence[float]) -> float:
    """
    Return how often chance alone makes paired differences with so large a mean, both directions counted.

    An exact sign test when all differences are -1, 0 or 1 (McNemar's test for right and wrong answers), else the
    paired t test. Without any difference it is 1.
    """
    moved = [each for each in differences if each]
    if not moved:
        return 1.0
    if all(abs(each) == 1 for each in moved):
        return binomial_p_value(sum(each > 0 for each in moved), len(moved))
    if len(differences) < 2:
        return 1.0
    mean, error = _mean_and_error(differences)
    if error == 0.0:
        return 0.0
    return _two_sided(mean / error, len(differences) - 1)


def binomial_p_value(successes: int, trials: int) -> float:
    """Return the two-sided exact probability of a split at least as uneven, were both sides equally likely."""
    fewer = min(successes, trials - successes)
    logs = [_log_choose(trials, each) - trials * math.log(2) for each in range(fewer + 1)]
    return min(1.0, 2 * math.fsum(math.exp(each) for each in logs))


def student_quantile(freedom: int) -> float:
    """Return the 97.5th percentile of Student's distribution, found by bisection."""
    low, high = 0.0, 2.0
    while _two_sided(high, freedom) > 0.05:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        if _two_sided(middle, freedom) > 0.05:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    count = len(values)
    if min(values) == max(values):
        return values[0], 0.0  # a rounded mean would see a spread where there is none
    mean = math.fsum(values) / count
    variance = math.fsum((each - mean) ** 2 for each in values) / (count - 1)
    return mean, math.sqrt(variance / count)


def _two_sided(t: float, freedom: int) -> float:
    """Return the probability that Student's variable is at least ``t`` away from zero."""
    return _incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def _incomplete_beta(a: float, b: float, x: float) -> float:
    """Return the regularised incomplete beta function, by Lentz's continued fraction (DLMF 8.17.22)."""
    if x <= 0.0 or x >= 1.0:
        return float(x >= 1.0)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    if x > (a + 1) / (a + b + 2):
        return 1.0 - math.exp(log_front) * _fraction(b, a, 1 - x) / b
    return math.exp(log_front) * _fraction(a, b, x) / a


def _fraction(a: float, b: float, x: float) -> float:
    c, d = 1.0, _inverse(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _STEPS):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = _inverse(1 + term * d)
            c = 1 + term / c
            if abs(c) < _TINY:
                c = _TINY
            step = c * d
            value *= step
        if abs(step - 1) < 1e-15:
            break
    return value


def _inverse(value: float) -> float:
    return 1 / (value if abs(value) >= _TINY else _TINY)


def signed(value: float) -> str:
    """Return a difference of scores with its sign; one that three decimals would show as zero has one digit."""
    return f"{value:+.1g}" if 0 < abs(value) < 0.0005 else f"{value:+.3f}"
