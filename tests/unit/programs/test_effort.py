"""The effort of thinking that a call has: a predictor's own, else that of its model's record, wherever it is named."""

from __future__ import annotations

from typing import Any

import pytest

import dspex
from dspex.protocols.content import ReasoningPart
from dspex.protocols.lm import Completion
from dspex.protocols.scope import current_scope
from dspex.testing import ScriptedLM

THINK = dspex.ChainOfThought("question -> answer: int")
NATIVE = Completion("7", reasoning=(ReasoningPart("Three and four."),))
IN_WORDS = Completion("Three and four.\nanswer: 7")


def thinker(answer: Completion, **params: Any) -> ScriptedLM:
    return ScriptedLM([answer], capabilities={"reasoning": True}, **params)


@pytest.mark.parametrize(
    ("record", "own", "native"),
    [
        ({}, {}, False),
        ({"reasoning": "low"}, {}, True),
        ({"reasoning": "none"}, {}, False),
        ({"reasoning": "low"}, {"reasoning": "none"}, False),
        ({"reasoning": "none"}, {"reasoning": "low"}, True),
        ({}, {"reasoning": "low"}, True),
    ],
)
@pytest.mark.parametrize("where", ["app", "name", "options", "predictor", "name in options"])
async def test_a_model_that_is_to_think_is_not_asked_to_think_in_words(
    where: str, record: dict[str, str], own: dict[str, Any], native: bool
) -> None:
    lm = thinker(NATIVE if native else IN_WORDS, **record)
    other = ScriptedLM([])
    think = THINK.with_config(**own)
    if where == "predictor":
        think = think.with_lm(lm)
    elif where == "name":
        think = think.with_lm("clever")
    lms = {"lm": lm} if where == "app" else {"lm": other, "lms": {"clever": lm}}
    async with dspex.App(**lms, adapter="auto", cache=None) as app:
        bound = (
            app.options(lm=lm)
            if where == "options"
            else app.options(lm="clever")
            if where == "name in options"
            else app
        )
        prediction = await bound.run(think, question="3 + 4?")

    [asked] = lm.requests
    assert prediction.answer == 7
    assert dspex.details(prediction).reasoning == "Three and four."
    assert ("step by step" not in asked.prompt) is native
    assert asked.request.params.reasoning == own.get("reasoning", record.get("reasoning"))
    assert not other.requests


async def test_a_record_that_is_to_think_fills_a_field_of_thoughts_and_one_that_is_not_does_not() -> None:
    class Explain(dspex.Signature):
        """Explain."""

        question: str = dspex.InputField()
        why: dspex.Reasoning = dspex.OutputField()
        answer: int = dspex.OutputField()

    thinks = thinker(NATIVE, reasoning="high")
    told = thinker(Completion('{"why": "So.", "answer": 7}'), reasoning="none")
    async with dspex.App(thinks, adapter="json", cache=None) as app:
        thinks_of = await app.run(dspex.Predict(Explain, adapter="auto"), question="3 + 4?")
        told_of = await app.options(lm=told).run(dspex.Predict(Explain), question="3 + 4?")

    assert (thinks_of.why, thinks_of.answer) == ("Three and four.", 7)
    assert (told_of.why, told_of.answer) == ("So.", 7)


@pytest.mark.parametrize(
    ("efforts", "effort"),
    [
        (("low", "high"), "low"),
        (("low", None), None),
        ((None, "none"), "none"),
        (("high", "none"), "none"),
        ((None, None), None),
    ],
)
async def test_the_effort_of_a_pool_is_what_holds_whoever_answers(
    efforts: tuple[str | None, ...], effort: str | None
) -> None:
    members = tuple(dspex.LM(f"openai/m{at}", api_key="x", reasoning=each) for at, each in enumerate(efforts))
    found: list[str | None] = []

    class Ask(dspex.Module):
        async def forward(self, pool: dspex.LMPool) -> str:
            scope = current_scope.get()
            found.extend([scope.effort(pool), scope.effort(None), scope.effort("nobody")])
            return ""

    async with dspex.App(members[0], cache=None) as app:
        await app.run(Ask(), pool=dspex.LMPool((members[0], dspex.LMPool(members[1:]))))

    assert found == [effort, efforts[0], None]


async def test_an_answer_of_a_model_that_is_not_to_think_goes_on_where_it_was_cut() -> None:
    """Its record says so: there are no thoughts that would have to be sent back."""
    begun = Completion("Once upon a time there was a bank that had no doors at all,", "length")
    lm = ScriptedLM(
        [begun, Completion(" and a key.")], capabilities={"reasoning": True, "prefill": True}, reasoning="none"
    )
    async with dspex.App(lm, adapter="auto", cache=None) as app:
        prediction = await app.run(dspex.Predict("topic -> story", max_tokens=20), topic="banks")

    assert prediction.story == f"{begun.text} and a key."
    assert [each.kind for each in dspex.details(prediction).repairs] == ["rest"]
