"""Several rankings made one: reciprocal rank fusion, a pure function."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from dspex.protocols.retrieval import Passage

__all__ = ["RANK_CONSTANT", "fused"]

RANK_CONSTANT: Final = 60
"""The constant of the paper: how little the first places count more than those behind them."""


def fused(
    rankings: Sequence[Sequence[Passage]],
    k: int,
    *,
    weights: Sequence[float] | None = None,
    constant: int = RANK_CONSTANT,
) -> list[Passage]:
    """
    Return the ``k`` best passages of several rankings, best first, with their fused scores.

    A passage's score is the sum of ``weight / (constant + rank)`` over the rankings that have it, ranks from 1: scores
    of different retrievers cannot be compared, ranks can. Equals are in the order in which they come first: by their
    best rank, then by ranking. Passages are the same when their ids are, or, without ids, their title and text; the
    first one found stands for all.

    Source: Cormack, Clarke, Büttcher, 2009: Reciprocal rank fusion outperforms Condorcet and individual rank learning
    methods.

    Args:
        rankings: Passages, best first.
        k: The most to return.
        weights: One for each ranking; None weighs them alike.
        constant: The constant of the formula.

    Raises:
        ValueError: ``k`` or ``constant`` is below 1, or the weights are not one finite, positive number for each.
    """
    if k < 1 or constant < 1:
        raise ValueError(f"k={k} and constant={constant} must be at least 1")
    given = [1.0] * len(rankings) if weights is None else [float(each) for each in weights]
    if len(given) != len(rankings) or not all(0.0 < each < float("inf") for each in given):
        raise ValueError(f"weights={weights!r:.60}: expected {len(rankings)} positive numbers")
    shares: dict[object, list[float]] = {}
    first: dict[object, tuple[int, int, Passage]] = {}
    for number, (ranking, weight) in enumerate(zip(rankings, given, strict=True)):
        seen: set[object] = set()
        for rank, passage in enumerate(ranking, 1):
            identity = passage.id or (passage.title, passage.text)
            if identity in seen:
                continue
            seen.add(identity)
            shares.setdefault(identity, []).append(weight / (constant + rank))
            place = (rank, number, passage)
            if identity not in first or place[:2] < first[identity][:2]:
                first[identity] = place
    # Summed from the smallest, so that the order of the rankings does not decide between equals.
    scores = {identity: sum(sorted(found)) for identity, found in shares.items()}
    best = sorted(scores, key=lambda each: (-scores[each], *first[each][:2]))[:k]
    return [replace(first[each][2], score=scores[each]) for each in best]
