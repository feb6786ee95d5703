"""The hosts and servers with a name of their own that speak OpenAI's protocol: each by its name, and with its key."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import dspex
from dspex.services.lm.providers import PROVIDERS
from dspex.services.lm.wires.chat.wire import OpenAIChat
from dspex.simulator import Simulator
from tests.support.programs import Ask, Question

NAMES = [name for name, each in PROVIDERS.items() if type(each.wire) is OpenAIChat]


@pytest.fixture
async def simulator() -> AsyncIterator[Simulator]:
    async with Simulator(key="secret") as running:
        yield running


@pytest.mark.parametrize("name", NAMES)
async def test_it_answers_and_streams_with_the_key_of_its_variable(
    simulator: Simulator, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """And makes vectors, where the table says that it does."""
    monkeypatch.setenv(PROVIDERS[name].key_env[0], "secret")
    lm = dspex.LM(f"{name}/org/rules:free", api_base=simulator.url, temperature=0.5, seed=3, max_tokens=300)
    async with dspex.App(lm, cache=None) as app:
        assert (await app.run(Ask(), question="Who?")).answer
        async with app.stream(dspex.Predict(Question), question="Who?") as stream:
            pieces = [each.text async for each in stream if isinstance(each, dspex.Delta)]
            prediction = await stream.result()
        assert "".join(pieces) == prediction.answer
        assert dspex.details(prediction).lm.model == f"{name}/org/rules:free"
        if PROVIDERS[name].embeddings is not None:
            assert len(await app.run(dspex.Embed(), ["a text"])) == 1


@pytest.mark.parametrize("name", [name for name in NAMES if PROVIDERS[name].needs_key])
async def test_a_missing_key_is_named_before_anything_is_sent(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable is what the user has to set."""
    (variable,) = PROVIDERS[name].key_env
    monkeypatch.delenv(variable, raising=False)
    async with dspex.App(f"{name}/m") as app:
        with pytest.raises(dspex.AuthFailed, match=f"set {variable} or give"):
            await app.run(Ask(), question="Who?")
