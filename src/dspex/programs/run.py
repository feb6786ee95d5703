"""The facts about a request that a tool called by it may know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Generic

from typing_extensions import TypeVar

__all__ = ["Run"]

Deps = TypeVar("Deps", default=object)


@dataclass(frozen=True, slots=True)
class Run(Generic[Deps]):
    """
    The request a tool is called for; injected into the parameter that is annotated with it, and hidden from the model.

    For example::

        async def balance(run: dspex.Run[Bank], account: str) -> float:
            return await run.deps.balance(account)

        answer = await app.options(deps=bank).run(agent, question="...")

    Attributes:
        deps: The value of ``options(deps=…)``.
        deadline: When the request's time is over, by the runtime's clock, in seconds.
        id: The request's name in logs and events.
    """

    deps: Deps
    deadline: float
    id: str
