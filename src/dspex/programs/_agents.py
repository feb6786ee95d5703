"""The common part of agents: their steps, their beginning, and their actions beside the answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from dspex.errors import MissingInput, NotInRequest
from dspex.programs._compile import Plan
from dspex.programs.adapters._adapter import Adapter
from dspex.programs.adapters._prompt import is_history, lost_turn
from dspex.programs.details import Details
from dspex.programs.fields import AnyRecord, AnySignature
from dspex.programs.signature import plan_of
from dspex.programs.tools.trajectory import Trajectory
from dspex.programs.types.history import History
from dspex.protocols.lm import Message
from dspex.protocols.scope import FieldValues, Scope, current_scope

__all__ = ["begin", "checked_steps", "with_conversation", "with_trajectory"]

S = TypeVar("S")


def checked_steps(max_steps: object) -> int:
    """Return how many steps there may be; ValueError where that is not a positive number."""
    if not isinstance(max_steps, int) or max_steps < 1:
        raise ValueError(f"max_steps={max_steps!r}: expected 1 or more")
    return max_steps


def begin(
    agent: str, plan: Plan, args: tuple[object, ...], kwargs: Mapping[str, object]
) -> tuple[Scope, dict[str, object]]:
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


def with_conversation(signature: AnySignature, adapter: Adapter, inputs: FieldValues) -> dict[str, object]:
    """
    Return an agent's inputs for a predictor that asks for other outputs than its own.

    The answers of earlier turns would be none of its fields; as a Message a turn is sent as it is.

    Raises:
        MissingInput: A turn of a History has none of the signature's fields.
    """
    changed: dict[str, object] = {}
    plan = plan_of(signature)
    for field in plan.inputs:
        if is_history(field) and inputs[field.name]:
            turns: list[object] = []
            for number, turn in enumerate(inputs[field.name]):
                made = [turn] if isinstance(turn, Message) else _as_turns(signature, plan, adapter, turn)
                if not made:
                    known = [each for each in plan.fields.values() if not is_history(each)]
                    raise MissingInput(plan.name, invalid=[f"{field.name}: {lost_turn(number, turn, known)}"])
                turns += made
            changed[field.name] = History(turns)
    return {**inputs, **changed}


def _as_turns(signature: AnySignature, plan: Plan, adapter: Adapter, turn: Mapping[str, object]) -> list[object]:
    said = {name: value for name, value in turn.items() if name in plan.fields and plan.fields[name].role == "input"}
    told = {each.name: turn[each.name] for each in plan.outputs if each.name in turn}
    answer = [Message("assistant", adapter.format_outputs(signature, told))] if told else []
    return [*([said] if said else []), *answer]


def with_trajectory(prediction: AnyRecord, trajectory: Trajectory) -> AnyRecord:
    """Return a record just made, with what was done for it in its details."""
    found: Details = prediction._details_
    prediction._details_ = replace(found, trajectory=trajectory)
    return prediction
