"""The event loops on which the runtime must behave the same."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final

import uvloop

__all__ = ["EAGER", "LOOPS"]

EAGER: Final[Any] = getattr(asyncio, "eager_task_factory", None)
"""The factory that runs a task up to its first wait before ``create_task`` returns; None before Python 3.12."""


def eager_event_loop() -> asyncio.AbstractEventLoop:
    """Return a loop of asyncio's own, on which code begins to run inside ``create_task``."""
    loop = asyncio.new_event_loop()
    loop.set_task_factory(EAGER)
    return loop


LOOPS: Final[Mapping[str, Callable[[], asyncio.AbstractEventLoop]]] = {
    "asyncio": asyncio.new_event_loop,
    "uvloop": uvloop.new_event_loop,
    **({} if EAGER is None else {"eager": eager_event_loop}),
}
