"""Several logical calls that together are one: each in a process of its own below the step that asks."""

from __future__ import annotations

import contextvars
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import TypeVar

from dspex.errors import ActorExited, BudgetExceeded, ContentRefused, LMError
from dspex.protocols.lm import AttemptLog, Charge, LMDelta, LMRequest, LMResponse, Usage
from dspex.protocols.scope import OnDelta
from dspex.runtime import Crashed, Runtime, TaskHandle, await_many, calling_process

__all__ = ["ask_each", "gather", "parts_of", "side_by_side"]

R = TypeVar("R")
Ask = Callable[[LMRequest, AttemptLog, OnDelta | None], Awaitable[LMResponse]]
"""Makes one logical call."""


async def ask_each(
    runtime: Runtime, ask: Ask, request: LMRequest, log: AttemptLog, on_delta: OnDelta | None
) -> LMResponse:
    """
    Return the ``n`` answers that ``request`` wants from a model that gives one at a time, in their order.

    A seed counts up from answer to answer. Every call has a log of its own below ``log``, so that a restarted step
    asks only for what is missing. An answer that was withheld is left out, as long as there is another.

    Raises:
        LMError: The error of the first call that failed; the others are broken off.
    Cancellation: every call is broken off, its socket closed, before this returns.
    """
    params = request.params
    parts = await parts_of(log, params.n)

    async def answer(index: int) -> LMResponse | ContentRefused:
        seed = None if params.seed is None else params.seed + index
        asked, part = replace(request, params=replace(params, n=1, seed=seed)), parts[index]
        told = None if on_delta is None else _numbered(on_delta, index, log)
        if part.response is not None:
            if told is not None:
                await part.tell_rest(told)
            return part.response
        try:
            return await ask(asked, part, told)
        except ContentRefused as refusal:
            return refusal

    try:
        ended = await side_by_side(runtime, [partial(answer, index) for index in range(params.n)])
    except LMError:
        for part in parts:  # what came is of no use any more, and paid for
            if part.response is not None and part.lm is not None:
                part.charges.append(Charge(part.lm, part.response.usage))
        raise
    finally:
        gather(log, parts)
    answers = [each for each in ended if isinstance(each, LMResponse)]
    if not answers:
        refusal = next(each for each in ended if isinstance(each, ContentRefused))
        refusal.attempts = tuple(log.attempts)
        raise refusal
    completions = tuple(completion for answer in answers for completion in answer.completions)
    usage = sum((answer.usage for answer in answers), Usage())
    log.response = replace(answers[0], completions=completions, usage=usage, withheld=len(ended) - len(answers))
    return log.response


async def parts_of(log: AttemptLog, count: int) -> list[AttemptLog]:
    """
    Return the logs below ``log``, made at the first asking; all of them are allowed before the first is sent.

    Raises:
        BudgetExceeded: A budget does not allow it.
    """
    while len(log.parts) < count:
        log.parts.append(AttemptLog(f"{log.idempotency_key}.{len(log.parts) + 1}", log.path))
    for part in log.parts:
        part.grant, part.fetch = log.grant, log.fetch
    if log.grant is not None:
        unsent = sum(not part.was_sent for part in log.parts)
        try:
            log.grant(unsent)
        except BudgetExceeded:
            if log.fetch is None:
                raise
            await log.fetch(unsent)
    return log.parts


def gather(log: AttemptLog, parts: Sequence[AttemptLog]) -> None:
    """Tell in ``log`` what its parts have done."""
    log.attempts[:] = [attempt for part in parts for attempt in part.attempts]
    log.charges[:] = [charge for part in parts for charge in part.charges]
    log.sent = sum(part.sent for part in parts)
    log.lm = next((part.lm for part in parts if part.lm is not None), log.lm)


def _numbered(on_delta: OnDelta, index: int, log: AttemptLog) -> OnDelta:
    async def deliver(delta: LMDelta) -> None:
        log.delivered = True
        await on_delta(replace(delta, index=index))

    return deliver


async def side_by_side(runtime: Runtime, works: Sequence[Callable[[], Awaitable[R]]]) -> list[R]:
    """
    Run ``works`` at the same time and return what they returned, in their order.

    Raises:
        ActorExited: One was killed by others.
        Exception: The exception of the first that failed; the others are killed.
    Cancellation: all are dead, their sockets closed, before this returns.
    """
    step = calling_process()
    processes = [
        runtime.spawn_task(step, work, label=f"{step.label} part {number}", context=contextvars.copy_context())
        for number, work in enumerate(works, 1)
    ]
    try:
        return await await_many([TaskHandle(process, step) for process in processes], None)
    except BaseException as error:  # whatever it is: undone here, then raised on
        await runtime.kill_tasks(processes)
        if isinstance(error, ActorExited) and isinstance(error.reason, Crashed):
            raise error.reason.error from None
        raise
