"""Metrics that ask a model: their scores, their cost, and how far they agree with people."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dspex
from dspex.evaluation import (
    Agreement,
    CompleteAndGrounded,
    Judge,
    PairJudge,
    Preference,
    SemanticF1,
    agreement,
    agrees,
    preferred,
)
from dspex.protocols.lm import LMRequest
from dspex.testing import ScriptedLM, ScriptedScope

EXAMPLE = dspex.Example(question="Who?", answer="Ada Lovelace, in 1843")
PREDICTION = SimpleNamespace(answer="Ada", context=["Ada wrote it."])
ROWS = [{"question": f"q{n}", "answer": f"a{n}"} for n in range(6)]


class TestSemanticF1:
    @pytest.mark.parametrize("decompositional", [False, True])
    async def test_it_is_the_harmonic_mean_with_the_reasons_as_feedback(self, decompositional: bool) -> None:
        ideas = {"reference_ideas": ["Ada", "1843"], "answer_ideas": ["Ada"]} if decompositional else {}
        scope = ScriptedScope([{"reasoning": "The year is missing.", **ideas, "recall": 0.5, "precision": 1.0}])
        score = await scope.run(SemanticF1(decompositional=decompositional), example=EXAMPLE, prediction=PREDICTION)

        assert score.value == pytest.approx(2 / 3)
        assert score.parts == {"recall": 0.5, "precision": 1.0}
        assert score.feedback.endswith("The year is missing.")
        asked = scope.asked[0].request.messages[-1].text
        assert all(each in asked for each in ("Who?", "Ada Lovelace, in 1843"))

    async def test_nothing_in_common_is_zero(self) -> None:
        scope = ScriptedScope([{"reasoning": "", "recall": 0, "precision": 0}])

        assert (await scope.run(SemanticF1(), example=EXAMPLE, prediction=PREDICTION)).value == 0.0

    async def test_a_share_above_one_is_asked_for_again(self) -> None:
        """A model that means per cent must not pass for perfect."""
        scope = ScriptedScope(
            [{"reasoning": "", "recall": 50, "precision": 90}, {"reasoning": "", "recall": 0.5, "precision": 0.9}]
        )
        score = await scope.run(SemanticF1(), example=EXAMPLE, prediction=PREDICTION)

        assert score.parts == {"recall": 0.5, "precision": 0.9}


class TestCompleteAndGrounded:
    async def test_both_questions_are_asked_of_what_they_are_about(self) -> None:
        script = {
            "completeness.predict": [{"reasoning": "half", "reference_ideas": ["Ada", "1843"], "completeness": 0.5}],
            "grounding.predict": [{"reasoning": "all", "claims": ["Ada"], "groundedness": 1.0}],
        }
        scope = ScriptedScope(script)
        score = await scope.run(CompleteAndGrounded(), example=EXAMPLE, prediction=PREDICTION)

        assert score.value == pytest.approx(2 / 3)
        assert score.parts == {"completeness": 0.5, "groundedness": 1.0}
        prompts = {each.step.partition(".")[0]: each.request.messages[-1].text for each in scope.asked}
        assert "1843" in prompts["completeness"]
        assert "Ada wrote it." not in prompts["completeness"]
        assert "Ada wrote it." in prompts["grounding"]
        assert "1843" not in prompts["grounding"]

    async def test_a_judge_that_fails_is_not_a_score(self) -> None:
        script: Any = {
            "completeness.predict": [{"reasoning": "", "reference_ideas": [], "completeness": 0.5}],
            "grounding.predict": [dspex.RequestRejected("no")],
        }
        with pytest.raises(dspex.RequestRejected):
            await ScriptedScope(script).run(CompleteAndGrounded(), example=EXAMPLE, prediction=PREDICTION)


class TestJudge:
    async def test_marks_become_scores(self) -> None:
        scope = ScriptedScope([{"reasoning": "so so", "mark": 2}, {"reasoning": "", "mark": 5}])
        judge = Judge("Be right.")

        assert await scope.run(judge, example=EXAMPLE, prediction=PREDICTION) == dspex.Score(0.25, "so so")
        assert (await scope.run(judge, example=EXAMPLE, prediction=PREDICTION)).value == 1.0
        assert "Be right." in scope.asked[0].request.messages[-1].text

    def test_a_judge_needs_a_rubric_and_marks_in_order(self) -> None:
        for wrong in (lambda: Judge(" "), lambda: Judge("x", lowest=3, highest=3), lambda: PairJudge("")):
            with pytest.raises(dspex.ConfigError):
                wrong()


class TestPairs:
    async def test_a_better_answer_is_better_in_both_places(self) -> None:
        def prefers_ada(request: LMRequest) -> dict[str, str]:
            text = request.messages[-1].text
            return {"reasoning": "", "reason": "it names her", "better": _place(text, "Ada", "Grace")}

        found = await ScriptedScope(prefers_ada).run(PairJudge("right"), example=EXAMPLE, first="Grace", second="Ada")

        assert found == Preference("second", "it names her")

    async def test_a_judge_that_prefers_a_place_prefers_nobody(self) -> None:
        script = [{"reasoning": "", "reason": "nice", "better": "first"}] * 2
        found = await ScriptedScope(script).run(PairJudge("right"), example=EXAMPLE, first="Grace", second="Ada")

        assert found == Preference("tie", "nice", consistent=False)

    @given(st.sampled_from(["first", "second", "tie", "?"]), st.sampled_from(["first", "second", "tie", "?"]))
    def test_swapping_the_answers_swaps_the_verdict(self, one: str, two: str) -> None:
        there, back = preferred(one, "", two), preferred(two, "", one)

        assert there.consistent == back.consistent
        assert {there.better, back.better} in ({"first", "second"}, {"tie"})


def _place(text: str, better: str, worse: str) -> str:
    return "first" if text.rindex(better) < text.rindex(worse) else "second"


class Echo(dspex.Module):
    async def forward(self, question: str) -> str:
        return question


class TestInAnEvaluation:
    async def test_a_program_is_a_metric_and_its_calls_are_counted(self) -> None:
        lm = ScriptedLM(lambda request: {"reasoning": "fine", "mark": 4}, model="openai/judge")
        async with dspex.App(lm, prices={"openai/*": dspex.Price(input=1, output=1)}) as app:
            report = await app.evaluate(Echo(), ROWS, Judge("Be right."))

        assert report.score == 0.75
        assert report.scored[0].score.feedback == "fine"
        assert [each.totals.calls for each in report.scored if each.totals] == [1] * 6
        assert report.cost is not None
        assert report.cost > 0

    async def test_a_record_with_a_score_and_feedback_is_a_verdict(self) -> None:
        lm = ScriptedLM(lambda request: {"score": 0.5, "feedback": "half"})
        metric = dspex.Predict("example: dict, prediction -> score: float, feedback")
        async with dspex.App(lm) as app:
            report = await app.evaluate(Echo(), ROWS, metric)

        assert [each.score for each in report.scored] == [dspex.Score(0.5, "half")] * 6

    async def test_a_judge_that_fails_fails_its_row(self) -> None:
        lm = ScriptedLM(lambda request: dspex.RequestRejected("no"))
        async with dspex.App(lm) as app:
            with pytest.raises(dspex.EvaluationError) as caught:
                await app.evaluate(Echo(), ROWS, Judge("Be right."))

        failed = [each.reason for each in cast("dspex.Report", caught.value.partial).failed]
        assert {type(each) for each in failed} == {dspex.MetricFailed}
        assert isinstance(failed[0].__cause__, dspex.RequestRejected)

    async def test_an_optimizer_takes_it_and_reads_its_words(self, tmp_path: Any) -> None:
        """A job knows its metric by the program's class and state: the same job again is found, unpaid."""
        lm = ScriptedLM(_works_and_judges)
        rows = [dspex.Example(question=f"q{n}", answer=f"a{n}") for n in range(8)]
        async with dspex.App(lm, home=tmp_path) as app:
            few = dspex.BootstrapFewShot(Judge("Be right."), max_bootstrapped_demos=2, max_labeled_demos=2)
            job = await app.compile(dspex.Predict("question -> answer"), few, trainset=rows, holdset=(), job="judged")
            program = await job.result()
            paid = len(lm.requests)
        async with dspex.App(lm, home=tmp_path) as app:
            few = dspex.BootstrapFewShot(Judge("Be right."), max_bootstrapped_demos=2, max_labeled_demos=2)
            job = await app.compile(dspex.Predict("question -> answer"), few, trainset=rows, holdset=(), job="judged")
            await job.result()
            other = dspex.BootstrapFewShot(Judge("Be kind."), max_bootstrapped_demos=2, max_labeled_demos=2)
            with pytest.raises(dspex.JobMismatch, match="metric"):
                await app.compile(dspex.Predict("question -> answer"), other, trainset=rows, holdset=(), job="judged")

        assert len(program.predictors()["self"].demos) == 2
        assert len(lm.requests) == paid


