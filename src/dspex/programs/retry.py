"""Answers that are checked, and asked for again with what was wrong."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Generic

from typing_extensions import ParamSpec, TypeVar

from dspex.errors import AnswerRejected, ScopeClosed
from dspex.programs._attempts import note, rollout
from dspex.programs.inputs import InputSpec, bind_inputs, inputs_of
from dspex.programs.module import Module, Program
from dspex.programs.signature import Signature, values_of
from dspex.protocols.scope import FieldValues

__all__ = ["Retry", "advised"]

R = TypeVar("R")
P = ParamSpec("P", default=...)

Complaint = str | Sequence[str] | None
"""A function that says what is wrong with an answer, in words the model can act on; None or nothing accepts it."""


class Retry(Module, Generic[R, P]):
    """
    Check each answer, and ask again with what was wrong until there is nothing to complain about.

    For example::

        def short(inputs, answer):
            return None if len(answer.answer) < 100 else "the answer must be shorter than 100 characters"

        qa = dspex.Retry(dspex.ChainOfThought("question -> answer"), short)

    The complaint joins the instructions of the program's predictors, with the answer that was refused; the program
    itself never changes. It does what assertions did in earlier frameworks, without exceptions inside programs.

    Args:
        program: The user's transport.
        check: ``check(inputs, answer)`` returns what is wrong (a text, or several), or None; sync or async.
        attempts: Runs in all, the first included.
        required: False returns the last answer when all were refused, instead of raising.
        predictors: Paths of the predictors that are told; None tells all.

    Raises:
        ValueError: ``attempts`` is below 1.
        LookupError: The program has no predictor at a path.
    """

    program: Program[P, R]

    def __init__(
        self,
        program: Program[P, R],
        check: Callable[[FieldValues, R], Complaint | Awaitable[Complaint]],
        *,
        attempts: int = 3,
        required: bool = True,
        predictors: Sequence[str] | None = None,
    ) -> None:
        if attempts < 1:
            raise ValueError(f"attempts={attempts} must be at least 1")
        if predictors is not None:
            advised(program, dict.fromkeys(predictors, ""))
        self.program = program
        self.check = check
        self.attempts = attempts
        self.required = required
        self.told = tuple(predictors) if predictors is not None else None

    async def forward(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """
        Return the first answer that the check accepts.

        Raises:
            AnswerRejected: It accepted none; ``complaints`` are those of the last. A later attempt that failed is its
                cause.
            Exception: Any exception of the first attempt or the check.
        Cancellation: the running attempt is cancelled.
        """
        inputs = bind_inputs(self.program, args, kwargs)
        program: Program[..., R] = self.program
        failure: Exception | None = None
        for number in range(self.attempts):
            try:
                answer = await program.forward(**inputs)
            except Exception as error:  # there is an answer, though a refused one: it is worth more than none
                if not number or isinstance(error, ScopeClosed):
                    raise
                failure = error
                note(self.program, "failed")
                continue
            complaints = await self._complaints(inputs, answer)
            if not complaints:
                return answer
            if number + 1 < self.attempts:
                note(self.program, "rejected")
                program = rollout(self._told(answer, complaints), number + 1, 1.0)
        if self.required:
            raise AnswerRejected(type(self.program).__name__, complaints, answer) from failure
        return answer

    async def _complaints(self, inputs: Mapping[str, object], answer: R) -> tuple[str, ...]:
        found = self.check(inputs, answer)
        if inspect.isawaitable(found):
            found = await found
        if not found:
            return ()
        return (found,) if isinstance(found, str) else tuple(found)

    def _told(self, answer: R, complaints: Sequence[str]) -> Program[..., R]:
        """Return the program with what was wrong in its instructions."""
        advice = f"An earlier answer was {_shown(answer)}. It was not accepted: {'; '.join(complaints)}."
        if not isinstance(self.program, Module):
            return self.program
        paths = self.told if self.told is not None else tuple(self.program.predictors())
        return advised(self.program, dict.fromkeys(paths, f"{advice} Answer so that this does not happen again."))

    def input_spec(self) -> InputSpec:
        """Return the inputs that ``forward`` takes, as ``Module.input_spec``."""
        return inputs_of(self.program)


def advised(program: Program[..., R], advice: Mapping[str, str]) -> Program[..., R]:
    """
    Return a program whose predictors have a further paragraph of instructions, by path; empty texts change nothing.

    Raises:
        LookupError: The program has no predictor at a path.
    """
    if not isinstance(program, Module):
        if advice:
            raise LookupError(f"no predictor at {', '.join(advice)}; there are none")
        return program
    predictors = program.predictors()
    unknown = [path for path in advice if path not in predictors]
    if unknown:
        raise LookupError(f"no predictor at {', '.join(unknown)}; there are {', '.join(predictors) or 'none'}")
    changed = {
        path: predictors[path].with_signature(predictors[path].signature.append_instructions(text))
        for path, text in advice.items()
        if text
    }
    if not changed:
        return program
    return changed["self"] if "self" in changed else program.replace(changed)


def _shown(answer: object) -> str:
    """Show an answer's outputs, shortened: it stands in a prompt."""
    if isinstance(answer, Signature):
        outputs = {name: value for name, value in values_of(answer).items() if _is_output(answer, name)}
        text = ", ".join(f"{name}: {value!r}" for name, value in outputs.items())
    else:
        text = repr(answer)
    return text if len(text) <= _SHOWN else text[:_SHOWN] + "…"


_SHOWN = 1_000


def _is_output(answer: Signature, name: str) -> bool:
    field = type(answer).fields.get(name)
    return field is None or field.role == "output"
