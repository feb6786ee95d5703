"""Answering by code: the model writes a program, a sandbox runs it, and the answer is read from what it gave."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Generic, Unpack, overload

from typing_extensions import ParamSpec, TypeVar

from dspex.errors import CodeFailed, StepCrashed
from dspex.programs._agents import begin, checked_steps, with_conversation, with_trajectory
from dspex.programs.adapters._choose import DEFAULT_ADAPTER, AdapterChoice
from dspex.programs.adapters._plain_json import to_plain
from dspex.programs.chain_of_thought import ChainOfThought
from dspex.programs.fields import AnySignature, InputField, OutputField
from dspex.programs.inputs import InputSpec
from dspex.programs.module import Module
from dspex.programs.prediction import Prediction
from dspex.programs.sandbox import CodeRun, Interpreter, MontyInterpreter
from dspex.programs.signature import Signature, make_class, plan_of, signature_of
from dspex.programs.tools.trajectory import Observation, ToolStep, Trajectory
from dspex.programs.types.code import in_language
from dspex.protocols.content import ToolCall
from dspex.protocols.model import LMChoice
from dspex.protocols.params import PredictorConfig
from dspex.protocols.scope import Scope

__all__ = ["ProgramOfThought"]

S = TypeVar("S")
P = ParamSpec("P", default=...)

_PYTHON = in_language("python")
_RULES = (
    "Write Python for it. The inputs are variables of these names. Use the standard library's math, json, re and "
    "datetime at most; there are no files, no network and no clock. Print what is needed to answer, or let the last "
    "line be an expression with that value."
)


class ProgramOfThought(Module, Generic[S, P]):
    """
    Answer by computing: ``dspex.ProgramOfThought("question -> answer: float")``.

    The model writes Python, which runs in a sandbox in a process of its own. When it fails, the model is shown the
    error and writes it again; when it ran, the answer is asked for from what it gave. The predictors are
    ``code_generate``, ``code_regenerate`` and ``generate_output``; ``details(prediction).trajectory`` has the rounds.

    Args:
        signature: A Signature class, or a string such as ``"question -> answer: float"``.
        max_steps: The number of times that code may be written.
        interpreter: Where it runs; None for ``MontyInterpreter()``, which needs the extra ``sandbox``.
        lm: A record, a name of the App's, or None for the App's default.
        adapter: The adapter, as for ``Predict``.
        config: Sampling parameters, as for ``Predict``.

    Raises:
        MissingExtra: The extra ``sandbox`` is not installed.
        SignatureError: The string is not a signature, there is nothing to ask for, or a field's name is taken.
        ValueError: ``max_steps`` is not a positive number.
    """

    code_generate: ChainOfThought
    code_regenerate: ChainOfThought
    generate_output: ChainOfThought[S, ...]

    @overload
    def __init__(
        self: ProgramOfThought[Prediction, ...],
        signature: str,
        *,
        max_steps: int = 3,
        interpreter: Interpreter | None = None,
        lm: LMChoice = None,
        adapter: AdapterChoice = None,
        **config: Unpack[PredictorConfig],
    ) -> None: ...

    @overload
    def __init__(
        self,
        signature: Callable[P, S],
        *,
        max_steps: int = 3,
        interpreter: Interpreter | None = None,
        lm: LMChoice = None,
        adapter: AdapterChoice = None,
        **config: Unpack[PredictorConfig],
    ) -> None: ...

    def __init__(
        self,
        signature: object,
        *,
        max_steps: int = 3,
        interpreter: Interpreter | None = None,
        lm: LMChoice = None,
        adapter: AdapterChoice = None,
        **config: Unpack[PredictorConfig],
    ) -> None:
        self.max_steps = checked_steps(max_steps)
        self.interpreter = interpreter if interpreter is not None else MontyInterpreter()
        answer: ChainOfThought[S, P] = ChainOfThought(signature_of(signature), lm=lm, adapter=adapter, **config)
        self._declared: AnySignature = answer.predict._declared  # noqa: SLF001 - the signature without the reasoning
        asked = (
            answer.predict.signature.append("final_generated_code", InputField(desc="what was run"), _PYTHON)
            .append("code_output", InputField(desc="what it gave"))
            .with_instructions(f"{plan_of(self._declared).instructions}\n\nTake it from what the code gave.")
        )
        first, again = _writing(self._declared)
        self.code_generate = ChainOfThought(first, lm=lm, adapter=adapter, **config)
        self.code_regenerate = ChainOfThought(again, lm=lm, adapter=adapter, **config)
        self.generate_output = answer.replace({"predict": answer.predict.with_signature(asked)})

    async def forward(self, *args: P.args, **kwargs: P.kwargs) -> S:
        """
        Have code written until it runs, and return the answer as a record of the signature.

        Raises:
            MissingInput: Inputs are missing, unknown or of another type; nothing was asked.
            CodeFailed: The code failed in every round; the last code and its error are attributes.
            LMError, ResponseUnparsable, StreamInterrupted: As ``Predict.forward``.
        Cancellation: the running call is cancelled, running code is stopped.
        """
        scope, inputs = begin("ProgramOfThought", plan_of(self._declared), args, kwargs)
        trajectory = Trajectory()
        adapter = self.code_generate.predict.adapter or scope.adapter or DEFAULT_ADAPTER
        told = with_conversation(self._declared, adapter, inputs)
        written = await self.code_generate.forward(**told)
        for number in range(self.max_steps):
            code = str(written.generated_code)
            ran = await self._run(code, inputs, scope)
            seen = Observation(ran.output if ran.error is None else f"{ran.output}\nError: {ran.error}".strip())
            call = ToolCall(f"call_{number + 1}", "python", {"code": code})
            trajectory = trajectory.with_steps(ToolStep("", call, seen, number), finished=ran.error is None)
            if ran.error is None:
                return await self._answer(inputs, code, ran, trajectory)
            if number + 1 < self.max_steps:
                written = await self.code_regenerate.forward(**told, previous_code=code, error=ran.error)
        raise CodeFailed(plan_of(self._declared).name, code, str(ran.error), self.max_steps)

    async def _run(self, code: str, inputs: dict[str, object], scope: Scope) -> CodeRun:
        """Run code in a step; it has no effects, so a step that was killed may be repeated."""
        if not code.strip():
            return CodeRun("", "there was no code")
        variables = {name: _as_json(value) for name, value in inputs.items()}
        work = partial(self.interpreter.run, code, variables)
        try:
            return await scope.call("code", work, idempotent=True, timeout=None)
        except StepCrashed as error:
            return CodeRun("", str(error))

    async def _answer(self, inputs: dict[str, object], code: str, ran: CodeRun, trajectory: Trajectory) -> S:
        ran_it = {"final_generated_code": _PYTHON(code), "code_output": ran.output}
        prediction = await self.generate_output.forward(**inputs, **ran_it)
        answer: S = with_trajectory(prediction, trajectory)
        return answer

    def input_spec(self) -> InputSpec:
        """Return the inputs that ``forward`` takes, as ``Module.input_spec``."""
        return plan_of(self._declared).input_spec

    def __repr__(self) -> str:
        return f"ProgramOfThought({plan_of(self._declared).name}, max_steps={self.max_steps})"


def _as_json(value: object) -> object:
    plain = to_plain(value)
    return str(plain) if isinstance(value, str) else plain


def _writing(declared: object) -> tuple[AnySignature, AnySignature]:
    """Return the signatures that ask for code: at first, and after code that failed."""
    plan = plan_of(declared)
    wanted = ", ".join(f"`{each.name}` ({each.type_text})" for each in plan.outputs)
    task = f"{plan.instructions}\n\nThe task is to find {wanted} by a program. {_RULES}"
    code = OutputField(desc="Python that finds what is asked for")
    first = make_class(plan.name, (Signature,), plan.inputs, task, declared.__module__)
    again = make_class(
        plan.name,
        (Signature,),
        plan.inputs,
        f"{task}\n\nThe code that was written before failed: say why, and write it anew.",
        declared.__module__,
    )
    again = again.append("previous_code", InputField(), _PYTHON).append("error", InputField())
    return (
        first.append("generated_code", code, _PYTHON),
        again.append("generated_code", code, _PYTHON),
    )
