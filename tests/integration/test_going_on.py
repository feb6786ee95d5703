"""An answer that was cut off goes on where it stopped, at a server that can; everywhere else it is asked for again."""

from __future__ import annotations

from typing import Any

import pytest

import dspex
from dspex.protocols.scope import Delta, Reset
from tests.support.provider_answers import app_at, asked, chat, delta, events, failed
from tests.support.transports import Answer, serving

SOLVE = dspex.ChainOfThought("question -> answer: int")
BEGUN = "Tom has three apples, and he buys four more of them at the market.\nThat makes"
REST = " seven apples.\n\\boxed{7}"
CAN: dict[str, Any] = {"max_tokens": 8, "capabilities": {"prefill": True}}
FEW: dict[str, Any] = {"adapter": "auto", "lm": CAN}


async def test_only_the_rest_is_asked_for() -> None:
    """The conversation ends with what was said; what was paid is the first part and the rest."""
    async with serving(chat(BEGUN, "length"), chat(REST)) as server, app_at(server, **FEW) as app:
        prediction = await app.run(SOLVE, question="q")
        first, second = asked(server)

    details = dspex.details(prediction)
    assert (prediction.answer, details.reasoning) == (7, f"{BEGUN} seven apples.")
    assert second["messages"] == [*first["messages"], {"role": "assistant", "content": BEGUN}]
    assert (first["max_tokens"], second["max_tokens"]) == (8, 1_019)  # five of 1,024 are written
    assert details.usage.output_tokens == 10
    assert [each.kind for each in details.repairs] == ["rest"]
    assert "asked to go on with the answer that was cut off" in details.explain()


SENT: dict[str, tuple[str, str]] = {
    "the rest alone": (BEGUN, REST),
    "all of it": (BEGUN, BEGUN + REST),
    "an answer of its own": (BEGUN, f"{BEGUN[:50]} this morning. So there are\n\\boxed{{7}}"),
    "white space again": (f"{BEGUN} \n", "\n\\boxed{7}"),
    "all of it without white space": (f"{BEGUN}\n\n", f"{BEGUN}\n\n\\boxed{{7}}"),
}


@pytest.mark.parametrize("case", SENT)
async def test_servers_send_the_rest_in_different_ways(case: str) -> None:
    begun, sent = SENT[case]
    async with serving(chat(begun, "length"), chat(sent)) as server, app_at(server, **FEW) as app:
        prediction = await app.run(SOLVE, question="q")
        assert asked(server)[1]["messages"][-1]["content"] == begun.rstrip()

    reasoning = dspex.details(prediction).reasoning
    assert prediction.answer == 7
    assert reasoning is not None
    assert reasoning.count("Tom has three apples") == 1


@pytest.mark.parametrize("case", SENT)
async def test_a_stream_goes_on_without_a_break(case: str) -> None:
    """Nothing is taken back, unless the server began anew."""
    begun, sent = SENT[case]
    pieces = [delta(sent[at : at + 7]) for at in range(0, len(sent), 7)]
    told: list[Any] = []
    cut = events(delta(begun), delta(finish="length"))
    async with (
        serving(cut, events(*pieces, delta(finish="stop"))) as server,
        app_at(server, **FEW) as app,
        app.options(on_interrupt="reset").stream(SOLVE, question="q") as stream,
    ):
        async for part in stream:
            told = [] if isinstance(part, Reset) else [*told, part]
            assert not isinstance(part, Reset) or case == "an answer of its own"
        prediction = await stream.result()

    thoughts = "".join(each.text for each in told if isinstance(each, Delta) and each.field == "reasoning")
    reasoning = dspex.details(prediction).reasoning
    assert reasoning is not None
    assert thoughts.strip() == reasoning.strip()
    assert prediction.answer == 7


async def test_a_server_that_refuses_a_turn_that_was_begun_is_asked_again() -> None:
    refused = failed(400, "Assistant response prefill is incompatible with enable_thinking.")
    async with serving(chat(BEGUN, "length"), refused, chat(BEGUN + REST)) as server, app_at(server, **FEW) as app:
        assert (await app.run(SOLVE, question="q")).answer == 7
        first, _, third = asked(server)

    assert third["messages"] == first["messages"]
    assert third["max_tokens"] == 1_024


async def test_an_answer_that_stays_cut_is_asked_for_in_short() -> None:
    async with serving(chat(BEGUN, "length"), chat(REST, "length")) as server, app_at(server, **FEW) as app:
        with pytest.raises(dspex.ResponseIncomplete) as caught:
            await app.run(SOLVE, question="q")
        assert "shorter" in asked(server)[2]["messages"][-1]["content"]

    assert caught.value.partial == REST


LOOP = "To solve it, these are the steps:\n" + "".join(
    f"{at}. Subtract the weight of the toys from the weight that is left over.\n" for at in range(1, 12)
)


@pytest.mark.parametrize("lm", [CAN, {"max_tokens": 8}], ids=["can go on", "cannot"])
async def test_an_answer_that_repeats_itself_gets_no_more_tokens(lm: dict[str, Any]) -> None:
    """A model at temperature 0 says the same again, up to any limit."""
    async with (
        serving(chat(LOOP, "length"), chat("Seven.\n\\boxed{7}")) as server,
        app_at(server, adapter="auto", lm=lm) as app,
    ):
        assert (await app.run(SOLVE, question="q")).answer == 7
        _, second = asked(server)

    assert second["max_tokens"] == 8
    assert "shorter" in second["messages"][-1]["content"]


ELSEWHERE: dict[str, tuple[Answer, dict[str, Any]]] = {
    "a server that cannot": (chat(BEGUN, "length"), {"max_tokens": 8}),
    "an answer that had hardly begun": (chat("Tom", "length"), CAN),
    "thoughts that cannot be sent back": (chat(BEGUN, "length", reasoning_content="hm"), CAN),
    "a model that thinks": (
        chat(BEGUN, "length"),
        {"max_tokens": 8, "capabilities": dict.fromkeys(("prefill", "reasoning"), True)},
    ),
}


@pytest.mark.parametrize("case", ELSEWHERE)
async def test_elsewhere_all_of_it_is_asked_for_again(case: str) -> None:
    cut, lm = ELSEWHERE[case]
    async with serving(cut, chat(BEGUN + REST)) as server, app_at(server, adapter="auto", lm=lm) as app:
        assert (await app.run(SOLVE, question="q")).answer == 7
        first, second = asked(server)

    assert second["messages"] == first["messages"]
