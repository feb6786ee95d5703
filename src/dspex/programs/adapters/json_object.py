"""The JSON format: inputs under header lines, all outputs in one JSON object."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from dspex.programs._compile import Plan
from dspex.programs.adapters._adapter import Parsed, StreamParser, text_of
from dspex.programs.adapters._base import PromptAdapter
from dspex.programs.adapters._find_object import BEFORE_OBJECT
from dspex.programs.adapters._headers import escape, header
from dspex.programs.adapters._json_schema import output_schema
from dspex.programs.adapters._json_stream import JsonStream
from dspex.programs.adapters._prompt import Rendered, given_and_wanted, shown_inputs, slots
from dspex.programs.adapters._reading import read_object
from dspex.programs.adapters._thoughts import Thoughts
from dspex.programs.adapters._values import Codec, any_codec
from dspex.programs.adapters._words import form
from dspex.programs.fields import Field
from dspex.programs.signature import Signature, plan_of
from dspex.protocols.lm import Capabilities, Completion, JsonObject, LMRequest, Message
from dspex.protocols.model import LMParams

__all__ = ["JSONAdapter", "json_answer", "render_json"]


@dataclass(frozen=True, slots=True)
class JSONAdapter(PromptAdapter):
    """
    Asks for one JSON object with all outputs.

    A model that enforces schemas is given the signature's; one that only has a JSON mode is put into it; any other
    is told in words. A signature with open objects (``dict[str, Any]``) has no schema that could be enforced, so it
    gets the JSON mode.

    Reading: the JSON as it is, the one object in the text that has the outputs, JSON with slips; values as the other
    adapters read them. Texts are taken exactly, white space included.
    """

    name: ClassVar[str] = "json"
    asks_capabilities: ClassVar[bool] = True

    def request(
        self, signature: type[Signature], messages: tuple[Message, ...], params: LMParams, capabilities: Capabilities
    ) -> LMRequest:
        """Ask for the strictest form that the model can do."""
        plan = plan_of(signature)
        if not plan.outputs:
            return LMRequest(messages, params)
        schema, strict = output_schema(plan)
        if strict and capabilities.json_schema:
            return LMRequest(messages, params, output=schema)
        return LMRequest(messages, params, output=JsonObject() if capabilities.json_object else None)

    def parse(self, signature: type[Signature], completion: str | Completion) -> Parsed:
        """
        Read the outputs from the object in a completion; unknown keys are ignored, thoughts before it are taken off.

        Raises:
            ResponseUnparsable: Outputs without a default are missing, or have a value of another type.
        """
        return read_object(plan_of(signature), text_of(completion))

    def thoughts_of(self, signature: type[Signature]) -> Thoughts:
        """Return where thoughts end in an answer."""
        return BEFORE_OBJECT

    def stream_parser(self, signature: type[Signature]) -> StreamParser:
        """Return a parser for one answer."""
        return JsonStream(plan_of(signature))

    def missing_words(self, name: str) -> str:
        """Name the key."""
        return f"there was no key `{name}`"

    def render(self, plan: Plan) -> Rendered:
        """Return the texts of a signature that no value changes."""
        names = ", then ".join([f"`{each.name}` ({each.type_text})" for each in plan.outputs])
        tail = f"Answer with one JSON object and nothing else: {names}." if plan.outputs else ""
        layout = "{" + ", ".join([f'"{each.name}": {_form(each)}' for each in plan.outputs]) + "}"
        say = "Your answer is one JSON object with these keys, in this order, and nothing else:\n" + layout
        return render_json(plan, say if plan.outputs else "", tail)


def render_json(plan: Plan, how: str, tail: str) -> Rendered:
    """Return the rendered form of an adapter that reads inputs under headers and answers in JSON."""
    parts = given_and_wanted(plan, escape)
    shown = shown_inputs(plan)
    if shown:
        layout = "\n\n".join([f"{header(each.name)}{{{each.name}}}" for each in shown])
        parts.append("Each field you receive stands below a header line of its own:\n\n" + layout)
    if how:
        parts.append(how)
    parts.append("What to do:\n" + escape(plan.instructions))
    return Rendered(
        Message("system", "\n\n".join(parts)),
        slots(shown, header),
        slots(plan.outputs, lambda name: name),
        "\n\n" * bool(shown) + tail,
        escape,
        json_answer,
    )


def json_answer(rendered: Rendered, outputs: Mapping[str, object], _every: bool) -> str:
    """Write outputs as an object; an incomplete demonstration's has fewer keys."""
    written = [
        f'"{slot.name}": {_json_text(slot.codec, outputs[slot.name])}'
        for slot in rendered.outputs
        if slot.name in outputs
    ]
    return "{" + ", ".join(written) + "}"


def _json_text(codec: Codec, value: object) -> str:
    """Write a value as its field's type where it is one, else as JSON has it, else its text."""
    with contextlib.suppress(ValueError):  # labelled data need not fit; the model still learns from it
        return codec.write_json(value if type(value) is codec.exact else codec.check(value))
    with contextlib.suppress(ValueError):  # something inside of it has no JSON form
        if isinstance(value, (str, int, float, bool, list, dict)):
            return any_codec().write_json(value)
    return any_codec().write_json(str(value))


def _form(field: Field) -> str:
    """Say what a key's value looks like."""
    words = form(field)
    if not words or field.codec.in_words:
        return f"({words or field.type_text})"
    return f"({field.type_text}: {words})"
