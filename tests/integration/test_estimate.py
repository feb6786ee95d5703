"""A dry run: everything but the asking."""

from __future__ import annotations

from decimal import Decimal

import pytest

import dspex
from dspex.protocols.lm import LMRequest
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


async def test_tools_are_not_called() -> None:
    """An agent is taken to use up its steps: its answers have no meaning."""
    called: list[str] = []

    def search(query: str) -> str:
        """Search the web."""
        called.append(query)
        return "found"

    agent = dspex.ReAct("question -> answer", tools=[search], max_steps=3)
    async with app_of() as app:
        estimate = await app.estimate(agent, question="Who?")
    assert called == []
    assert 2 <= estimate.calls <= 4


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
            app.options(dry=None)


def test_plain_code_estimates_too() -> None:
    """The same numbers."""
    with app_of().sync() as app:
        assert app.estimate(Ask(), question="Who?").calls == 1
