"""Predictors that are watched: what comes while the answer comes, and what follows when it breaks off."""

from __future__ import annotations

import pytest

from dspex.errors import ContentRefused, ResponseUnparsable, StreamInterrupted, TransportFailed
from dspex.programs import ChainOfThought, InputField, OutputField, Predict, Reasoning, Signature, details
from dspex.protocols.content import ReasoningPart, ToolCall
from dspex.protocols.lm import Capabilities, Completion
from dspex.protocols.scope import Delta, Reset
from tests.support.streams import Broken, Sink, WatchedScope

GOOD = '{"answer": "Ada Lovelace", "tags": [1, 2]}'


class Tagged(Signature):
    question: str = InputField()
    answer: str = OutputField()
    tags: list[int] = OutputField(default_factory=list)


async def test_pieces_come_with_their_path_field_and_value() -> None:
    sink = Sink()

    prediction = await WatchedScope([GOOD], sink=sink, cut=lambda text: text.splitlines(keepends=True)).run(
        Predict(Tagged), question="q"
    )

    assert prediction.answer == "Ada Lovelace"
    assert sink.text("answer") == "Ada Lovelace"
    last = [each for each in sink.seen if isinstance(each, Delta) and each.field == "tags"][-1]
    assert (last.predictor, last.text, last.value_so_far) == ("self", "", [1, 2])


async def test_nobody_watching_costs_no_stream() -> None:
    scope = WatchedScope([GOOD])

    assert (await scope.run(Predict(Tagged), question="q")).tags == [1, 2]


async def test_an_answer_from_a_cache_comes_in_one_piece() -> None:
    sink = Sink()

    await WatchedScope([GOOD], sink=sink, cut=None).run(Predict(Tagged), question="q")

    assert sink.text("answer") == "Ada Lovelace"


@pytest.mark.parametrize(
    ("adapter", "answer"),
    [
        ("json", '{"answer": "A\\u00e9\\n", "tags": [1]}'),
        ("xml", "<answer>Aé</answer><tags>[1]</tags>"),
        ("chat", "[[ ## answer ## ]]\nAé\n[[ ## tags ## ]]\n[1]"),
    ],
)
async def test_every_format_streams(adapter: str, answer: str) -> None:
    sink = Sink()
    predict = Predict(Tagged).with_adapter(adapter)  # type: ignore[arg-type]  # a name, from the table above

    prediction = await WatchedScope([answer], sink=sink).run(predict, question="q")

    assert sink.text("answer") == prediction.answer
    assert sink.seen[-1] == Delta("self", "tags", "", [1])


async def test_the_arguments_of_a_tool_call_stream() -> None:
    sink = Sink()
    call = ToolCall("1", "give_outputs", {"answer": "Ada", "tags": []}, '{"answer": "Ada", "tags": []}')
    scope = WatchedScope([Completion("", tool_calls=(call,))], sink=sink, able=Capabilities(tools=True))

    prediction = await scope.run(Predict(Tagged, adapter="tool"), question="q")

    assert prediction.answer == sink.text("answer") == "Ada"
    assert scope.requests[0].tool_choice == "give_outputs"


async def test_native_reasoning_streams_into_its_field() -> None:
    class Thinking(Signature):
        question: str = InputField()
        thoughts: Reasoning = OutputField()
        answer: str = OutputField()

    sink = Sink()
    completion = Completion("Ada", reasoning=(ReasoningPart("because"),))
    scope = WatchedScope([completion], sink=sink, able=Capabilities(reasoning=True))

    prediction = await scope.run(Predict(Thinking), question="q")

    assert (prediction.thoughts, prediction.answer) == ("because", "Ada")
    assert sink.text("thoughts") == "because"
    assert "thoughts" not in scope.requests[0].messages[-1].text


