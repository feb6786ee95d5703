"""The one door from a running program to its services: the scope of its request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar, runtime_checkable

from dspex.protocols.lm import LM, Attempt, LMRequest, LMResponse, Usage
from dspex.protocols.retrieval import Passage

__all__ = ["LMResult", "RequestTotals", "Scope", "TraceStep", "current_scope"]

R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class LMResult:
    """One logical LM call as the request saw it; ``duration`` in seconds includes waiting and retries."""

    response: LMResponse
    lm: LM
    attempts: tuple[Attempt, ...]
    cached: str | None
    """``memory``, ``disk`` or ``coalesced`` when no attempt of this call's own was needed."""
    duration: float


@dataclass(frozen=True, slots=True)
class TraceStep:
    """One predictor's call inside a request: what an optimizer turns into a demonstration."""

    path: str
    """Where the predictor sits in the program (``answer.predict``); empty when it is no part of it."""
    inputs: Mapping[str, Any]  # field values are of the signature's types
    outputs: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class RequestTotals:
    """What a whole request took: provider attempts, tokens, seconds."""

    request_id: str
    usage: Usage
    calls: int
    cached_calls: int
    attempts: tuple[Attempt, ...]
    step_restarts: int
    resubmitted: int
    duration: float


@runtime_checkable
class Scope(Protocol):
    """What ``forward`` may ask of the request it runs in; every call is a supervised step."""

    async def complete(self, request: LMRequest, *, lm: str | LM | None, step: str) -> LMResult:
        """
        Ask a language model.

        Raises:
            LMError: The provider's last word.
            StepCrashed: The step died more often than its restart budget allows.
            ScopeClosed: The request has ended.
        Cancellation: kills the step; its socket is closed before this returns.
        """
        ...

    async def retrieve(self, query: str, k: int, *, retriever: str | None, step: str) -> tuple[Passage, ...]:
        """Search an index; errors and cancellation as ``complete``, with RetrievalError for the index's own."""
        ...

    async def call(self, step: str, work: Callable[[], Awaitable[R]], *, idempotent: bool, timeout: float | None) -> R:
        """Run ``work`` (a tool call, say) as a step; it is repeated after a crash only when ``idempotent``."""
        ...

    def record(self, predictor: object, inputs: Mapping[str, Any], outputs: Mapping[str, Any]) -> None:
        """Add one predictor's call to the request's trace."""
        ...

    def path_of(self, predictor: object) -> str:
        """Return where ``predictor`` sits in the request's program; empty when it is no part of it."""
        ...

    def note_repair(self, signature: str, field: str, kind: str) -> None:
        """Tell telemetry that a completion was repaired (``kind``: ``json``, ``literal``, ``turn``)."""
        ...

    def totals(self) -> RequestTotals:
        """Return what the request took so far."""
        ...


current_scope: ContextVar[Scope] = ContextVar("dspex_scope")
"""The scope of the request whose task this is; unset outside requests."""
