"""Programs that run others several times: which answer is taken, what is cancelled, what the model is told."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

import dspex
from dspex.errors import AnswerRejected, MissingInput, TransportFailed
from dspex.evaluation import Score
from dspex.programs._attempts import side_by_side
from dspex.protocols.lm import LMRequest
from dspex.testing import ScriptedLM, ScriptedScope

ONE_TRY = dspex.ClientLimits(retry=dspex.RetryPolicy(max_attempts=1))


class QA(dspex.Signature):
    """Answer."""

    question: str = dspex.InputField()
    answer: str = dspex.OutputField()


class TwoSteps(dspex.Module):
    """A program with two predictors."""

    def __init__(self) -> None:
        self.think = dspex.Predict("question -> thought")
        self.answer = dspex.Predict("thought -> answer")

    async def forward(self, question: str) -> dspex.Prediction:
        thought = await self.think(question=question)
        return await self.answer(thought=thought.thought)


class Slow(dspex.Module):
    """Ends when the test says so, in the order it says."""

    def __init__(self, gates: list[asyncio.Event], ended: list[int]) -> None:
        self.gates = gates
        self.ended = ended

    async def forward(self, number: int) -> int:
        try:
            await self.gates[number].wait()
        except asyncio.CancelledError:
            self.ended.append(-number)
            raise
        self.ended.append(number)
        return number


def seeds(scope: ScriptedScope) -> list[tuple[int | None, float | None]]:
    return [(each.request.params.seed, each.request.params.temperature) for each in scope.asked]


def length(inputs: Mapping[str, Any], answer: Any) -> float:
    return float(len(answer.answer))


# --- side by side -------------------------------------------------------------------------------------------


async def test_results_are_in_the_order_of_the_calls_whoever_is_faster() -> None:
    """And what was raised is a value among them."""
    gates, ended = [asyncio.Event() for _ in range(3)], list[int]()
    slow = Slow(gates, ended)

    async def fails() -> int:
        raise ArithmeticError("no")

    async def open_backwards() -> int:
        for gate in reversed(gates):
            gate.set()
            await asyncio.sleep(0)
        return -1

    calls = [lambda n=n: slow.forward(n) for n in range(3)]
    outcomes = await side_by_side([*calls, fails, open_backwards], max_concurrency=5)

    assert ended == [2, 1, 0]
    assert [each.value if isinstance(each, dspex.Ok) else str(each.reason) for each in outcomes] == [0, 1, 2, "no", -1]


async def test_first_in_order_that_is_enough_ends_the_rest() -> None:
    """A later call that is ready sooner does not win: the outcome must not depend on speed."""
    gates, ended = [asyncio.Event() for _ in range(4)], list[int]()
    slow = Slow(gates, ended)

    async def gatekeeper() -> int:
        await asyncio.sleep(0)
        for _ in range(10):
            await asyncio.sleep(0)  # until all have begun
        gates[2].set()
        await asyncio.sleep(0)
        gates[1].set()
        gates[0].set()
        return -1

    calls = [lambda n=n: slow.forward(n) for n in range(4)]
    outcomes = await side_by_side([gatekeeper, *calls], max_concurrency=5, enough=lambda value: value in (1, 2))

    assert [each.value for each in outcomes if isinstance(each, dspex.Ok)] == [-1, 0, 1]
    assert -3 in ended


async def test_no_more_run_at_once_than_allowed() -> None:
    """Providers and memory are bounded by it."""
    running = most = 0
    three = asyncio.Event()

    async def call() -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 3:
            three.set()
        await three.wait()
        await asyncio.sleep(0)
        running -= 1

    await side_by_side([call] * 20, max_concurrency=3)
    assert most == 3


# --- BestOfN ------------------------------------------------------------------------------------------------


async def test_best_answer_is_returned_and_runs_differ_by_seed() -> None:
    """The first run is the program as it is: deterministic, and cached where the others are not."""
    scope = ScriptedScope([{"answer": "b"}, {"answer": "the longest"}, {"answer": "ccc"}])
    best = dspex.BestOfN(dspex.Predict(QA), 3, length)

    assert (await scope.run(best, question="?")).answer == "the longest"
    assert seeds(scope) == [(None, None), (1, 1.0), (2, 1.0)]


async def test_runs_that_fail_take_no_part_and_all_failing_is_the_first_error() -> None:
    """One bad rollout must not lose the good ones."""
    scope = ScriptedScope([TransportFailed("gone"), {"answer": "good"}])
    assert (await scope.run(dspex.BestOfN(dspex.Predict(QA), 2, length), question="?")).answer == "good"

    scope = ScriptedScope([TransportFailed("first"), TransportFailed("second")])
    with pytest.raises(TransportFailed, match="first"):
        await scope.run(dspex.BestOfN(dspex.Predict(QA), 2, length), question="?")


async def test_equal_rewards_take_the_first_and_scores_and_coroutines_are_rewards() -> None:
    """Ties by order; a metric's Score and an async judge fit as they are."""

    async def judged(inputs: Mapping[str, Any], answer: Any) -> Score:
        assert inputs == {"question": "?"}
        return Score(1.0, "fine")

    scope = ScriptedScope([{"answer": "one"}, {"answer": "two"}])
    assert (await scope.run(dspex.BestOfN(dspex.Predict(QA), 2, judged), question="?")).answer == "one"


