"""Reasoning before the answer."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Generic, Unpack, overload

from typing_extensions import ParamSpec, TypeVar

from dspex.programs.adapters._choose import AdapterChoice
from dspex.programs.fields import OutputField
from dspex.programs.inputs import InputSpec, inputs_of
from dspex.programs.module import Demo, Module
from dspex.programs.predict import Predict
from dspex.programs.prediction import Prediction
from dspex.programs.signature import signature_of
from dspex.protocols.model import LMChoice
from dspex.protocols.params import PredictorConfig

__all__ = ["ChainOfThought"]

S = TypeVar("S", default=Any)
P = ParamSpec("P", default=...)


class ChainOfThought(Module, Generic[S, P]):
    """
    As ``Predict``, with a ``reasoning`` output asked for before the others.

    The prediction is a record of the signature's own class; its reasoning is ``details(prediction).reasoning``, and
    ``prediction.reasoning`` at run time. A signature that declares ``reasoning`` itself is used as it is.

    Args:
        signature: A Signature class, or a string such as ``"question -> answer"``.
        lm: A record, a name of the App's, or None for the App's default.
        demos: Demonstrations: field values by name.
        adapter: The adapter, as for ``Predict``.
        config: As for ``Predict``.

    Raises:
        SignatureError: The string is not a signature, or there is nothing to ask for.
    """

    predict: Predict[S, P]

    @overload
    def __init__(
        self: ChainOfThought[Prediction, ...],
        signature: str,
        *,
        lm: LMChoice = None,
        demos: Sequence[Demo] = (),
        adapter: AdapterChoice = None,
        **config: Unpack[PredictorConfig],
    ) -> None: ...

    @overload
    def __init__(
        self,
        signature: Callable[P, S],
        *,
        lm: LMChoice = None,
        demos: Sequence[Demo] = (),
        adapter: AdapterChoice = None,
        **config: Unpack[PredictorConfig],
    ) -> None: ...

    def __init__(
        self,
        signature: object,
        *,
        lm: LMChoice = None,
        demos: Sequence[Demo] = (),
        adapter: AdapterChoice = None,
        **config: Unpack[PredictorConfig],
    ) -> None:
        predictor: Predict[S, P] = Predict(signature_of(signature), lm=lm, demos=demos, adapter=adapter, **config)
        declared = predictor.signature
        if "reasoning" not in declared.fields:
            field = OutputField(desc="think step by step towards the other fields")
            predictor = predictor.with_signature(declared.prepend("reasoning", field))
        self.predict = predictor

    async def forward(self, *args: P.args, **kwargs: P.kwargs) -> S:
        """
        Ask the model to reason and answer; raises and is cancelled as ``Predict.forward``.

        Cancellation: the running call is cancelled and its socket closed.
        """
        return await self.predict.forward(*args, **kwargs)

    def input_spec(self) -> InputSpec:
        """Return the inputs that ``forward`` takes, as ``Module.input_spec``."""
        return inputs_of(self.predict)
