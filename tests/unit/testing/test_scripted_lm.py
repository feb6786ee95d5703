"""A scripted model in a real App: retries, cache, streams and tools are the App's own."""

from __future__ import annotations

from typing import Literal

import pytest

import dspex
from dspex.errors import ScriptMisspelt
from dspex.protocols.content import TextPart, ToolCall
from dspex.protocols.lm import Completion, LMRequest, LMResponse, ToolSpec, Usage
from dspex.protocols.scope import Delta
from dspex.testing import BrokenOff, FixedRetriever, ScriptedLM
from tests.support.programs import RAG, Ask


class Judged(dspex.Module):
    """Two predictors, one of them below a module."""

    def __init__(self) -> None:
        self.answer = dspex.ChainOfThought("question -> answer")
        self.judges = [dspex.Predict("answer -> good: bool"), dspex.Predict("answer -> good: bool")]

    async def forward(self, question: str) -> list[object]:
        said = await self.answer(question=question)
        verdicts = [(await judge(answer=said.answer)).good for judge in self.judges]
        return [said.answer, *verdicts]


async def test_answers_are_found_by_the_predictors_path_or_what_it_lies_in() -> None:
    """`answer` stands for `answer.predict`, and the closer name wins."""
    script = ScriptedLM(
        {
            "answer": [{"reasoning": "It is known.", "answer": "Ada"}],
            "judges": [{"good": True}],
            "judges[1]": [{"good": False}],
        }
    )
    async with dspex.App(script, cache=None) as app:  # two judges are asked the same
        assert await app.run(Judged(), question="Who?") == ["Ada", True, False]
    assert [each.path for each in script.requests] == ["answer.predict", "judges[0]", "judges[1]"]
    assert "Who?" in script.requests[0].prompt
    assert script.unused == {}


async def test_script_that_has_ended_names_the_predictor_and_the_call() -> None:
    """Nobody has to guess which of twenty calls was one too many."""
    script = ScriptedLM({"answer": [{"answer": "Ada"}]})
    async with dspex.App(script, cache=None) as app:
        await app.run(Ask(), question="Who?")
        with pytest.raises(dspex.ScriptExhausted, match=r"no answer left for 'answer', call 2;") as caught:
            await app.run(Ask(), question="Who?")
    assert (caught.value.path, caught.value.call, caught.value.known) == ("answer", 2, ("answer",))


async def test_path_without_a_script_is_told_which_paths_have_one() -> None:
    """A misspelt path is seen at once."""
    async with dspex.App(ScriptedLM({"anwser": [{"answer": "Ada"}]})) as app:
        with pytest.raises(LookupError, match=r"'answer', call 1 .it has answers for 'anwser'"):
            await app.run(Ask(), question="Who?")


async def test_errors_go_through_the_retry_policy_without_its_waits() -> None:
    """A rate limit with a minute's patience costs the test nothing, and is in the details."""
    script = ScriptedLM(
        [dspex.RateLimited("slow down", retry_after=30.0), dspex.ServerFailed("oh", status=503), {"answer": "Ada"}]
    )
    async with dspex.App(script) as app:
        prediction = await app.run(Ask(), question="Who?")
    attempts = dspex.details(prediction).attempts
    assert [(each.outcome, each.status) for each in attempts] == [
        ("RateLimited", None),
        ("ServerFailed", 503),
        ("ok", None),
    ]
    assert [each.attempt for each in script.requests] == [1, 2, 3]


async def test_policy_ends_retries_as_in_production() -> None:
    """The App's limits hold for scripts too, and what is final stays final."""
    once = dspex.ClientLimits(retry=dspex.RetryPolicy(max_attempts=2))
    script = ScriptedLM([dspex.RateLimited("slow down")] * 2)
    async with dspex.App(script, limits=once) as app:
        with pytest.raises(dspex.RateLimited) as caught:
            await app.run(Ask(), question="Who?")
        with pytest.raises(dspex.ContentRefused):
            await app.options(lm=ScriptedLM([dspex.ContentRefused("no")])).run(Ask(), question="Who?")
    assert len(caught.value.attempts) == 2
    assert script.unused == {}


