"""Thoughts at the start of a value are not the answer; a value that speaks of such marks keeps them."""

from __future__ import annotations

import json
from typing import Any

import pytest

import dspex
from dspex.errors import ResponseUnparsable
from dspex.programs import ChatAdapter, JSONAdapter, Signature, ToolAdapter, XMLAdapter
from dspex.testing import ScriptedLM
from tests.support.field_pieces import streamed

ADAPTERS = [ChatAdapter(), JSONAdapter(), XMLAdapter(), ToolAdapter()]
each_adapter = pytest.mark.parametrize("adapter", ADAPTERS, ids=lambda each: each.name)
REFUSED = "refused"
FORMS = {
    "think": "<think>maybe Rome</think>",
    "thinking": "<thinking>\nmaybe\n\nRome\n</thinking>",
    "reasoning": "<reasoning>maybe Rome</reasoning>",
    "THINK": "[THINK]maybe Rome[/THINK]",
    "kimi": "\u25c1think\u25b7maybe Rome\u25c1/think\u25b7",
    "channels": "<|channel|>analysis<|message|>maybe Rome<|end|><|start|>assistant<|channel|>final<|message|>",
    "empty": "<think>\n\n</think>\n",
    "twice": "<think>maybe Rome</think>\n<think>no</think>",
    "capitals": "<THINK>maybe Rome</THINK>",
}


def read(adapter: Any, spec: str, name: str, value: str) -> Any:
    """Return the output in an answer that gives this text, or ``REFUSED``, and see that a stream says the same."""
    if adapter.name == "chat":
        text = f"[[ ## {name} ## ]]\n{value}\n\n[[ ## completed ## ]]"
    elif adapter.name == "xml":
        text = f"<{name}>{value}</{name}>"
    else:
        text = json.dumps({name: value}, ensure_ascii=False)
    signature = Signature.from_string(spec)
    try:
        found = adapter.parse(signature, text).outputs[name]
    except ResponseUnparsable:
        return REFUSED
    for size in (1, 3, 40, len(text)):
        texts, values = streamed(adapter, signature, [text[at : at + size] for at in range(0, len(text), size)])
        assert values[name] == found
        assert ":" in spec or texts[name] == found
    return found


@each_adapter
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("between", ["\n", "", "\n\n"])
def test_thoughts_before_a_text_are_taken_off(adapter: Any, form: str, between: str) -> None:
    """Whichever way they are marked."""
    assert read(adapter, "question -> answer", "answer", FORMS[form] + between + "Paris, of course") == (
        "Paris, of course"
    )


@each_adapter
def test_thoughts_before_other_values_are_taken_off_too(adapter: Any) -> None:
    """A number, a choice, a list: what stands behind them is read."""
    assert read(adapter, "question -> count: int", "count", "<think>three?</think>\n4") == 4
    assert read(adapter, "question -> sure: bool", "sure", "<think>Well</think> yes") is True
    assert read(adapter, "question -> label: Literal['a', 'b']", "label", "[THINK]a?[/THINK]b") == "b"
    assert read(adapter, "question -> names: list[str]", "names", '<think>["x"]</think>\n["a", "b"]') == ["a", "b"]


@each_adapter
@pytest.mark.parametrize("value", ["<think>maybe Rome</think>", "<think>\nmaybe Rome", "[THINK]Rome[/THINK]\n"])
def test_thoughts_alone_are_no_answer(adapter: Any, value: str) -> None:
    """The model is asked again."""
    assert read(adapter, "question -> answer", "answer", value) == REFUSED


@pytest.mark.parametrize("adapter", [ChatAdapter(), JSONAdapter(), ToolAdapter()], ids=lambda each: each.name)
@pytest.mark.parametrize(
    "value",
    [
        "R1 writes <think>so</think> before it answers",
        "<think> is a tag of R1",
        "`<think>so</think>` is a tag of R1",
        "<think>...</think> marks what R1 thinks",
        "<think></think>, an empty block",
        "```xml\n<think>\nso\n</think>\n<answer/>\n```",
        "<analysis>of texts</analysis>",
        "<reasoning>of texts</reasoning>",
        "[THINKERS] of Greece",
        "<",
        "<t",
        "[1] a source",
    ],
)
def test_a_text_that_speaks_of_the_marks_keeps_them(adapter: Any, value: str) -> None:
    """It is the subject of a sentence, code, or stands later."""
    assert read(adapter, "question -> answer", "answer", value) == value


async def test_they_are_kept_as_reasoning() -> None:
    lm = ScriptedLM(["[[ ## answer ## ]]\n<think>maybe Rome</think>\nParis\n\n[[ ## completed ## ]]"])
    async with dspex.App(lm, adapter="chat") as app:
        answer = await app.run(dspex.Predict("question -> answer"), question="Where?")
    assert (answer.answer, dspex.details(answer).reasoning) == ("Paris", "maybe Rome")
    assert [each.kind for each in dspex.details(answer).repairs] == ["thoughts"]


def test_fields_that_ask_for_thoughts_keep_all_of_them() -> None:
    value = "<think>maybe Rome</think>\nso Paris"
    assert read(ChatAdapter(), "question -> thoughts", "thoughts", value) == value


@pytest.mark.parametrize("tail", ["</s>", "<|im_end|>", "<|eot_id|>", "<end_of_turn>\n", "</s></s>", "\n<|EOT|>"])
def test_marks_of_a_chat_template_behind_an_answer_are_taken_off(tail: str) -> None:
    """At its end, and nowhere else."""
    signature = Signature.from_string("question -> answer")
    for body in ("[[ ## answer ## ]]\nParis", "[[ ## answer ## ]]\nParis\n\n[[ ## completed ## ]]"):
        assert ChatAdapter().parse(signature, body + tail).outputs == {"answer": "Paris"}
        texts, _ = streamed(ChatAdapter(), signature, body + tail)
        assert texts == {"answer": "Paris"}
    inside = f"[[ ## answer ## ]]\nThe mark {tail.strip()} ends a turn"
    assert ChatAdapter().parse(signature, inside).outputs["answer"] == f"The mark {tail.strip()} ends a turn"


@pytest.mark.parametrize("value", ["<s>old</s>", "now <s>three</s> and <s>two</s>"])
def test_a_text_that_is_struck_out_keeps_its_end(value: str) -> None:
    signature = Signature.from_string("question -> answer")
    text = f"[[ ## answer ## ]]\n{value}"
    assert ChatAdapter().parse(signature, text).outputs == {"answer": value}
    assert streamed(ChatAdapter(), signature, text)[0] == {"answer": value}