@pytest.mark.parametrize("reward", [lambda *_: None, lambda *_: float("nan"), lambda *_: "high"])
async def test_reward_that_is_no_number_is_told(reward: Any) -> None:
    """Never a silent zero."""
    scope = ScriptedScope([{"answer": "one"}])
    with pytest.raises(TypeError, match="not a finite number"):
        await scope.run(dspex.BestOfN(dspex.Predict(QA), 1, reward), question="?")


async def test_inputs_are_those_of_the_program() -> None:
    """Checked before anything is paid."""
    scope = ScriptedScope([])
    with pytest.raises(MissingInput, match="question"):
        await scope.run(dspex.BestOfN(dspex.Predict(QA), 2, length))
    assert scope.asked == []


# --- Retry --------------------------------------------------------------------------------------------------


def must_be_short(inputs: Mapping[str, Any], answer: Any) -> str | None:
    return "it has more than 5 letters" if len(answer.answer) > 5 else None


async def test_refused_answer_is_asked_again_with_what_was_wrong() -> None:
    """The complaint and the refused answer reach the model; the program stays as it was."""
    retry = dspex.Retry(dspex.Predict(QA), must_be_short)
    scope = ScriptedScope([{"answer": "far too long"}, {"answer": "short"}])

    assert (await scope.run(retry, question="?")).answer == "short"
    told = scope.asked[1].request.messages[0].text
    assert "far too long" in told
    assert "it has more than 5 letters" in told
    assert "far too long" not in scope.asked[0].request.messages[0].text
    assert scope.repairs == [("Predict", "", "rejected")]
    assert retry.program.signature is QA  # type: ignore[attr-defined]  # it is the predictor


async def test_answer_that_is_never_accepted_is_an_error_or_the_last_answer() -> None:
    """As the user wants it: an assertion, or a suggestion."""
    answers = [{"answer": "far too long"}, {"answer": "still too long"}]
    with pytest.raises(AnswerRejected) as refused:
        await ScriptedScope(answers).run(dspex.Retry(dspex.Predict(QA), must_be_short, attempts=2), question="?")
    assert refused.value.complaints == ("it has more than 5 letters",)
    assert isinstance(refused.value.answer, QA)

    lenient = dspex.Retry(dspex.Predict(QA), must_be_short, attempts=2, required=False)
    assert (await ScriptedScope(answers).run(lenient, question="?")).answer == "still too long"


async def test_only_the_named_predictors_are_told() -> None:
    """In a program of several, the one to blame may be known."""
    retry = dspex.Retry(TwoSteps(), must_be_short, predictors=["answer"])
    scope = ScriptedScope([{"thought": "a"}, {"answer": "too long"}, {"thought": "b"}, {"answer": "ok"}])

    await scope.run(retry, question="?")

    prompts = [each.request.messages[0].text for each in scope.asked]
    assert ["not accepted" in prompt for prompt in prompts] == [False, False, False, True]
    with pytest.raises(LookupError, match="nothing"):
        dspex.Retry(TwoSteps(), must_be_short, predictors=["nothing"])


# --- Refine -------------------------------------------------------------------------------------------------


