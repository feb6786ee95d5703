"""The evaluator: outcomes in order, failures beside the score, nothing started that cannot succeed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

import dspex
from dspex.evaluation import Score, Scored
from dspex.protocols.executor import Failed
from tests.support.programs import until


class Echo(dspex.Module):
    """Answers with its input, or fails as told."""

    async def forward(self, text: str) -> str:
        if text.startswith("!"):
            raise LookupError(text)
        return text


class InTurns(dspex.Module):
    """Ends its rows in an order of the test's choosing."""

    def __init__(self, gates: list[asyncio.Event], seen: list[int]) -> None:
        self.shared = SimpleNamespace(gates=gates, seen=seen)

    async def forward(self, number: int) -> int:
        self.shared.seen.append(number)
        await self.shared.gates[number].wait()
        return number


@dataclass
class Line:
    text: str
    answer: str


def same(example: dspex.Example, prediction: str) -> bool:
    return bool(example.answer == prediction)


@pytest.fixture
async def app() -> AsyncIterator[dspex.App]:
    async with dspex.App() as running:
        yield running


def _holds(seen: list[int], number: int) -> bool:
    return len(seen) == number


def rows(*texts: str) -> list[dspex.Example]:
    return [dspex.Example(text=text, answer="yes") for text in texts]


class TestScores:
    async def test_the_score_is_the_mean(self, app: dspex.App) -> None:
        report = await app.evaluate(Echo(), rows("yes", "no", "yes", "yes"), same)

        assert report.score == 0.75
        assert report.failed == ()
        assert [outcome.score.value for outcome in report.scored] == [1.0, 0.0, 1.0, 1.0]
        assert 0 < report.interval.low < 0.75 < report.interval.high < 1

    async def test_rows_may_be_mappings_and_dataclasses(self, app: dspex.App) -> None:
        report = await app.evaluate(Echo(), [{"text": "yes", "answer": "yes"}, Line("no", "yes")], same)

        assert report.score == 0.5

    async def test_a_metric_may_be_async_and_give_feedback(self, app: dspex.App) -> None:
        async def metric(example: dspex.Example, prediction: str) -> Score:
            await asyncio.sleep(0)
            return Score(0.5, f"not {prediction}", {"style": 1})

        report = await app.evaluate(Echo(), rows("no"), metric)

        assert report.scored[0].score == Score(0.5, "not no", {"style": 1})

    async def test_outcomes_keep_the_order_of_the_examples(self, app: dspex.App) -> None:
        gates, seen = [asyncio.Event() for _ in range(6)], list[int]()
        running = asyncio.ensure_future(
            app.evaluate(InTurns(gates, seen), [{"number": n} for n in range(6)], lambda _, found: found)
        )
        await until(lambda: len(seen) == 6)
        for gate in reversed(gates):
            gate.set()
            await asyncio.sleep(0)
        report = await running

        assert [outcome.value for outcome in report.scored] == list(range(6))

    async def test_no_more_rows_run_at_once_than_allowed(self, app: dspex.App) -> None:
        gates, seen = [asyncio.Event() for _ in range(9)], list[int]()
        running = asyncio.ensure_future(
            app.evaluate(
                InTurns(gates, seen), [{"number": n} for n in range(9)], lambda _, found: found, max_concurrency=2
            )
        )
        for number, gate in enumerate(gates):
            expected = min(number + 2, 9)
            await until(partial(_holds, seen, expected))
            for _ in range(20):
                await asyncio.sleep(0)
            assert len(seen) == expected
            gate.set()
        report = await running

        assert len(report.outcomes) == 9


