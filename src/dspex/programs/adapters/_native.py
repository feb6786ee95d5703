"""
Abilities of a model that replace text in the prompt: it calls tools, and tells its reasoning.

Fields that stand for such a thing are taken out of the prompt where the model can do it, and put back into the
answer; citations are asked for, and replaced by the provider's own where it names some.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import cast, get_args, get_origin

from dspex.errors import ResponseUnparsable
from dspex.programs._compile import Plan
from dspex.programs.adapters._adapter import Adapter, Parsed, Repair
from dspex.programs.adapters._call_arguments import read_arguments
from dspex.programs.adapters._calls_in_words import asked_in_words
from dspex.programs.adapters._exact_json import exact_json
from dspex.programs.adapters._prompt import NATIVE_CALLS
from dspex.programs.adapters._types import without_none
from dspex.programs.fields import Field
from dspex.programs.signature import Signature, make_class, plan_of
from dspex.programs.types.citations import Citations
from dspex.programs.types.reasoning import Reasoning
from dspex.programs.types.tool_calls import ToolCalls
from dspex.protocols.call_shapes import calls_in_text
from dspex.protocols.content import ToolCall
from dspex.protocols.lm import Capabilities, Completion, LMRequest, ToolSpec
from dspex.protocols.marked_calls import words_before_calls
from dspex.protocols.scope import FieldValues

__all__ = ["Native", "has_native_fields", "native_of"]


@dataclass(frozen=True, slots=True)
class Native:
    """
    The parts of one call that are left to the model's own abilities.

    Attributes:
        signature: The signature that the prompt asks for.
        tools: The input whose tools the model is given; empty when it is given none.
        calls: The output that holds the calls it asks for.
        reasoning: The output that is its own reasoning; empty when that is asked for or not wanted.
        citations: The output that the provider's own citations replace.
        is_typed: False where the reasoning is a plain text, which only some adapters leave to the model.
        in_words: True when tools and calls are text: the model's server enforces what is written.
    """

    signature: type[Signature]
    tools: str = ""
    calls: str = ""
    reasoning: str = ""
    citations: str = ""
    in_words: bool = False
    is_typed: bool = True

    def specs(self, inputs: FieldValues) -> tuple[ToolSpec, ...]:
        """Return the tools as the model is told of them."""
        given = inputs.get(self.tools) if self.tools else None
        return tuple([each if isinstance(each, ToolSpec) else each.spec for each in given or ()])

    def with_tools(self, request: LMRequest, inputs: FieldValues) -> LMRequest:
        """Return a request that tells the model of its tools, and may have it call them."""
        if not self.tools:
            return request
        specs = self.specs(inputs)
        return asked_in_words(request, specs) if self.in_words else replace(request, tools=specs, tool_choice="auto")

    def read(self, adapter: Adapter, completion: Completion, tools: Collection[str] = ()) -> Parsed:
        """
        Read an answer; where it is calls, alone or with a few words before them, the other outputs stay unset.

        Small models write their calls as text, which their servers do not always notice: an answer that is nothing
        else is read as such calls.

        Args:
            adapter: Reads the other outputs.
            completion: The answer.
            tools: The names of the tools that the model was given.

        Raises:
            ResponseUnparsable: As ``adapter.parse``; a call that was written as text is of no tool; or a call's
                arguments cannot be read, and no repair of them is certain.
        """
        written: tuple[ToolCall, ...] = ()
        if self.calls and tools and not completion.tool_calls:
            written = written_calls(completion.text) or tuple(
                [
                    ToolCall(f"call_{number}", name, arguments, raw)
                    for number, (name, raw, arguments) in enumerate(calls_in_text(completion.text, tools), 1)
                ]
            )
            if unknown := [each.name for each in written if each.name not in tools]:
                problem = f"there is no tool {unknown[0][:60]!r}; there are {', '.join(tools)}"
                raise ResponseUnparsable(plan_of(self.signature).name, completion.text, (), {self.calls: problem})
            if written:
                completion = replace(completion, text=words_before_calls(completion.text), tool_calls=written)
            elif self._may_be_calls(completion.text.strip(), tools):
                problem = 'there is no call in it: {"name": ..., "arguments": {...}}'
                raise ResponseUnparsable(plan_of(self.signature).name, completion.text, (), {self.calls: problem})
        is_repaired = bool(written) and not self.in_words
        if self.calls and completion.tool_calls:
            read, had_repairs = self._readable(completion)
            completion, is_repaired = replace(completion, tool_calls=read), is_repaired or had_repairs
        has_calls = bool(self.calls and completion.tool_calls)
        words = completion.text.strip() if has_calls else ""
        try:
            is_preamble = self.is_preamble(adapter, completion)
            parsed = self._unset() if is_preamble else adapter.parse(self.signature, completion)
        except ResponseUnparsable:
            if not has_calls:
                raise
            parsed = self._unset()  # a preamble of the calls is not an output: it stays with them
        own: dict[str, object] = {}
        if self.calls:
            words = words if words and parsed.outputs == self._unset().outputs else ""
            own[self.calls] = ToolCalls(completion.tool_calls, words)
        if self.reasoning:
            thoughts = "\n\n".join(each.text for each in completion.reasoning if each.text)
            own[self.reasoning] = Reasoning(thoughts) if self.is_typed else thoughts
        if self.citations and completion.citations:
            own[self.citations] = Citations(completion.citations)
        repairs = (*parsed.repairs, Repair(self.calls, "json")) if is_repaired else parsed.repairs
        return Parsed({**parsed.outputs, **own}, repairs, parsed.thoughts)

    def _may_be_calls(self, text: str, tools: Collection[str]) -> bool:
        """Tell whether a text that is not a call looks like one, where there is nothing else that it could say."""
        if not (self.in_words or not plan_of(self.signature).outputs) or text in ("[]", "{}"):
            return False
        return text[:1] in _BEGIN or any(text.startswith(f"{name}(") or f'"{name}"' in text for name in tools)

    def is_preamble(self, adapter: Adapter, completion: Completion) -> bool:
        """Tell whether the text of an answer that calls tools is nothing, or words that do not say which output."""
        if not (self.calls and completion.tool_calls):
            return False
        is_bare = getattr(adapter, "is_bare", None)  # an adapter of the user's own need not have it
        return not completion.text.strip() or (is_bare is not None and is_bare(self.signature, completion))

    def _readable(self, completion: Completion) -> tuple[tuple[ToolCall, ...], bool]:
        """Return the calls with arguments that can be used, and whether that took a repair: as agents read them."""
        found: list[ToolCall] = []
        problems: list[str] = []
        has_repairs = False
        for call in completion.tool_calls:
            if call.data.get("custom"):  # of a tool that takes a text
                found.append(call)
                continue
            try:
                arguments, is_repaired = read_arguments(call)
            except ValueError as error:
                problems.append(f"arguments of {call.name[:60]!r}: {error}; they were {call.raw[:200]!r}")
                continue
            if call.arguments is None:
                given = dict(arguments)
                call = replace(call, arguments=given, raw=json.dumps(given, ensure_ascii=False))
            has_repairs = has_repairs or is_repaired
            found.append(call)
        if problems:
            problem = "; ".join(problems[:_MOST_PROBLEMS])
            raise ResponseUnparsable(plan_of(self.signature).name, completion.text, (), {self.calls: problem})
        return tuple(found), has_repairs

    def _unset(self) -> Parsed:
        fields = plan_of(self.signature).outputs
        return Parsed({each.name: each.make_default() for each in fields if each.has_default or each.optional}, ())


_MOST_PROBLEMS = 8
"""Calls whose problem is told at once."""
_FENCED = re.compile(r"```\w*\n(.*)\n```|<tool_call>(.*)</tool_call>", re.DOTALL)
_ARGUMENTS = ("arguments", "args", "parameters")
_BEGIN = ("{", "[", "`", "<")
_MOST = 8_000
"""Characters of calls that are written as text."""


def written_calls(text: str) -> tuple[ToolCall, ...]:
    """Return the calls that a text is and nothing else, as JSON, in a fence or in Qwen's tags; none otherwise."""
    bare = text.strip()
    if len(bare) > _MOST or bare[:1] not in _BEGIN:
        return ()
    fenced = _FENCED.fullmatch(bare)
    try:
        found = exact_json((fenced[1] or fenced[2]) if fenced is not None else bare)
    except (ValueError, RecursionError):
        return ()
    calls = []
    for number, each in enumerate(found if isinstance(found, list) else [found], 1):
        arguments = next((each[key] for key in _ARGUMENTS if key in each), None) if isinstance(each, dict) else None
        if not isinstance(arguments, dict) or not isinstance(each.get("name"), str) or len(each) != 2:
            return ()
        raw = json.dumps(arguments, ensure_ascii=False)
        calls.append(ToolCall(f"call_{number}", each["name"], arguments, raw))
    return tuple(calls)


