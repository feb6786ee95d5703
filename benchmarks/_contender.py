"""What a contender is."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

__all__ = ["Measured", "Run", "Setup"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What a contender measured itself, where only a part of its turn counts: seconds in all."""

    cpu: float
    wall: float


Run = Callable[[int], Awaitable[Measured | None] | Measured | None]
"""Performs so many operations."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a contender is made from; ``stack`` closes what it opened."""

    url: str
    stack: AsyncExitStack = field(default_factory=AsyncExitStack)
