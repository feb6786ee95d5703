"""Thoughts whose opening was a part of the prompt: after the first such answer, streams wait for their end."""

from __future__ import annotations

from typing import Any

import pytest

import dspex
from dspex.protocols.scope import Delta
from tests.support.provider_answers import app_at, by_body, chat, delta, events
from tests.support.transports import Answer, serving

SAY = dspex.Predict("question -> answer")
PIECES = 7


def says(*answers: str) -> Answer:
    """Give the answers in turn, streamed in small pieces where a stream is asked for."""
    left = list(answers)

    def answer(body: Any) -> Answer:
        text = left.pop(0)
        if not body.get("stream"):
            return chat(text)
        pieces = [delta(text[at : at + PIECES]) for at in range(0, len(text), PIECES)]
        return events(*pieces, delta("", "stop"))

    return by_body(answer)


async def watched(app: dspex.App, program: Any = SAY) -> tuple[str, Any]:
    """Return the pieces of the answer, joined, and the prediction."""
    told = ""
    async with app.stream(program, question="q") as stream:
        async for piece in stream:
            assert isinstance(piece, Delta)
            told += piece.text if piece.field == "answer" else ""
        return told, await stream.result()


@pytest.mark.parametrize(
    "thought",
    [
        "The capital, surely.\n</think>\n\n",
        "The capital.[/THINK]",
        "So.\n<|end_of_thought|>\n",
        "A tag </think> in a line, then its end.\n</think>\n",
    ],
)
async def test_the_second_stream_tells_the_answer_alone(thought: str) -> None:
    """The first one told a draft, and says so; an answer that was not streamed teaches the same."""
    said = f"{thought}Paris, on the Seine."
    async with serving(says(*[said] * 2)) as server, app_at(server, adapter="auto") as app:
        assert (await app.run(SAY, question="q")).answer == "Paris, on the Seine."
        told, prediction = await watched(app)
    async with serving(says(*[said] * 2)) as server, app_at(server, adapter="auto") as app:
        with pytest.raises(dspex.StreamInterrupted):
            await watched(app)
        again, _ = await watched(app)

    assert told == again == prediction.answer == "Paris, on the Seine."
    assert dspex.details(prediction).reasoning


async def test_an_answer_without_thoughts_is_told_at_its_end_and_the_next_as_it_comes() -> None:
    thought = "Hm.\n</think>\nParis."
    answers = [thought, "Rome.", thought, "<think>Hm.</think>Oslo."]
    async with serving(says(*answers)) as server, app_at(server, adapter="auto") as app:
        await app.run(SAY, question="q")
        assert (await watched(app))[0] == "Rome."
        with pytest.raises(dspex.StreamInterrupted):  # it was not expected any more
            await watched(app)
        assert (await watched(app))[0] == "Oslo."


async def test_other_forms_and_values_behind_thoughts_are_told() -> None:
    think = dspex.ChainOfThought("question -> answer: str")
    answers = [
        "Hm.\n</think>\nBecause of this.\nanswer: Paris",
        "Hm.\n</think>\nBecause of that.\nanswer: Rome",
        "Hm.\n</think>\n[[ ## answer ## ]]\nOslo\n\n[[ ## completed ## ]]",
    ]
    async with serving(says(*answers)) as server, app_at(server, adapter="auto") as app:
        await app.run(think, question="q")
        told, prediction = await watched(app, think)
        chat_told, _ = await watched(app, SAY.with_adapter("chat"))

    assert (told, chat_told) == ("Rome", "Oslo")
    assert prediction.reasoning == "Because of that."


async def test_where_nothing_is_learned_a_stream_does_not_wait() -> None:
    said = "Hm.\n</think>\nParis."
    async with serving(says(said, said)) as server, app_at(server, adapter="auto", learn_forms=False) as app:
        await app.run(SAY, question="q")
        with pytest.raises(dspex.StreamInterrupted):
            await watched(app)
