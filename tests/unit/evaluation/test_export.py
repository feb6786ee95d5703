"""Reports as CSV, JSON Lines, frames and HTML: every row is there, and hostile texts do nothing."""

from __future__ import annotations

import csv
import json
import sys
import types
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import dspex
from dspex.errors import ConfigError, TargetExists
from dspex.evaluation import Report, Scored
from dspex.optimizers import BootstrapFewShot
from dspex.protocols.executor import Failed
from dspex.protocols.lm import Usage
from dspex.protocols.scope import RequestTotals
from dspex.runtime import TreeNode
from dspex.testing import ScriptedLM

HOSTILE = "=HYPERLINK(\"http://x\")<script>alert('&')</script>\n\x1b[2J"


class Names(dspex.Signature):
    question: str = dspex.InputField()
    answer: str = dspex.OutputField()


def report() -> Report[Any]:
    totals = RequestTotals("r1", Usage(10, 4), 1, 0, (), 0, 0, 0.5, Decimal("0.000300000000000000001"))
    examples = (dspex.Example(question="q", answer="a"), dspex.Example(question=HOSTILE, answer="-1"))
    answer = dspex.Prediction(answer=HOSTILE, tags=["x", "y"])
    return Report(
        "P",
        examples,
        (Scored(examples[0], answer, dspex.Score(0.5, "half", {"f": 0.5}), (), totals), Failed(OSError("gone"), {})),
        max_failed=1.0,
    )


def test_json_lines_hold_every_row(tmp_path: Path) -> None:
    report().save(tmp_path / "rows.jsonl")

    rows = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text().splitlines()]

    assert rows == report().rows()
    assert [(row["score"], row["error"]) for row in rows] == [(0.5, ""), (None, "OSError: gone")]
    assert rows[0]["prediction"] == {"answer": HOSTILE, "tags": ["x", "y"]}


def test_a_spreadsheet_calculates_nothing_that_a_model_wrote(tmp_path: Path) -> None:
    """A text that begins like a formula has an apostrophe before it, unless the user wants it as it is."""
    example = dspex.Example(question="q")
    formula = Report("P", (example,), (Scored(example, HOSTILE, dspex.Score(-0.5, "@half")),))

    def read(**options: bool) -> tuple[str, str, str]:
        formula.save(tmp_path / "rows.csv", **options)
        with (tmp_path / "rows.csv").open(newline="") as file:
            (row,) = csv.DictReader(file)
        return row["prediction"], row["feedback"], row["score"]

    assert read() == (f"'{HOSTILE}", "'@half", "-0.5")
    assert read(formulas=True) == (HOSTILE, "@half", "-0.5")


def test_half_a_character_is_written_too(tmp_path: Path) -> None:
    example = dspex.Example(question="q")
    half = Report("P", (example,), (Scored(example, "\ud83d", dspex.Score(1.0, "\ud83d")),))
    half.save(tmp_path / "rows.csv")
    half.save(tmp_path / "rows.jsonl")

    assert json.loads((tmp_path / "rows.jsonl").read_text())["prediction"] == "\ud83d"
    assert (tmp_path / "rows.csv").read_text().count("\n") == 2


def test_pandas_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is asked for its frame where it is installed; elsewhere the error says what to do."""
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match="pip install pandas"):
        report().to_pandas()

    class DataFrame:
        @staticmethod
        def from_records(rows: list[dict[str, object]]) -> list[dict[str, object]]:
            return rows

    pandas = types.ModuleType("pandas")
    monkeypatch.setattr(pandas, "DataFrame", DataFrame, raising=False)
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    rows = report().to_pandas()
    assert [row["score"] for row in rows] == [0.5, None]


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.text = ""

    def handle_starttag(self, tag: str, attrs: object) -> None:
        self.tags.add(tag)

    def handle_data(self, data: str) -> None:
        self.text += data


def read(html: str) -> _Tags:
    found = _Tags()
    found.feed(html)
    found.close()
    return found


async def test_notebooks_show_no_code_of_a_model(tmp_path: Path) -> None:
    """Reports, predictions, jobs and trees have the text, and no other tags than their own."""
    record = Names(question=HOSTILE)
    record.answer = HOSTILE
    node = TreeNode(HOSTILE, 1, "running", note=HOSTILE)
    async with dspex.App(ScriptedLM([]), cache=None, home=tmp_path) as app:
        rows = [dspex.Example(question="q", answer="a")]
        job = await app.compile(
            dspex.Predict(Names), BootstrapFewShot(lambda *_: True, max_bootstrapped_demos=0), trainset=rows, job="j"
        )
        await job.result()
        shown = {
            "job j: finished": job._repr_html_(),
            "P: 0.500": report()._repr_html_(),
            "alert('&')": node._repr_html_(),
        }
    shown["<script>"] = record._repr_html_()
    for text, html in shown.items():
        found = read(html)
        assert text in found.text
        assert found.tags <= {"table", "thead", "tbody", "caption", "tr", "th", "td", "pre", "p"}
    assert HOSTILE in read(record._repr_html_()).text
    assert "<script>alert('&')" in read(report()._repr_html_()).text


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_an_older_report_is_replaced_and_nothing_else(tmp_path: Path, kind: str) -> None:
    """A missing folder is made; another table is left alone until somebody says so."""
    path = tmp_path / "new" / f"rows.{kind}"
    report().save(path)
    before = path.read_bytes()
    report().save(path)
    assert path.read_bytes() == before
    path.write_text("a year's work\n")
    with pytest.raises(TargetExists, match="is not a report with these columns"):
        report().save(path)
    assert path.read_text() == "a year's work\n"
    report().save(path, overwrite=True)
    assert path.read_bytes() == before
