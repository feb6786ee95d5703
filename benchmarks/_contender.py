"""The interface of contenders."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

__all__ = ["Figure", "Measured", "Run", "Setup"]


@dataclass(frozen=True, slots=True)
class Measured:
    """The seconds that a contender measured itself, where only a part of its turn counts."""

    cpu: float
    wall: float


@dataclass(frozen=True, slots=True)
class Figure:
    """
    The figures that a contender measured itself, where its row is not about the cost of one operation.

    Attributes:
        value: The compared figure: bytes, or a percentile in seconds.
        figures: Further figures for the reader, by name.
    """

    value: float
    figures: Mapping[str, float] = field(default_factory=dict)


Run = Callable[[int], Awaitable[Measured | Figure | None] | Measured | Figure | None]
"""Performs so many operations."""


@dataclass(frozen=True, slots=True)
class Setup:
    """The arguments of a contender; ``stack`` closes the things it opened."""

    url: str
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
