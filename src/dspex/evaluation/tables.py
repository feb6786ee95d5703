"""The rows of a report as tables: plain values for pandas, CSV and JSON Lines."""

from __future__ import annotations

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from dspex.evaluation.metrics import Score
from dspex.programs import Example, to_plain
from dspex.protocols.executor import Failed
from dspex.protocols.scope import RequestTotals

__all__ = ["row_of", "write_csv", "write_json_lines"]

Row = dict[str, object]


def row_of(
    number: int,
    example: Example,
    value: object,
    score: Score | None,
    failed: Failed | None,
    totals: RequestTotals | None,
) -> Row:
    """Return one outcome as JSON values; price and times are None where they are unknown."""
    return {
        "row": number,
        "score": None if score is None else score.value,
        "feedback": "" if score is None else score.feedback,
        "error": "" if failed is None else f"{type(failed.reason).__name__}: {failed.reason}",
        "seconds": None if totals is None else totals.duration,
        "usd": None if totals is None or totals.cost is None else float(totals.cost),
        "input_tokens": None if totals is None else totals.usage.input_tokens,
        "output_tokens": None if totals is None else totals.usage.output_tokens,
        "calls": None if totals is None else totals.calls,
        "example": to_plain(dict(example)),
        "prediction": None if failed is not None else to_plain(value),
    }


def write_csv(path: str | Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write rows with a head line; records and lists are written as JSON."""
    with Path(path).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        if rows:
            writer.writerow(rows[0])
        writer.writerows([_cell(value) for value in row.values()] for row in rows)


def write_json_lines(path: str | Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write one JSON object a line."""
    with Path(path).open("w", encoding="utf-8") as file:
        file.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)


def _cell(value: object) -> object:
    if value is None or isinstance(value, (str, int, float)):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)
