"""A row, and the group of contenders that it is read from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from benchmarks._budget import Budget

__all__ = ["Clock", "Group", "Row", "Size"]

Clock = Literal["cpu", "wall", "p99", "memory", "turns"]


@dataclass(frozen=True, slots=True)
class Row:
    """
    One ratio.

    Attributes:
        name: Short and unique; ``--only`` takes it.
        title: The measured thing, for the table.
        ours: The contender whose cost it is, as ``module:function@loop``.
        peer: The contender beside it.
        rivals: More of them, where the peer may choose how it runs: the one with the lowest median counts.
        versus: The peer, for the table.
        budget: The aim. A row without one informs; ``reads`` then says which way its ratio goes.
        clock: CPU time of the whole process (the default: noise from neighbours hardly shows), or elapsed time; or
            what the contender measured itself: the 99th percentile of latencies, memory, or the ratio of two things
            that took turns in its process.
    """

    name: str
    title: str
    ours: str
    peer: str
    versus: str
    budget: Budget | None
    clock: Clock = "cpu"
    reads: Literal["cost", "gain"] = "cost"
    rivals: tuple[str, ...] = ()

    def ratio(self, ours: float, peer: float) -> float:
        """Return the ratio of two costs, in the direction in which this row is read."""
        if self.budget is not None:
            return self.budget.ratio(ours, peer)
        return ours / peer if self.reads == "cost" else peer / ours


@dataclass(frozen=True, slots=True)
class Size:
    """The number of operations of a turn where that is part of the question, and of turns."""

    full: int
    quick: int
    rounds: int = 7
    starts: int = 3


@dataclass(frozen=True, slots=True)
class Group:
    """
    Rows whose contenders take turns.

    Attributes:
        name: Short and unique; ``--only`` takes it.
        rows: The ratios read from it.
        server: True when the contenders talk to the chat-completions server.
        seconds: About how long one turn of one contender takes.
        size: The number of operations instead.
    """

    name: str
    rows: tuple[Row, ...]
    server: bool = False
    seconds: float = 0.1
    size: Size | None = None

    @property
    def contenders(self) -> tuple[str, ...]:
        """Everyone who takes part, in the order of first mention."""
        return tuple(dict.fromkeys(name for row in self.rows for name in (row.ours, row.peer, *row.rivals)))
