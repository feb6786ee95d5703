"""An agent: it thinks, has tools called, sees what came of it, and answers when it knows enough."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Any, ClassVar, Generic, Literal, Unpack, overload

from typing_extensions import ParamSpec, TypeVar

from dspex.errors import AgentBudgetSpent, ContextTooLong, RequestRejected, ToolInvalid
from dspex.programs._agent_turns import NativeTurns, TextTurns, Turns, tools_in_words
from dspex.programs._agents import begin, checked_steps, with_conversation, with_trajectory
from dspex.programs._finish import FINISH, Finish
from dspex.programs.adapters._choose import DEFAULT_ADAPTER, AdapterChoice
from dspex.programs.chain_of_thought import ChainOfThought
from dspex.programs.fields import AnySignature, InputField, OutputField
from dspex.programs.inputs import InputSpec
from dspex.programs.module import Module
from dspex.programs.predict import Predict
from dspex.programs.prediction import Prediction
from dspex.programs.signature import Signature, build, make_class, plan_of, signature_of
from dspex.programs.tools.tool import Tool, as_tools
from dspex.programs.tools.trajectory import Trajectory
from dspex.protocols.model import LMChoice
from dspex.protocols.params import PredictorConfig
from dspex.protocols.scope import Scope

__all__ = ["ReAct"]

S = TypeVar("S")
P = ParamSpec("P", default=...)


class ReAct(Module, Generic[S, P]):
    """
    Answer with the help of tools: ``agent = dspex.ReAct("question -> answer", tools=[search, dspex.tool(pay)])``.

    In each step the model says what it thinks and which tools it wants called. Calls of one turn run side by side, each
    as a step of the request; results come back in the order of the calls. Failures of a tool, its errors and timeouts
    included, are shown to the model. When it is done, or out of steps, the answer is asked for from what it has seen.

    A model that can ask for tools by itself does so; every other one writes names and arguments as text. The
    predictors are ``react``, which chooses, and ``extract``, which answers; what was done is
    ``details(prediction).trajectory``.

    Args:
        signature: A Signature class, or a string such as ``"question -> answer"``.
        tools: Tools, or functions, methods, objects and Modules to be made into tools.
        max_steps: The number of times that the model may choose.
        extract: True to answer from the steps so far when they are spent, instead of raising.
        answer_in_finish: True when the model gives the outputs as the arguments of its finishing call, which saves the
            call that asks for them. It then answers without a prompt of its own for it, and not piece by piece.
        lm: A record, a name of the App's, or None for the App's default.
        adapter: The adapter, as for ``Predict``.
        config: Sampling parameters, as for ``Predict``.

    Raises:
        ToolInvalid: A function cannot be a tool, or two tools have one name.
        SignatureError: The string is not a signature, there is nothing to ask for, or a field is called ``trajectory``.
        ValueError: ``max_steps`` is not a positive number.
    """

    is_agent: ClassVar[bool] = True

    react: Predict
    extract: ChainOfThought[S, ...]
    tools: dict[str, Tool]

    @overload
    def __init__(
        self: ReAct[Prediction, ...],
        signature: str,
        tools: Iterable[object],
        *,
        max_steps: int = 10,
        extract: bool = True,
        answer_in_finish: bool = False,
        lm: LMChoice = None,
        adapter: AdapterChoice = None,
        **config: Unpack[PredictorConfig],
    ) -> None: ...

    @overload
    def __init__(
        self,
        signature: Callable[P, S],
        tools: Iterable[object],
        *,
        max_steps: int = 10,
        extract: bool = True,
        answer_in_finish: bool = False,
        lm: LMChoice = None,
        adapter: AdapterChoice = None,
        **config: Unpack[PredictorConfig],
    ) -> None: ...

    def __init__(
        self,
        signature: object,
        tools: Iterable[object],
        *,
        max_steps: int = 10,
        extract: bool = True,
        answer_in_finish: bool = False,
        lm: LMChoice = None,
        adapter: AdapterChoice = None,
        **config: Unpack[PredictorConfig],
    ) -> None:
        self.tools = as_tools(tools, "the agent")
        if FINISH in self.tools:
            raise ToolInvalid(FINISH, "the agent has a tool of this name of its own")
        answer: ChainOfThought[S, P] = ChainOfThought(signature_of(signature), lm=lm, adapter=adapter, **config)
        declared: AnySignature = answer.predict._declared  # noqa: SLF001 - the signature without the reasoning
        choosing = _choosing(declared, tuple(self.tools), answer_in_finish)
        self.react = Predict(choosing, lm=lm, adapter=adapter, **config)
        asked = answer.predict.signature.append("trajectory", InputField(desc="what was done to find out"), Trajectory)
        self.extract = answer.replace({"predict": answer.predict.with_signature(asked)})
        self.max_steps = checked_steps(max_steps)
        self.extracts = extract
        self._declared = declared
        self._finish = Finish.of(plan_of(declared) if answer_in_finish else None)
        self._tools_text = tools_in_words(self.tools.values(), self._finish)

    async def forward(self, *args: P.args, **kwargs: P.kwargs) -> S:
        """
        Work step by step, and return the answer as a record of the signature.

        Raises:
            MissingInput: Inputs are missing, unknown or of another type; nothing was asked.
            DepsError: ``options(deps=…)`` is not what a tool needs; nothing was asked.
            AgentBudgetSpent: All steps are taken, and ``extract`` is False.
            ContextTooLong: The conversation does not fit even without what the tools gave back.
            LMError, ResponseUnparsable, StreamInterrupted: As ``Predict.forward``.
        Cancellation: the running calls, of the model and of tools, are cancelled.
        """
        scope, inputs = begin("ReAct", plan_of(self._declared), args, kwargs)
        for tool in self.tools.values():
            tool.check_deps(scope.deps)
        turns = self._turns(scope, inputs)
        try:
            trajectory = await self._work(turns, scope)
        except RequestRejected as error:
            # The server refused tools at the first turn, and this is remembered: the model writes its calls as text.
            if error.parameter != "tools" or not turns.is_fresh or scope.capabilities(self.react.lm).tools:
                raise
            turns = self._turns(scope, inputs)
            trajectory = await self._work(turns, scope)
        if turns.given is None:
            return await self._answer(inputs, trajectory, scope)
        found = replace(turns.given.details, trajectory=trajectory)
        answer: S = build(self._declared, {**inputs, **turns.given.outputs}, found)
        return answer

    def _turns(self, scope: Scope, inputs: dict[str, object]) -> Turns:
        """Return how this model is asked for calls."""
        adapter = self.react.adapter or scope.adapter
        native = (adapter is None or adapter.native_tools) and scope.capabilities(self.react.lm).tools
        kind = NativeTurns if native else TextTurns
        told = with_conversation(self._declared, adapter or DEFAULT_ADAPTER, inputs)
        return kind(scope, self.react, self.tools, self._finish, self._tools_text, told)

    async def _work(self, turns: Turns, scope: Scope) -> Trajectory:
        """Let the model choose, and make its calls, until it is done or out of steps."""
        trajectory = Trajectory()
        for number in range(self.max_steps):
            while True:
                try:
                    trajectory = await turns.take(number, trajectory)
                    break
                except ContextTooLong as error:
                    trajectory = self._shorter(trajectory, scope, error)
            if trajectory.finished:
                return trajectory
        if not self.extracts:
            raise AgentBudgetSpent(plan_of(self._declared).name, self.max_steps, trajectory)
        return trajectory

    def _shorter(self, trajectory: Trajectory, scope: Scope, error: ContextTooLong) -> Trajectory:
        """Return it without its oldest observations, and tell; where none is left, raise the error."""
        shorter = trajectory.shortened()
        if shorter is None:
            raise error
        scope.note_repair(plan_of(self._declared).name, "trajectory", "shortened")
        return shorter

    async def _answer(self, inputs: dict[str, object], trajectory: Trajectory, scope: Scope) -> S:
        while True:
            try:
                prediction = await self.extract.forward(**inputs, trajectory=trajectory)
                break
            except ContextTooLong as error:
                trajectory = self._shorter(trajectory, scope, error)
        answer: S = with_trajectory(prediction, trajectory)
        return answer

    def input_spec(self) -> InputSpec:
        """Return the inputs that ``forward`` takes, as ``Module.input_spec``."""
        return plan_of(self._declared).input_spec

    def __repr__(self) -> str:
        return f"ReAct({plan_of(self._declared).name}, tools=[{', '.join(self.tools)}], max_steps={self.max_steps})"


def _choosing(declared: object, tools: tuple[str, ...], answer_in_finish: bool) -> AnySignature:
    """Return the signature that asks for the next step: the inputs, what was done, and what to do next."""
    plan = plan_of(declared)
    wanted = ", ".join(f"`{each.name}`" for each in plan.outputs)
    how = f" with {wanted} as its arguments." if answer_in_finish else f"; {wanted} will be asked for afterwards."
    instructions = (
        f"{plan.instructions}\n\nFind out what is needed for {wanted}, step by step, with the help of tools. In each "
        f"step, think about what you know and what is missing, then have a tool called. Do not guess what a tool can "
        f"tell. As soon as you know enough, call `{FINISH}`{how}"
    )
    signature = make_class(plan.name, (Signature,), plan.inputs, instructions, declared.__module__)
    names: object = Literal[(*tools, FINISH)]
    asked: AnySignature = (
        signature.append("trajectory", InputField(desc="what was done so far"), Trajectory)
        .append("next_thought", OutputField(desc="what you know, and what to do next"), str)
        .append("next_tool_name", OutputField(), names)
        .append("next_tool_args", OutputField(desc="the tool's arguments by name"), dict[str, Any])
    )
    return asked
