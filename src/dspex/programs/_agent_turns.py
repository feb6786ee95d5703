"""One turn of an agent: the model chooses, its calls are made. With native tool calls, or in a predictor's text."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from dspex.errors import BudgetExceeded, RequestRejected, ResponseIncomplete, ResponseInvalid
from dspex.programs._finish import DONE, FINISH, Finish, Given
from dspex.programs._whole import MAX_PAUSES, incomplete, joined, larger, shorter_turns
from dspex.programs.adapters._base import rendered_of
from dspex.programs.adapters._choose import DEFAULT_ADAPTER
from dspex.programs.adapters._prompt import field_list, history_messages, sections, shown_inputs, user_turn
from dspex.programs.adapters.auto import AutoAdapter
from dspex.programs.adapters.chat import ChatAdapter
from dspex.programs.details import Details, tell_call
from dspex.programs.fields import AnySignature
from dspex.programs.predict import Predict
from dspex.programs.signature import Signature, make_class, plan_of
from dspex.programs.tools.calling import call_side_by_side, call_tool
from dspex.programs.tools.tool import Tool
from dspex.programs.tools.trajectory import Observation, ToolStep, Trajectory
from dspex.protocols.call_shapes import calls_in_text
from dspex.protocols.content import ToolCall, ToolResult
from dspex.protocols.lm import Completion, LMRequest, Message
from dspex.protocols.marked_calls import words_before_calls
from dspex.protocols.scope import LMResult, Scope

__all__ = ["NativeTurns", "TextTurns", "Turns", "tools_in_words"]

_MAX_REPAIRS = 2
"""The number of times one turn that was cut off or empty is asked for again, beside the larger allowance."""
_NUDGE = f"Your answer was empty. Call a tool, or `{FINISH}` when you know enough."
_HIDDEN = frozenset({"trajectory", "next_thought", "next_tool_name", "next_tool_args"})


class Turns(ABC):
    """
    The question to a model about its next action, in one run of an agent.

    Args:
        scope: The running request's.
        react: The predictor that chooses.
        tools: By name.
        finish: The tool that ends it.
        tools_text: All of them in words.
        inputs: The agent's.

    Attributes:
        given: The answer, where the model gave it with its finishing call.
    """

    def __init__(
        self,
        scope: Scope,
        react: Predict,
        tools: Mapping[str, Tool[..., object]],
        finish: Finish,
        tools_text: str,
        inputs: Mapping[str, object],
    ) -> None:
        self.given: Given | None = None
        self._scope = scope
        self._react = react
        self._tools = tools
        self._finish = finish
        self._inputs = inputs
        self._prepare(tools_text)

    @property
    def is_fresh(self) -> bool:
        """True when the model has been offered tools as tools, and has not answered yet."""
        return False

    @abstractmethod
    def _prepare(self, tools_text: str) -> None:
        """Compose what is the same in every turn."""

    @abstractmethod
    async def take(self, number: int, trajectory: Trajectory) -> Trajectory:
        """
        Ask, make the calls, and return the trajectory with their steps; ``finished`` when the model is done.

        Raises:
            ContextTooLong: The model was not asked: the trajectory is too long for it.
        Cancellation: running calls are cancelled.
        """

    def _end(self, call: ToolCall, asked: Details, thought: str) -> Observation:
        """Take a finishing call of the answer ``asked``; the first that brings outputs stands."""
        seen, parsed = self._finish.take(call)
        if parsed is not None and self.given is None:
            for repair in parsed.repairs:
                self._scope.note_repair(FINISH, repair.field, repair.kind)
            extras = {"reasoning": thought} if thought and "reasoning" not in parsed.outputs else {}
            repairs = (*asked.repairs, *parsed.repairs)
            self.given = Given(parsed.outputs, replace(asked, repairs=repairs, completions=(), extras=extras))
        return seen


class TextTurns(Turns):
    """One call per turn, written as the outputs of the predictor; for models that cannot ask for tools."""

    def _prepare(self, tools_text: str) -> None:
        known = plan_of(self._react.signature).rendered
        key = (TextTurns, tools_text)
        if key not in known:
            known[key] = _with_tools(self._react.signature, tools_text)
        self._react = self._react.with_signature(known[key])

    async def take(self, number: int, trajectory: Trajectory) -> Trajectory:
        """Ask for one call, and make it; cancellation: it is cancelled."""
        chosen = await self._react.forward(**self._inputs, trajectory=trajectory)
        call = ToolCall(f"call_{number + 1}", chosen.next_tool_name, chosen.next_tool_args)
        if call.name != FINISH:
            seen = await call_tool(self._tools, call, self._scope)
            return trajectory.with_steps(ToolStep(chosen.next_thought, call, seen, number))
        seen = self._end(call, chosen._details_, chosen.next_thought)
        return trajectory.with_steps(ToolStep(chosen.next_thought, call, seen, number), finished=seen.error is None)


class NativeTurns(Turns):
    """Calls as the provider's own tool calls: what the model asked for and got stays a conversation."""

    def _prepare(self, tools_text: str) -> None:
        react = self._react
        self._path = self._scope.path_of(react) or plan_of(react.signature).name
        self._specs = (*[tool.spec for tool in self._tools.values()], self._finish.spec)
        self._opening = _opening(react, self._inputs, react.adapter or self._scope.adapter or DEFAULT_ADAPTER)
        self._answers: list[Completion] = []
        params = react.params
        self._params = params.merged({"n": 1}) if params.n not in (None, 1) else params

    @property
    def is_fresh(self) -> bool:
        """True when there is no answer yet."""
        return not self._answers

    async def take(self, number: int, trajectory: Trajectory) -> Trajectory:
        """
        Ask for calls, and make them side by side; a turn of text alone is the last.

        Raises:
            ResponseIncomplete: The answer was cut off, with a larger allowance and as a shorter one too; no call of it
                was made.
            ResponseInvalid: It was empty, again and again.
        Cancellation: running calls are cancelled.
        """
        messages = (*self._opening, *_conversation(self._answers, trajectory))
        results: list[LMResult] = []
        answer = await self._observed(messages, results)
        calls = answer.tool_calls or (ToolCall(f"call_{number + 1}", FINISH, {}),)
        thought = answer.text.strip() or "\n\n".join(each.text for each in answer.reasoning if each.text)
        self._record(trajectory, thought, calls)
        self._answers.append(answer)
        asked = Details(self._path, messages, tuple(results), completion=answer, tools=self._specs, _scope=self._scope)
        made = await self._make(calls, asked, thought) if answer.tool_calls else [DONE]
        steps = [
            ToolStep(thought if at == 0 else "", call, seen, number)
            for at, (call, seen) in enumerate(zip(calls, made, strict=True))
        ]
        finished = any(step.call.name == FINISH and step.observation.error is None for step in steps)
        return trajectory.with_steps(*steps, finished=finished)

    async def _observed(self, messages: tuple[Message, ...], results: list[LMResult]) -> Completion:
        """Ask as a predictor does, for whoever watches: what is asked is the conversation so far."""
        telemetry = self._scope.telemetry
        if telemetry is None or not telemetry.active:
            return await self._ask(messages, results)
        about = {"predictor": self._path, "signature": plan_of(self._react.signature).name}
        with telemetry.within("dspex.predictor", about, messages) as span:
            span.outputs = answer = await self._ask(messages, results)
            tell_call(span, Details(self._path, messages, tuple(results), completion=answer))
            return answer

    async def _ask(self, messages: tuple[Message, ...], results: list[LMResult]) -> Completion:
        """Ask until an answer is whole and not empty, or no further try helps; ``results`` gets what was answered."""
        turns_left = self._react.repair_turns and _MAX_REPAIRS
        may_grow = turns_left > 0
        params, paused, asked = self._params, list[Completion](), messages
        name = plan_of(self._react.signature).name
        cut: ResponseIncomplete | None = None
        while True:
            request = LMRequest(asked, params, tools=self._specs)
            try:
                result = await self._scope.complete(request, lm=self._react.lm, step=self._path)
            except (RequestRejected, BudgetExceeded) as error:
                if cut is None:
                    raise
                raise cut from error  # only what was asked for again is refused
            results.append(result)
            answer = result.response.completions[0]
            if answer.end == "paused" and len(paused) < MAX_PAUSES:
                paused.append(answer)
                asked = (*asked, answer.turn())
                continue
            if answer.end != "whole":
                self._scope.reject(result)
                cut = incomplete(name, result, answer)
                allowance = larger(request, result) if may_grow else None
                if allowance is not None:
                    may_grow, params, asked = False, params.merged({"max_tokens": allowance}), messages
                elif turns_left > 0:
                    turns_left -= 1
                    asked = (*messages, *shorter_turns(answer))
                else:
                    raise cut
                self._scope.note_repair(name, "", "turn")
                paused.clear()
                continue
            answer = joined(paused, answer) if paused else answer
            if answer.tool_calls or answer.text.strip():
                return self._with_written_calls(answer)
            if turns_left <= 0:
                raise ResponseInvalid(f"the model answered {name} with neither text nor a call, again and again")
            turns_left -= 1
            self._scope.reject(result)
            self._scope.note_repair(name, "", "turn")
            asked = (*messages, Message("user", _NUDGE))

    def _with_written_calls(self, answer: Completion) -> Completion:
        """
        Return an answer with the calls that stand in its text, for models whose server does not read them.

        A call that the model only thought of is not one.
        """
        if answer.tool_calls:
            return answer
        spoken = ChatAdapter().thoughts_of(self._react.signature).apart(answer)
        written = calls_in_text(spoken.text, {*self._tools, FINISH})
        if not written:
            return answer
        place = len(self._answers)
        calls = [ToolCall(f"written_{place}_{at}", name, given, raw) for at, (name, raw, given) in enumerate(written)]
        self._scope.note_repair(plan_of(self._react.signature).name, "", "written calls")
        words = words_before_calls(spoken.text)
        return replace(spoken, text=words, tool_calls=tuple(calls), finish_reason="tool_calls")

    async def _make(self, calls: Sequence[ToolCall], asked: Details, thought: str) -> list[Observation]:
        """Make the calls side by side; what came of them in their order."""
        real = [call for call in calls if call.name != FINISH]
        seen = iter(await call_side_by_side(self._tools, real, self._scope) if real else ())
        return [self._end(call, asked, thought) if call.name == FINISH else next(seen) for call in calls]

    def _record(self, trajectory: Trajectory, thought: str, calls: Sequence[ToolCall]) -> None:
        for call in calls:
            chosen = {"next_tool_name": call.name, "next_tool_args": dict(call.arguments or {})}
            inputs = {**self._inputs, "trajectory": trajectory}
            self._scope.record(self._react, inputs, {"next_thought": thought, **chosen})


