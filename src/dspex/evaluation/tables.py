"""The rows of a report as tables: plain values for pandas, CSV, JSON Lines and notebooks."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from dspex._files import json_text, parse_json
from dspex.errors import FileError
from dspex.evaluation.metrics import Score
from dspex.programs import Example, to_plain
from dspex.protocols.executor import Failed
from dspex.protocols.scope import RequestTotals
from dspex.protocols.surrogates import mended

__all__ = ["as_html", "csv_text", "has_columns", "json_lines", "row_of"]

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""Beginnings of texts that spreadsheets calculate."""

_SHOWN = 20
"""Rows that a notebook shows."""

_LONGEST = 300
"""Characters of a value that a notebook shows."""

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


def csv_text(rows: Sequence[Mapping[str, object]], *, formulas: bool) -> str:
    """Return rows below a head line, records and lists as JSON; without ``formulas`` no text of them is calculated."""
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    if rows:
        writer.writerow(rows[0])
    writer.writerows([_cell(value, formulas=formulas) for value in row.values()] for row in rows)
    return mended(text.getvalue())


def json_lines(rows: Sequence[Mapping[str, object]]) -> str:
    """Return one JSON object a line."""
    return "".join(json_text(row) + "\n" for row in rows)


def has_columns(path: Path, text: str) -> bool:
    """
    True where no file, an empty one, or a table with the columns of ``text`` stands at ``path``.

    Raises:
        FileError: It cannot be read.
    """
    if not path.exists():
        return True
    try:
        with path.open("rb") as file:
            there = file.readline(1_000_000)
    except OSError as error:
        raise FileError(path, f"it cannot be read: {error.strerror or error}") from error
    return not there or _columns(there) == _columns(text.partition("\n")[0].encode())


def _columns(line: bytes) -> object:
    try:
        row = parse_json(line)
    except ValueError:
        return line.strip()
    return sorted(row) if isinstance(row, dict) else line.strip()


def _cell(value: object, *, formulas: bool) -> object:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) and not formulas else value
    if value is None or isinstance(value, (int, float)):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


# --- notebooks ------------------------------------------------------------------------------------------------


def as_html(title: str, rows: Sequence[Mapping[str, object]]) -> str:
    """Return a title and the first rows as HTML; every text in it is escaped."""
    columns = ("row", "score", "feedback", "error", "example", "prediction")
    head = "".join(f"<th>{name}</th>" for name in columns)
    cells = ("".join(f"<td>{_shown(row[name])}</td>" for name in columns) for row in rows[:_SHOWN])
    body = "".join(f"<tr>{each}</tr>" for each in cells)
    rest = f"<p>and {len(rows) - _SHOWN} more rows</p>" if len(rows) > _SHOWN else ""
    return f"<pre>{escape(title)}</pre><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{rest}"


def _shown(value: object) -> str:
    text = "" if value is None else str(_cell(value, formulas=True))
    return escape(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")
