"""Parameters that servers refuse: learned from their refusals, and kept for the next calls of the same model."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from dspex.errors import RequestRejected
from dspex.protocols.lm import Capabilities, JsonObject, JsonSchema, LMRequest
from dspex.protocols.model import LM
from dspex.protocols.text_shapes import Grammar, TextChoice
from dspex.protocols.wire import Wire
from dspex.services.lm.wires.anthropic.wire import Anthropic
from dspex.services.lm.wires.chat.wire import OpenAIChat

__all__ = ["RefusedForms"]

_ABILITIES: Final = {JsonSchema: "json_schema", JsonObject: "json_object", TextChoice: "choices", Grammar: "grammar"}
"""The capability that each form of an answer takes."""


class RefusedForms:
    """
    Which abilities and parameters each model has refused; one App's own, and forgotten with it.

    A form of the answer that a server refuses is replaced by the next weaker one: a JSON schema by any JSON object, and
    that by the words of the prompt alone; so is a form of the text.
    """

    __slots__ = ("_refused", "size")

    def __init__(self) -> None:
        self._refused: dict[LM, set[str]] = {}
        self.size = 0
        """The amount learned so far."""

    def learn(self, lm: LM, wire: Wire, request: LMRequest, error: RequestRejected) -> str | None:
        """Return what ``lm`` has refused with this error, and is not asked for again; None where nothing helps."""
        parameter, sent = error.parameter, self.weaker(lm, wire, request)
        if parameter == "response_format" and sent.output is not None:
            refused = _ABILITIES[type(sent.output)]
        elif parameter == "max_tokens" and "max_completion_tokens" in str(error) and self.takes(lm, "max_tokens"):
            refused = "max_tokens"
        elif parameter == "tools" and request.tools:
            refused = "tools"
        else:
            return None
        self._refused.setdefault(lm, set()).add(refused)
        self.size = sum(map(len, self._refused.values()))
        return refused

    def takes(self, lm: LM, what: str) -> bool:
        """True when ``lm`` has not refused it."""
        return what not in self._refused.get(lm, ())

    def able(self, lm: LM, known: Capabilities) -> Capabilities:
        """Return what ``lm`` can do, less what it has refused."""
        if (all_refused := self._refused.get(lm)) is None:
            return known
        refused = all_refused & {*_ABILITIES.values(), "tools"}
        return replace(known, **dict.fromkeys(refused, False)) if refused else known

    def weaker(self, lm: LM, wire: Wire, request: LMRequest) -> LMRequest:
        """Return the request in the strongest form that ``lm`` has not refused."""
        output = request.output
        if isinstance(output, JsonSchema) and not self.takes(lm, "json_schema"):
            output = None if isinstance(wire, Anthropic) else JsonObject()  # that protocol has no word for it
        if output is not None and not self.takes(lm, _ABILITIES[type(output)]):
            output = None
        return request if output is request.output else replace(request, output=output)

    def wire(self, lm: LM, wire: Wire) -> Wire:
        """Return the wire that writes what ``lm`` takes."""
        if isinstance(wire, OpenAIChat) and not self.takes(lm, "max_tokens"):
            return replace(wire, length_field="max_completion_tokens")
        return wire