def tools_in_words(tools: Iterable[Tool[..., object]], finish: Finish) -> str:
    """Return the tools as a prompt describes them to a model that is not told of them otherwise."""
    lines = [
        f"- `{spec.name}`: {_on_one_line(spec.description) or 'no description'}\n"
        f"  arguments: {json.dumps(spec.parameters, ensure_ascii=False)}"
        for spec in (*[tool.spec for tool in tools], finish.spec)
    ]
    return "The tools, each with the JSON schema of its arguments:\n" + "\n".join(lines)


def _on_one_line(text: str) -> str:
    return " ".join(text.split())


def _with_tools(signature: type[Signature], tools_text: str) -> AnySignature:
    return signature.with_instructions(f"{plan_of(signature).instructions}\n\n{tools_text}")


def _opening(react: Predict, inputs: Mapping[str, object], adapter: object) -> tuple[Message, ...]:
    """Return the turns before the first answer, in an adapter's words: instructions, earlier turns, inputs."""
    plan = plan_of(react.signature)
    if NativeTurns not in plan.rendered:
        kept = tuple(each for each in plan.inputs if each.name not in _HIDDEN)
        plan.rendered[NativeTurns] = make_class(plan.name, (Signature,), kept, plan.instructions, __name__)
    asked = plan_of(plan.rendered[NativeTurns])
    form = adapter if isinstance(adapter, AutoAdapter) else ChatAdapter()
    rendered = rendered_of(form, asked)
    system = plan.instructions
    shown = shown_inputs(asked)
    if isinstance(form, AutoAdapter):
        system = rendered.system.text
    elif shown:
        system += "\n\nYou receive these fields:\n" + field_list(shown, rendered.escape)
    examples = [message.text for message in form.prefix(react.signature, react.demos)[1:]]
    if examples:
        system += "\n\nExamples of single steps, written as text:\n\n" + "\n\n".join(examples)
    turns = history_messages(rendered, inputs)
    return (Message("system", system), *turns, user_turn(sections(rendered, inputs)))


def _conversation(answers: Sequence[Completion], trajectory: Trajectory) -> list[Message]:
    """Return what was said since: each answer with its calls, and the results that the model is still shown."""
    results: dict[int, list[ToolResult]] = {}
    for step in trajectory:
        error = step.observation.error is not None
        result = ToolResult(step.call.id, step.call.name, step.shown, is_error=error and not step.left_out)
        results.setdefault(step.turn, []).append(result)
    messages: list[Message] = []
    for turn, answer in enumerate(answers):
        messages += [answer.turn(), Message("tool", tuple(results.get(turn, ())))]
    return messages