def has_native_fields(plan: Plan) -> bool:
    """Tell whether a signature has a field that a model might fill by itself; worked out once."""
    known: bool | None = plan.rendered.get(has_native_fields)
    if known is None:
        known = plan.rendered[has_native_fields] = any(
            without_none(each.annotation) in (ToolCalls, Reasoning, Citations) for each in plan.outputs
        )
    return known


def native_of(
    signature: type[Signature], adapter: Adapter, capabilities: Capabilities, effort: str | None
) -> Native | None:
    """
    Return what this model is to do by itself; None where everything is asked for in the prompt.

    Args:
        signature: The predictor's.
        adapter: Its format.
        capabilities: The model's.
        effort: Of thinking, as the call will have it; None where nobody names one.
    """
    plan = plan_of(signature)
    reasons = capabilities.reasoning and effort != "none"
    calls = adapter.native_tools and capabilities.tools
    tools_in_words = getattr(adapter, "tools_in_words", None)  # adapters of users need not have it
    in_words = calls and tools_in_words is not None and tools_in_words(capabilities)
    # Only a model that is asked to think surely does: thoughts in words would be its second ones.
    thinks = reasons and effort is not None and getattr(adapter, "native_thoughts", False)
    key = (native_of, reasons, calls, in_words, thinks)
    if key not in plan.rendered:
        made = _make(signature, plan, reasons=reasons, calls=calls, in_words=in_words, thinks=thinks)
        plan.rendered[key] = made
    return cast("Native | None", plan.rendered[key])


