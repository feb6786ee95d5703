"""What a contender is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

__all__ = ["Figure", "Measured", "Run", "Setup"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a contender measured itself, where only a part of its turn counts: seconds in all."""

    cpu: float
    wall: float


@dataclass(frozen=True, slots=True)
class Figure:
    """
    What a contender measured itself, where its row is not about the cost of one operation.

    Attributes:
        value: What the row compares: bytes, or a percentile in seconds.
        figures: What else a reader wants to know, by name.
    """

    value: float
    figures: Mapping[str, float] = field(default_factory=dict)


Run = Callable[[int], Awaitable[Measured | Figure | None] | Measured | Figure | None]
"""Performs so many operations."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a contender is made from; ``stack`` closes what it opened."""

    url: str
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
