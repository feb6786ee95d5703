"""Which form of a text a server is asked to hold the model to: where it is exact, small enough, and harmless."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from dspex.programs._compile import Plan
from dspex.programs.adapters._grammar import WHOLE_NUMBER, chat_grammar
from dspex.programs.adapters._types import plain_type
from dspex.programs.adapters._values import ChoiceCodec, NumberCodec
from dspex.protocols.lm import Capabilities, JsonObject, JsonSchema, LMRequest
from dspex.protocols.model import LMParams
from dspex.protocols.text_shapes import Grammar, TextChoice, fits

__all__ = ["chat_form", "ended_at", "enforced_by", "value_form"]

TextForm = TextChoice | Grammar | None


def value_form(plan: Plan, spell: Callable[[str], str], params: LMParams, able: Capabilities) -> TextForm:
    """
    Return the form of an answer that is one value alone: its choices, or a whole number.

    Args:
        plan: The signature's.
        spell: Returns the answer that says a choice.
        params: How the model is asked.
        able: The model's capabilities.
    """
    if not _is_harmless(params, able):
        return None
    codec = plan.outputs[0].codec
    if able.choices and isinstance(codec, ChoiceCodec) and fits(codec.texts):
        return TextChoice(tuple(map(spell, codec.texts)))
    kind = plain_type(codec.annotation) if isinstance(codec, NumberCodec) else None
    if able.choices and kind is bool:
        return _TRUTH
    if able.grammar and kind is int:
        return WHOLE_NUMBER
    return None


_TRUTH: Final = TextChoice(("True", "False"))


def enforced_by(request: LMRequest) -> str:
    """Return in words what a request asks the server to hold the answer to; empty where the answer is free."""
    output = request.output
    if isinstance(output, TextChoice):
        return f"one of {len(output.texts)} texts"
    words: dict[type, str] = {Grammar: "a grammar", JsonSchema: "a JSON schema", JsonObject: "a JSON object"}
    return words.get(type(output), "")


def chat_form(plan: Plan, params: LMParams, able: Capabilities) -> TextForm:
    """Return the form of a chat answer."""
    if not able.grammar or not _is_harmless(params, able):
        return None
    if chat_form not in plan.rendered:  # made once
        plan.rendered[chat_form] = chat_grammar(plan)
    found: Grammar | None = plan.rendered[chat_form]
    return found


def ended_at(mark: str, params: LMParams, able: Capabilities) -> LMParams:
    """Return the parameters with one more stop sequence, so that nothing is paid after the answer."""
    if not able.stop or len(params.stop) >= _MOST_STOPS or not _is_harmless(params, able):
        return params
    return params.merged({"stop": (*params.stop, mark)})


_MOST_STOPS: Final = 4
"""More are refused by servers that speak OpenAI's protocol."""


def _is_harmless(params: LMParams, able: Capabilities) -> bool:
    """A model that thinks before it answers would be kept from thinking: a form holds from the first token on."""
    return not able.reasoning and params.reasoning in (None, "none")