async def test_any_other_error_is_raised_as_it_is() -> None:
    """A bug in a function of the request is the test's to see."""

    def broken(request: LMRequest) -> str:
        raise ZeroDivisionError("in the script")

    async with dspex.App(ScriptedLM(broken)) as app:
        with pytest.raises(ZeroDivisionError, match="in the script"):
            await app.run(Ask(), question="Who?")


async def test_function_of_the_request_answers_and_may_be_async() -> None:
    """It sees the prompt and the parameters."""

    async def shout(request: LMRequest) -> dict[str, object]:
        return {"answer": f"{request.messages[-1].text.count('Who')} at {request.params.temperature}"}

    async with dspex.App(ScriptedLM({"": shout}, temperature=0.5)) as app:
        assert (await app.run(Ask(), question="Who?")).answer == "1 at 0.5"


async def test_cache_is_the_apps_and_two_scripts_do_not_share_it() -> None:
    """The same question again is not asked; another script is another model."""
    first, second = ScriptedLM([{"answer": "Ada"}]), ScriptedLM([{"answer": "Bob"}])
    async with dspex.App(lms={"default": first, "other": second}) as app:
        for _ in range(2):
            assert (await app.run(Ask(), question="Who?")).answer == "Ada"
        assert (await app.options(lm="other").run(Ask(), question="Who?")).answer == "Bob"
    assert len(first.requests) == len(second.requests) == 1


async def test_name_gives_a_script_its_price() -> None:
    """Budgets and costs can be tested to the cent."""
    script = ScriptedLM([LMResponse((Completion("Ada"),), Usage(1_000, 500), "x")], model="openai/gpt-x")
    prices = {"openai/gpt-x": dspex.Price(input=1, output=2)}
    async with dspex.App(script, prices=prices) as app:
        prediction = await app.run(Ask(), question="Who?")
    assert str(dspex.details(prediction).cost) == "0.002"


@pytest.mark.parametrize("adapter", ["chat", "json", "xml", "tool"])
async def test_fields_are_written_as_the_adapter_asks_for_them(adapter: Literal["chat", "json", "xml", "tool"]) -> None:
    """One script serves every adapter, whole and streamed."""
    fields = {"names": ["Ada", "Grace"], "text": "A <b> of\nlines", "count": 2}
    ask = dspex.Predict("question -> names: list[str], text, count: int", adapter=adapter)
    script = ScriptedLM([fields] * 2)
    async with dspex.App(script, cache=None) as app:
        whole = await app.run(ask, question="Who?")
        async with app.stream(ask, question="Who?") as stream:
            pieces = [each async for each in stream if isinstance(each, Delta)]
            streamed = await stream.result()
    assert whole.to_dict() == streamed.to_dict()
    assert [whole.names, whole.text, whole.count] == list(fields.values())
    assert "".join(each.text for each in pieces if each.field == "text").strip() == fields["text"]
    assert len([each for each in pieces if each.field == "text"]) > 1


async def test_stream_that_breaks_off_is_an_error_or_a_reset() -> None:
    """The pieces that a reader has seen are void, and the next answer of the script follows."""
    script = [BrokenOff({"answer": "Ada Love"}), {"answer": "Ada Lovelace"}] * 2
    async with dspex.App(ScriptedLM(script), cache=None) as app:
        with pytest.raises(dspex.StreamInterrupted) as caught:
            async with app.stream(Ask(), question="Who?") as stream:
                async for _ in stream:
                    pass
        assert str(caught.value.partial["answer"]).startswith("Ada")
        await app.run(Ask(), question="Who?")  # takes the second answer
        async with app.options(on_interrupt="reset").stream(Ask(), question="Who?") as stream:
            kinds = [type(each).__name__ async for each in stream]
            assert (await stream.result()).answer == "Ada Lovelace"
    assert "Reset" in kinds


