"""Running a part of a task in another context, without another task."""

from __future__ import annotations

import types
from collections.abc import Coroutine, Generator
from contextvars import Context
from typing import Any, TypeVar

__all__ = ["in_context"]

T = TypeVar("T")


@types.coroutine
def in_context(
    coroutine: Coroutine[object, Any, T], context: Context
) -> Generator[object, Any, T]:  # what asyncio yields
    """
    Await ``coroutine`` in the caller's task, with ``context`` current while it runs.

    Event loops keep the context in which a socket was opened or a timer was set for as long as the socket or the
    timer lives. Opened in here, a kept-alive connection does not keep the values of the request that happened to
    open it, and their request alive, for ever.

    Cancellation: travels into the coroutine, as if it were awaited directly.
    """
    run = context.run
    try:
        waited_for = run(coroutine.send, None)
        while True:
            try:
                sent = yield waited_for
            except GeneratorExit:
                run(coroutine.close)
                raise
            except BaseException as error:  # noqa: BLE001 - thrown in by the loop, handed on to the coroutine
                waited_for = run(coroutine.throw, error)
            else:
                waited_for = run(coroutine.send, sent)
    except StopIteration as stop:
        result: T = stop.value
        return result
