"""The size of what is left, told before it is paid: calls at most, tokens and hours at the speed so far. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.learning.rows import Sizes

__all__ = ["at_most", "estimate"]

_NOISE = 60
"""Calls of a job that runs the student twice on thirty rows."""


def at_most(cell: str, sizes: Sizes) -> int:
    """Return the calls of a cell when no answer is in a cache and nothing is asked twice; retries come on top."""
    learn, choose, hold = sizes.learn, sizes.choose, sizes.hold
    side, _, name = cell.partition("/")
    batch = min(25, choose)
    search = {
        "student": 0,
        "BootstrapFewShot": learn if side == "dspex" else learn + choose,
        "RandomSearch": 7 * learn + 9 * choose,
        "MIPROv2": 6 * learn + 40 + 10 * batch + 4 * choose,
        "GEPA": choose + 12 * (4 + choose),
    }[name]
    judged = hold if side == "dspy" or not search else _NOISE + 2 * hold
    return search + judged


def estimate(left: Sequence[tuple[str, str]], done: Sequence[Mapping[str, Any]], sizes: Sizes) -> str:
    """
    Return a line for people.

    Args:
        left: Task and cell of what is not measured yet.
        done: The results of what is: task, calls, tokens, and the calls and seconds of the last sitting.
        sizes: The number of rows.
    """
    calls = sum(at_most(cell, sizes) for _, cell in left)
    line = f"{len(left)} cells left, at most {calls:,} calls"
    tokens, seconds = 0.0, 0.0
    for task, cell in left:
        known = [each for each in done if each["task"] == task and each.get("sitting_calls")]
        if not known:
            return f"{line}; tokens and hours are told when the first cell of each task has ended"
        asked = sum(each["calls"] for each in known)
        tokens += at_most(cell, sizes) * sum(each["tokens_in"] + each["tokens_out"] for each in known) / asked
        lasted = sum(each["seconds"] for each in known)
        seconds += at_most(cell, sizes) * lasted / sum(each["sitting_calls"] for each in known)
    return f"{line}, some {tokens:,.0f} tokens, {seconds / 3600:.1f} hours at the speed so far"