def _works_and_judges(request: LMRequest) -> dict[str, object]:
    if "rubric" in request.messages[0].text:
        return {"reasoning": "right", "mark": 5}
    return {"answer": "a"}


class TestAgreement:
    async def test_it_is_reported_with_its_certainty(self) -> None:
        marks = iter([5, 5, 5, 1, 1, 5])
        lm = ScriptedLM(lambda request: {"reasoning": "", "mark": next(marks)})
        labels = [True, True, 1, False, 0, False]
        rows = [{"example": {"question": n}, "prediction": "x", "label": label} for n, label in enumerate(labels)]
        async with dspex.App(lm) as app:
            report = await app.evaluate(Judge("Be right."), rows, agrees(), max_concurrency=1)
        found = agreement(report)

        assert found.share == report.score == pytest.approx(5 / 6)
        assert found.kappa == pytest.approx(2 / 3)
        assert found.said == (("good", "good", 3), ("bad", "bad", 2), ("good", "bad", 1))
        assert found.interval.low < 5 / 6 < found.interval.high
        assert str(found).startswith("agrees on 0.833")

    async def test_who_always_says_the_same_has_no_kappa(self) -> None:
        lm = ScriptedLM(lambda request: {"reasoning": "", "mark": 5})
        rows: list[dict[str, Any]] = [{"example": {}, "prediction": "x", "label": n < 3} for n in range(4)]
        async with dspex.App(lm) as app:
            found: Agreement = agreement(await app.evaluate(Judge("Be right."), rows, agrees()))

        assert (found.share, found.kappa) == (0.75, 0.0)

    async def test_preferences_are_compared_with_labels_of_pairs(self) -> None:
        lm = ScriptedLM(lambda request: {"reasoning": "", "reason": "", "better": "tie"})
        rows: list[dict[str, Any]] = [
            {"example": {}, "first": "x", "second": "y", "label": label} for label in ("tie", "first")
        ]
        async with dspex.App(lm) as app:
            report = await app.evaluate(PairJudge("Be right."), rows, agrees())

        assert report.score == 0.5
