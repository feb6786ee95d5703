"""Reports as the data of a page: what stands first, what is left out, and two of them compared."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from dspex.errors import EvaluationError, RateLimited
from dspex.evaluation import Report, Score, Scored
from dspex.evaluation.pages import BINS, page_of
from dspex.programs import Example
from dspex.protocols.executor import Failed
from dspex.protocols.lm import Usage
from dspex.protocols.scope import RequestTotals

TOTALS = RequestTotals("r1", Usage(10, 2), 1, 0, (), 0, 0, 0.5, Decimal("0.01"))


def report(scores: Sequence[float | None], answer: str = "six", question: str = "Who is it?") -> Report:
    examples = tuple(Example(question=f"{question} {number}") for number in range(len(scores)))
    outcomes = tuple(
        Failed(RateLimited("slow down"), example, TOTALS)
        if score is None
        else Scored(example, {"answer": answer}, Score(score, "because"), totals=TOTALS)
        for example, score in zip(examples, scores, strict=True)
    )
    return Report("Program", examples, outcomes, 0.5)


def page(found: Report, before: Report | None = None) -> dict[str, Any]:
    told = page_of(found, before, 0.0)
    return dict(json.loads(json.dumps(told)))


def test_failures_stand_first_then_the_lowest_scores() -> None:
    told = page(report([1.0, 0.25, None, 0.0, 1.0]))

    assert [row["row"] for row in told["table"]] == [2, 3, 1, 0, 4]
    assert (told["rows"], told["scored"], told["failed"], told["left_out"]) == (5, 4, 1, 0)
    assert told["reasons"] == [["RateLimited", 1]]
    assert told["table"][0]["error"] == "RateLimited: slow down"
    assert told["table"][1] | {"seconds": 0} == {
        "row": 3, "score": 0.0, "seconds": 0, "usd": 0.01, "calls": 1, "feedback": "because", "error": "",
        "example": "question: Who is it? 3", "prediction": "answer: six", "tokens": 12,
    }  # fmt: skip
    assert told["cost"] == "0.05"
    assert told["verdict"].startswith("Program: 0.562 (95 % ")


def test_scores_are_counted_once_each() -> None:
    told = page(report([1.0, 0.99, 0.1, 0.0, -1.0, None, 2.0]))

    bins = {each["name"]: each["count"] for each in told["bins"] if each["count"]}
    assert bins == {"0": 2, "0.1 to 0.2": 1, "0.9 to 1.0": 1, "1": 2, "failed": 1}
    assert [each["name"] for each in told["bins"]] == list(BINS)


def test_a_report_without_a_score_says_why() -> None:
    told = page(report([None, None, 1.0]))

    assert (told["score"], told["low"]) == (None, None)
    assert told["verdict"].startswith("2 of 3 rows failed, more than max_failed=0.5 allows")


def test_what_became_worse_stands_first_of_two() -> None:
    told = page(report([1.0, 0.0, None, 1.0]), report([1.0, 1.0, 1.0, 0.5]))

    assert [row["row"] for row in told["table"]] == [2, 1, 3, 0]
    assert [row.get("before") for row in told["table"]] == [1.0, 1.0, 0.5, None]
    assert told["table"][0]["before_prediction"] == "answer: six"
    found = told["comparison"]
    assert (found["better"], found["worse"], found["pairs"], found["excluded"]) == (1, 2, 3, 1)
    assert found["verdict"].startswith("These rows do not show a difference.")


def test_reports_of_other_examples_are_not_compared(tmp_path: Path) -> None:
    path = tmp_path / "report.html"
    with pytest.raises(EvaluationError, match="different examples"):
        report([1.0]).save_html(path, before=report([1.0], question="Another?"))
    assert not path.exists()


def test_ten_thousand_long_rows_stay_small_and_say_what_is_left_out(tmp_path: Path) -> None:
    found = report([None if number % 100 == 0 else (number % 7) / 6 for number in range(10_000)], "x" * 3_000)
    path = tmp_path / "report.html"
    found.save_html(path)
    told = page(found)

    assert path.stat().st_size < 8_000_000
    assert told["left_out"] == 10_000 - len(told["table"]) > 0
    assert f"{told['left_out']:,} of the rows are left out" in told["left_why"]
    assert sum(row["score"] is None for row in told["table"]) == 100  # every failure is there
    assert sum(each["count"] for each in told["bins"]) == 10_000


def test_one_long_text_is_cut_and_says_so() -> None:
    told = page(report([0.0], "y" * 100_000))
    assert told["table"][0]["prediction"].endswith("more characters)")
    assert len(told["table"][0]["prediction"]) < 5_000
