"""The scope of a dry run: calls are counted and answered with placeholders, and nothing is sent."""

from __future__ import annotations

import json
from array import array
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final, TypeVar

from dspex.errors import ConfigError, StepCrashed, VectorInvalid
from dspex.programs import DEFAULT_ADAPTER, Adapter, Predict
from dspex.programs.placeholders import TEXT, arguments_of, placeholders
from dspex.protocols.content import ToolCall
from dspex.protocols.filters import Filter
from dspex.protocols.forms import FormMemory
from dspex.protocols.lm import Completion, LMRequest, LMResponse, Message, Usage
from dspex.protocols.model import LM, LMChoice
from dspex.protocols.money import DryRun
from dspex.protocols.retrieval import Passage
from dspex.protocols.scope import LMResult, OnDelta
from dspex.requests._record import RequestRecord
from dspex.requests._scope import RequestScope, Services
from dspex.requests._steps import StepPolicy
from dspex.runtime import Runtime

__all__ = ["DryScope"]

R = TypeVar("R")

_WHY: Final = f"a dry run calls nothing; it would have said: {TEXT}"
_MOST_TURNS: Final = 100
"""The number of times one predictor is taken to ask for a tool before it answers."""


class DryScope(RequestScope):
    """
    A request's scope that asks no model and calls no tool.

    Retrievals run as they are: their passages are most of a prompt, and cost nothing at a model's provider. A model
    that is offered tools asks for one each time, so that an agent uses up its steps.
    """

    __slots__ = ("_asking", "_run")

    def __init__(
        self, runtime: Runtime, services: Services, record: RequestRecord, policy: StepPolicy, run: DryRun
    ) -> None:
        super().__init__(runtime, services, record, policy)
        self._run = run
        self._asking: dict[str, Predict] = {}

    def path_of(self, predictor: object) -> str:
        """Return where a predictor sits; one that asks is remembered, because its answer is made up from its types."""
        path = super().path_of(predictor)
        if isinstance(predictor, Predict):
            self._asking[path or predictor.signature.__name__] = predictor
        return path

    def forms(self, lm: LMChoice) -> FormMemory | None:
        """Return nothing: no model answers."""

    async def complete(
        self, request: LMRequest, *, lm: LMChoice, step: str, on_delta: OnDelta | None = None
    ) -> LMResult:
        """Count the call, and answer with values of the right types."""
        self.refuse_if_closed()
        services, options = self._services, self.request_record.options
        model = services.lm.resolve(options.lm if lm is None else lm)
        if isinstance(model, LM):
            request = replace(request, params=request.params.over(model.params))
        estimate = services.money.estimate(model, request)
        self._run.calls.append((step, estimate))
        completion = self._answer(step, request)
        usage = Usage(estimate.input_tokens, estimate.output_tokens)
        response = LMResponse((completion,) * max(1, request.params.n), usage, model.model)
        if on_delta is not None:
            for delta in response.deltas():
                await on_delta(delta)
        return LMResult(response, model, (), None, 0.0)

    def _answer(self, step: str, request: LMRequest) -> Completion:
        if request.tools and request.tool_choice in ("auto", "required"):
            turns = sum(path == step for path, _ in self._run.calls)
            if turns < _MOST_TURNS:  # a loop of the program's own ends when no tool is asked for
                tool = request.tools[0]
                arguments = arguments_of(tool)
                return Completion("", "tool_calls", (ToolCall("call-1", tool.name, arguments, json.dumps(arguments)),))
        predictor = self._asking.get(step)
        if predictor is None:
            raise ConfigError(f"{step} asks a model by itself, without a predictor: its answer cannot be made up")
        adapter: Adapter = predictor.adapter or self.adapter or DEFAULT_ADAPTER
        return Completion(adapter.format_outputs(predictor.signature, placeholders(predictor.signature)))

    async def embed(self, texts: Sequence[str], *, lm: LMChoice, step: str) -> tuple[array[float], ...]:
        """Count the call, and return vectors that say nothing."""
        self.refuse_if_closed()
        services = self._services
        model = services.lm.resolve(self.request_record.options.lm if lm is None else lm)
        asked = LMRequest((Message("user", "".join(texts)),))
        estimate = services.money.estimate(model, asked)
        usd = services.money.cost(model, Usage(estimate.input_tokens))
        self._run.calls.append((step, replace(estimate, output_tokens=0, usd=usd)))
        return tuple(array("f", [0.0]) for _ in texts)

    async def retrieve(
        self, query: str, k: int, *, retriever: str | None, step: str, filter: Filter | None = None
    ) -> tuple[Passage, ...]:
        """
        Search as it is.

        Raises:
            ConfigError: A model makes the query's vector, and an estimate asks none.
        """
        try:
            return await super().retrieve(query, k, retriever=retriever, step=step, filter=filter)
        except VectorInvalid as error:
            raise ConfigError(
                f"an estimate asks no model, so that {retriever or 'the default retriever'!r}, whose vectors a model "
                "makes, cannot be searched: estimate with another retriever under this name"
            ) from error

    async def call(self, step: str, work: Callable[[], Awaitable[R]], *, idempotent: bool, timeout: float | None) -> R:
        """
        Call no tool; what a step that is gone looks like is known to everybody who makes one.

        Raises:
            StepCrashed: Always; an agent shows it to its model.
        """
        self.refuse_if_closed()
        raise StepCrashed(step, _WHY, 0)

    async def in_thread(self, function: Callable[[], R], label: str) -> R:
        """Call nothing; raises as ``call``."""
        self.refuse_if_closed()
        raise StepCrashed(label, _WHY, 0)
