"""The measurements so far, a line of JSON for each row of each cell: a run that was stopped goes on from it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["Cell", "Journal"]


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One place of the matrix."""

    task: str
    form: str
    demos: int


class Journal:
    """A file that is only added to; a line that was cut off by the end of the process is not counted."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.rows: dict[tuple[Cell, int], dict[str, Any]] = {}
        if path.exists():
            whole = path.read_bytes()
            end = whole.rfind(b"\n") + 1
            if end < len(whole):
                os.truncate(path, end)
            for line in whole[:end].decode().splitlines():
                kept = json.loads(line)
                self.rows[Cell(kept["task"], kept["form"], kept["demos"]), kept["row"]] = kept
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file = path.open("a", encoding="utf-8")

    def has(self, cell: Cell, row: int) -> bool:
        """Tell whether a row was measured."""
        return (cell, row) in self.rows

    def add(self, cell: Cell, row: int, found: dict[str, Any]) -> None:
        """Keep what was measured."""
        kept = {"task": cell.task, "form": cell.form, "demos": cell.demos, "row": row, **found}
        self._file.write(json.dumps(kept, ensure_ascii=False) + "\n")
        self._file.flush()
        self.rows[cell, row] = kept

    def cells(self) -> Iterator[tuple[Cell, dict[int, dict[str, Any]]]]:
        """Return each cell with its rows by number."""
        for cell in sorted({cell for cell, _ in self.rows}):
            yield (
                cell,
                {
                    row: kept
                    for (each, row), kept in sorted(self.rows.items(), key=lambda item: item[0][1])
                    if each == cell
                },
            )

    def close(self) -> None:
        """Close the file."""
        self._file.close()
