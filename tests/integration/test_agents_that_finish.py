"""Agents whose model gives the answer as the arguments of its finishing call."""

from __future__ import annotations

from typing import Any, Literal

import pydantic
import pytest

import dspex
from dspex.testing import ScriptedLM


class City(pydantic.BaseModel):
    name: str
    people: float


class Compare(dspex.Signature):
    """Answer the question."""

    question: str = dspex.InputField()
    city: City = dspex.OutputField()
    sure: Literal["yes", "no"] = dspex.OutputField()
    note: str = dspex.OutputField(default="-")


ROME = City(name="Rome", people=2.8)
WHOLE: dict[str, Any] = {"city": {"name": "Rome", "people": "2.8"}, "sure": "yes"}


def population(city: str) -> float:
    """Tell how many people live in a city, in millions."""
    return {"Rome": 2.8}[city]


def agent(**settings: Any) -> dspex.ReAct[Compare, ...]:
    return dspex.ReAct(Compare, [population], answer_in_finish=True, **settings)


def model(*calls: tuple[str, dict[str, Any]], native: bool = True, extract: Any = ()) -> ScriptedLM:
    """Return a model that makes these calls, by itself or in text."""
    turns: list[dict[str, Any]] = [
        {"tool": name, "arguments": arguments}
        if native
        else {"next_thought": f"{name} then", "next_tool_name": name, "next_tool_args": arguments}
        for name, arguments in calls
    ]
    return ScriptedLM({"react": turns, "extract": list(extract)}, capabilities={"tools": native})


@pytest.mark.parametrize("native", [True, False], ids=["native", "text"])
async def test_the_finishing_call_is_the_answer(native: bool) -> None:
    """One call fewer; the record, its details and what was done are as ever."""
    lm = model(("population", {"city": "Rome"}), ("finish", WHOLE), native=native)
    async with dspex.App(lm) as app:
        request = app.start(agent(), question="Which?")
        prediction = await request

    assert type(prediction) is Compare
    assert prediction.city == ROME
    plain = {"name": "Rome", "people": 2.8}
    assert prediction.to_dict() == {"question": "Which?", "city": plain, "sure": "yes", "note": "-"}
    assert request.details.calls == 2
    details = dspex.details(prediction)
    assert details.predictor == "react"
    assert details.usage.output_tokens > 0
    assert details.trajectory is not None
    assert [each.call.name for each in details.trajectory] == ["population", "finish"]
    assert details.trajectory.finished
    assert "finish" in details.explain()
    prompt = "".join(message.text for message in lm.requests[0].request.messages)
    assert "call `finish` with `city`, `sure`, `note` as its arguments" in prompt


@pytest.mark.parametrize("native", [True, False], ids=["native", "text"])
async def test_an_answer_that_does_not_fit_is_corrected_in_the_next_step(native: bool) -> None:
    """A wrong call has an observation that names every problem at once."""
    lm = model(("finish", {"city": {"name": "Rome"}}), ("finish", {**WHOLE, "sure": "sì"}), ("finish", WHOLE),
               native=native)  # fmt: skip
    async with dspex.App(lm) as app:
        prediction = await app.run(agent(), question="Which?")

    assert prediction.city == ROME
    trajectory = dspex.details(prediction).trajectory
    assert trajectory is not None
    assert [each.observation.text for each in trajectory] == [
        "Error: `sure` is missing; `city`: people: Field required. Call `finish` again, with all of it.",
        "Error: `sure`: 'sì' is not exactly one of: yes, no. Call `finish` again, with all of it.",
        "(finished)",
    ]


async def test_reasoning_is_what_the_model_thought_as_it_finished() -> None:
    """As ChainOfThought has it; a model that says nothing of it has none."""
    async with dspex.App(model(("finish", WHOLE), native=False)) as app:
        prediction = await app.run(agent(), question="Which?")
    assert dspex.details(prediction).reasoning == "finish then"

    async with dspex.App(model(("finish", WHOLE))) as app:
        prediction = await app.run(agent(), question="Which?")
    with pytest.raises(AttributeError, match="reasoning"):
        _ = dspex.details(prediction).reasoning


async def test_slips_in_the_arguments_are_repaired_and_reported() -> None:
    """The ladder of every other answer."""
    lm = model(("finish", {**WHOLE, "city": '{"name": "Rome", "people": 2.8,}'}))
    kinds: list[Any] = []
    async with dspex.App(lm) as app:
        app.telemetry.attach("dspex.parse.repair", lambda _name, _numbers, facts: kinds.append(facts["kind"]))
        prediction = await app.run(agent(), question="Which?")

    assert prediction.city == ROME
    assert [each.field for each in dspex.details(prediction).repairs] == ["city"]
    assert kinds == ["json"]


async def test_spent_steps_and_plain_words_are_answered_as_without_it() -> None:
    """The call that asks for the outputs is still there for whoever needs it; ``extract=False`` is an error."""
    answer = {"reasoning": "so", **WHOLE}
    wrong = ("finish", {"sure": "yes"})
    async with dspex.App(model(wrong, extract=[answer])) as app:
        prediction = await app.run(agent(max_steps=1), question="Which?")
    trajectory = dspex.details(prediction).trajectory
    assert trajectory is not None
    assert (prediction.city, trajectory.finished, dspex.details(prediction).predictor) == (
        ROME,
        False,
        "extract.predict",
    )

    async with dspex.App(ScriptedLM({"react": ["It is Rome."], "extract": [answer]})) as app:
        assert (await app.run(agent(), question="Which?")).city == ROME

    async with dspex.App(model(wrong)) as app:
        with pytest.raises(dspex.AgentBudgetSpent, match="within 1 step"):
            await app.run(agent(max_steps=1, extract=False), question="Which?")


async def test_other_calls_of_the_last_turn_are_made() -> None:
    """The first whole answer of a turn stands."""
    turn = [
        {"tool": "population", "arguments": {"city": "Rome"}},
        {"tool": "finish", "arguments": WHOLE},
        {"tool": "finish", "arguments": {**WHOLE, "sure": "no"}},
    ]
    async with dspex.App(ScriptedLM({"react": [turn]})) as app:
        prediction = await app.run(agent(), question="Which?")

    trajectory = dspex.details(prediction).trajectory
    assert trajectory is not None
    assert [each.observation.text for each in trajectory] == ["2.8", "(finished)", "(finished)"]
    assert prediction.sure == "yes"


def test_state_has_the_same_predictors() -> None:
    """Files travel between agents that finish either way."""
    plain = dspex.ReAct(Compare, [population])

    loaded = agent().load_state(plain.dump_state())

    assert list(loaded.predictors()) == list(plain.predictors()) == ["react", "extract.predict"]
    assert plain.load_state(agent().dump_state()).react.signature.equals(agent().react.signature)
