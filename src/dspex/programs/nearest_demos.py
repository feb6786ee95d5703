"""A program that shows, for each input, the demonstrations most like it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Generic, TypeVar, cast

from typing_extensions import ParamSpec

from dspex.programs.inputs import InputSpec, bind_inputs, inputs_of
from dspex.programs.knn import KNN, Embed, Vectorizer
from dspex.programs.module import Module, Program

__all__ = ["NearestDemos"]

R = TypeVar("R")
P = ParamSpec("P")

KEPT = 16
"""Sets of demonstrations whose vectors are kept."""


class NearestDemos(Module, Generic[R, P]):
    """
    Run ``program`` with the ``k`` demonstrations of each predictor that are most like the input.

    Give the program many demonstrations, with ``BootstrapFewShot(metric, max_bootstrapped_demos=1000)`` for example:
    each row is worked out once, and recorded. A request then costs one look-up of vectors beside the program's own
    calls. This does the work of DSPy's KNNFewShot, which bootstraps anew in every request.

    Demonstrations are compared by the inputs that they share with the program. A predictor whose demonstrations share
    none shows all of them.

    Args:
        program: A Module, or any object with an async ``forward`` whose predictors have demonstrations.
        k: Demonstrations for each predictor and input.
        vectorizer: An ``Embed``, or any function from texts to vectors.

    Raises:
        ValueError: ``k`` is below 1.
    """

    def __init__(self, program: Program[P, R], k: int, vectorizer: Embed | Vectorizer) -> None:
        if k < 1:
            raise ValueError(f"k={k} must be at least 1")
        self.program = program
        self.k = k
        self.vectorizer = vectorizer
        self._kept: dict[tuple[int, ...], tuple[object, KNN]] = {}  # a memo: the same for whoever fills it

    async def forward(self, *args: P.args, **kwargs: P.kwargs) -> R:
        """
        Choose demonstrations and run the program; raises what either raises.

        Cancellation: what is awaited is cancelled.
        """
        program = cast("Any", self.program)
        inputs = bind_inputs(program, args, kwargs)
        chosen: dict[str, list[Mapping[str, object]]] = {}
        for path, predictor in program.predictors().items():
            shared = {name: value for name, value in inputs.items() if all(name in demo for demo in predictor.demos)}
            if len(predictor.demos) > self.k and shared:
                # The most like the input stands last, next to the question.
                nearest = await self._knn(predictor.demos).forward(**shared)
                chosen[path] = list(reversed(nearest))
        changed = program.with_demos(chosen) if chosen else program
        answer: R = await changed(**inputs)
        return answer

    def _knn(self, demos: tuple[Mapping[str, object], ...]) -> KNN:
        key = tuple(map(id, demos))
        known = self._kept.get(key)
        if known is None:
            if len(self._kept) >= KEPT:
                self._kept.clear()
            known = self._kept[key] = (demos, KNN(self.k, demos, self.vectorizer))  # keeps the demos, and so their ids
        return known[1]

    def input_spec(self) -> InputSpec:
        """Return the inputs that ``forward`` takes, as ``Module.input_spec``."""
        return inputs_of(self.program)

    def __repr__(self) -> str:
        return f"NearestDemos({self.program!r}, k={self.k})"
