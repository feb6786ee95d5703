"""Forms of a text that a server enforces: asked for in its words, never of others, and given up where they fail."""

from __future__ import annotations

import json
from typing import Any

import pytest

import dspex
from dspex.protocols.cache import cache_key
from dspex.protocols.lm import JsonSchema, LMRequest, Message
from dspex.protocols.model import LM
from dspex.protocols.text_shapes import Grammar, TextChoice
from dspex.services.lm.providers import PROVIDERS
from dspex.simulator import Simulator
from tests.support.provider_answers import app_at, asked, by_body, chat, delta, events, failed, streamed
from tests.support.transports import Answer, serving

CHOICE = TextChoice(("to go", "to stay"))
PICK = dspex.Predict("question -> answer: Literal['to go', 'to stay']", adapter="auto")
COUNT = dspex.Predict("question -> answer: int", adapter="auto")
WORDS = {"grammar", "structured_outputs", "regex", "ebnf", "response_format", "guided_choice"}


def said(provider: str, output: Any) -> dict[str, Any]:
    body = json.loads(PROVIDERS[provider].wire.encode("m", LMRequest((Message("user", "x"),), output=output)))
    return {name: value for name, value in body.items() if name in WORDS}


def test_each_server_is_asked_in_its_own_words() -> None:
    grammar = Grammar('root ::= "a"+')

    assert said("llamacpp", CHOICE) == {"grammar": 'root ::= "to go" | "to stay"'}
    assert said("llamacpp", grammar) == {"grammar": 'root ::= "a"+'}
    assert said("vllm", CHOICE) == {"structured_outputs": {"choice": ["to go", "to stay"]}}
    assert said("vllm", grammar) == {"structured_outputs": {"grammar": 'root ::= "a"+'}}
    assert said("sglang", CHOICE) == {"regex": "(to go|to stay)"}
    assert said("sglang", grammar) == {"ebnf": 'root ::= "a"+'}


def test_an_answer_that_was_begun_is_gone_on_with() -> None:
    """Where a server has words for it, and only behind a turn of the assistant's."""
    asked_for, begun = Message("user", "x"), Message("assistant", "The answer is")

    def sent(provider: str, *messages: Message) -> dict[str, Any]:
        body = json.loads(PROVIDERS[provider].wire.encode("m", LMRequest(messages)))
        return {name: body[name] for name in ("continue_final_message", "add_generation_prompt") if name in body}

    assert sent("vllm", asked_for, begun) == {"continue_final_message": True, "add_generation_prompt": False}
    assert sent("sglang", asked_for, begun) == {"continue_final_message": True}
    for provider in ("vllm", "sglang", "llamacpp", "openai", "ollama"):
        assert sent(provider, asked_for) == sent(provider, asked_for, begun, asked_for) == {}
        assert PROVIDERS[provider].wire.capabilities(LM(f"{provider}/m")).prefill == (provider in ON_YOUR_MACHINE)
    claude = PROVIDERS["anthropic"].wire
    body = json.loads(claude.encode("claude-3-5-haiku-latest", LMRequest((asked_for, begun))))
    assert body["messages"][-1]["role"] == "assistant"
    assert "The answer is" in json.dumps(body["messages"][-1])
    can = {name: claude.capabilities(LM(f"anthropic/{name}")).prefill for name in OF_CLAUDE}
    assert can == OF_CLAUDE


ON_YOUR_MACHINE = ("vllm", "sglang", "llamacpp")  # the last goes on by itself
OF_CLAUDE = {"claude-3-5-haiku-latest": True, "claude-sonnet-4-6": False, "claude-opus-4-5": False}
"""Newer models refuse a begun answer, and so does every model that thinks."""


@pytest.mark.parametrize("provider", sorted(PROVIDERS.keys() - {"llamacpp", "vllm", "sglang"}))
def test_a_server_that_enforces_no_form_of_a_text_is_never_sent_one(provider: str) -> None:
    """It would be ignored, and the answer be taken for what it is not."""
    wire = PROVIDERS[provider].wire
    can = wire.capabilities(LM(f"{provider}/m"))
    assert (can.choices, can.grammar) == (False, False)

    for output in (CHOICE, Grammar('root ::= "a"')):
        with pytest.raises(
            dspex.RequestRejected, match=r"does not support an answer that is one of some texts.*nothing"
        ):
            wire.encode("claude-sonnet-4-5", LMRequest((Message("user", "x"),), output=output))


def test_a_free_answer_is_not_an_enforced_one() -> None:
    """Each form has a key of its own in caches; the key of a free question is what it was."""
    forms = (None, CHOICE, TextChoice(("to stay", "to go")), Grammar(CHOICE.gbnf), JsonSchema("a", {}))
    keys = [cache_key(LM("llamacpp/m"), LMRequest((Message("user", "x"),), output=each)) for each in forms]

    assert len(set(keys)) == len(forms)


