"""Answers that a model is told how to improve."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, NamedTuple

from typing_extensions import ParamSpec, TypeVar

from dspex.errors import ScopeClosed
from dspex.programs._attempts import Judged, Reward, judge, note, rollout, side_by_side
from dspex.programs.fields import InputField, OutputField
from dspex.programs.inputs import InputSpec, bind_inputs, inputs_of
from dspex.programs.module import Module, Program
from dspex.programs.predict import Predict
from dspex.programs.retry import advised
from dspex.programs.signature import Signature
from dspex.protocols.executor import Failed
from dspex.protocols.scope import Scope, current_scope

__all__ = ["OfferFeedback", "Refine"]

R = TypeVar("R")
P = ParamSpec("P", default=...)


class OfferFeedback(Signature):
    """
    Give the modules of a program advice for another attempt.

    The program answered, and its reward is below the target. Find which module is to blame, and give it concrete advice
    for another attempt on the same inputs. A module that did well gets no advice.
    """

    modules: dict[str, str] = InputField(desc="each module's instructions, by name")
    inputs: dict[str, str] = InputField(desc="what the program was given")
    steps: list[str] = InputField(desc="what each module was given and answered, in order")
    reward: str = InputField(desc="the reward, what it says, and the target")
    discussion: str = OutputField(desc="which module is to blame, and why")
    advice: dict[str, str] = OutputField(desc="advice by module name")


class _Attempt(NamedTuple, Generic[R]):
    answer: R
    judged: Judged
    steps: tuple[str, ...]


class Refine(Module, Generic[R, P]):
    """
    Run a program, have a model say how it could do better, and run it again with that advice.

    Each round runs ``width`` attempts at once. When none reaches ``threshold``, a model reads what the best one did,
    step by step, and its advice joins the instructions of the predictors it concerns. The best answer of all rounds
    is returned, whatever fails once there is one: the advice, a later attempt, the budget. Nothing is kept between
    calls. The algorithm is DSPy's ``Refine``, made concurrent.

    Args:
        program: The program to run.
        n: Rounds, the first included.
        reward: ``reward(inputs, answer)``: a number, a bool or a Score, whose feedback the model reads too.
        threshold: A reward that is good enough.
        width: Attempts a round.
        temperature: Of all attempts but the first.

    Raises:
        ValueError: ``n`` or ``width`` is below 1.
    """

    program: Program[P, R]

    def __init__(
        self,
        program: Program[P, R],
        n: int,
        reward: Reward[R],
        threshold: float,
        *,
        width: int = 1,
        temperature: float = 1.0,
    ) -> None:
        if n < 1 or width < 1:
            raise ValueError(f"n={n} and width={width} must be at least 1")
        self.program = program
        self.n = n
        self.reward = reward
        self.threshold = threshold
        self.width = width
        self.temperature = temperature
        self.offer_feedback = Predict(OfferFeedback)

    async def forward(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """
        Return the best answer.

        Raises:
            TypeError: The reward returned no number.
            Exception: The exception of the first attempt, when all failed.
        Cancellation: every attempt is cancelled.
        """
        inputs = bind_inputs(self.program, args, kwargs)
        program: Program[..., R] = self.program
        best: _Attempt[R] | None = None
        first_error: Exception | None = None
        for round_ in range(self.n):
            numbers = range(round_ * self.width, (round_ + 1) * self.width)
            outcomes = await side_by_side(
                [self._attempt(program, number, inputs) for number in numbers],
                max_concurrency=self.width,
                enough=self._is_enough,
            )
            for outcome in outcomes:
                if isinstance(outcome, Failed):
                    first_error = first_error or outcome.reason
                elif best is None or outcome.value.judged.value > best.judged.value:
                    best = outcome.value
            if best is not None and self._is_enough(best):
                break
            if best is not None and round_ + 1 < self.n:
                program = await self._advised(program, inputs, best)
        if best is None:
            assert first_error is not None
            raise first_error
        return best.answer

    async def _advised(
        self, program: Program[..., R], inputs: Mapping[str, object], best: _Attempt[R]
    ) -> Program[..., R]:
        """Return the program with advice for the next round; as it was where nobody can give any."""
        try:
            advice = await self._advice(inputs, best)
        except ScopeClosed:
            raise
        except Exception:  # noqa: BLE001 - there is an answer: what its advice fails of, budgets included, must not lose it
            note(self.program, "unadvised")
            return program
        note(self.program, "advised")
        return advised(self.program, advice)

    def _attempt(
        self, program: Program[..., R], number: int, inputs: Mapping[str, object]
    ) -> Callable[[], Awaitable[_Attempt[R]]]:
        async def attempt() -> _Attempt[R]:
            scope = _StepNotes(current_scope.get())
            token = current_scope.set(scope)  # in this attempt's own context
            try:
                answer = await rollout(program, number, self.temperature).forward(**inputs)
            finally:
                current_scope.reset(token)
            judged = await judge(self.reward, inputs, answer)
            return _Attempt(answer, judged, tuple(scope.steps))

        return attempt

    def _is_enough(self, attempt: _Attempt[R]) -> bool:
        return attempt.judged.value >= self.threshold

    async def _advice(self, inputs: Mapping[str, object], best: _Attempt[R]) -> dict[str, str]:
        """Ask what each predictor could do better; advice for what is not part of the program is dropped."""
        if not isinstance(self.program, Module):
            return {}
        modules = {path: each.signature.instructions for path, each in self.program.predictors().items()}
        said = f" ({best.judged.feedback})" if best.judged.feedback else ""
        found = await self.offer_feedback(
            modules=modules,
            inputs={name: _short(value) for name, value in inputs.items()},
            steps=list(best.steps),
            reward=f"{best.judged.value:g}{said}; the target is {self.threshold:g}",
        )
        return {path: text for path, text in found.advice.items() if path in modules and text.strip()}

    def input_spec(self) -> InputSpec:
        """Return the inputs that ``forward`` takes, as ``Module.input_spec``."""
        return inputs_of(self.program)


@dataclass(slots=True)
class _StepNotes:
    """A scope that also notes, in words, what the predictors of one attempt did."""

    inner: Scope
    steps: list[str] = field(default_factory=list)

    def record(self, predictor: object, inputs: Mapping[str, object], outputs: Mapping[str, object]) -> None:
        self.inner.record(predictor, inputs, outputs)
        self.steps.append(f"{self.inner.path_of(predictor)}: given {_fields(inputs)}; answered {_fields(outputs)}")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


def _fields(values: Mapping[str, object]) -> str:
    return ", ".join(f"{name}={_short(value)}" for name, value in values.items())


_LONGEST = 500


def _short(value: object) -> str:
    text = value if isinstance(value, str) else repr(value)
    return text if len(text) <= _LONGEST else text[:_LONGEST] + "…"