async def test_advice_joins_the_instructions_of_the_predictors_it_concerns() -> None:
    """The model reads what each step did, and its advice is for the next attempt only."""
    asked: list[LMRequest] = []

    def answer(request: LMRequest) -> Any:
        asked.append(request)
        prompt = "\n".join(message.text for message in request.messages)
        if "advice" in prompt and "discussion" in prompt:
            return {"discussion": "the answer", "advice": {"answer": "Use longer words.", "nobody": "x"}}
        if prompt.endswith("\n\nthought:"):
            return {"thought": "hm"}
        return {"answer": "magnificent" if "Use longer words." in prompt else "ok"}

    scope = ScriptedScope(answer)
    refined = dspex.Refine(TwoSteps(), 3, length, threshold=10)

    assert (await scope.run(refined, question="?")).answer == "magnificent"
    assert len(asked) == 5
    feedback = asked[2].messages[-1].text
    assert "thought=hm" in feedback
    assert "the target is 10" in feedback
    assert "Use longer words." not in asked[3].messages[0].text
    assert "Use longer words." in asked[4].messages[0].text


async def test_reached_threshold_asks_for_no_advice_and_the_best_of_all_rounds_is_kept() -> None:
    """Refinement never makes the answer worse."""
    scope = ScriptedScope([{"answer": "long enough"}])
    assert (await scope.run(dspex.Refine(dspex.Predict(QA), 3, length, 5), question="?")).answer == "long enough"

    advice = {"discussion": "d", "advice": {}}
    scope = ScriptedScope([{"answer": "best"}, advice, {"answer": "bad"}])
    assert (await scope.run(dspex.Refine(dspex.Predict(QA), 2, length, 99), question="?")).answer == "best"


# --- comparing and voting -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "script",
    [
        {"program": ["good", "bad"], "offer_feedback": [dspex.ServerFailed("busy", status=500)] * 9},
        {"program": ["good", "bad"], "offer_feedback": [dspex.BudgetExceeded("no money")]},
        {"program": ["good", dspex.BudgetExceeded("no money")], "offer_feedback": [{"discussion": "d", "advice": {}}]},
        {"program": ["good", "bad"], "offer_feedback": ["garbage"] * 9},
        {
            "program": ["good", dspex.RequestRejected("no")],
            "offer_feedback": [{"discussion": "d", "advice": {"x": "y"}}],
        },
    ],
)
async def test_the_best_answer_outlives_advice_and_attempts_that_fail(script: dict[str, list[Any]]) -> None:
    """Whatever ends first, advice, attempts or money: there is an answer, and it is returned."""
    program = [{"answer": each} if isinstance(each, str) else each for each in script["program"]]
    lm = ScriptedLM({**script, "program": program})
    async with dspex.App(lm, cache=None, limits=ONE_TRY) as app:
        refine = dspex.Refine(dspex.Predict(QA), 2, lambda inputs, answer: answer.answer == "good", 2.0)
        assert (await app.run(refine, question="?")).answer == "good"


async def test_a_round_without_advice_is_a_round() -> None:
    """The next attempt may be better all the same."""
    lm = ScriptedLM({"program": [{"answer": "a"}, {"answer": "better"}], "offer_feedback": [dspex.AuthFailed("no")]})
    async with dspex.App(lm, cache=None, limits=ONE_TRY) as app:
        refine = dspex.Refine(dspex.Predict(QA), 2, length, 99)
        assert (await app.run(refine, question="?")).answer == "better"


async def test_a_refused_answer_outlives_a_later_attempt_that_fails() -> None:
    """It is the last answer there is; as an error it has the failure as its cause, and attempts go on behind one."""
    busy = dspex.ServerFailed("busy", status=500)
    for required in (False, True):
        lm = ScriptedLM({"program": [{"answer": "far too long"}, busy, {"answer": "long, too"}]})
        retry = dspex.Retry(dspex.Predict(QA), must_be_short, attempts=3, required=required)
        async with dspex.App(lm, cache=None, limits=ONE_TRY) as app:
            if required:
                with pytest.raises(dspex.AnswerRejected) as caught:
                    await app.run(retry, question="?")
                assert getattr(caught.value.answer, "answer", "") == "long, too"
                assert isinstance(caught.value.__cause__, dspex.ServerFailed)
            else:
                assert (await app.run(retry, question="?")).answer == "long, too"


async def test_a_comparison_that_fails_leaves_what_most_attempts_say() -> None:
    """Three attempts were paid for."""
    attempts = [{"reasoning": "r", "answer": each} for each in ("one", "two", "Two.")]
    lm = ScriptedLM({"attempt.predict": attempts, "compare": [dspex.AuthFailed("no")]})
    async with dspex.App(lm, cache=None, limits=ONE_TRY) as app:
        assert (await app.run(dspex.MultiChainComparison(QA), question="?")).answer == "two"


