"""
The identity of processes: which process runs the current code.

A context variable alone cannot say it. asyncio copies the context into everything that a handler starts: tasks,
callbacks, the connections of a server. So the variable tells where code comes from, and the running task tells
whether the process itself is at work: it is the process's own task, or one that the process waits for.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

from dspex.errors import InternalError
from dspex.runtime._awaited import waits_for
from dspex.runtime._here import here, task_of

if TYPE_CHECKING:
    from dspex.runtime._process import Process

__all__ = ["HOME", "calling_process", "current_process", "home_process"]

HOME: ContextVar[Process | None] = ContextVar("dspex_process", default=None)
"""The process that started this code, directly or through plain tasks and callbacks."""


def current_process() -> Process | None:
    """
    Return the process that is at work in this code, or None.

    That is the process whose own task runs; in a task group, ``gather`` or another task that it awaits, the process
    that awaits. None outside the runtime, and in what a process has started and does not wait for: plain tasks,
    callbacks, threads, the connections of ``asyncio.start_server``. Those call an actor as anybody does.
    """
    home = HOME.get()
    if home is None:
        return None
    runtime = home.runtime
    if here() != runtime.here:  # a thread, to which the context was copied
        return None
    task = task_of(runtime.loop)
    if task is None or home._task is None:
        return None
    return home if home._task is task or waits_for(home, task) else None


def calling_process() -> Process:
    """
    Return the process that is at work in this code, where there must be one.

    Raises:
        InternalError: This code runs outside of every process, or in what one has started and does not wait for.
    """
    process = current_process()
    if process is None:
        raise InternalError("this was called outside of every process, such as a step")
    return process


def home_process() -> Process | None:
    """Return the process that this code comes from: the current one, or the one that started this plain task."""
    return HOME.get()
