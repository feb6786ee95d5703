"""The figures of retrievers: what they mean, and that the page shows the file of the last run."""

from __future__ import annotations

import json
from pathlib import Path

from benchmarks.retrieval.score import AT, markdown, measured, result_file

ROOT = Path(__file__).parents[3]


def test_recall_rank_and_whole_answers() -> None:
    rankings = [["a", "x", "b"], ["x", "y", "c", "z", "w", "d"], []]
    gold = [["a", "b"], ["c", "d"], ["e", "f"]]

    assert measured(rankings, gold) == {
        "recall@1": round(0.5 / 3, 4),
        "recall@5": 0.5,
        "recall@10": round(2 / 3, 4),
        "recall@20": round(2 / 3, 4),
        "mrr": round((1 + 1 / 3) / 3, 4),
        "whole@10": round(2 / 3, 4),
    }


def test_the_best_at_ten_stands_first() -> None:
    low = {**{f"recall@{k}": 0.1 for k in AT}, "mrr": 0.25, "whole@10": 0.0}
    high = {**low, "recall@10": 0.5}

    lines = markdown(result_file({"low": low, "high": high}, {}, [])).splitlines()

    assert lines[2] == "| high | 10.0 | 10.0 | 50.0 | 10.0 | 0.250 | 0.0 |"
    assert lines[3].startswith("| low |")


def test_the_page_shows_the_file() -> None:
    results = json.loads((ROOT / "benchmarks/results/retrieval.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs/benchmarks-retrieval.md").read_text(encoding="utf-8")

    shown = page.partition("<!-- results begin -->")[2].partition("<!-- results end -->")[0].strip()
    assert shown == markdown(results)
    assert results["facts"]["questions"] == 60