async def test_a_choice_is_enforced_where_the_server_can() -> None:
    async with serving(chat("to stay")) as server, app_at(server, "llamacpp/m") as app:
        prediction = await app.run(PICK, question="Now?")
        explained = dspex.details(prediction).explain()
    async with serving(chat("to stay")) as other, app_at(other, "openai/m") as app:
        assert (await app.run(PICK, question="Now?")).answer == "to stay"

    assert prediction.answer == "to stay"
    assert asked(server)[0]["grammar"] == CHOICE.gbnf
    assert "enforced: one of 2 texts" in explained
    assert not WORDS & asked(other)[0].keys()


async def test_the_chat_form_is_held_to_its_marks() -> None:
    """Its texts stay free."""
    ask = dspex.Predict("question -> sure: bool, why", adapter="chat")
    answer = "[[ ## sure ## ]]\nTrue\n\n[[ ## why ## ]]\nSo.\n\n[[ ## completed ## ]]"
    async with serving(chat(answer)) as server, app_at(server, "llamacpp/m") as app:
        prediction = await app.run(ask, question="Now?")

    assert prediction.sure is True
    assert asked(server)[0]["grammar"].startswith('root ::= "[[ ## sure ## ]]\\n" truth')


@pytest.mark.parametrize(
    "words", ["Failed to parse grammar", "Unsupported structured_outputs", "ebnf is not supported"]
)
async def test_a_server_that_refuses_the_form_is_asked_without_it_from_then_on(words: str) -> None:
    def answer(body: Any) -> Answer:
        return failed(400, words) if "grammar" in body else chat("to go")

    async with serving(by_body(answer)) as server, app_at(server, "llamacpp/m") as app:
        for _ in range(2):
            assert (await app.run(PICK, question="Now?")).answer == "to go"

    assert ["grammar" in body for body in asked(server)] == [True, False, False]


@pytest.mark.parametrize("streams", [False, True])
async def test_nothing_is_paid_after_the_closing_mark(streams: bool) -> None:
    """Servers of one's own are told where an answer ends, and leave the mark out; hosted models end by themselves."""
    ask = dspex.Predict("question -> answer", adapter="chat")
    said = "[[ ## answer ## ]]\nAda\n"
    answer = events(delta(said[:24]), delta(said[24:]), delta(finish="stop")) if streams else chat(said)
    for model, stop in (("ollama/m", ["\n[[ ## completed ## ]]"]), ("openai/m", None)):
        async with serving(answer) as server, app_at(server, model) as app:
            run = streamed(app, ask, question="Who?") if streams else app.run(ask, question="Who?")
            prediction = await run
        assert (prediction.answer, dspex.details(prediction).repairs) == ("Ada", ())
        assert asked(server)[0].get("stop") == stop


async def test_an_enforced_answer_that_cannot_be_read_is_asked_for_freely() -> None:
    """A model that was kept from thinking may say nothing at all: its next turn is its own."""

    def answer(body: Any) -> Answer:
        return chat("") if "grammar" in body else chat("to go")

    async with serving(by_body(answer)) as server, app_at(server, "llamacpp/m") as app:
        prediction = await app.run(PICK, question="Now?")

    assert prediction.answer == "to go"
    assert ["grammar" in body for body in asked(server)] == [True, False]
    assert [each.kind for each in dspex.details(prediction).repairs] == ["turn"]


async def test_tools_and_a_form_of_the_text_are_never_asked_for_together() -> None:
    """A call is not a text: servers refuse both at once."""

    class Act(dspex.Signature):
        question: str = dspex.InputField()
        tools: list[dspex.Tool] = dspex.InputField()
        sure: bool = dspex.OutputField()
        calls: dspex.ToolCalls = dspex.OutputField()

    def weather(city: str) -> str:
        """Tell the weather."""
        return "sunny"

    act = dspex.Predict(Act, adapter="auto")
    async with serving(chat("True")) as server, app_at(server, "llamacpp/m") as app:
        assert (await app.run(act, question="Now?", tools=[dspex.tool(weather)])).sure is True

    assert "tools" in asked(server)[0]
    assert "grammar" not in asked(server)[0]


async def test_a_stream_of_an_enforced_choice_ends_with_it() -> None:
    pieces = (delta("to "), delta("stay"), delta(finish="stop"))
    async with serving(events(*pieces)) as server, app_at(server, "vllm/m") as app:
        assert (await streamed(app, PICK, question="Now?")).answer == "to stay"

    assert asked(server)[0]["structured_outputs"] == {"choice": ["to go", "to stay"]}


@pytest.mark.parametrize("provider", ["llamacpp", "vllm", "sglang"])
async def test_the_simulator_keeps_to_choices(provider: str) -> None:
    """In the words of each server; a grammar that it does not follow it refuses, and is then asked freely."""
    async with Simulator() as simulator:
        lm = dspex.LM(f"{provider}/m", api_base=simulator.url)
        async with dspex.App(lm, cache=None) as app:
            assert (await app.run(PICK, question="Shall we leave the house tonight?")).answer in CHOICE.texts
            assert isinstance((await app.run(COUNT, question="What is 3 plus 4?")).answer, int)
