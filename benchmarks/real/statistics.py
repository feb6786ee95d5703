"""Intervals of shares, and whether two forms differ on the same rows: exact, pure."""

from __future__ import annotations

import math
from collections.abc import Sequence

__all__ = ["difference", "interval", "paired"]

_Z = 1.959963984540054
"""Two-sided 95 % of the normal distribution."""


def interval(right: int, total: int) -> tuple[float, float]:
    """
    Return the 95 % interval of a share: Wilson's score interval (Wilson 1927), which holds for few rows.

    Raises:
        ValueError: There are no rows, or more right ones than rows.
    """
    if not 0 <= right <= total or total == 0:
        raise ValueError(f"{right} of {total} is not a share")
    share, square = right / total, _Z * _Z
    middle = (share + square / (2 * total)) / (1 + square / total)
    half = _Z * math.sqrt(share * (1 - share) / total + square / (4 * total * total)) / (1 + square / total)
    return (0.0 if right == 0 else max(0.0, middle - half)), (1.0 if right == total else min(1.0, middle + half))


def paired(ours: Sequence[bool], theirs: Sequence[bool]) -> tuple[int, int, float]:
    """
    Compare two forms on the same rows: McNemar's test in its exact form, the sign test of the rows that differ.

    Returns:
        The number of rows where only ours was right, where only theirs was, and the two-sided p-value; 1 where no row
        differs.

    Raises:
        ValueError: They are not of the same rows.
    """
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} rows cannot be paired with {len(theirs)}")
    better = sum(a and not b for a, b in zip(ours, theirs, strict=True))
    worse = sum(b and not a for a, b in zip(ours, theirs, strict=True))
    differ = better + worse
    if not differ:
        return 0, 0, 1.0
    tail = sum(math.comb(differ, each) for each in range(min(better, worse) + 1))
    return better, worse, min(1.0, 2 * tail / 2**differ)


def difference(better: int, worse: int, total: int) -> tuple[float, float]:
    """
    Return the 95 % interval of the difference of two shares of the same rows: Bonett and Price 2012.

    It is Wald's with one more row in each of the two cells that differ, which holds for few rows.

    Args:
        better: The rows where only ours was right.
        worse: The rows where only theirs was.
        total: All rows.

    Raises:
        ValueError: There are no rows, or more that differ than rows.
    """
    if total <= 0 or min(better, worse) < 0 or better + worse > total:
        raise ValueError(f"{better} and {worse} of {total} rows is not a difference")
    ours, theirs = (better + 1) / (total + 2), (worse + 1) / (total + 2)
    middle = ours - theirs
    half = _Z * math.sqrt((ours + theirs - middle * middle) / (total + 2))
    return max(-1.0, middle - half), min(1.0, middle + half)
