"""The demo on a terminal, from 60 columns up; without colours where NO_COLOR asks for none."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.syntax import Syntax
from rich.table import Table
from rich.text import Text

from dspex.app.demo.board import Board, Cell
from dspex.app.demo.plain import interval, percent
from dspex.app.demo.show import ScoreRow

__all__ = ["ScreenShow"]

_MARKS: Final = {
    Cell.WAITING: ("·", "dim"),
    Cell.ASKING: ("○", "cyan"),
    Cell.AGAIN: ("◐", "yellow"),
    Cell.ANSWERED: ("●", "green"),
    Cell.FAILED: ("✗", "red"),
}
_WIDEST: Final = 100
_NARROW: Final = 76
_KILLS_SHOWN: Final = 6
_HELD: Final = "\N{NO-BREAK SPACE}"


class ScreenShow:
    """
    Implements ``Show`` with rich.

    Args:
        console: The terminal.
    """

    def __init__(self, console: Console) -> None:
        self._console = console
        self._width = min(console.width, _WIDEST)

    def title(self, number: int, text: str) -> None:
        """Print a heading."""
        self._console.print()
        heading = Table.grid(padding=(0, 1))
        heading.add_row(Text(f" {number} ", style="bold reverse cyan"), Text(text, style="bold"))
        self._console.print(heading, width=self._width)

    def say(self, text: str) -> None:
        """Print a paragraph."""
        self._print(Text(text))

    def notice(self, text: str) -> None:
        """Print a paragraph that stands out."""
        self._print(Text(text, style="italic yellow"))

    def block(self, text: str, *, code: bool = False) -> None:
        """Print a tree, or Python in colours."""
        if code:
            shown: RenderableType = Syntax(text.rstrip(), "python", theme="ansi_dark", background_color="default")
        else:
            shown = Group(*map(_tree_line, text.rstrip("\n").split("\n")))
        self._print(shown)

    @contextmanager
    def progress(self, what: str, total: int | None) -> Iterator[Callable[[int], None]]:
        """Draw a bar that is gone when it is full."""
        columns = [TextColumn(f"   {what}"), BarColumn(bar_width=self._width // 3), TimeElapsedColumn()]
        if total is not None:
            columns.insert(2, MofNCompleteColumn())
        with Progress(*columns, console=self._console, transient=True) as bar:
            task = bar.add_task(what, total=total)

            def tell(done: int) -> None:
                bar.update(task, completed=done, total=None if total is None else max(total, done))

            yield tell

    @contextmanager
    def board(self, board: Board) -> Iterator[Callable[[], None]]:
        """Draw every question as a mark, and what happens to the actors below; the last picture stays."""
        with Live(self._board(board), console=self._console, auto_refresh=False, vertical_overflow="crop") as live:
            yield lambda: live.update(self._board(board), refresh=True)
            live.update(self._board(board), refresh=True)

    def table(self, rows: Sequence[ScoreRow]) -> None:
        """Print the scores with a bar each, and below it the rules that led to it."""
        widest = max(len(row.name) for row in rows)
        bar, sure = (6, "95 % sure") if self._width < _NARROW else (20, "95 % interval")
        self._print(Text(f"{'':{widest + bar}}    score  {sure}", style="dim", no_wrap=True))
        for row in rows:
            self._print(_score(row, widest, bar))
            if row.rules:
                self._print(Text(_whole_pairs(row.rules, self._width - 5), style="dim"))

    # --- pictures -------------------------------------------------------------------------------------------

    def _print(self, shown: RenderableType) -> None:
        self._console.print(Padding(shown, (0, 0, 0, 3)), width=self._width)

    def _board(self, board: Board) -> RenderableType:
        cells = board.cells
        per_line = min((self._width - 4) // 10 * 10, 60)
        lines = [_marks(cells[start : start + per_line]) for start in range(0, len(cells), per_line)]
        return Padding(Group(*lines, Text(), *_facts(board, Counter(cells)), *_kills(board)), (0, 0, 0, 3))


def _marks(cells: Sequence[Cell]) -> Text:
    line = Text()
    for cell in cells:
        mark, style = _MARKS[cell]
        line.append(mark, style=style)
    return line


def _facts(board: Board, count: Counter[Cell]) -> list[Text]:
    """Tell the numbers, each beside the mark it counts."""
    first = Text()
    for cell in (Cell.ANSWERED, Cell.ASKING, Cell.AGAIN, Cell.FAILED):
        mark, style = _MARKS[cell]
        if count[cell] or cell is not Cell.FAILED:
            first.append(mark, style=style)
            first.append(f" {count[cell]:3} {cell.value}  ")
    time = (f"{board.elapsed:4.1f} s  ", "dim")
    return [first, Text.assemble(time, (f"tried again {board.retries}: {board.met}", "yellow"))]


def _kills(board: Board) -> list[Text]:
    lines = []
    for kill in board.kills[-_KILLS_SHOWN:]:
        back = ("…", "red") if kill.back is None else (f"back in {1000 * kill.back:.0f} ms", "green")
        lines.append(Text.assemble((f"{kill.at:4.1f} s ", "dim"), ("killed ", "red"), f"{kill.name} ", back))
    return lines


def _score(row: ScoreRow, widest: int, bar: int) -> Text:
    full = round(row.score * bar)
    return Text.assemble(
        f"{row.name:{widest}}  ",
        ("━" * full, "green"),
        ("┄" * (bar - full), "dim"),
        (f"  {percent(row.score)}", "bold"),
        f"  {interval(row)}",
        no_wrap=True,
    )


def _whole_pairs(rules: str, width: int) -> str:
    """Break lines between a rule with its number and the next, two spaces to the right."""
    pairs = rules.replace(" ", _HELD).replace(f",{_HELD}", ", ")
    lines = textwrap.wrap(pairs, width, break_long_words=False)
    return "\n".join(f"  {line}" for line in lines).replace(_HELD, " ")


def _tree_line(line: str) -> Text:
    label, bracket, note = line.partition("  (")
    text = Text.assemble((label, "bold"), (f"{bracket}{note}", "dim"), no_wrap=True, overflow="ellipsis")
    text.highlight_regex(r"restarts \d+", "yellow")
    return text
