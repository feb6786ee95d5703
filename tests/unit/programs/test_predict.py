"""Predictors: what they ask, how they read, repair and record it, and what they refuse to pay for."""

from __future__ import annotations

import gc
import weakref
from typing import Any, Literal, cast

import pytest

from dspex.errors import MissingInput, NotInRequest, RateLimited, ResponseUnparsable, SignatureError
from dspex.programs import (
    ChainOfThought,
    ChatAdapter,
    InputField,
    Module,
    OutputField,
    Predict,
    Prediction,
    PredictorPaths,
    Retrieve,
    Signature,
    details,
)
from dspex.protocols.lm import LMRequest
from dspex.protocols.model import LM
from dspex.protocols.retrieval import Passage
from dspex.protocols.scope import Scope
from dspex.testing.scripted import ScriptedScope


class QA(Signature):
    """Answer the question."""

    question: str = InputField()
    k: int = InputField(default=3, ge=1)
    answer: str = OutputField()


class Rated(Signature):
    text: str = InputField()
    verdict: Literal["good", "bad"] = OutputField()
    score: float = OutputField(ge=0, le=1)
    tags: list[str] = OutputField(default_factory=list)
    note: str | None = OutputField()


GOOD = {"verdict": "good", "score": 0.5}


def test_the_scripted_scope_is_a_scope() -> None:
    assert isinstance(ScriptedScope(), Scope)


class TestAnswers:
    async def test_the_answer_is_a_record_of_the_signature(self) -> None:
        prediction = await ScriptedScope([{"answer": "Ada"}]).run(Predict(QA), question="Who?")

        assert type(prediction) is QA
        assert prediction.to_dict() == {"question": "Who?", "k": 3, "answer": "Ada"}

    async def test_values_have_their_declared_types(self) -> None:
        prediction = await ScriptedScope([{**GOOD, "tags": ["a"], "note": "n"}]).run(Predict(Rated), text="t")

        assert (prediction.verdict, prediction.score, prediction.tags, prediction.note) == ("good", 0.5, ["a"], "n")

    async def test_missing_outputs_with_a_default_are_filled(self) -> None:
        prediction = await ScriptedScope([GOOD]).run(Predict(Rated), text="t")

        assert (prediction.tags, prediction.note) == ([], None)

    async def test_string_signatures_answer_with_predictions(self) -> None:
        predict = Predict("question -> answer: bool")

        prediction = await ScriptedScope([{"answer": True}]).run(predict, question="q")

        assert isinstance(prediction, Prediction)
        assert prediction.answer is True

    async def test_an_error_of_the_model_is_raised_as_it_is(self) -> None:
        with pytest.raises(RateLimited):
            await ScriptedScope([RateLimited("slow down")]).run(Predict(QA), question="q")

    async def test_the_model_and_the_parameters_travel_with_the_call(self) -> None:
        scope = ScriptedScope([{"answer": "a"}])

        await scope.run(Predict(QA, lm="judge", temperature=0.5).with_config(seed=1), question="q")

        asked = scope.asked[0]
        assert (asked.lm, asked.request.params.temperature, asked.request.params.seed) == ("judge", 0.5, 1)


async def test_what_is_kept_elsewhere_is_told() -> None:
    """Names that people who come from DSPy look for on a prediction."""
    prediction = await ScriptedScope([{"answer": "Ada"}]).run(Predict("question -> answer"), question="Who?")

    for name, place in (("toDict", r"prediction\.to_dict\(\)"), ("get_lm_usage", r"details\(prediction\)\.usage")):
        with pytest.raises(AttributeError, match=f"has no field '{name}': write .*{place}"):
            getattr(prediction, name)
    with pytest.raises(AttributeError, match=r"has no field 'anwser'$"):
        _ = prediction.anwser


def test_a_model_is_a_name_or_a_record() -> None:
    """A value of another kind is seen where it is given."""
    predict = Predict("question -> answer")
    with pytest.raises(TypeError, match="lm=3: expected a name, an LM or an LMPool"):
        predict.with_lm(3)  # type: ignore[arg-type]  # on purpose
    with pytest.raises(TypeError, match="lm=3"):
        Predict("question -> answer", lm=3)  # type: ignore[call-overload]  # on purpose


