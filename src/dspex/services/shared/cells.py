"""Cells: named texts of a store that several processes share, each changed by one of them at a time."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, TypeVar

from dspex.errors import SharedError

__all__ = ["TRIES", "Cells", "Step", "contended"]

R = TypeVar("R")

TRIES: Final = 200
"""Times that one change is tried while others are faster: in each round one of them succeeds."""

Step = Callable[[str | None, float], tuple[str, R]]
"""
Return the new text of a cell, and an answer, for its present text (None where there is none) and the store's clock.

It may be called several times for one change, when others are faster: it changes nothing but what it returns.
"""


class Cells(Protocol):
    """The cells of one store, which has the clock: seconds that only differences of mean anything."""

    async def change(self, name: str, step: Step[R], keep: float) -> R:
        """
        Change one cell as nobody else does in between, and return the answer of ``step``.

        Args:
            name: Of the cell: up to 300 characters.
            step: Makes the new text from the old one; what it raises is raised, and leaves the cell as it was.
            keep: Seconds after which the store may forget a cell that nobody has changed since.

        Raises:
            SharedError: The store cannot be reached; the change may have been made all the same.
        """
        ...


def contended(name: str) -> SharedError:
    """Return the error of a change that others were faster than, each time."""
    return SharedError(f"the shared cell {name!r} is changed by too many processes at once")