async def test_answer_that_breaks_off_unwatched_is_tried_again() -> None:
    """Nobody saw a piece of it, so it is a failed attempt like any other."""
    async with dspex.App(ScriptedLM([BrokenOff("half"), {"answer": "Ada"}])) as app:
        prediction = await app.run(Ask(), question="Who?")
    assert [each.outcome for each in dspex.details(prediction).attempts] == ["StreamTruncated", "ok"]


class Tooled(dspex.Signature):
    """Find it out."""

    question: str = dspex.InputField()
    tools: list[ToolSpec] = dspex.InputField()
    calls: dspex.ToolCalls = dspex.OutputField()


async def test_tool_calls_one_or_several_in_an_answer() -> None:
    """They arrive as native calls do."""
    one = {"tool": "search", "arguments": {"query": "Ada"}}
    script = ScriptedLM([one, [one, ToolCall("x", "stop", {})], Completion("", "tool_calls", ())])
    ask = dspex.Predict(Tooled)
    async with dspex.App(script, cache=None) as app:
        answers = [await app.run(ask, question="Who?", tools=[ToolSpec("search")]) for _ in range(2)]
    assert [[call.name for call in each.calls] for each in answers] == [["search"], ["search", "stop"]]
    assert next(iter(answers[0].calls)).arguments == {"query": "Ada"}
    assert script.requests[0].request.tools == (ToolSpec("search"),)
    assert script.unused == {"": 1}


async def test_n_answers_are_n_answers_of_the_script() -> None:
    """Or several completions of one answer, for a model that gives many."""
    ask = dspex.Predict("question -> answer", n=2)
    async with dspex.App(ScriptedLM([{"answer": "Ada"}, {"answer": "Bob"}])) as app:
        prediction = await app.run(ask, question="Who?")
        many = ScriptedLM([[{"answer": "Cy"}, {"answer": "Di"}]], capabilities={"many": True})
        other = await app.options(lm=many).run(ask, question="Who?")
    assert [each.answer for each in dspex.details(prediction).completions] == ["Ada", "Bob"]
    assert [each.answer for each in dspex.details(other).completions] == ["Cy", "Di"]


async def test_unreadable_answer_is_asked_for_again() -> None:
    """Repair turns take answers of the script."""
    script = ScriptedLM(["what?", {"good": True}])
    async with dspex.App(script) as app:
        assert (await app.run(dspex.Predict("answer -> good: bool"), answer="Ada")).good is True
    assert len(script.requests) == 2


async def test_retriever_finds_the_same_and_notes_the_query() -> None:
    """The whole program runs offline."""
    retriever = FixedRetriever(["Ada wrote it.", dspex.Passage("No.", title="Bob")])
    script = ScriptedLM([{"answer": "Ada"}])
    async with dspex.App(script, retriever=retriever) as app:
        assert (await app.run(RAG(k=1), question="Who?")).answer == "Ada"
    assert retriever.queries == [("Who?", 1)]
    assert "Ada wrote it." in script.requests[0].prompt
    assert FixedRetriever(lambda query: [query]).search("x", 3) == [dspex.Passage("x")]


async def test_pool_of_scripts_is_refused_in_words() -> None:
    """A pool is about endpoints."""
    pool = dspex.LMPool((ScriptedLM([]), dspex.LM("openai/x")))
    with pytest.raises(dspex.ConfigError, match="cannot be a pool's member"):
        dspex.App(pool)
    named = dspex.App(dspex.LMPool(("first", "openai/x")), lms={"first": ScriptedLM([])})
    with pytest.raises(dspex.ConfigError, match="cannot be a pool's member"):
        await named.start()


