"""The one door from a running program to its services: the scope of its request."""

from __future__ import annotations

from array import array
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, Protocol, TypeVar, runtime_checkable

from dspex.protocols.filters import Filter
from dspex.protocols.forms import FormMemory
from dspex.protocols.lm import Attempt, Capabilities, LMDelta, LMRequest, LMResponse, Usage
from dspex.protocols.model import LM, LMChoice, LMPool
from dspex.protocols.retrieval import Passage
from dspex.telemetry import Telemetry

__all__ = [
    "Delta",
    "DeltaSink",
    "FieldValues",
    "LMResult",
    "OnDelta",
    "RequestTotals",
    "Reset",
    "Scope",
    "TraceStep",
    "current_scope",
]

R = TypeVar("R")

OnDelta = Callable[[LMDelta], Awaitable[object]]
"""Awaited with each piece of an answer, in order."""

FieldValues = Mapping[str, Any]
"""Inputs or outputs by name, each of the type that its field declares."""


@dataclass(frozen=True, slots=True)
class Delta:
    """
    A piece of one predictor's answer, as ``app.stream`` gives it.

    Attributes:
        predictor: Where the predictor sits in the program, ``answer.predict`` for example.
        field: The output it belongs to.
        text: The addition; for values that are not text, the JSON as it comes.
        value_so_far: The value as far as it can be read: text, or a partial list, mapping or record.
    """

    predictor: str
    field: str
    text: str
    value_so_far: object  # of the field's type, once complete


@dataclass(frozen=True, slots=True)
class Reset:
    """A call broke off and starts again: what came from ``predictor`` so far is void."""

    predictor: str


class DeltaSink(Protocol):
    """Where predictors put what they have so far."""

    @property
    def on_interrupt(self) -> Literal["raise", "reset"]:
        """The action when an answer breaks off after its first piece."""
        ...

    async def put(self, delta: Delta | Reset) -> None:
        """Hand a piece to whoever watches; waits while they are behind."""
        ...


@dataclass(frozen=True, slots=True)
class LMResult:
    """One logical LM call as the request saw it; ``duration`` in seconds includes waiting and retries."""

    response: LMResponse
    lm: LM | LMPool
    """The model that answered; the pool itself where a cache did."""
    attempts: tuple[Attempt, ...]
    cached: str | None
    """``memory``, ``disk``, ``shared`` or ``coalesced`` when no attempt of this call's own was needed."""
    duration: float
    cost: Decimal | None = None
    """US dollars, for attempts without an answer too; None where a price is unknown, 0 where a cache answered."""
    key: str = ""
    """Under which the answer is cached; empty where it is not."""


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One predictor's call inside a request: what an optimizer turns into a demonstration."""

    path: str
    """Where the predictor sits in the program (``answer.predict``); empty when it is not part of it."""
    inputs: FieldValues
    outputs: FieldValues


@dataclass(frozen=True, slots=True)
class RequestTotals:
    """The cost of a whole request: provider attempts, tokens, seconds."""

    request_id: str
    usage: Usage
    calls: int
    cached_calls: int
    attempts: tuple[Attempt, ...]
    step_restarts: int
    resubmitted: int
    duration: float
    cost: Decimal | None = None
    """US dollars of all calls; None where the price of one is unknown."""


@runtime_checkable
class Scope(Protocol):
    """The interface of the request for its ``forward``; every call is a supervised step."""

    async def complete(
        self, request: LMRequest, *, lm: LMChoice, step: str, on_delta: OnDelta | None = None
    ) -> LMResult:
        """
        Ask a language model; with ``on_delta`` as a stream, as ``LMService.complete`` says.

        Raises:
            StreamInterrupted: The answer broke off after its first piece was handed on.
            LMError: The provider's last word.
            StepCrashed: The step died more often than its restart budget allows.
            ScopeClosed: The request has ended.
        Cancellation: kills the step; its socket is closed before this returns.
        """
        ...

    async def embed(self, texts: Sequence[str], *, lm: LMChoice, step: str) -> tuple[array[float], ...]:
        """
        Turn texts into vectors of float32, in their order.

        Raises:
            ConfigError: The model makes no vectors, or is a pool.
            LMError, StepCrashed, ScopeClosed: As ``complete``.
        Cancellation: kills the step.
        """
        ...

    def capabilities(self, lm: LMChoice) -> Capabilities:
        """Return what the model can do, before it is asked."""
        ...

    def effort(self, lm: LMChoice) -> str | None:
        """Return the effort of thinking that calls have where they name none, as ``LMService.effort`` says."""
        ...

    def forms(self, lm: LMChoice) -> FormMemory | None:
        """Return what the model showed about forms of answers; None where nothing is to be remembered."""
        ...

    @property
    def telemetry(self) -> Telemetry | None:
        """Who is told of what happens; None where nobody can be."""
        ...

    @property
    def stream(self) -> DeltaSink | None:
        """Where predictors put pieces of their answers; None when nobody watches."""
        ...

    @property
    def adapter(self) -> Any:  # an Adapter: programs define it, and this room does not know them
        """The adapter of predictors that have none of their own; None for the default."""
        ...

    @property
    def deps(self) -> object:
        """The request's value for its tools, from ``options(deps=…)``."""
        ...

    @property
    def deadline(self) -> float:
        """When the request's time is over, by the runtime's clock."""
        ...

    async def retrieve(
        self, query: str, k: int, *, retriever: str | None, step: str, filter: Filter | None = None
    ) -> tuple[Passage, ...]:
        """
        Search an index for passages that the filter fits.

        Errors and cancellation as ``complete``, with RetrievalError for the index's own.
        """
        ...

    async def call(self, step: str, work: Callable[[], Awaitable[R]], *, idempotent: bool, timeout: float | None) -> R:
        """Run ``work`` (a tool call, say) as a step; it is repeated after a crash only when ``idempotent``."""
        ...

    async def in_thread(self, function: Callable[[], R], label: str) -> R:
        """
        Call ``function``, which may block, in one of the App's tool threads; from within a step.

        Raises:
            ActorExited: The threads' owner died; the step may be repeated where it is idempotent.
        Cancellation: its result is dropped; another thread takes the place of its own until it ends.
        """
        ...

    def record(self, predictor: object, inputs: Mapping[str, object], outputs: Mapping[str, object]) -> None:
        """Add one predictor's call to the request's trace."""
        ...

    def path_of(self, predictor: object) -> str:
        """Return where ``predictor`` sits in the request's program; empty when it is not part of it."""
        ...

    def note_repair(self, signature: str, field: str, kind: str) -> None:
        """Tell telemetry that a completion was repaired (``kind``: ``json``, ``literal``, ``turn``)."""
        ...

    def reject(self, result: LMResult) -> None:
        """Say that an answer could not be read: no cache serves it again."""
        ...

    def totals(self) -> RequestTotals:
        """Return what the request took so far."""
        ...


current_scope: ContextVar[Scope] = ContextVar("dspex_scope")
"""The scope of the request whose task this is; unset outside requests."""
