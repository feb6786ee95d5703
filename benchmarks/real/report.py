"""From a journal to the result file and the tables of the documentation: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.real.journal import Cell
from benchmarks.real.statistics import interval, paired

__all__ = ["FORMAT", "in_short", "markdown", "pooled", "result_file"]

FORMAT = 1
"""Raised when the meaning of a member of the result file changes."""

CEILING = "plain"
HEADINGS = (
    "form",
    "rows",
    "right",
    "95 %",
    "beside the plain prompt",
    "first turn",
    "unreadable",
    "calls",
    "tokens in",
    "tokens out",
)
Rows = Mapping[int, Mapping[str, Any]]


def result_file(
    cells: Sequence[tuple[Cell, Rows]], facts: Mapping[str, object], notes: Sequence[str], *, times: bool = True
) -> dict[str, object]:
    """Return the file to commit: each cell with the verdict of each of its rows, no texts; times where they count."""
    kept = [_cell(*each) for each in cells]
    if not times:
        kept = [{**each, "seconds": None} for each in kept]
    return {"format": FORMAT, "facts": dict(facts), "notes": list(notes), "cells": kept}


def _cell(cell: Cell, rows: Rows) -> dict[str, object]:
    kept = [rows[number] for number in sorted(rows)]
    total = len(kept)
    right = sum(each["right"] for each in kept)
    return {
        "task": cell.task,
        "form": cell.form,
        "demos": cell.demos,
        "rows": sorted(rows),
        "right": "".join("1" if each["right"] else "0" for each in kept),
        "interval": [round(each, 4) for each in interval(right, total)],
        "score": round(sum(each["score"] for each in kept) / total, 4),
        "first": sum(each["first"] for each in kept),
        "unreadable": sum(not each["readable"] for each in kept),
        "calls": sum(each["calls"] for each in kept),
        "tokens_in": sum(each["tokens"][0] for each in kept),
        "tokens_cached": sum(each["tokens"][1] for each in kept),
        "tokens_out": sum(each["tokens"][2] for each in kept),
        "seconds": round(sum(each["seconds"] for each in kept), 1),
    }


def markdown(result: Mapping[str, Any], titles: Mapping[str, str]) -> str:
    """Return a table for each task and number of demonstrations, the forms in the order of their right answers."""
    cells = result["cells"]
    parts = []
    for task in titles:
        for demos in (0, 4):
            found = [each for each in cells if each["task"] == task and each["demos"] == demos]
            if found:
                shown = f", {demos} demonstrations" if demos else ""
                parts.append(f"### {titles[task]}{shown}\n\n{_table(found)}")
    together = _together(result)
    return "\n\n".join([*parts, f"### All tasks together\n\n{together}"] if together else parts)


def _together(result: Mapping[str, Any]) -> str:
    """Return a table of the forms that were asked in every task in which the plain prompt was."""
    cells = [each for each in result["cells"] if each["demos"] == 0]
    tasks = {each["task"] for each in cells if each["form"] == CEILING}
    forms = sorted({each["form"] for each in cells} - {CEILING})
    lines: list[Sequence[str]] = []
    for form in forms:
        if {each["task"] for each in cells if each["form"] == form} >= tasks and tasks:
            mine, theirs, rows = pooled(result, form, CEILING)
            lines.append((f"`{form}`", str(rows), _percent(mine), _percent(theirs)))
    if not lines:
        return ""
    headings = ("form", "rows that both have", "right", "the plain prompt's")
    return "\n".join("| " + " | ".join(line) + " |" for line in (headings, ("---",) * len(headings), *lines))


PEERS = ("dspy/chat", "dspy/json")
SIDES = {"dspex/auto": "dspex, by default", CEILING: "the best plain prompts by hand, and regular expressions"}


def in_short(cells: Sequence[tuple[Cell, Rows]], peer: str) -> str:
    """
    Return three lines about all tasks: our default, the plain prompts, and the better of the peer's adapters.

    They are about the rows without demonstrations that all of them have.

    Args:
        cells: A journal's.
        peer: The peer's name and version.
    """
    known = {(cell.form, cell.task): rows for cell, rows in cells if cell.demos == 0}
    forms = (*SIDES, *PEERS)
    tasks = [task for task in sorted({task for _, task in known}) if all((form, task) in known for form in forms)]
    common = [(task, row) for task in tasks for row in set.intersection(*(set(known[form, task]) for form in forms))]
    found = {form: [known[form, task][row] for task, row in common] for form in forms}
    better = max(PEERS, key=lambda form: sum(each["right"] for each in found[form]))
    names = {**SIDES, better: f"{peer}, its better adapter"}
    lines = [f"Rows: {len(common)} of {len(tasks)} tasks.", "", "| | right | read at the first turn | tokens a row |"]
    lines.append("|---|---|---|---|")
    for form, name in names.items():
        rows, total = found[form], max(1, len(common))
        right, first = (_percent(sum(each[what] for each in rows) / total) for what in ("right", "first"))
        tokens = sum(each["tokens"][0] + each["tokens"][2] for each in rows) / total
        lines.append(f"| {name} | {right} % | {first} % | {tokens:.0f} |")
    return "\n".join(lines)


def _table(cells: Sequence[Mapping[str, Any]]) -> str:
    ceiling = next((each for each in cells if each["form"] == CEILING), None)
    ordered = sorted(cells, key=lambda each: -each["right"].count("1") / len(each["rows"]))
    lines: list[Sequence[str]] = [HEADINGS, ("---",) * len(HEADINGS)]
    for each in ordered:
        total = len(each["rows"])
        low, high = each["interval"]
        lines.append(
            (
                f"`{each['form']}`",
                str(total),
                _percent(each["right"].count("1") / total),
                f"{_percent(low)}-{_percent(high)}",
                _beside(each, ceiling),
                _percent(each["first"] / total),
                _percent(each["unreadable"] / total),
                f"{each['calls'] / total:.1f}",
                f"{each['tokens_in'] / total:.0f}",
                f"{each['tokens_out'] / total:.0f}",
            )
        )
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _percent(share: float) -> str:
    return f"{100 * share:.0f}"


def _beside(cell: Mapping[str, Any], ceiling: Mapping[str, Any] | None) -> str:
    """Say on how many common rows only one of the two was right."""
    if ceiling is None or cell is ceiling:
        return "-"
    ours, theirs = (dict(zip(each["rows"], each["right"], strict=True)) for each in (cell, ceiling))
    common = sorted(ours.keys() & theirs.keys())
    better, worse, p_value = paired([ours[each] == "1" for each in common], [theirs[each] == "1" for each in common])
    return f"+{better} -{worse} (p {p_value:.2g})"


def pooled(result: Mapping[str, Any], form: str, beside: str, demos: int = 0) -> tuple[float, float, int]:
    """Return the shares of right answers of two forms over all tasks, on the rows that both have, and how many."""
    cells = {(each["task"], each["form"]): each for each in result["cells"] if each["demos"] == demos}
    mine = theirs = total = 0
    for (task, each), cell in cells.items():
        other = cells.get((task, beside))
        if each != form or other is None:
            continue
        one, two = (dict(zip(found["rows"], found["right"], strict=True)) for found in (cell, other))
        common = one.keys() & two.keys()
        mine += sum(one[row] == "1" for row in common)
        theirs += sum(two[row] == "1" for row in common)
        total += len(common)
    return (mine / total if total else 0.0), (theirs / total if total else 0.0), total
