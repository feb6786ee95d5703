"""Every adapter, streams, tools, schemas and embeddings on a real model: what must hold however clever it is."""

from __future__ import annotations

import math
from typing import Literal

import pytest

import dspex
from dspex.app.demo.local.banking import SortMessage, read_banking, sorter
from dspex.errors import ProgramError, ServiceError
from dspex.protocols.executor import Failed, Ok
from dspex.protocols.model import LM
from dspex.protocols.scope import Delta

pytestmark = [pytest.mark.real, pytest.mark.timeout(1800)]

Adapter = Literal["chat", "json", "xml", "tool"]
PATIENCE = dspex.Timeouts(read=900.0)
MESSAGE = "My card is about to expire. What do I have to do?"
INTENTS = {row["intent"] for row in read_banking().train}


def app_of(lm: LM, adapter: Adapter = "chat") -> dspex.App:
    return dspex.App(lm, adapter=adapter, deadline=1500.0, timeouts=PATIENCE, cache=None)


class Person(dspex.Signature):
    """Read from the text who it is about."""

    text: str = dspex.InputField()
    name: str = dspex.OutputField()
    age: int = dspex.OutputField()
    towns: list[str] = dspex.OutputField()


@pytest.mark.parametrize("adapter", ["chat", "json", "xml", "tool"])
async def test_an_adapter_gives_a_typed_value_or_a_typed_error(lm: LM, adapter: Adapter) -> None:
    async with app_of(lm, adapter) as app:
        end = await app.start(sorter(), message=MESSAGE).outcome()

    assert end.totals is not None
    assert end.totals.usage.total_tokens > 0
    if isinstance(end, Ok):
        assert isinstance(end.value, SortMessage)
        assert end.value.intent in INTENTS
        assert dspex.details(end.value).usage.output_tokens > 0
    else:
        assert isinstance(end, Failed)
        assert isinstance(end.reason, (ProgramError, ServiceError)), end.reason


async def test_an_enforced_schema_is_read_at_the_first_turn(lm: LM) -> None:
    """No turn is left for a repair: what the schema says has to be there, and of its type."""
    async with app_of(lm, "json") as app:
        person = await app.run(
            dspex.Predict(Person, repair_turns=0), text="Ada, 36 years old, lived in London and in Ockham."
        )

    assert isinstance(person.name, str)
    assert isinstance(person.age, int)
    assert isinstance(person.towns, list)
    assert all(isinstance(town, str) for town in person.towns)
    assert len(dspex.details(person).results) == 1


@pytest.mark.parametrize("adapter", ["chat", "json", "xml"])
async def test_the_pieces_of_a_stream_are_the_whole(lm: LM, adapter: Adapter) -> None:
    async with app_of(lm, adapter) as app:
        try:
            async with app.stream(dspex.Predict("question -> answer"), question="Say hello.") as stream:
                pieces = [part.text async for part in stream if isinstance(part, Delta) and part.field == "answer"]
                whole = (await stream.result()).answer
        except (ProgramError, ServiceError, dspex.RequestError):
            if adapter == "json":  # nothing can be unreadable there
                raise
        else:
            assert "".join(pieces).strip() == whole.strip()


async def test_arguments_of_a_tool_have_their_types(lm: LM) -> None:
    """The model decides if it is called at all."""
    called: list[tuple[object, object]] = []

    def add(first: int, second: int) -> int:
        """Add two whole numbers."""
        called.append((first, second))
        return first + second

    async with app_of(lm, "json") as app:
        agent = dspex.ReAct("question -> answer: int", tools=[add], max_steps=2)
        end = await app.start(agent, question="How much is 17 + 25? Use the tool.").outcome()

    assert all(isinstance(each, int) for pair in called for each in pair)
    assert end.totals is not None
    assert end.totals.usage.total_tokens > 0
    if isinstance(end, Ok):
        assert isinstance(end.value.answer, int)
    else:
        assert isinstance(end.reason, (ProgramError, ServiceError)), end.reason


async def test_a_prompt_that_does_not_fit_is_a_typed_error(lm: LM) -> None:
    async with app_of(lm, "json") as app:
        with pytest.raises(dspex.ContextTooLong):
            await app.run(dspex.Predict("question -> answer"), question="one two three four " * 5_000)


async def test_embeddings_are_finite_and_of_one_length(embedding_lm: LM) -> None:
    async with app_of(embedding_lm) as app:
        one, other = await app.run(dspex.Embed(embedding_lm), ["a cat", "a letter to a bank"])

    assert len(one) == len(other) > 100
    assert all(math.isfinite(number) for number in (*one, *other))
    assert tuple(one) != tuple(other)