def _make(
    signature: type[Signature], plan: Plan, *, reasons: bool, calls: bool, in_words: bool, thinks: bool
) -> Native | None:
    found: dict[str, str] = {}
    tools = next((each.name for each in plan.inputs if _is_tools(each)), "")
    for each in plan.outputs:
        kind = without_none(each.annotation)
        if kind is ToolCalls and calls and tools:
            found |= {"tools": tools, "calls": each.name}
        elif (kind is Reasoning and reasons) or (thinks and _is_thoughts(plan, each)):
            found["reasoning"] = each.name
        elif kind is Citations:
            found["citations"] = each.name
    if not found:
        return None
    taken = {name for role, name in found.items() if role != "citations"}
    kept = tuple([each for each in plan.fields.values() if each.name not in taken])
    native = Native(
        signature,
        found.get("tools", ""),
        found.get("calls", ""),
        found.get("reasoning", ""),
        found.get("citations", ""),
    )
    if native.reasoning:
        native = replace(native, is_typed=without_none(plan.fields[native.reasoning].annotation) is Reasoning)
    if not taken:
        return native
    instructions = plan.instructions if plan.authored else ""
    asked = make_class(plan.name, (Signature,), kept, instructions, signature.__module__)
    plan_of(asked).rendered[NATIVE_CALLS] = found.get("calls", "")
    is_all = not any(each.role == "output" for each in kept)  # else the answer may be calls or something else
    return replace(native, signature=asked, in_words=in_words and is_all and bool(native.calls))


def _is_thoughts(plan: Plan, field: Field) -> bool:
    """Tell whether a field is the plain reasoning before all other outputs, as ``ChainOfThought`` adds it."""
    is_first = field is plan.outputs[0] and len(plan.outputs) > 1
    return is_first and field.name == "reasoning" and field.annotation is str


def _is_tools(field: Field) -> bool:
    """Tell whether a field is a list of tools: of ToolSpecs, or of what has a ``spec``."""
    annotation = without_none(field.annotation)
    if get_origin(annotation) is None:
        return False
    of = [get_origin(each) or each for each in get_args(annotation)[:1]]  # Tool[..., Any] is a Tool
    return bool(of) and isinstance(of[0], type) and (issubclass(of[0], ToolSpec) or hasattr(of[0], "spec"))