def test_demonstrations_are_mappings() -> None:
    """A value of another kind is seen where it is given."""
    predict = Predict("question -> answer")
    for wrong in ("abc", [["question", "answer"]]):
        with pytest.raises(TypeError, match=r"demos\[0\] is .*: a demonstration is field values by name"):
            predict.with_demos(wrong)  # type: ignore[arg-type]  # on purpose
        with pytest.raises(TypeError, match="a demonstration is field values by name"):
            Predict("question -> answer", demos=wrong)  # type: ignore[arg-type]  # on purpose


class TestInputs:
    @pytest.mark.parametrize(
        ("inputs", "message"),
        [
            ({}, "QA: missing question"),
            ({"question": "q", "more": 1}, "QA: unexpected more; it takes question"),
            ({"question": "q", "answer": "a"}, "QA: unexpected answer; it takes question"),
            ({"question": 3}, "question is an int, expected str"),
            ({"question": "q", "k": "many"}, "k is a str, expected int"),
            ({"question": "q", "k": 0}, "k is an int, expected int .*greater than or equal to 1"),
            ({"k": None, "x": 1}, "missing question; unexpected x; k is a NoneType"),
        ],
    )
    async def test_wrong_inputs_are_named_and_nothing_is_sent(self, inputs: dict[str, Any], message: str) -> None:
        scope = ScriptedScope([])

        with pytest.raises(MissingInput, match=message):
            await scope.run(Predict(QA), **inputs)

        assert scope.asked == []

    async def test_positions_are_refused(self) -> None:
        predict: Any = Predict(QA)

        with ScriptedScope().entered(), pytest.raises(MissingInput, match="give inputs by name"):
            await predict("q")

    async def test_inputs_are_converted_where_pydantic_converts(self) -> None:
        scope = ScriptedScope([{"out": "x"}])
        signature = Signature.from_string("n: int, at: tuple[float, ...], p: list[Passage] -> out")

        prediction = await scope.run(Predict(signature), n="3", at=[1, 2], p=({"text": "t"},))

        assert (prediction.n, prediction.at, prediction.p) == (3, (1.0, 2.0), [Passage("t")])

    async def test_a_list_given_to_a_text_becomes_numbered_lines(self) -> None:
        scope = ScriptedScope([{"b": "x"}])

        prediction = await scope.run(Predict("a -> b"), a=[Passage("text", "title"), "plain\ntwo"])

        assert prediction.a == '[1] title | text\n[2] "plain\n    two"'

    async def test_an_input_without_a_text_form_is_refused_before_anything_is_sent(self) -> None:
        class Blob(Signature):
            blob: Any = InputField()
            out: str = OutputField()

        scope = ScriptedScope([])

        with pytest.raises(MissingInput, match="blob: it has no JSON form"):
            await scope.run(Predict(Blob), blob=object())

        assert scope.asked == []

    async def test_outside_a_request_nothing_runs(self) -> None:
        with pytest.raises(NotInRequest, match=r"use `await app.run\(program"):
            await Predict(QA)(question="q")
        with pytest.raises(NotInRequest):
            await Predict(QA).forward(question="q")
        with pytest.raises(NotInRequest):
            await Retrieve().forward("q")


