"""Thompson sampling over choices whose effects add up: pure arithmetic on small matrices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import random

__all__ = ["Seen", "draw"]

EFFECT = 0.05
"""The standard deviation of an option's effect before anything is seen."""

NOISE = 0.45
"""The standard deviation of one row's score around a candidate's mean, where scores are between 0 and 1."""


@dataclass(frozen=True, slots=True)
class Seen:
    """A combination, one option for each choice, and how it did: its mean gain over the first one, on so many rows."""

    options: tuple[int, ...]
    gain: float
    rows: int


def draw(sizes: Sequence[int], seen: Sequence[Seen], source: random.Random) -> tuple[int, ...]:
    """
    Return the combination that is best in one draw from what may be true, given what was seen.

    The gain of a combination is the sum of its options' effects, each normal around 0 (a Bayesian linear model); the
    effects of option 0 are 0, because gains are counted from there. After Agrawal and Goyal (2013), "Thompson sampling
    for contextual bandits with linear payoffs".

    Args:
        sizes: The number of options of each choice.
        seen: Combinations that were tried.
        source: Of chance.
    """
    offsets, total = [], 0
    for size in sizes:
        offsets.append(total - 1)  # option 1 is the first with an effect of its own
        total += size - 1
    effects = _effects(total, [_features(offsets, each.options) for each in seen], seen, source)
    chosen = []
    for size, offset in zip(sizes, offsets, strict=True):
        values = [0.0, *(effects[offset + option] for option in range(1, size))]
        chosen.append(max(range(size), key=lambda option: (values[option], -option)))
    return tuple(chosen)


def _features(offsets: Sequence[int], options: Sequence[int]) -> list[int]:
    """Return which effects a combination has."""
    return [offset + option for offset, option in zip(offsets, options, strict=True) if option]


def _effects(total: int, features: Sequence[Sequence[int]], seen: Sequence[Seen], source: random.Random) -> list[float]:
    """Draw the effects from their posterior."""
    precision = [[1 / EFFECT**2 if row == column else 0.0 for column in range(total)] for row in range(total)]
    target = [0.0] * total
    for present, each in zip(features, seen, strict=True):
        weight = each.rows / (2 * NOISE**2)  # a gain is the difference of two candidates
        for row in present:
            target[row] += weight * each.gain
            for column in present:
                precision[row][column] += weight
    lower = _cholesky(precision)
    mean = _solve_upper(lower, _solve_lower(lower, target))
    # The posterior's covariance is the inverse of L L': a draw is the mean and L'^-1 z.
    noise = _solve_upper(lower, [source.gauss(0.0, 1.0) for _ in range(total)])
    return [value + moved for value, moved in zip(mean, noise, strict=True)]


def _cholesky(matrix: Sequence[Sequence[float]]) -> list[list[float]]:
    size = len(matrix)
    lower = [[0.0] * size for _ in range(size)]
    for row in range(size):
        for column in range(row + 1):
            rest = matrix[row][column] - math.fsum(lower[row][k] * lower[column][k] for k in range(column))
            lower[row][column] = math.sqrt(rest) if row == column else rest / lower[column][column]
    return lower


def _solve_lower(lower: Sequence[Sequence[float]], target: Sequence[float]) -> list[float]:
    found: list[float] = []
    for row, value in enumerate(target):
        found.append((value - math.fsum(lower[row][k] * found[k] for k in range(row))) / lower[row][row])
    return found


def _solve_upper(lower: Sequence[Sequence[float]], target: Sequence[float]) -> list[float]:
    """Solve with the transpose of a lower matrix."""
    size = len(target)
    found = [0.0] * size
    for row in reversed(range(size)):
        rest = math.fsum(lower[k][row] * found[k] for k in range(row + 1, size))
        found[row] = (target[row] - rest) / lower[row][row]
    return found
