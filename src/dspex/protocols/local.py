"""A model that answers by itself: no endpoint, no key, no socket."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

from dspex.protocols.lm import LMRequest, LMResponse
from dspex.protocols.model import LM
from dspex.protocols.scope import OnDelta

__all__ = ["LocalLM"]


class LocalLM(LM, ABC):
    """
    An ``LM`` that is asked in the caller's own step: a script, or a model in this process.

    Everything around a call is as for any other model: retry policy, cache, single-flight, budgets, details, streams,
    parsing. The parts of a network are missing: there is no lease, no breaker, no socket. Subclasses keep ``respond``
    from blocking the loop. Two records are never equal; but the cache goes by names, so that two of one name in one App
    share their answers: give each a name of its own.
    """

    __slots__ = ()

    waits: ClassVar[bool] = True
    """True when the waits that the retry policy orders between attempts are waited."""

    @abstractmethod
    async def respond(self, request: LMRequest, *, path: str, attempt: int, on_delta: OnDelta | None) -> LMResponse:
        """
        Answer once.

        Args:
            request: The prompt, its parameters complete.
            path: Where the predictor that asks sits in its program.
            attempt: Counts from 1.
            on_delta: To be awaited with each piece of the answer, if it comes in pieces; what is not handed on here is
                handed on whole afterwards.

        Raises:
            LMError: The outcome of the attempt; the retry policy decides what follows.
        Cancellation: gives up what was begun.
        """

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)
