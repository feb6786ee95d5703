"""Lines and tables of a fixed width in the terminal's cells: pure. The texts of others are shown, and do nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from dspex.protocols.printable import printable

__all__ = [
    "Column",
    "Line",
    "TableCell",
    "TableRow",
    "count",
    "cut",
    "dollars",
    "fitted",
    "heading",
    "line",
    "seconds",
    "table",
]

GAP: Final = 2
"""Cells between two columns."""

LONGEST: Final = 500
"""Characters of one text that are looked at."""


@dataclass(frozen=True, slots=True)
class Line:
    """One line of a screen; ``key`` names what it can be chosen for."""

    text: Text
    key: str | None = None


@dataclass(frozen=True, slots=True)
class TableCell:
    """A text in a table, and its style."""

    text: str = ""
    style: str = ""


@dataclass(frozen=True, slots=True)
class Column:
    """
    A column of a table.

    Attributes:
        title: Its heading.
        most: The most cells that it takes; the ``wide`` one takes what is left.
        right: True for numbers.
        need: Where it is too narrow for all, columns with a higher need go first.
        wide: True for the one that takes what the others leave.
    """

    title: str
    most: int = 12
    right: bool = False
    need: int = 0
    wide: bool = False


@dataclass(frozen=True, slots=True)
class TableRow:
    """A row of a table: its cells, lines that belong to it, and the key by which it is chosen."""

    cells: Sequence[TableCell | Text]
    key: str | None = None
    below: Sequence[Line] = ()


NARROWEST: Final = 8
"""Cells that the wide column needs to be worth its place."""


def table(columns: Sequence[Column], rows: Sequence[TableRow], width: int) -> list[Line]:
    """Return the table as lines that fit: columns that find no place are left out, the ones least needed first."""
    widths = _widths(columns, rows, width)
    lines = [Line(_joined(columns, widths, [TableCell(each.title, "dim") for each in columns]))]
    for row in rows:
        lines.append(Line(_joined(columns, widths, row.cells), row.key))
        lines += row.below
    return lines


def wide_cells(columns: Sequence[Column], rows: Sequence[TableRow], width: int) -> int:
    """Return how many cells the wide column has in this table; 0 where it has no place."""
    widths = _widths(columns, rows, width)
    return next((cells for column, cells in zip(columns, widths, strict=True) if column.wide), 0)


def _widths(columns: Sequence[Column], rows: Sequence[TableRow], width: int) -> list[int]:
    widths = []
    for place, column in enumerate(columns):
        found = max((_length(row.cells[place]) for row in rows), default=0)
        widths.append(NARROWEST if column.wide else min(column.most, max(found, cell_len(column.title))))
    order = sorted(range(len(columns)), key=lambda place: -columns[place].need)
    while sum(widths) + GAP * (sum(each > 0 for each in widths) - 1) > width and order:
        if columns[order[0]].need == 0:
            break
        widths[order.pop(0)] = 0
    rest = width - sum(widths) - GAP * (sum(each > 0 for each in widths) - 1)
    return [
        each + rest if column.wide and each and rest > 0 else each for column, each in zip(columns, widths, strict=True)
    ]


def _length(cell: TableCell | Text) -> int:
    return cell.cell_len if isinstance(cell, Text) else cell_len(fitted(cell.text))


def _joined(columns: Sequence[Column], widths: Sequence[int], cells: Sequence[TableCell | Text]) -> Text:
    found = Text(no_wrap=True)
    for column, width, cell in zip(columns, widths, cells, strict=True):
        if not width:
            continue
        if found:
            found.append(" " * GAP)
        if isinstance(cell, Text):
            piece = cell.copy()
            piece.truncate(width, overflow="ellipsis", pad=True)
            found.append_text(piece)
            continue
        text = cut(cell.text, width)
        pad = " " * (width - cell_len(text))
        found.append(pad + text if column.right else text + pad, cell.style or None)
    found.rstrip()
    return found


def fitted(text: str) -> str:
    """Return somebody else's text for a terminal: one line, whose escapes are shown and do nothing."""
    return printable(text[:LONGEST])


def cut(text: str, width: int) -> str:
    """Return a text that takes ``width`` cells at most; what does not fit is told by ``…``."""
    shown = fitted(text)
    if cell_len(shown) <= width:
        return shown
    return set_cell_size(shown, width - 1).rstrip(" ") + "…" if width > 1 else "…"[:width]


def line(*pieces: str | tuple[str, str]) -> Text:
    """Return one line of pieces, each a text or a text with its style."""
    found = Text(no_wrap=True)
    for piece in pieces:
        text, style = (piece, "") if isinstance(piece, str) else piece
        found.append(fitted(text), style or None)
    return found


def heading(text: str, more: str = "") -> Line:
    """Return the heading of a part."""
    return Line(line((text, "bold"), (f"  {more}" if more else "", "dim")))


# --- numbers --------------------------------------------------------------------------------------------------


def seconds(value: float | None) -> str:
    """Return a duration as people say it."""
    if value is None:
        return "-"
    if value < 0.0995:
        return f"{value * 1000:.0f} ms"
    if value < 9.95:
        return f"{value:.1f} s"
    if value < 99.5:
        return f"{value:.0f} s"
    return f"{value / 60:.0f} min" if value < 5970 else f"{value / 3600:.1f} h"


def dollars(value: object) -> str:
    """Return an amount of money."""
    if value is None:
        return "unknown"
    number = float(str(value))
    if number == 0:
        return "$0"
    if 0 < number < 0.0001:
        return "<$0.0001"
    return f"${number:.4f}" if number < 1 else f"${number:,.2f}"


def count(value: object) -> str:
    """Return a number with its thousands apart."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, (int, float)) else str(value)
