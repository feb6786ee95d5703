"""From measured turns to ratios, a table and a JSON file: pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field

from benchmarks._budget import Verdict
from benchmarks._row import Row

__all__ = ["FORMAT", "Result", "Turn", "figures", "markdown", "summary", "table", "to_json"]

FORMAT = 2
"""Raised when the meaning of a member of the JSON file changes."""

HEADINGS = ("measured", "beside", "clock", "ratio", "quartiles", "budget", "verdict")


@dataclass(frozen=True, slots=True)
class Turn:
    """
    The cost of one operation of a contender in one turn, in seconds.

    Attributes:
        value: The compared figure of a row that is not about such a cost.
        figures: Further figures of the contender.
    """

    cpu: float
    wall: float
    value: float | None = None
    figures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """
    One row's numbers.

    Attributes:
        ratio: The median of the rounds' ratios; each round has its own, so that noise hits both sides.
        low: Their lower quartile.
        high: Their upper quartile.
        ours: The median of one operation, in ``unit``; for looking into, not for quoting.
        peer: The same of the peer, or of the best of its rivals.
        unit: Microseconds, bytes, or none where both sides are one ratio.
        ours_figures: The medians of what else our side had to say.
        peer_figures: The same of the peer.
    """

    name: str
    title: str
    versus: str
    clock: str
    budget: str
    verdict: Verdict
    ratio: float
    low: float
    high: float
    rounds: int
    ours: float
    peer: float
    unit: str
    ours_figures: Mapping[str, float]
    peer_figures: Mapping[str, float]


def summary(row: Row, rounds: Sequence[Mapping[str, Turn]]) -> Result:
    """
    Return a row's result from the turns of each round, by contender.

    Raises:
        ValueError: There are no rounds.
    """
    if not rounds:
        raise ValueError(f"{row.name}: nothing was measured")
    peer = min((row.peer, *row.rivals), key=lambda name: statistics.median(_cost(each[name], row) for each in rounds))
    pairs = [(_cost(each[row.ours], row), _cost(each[peer], row)) for each in rounds]
    scale = 1.0 if row.clock in ("memory", "turns") else 1e6
    ratios = [row.ratio(ours, peer) for ours, peer in pairs]
    ratio = statistics.median(ratios)
    low, high = _quartiles(ratios)
    return Result(
        name=row.name,
        title=row.title,
        versus=row.versus,
        clock=row.clock,
        budget=str(row.budget) if row.budget is not None else "-",
        verdict=row.budget.verdict(ratio) if row.budget is not None else "-",
        ratio=ratio,
        low=low,
        high=high,
        rounds=len(rounds),
        ours=statistics.median(ours for ours, _ in pairs) * scale,
        peer=statistics.median(peer for _, peer in pairs) * scale,
        unit={"memory": "bytes", "turns": "x"}.get(row.clock, "us"),
        ours_figures=_medians([each[row.ours].figures for each in rounds]),
        peer_figures=_medians([each[peer].figures for each in rounds]),
    )


def _cost(turn: Turn, row: Row) -> float:
    if row.clock == "cpu":
        return turn.cpu
    if row.clock == "wall":
        return turn.wall
    if turn.value is None:
        raise ValueError(f"{row.name}: a contender told no {row.clock}")
    return turn.value


def _medians(told: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {name: statistics.median(each[name] for each in told if name in each) for name in told[0]}


def _quartiles(values: Sequence[float]) -> tuple[float, float]:
    if len(values) < 2:
        return values[0], values[0]
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, high


def to_json(results: Sequence[Result], facts: Mapping[str, object], *, quick: bool) -> dict[str, object]:
    """Return what the JSON file holds: machine facts and one object for each row, numbers rounded."""
    rows = [{name: _rounded(value) for name, value in asdict(result).items()} for result in results]
    return {"format": FORMAT, "quick": quick, "facts": dict(facts), "rows": rows}


def _rounded(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _rounded(each) for name, each in value.items()}
    return float(f"{value:.4g}") if isinstance(value, float) else value


def table(results: Sequence[Result]) -> str:
    """Return the results as aligned text."""
    lines = [HEADINGS, *(_cells(result) for result in results)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    written = [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    ]
    return "\n".join([written[0], "  ".join("-" * width for width in widths), *written[1:]])


def figures(results: Sequence[Result]) -> list[str]:
    """Return a line for each side of each row that had more to say than a cost."""
    lines = []
    for result in results:
        for side, told in (("dspex", result.ours_figures), ("beside it", result.peer_figures)):
            if told:
                shown = ", ".join(f"{name} {value:,.4g}" for name, value in told.items())
                lines.append(f"{result.name}, {side}: {shown}")
    return lines


def markdown(results: Sequence[Result]) -> str:
    """Return the results as a Markdown table; what was missed stands out."""
    lines = [HEADINGS, ("---",) * len(HEADINGS)]
    for result in results:
        cells = _cells(result)
        lines.append((*cells[:-1], f"**{cells[-1]}**" if result.verdict == "missed" else cells[-1]))
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _cells(result: Result) -> tuple[str, ...]:
    spread = f"{_shown(result.low)}-{_shown(result.high)}"
    ratio = f"{_shown(result.ratio)}{' µs' if result.budget.endswith('µs') else 'x'}"
    return (result.title, result.versus, result.clock, ratio, spread, result.budget, result.verdict)


def _shown(value: float) -> str:
    """Write a ratio with three digits at most."""
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"
