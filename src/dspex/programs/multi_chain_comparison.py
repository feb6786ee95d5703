"""Several chains of thought, compared before the answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, Unpack, overload

from typing_extensions import ParamSpec, TypeVar

from dspex.errors import ScopeClosed
from dspex.programs._attempts import note, rollout, side_by_side
from dspex.programs.chain_of_thought import ChainOfThought
from dspex.programs.details import details
from dspex.programs.fields import AnySignature, InputField, OutputField
from dspex.programs.inputs import InputSpec, bind_inputs, inputs_of
from dspex.programs.module import Module
from dspex.programs.predict import Predict
from dspex.programs.prediction import Prediction
from dspex.programs.signature import Signature, signature_of, values_of
from dspex.programs.voting import majority
from dspex.protocols.executor import Failed, Ok
from dspex.protocols.model import LMChoice
from dspex.protocols.params import AttemptConfig

__all__ = ["MultiChainComparison"]

S = TypeVar("S")
P = ParamSpec("P", default=...)


class MultiChainComparison(Module, Generic[S, P]):
    """
    Think several times at once, then read all attempts and answer from the best of them.

    The method of DSPy's module of this name, which leaves making the attempts to its caller. The rationale of the
    comparison is ``details(prediction).extras["rationale"]``.

    Args:
        signature: A Signature class, or a string such as ``"question -> answer"``.
        m: Attempts.
        temperature: Of all attempts but the first.
        lm: A record, a name of the App's, or None for the App's default.
        config: As for ``Predict``.

    Raises:
        SignatureError: The string is not a signature, or there is nothing to ask for.
        ValueError: ``m`` is below 1.
    """

    attempt: ChainOfThought[S, P]
    compare: Predict[S, ...]

    @overload
    def __init__(
        self: MultiChainComparison[Prediction, ...],
        signature: str,
        *,
        m: int = 3,
        temperature: float = 0.7,
        lm: LMChoice = None,
        **config: Unpack[AttemptConfig],
    ) -> None: ...

    @overload
    def __init__(
        self,
        signature: Callable[P, S],
        *,
        m: int = 3,
        temperature: float = 0.7,
        lm: LMChoice = None,
        **config: Unpack[AttemptConfig],
    ) -> None: ...

    def __init__(
        self,
        signature: object,
        *,
        m: int = 3,
        temperature: float = 0.7,
        lm: LMChoice = None,
        **config: Unpack[AttemptConfig],
    ) -> None:
        if m < 1:
            raise ValueError(f"m={m} must be at least 1")
        asked = signature_of(signature)
        self.attempt = ChainOfThought(asked, lm=lm, **config)
        predictor: Predict[S, ...] = Predict(asked, lm=lm, **config)
        compared: AnySignature = predictor.signature
        for number in range(1, m + 1):
            compared = compared.append(f"attempt_{number}", InputField(desc=f"student attempt {number}"))
        rationale = OutputField(desc="what is right and wrong in the attempts, step by step")
        self.compare = predictor.with_signature(compared.prepend("rationale", rationale))
        self.m = m
        self.temperature = temperature

    async def forward(self, *args: P.args, **kwargs: P.kwargs) -> S:
        """
        Return the answer that follows from the attempts; an attempt that failed is shown as missing.

        Where the comparison fails, it is the first answer that says what most attempts say.

        Raises:
            Exception: The exception of the first attempt, when all failed.
        Cancellation: everything under way is cancelled.
        """
        inputs = bind_inputs(self.attempt, args, kwargs)
        outcomes = await side_by_side(
            [self._attempt(number, inputs) for number in range(self.m)], max_concurrency=self.m
        )
        if not any(isinstance(each, Ok) for each in outcomes):
            raise next(each.reason for each in outcomes if isinstance(each, Failed))
        shown = {
            f"attempt_{number}": _shown(each.value) if isinstance(each, Ok) else "(no attempt)"
            for number, each in enumerate(outcomes, 1)
        }
        try:
            return await self.compare.forward(**inputs, **shown)
        except ScopeClosed:
            raise
        except Exception:  # noqa: BLE001 - there are answers: a comparison that fails must not lose them
            note(self.compare, "uncompared")
            answers: list[S] = [each.value for each in outcomes if isinstance(each, Ok)]
            return majority(answers)

    def _attempt(self, number: int, inputs: Mapping[str, object]) -> Callable[[], Awaitable[S]]:
        return lambda: rollout(self.attempt, number, self.temperature).forward(**inputs)

    def input_spec(self) -> InputSpec:
        """Return the inputs that ``forward`` takes, as ``Module.input_spec``."""
        return inputs_of(self.attempt)


def _shown(answer: object) -> str:
    """Write one attempt as the comparison reads it."""
    assert isinstance(answer, Signature)  # as every predictor answers
    outputs = {each.name for each in type(answer).fields.values() if each.role == "output"}
    fields = {name: value for name, value in values_of(answer).items() if name in outputs and name != "reasoning"}
    told = ", ".join(f"{name}: {value}" for name, value in fields.items())
    return f"«I reasoned: {details(answer).reasoning.strip()} My answer is {told}»"
