"""Two programs on the same rows, and one program several times."""

from __future__ import annotations

import csv
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import cast

import pytest

import dspex
from dspex.evaluation import Compared, Repeats
from dspex.protocols.lm import LMRequest
from dspex.testing import ScriptedLM

ROWS = [dspex.Example(question=f"<{n}>", answer="right") for n in range(10)]
ASK = dspex.Predict("question -> answer")
RIGHT = dspex.exact_match()


def weak(request: LMRequest) -> dict[str, str] | Exception:
    """Wrong on the even rows; refuses the first."""
    number = asked(request)
    return dspex.RequestRejected("no") if number == 0 else {"answer": "right" if number % 2 else "wrong"}


def asked(request: LMRequest) -> int:
    return int(request.messages[-1].text.partition("<")[2].partition(">")[0])


@pytest.fixture
async def app() -> AsyncIterator[dspex.App]:
    prices = {"openai/*": dspex.Price(input=1, output=1)}
    lms = {"weak": ScriptedLM(weak, model="openai/weak"), "moody": ScriptedLM(moody, model="openai/moody")}
    strong = ScriptedLM(lambda request: {"answer": "right"}, model="openai/strong")
    async with dspex.App(strong, lms=lms, prices=prices) as running:
        yield running


def moody(request: LMRequest) -> dict[str, str]:
    """Right on every row the first time; afterwards on the odd ones alone."""
    return {"answer": "right" if request.params.seed is None or asked(request) % 2 else "wrong"}


class TestCompare:
    async def test_the_second_is_compared_with_the_first(self, app: dspex.App) -> None:
        """A row that one of them fails on is excluded, and counted."""
        found = await app.compare(ASK.with_lm("weak"), ASK, ROWS, RIGHT, max_failed=0.2)

        assert found.difference == pytest.approx(4 / 9)
        assert (found.comparison.pairs, found.comparison.excluded) == (9, 1)
        assert found.interval.low < 4 / 9 < found.interval.high
        assert found.p_value == pytest.approx(0.125)
        assert "9 pairs, 1 excluded): 5 rows better, 0 worse" in str(found)

    async def test_the_other_way_round_is_the_same_with_another_sign(self, app: dspex.App) -> None:
        there = await app.compare(ASK.with_lm("weak"), ASK, ROWS, RIGHT, max_failed=0.2)
        back = await app.compare(ASK, ASK.with_lm("weak"), ROWS, RIGHT, max_failed=0.2)

        assert back.difference == -there.difference
        assert back.p_value == there.p_value

    async def test_with_too_many_failures_there_is_nothing_to_compare(self, app: dspex.App) -> None:
        with pytest.raises(dspex.EvaluationError, match="1 of 10 rows failed"):
            await app.compare(ASK.with_lm("weak"), ASK, ROWS, RIGHT)


class TestRepeat:
    async def test_a_row_counts_with_the_mean_of_its_runs(self, app: dspex.App) -> None:
        found = await app.repeat(ASK.with_lm("moody"), ROWS, RIGHT, times=3)

        assert [report.score for report in found.reports] == [1.0, 0.5, 0.5]
        assert found.values == tuple(1.0 if n % 2 else 1 / 3 for n in range(10))
        assert found.score == pytest.approx(2 / 3)
        assert found.unstable == (0, 2, 4, 6, 8)
        assert found.spread == pytest.approx(0.2887, abs=1e-4)
        assert found.cost == sum(report.cost or 0 for report in found.reports) > 0

    async def test_each_time_is_asked_afresh(self, app: dspex.App) -> None:
        """A cache would answer the second time, and all times would be the same."""
        first = await app.repeat(ASK, ROWS, RIGHT, times=2)

        assert all(report.usage.output_tokens for report in first.reports)

    async def test_what_cannot_be_sampled_afresh_is_refused(self, app: dspex.App) -> None:
        class Plain:
            async def forward(self, question: str) -> str:
                return question

        with pytest.raises(dspex.ConfigError, match="Module alone"):
            await app.repeat(Plain(), ROWS, RIGHT, times=2)
        with pytest.raises(dspex.ConfigError, match="times=0"):
            await app.repeat(ASK, ROWS, RIGHT, times=0)

    def test_code_that_is_not_async_has_both(self) -> None:
        with dspex.App(ScriptedLM(lambda request: {"answer": "right"})).sync() as app:
            repeats: Repeats = app.repeat(ASK, ROWS, RIGHT, times=2)
            compared: Compared = app.compare(ASK, ASK, ROWS, RIGHT)

        assert (repeats.score, compared.difference) == (1.0, 0.0)


class TestTables:
    async def test_rows_have_their_price_and_their_time(self, app: dspex.App, tmp_path: Path) -> None:
        report = await app.evaluate(ASK.with_lm("weak"), ROWS, RIGHT, max_failed=0.2)
        rows = report.rows()

        assert [row["score"] for row in rows] == [None, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 1.0]
        assert str(rows[0]["error"]).startswith("RequestRejected: no")
        assert rows[1]["example"] == {"question": "<1>", "answer": "right"}
        assert all(cast("float", row["seconds"]) >= 0 for row in rows)
        assert sum(cast("float", row["usd"]) for row in rows[1:]) == pytest.approx(float(report.cost or 0))

    async def test_they_are_saved_whole(self, app: dspex.App, tmp_path: Path) -> None:
        report = await app.evaluate(ASK, ROWS[:3], RIGHT)
        report.save(tmp_path / "rows.csv")
        report.save(tmp_path / "rows.jsonl")
        with (tmp_path / "rows.csv").open(newline="", encoding="utf-8") as file:
            read = list(csv.DictReader(file))
        lines = [json.loads(line) for line in (tmp_path / "rows.jsonl").read_text("utf-8").splitlines()]

        assert lines == report.rows()
        assert [row["row"] for row in read] == ["0", "1", "2"]
        assert json.loads(read[2]["example"]) == {"question": "<2>", "answer": "right"}
        with pytest.raises(dspex.ConfigError, match=r"\.csv or \.jsonl"):
            report.save(tmp_path / "rows.xlsx")
