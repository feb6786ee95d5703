"""What agents have in common: their steps, how they begin, and what they did beside what they answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeVar

from dspex.errors import MissingInput, NotInRequest
from dspex.programs._compile import Plan
from dspex.programs.details import Details
from dspex.programs.tools.trajectory import Trajectory
from dspex.protocols.scope import Scope, current_scope

__all__ = ["begin", "checked_steps", "with_trajectory"]

S = TypeVar("S")


def checked_steps(max_steps: object) -> int:
    """Return how many steps there may be; ValueError where that is no positive number."""
    if not isinstance(max_steps, int) or max_steps < 1:
        raise ValueError(f"max_steps={max_steps!r}: expected 1 or more")
    return max_steps


def begin(agent: str, plan: Plan, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Scope, dict[str, Any]]:
    """
    Return the scope of the running request, and an agent's checked inputs.

    Raises:
        NotInRequest: There is no running request.
        MissingInput: Inputs are missing, unknown or of another type.
    """
    scope = current_scope.get(None)
    if scope is None:
        raise NotInRequest(f"{agent}({plan.name})")
    if args:
        raise MissingInput(plan.name, unexpected=[f"{len(args)} by position: give inputs by name"])
    return scope, plan.check_inputs(kwargs, plan.name)


def with_trajectory(prediction: Any, trajectory: Trajectory) -> Any:
    """Return a record just made, with what was done for it in its details."""
    found: Details = prediction._details_
    prediction._details_ = replace(found, trajectory=trajectory)
    return prediction