class TestFailures:
    async def test_failed_rows_stay_out_of_the_mean(self, app: dspex.App) -> None:
        report = await app.evaluate(Echo(), rows("yes", "!broken", "no"), same, max_failed=0.5)

        assert report.score == 0.5
        assert isinstance(report.outcomes[1], Failed)
        assert isinstance(report.outcomes[1].reason, LookupError)
        assert report.outcomes[1].row == dspex.Example(text="!broken", answer="yes")
        assert "1 LookupError" in str(report)

    async def test_too_many_failures_leave_no_score(self, app: dspex.App) -> None:
        with pytest.raises(dspex.EvaluationError, match=r"2 of 3 rows failed.*LookupError \(2\)") as caught:
            await app.evaluate(Echo(), rows("yes", "!a", "!b"), same)

        partial: Any = caught.value.partial
        assert isinstance(partial.outcomes[0], Scored)
        assert "no score" in str(partial)
        with pytest.raises(dspex.EvaluationError):
            _ = partial.score

    @pytest.mark.parametrize(
        "result", [None, "1", float("nan"), float("inf"), Score(float("nan")), Score(1.0, parts={"a": float("nan")})]
    )
    async def test_what_is_no_number_fails_its_row(self, app: dspex.App, result: Any) -> None:
        report = await app.evaluate(
            Echo(), rows("yes", "no"), lambda example, text: result if text == "no" else 1.0, max_failed=0.5
        )

        assert report.score == 1.0
        assert isinstance(report.failed[0].reason, dspex.MetricFailed)
        assert report.failed[0].reason.example_id == "row 1"

    async def test_a_metric_that_raises_fails_its_row(self, app: dspex.App) -> None:
        def metric(example: dspex.Example, prediction: str) -> float:
            return 1 / (prediction != "no")

        report = await app.evaluate(Echo(), rows("yes", "no"), metric, max_failed=0.5)

        assert report.score == 1.0
        assert isinstance(report.failed[0].reason.__cause__, ZeroDivisionError)

    async def test_a_missing_input_is_told_before_anything_runs(self, app: dspex.App) -> None:
        gates, seen = [asyncio.Event()], list[int]()

        with pytest.raises(dspex.MissingInput, match=r"row 1: InTurns: missing number"):
            await app.evaluate(InTurns(gates, seen), [{"number": 0}, {"text": "no number"}], lambda _, found: found)

        assert seen == []

    async def test_what_is_no_row_is_refused(self, app: dspex.App) -> None:
        with pytest.raises(TypeError, match="row 0: expected an Example"):
            await app.evaluate(Echo(), ["text"], same)

    async def test_without_examples_there_is_nothing_to_say(self, app: dspex.App) -> None:
        with pytest.raises(dspex.ConfigError, match="no examples"):
            await app.evaluate(Echo(), [], same)

    @pytest.mark.parametrize(
        ("metric", "words"),
        [("exact", "metric='exact' is not a function"), (dspex.exact_match, r"give metric=exact_match\(\)")],
    )
    async def test_what_gives_no_verdict_is_told_before_anything_is_paid(
        self, app: dspex.App, metric: Any, words: str
    ) -> None:
        with pytest.raises(dspex.ConfigError, match=words):
            await app.evaluate(Echo(), [{"text": "a"}], metric)
        with pytest.raises(dspex.ConfigError, match=words):
            dspex.BootstrapFewShot(metric)

    async def test_cancelling_stops_every_row(self, app: dspex.App) -> None:
        gates, seen = [asyncio.Event() for _ in range(3)], list[int]()
        running = asyncio.ensure_future(
            app.evaluate(InTurns(gates, seen), [{"number": n} for n in range(3)], lambda _, found: found)
        )
        await until(lambda: len(seen) == 3)
        running.cancel()

        with pytest.raises(asyncio.CancelledError):
            await running
        assert app.health()["running"] == 0

    async def test_closing_the_app_ends_an_evaluation(self) -> None:
        gates, seen = [asyncio.Event()], list[int]()
        async with dspex.App(drain=0.0) as app:
            running = asyncio.ensure_future(app.evaluate(InTurns(gates, seen), [{"number": 0}], lambda _, found: found))
            await until(lambda: seen)

        with pytest.raises(dspex.AppClosed):
            await running


class TestStopping:
    async def test_no_more_rows_start_once_too_many_have_failed(self, app: dspex.App) -> None:
        asked: list[int] = []

        class Third(dspex.Module):
            async def forward(self, number: int) -> int:
                asked.append(number)
                if number % 3 == 0:
                    raise LookupError("every third")
                return number

        numbers = [dspex.Example(number=number) for number in range(1000)]
        with pytest.raises(dspex.EvaluationError, match="more rows were not run") as caught:
            await app.evaluate(Third(), numbers, lambda example, value: True, max_concurrency=4)

        partial = caught.value.partial
        assert isinstance(partial, dspex.Report)
        assert len(partial.failed) in range(51, 55)  # 5 % of 1,000, and those under way
        assert len(partial.outcomes) == len(asked) == 1000 - partial.not_run < 170
        assert not partial.has_score

    @pytest.mark.parametrize("in_flight", [2, 64, 100])
    async def test_a_metric_that_always_fails_stops_after_a_few_rows(self, app: dspex.App, in_flight: int) -> None:
        """However many may be in flight: most wait until the first few have told that the metric works."""
        asked: list[str] = []

        class Heard(Echo):
            async def forward(self, text: str) -> str:
                asked.append(text)
                return text

        def broken(example: dspex.Example, prediction: str) -> bool:
            raise ZeroDivisionError

        with pytest.raises(dspex.EvaluationError, match="ZeroDivisionError"):
            await app.evaluate(Heard(), rows(*map(str, range(1000))), broken, max_concurrency=in_flight)

        assert len(asked) <= 8 + min(in_flight, 2)

    @pytest.mark.parametrize("failing", [0, 3, 8])
    async def test_the_rest_is_begun_when_the_first_rows_have_ended(self, app: dspex.App, failing: int) -> None:
        """Failures of the program do not hold it back for good, and all of it is in flight at once."""
        gate = asyncio.Event()
        here: list[str] = []

        class Meets(Echo):
            async def forward(self, text: str) -> str:
                if int(text) < failing:
                    raise dspex.RequestRejected("no")
                if int(text) >= 8:
                    here.append(text)
                    if len(here) == 20:
                        gate.set()
                    await gate.wait()
                return text

        report = await app.evaluate(
            Meets(), rows(*map(str, range(200))), dspex.exact_match("text"), max_concurrency=20, max_failed=0.5
        )
        assert (len(report.outcomes), len(report.failed)) == (200, failing)

    async def test_who_allows_every_row_to_fail_has_every_row_run(self, app: dspex.App) -> None:
        def broken(example: dspex.Example, prediction: str) -> bool:
            raise ZeroDivisionError

        with pytest.raises(dspex.EvaluationError) as caught:
            await app.evaluate(Echo(), rows(*map(str, range(40))), broken, max_concurrency=2, max_failed=1.0)

        assert isinstance(caught.value.partial, dspex.Report)
        assert len(caught.value.partial.outcomes) == 40

    async def test_a_configuration_error_is_not_the_outcome_of_a_row(self, app: dspex.App) -> None:
        class Unset(dspex.Module):
            async def forward(self, text: str) -> str:
                raise dspex.ConfigError("there is no such model")

        with pytest.raises(dspex.ConfigError, match="no such model"):
            await app.evaluate(Unset(), rows("a", "b"), same, max_failed=1.0)
