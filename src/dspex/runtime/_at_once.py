"""
A call to an actor that rests is handled in the caller's tick.

A handler that never has to wait costs its caller no turn of the loop: its first step runs here, in the actor's context
and as the actor's task, just as the loop would run it. If it answers in that step the actor never wakes; if it waits,
crashes or wants something else, the actor's own loop takes over what has begun.

The technique is that of the eager tasks of Python 3.12, with the functions asyncio documents for other makers of tasks.
"""

from __future__ import annotations

import asyncio
from asyncio.tasks import _enter_task, _leave_task
from collections.abc import Awaitable, Callable, Coroutine, Generator
from types import CoroutineType
from typing import TYPE_CHECKING, Any, Final

from dspex.runtime._here import task_of
from dspex.runtime._next import NoReply, Reply

if TYPE_CHECKING:
    from dspex.runtime._actor_loop import ActorLoop
    from dspex.runtime._messages import CallEnvelope

__all__ = ["CALLS_BEFORE_TURN", "DEEPEST", "NOT_YET", "StartedHandler", "begun_in", "handle_at_once"]

CALLS_BEFORE_TURN: Final = 128
"""Calls of one runtime that are handled at once before one goes through the loop, so that everybody gets a turn."""

DEEPEST: Final = 8
"""Processes that may wait for each other when a call is handled at once: each has its frames on the caller's stack."""

NOT_YET: Final = object()
"""There is no answer yet: the envelope's future will have it."""


def handle_at_once(process: ActorLoop, resting: asyncio.Future[None], envelope: CallEnvelope) -> object:
    """
    Run the first step of ``handle_call`` now.

    Args:
        process: Of an actor that rests, so has no message and no idle timer.
        resting: The object that its loop sleeps on.

    Returns:
        The answer, or ``NOT_YET``; the actor rests again, or its loop has been woken to go on.
    """
    loop, mailbox, task = process.runtime.loop, process.mailbox, process._task
    caller = task_of(loop)
    if caller is None or task is None:  # a coroutine that somebody drives by hand, or that of another loop
        process.runtime.refuse_other_loops()
        mailbox.put(envelope)
        return NOT_YET
    # At work from here on. This comes before the handler runs: a call that the handler makes may lead back to this
    # actor, and must find it busy, so that it is queued, or refused as a cycle.
    mailbox.waiter = process.resting = None
    process._current, process._chain = envelope, envelope.chain
    process.handled += 1
    if not mailbox.high_water:
        mailbox.high_water = 1
    answer: object = NOT_YET
    # asyncio allows one current task for a loop. The caller's must be left before the actor's is entered, and the other
    # way round below; between the two lines no foreign code may run. With the actor's task current, `timeout`, task
    # groups and cancel scopes inside the handler bind to the actor, and not to the caller.
    _leave_task(loop, caller)
    _enter_task(loop, task)
    try:
        begun = StartedHandler(*process.context.run(_first_step, process.actor.handle_call, envelope))
    except StopIteration as returned:
        outcome = returned.value
        kind = type(outcome)
        # `exit_reason` is read after the step: a handler that was killed in it must not answer.
        if kind is Reply and outcome.then is None and process.exit_reason is None:
            process._current = None
            process._chain = ()
            answer, begun = outcome.value, None
        elif kind is NoReply and outcome.then is None and process.exit_reason is None:
            process._answered(envelope, outcome)
            begun = None
        else:
            begun = StartedHandler(_return(outcome))
    except BaseException as error:  # noqa: BLE001 - whatever it is: raised again in the actor's own loop
        trace = error.__traceback__
        for _ in range(2):  # our frames, which hold the envelope and tell nobody anything
            trace = trace.tb_next if trace is not None else None
        begun = StartedHandler(_raise(BaseException.with_traceback(error, trace)))  # not what its class makes of that
    finally:
        # Also after an exception: a caller that goes on with another task as current is cancelled in its place.
        _leave_task(loop, task)
        _enter_task(loop, caller)
    if begun is None and not mailbox.items and not mailbox.urgent:
        # Nothing was queued during the step: the actor sleeps on as before, unless it was woken (killed) in the step.
        if not resting.done():
            mailbox.waiter = process.resting = resting
    else:
        # `begun` is set before the loop is woken: the loop looks for it as soon as its future is done.
        process.begun = begun
        if not resting.done():
            resting.set_result(None)
    return answer


def _first_step(
    handle_call: Callable[[object, CallEnvelope], Awaitable[object]], envelope: CallEnvelope
) -> tuple[Coroutine[object, None, object], object]:
    try:
        coroutine = handle_call(envelope.message, envelope)
    except StopIteration as error:  # of a handler that is a plain function: not to be taken for a return
        coroutine = _raise(error)
    if type(coroutine) is not CoroutineType:
        coroutine = _awaiting(coroutine)
    return coroutine, coroutine.send(None)


class StartedHandler:
    """
    A coroutine whose first step has been made elsewhere; awaiting it goes on from there.

    Args:
        coroutine: The coroutine.
        awaited: The future it waits for, as it yielded it; None is a turn of the loop.
    """

    __slots__ = ("_coroutine", "awaited", "cancelled")

    def __init__(self, coroutine: Coroutine[object, None, object], awaited: Any = NOT_YET) -> None:
        self._coroutine = coroutine
        self.awaited = awaited
        self.cancelled: asyncio.CancelledError | None = None
        """The cancellation that came before it was awaited, meant for the coroutine."""

    def __await__(self) -> Generator[object, None, object]:
        coroutine, awaited, cancelled = self._coroutine, self.awaited, self.cancelled
        self.cancelled = None
        try:
            if awaited is NOT_YET:
                if cancelled is not None:
                    raise cancelled
                awaited = coroutine.send(None)
            elif cancelled is not None and not (awaited is not None and awaited.cancel()):  # as Task.cancel does it
                awaited = coroutine.throw(cancelled)
            while True:  # `yield from` would begin with a step, and the first step was made elsewhere
                try:
                    yield awaited
                except BaseException as error:  # noqa: BLE001 - thrown into the coroutine, as ``yield from`` would
                    awaited = coroutine.throw(error)
                else:
                    awaited = coroutine.send(None)
        except StopIteration as returned:
            return returned.value
        finally:
            coroutine.close()


def begun_in(frames: object) -> Coroutine[object, None, object] | None:
    """Return the coroutine that a suspended ``StartedHandler`` goes on with, for those who follow what awaits what."""
    frame = getattr(frames, "gi_frame", None)
    if frame is None or frame.f_code is not StartedHandler.__await__.__code__:
        return None
    coroutine: Coroutine[object, None, object] = frame.f_locals["coroutine"]
    return coroutine


async def _awaiting(awaitable: Awaitable[object]) -> object:
    return await awaitable


async def _return(outcome: object) -> object:
    return outcome


async def _raise(error: BaseException) -> object:
    raise error