class TestRepair:
    async def test_the_model_sees_its_answer_and_what_was_wrong(self) -> None:
        scope = ScriptedScope(["no sections", GOOD])

        prediction = await scope.run(Predict(Rated), text="t")

        first, second = (each.request.messages for each in scope.asked)
        assert second[: len(first)] == first
        assert [each.role for each in second[len(first) :]] == ["assistant", "user"]
        assert second[-2].content == "no sections"
        assert "there was no value for `verdict`" in second[-1].content
        assert scope.repairs == [("Rated", "", "turn")]
        assert len(details(prediction).results) == 2
        assert details(prediction).repairs == (("", "turn"),)

    async def test_a_wrong_value_is_named_with_what_was_expected(self) -> None:
        scope = ScriptedScope([{"verdict": "so so", "score": 7}, GOOD])

        await scope.run(Predict(Rated), text="t")

        shown = scope.asked[1].request.messages[-1].content
        assert "- `verdict`: 'so so' is not exactly one of: good, bad" in shown
        assert "- `score`: Input should be less than or equal to 1" in shown

    async def test_an_empty_answer_is_shown_as_such(self) -> None:
        scope = ScriptedScope(["", GOOD])

        await scope.run(Predict(Rated), text="t")

        assert scope.asked[1].request.messages[-2].content == "(nothing)"

    @pytest.mark.parametrize("turns", [0, 1, 3])
    async def test_the_last_unreadable_answer_is_raised(self, turns: int) -> None:
        scope = ScriptedScope([f"junk {number}" for number in range(9)])

        with pytest.raises(ResponseUnparsable) as caught:
            await scope.run(Predict(Rated).with_config(repair_turns=turns), text="t")

        asked_in_json = turns > 0
        assert len(scope.asked) == turns + 1 + asked_in_json
        assert caught.value.raw == f"junk {turns + asked_in_json}"
        assert caught.value.missing_fields == ("verdict", "score")

    async def test_the_last_attempt_is_a_fresh_one_in_json(self) -> None:
        """After the repair turns the signature is put in the other format, without the failed conversation."""
        scope = ScriptedScope(["", "", '{"answer": "Ada"}'])

        prediction = await scope.run(Predict(QA), question="q")

        last = scope.asked[-1].request.messages
        assert prediction.answer == "Ada"
        assert [each.role for each in last] == ["system", "user"]
        assert "Answer with one JSON object" in last[-1].text
        assert details(prediction).repairs == (("", "turn"), ("", "fallback"))
        assert details(prediction).messages == last

    async def test_the_attempt_in_json_can_be_switched_off(self) -> None:
        scope = ScriptedScope(["junk", "junk"])

        with pytest.raises(ResponseUnparsable):
            await scope.run(Predict(QA, adapter=ChatAdapter(json_fallback=False)), question="q")

    async def test_an_answer_without_completions_is_unreadable(self) -> None:
        with pytest.raises(ResponseUnparsable):
            await ScriptedScope([[], [], []]).run(Predict(QA), question="q")

    async def test_each_repair_of_a_value_is_told(self) -> None:
        scope = ScriptedScope([{"verdict": '"good"', "score": "0.5", "tags": "['a', 'b']"}])

        prediction = await scope.run(Predict(Rated), text="t")

        assert prediction.tags == ["a", "b"]
        assert scope.repairs == [("Rated", "verdict", "literal"), ("Rated", "tags", "json")]

    @pytest.mark.parametrize("turns", [-1, "two", None])
    def test_repair_turns_are_a_number(self, turns: Any) -> None:
        with pytest.raises(ValueError, match="repair_turns"):
            Predict(QA, repair_turns=turns)


class TestCompletions:
    async def test_several_answers_are_kept_and_the_first_is_the_prediction(self) -> None:
        scope = ScriptedScope([["one", "two"]])

        prediction = await scope.run(Predict(QA, n=2), question="q")

        assert prediction.answer == "one"
        assert [each.answer for each in details(prediction).completions] == ["one", "two"]
        assert scope.asked[0].request.params.n == 2

    async def test_unreadable_ones_are_dropped_and_counted(self) -> None:
        scope = ScriptedScope([["", "two"]])

        prediction = await scope.run(Predict(QA, n=2), question="q")

        assert prediction.answer == "two"
        assert scope.repairs == [("QA", "", "dropped")]

    async def test_a_correction_asks_for_one(self) -> None:
        scope = ScriptedScope([["", ""], {"answer": "a"}])

        await scope.run(Predict(QA, n=2), question="q")

        assert [each.request.params.n for each in scope.asked] == [2, 1]


class TestChainOfThought:
    async def test_reasoning_is_asked_for_first_and_kept_beside_the_record(self) -> None:
        scope = ScriptedScope([{"reasoning": "because", "answer": "a"}])

        prediction = await scope.run(ChainOfThought(QA), question="q")

        assert type(prediction) is QA
        assert prediction.to_dict() == {"question": "q", "k": 3, "answer": "a"}
        assert details(prediction).reasoning == "because"
        assert cast("Any", prediction).reasoning == "because"
        assert scope.trace[0].outputs == {"reasoning": "because", "answer": "a"}
        tail = scope.asked[0].request.messages[-1].text
        assert tail.endswith("Think step by step. Then end with this line:\nanswer: ...")

    async def test_a_declared_reasoning_is_a_field(self) -> None:
        chain = ChainOfThought("question -> reasoning: list[str], answer")

        prediction = await ScriptedScope([{"reasoning": ["a", "b"], "answer": "x"}]).run(chain, question="q")

        assert prediction.reasoning == ["a", "b"]
        with pytest.raises(AttributeError, match="was not asked for reasoning"):
            _ = details(prediction).reasoning

    def test_its_predictor_sits_at_predict(self) -> None:
        assert list(ChainOfThought(QA).predictors()) == ["predict"]


