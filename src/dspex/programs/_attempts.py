"""Several runs of programs side by side, their results in a fixed order, and runs that differ only by their seed."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import NamedTuple, TypeVar

import anyio

from dspex.programs.module import Module, Program
from dspex.protocols.executor import Failed, Ok
from dspex.protocols.scope import FieldValues, current_scope

__all__ = ["Judged", "Reward", "judge", "rollout", "side_by_side"]

R = TypeVar("R")

Reward = Callable[[FieldValues, R], object]
"""
``reward(inputs, answer)``: a number, a bool, or a Score; sync or async; the higher, the better.
"""


class Judged(NamedTuple):
    """A reward's judgement of an answer."""

    value: float
    feedback: str = ""


async def judge(reward: Reward[R], inputs: Mapping[str, object], answer: R) -> Judged:
    """
    Ask a reward for its verdict.

    Raises:
        TypeError: It returned no finite number.
        Exception: Any exception that it raised.
    Cancellation: an async reward is cancelled.
    """
    found = reward(inputs, answer)
    if inspect.isawaitable(found):
        found = await found
    feedback = getattr(found, "feedback", "")
    value = getattr(found, "value", found)  # a Score brings words with its number
    if not isinstance(value, (bool, int, float)) or not math.isfinite(value):
        raise TypeError(f"the reward returned {found!r}, which is not a finite number")
    return Judged(float(value), feedback if isinstance(feedback, str) else "")


def rollout(program: Program[..., R], number: int, temperature: float) -> Program[..., R]:
    """
    Return ``program`` for its run ``number``: the first is the program itself, each further one is sampled afresh.

    Seeds tell the runs apart, for the provider and for the cache; the same number is always the same run.
    """
    if number == 0 or not isinstance(program, Module):
        return program
    return program.with_config(temperature=temperature, seed=number)


async def side_by_side(
    calls: Sequence[Callable[[], Awaitable[R]]],
    *,
    max_concurrency: int,
    enough: Callable[[R], bool] | None = None,
) -> list[Ok[R] | Failed]:
    """
    Await every call, at most ``max_concurrency`` at once, and return how each ended, in their order.

    With ``enough``, the list ends with the first value, in the order of the calls, that it accepts: later calls are
    cancelled, and their results dropped, so that the outcome does not depend on who was faster.

    Cancellation: all calls are cancelled, and have ended, before it travels on.
    """
    ended: dict[int, Ok[R] | Failed] = {}
    settled = 0  # how many, from the first, have ended without being enough
    found = False
    limit = anyio.Semaphore(max_concurrency)
    async with anyio.create_task_group() as group:

        async def run(number: int, call: Callable[[], Awaitable[R]]) -> None:
            nonlocal settled, found
            try:
                ended[number] = Ok(await call())
            except Exception as error:  # noqa: BLE001 - how one of several ended is a value
                ended[number] = Failed(error)
            finally:
                limit.release()
            while not found and settled in ended:
                outcome = ended[settled]
                settled += 1
                found = enough is not None and isinstance(outcome, Ok) and enough(outcome.value)
            if found:
                group.cancel_scope.cancel()

        for number, call in enumerate(calls):
            await limit.acquire()
            group.start_soon(run, number, call)
    return [ended[number] for number in range(settled)]


def note(what: object, kind: str) -> None:
    """Tell telemetry that an answer was not taken as it came."""
    scope = current_scope.get(None)
    if scope is not None:
        scope.note_repair(type(what).__name__, "", kind)