@pytest.mark.parametrize("script", [{"answer": "Ada"}, {"answer": 3}, "Ada"])
def test_script_that_is_none_is_refused(script: object) -> None:
    """Fields where a path was meant are seen when the script is written."""
    with pytest.raises(TypeError, match="must be a list of answers or a function"):
        ScriptedLM(script)  # type: ignore[arg-type]  # on purpose


@pytest.mark.parametrize("answer", [3, [], [3], TextPart("x")])
async def test_answer_that_is_none_is_refused(answer: object) -> None:
    """The message says what an answer can be."""
    async with dspex.App(ScriptedLM(lambda request: answer)) as app:
        with pytest.raises(TypeError, match="is not an answer: give fields"):
            await app.run(Ask(), question="Who?")


FORMS = ("chat", "json", "xml", "tool", "auto")
SHAPES: dict[str, dict[str, object]] = {
    "answer": {"answer": "Ada"},
    "ok: bool": {"ok": True},
    "first_name: str, count: int, tags: list[str]": {"first_name": "Ada", "count": 3, "tags": ["a", "b"]},
    "data: dict[str, list[int]]": {"data": {"k": [1, 2]}},
}


@pytest.mark.parametrize("adapter", FORMS)
@pytest.mark.parametrize("plain", [True, False])
async def test_fields_of_every_kind_are_written_in_every_form(adapter: str, plain: bool) -> None:
    """Asked for by a schema or in words, with reasoning and without: one answer each time."""
    able = {"json_schema": False, "json_object": False, "tools": adapter == "tool"} if plain else {}
    for outputs, fields in SHAPES.items():
        for kind in (dspex.Predict, dspex.ChainOfThought):
            answer = fields if kind is dspex.Predict else {"reasoning": "Think.\nThen write.", **fields}
            lm = ScriptedLM([answer], capabilities=able)
            async with dspex.App(lm, cache=None, adapter=adapter) as app:  # type: ignore[arg-type]  # one of the names
                found = await app.run(kind(f"question -> {outputs}"), question="q")
            assert {name: getattr(found, name) for name in fields} == fields
            assert len(lm.requests) == 1


@pytest.mark.parametrize("adapter", FORMS)
async def test_a_misspelt_field_is_named(adapter: str) -> None:
    lm = ScriptedLM({"answer": [{"first_nmae": "Ada", "count": 3}]})

    class Program(dspex.Module):
        def __init__(self) -> None:
            self.answer = dspex.Predict("question -> first_name, count: int")

        async def forward(self, question: str) -> object:
            return await self.answer(question=question)

    async with dspex.App(lm, cache=None, adapter=adapter) as app:  # type: ignore[arg-type]  # one of the names
        with pytest.raises(ScriptMisspelt, match="'answer' with 'first_nmae', but 'first_name' is asked for") as caught:
            await app.run(Program(), question="q")
    assert (caught.value.path, caught.value.field, caught.value.meant) == ("answer", "first_nmae", "first_name")
    assert len(lm.requests) == 1


async def test_an_answer_that_is_wrong_on_purpose_is_left_alone() -> None:
    """A field like none that is asked for, or beside the one that it is like, is what a model wrote."""
    lm = ScriptedLM([{"something": "else"}, {"answer": "Ada", "answers": "more", "sure": True}])
    async with dspex.App(lm, cache=None) as app:
        assert (await app.run(dspex.Predict("question -> answer, sure: bool"), question="q")).answer == "Ada"


async def test_a_value_that_is_asked_for_alone_is_not_another_fields() -> None:
    """It stands in the answer without a name, so that nobody could tell."""
    lm = ScriptedLM([{"something": "else"}, {"something": "else", "full_name": "Ada"}])
    async with dspex.App(lm, cache=None) as app:
        with pytest.raises(ScriptMisspelt, match="with 'something', but 'full_name' is asked for"):
            await app.run(dspex.Predict("question -> full_name"), question="q")
        assert (await app.run(dspex.Predict("question -> full_name"), question="q")).full_name == "Ada"
