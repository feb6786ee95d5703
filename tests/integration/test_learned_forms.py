"""A model that cannot write the form ``auto`` asks for is asked in the next one, and everybody can see why."""

from __future__ import annotations

from typing import Any

import pytest

import dspex
from tests.support.programs import collect, until
from tests.support.provider_answers import app_at, asked, by_body, chat, streamed
from tests.support.transports import Answer, serving

COUNT = dspex.Predict("question -> answer: int")
THINK = dspex.ChainOfThought("question -> answer: int")


def form_of(body: Any) -> str:
    texts = "\n".join(each["content"] for each in body["messages"])
    return "json" if "JSON object" in texts else "chat" if "[[ ## " in texts else "auto"


def writes_only(*forms: str) -> Answer:
    """A model that writes nothing useful in other forms at the first turn; told of it, it answers."""
    written = {"json": '{"answer": 4}', "chat": "[[ ## answer ## ]]\n4\n\n[[ ## completed ## ]]", "auto": "4"}

    def answer(body: Any) -> Answer:
        form = form_of(body)
        return chat(written[form] if form in forms or len(body["messages"]) > 2 else "I could not say.")

    return by_body(answer)


def forms(server: Any) -> list[str]:
    return [form_of(body) for body in asked(server)]


async def test_a_form_that_cannot_be_written_is_left_for_the_next() -> None:
    """Each of the first three calls takes two turns; from then on one is enough."""
    async with serving(writes_only("json")) as server, app_at(server, adapter="auto") as app:
        with collect(app, "dspex.lm.form") as events:
            answers = [await app.run(COUNT, question=f"q{number}") for number in range(5)]
        tree = app.tree().render()

    assert [each.answer for each in answers] == [4] * 5
    assert forms(server) == ["auto", "auto"] * 3 + ["json"] * 2
    ((_, facts),) = events
    assert (facts["lm"], facts["to"], facts["unreadable"], facts["turns"]) == ("openai/m", "json", 3, 3)
    assert facts["signature"].startswith("AnswerFromQuestion-")
    assert "is asked as json: 3 of its last 3 first turns as auto could not be read" in tree
    story = dspex.details(answers[-1]).explain()
    assert "turn 1, as json" in story
    assert "3 of its last 3 first turns as auto could not be read" in story
    assert "asked again, for the answer could not be read" in dspex.details(answers[0]).explain()


async def test_signatures_are_judged_apart() -> None:
    other = dspex.Predict("question -> size: int")
    async with serving(writes_only("json")) as server, app_at(server, adapter="auto") as app:
        for number in range(3):
            await app.run(COUNT, question=f"q{number}")
        with pytest.raises(dspex.ResponseUnparsable):
            await app.run(other.with_config(repair_turns=0), question="q")

    assert forms(server)[-1] == "auto"


@pytest.mark.parametrize("streams", [False, True])
async def test_the_record_outlives_the_client_and_streams_learn_too(streams: bool) -> None:
    async with serving(writes_only("json")) as server, app_at(server, adapter="auto") as app:
        for number in range(3):
            ask = streamed(app, COUNT, question=f"q{number}") if streams else app.run(COUNT, question=f"q{number}")
            await ask
        runtime = app.running_tree().runtime
        name = next(each for each in runtime._names if each.endswith("/m"))
        client = runtime.whereis(name)
        assert client is not None
        client.kill()
        await until(lambda: runtime.whereis(name) not in (None, client), "the new client")
        await app.run(COUNT, question="after")

    assert forms(server)[-1] == "json"


@pytest.mark.parametrize("how", ["the App", "the options", "an evaluation", "a form of its own"])
async def test_where_nothing_is_learned_the_form_stays(how: str) -> None:
    """A score must not depend on whose answers came first; a form that somebody chose is theirs."""
    ask = COUNT.with_adapter("chat") if how == "a form of its own" else COUNT
    async with (
        serving(writes_only()) as server,
        app_at(server, adapter="auto", learn_forms=how != "the App") as app,
    ):
        view = app.options(learn_forms=False) if how == "the options" else app
        if how == "an evaluation":
            rows = [dspex.Example(question=f"q{number}", answer=4) for number in range(5)]
            report = await app.evaluate(ask, rows, lambda row, found: row.answer == found.answer)
            assert report.score == 1.0
        else:
            for number in range(5):
                assert (await view.run(ask, question=f"q{number}")).answer == 4

    assert set(forms(server)) == {"chat" if how == "a form of its own" else "auto"}
    with pytest.raises(dspex.ConfigError, match="learn_forms"):
        app.options(learn_forms="no")  # type: ignore[arg-type]  # on purpose


async def test_thoughts_without_their_values_are_not_a_failure() -> None:
    """The second turn, which asks for the values behind free thoughts, is how that form works."""

    def answer(body: Any) -> Answer:
        return chat('{"answer": 4}' if len(body["messages"]) > 2 else "Two and two make it.")

    async with serving(by_body(answer)) as server, app_at(server, adapter="auto") as app:
        for number in range(5):
            assert (await app.run(THINK, question=f"q{number}")).answer == 4

        assert "first turns" not in app.tree().render()
    assert len(server.requests) == 10


async def test_answers_from_the_cache_say_nothing_new() -> None:
    async with serving(writes_only("auto")) as server, app_at(server, adapter="auto", cache="memory") as app:
        for _ in range(3):
            await app.run(COUNT, question="q")
        memory = app.running_tree().lm.forms(None)

    assert len(server.requests) == 1
    assert memory is not None
    (record,) = memory._records.values()
    assert list(record.turns["auto"]) == [True]
