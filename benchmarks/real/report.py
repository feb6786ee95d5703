"""From a journal to the result file and the tables of the documentation: pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks.real.journal import Cell
from benchmarks.real.statistics import difference, interval, paired

__all__ = ["FORMAT", "Pooled", "in_short", "known_rows", "markdown", "of_another", "pooled", "result_file"]

FORMAT = 1
"""Raised when the meaning of a member of the result file changes."""

CEILING = "plain"
UNSEEN_FROM = {"banking": 20, "hotpot": 20}
"""The first row of a task on which no words of ``dspex/auto`` were chosen; the tenth of any other."""
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
    cells: Sequence[tuple[Cell, Rows]],
    facts: Mapping[str, object],
    notes: Sequence[str],
    *,
    times: bool = True,
    earlier: Mapping[str, Any] | None = None,
) -> dict[str, object]:
    """
    Return the file to commit: each cell with the verdict of each of its rows, no texts; times where they count.

    Args:
        cells: A journal's.
        facts: The machine, the packages, the model.
        notes: Sentences that a reader must know.
        times: False where the machine was not idle.
        earlier: The result file of earlier sittings, whose journal need not be there. A row counts once: a cell that
            the journal has with all rows of the earlier file is the journal's; of any other cell the earlier rows
            stand, and the journal adds those that the earlier file has not. It has sums, of which no row can be
            taken out again.
    """
    before = {_place(each): each for each in (earlier or {"cells": ()})["cells"]}
    for cell, rows in cells:
        known = before.get((cell.task, cell.form, cell.demos))
        if known is None or rows.keys() >= set(known["rows"]):
            before[cell.task, cell.form, cell.demos] = _cell(cell, rows)
        elif more := {row: kept for row, kept in rows.items() if row not in known["rows"]}:
            before[cell.task, cell.form, cell.demos] = _sum(known, _cell(cell, more))
    kept = [before[place] for place in sorted(before)]
    if not times:
        kept = [{**each, "seconds": None} for each in kept]
    return {"format": FORMAT, "facts": dict(facts), "notes": list(notes), "cells": kept}


def _place(cell: Mapping[str, Any]) -> tuple[str, str, int]:
    return cell["task"], cell["form"], cell["demos"]


def _sum(one: Mapping[str, Any], two: Mapping[str, Any]) -> dict[str, Any]:
    """Return a cell of the rows of two, which have none in common."""
    verdicts = {**_verdicts(one), **_verdicts(two)}
    rows = sorted(verdicts)
    right = "".join("1" if verdicts[row] else "0" for row in rows)
    total, shares = len(rows), [(len(each["rows"]), each["score"]) for each in (one, two)]
    both = {
        **one,
        "rows": rows,
        "right": right,
        "interval": [round(each, 4) for each in interval(right.count("1"), total)],
        "score": round(sum(count * score for count, score in shares) / total, 4),
    }
    for name in ("first", "unreadable", "calls", "tokens_in", "tokens_cached", "tokens_out"):
        both[name] = one[name] + two[name]
    is_timed = one["seconds"] is not None and two["seconds"] is not None
    return both | {"seconds": round(one["seconds"] + two["seconds"], 1) if is_timed else None}


def _verdicts(cell: Mapping[str, Any]) -> dict[int, bool]:
    """Return by its number whether each row was right."""
    return {row: found == "1" for row, found in zip(cell["rows"], cell["right"], strict=True)}


def known_rows(earlier: Mapping[str, Any]) -> frozenset[tuple[Cell, int]]:
    """Return the rows that a result file has."""
    return frozenset((Cell(*_place(each)), row) for each in earlier["cells"] for row in each["rows"])


def of_another(earlier: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """Name the model or the peer that the facts of an earlier result file are of; empty where it is that of now."""
    if earlier["model"] != now["model"]:
        return str(earlier["model"])
    peer = earlier["packages"]["dspy"]
    return "" if peer == now["packages"]["dspy"] else f"DSPy {peer}"


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
    """Return a table of the forms that were asked in every task of the plain prompt: all rows, and the unseen ones."""
    cells = [each for each in result["cells"] if each["demos"] == 0]
    tasks = {each["task"] for each in cells if each["form"] == CEILING}
    lines: list[Sequence[str]] = []
    for form in sorted({each["form"] for each in cells} - {CEILING}):
        if {each["task"] for each in cells if each["form"] == form} >= tasks and tasks:
            for unseen in (False, True):
                found = pooled(result, form, CEILING, unseen=unseen)
                if found.rows:
                    lines.append((f"`{form}`", "unseen" if unseen else "all", *_pooled_words(found)))
    if not lines:
        return ""
    headings = ("form", "rows", "that both have", "right", "the plain prompt's", "paired", "points apart, 95 %")
    return _lines([headings, ("---",) * len(headings), *lines])


def _pooled_words(found: Pooled) -> tuple[str, ...]:
    better, worse, p_value = paired(found.mine, found.theirs)
    low, high = difference(better, worse, found.rows)
    return (
        str(found.rows),
        _percent(sum(found.mine) / found.rows),
        _percent(sum(found.theirs) / found.rows),
        f"+{better} -{worse} (p {p_value:.2g})",
        f"{100 * low:+.0f} to {100 * high:+.0f}",
    )


PEERS = ("dspy/chat", "dspy/json")
OURS = "dspex/auto"
SIDES = {OURS: "dspex, by default", CEILING: "the best plain prompts by hand, and regular expressions"}


def in_short(result: Mapping[str, Any], peer: str) -> str:
    """
    Return three lines about all tasks: our default, the plain prompts, and the better of the peer's adapters.

    They are about rows without demonstrations; a sentence tells of the unseen ones. The first two lines are of the rows
    that both have, the peer's of those that it has besides; what is ours on these stands beside. A result file has the
    right answers of each row, and sums of all else: first turns and tokens are each cell's average, weighed with the
    rows that count of its task.

    Args:
        result: A result file.
        peer: The peer's name and version.
    """
    cells = {(each["form"], each["task"]): each for each in result["cells"] if each["demos"] == 0}
    tasks = [
        task for task in sorted({task for _, task in cells}) if all((form, task) in cells for form in (*SIDES, *PEERS))
    ]
    both = _common(cells, (OURS, CEILING), tasks)
    all_rows = _common(cells, (*SIDES, *PEERS), tasks)
    better = max(PEERS, key=lambda form: _right(cells, form, all_rows))
    theirs = _percent(_right(cells, better, all_rows))
    ours = _percent(_right(cells, OURS, all_rows))
    said = f"{len(tasks)} tasks. DSPy was asked {_count(all_rows)} of the rows: dspex gets {ours} % of these right."
    if (fresh := pooled(result, OURS, CEILING, unseen=True)).rows:
        ours, plain = (_percent(sum(each) / fresh.rows) for each in fresh)
        said += f" On the {fresh.rows} rows on which no words were chosen,"
        said += f" dspex gets {ours} %, the plain prompts {plain} %."
    lines = [
        said,
        "",
        "| | rows | right | read at the first turn | tokens a row |",
        "|---|---|---|---|---|",
    ]
    for form, name, rows in (*((form, name, both) for form, name in SIDES.items()), (better, peer, all_rows)):
        first, tokens = _average(cells, form, rows, "first"), _average(cells, form, rows, "tokens_in", "tokens_out")
        name = f"{name}, its better adapter" if form == better else name
        right = theirs if form == better else _percent(_right(cells, form, rows))
        lines.append(f"| {name} | {_count(rows)} | {right} % | {_percent(first)} % | {tokens:.0f} |")
    return "\n".join(lines)


Places = Mapping[tuple[str, str], Mapping[str, Any]]
"""Cells by their form and their task."""


def _common(cells: Places, forms: Sequence[str], tasks: Sequence[str]) -> dict[str, list[int]]:
    """Return the rows of each task that all these forms have."""
    return {task: sorted(set.intersection(*(set(cells[form, task]["rows"]) for form in forms))) for task in tasks}


def _count(rows: Mapping[str, Sequence[int]]) -> int:
    return sum(len(each) for each in rows.values())


def _right(cells: Places, form: str, rows: Mapping[str, Sequence[int]]) -> float:
    right = sum(_verdicts(cells[form, task])[row] for task, each in rows.items() for row in each)
    return right / max(1, _count(rows))


def _average(cells: Places, form: str, rows: Mapping[str, Sequence[int]], *names: str) -> float:
    """Return an average of a row: that of each cell, weighed with the rows that count."""
    total = 0.0
    for task, each in rows.items():
        cell = cells[form, task]
        total += len(each) * sum(cell[name] for name in names) / len(cell["rows"])
    return total / max(1, _count(rows))


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
    return _lines(lines)


def _lines(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _percent(share: float) -> str:
    """Return whole percents; nothing that happened is 0, and nothing that did not always happen is 100."""
    said = f"{100 * share:.0f}"
    return ">99" if said == "100" and share < 1 else "<1" if said == "0" and share > 0 else said


def _beside(cell: Mapping[str, Any], ceiling: Mapping[str, Any] | None) -> str:
    """Say on how many common rows only one of the two was right."""
    if ceiling is None or cell is ceiling:
        return "-"
    ours, theirs = _verdicts(cell), _verdicts(ceiling)
    common = sorted(ours.keys() & theirs.keys())
    better, worse, p_value = paired([ours[each] for each in common], [theirs[each] for each in common])
    return f"+{better} -{worse} (p {p_value:.2g})"


class Pooled(NamedTuple):
    """Two forms on the same rows of all tasks: whether each was right, row by row."""

    mine: list[bool]
    theirs: list[bool]

    @property
    def rows(self) -> int:
        """The number of rows."""
        return len(self.mine)


def pooled(result: Mapping[str, Any], form: str, beside: str, demos: int = 0, *, unseen: bool = False) -> Pooled:
    """
    Return the verdicts of two forms over all tasks, on the rows that both have.

    Args:
        result: A result file.
        form: One form.
        beside: The other.
        demos: The number of demonstrations.
        unseen: Take only rows on which no words of ``dspex/auto`` were chosen.
    """
    cells = {(each["task"], each["form"]): each for each in result["cells"] if each["demos"] == demos}
    found = Pooled([], [])
    for task in sorted({task for task, _ in cells}):
        if (task, form) not in cells or (task, beside) not in cells:
            continue
        one, two = _verdicts(cells[task, form]), _verdicts(cells[task, beside])
        first = UNSEEN_FROM.get(task, 10) if unseen else 0
        for row in sorted(one.keys() & two.keys()):
            if row >= first:
                found.mine.append(one[row])
                found.theirs.append(two[row])
    return found