class TestCopies:
    def test_changes_give_new_values(self) -> None:
        predict = Predict(QA)

        changed = predict.with_lm("judge").with_demos([{"question": "q", "answer": "a"}]).with_config(temperature=1)

        assert (changed.lm, len(changed.demos), changed.params.temperature) == ("judge", 1, 1)
        assert (predict.lm, predict.demos, predict.params.temperature) == (None, (), None)

    async def test_demonstrations_are_shown(self) -> None:
        scope = ScriptedScope([{"answer": "a"}])

        await scope.run(Predict(QA).with_demos([{"question": "q0", "k": 1, "answer": "a0"}]), question="q")

        roles = [each.role for each in scope.asked[0].request.messages]
        assert roles == ["system", "user", "assistant", "user"]

    async def test_other_words_keep_the_class_of_the_record(self) -> None:
        scope = ScriptedScope([{"answer": "a"}])

        prediction = await scope.run(Predict(QA).with_instructions("Shout."), question="q")

        assert type(prediction) is QA
        assert scope.asked[0].request.messages[0].text.startswith("Shout.")

    async def test_a_wider_signature_puts_the_rest_into_extras(self) -> None:
        scope = ScriptedScope([{"answer": "a", "why": "w"}])
        wider = Predict(QA).with_signature(QA.append("why", OutputField()))

        prediction = await scope.run(wider, question="q")

        assert details(prediction).extras == {"why": "w"}

    def test_a_narrower_signature_is_refused(self) -> None:
        with pytest.raises(SignatureError, match="lacks the output 'answer'"):
            Predict(QA).with_signature(QA.delete("answer").append("x", OutputField()))

    @pytest.mark.parametrize("wrong", [3, None, int, "a, b"])
    def test_what_is_no_signature_is_refused(self, wrong: Any) -> None:
        with pytest.raises(SignatureError):
            Predict(wrong)

    def test_a_signature_without_outputs_is_refused(self) -> None:
        class Silent(Signature):
            text: str = InputField()

        with pytest.raises(SignatureError, match="nothing to ask for"):
            Predict(Silent)


class TestOrigins:
    async def test_a_predictor_made_in_forward_keeps_its_path(self) -> None:
        class Two(Module):
            def __init__(self) -> None:
                self.first = Predict(QA)
                self.second = self.first.with_lm("other")

            async def forward(self, question: str) -> list[QA]:
                one = await self.first.with_lm("judge").with_config(temperature=1)(question=question)
                return [one, await self.second.with_config(temperature=1)(question=question)]

        scope = ScriptedScope([{"answer": "a"}, {"answer": "b"}])

        predictions = await scope.run(Two(), question="q")

        assert [step.path for step in scope.trace] == ["first", "second"]
        assert [each.step for each in scope.asked] == ["first", "second"]
        assert [details(each).predictor for each in predictions] == ["first", "second"]

    async def test_a_predictor_of_nobody_has_no_path(self) -> None:
        class Lone(Module):
            async def forward(self, question: str) -> QA:
                return await Predict(QA)(question=question)

        scope = ScriptedScope([{"answer": "a"}])
        await scope.run(Lone(), question="q")

        assert scope.trace[0].path == ""
        assert scope.asked[0].step == "QA"

    def test_ancestors_are_not_kept_alive(self) -> None:
        predict = Predict(QA)
        gone = weakref.ref(predict)
        for _ in range(50):
            predict = predict.with_config(temperature=1)
        gc.collect()

        assert gone() is None
        assert len(predict._lineage) <= 2

    def test_the_nearest_living_ancestor_is_the_origin(self) -> None:
        predict = Predict(QA)

        assert predict._origin is None
        changed = predict.with_lm("a").with_lm("b")
        assert changed._origin is predict

    def test_paths_of_something_without_predictors(self) -> None:
        assert PredictorPaths(object()).path_of(Predict(QA)) == ""


