"""From the cells to the tables of the documentation: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.real.statistics import interval, paired

__all__ = ["markdown"]

_TITLES = {"banking": "BANKING77, ten intents", "gsm8k": "GSM8K, word problems"}
_HEADINGS = (
    "optimizer",
    "held-out rows right",
    "95 %",
    "beside its own student",
    "calls",
    "tokens",
    "minutes",
    "verdict",
)


def markdown(result: Mapping[str, Any]) -> str:
    """Return a table for each task: every cell beside the student of its own side, row by row."""
    parts = []
    for task, title in _TITLES.items():
        cells = {each["cell"]: each for each in result["cells"] if each["task"] == task}
        if cells:
            parts.append(f"### {title}\n\n{_table(cells)}")
    return "\n\n".join(parts)


def _table(cells: Mapping[str, Mapping[str, Any]]) -> str:
    lines: list[Sequence[str]] = [_HEADINGS, ("---",) * len(_HEADINGS)]
    for name, each in cells.items():
        right = each["right"]
        low, high = interval(right.count("1"), len(right))
        lines.append(
            (
                f"`{name}`",
                f"{100 * right.count('1') / len(right):.0f} % of {len(right)}",
                f"{100 * low:.0f}-{100 * high:.0f}",
                _beside(each, cells.get(f"{name.partition('/')[0]}/student")),
                f"{each['calls']:,}",
                f"{each['tokens_in'] + each['tokens_out']:,}",
                f"{each['seconds'] / 60:.0f}",
                each["verdict"] or "-",
            )
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _beside(cell: Mapping[str, Any], student: Mapping[str, Any] | None) -> str:
    if student is None or cell is student or len(student["right"]) != len(cell["right"]):
        return "-"
    better, worse, p_value = paired([c == "1" for c in cell["right"]], [c == "1" for c in student["right"]])
    return f"+{better} -{worse} (p {p_value:.2g})"
