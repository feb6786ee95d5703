"""A dry run: everything but the asking."""

from __future__ import annotations

from decimal import Decimal

import pytest

import dspex
from dspex.protocols.lm import LMRequest, Message, ToolSpec
from dspex.protocols.scope import current_scope
from dspex.testing import FixedRetriever, ScriptedLM
from tests.support.programs import RAG, Ask

PRICES = {"scripted/*": dspex.Price(input=1_000_000, output=2_000_000)}  # a dollar a token, two for an answer's


def never(request: LMRequest) -> str:
    raise AssertionError("a dry run asked a model")


def app_of(**options: object) -> dspex.App:
    lm = ScriptedLM(never, model="scripted/lm", max_tokens=100)
    return dspex.App(lm, prices=PRICES, **options)  # type: ignore[arg-type]  # the App's own


class Twice(dspex.Module):
    """The second question holds the first answer."""

    def __init__(self) -> None:
        self.first = dspex.ChainOfThought("question -> draft")
        self.second = dspex.Predict("draft -> good: bool, score: float", n=2)

    async def forward(self, question: str) -> object:
        return await self.second(draft=(await self.first(question=question)).draft)


async def test_calls_tokens_and_dollars_are_added_up() -> None:
    """With `n`, `max_tokens` and the price; the second prompt holds what was made up for the first answer."""
    async with app_of() as app:
        estimate = await app.estimate(Twice(), question="Who wrote it?")
        assert [path for path, _ in estimate.steps] == ["first.predict", "second"]
        assert (estimate.calls, estimate.output_tokens) == (2, 300)
        assert estimate.input_tokens > 50 + 50
        assert estimate.usd == estimate.input_tokens + 2 * estimate.output_tokens
        longer = await app.estimate(Twice(), question="Who wrote it?" * 100)
        assert longer.input_tokens > estimate.input_tokens + 200


async def test_price_that_nobody_knows_makes_the_sum_unknown() -> None:
    """No number is better than a wrong one."""
    async with dspex.App(ScriptedLM(never)) as app:
        estimate = await app.estimate(Ask(), question="Who?")
    assert (estimate.usd, estimate.output_tokens) == (None, 4_096)


async def test_retrieval_runs_and_its_passages_count() -> None:
    """They are most of the prompt."""
    retriever = FixedRetriever([dspex.Passage("word " * 4_000)])
    async with app_of(retriever=retriever) as app:
        estimate = await app.estimate(RAG(), question="Who?")
    assert estimate.input_tokens > 4_000
    assert retriever.queries == [("Who?", 3)]


@pytest.mark.parametrize("native", [True, False])
async def test_agent_uses_up_its_steps_and_no_tool_is_called(native: bool) -> None:
    """Its answers have no meaning; what the tools would have said is in the next prompt."""
    called: list[str] = []

    async def search(query: str, pages: int = 1) -> str:
        """Search the web."""
        called.append(query)
        return "found"

    def read(page: int) -> str:
        """Read a page."""
        called.append(str(page))
        return "text"

    agent = dspex.ReAct("question -> answer", tools=[search, read], max_steps=3)
    lm = ScriptedLM(never, capabilities={"tools": native})
    async with dspex.App(lm) as app:
        estimate = await app.estimate(agent, question="Who?")
    assert [path for path, _ in estimate.steps] == ["react"] * 3 + ["extract.predict"]
    first, second, third, _ = [call.input_tokens for _, call in estimate.steps]
    assert first < second < third
    assert called == []


async def test_loop_that_waits_for_an_answer_without_tools_ends() -> None:
    """A program may go on as long as tools are asked for; a dry run must not go on for ever."""

    class Loop(dspex.Module):
        def __init__(self) -> None:
            self.ask = dspex.Predict(Tooled)

        async def forward(self, question: str) -> int:
            turns = 0
            while True:
                turns += 1
                answer = await self.ask(question=question, tools=[ToolSpec("stop")])
                if not list(answer.calls):
                    return turns

    async with dspex.App(ScriptedLM(never)) as app:
        assert (await app.estimate(Loop(), question="Who?")).calls == 100


class Tooled(dspex.Signature):
    """Find it out."""

    question: str = dspex.InputField()
    tools: list[ToolSpec] = dspex.InputField()
    calls: dspex.ToolCalls = dspex.OutputField()
    answer: str = dspex.OutputField(default="")


async def test_vectors_are_counted_and_not_bought() -> None:
    """Of their texts, with the price of what is read."""

    class Similar(dspex.Module):
        def __init__(self) -> None:
            self.embed = dspex.Embed("local/vectors")

        async def forward(self, texts: list[str]) -> int:
            return len(await self.embed(texts))

    lms = {"local/vectors": ScriptedLM(never, model="scripted/vectors")}
    async with dspex.App(lms=lms, prices=PRICES) as app:
        estimate = await app.estimate(Similar(), texts=["word " * 40, "word " * 40])
    assert (estimate.calls, estimate.input_tokens, estimate.output_tokens) == (1, 100, 0)
    assert estimate.usd == Decimal(100)


async def test_stream_and_stray_calls() -> None:
    """A predictor made inside `forward` is known when it asks; a call without a predictor says why it cannot be."""

    class Made(dspex.Module):
        async def forward(self, question: str) -> object:
            return await dspex.Predict("question -> answer: int")(question=question)

    class Bare(dspex.Module):
        async def forward(self, question: str) -> object:
            request = LMRequest((Message("user", question),))
            return await current_scope.get().complete(request, lm=None, step="mine")

    async with app_of() as app:
        assert (await app.estimate(Made(), question="Who?")).calls == 1
        with pytest.raises(dspex.ConfigError, match="mine asks a model by itself"):
            await app.estimate(Bare(), question="Who?")


async def test_nothing_is_sent_from_a_run_inside() -> None:
    """Of this App or another: what a dry run starts is dry."""
    async with app_of() as app, app_of() as other:

        class Nested(dspex.Module):
            async def forward(self, question: str) -> None:
                for each in (app, other):
                    await each.run(Ask(), question=question)

        estimate = await app.estimate(Nested(), question="Who?")
        assert estimate.calls == 2
        assert app.health()["running"] == 0


async def test_budget_and_books_are_untouched() -> None:
    """A dry run neither pays nor is refused for want of money."""
    async with app_of(budget=dspex.Budget(usd=Decimal("0.01"))) as app:
        assert (await app.estimate(Ask(), question="Who?")).calls == 1
        with pytest.raises(dspex.MissingInput):
            await app.estimate(Ask())  # type: ignore[call-arg]  # on purpose
        with pytest.raises(dspex.BudgetExceeded):
            await app.run(Ask(), question="Who?")
        with pytest.raises(dspex.ConfigError, match="unknown option 'dry'"):
            app.options(dry=None)  # type: ignore[call-arg]  # on purpose


def test_plain_code_estimates_too() -> None:
    """The same numbers."""
    with app_of().sync() as app:
        assert app.estimate(Ask(), question="Who?").calls == 1