class TestDetails:
    async def test_they_tell_the_story_of_the_call(self) -> None:
        scope = ScriptedScope(["", {"answer": "Ada"}])
        model = LM("openai/gpt-5-mini")

        prediction = await scope.run(Predict(QA, lm=model), question="Who?")

        found = details(prediction)
        assert found.lm == model
        assert [each.outcome for each in found.attempts] == ["ok", "ok"]
        assert found.usage.output_tokens == sum(each.response.usage.output_tokens for each in found.results) > 0
        assert (found.cached, found.duration) == (None, 0.0)
        assert found.messages == scope.asked[0].request.messages
        assert found.request.calls == 2
        story = found.explain()
        assert story.startswith("self asked openai/gpt-5-mini: 2 turns, ")
        assert "asked again, for the answer could not be read (turn)" in story
        first, rest = story.split("  answer of turn 1, not taken (stop):\n")
        assert "could not be read:" not in first
        assert "Your answer could not be read:" in rest
        assert rest.count("  answer (stop):\n") == 1
        assert "    question: Who?" in story
        assert "    Ada" in story

    async def test_totals_are_live(self) -> None:
        scope = ScriptedScope([{"answer": "a"}, {"answer": "b"}])
        predict = Predict(QA)
        first = await scope.run(predict, question="q")
        assert details(first).request.calls == 1

        await scope.run(predict, question="q")

        assert details(first).request.calls == 2

    @pytest.mark.parametrize("made", [QA(question="q"), Prediction(a=1)])
    def test_a_record_made_by_hand_has_none(self, made: Signature) -> None:
        with pytest.raises(TypeError, match="was not made by a predictor"):
            details(made)

    def test_what_is_no_prediction_is_named(self) -> None:
        with pytest.raises(TypeError, match="not a str"):
            details("x")


class TestRetrieve:
    async def test_it_asks_the_named_retriever(self) -> None:
        scope = ScriptedScope(passages=[Passage(str(number)) for number in range(5)])

        found = await scope.run(Retrieve("tickets", k=2), query="q")

        assert found == [Passage("0"), Passage("1")]
        assert scope.queries == [("tickets", "q", 2)]

    async def test_a_query_is_a_text(self) -> None:
        wrong: Any = 3
        with pytest.raises(MissingInput, match="query is of type int, expected str"):
            await ScriptedScope().run(Retrieve(), query=wrong)

    def test_k_is_positive(self) -> None:
        with pytest.raises(ValueError, match="k=0"):
            Retrieve(k=0)

    def test_repr(self) -> None:
        assert repr(Retrieve("tickets", k=2)) == "Retrieve('tickets', k=2)"
        assert repr(Retrieve()) == "Retrieve(k=3)"


class TestScriptedScope:
    async def test_answers_by_path(self) -> None:
        class Pair(Module):
            def __init__(self) -> None:
                self.a = Predict("q -> x")
                self.b = Predict("q -> x")

            async def forward(self, q: str) -> list[str]:
                second = await self.b(q=q)
                return [(await self.a(q=q)).x, second.x]

        assert await ScriptedScope({"a": [{"x": "A"}], "b": [{"x": "B"}]}).run(Pair(), q="q") == ["A", "B"]

    async def test_answers_by_function(self) -> None:
        def answer(request: LMRequest) -> dict[str, str]:
            return {"x": str(len(request.messages))}

        assert (await ScriptedScope(answer).run(Predict("q -> x"), q="q")).x == "2"

    async def test_an_exhausted_script_names_the_step(self) -> None:
        with pytest.raises(LookupError, match="no answer left for self"):
            await ScriptedScope().run(Predict(QA), question="q")

    async def test_calls_are_awaited(self) -> None:
        async def work() -> int:
            return 3

        assert await ScriptedScope().call("tool", work, idempotent=True, timeout=None) == 3


class TestPaths:
    class Pair(Module):
        def __init__(self) -> None:
            self.one = Predict(QA)
            self.two = Predict(QA)
            self.more: list[Predict[QA, ...]] = []

        async def forward(self) -> None:
            """Nothing."""

    def test_a_program_is_looked_through_once(self) -> None:
        program = self.Pair()
        calls: list[str] = []

        def counted() -> dict[str, Predict[Any, ...]]:
            calls.append("looked")
            return Module.predictors(program)

        vars(program)["predictors"] = counted

        found = [PredictorPaths(program).path_of(each) for each in (program.one, program.two, program.one)]

        assert (found, len(calls)) == (["one", "two", "one"], 1)

    def test_a_changed_copy_has_paths_of_its_own(self) -> None:
        program = self.Pair()
        assert PredictorPaths(program).path_of(program.two) == "two"

        swapped = program.replace({"one": program.two, "two": Predict(QA)})

        assert PredictorPaths(swapped).path_of(program.two) == "one"
        assert PredictorPaths(swapped).path_of(program.one) == ""
        assert PredictorPaths(program).path_of(program.two) == "two"

    def test_a_predictor_that_came_later_is_found(self) -> None:
        program = self.Pair()
        assert PredictorPaths(program).path_of(program.one) == "one"

        program.more.append(Predict(QA))

        assert PredictorPaths(program).path_of(program.more[0]) == "more[0]"