async def test_attempts_are_shown_to_the_comparison() -> None:
    """The reasoning and answer of each, also of those that failed."""
    scope = ScriptedScope(
        [
            {"reasoning": "because a", "answer": "A"},
            TransportFailed("gone"),
            {"reasoning": "because c", "answer": "C"},
            {"rationale": "C is right", "answer": "C"},
        ]
    )
    found = await scope.run(dspex.MultiChainComparison(QA, m=3), question="?")

    assert found.answer == "C"
    assert dspex.details(found).extras["rationale"] == "C is right"
    prompt = scope.asked[-1].request.messages[-1].text
    assert "because a" in prompt
    assert "My answer is answer: C" in prompt
    assert "(no attempt)" in prompt


def test_majority_says_what_most_say() -> None:
    """Case, articles and punctuation make no difference; ties go to the first; empty answers have no vote."""
    assert dspex.majority(["The cat.", "dog", "a CAT"]) == "The cat."
    assert dspex.majority(["x", "y"]) == "x"
    assert dspex.majority(["", "", "b"]) == "b"
    assert dspex.majority(["", ""]) == ""
    assert dspex.majority([1, 2, 2.5], same=round) == 2
    records = [dspex.Prediction(question="?", answer=each) for each in ("x", "y", "Y!")]
    assert dspex.majority(records, "answer").answer == "y"
    assert dspex.majority(records).answer == "y"
    with pytest.raises(ValueError, match="at least one"):
        dspex.majority([])


async def test_majority_of_one_answers_completions() -> None:
    """``n=3`` and one vote."""
    scope = ScriptedScope([["x", "y", "y"]])
    answer = await scope.run(dspex.Predict(QA, n=3), question="?")
    assert dspex.majority(answer).answer == "y"


async def test_ensemble_votes_over_the_programs_that_answered() -> None:
    """Each in its order; a failed one has no say."""
    programs = [dspex.Predict(QA), dspex.Predict(QA), dspex.Predict(QA), dspex.Predict(QA)]
    scope = ScriptedScope([{"answer": "x"}, {"answer": "y"}, TransportFailed("gone"), {"answer": "y"}])
    assert (await scope.run(dspex.Ensemble(programs), question="?")).answer == "y"
    with pytest.raises(ValueError, match="does not fit"):
        dspex.Ensemble(programs, size=5)


async def test_ensemble_chooses_by_its_inputs_and_seed() -> None:
    """The same question always asks the same programs; questions spread over all of them."""

    class Tells(dspex.Module):
        def __init__(self, name: int) -> None:
            self.name = name

        async def forward(self, question: str) -> int:
            return self.name

    ensemble = dspex.Ensemble([Tells(n) for n in range(5)], tuple, size=2)  # type: ignore[arg-type]  # who was asked
    scope = ScriptedScope([])
    chosen = {question: await scope.run(ensemble, question=question) for question in map(str, range(50))}
    assert {question: await scope.run(ensemble, question=question) for question in chosen} == chosen
    assert {name for names in chosen.values() for name in names} == set(range(5))  # type: ignore[attr-defined]  # tuples
    assert all(len(names) == 2 for names in chosen.values())  # type: ignore[arg-type]  # tuples


async def test_parallel_returns_how_each_pair_ended() -> None:
    """In order, failures as values; unknown inputs are told before anything runs."""
    scope = ScriptedScope([{"answer": "x"}, TransportFailed("gone")])
    pairs = [(dspex.Predict(QA), {"question": "1"}), (dspex.Predict(QA), {"question": "2"})]

    first, second = await scope.run(dspex.Parallel(), pairs=pairs)

    assert isinstance(first, dspex.Ok)
    assert first.row == {"question": "1"}
    assert isinstance(second, dspex.Failed)
    with pytest.raises(MissingInput):
        await scope.run(dspex.Parallel(), pairs=[(dspex.Predict(QA), {})])


@pytest.mark.parametrize(
    "make",
    [
        lambda: dspex.BestOfN(dspex.Predict(QA), 0, length),
        lambda: dspex.BestOfN(dspex.Predict(QA), 1, length, max_concurrency=0),
        lambda: dspex.Refine(dspex.Predict(QA), 1, length, 1, width=0),
        lambda: dspex.Retry(dspex.Predict(QA), must_be_short, attempts=0),
        lambda: dspex.MultiChainComparison(QA, m=0),
        lambda: dspex.Parallel(0),
        lambda: dspex.Ensemble([]),
    ],
)
def test_numbers_that_make_no_sense_are_refused(make: Any) -> None:
    """When the program is made."""
    with pytest.raises(ValueError, match=r"at least 1|fit"):
        make()
