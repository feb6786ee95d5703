"""From rankings of titles to figures, and from the result file to the table of the page: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

__all__ = ["AT", "FORMAT", "markdown", "measured", "result_file"]

FORMAT = 1
"""Raised when the meaning of a member of the result file changes."""
AT = (1, 5, 10, 20)
HEADINGS = ("retriever", *(f"recall@{k}" for k in AT), "MRR", "both at 10")


def measured(rankings: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]) -> dict[str, float]:
    """
    Return the figures of one retriever.

    Args:
        rankings: The titles that each question found, best first, each once.
        gold: The titles that each question needs.

    Returns:
        ``recall@k``: the share of a question's gold titles among its first k, on average. ``mrr``: one over the rank of
        the first gold title, 0 where none was found, on average. ``whole@10``: the share of questions whose gold titles
        are all among the first ten.
    """
    total = len(gold)
    figures = {
        f"recall@{k}": sum(len(set(found[:k]) & set(wanted)) / len(wanted) for found, wanted in _pairs(rankings, gold))
        for k in AT
    }
    figures["mrr"] = sum(_reciprocal(found, wanted) for found, wanted in _pairs(rankings, gold))
    figures["whole@10"] = sum(set(wanted) <= set(found[:10]) for found, wanted in _pairs(rankings, gold))
    return {name: round(value / total, 4) for name, value in figures.items()}


def _pairs(
    rankings: Sequence[Sequence[str]], gold: Sequence[Sequence[str]]
) -> zip[tuple[Sequence[str], Sequence[str]]]:
    return zip(rankings, gold, strict=True)


def _reciprocal(found: Sequence[str], wanted: Sequence[str]) -> float:
    return next((1 / rank for rank, title in enumerate(found, 1) if title in wanted), 0.0)


def result_file(
    sides: Mapping[str, Mapping[str, float]], facts: Mapping[str, object], notes: Sequence[str]
) -> dict[str, object]:
    """Return the file to commit."""
    return {
        "format": FORMAT,
        "facts": dict(facts),
        "notes": list(notes),
        "sides": {name: dict(each) for name, each in sides.items()},
    }


def markdown(results: Mapping[str, object]) -> str:
    """Return the page's table: the best at ten first."""
    sides: Mapping[str, Mapping[str, float]] = results["sides"]  # type: ignore[assignment]  # as ``result_file`` wrote it
    lines = [f"| {' | '.join(HEADINGS)} |", f"| {' | '.join('---' for _ in HEADINGS)} |"]
    for name, each in sorted(sides.items(), key=lambda side: (-side[1]["recall@10"], side[0])):
        shares = [f"{100 * each[f'recall@{k}']:.1f}" for k in AT]
        lines.append(f"| {name} | {' | '.join(shares)} | {each['mrr']:.3f} | {100 * each['whole@10']:.1f} |")
    return "\n".join(lines)
