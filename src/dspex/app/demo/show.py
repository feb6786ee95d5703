"""The view of the demo: a terminal, or plain lines."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from dspex.app.demo.board import Board

__all__ = ["ScoreRow", "Show"]


@dataclass(frozen=True, slots=True)
class ScoreRow:
    """One line of the table of scores; shares between 0 and 1."""

    name: str
    score: float
    interval: tuple[float, float]
    rules: str = ""


class Show(Protocol):
    """Shows the demo to a reader."""

    def title(self, number: int, text: str) -> None:
        """Begin a part."""
        ...

    def say(self, text: str) -> None:
        """Say a sentence, or one line of facts."""
        ...

    def notice(self, text: str) -> None:
        """Say something the reader must not miss."""
        ...

    def block(self, text: str, *, code: bool = False) -> None:
        """Show lines as they are: a tree, or Python."""
        ...

    def progress(self, what: str, total: int | None) -> AbstractContextManager[Callable[[int], None]]:
        """Show how far something is; what it gives is told the number done so far."""
        ...

    def board(self, board: Board) -> AbstractContextManager[Callable[[], None]]:
        """Show questions being asked; what it gives draws them as they are now."""
        ...

    def table(self, rows: Sequence[ScoreRow]) -> None:
        """Show the scores."""
        ...
