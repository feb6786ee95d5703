"""The demo as plain lines: for files, pipes and terminals that cannot do more."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TextIO

from dspex.app.demo.board import Board, KilledActor
from dspex.app.demo.show import ScoreRow

__all__ = ["PlainShow"]


class PlainShow:
    """
    Implements ``Show``: every line stands by itself and is never drawn over.

    Args:
        out: Where the lines go.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def title(self, number: int, text: str) -> None:
        """Write a heading."""
        self._line(f"\n{number}. {text}" if number > 1 else f"{number}. {text}")

    def say(self, text: str) -> None:
        """Write one line."""
        self._line(f"   {text}")

    def notice(self, text: str) -> None:
        """Write one line, from the margin."""
        self._line(text)

    def block(self, text: str, *, code: bool = False) -> None:
        """Write lines as they are, a little to the right."""
        for line in text.rstrip("\n").split("\n"):
            self._line(f"   {line}".rstrip())

    @contextmanager
    def progress(self, what: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Show nothing: the result is said afterwards."""
        yield lambda _: None

    @contextmanager
    def board(self, board: Board) -> Iterator[Callable[[], None]]:
        """Write one line for each actor that was killed and is back."""
        board.on_back = lambda kill: self._line(f"   {kill_line(kill, board)}")
        yield lambda: None

    def table(self, rows: Sequence[ScoreRow]) -> None:
        """Write the scores, one row a line."""
        widest = max(len(row.name) for row in rows)
        self._line(f"   {'':{widest}}   score  95 % interval")
        for row in rows:
            rules = f"   {row.rules}" if row.rules else ""
            self._line(f"   {row.name:{widest}}   {percent(row.score)}   {interval(row):>11}  {rules}".rstrip())

    def _line(self, text: str) -> None:
        self._out.write(f"{text}\n")
        self._out.flush()


def kill_line(kill: KilledActor, board: Board) -> str:
    """Tell who was killed when, and how the questions stand."""
    back = "not back yet" if kill.back is None else f"back in {1000 * kill.back:.0f} ms"
    return (
        f"{kill.at:4.1f} s  killed {kill.name}, {back}; "
        f"{board.answered} of {board.total} answered, {board.retries} calls tried again"
    )


def percent(share: float) -> str:
    """Write a share as whole percents, at a fixed width."""
    return f"{100 * share:3.0f} %"


def interval(row: ScoreRow) -> str:
    """Write an interval of shares as percents."""
    low, high = row.interval
    return f"{100 * low:.0f} to {100 * high:.0f} %"
