"""Examples by likeness: which come, in which order, and how often vectors are made."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

import dspex
from dspex.errors import MissingInput, NotInRequest
from dspex.simulator import Simulator
from dspex.testing import ScriptedScope

EXAMPLES = [{"question": "aaa", "answer": "1"}, {"question": "abb", "answer": "2"}, {"question": "zzz", "answer": "3"}]


class Letters:
    """Counts letters, and how often it was asked."""

    def __init__(self) -> None:
        self.asked: list[list[str]] = []

    def __call__(self, texts: Sequence[str]) -> list[list[float]]:
        self.asked.append(list(texts))
        return [[float(text.partition(": ")[2].count(letter)) for letter in "abz"] for text in texts]


async def test_nearest_come_first_and_vectors_of_examples_are_made_once() -> None:
    """One call for the first question, examples included; later ones ask for their own text only."""
    letters = Letters()
    knn = dspex.KNN(2, EXAMPLES, letters)
    scope = ScriptedScope([])

    assert [each.answer for each in await scope.run(knn, question="ab")] == ["2", "1"]
    assert [each.answer for each in await scope.run(knn, question="z")] == ["3", "1"]
    assert [len(texts) for texts in letters.asked] == [4, 1]


async def test_async_vectorizers_and_named_fields() -> None:
    """Labels are not inputs; the caller may say which fields count."""

    async def vectors(texts: Sequence[str]) -> list[list[float]]:
        return Letters()(texts)

    knn = dspex.KNN(1, EXAMPLES, vectors, fields=["question"])
    (found,) = await ScriptedScope([]).run(knn, question="zz", other="aaa")
    assert found.answer == "3"


async def test_inputs_that_no_example_has_are_told() -> None:
    """Likeness to nothing would be a random choice."""
    with pytest.raises(MissingInput, match="colour"):
        await ScriptedScope([]).run(dspex.KNN(1, EXAMPLES, Letters()), colour="red")
    with pytest.raises(ValueError, match="k=0"):
        dspex.KNN(0, EXAMPLES, Letters())


async def test_vectors_come_from_a_provider_and_are_paid_for() -> None:
    """Through the App's own tree: keys, retries, budget and cost as for any call."""
    async with Simulator() as simulator:
        lm = dspex.LM("openai/rules", api_base=simulator.url, api_key="key")
        prices = {"openai/rules": dspex.Price(1, 0)}
        async with dspex.App(lm, prices=prices) as app:
            rows = [{"question": "how do I sort a list"}, {"question": "what is the weather like in Rome"}]
            request = app.start(dspex.KNN(1, rows, dspex.Embed()), question="sorting a list")
            (found,) = await request
            assert found.question == "how do I sort a list"
            assert request.details.usage.input_tokens > 0
            assert request.details.cost == prices["openai/rules"].cost(request.details.usage)

            vectors = await app.run(dspex.Embed(), ["one", "two", "three"])
            assert len({len(vector) for vector in vectors}) == 1
            assert await app.run(dspex.Embed(), []) == []
            with pytest.raises(MissingInput, match="list of texts"):
                await app.run(dspex.Embed(), "one")
    with pytest.raises(NotInRequest):
        await dspex.Embed().forward(["one"])
