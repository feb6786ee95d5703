"""Goes through the matrix, a few rows of every cell before more of any, until it is done or its time is over."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any

import dspex
from benchmarks.real.journal import Cell, Journal
from benchmarks.real.relay import Relay
from benchmarks.real.sides import Side, make_side
from benchmarks.real.tasks import Task
from dspex.services.lm.retry import RetryPolicy

__all__ = ["Plan", "measure"]

_BLOCK = 5
"""Rows of one cell in a row: they share the beginning of their prompts, which the server keeps."""
_LIMITS = dspex.ClientLimits(max_in_flight=4, follow_latency=False, retry=RetryPolicy(max_attempts=3))


@dataclass(frozen=True, slots=True)
class Plan:
    """
    The cells to measure.

    Attributes:
        rows: Of each cell at most so many.
        lanes: Requests at once.
        first_turn: Ask nobody again; for a journal of its own, of which completions are taken.
        known: Rows that another file has; they are not asked.
    """

    tasks: Sequence[Task]
    forms: Sequence[str]
    demos: Sequence[int] = (0, 4)
    rows: int = 100
    lanes: int = 4
    first_turn: bool = False
    known: AbstractSet[tuple[Cell, int]] = frozenset()

    def work(self) -> Iterator[tuple[Task, Cell, int]]:
        """Return every row that is not known: all without demonstrations first, and a block of each cell in turn."""
        for count in self.demos:
            for start in range(0, self.rows, _BLOCK):
                for task in self.tasks:
                    for form in self.forms:
                        cell = Cell(task.name, form, count)
                        for row in range(start, min(start + _BLOCK, self.rows, len(task.rows))):
                            if (cell, row) not in self.known:
                                yield task, cell, row


async def measure(
    plan: Plan, journal: Journal, upstream: str, *, until: float, tell: Callable[[str], None] = lambda _: None
) -> bool:
    """
    Measure what the journal has not.

    Args:
        plan: The options.
        journal: Takes each row as soon as it is known.
        upstream: The address of the model's server, ending in ``/v1``.
        until: When no more rows are begun, by ``time.monotonic()``.
        tell: Takes a line for each row.

    Returns:
        True when all of it is measured.
    Cancellation: rows under way are not counted; all others are kept.
    """
    sides: dict[tuple[str, str], Side] = {}
    with Relay(upstream) as relay:
        app = dspex.App(cache=None, limits=_LIMITS, timeouts=dspex.Timeouts(read=1800.0), deadline=3600.0)
        async with app:
            free = list(range(plan.lanes))
            running: set[asyncio.Task[None]] = set()

            async def one(task: Task, cell: Cell, row: int, lane: int) -> None:
                try:
                    side = sides.get((cell.form, cell.task)) or sides.setdefault(
                        (cell.form, cell.task), make_side(cell.form, task, app, first_turn=plan.first_turn)
                    )
                    found = await _ask(side, task, cell, row, relay, lane)
                finally:
                    free.append(lane)
                journal.add(cell, row, found)
                tell(f"{cell.task:8} {cell.form:11} {cell.demos} {row:3} {_verdict(found)}")

            try:
                for task, cell, row in plan.work():
                    if journal.has(cell, row):
                        continue
                    if time.monotonic() >= until:
                        return False
                    if not free:
                        done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                        for each in done:
                            each.result()
                    running.add(asyncio.create_task(one(task, cell, row, free.pop())))
            finally:
                if running:
                    await asyncio.gather(*running)
    return True


async def _ask(side: Side, task: Task, cell: Cell, row: int, relay: Relay, lane: int) -> dict[str, Any]:
    asked = task.rows[row]
    began = time.monotonic()
    answer = await side.ask(asked.inputs, task.demos[: cell.demos], relay.url(lane))
    seconds = time.monotonic() - began
    exchanges = relay.take(lane)
    score, problem = 0.0, answer.error
    if answer.outputs is not None:
        try:
            score = task.score(answer.outputs, asked.truth)
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            problem = f"not scored: {type(error).__name__}: {error}"
    repaired = answer.repaired if answer.repaired is not None else len(exchanges) != 1
    usage = [each.usage for each in exchanges]
    return {
        "right": score == 1.0,
        "score": round(score, 4),
        "readable": answer.outputs is not None,
        "first": answer.outputs is not None and not repaired,
        "calls": len(exchanges),
        "tokens": [sum(each[at] for each in usage) for at in range(3)],
        "seconds": round(seconds, 2),
        "error": problem,
        "outputs": answer.outputs,
        "exchanges": [each.record() for each in exchanges],
    }


def _verdict(found: dict[str, Any]) -> str:
    word = "right" if found["right"] else "wrong" if found["readable"] else "unreadable"
    return f"{word:10} {found['calls']} calls {found['tokens']} {found['seconds']:.0f} s {found['error'][:60]}"