class TestBreakingOff:
    async def test_before_the_first_piece_the_error_is_the_providers(self) -> None:
        with pytest.raises(TransportFailed):
            await WatchedScope([Broken(TransportFailed("gone"))], sink=Sink()).run(Predict(Tagged), question="q")

    async def test_after_a_piece_it_is_an_interrupted_stream(self) -> None:
        broken = Broken(TransportFailed("gone"), '{"answer": "Ada', " Love")

        with pytest.raises(StreamInterrupted) as caught:
            await WatchedScope([broken], sink=Sink()).run(Predict(Tagged), question="q")

        assert caught.value.partial == {"answer": "Ada Love"}
        assert caught.value.predictor == "self"
        assert isinstance(caught.value.reason, TransportFailed)

    async def test_the_scopes_own_interruption_gets_the_partial_answer(self) -> None:
        error = StreamInterrupted("lm self", {}, "killed")

        with pytest.raises(StreamInterrupted) as caught:
            await WatchedScope([Broken(error, '{"answer": "Ada')], sink=Sink()).run(Predict(Tagged), question="q")

        assert (caught.value.predictor, caught.value.partial, caught.value.reason) == (
            "self",
            {"answer": "Ada"},
            "killed",
        )

    async def test_with_reset_the_call_starts_again(self) -> None:
        sink = Sink("reset")
        broken = Broken(TransportFailed("gone"), '{"answer": "Babbage')
        scope = WatchedScope([broken, GOOD], sink=sink)

        prediction = await scope.run(Predict(Tagged), question="q")

        assert prediction.answer == sink.text("answer") == "Ada Lovelace"
        assert Reset("self") in sink.seen
        assert scope.repairs == [("Tagged", "", "reset")]

    async def test_resets_are_bounded(self) -> None:
        broken = [Broken(TransportFailed("gone"), '{"answer": "Ada') for _ in range(9)]
        scope = WatchedScope(broken, sink=Sink("reset"))

        with pytest.raises(StreamInterrupted):
            await scope.run(Predict(Tagged), question="q")

        assert len(scope.requests) == 4

    async def test_what_cannot_be_helped_is_not_tried_again(self) -> None:
        broken = Broken(ContentRefused("no"), '{"answer": "Ada')

        with pytest.raises(StreamInterrupted):
            await WatchedScope([broken, GOOD], sink=Sink("reset")).run(Predict(Tagged), question="q")


class TestUnreadable:
    async def test_what_was_told_is_not_repaired_behind_the_watchers_back(self) -> None:
        answer = '{"answer": "Ada", "tags": "many"}'
        scope = WatchedScope([answer, GOOD], sink=Sink())

        with pytest.raises(StreamInterrupted) as caught:
            await scope.run(Predict(Tagged), question="q")

        assert isinstance(caught.value.reason, ResponseUnparsable)
        assert len(scope.requests) == 1

    async def test_another_answer_does_not_take_the_place_of_the_one_that_was_told(self) -> None:
        scope = WatchedScope(['{"answer": "Ada", "tags": "many"}'], sink=Sink(), more=[GOOD])

        with pytest.raises(StreamInterrupted):
            await scope.run(Predict(Tagged, n=2), question="q")

    async def test_with_reset_it_is_repaired(self) -> None:
        sink = Sink("reset")
        answer = '{"answer": "Ada", "tags": "many"}'

        prediction = await WatchedScope([answer, GOOD], sink=sink).run(Predict(Tagged), question="q")

        assert prediction.tags == [1, 2]
        assert sink.text("answer") == "Ada Lovelace"
        assert details(prediction).repairs == (("", "turn"),)

    async def test_without_a_piece_it_is_repaired_as_ever(self) -> None:
        sink = Sink()

        prediction = await WatchedScope(["I do not know", GOOD], sink=sink).run(Predict(Tagged), question="q")

        assert prediction.answer == sink.text("answer") == "Ada Lovelace"


async def test_reasoning_streams_before_the_answer() -> None:
    sink = Sink()
    answer = "[[ ## reasoning ## ]]\nI know\n[[ ## answer ## ]]\nAda\n[[ ## tags ## ]]\n[1]"

    await WatchedScope([answer], sink=sink).run(ChainOfThought(Tagged, adapter="chat"), question="q")

    fields = list(dict.fromkeys(each.field for each in sink.seen if isinstance(each, Delta)))
    assert fields == ["reasoning", "answer", "tags"]
    assert {each.predictor for each in sink.seen} == {"predict"}
