"""The tool format: inputs under header lines, the outputs as the arguments of one tool that must be called."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import ClassVar

from dspex.programs._compile import Plan
from dspex.programs.adapters._adapter import Parsed, StreamParser
from dspex.programs.adapters._base import PromptAdapter
from dspex.programs.adapters._find_object import BEFORE_OBJECT
from dspex.programs.adapters._json_schema import output_schema
from dspex.programs.adapters._json_stream import JsonStream
from dspex.programs.adapters._prompt import Rendered
from dspex.programs.adapters._reading import read_object
from dspex.programs.adapters._thoughts import Thoughts
from dspex.programs.adapters.json_object import JSONAdapter, render_json
from dspex.programs.signature import Signature, plan_of
from dspex.protocols.lm import Capabilities, Completion, LMDelta, LMRequest, Message, ToolSpec
from dspex.protocols.model import LMParams

__all__ = ["ToolAdapter"]

_TOOL = "give_outputs"


@dataclass(frozen=True, slots=True)
class ToolAdapter(PromptAdapter):
    """
    Has the model give its outputs as the arguments of a tool call.

    For models that call tools better than they write a format. One that cannot call tools is asked for the same
    object as text. Tools of the signature itself are described in the prompt: the one native call is the answer's.
    """

    name: ClassVar[str] = "tool"
    native_tools: ClassVar[bool] = False
    asks_capabilities: ClassVar[bool] = True

    def request(
        self, signature: type[Signature], messages: tuple[Message, ...], params: LMParams, capabilities: Capabilities
    ) -> LMRequest:
        """Name the one tool, and ask for its call."""
        if not capabilities.tools:
            return JSONAdapter().request(signature, messages, params, capabilities)
        schema, _ = output_schema(plan_of(signature))
        tool = ToolSpec(_TOOL, "Give the outputs.", schema.schema)
        return LMRequest(messages, params, tools=(tool,), tool_choice=_TOOL)

    def parse(self, signature: type[Signature], completion: str | Completion) -> Parsed:
        """
        Read the outputs from the call's arguments, or from an object in the text where there is no call.

        Raises:
            ResponseUnparsable: Outputs without a default are missing, or have a value of another type; or there are
                several calls that differ.
        """
        return read_object(plan_of(signature), _arguments(completion))

    def thoughts_of(self, signature: type[Signature]) -> Thoughts:
        """Return where thoughts end in an answer."""
        return BEFORE_OBJECT

    def stream_text(self, delta: LMDelta) -> str:
        """Return what was added to the arguments of the first call, or to the text."""
        return delta.arguments if delta.tool == 0 else "" if delta.tool is not None else delta.text

    def stream_parser(self, signature: type[Signature]) -> StreamParser:
        """Return a parser for one answer."""
        return JsonStream(plan_of(signature))

    def missing_words(self, name: str) -> str:
        """Name the argument."""
        return f"there was no `{name}`"

    def render(self, plan: Plan) -> Rendered:
        """Return the texts of a signature that no value changes."""
        names = ", then ".join([f"`{each.name}` ({each.type_text})" for each in plan.outputs])
        how = (
            f"Give your answer by calling the tool `{_TOOL}`, or as one JSON object where you cannot, and say no more."
        )
        return render_json(plan, how, f"Now give {names}.")


def _arguments(completion: str | Completion) -> str:
    if isinstance(completion, str):
        return completion
    calls = [call for call in completion.tool_calls if call.name == _TOOL] or completion.tool_calls
    written = [call.raw or json.dumps(call.arguments, ensure_ascii=False) for call in calls]
    return "\n".join(written) if written else completion.text  # several calls count if they say the same
