"""The scope of a dry run: calls are counted and answered with placeholders, and nothing is sent."""

from __future__ import annotations

from array import array
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar, cast

from dspex.errors import ConfigError
from dspex.programs import Adapter, ChatAdapter, Predict
from dspex.programs.placeholders import TEXT, placeholders
from dspex.protocols.lm import Completion, LMRequest, LMResponse, Message, Usage
from dspex.protocols.model import LM, LMChoice
from dspex.protocols.money import DryRun
from dspex.protocols.scope import LMResult, OnDelta
from dspex.requests._record import RequestRecord
from dspex.requests._scope import RequestScope, Services
from dspex.requests._steps import StepPolicy
from dspex.runtime import Runtime

__all__ = ["DryScope"]

R = TypeVar("R")


class DryScope(RequestScope):
    """
    A request's scope that asks no model and calls no tool.

    Retrievals run as they are: their passages are most of a prompt, and cost nothing at a model's provider.
    """

    __slots__ = ("_asking", "_run")

    def __init__(
        self, runtime: Runtime, services: Services, record: RequestRecord, policy: StepPolicy, run: DryRun
    ) -> None:
        super().__init__(runtime, services, record, policy)
        self._run = run
        self._asking: dict[str, Predict[Any, ...]] = {}

    def path_of(self, predictor: object) -> str:
        """Return where a predictor sits; one that asks is remembered, because its answer is made up from its types."""
        path = super().path_of(predictor)
        if isinstance(predictor, Predict):
            self._asking[path or predictor.signature.__name__] = predictor
        return path

    async def complete(
        self, request: LMRequest, *, lm: LMChoice, step: str, on_delta: OnDelta | None = None
    ) -> LMResult:
        """Count the call, and answer with values of the right types."""
        self._owner()
        services, options = self._services, self._record.options
        model = services.lm.resolve(options.lm if lm is None else lm)
        if isinstance(model, LM):
            request = replace(request, params=request.params.over(model.params))
        estimate = services.money.estimate(model, request)
        self._run.calls.append((step, estimate))
        text = self._answer(step)
        usage = Usage(estimate.input_tokens, estimate.output_tokens)
        response = LMResponse((Completion(text),) * max(1, request.params.n), usage, model.model)
        if on_delta is not None:
            for delta in response.deltas():
                await on_delta(delta)
        return LMResult(response, model, (), None, 0.0)

    def _answer(self, step: str) -> str:
        predictor = self._asking.get(step)
        if predictor is None:
            raise ConfigError(f"{step} asks a model by itself, without a predictor: its answer cannot be made up")
        adapter: Adapter = predictor.adapter or ChatAdapter()
        return adapter.format_outputs(predictor.signature, placeholders(predictor.signature))

    async def embed(self, texts: Sequence[str], *, lm: LMChoice, step: str) -> tuple[array[float], ...]:
        """Count the call, and return vectors that say nothing."""
        self._owner()
        services = self._services
        model = services.lm.resolve(self._record.options.lm if lm is None else lm)
        asked = LMRequest((Message("user", "".join(texts)),))
        estimate = services.money.estimate(model, asked)
        usd = services.money.cost(model, Usage(estimate.input_tokens))
        self._run.calls.append((step, replace(estimate, output_tokens=0, usd=usd)))
        return tuple(array("f", [0.0]) for _ in texts)

    async def call(self, step: str, work: Callable[[], Awaitable[R]], *, idempotent: bool, timeout: float | None) -> R:
        """Call no tool: its text is made up."""
        self._owner()
        return cast("R", TEXT)

    async def in_thread(self, function: Callable[[], R], label: str) -> R:
        """Call nothing: its text is made up."""
        self._owner()
        return cast("R", TEXT)
