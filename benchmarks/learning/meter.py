"""Counts what a cell has asked of the model, over all sittings."""

from __future__ import annotations

import json
import threading
from pathlib import Path

from benchmarks.real.relay import Exchange

__all__ = ["Meter"]


class Meter:
    """A file of one line for each request: calls and tokens of a cell, also of sittings that were stopped."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._lock = threading.Lock()

    def note(self, exchange: Exchange) -> None:
        """Write one request down; called from the relay's threads."""
        tokens_in, cached, out = exchange.usage
        line = json.dumps([exchange.status, tokens_in, cached, out])
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(f"\n{line}\n")  # of a line that SIGKILL cut in two, only that line is lost

    def totals(self) -> dict[str, int]:
        """Return calls and tokens so far."""
        text = self._path.read_text(encoding="utf-8") if self._path.exists() else ""
        rows = [json.loads(line) for line in text.splitlines() if line.startswith("[") and line.endswith("]")]
        return {
            "calls": len(rows),
            "tokens_in": sum(row[1] for row in rows),
            "tokens_out": sum(row[3] for row in rows),
        }
