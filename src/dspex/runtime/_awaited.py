"""
Which task waits for what, read from the callbacks of futures.

asyncio keeps no such table. A future knows whom it wakes, though, so the search goes upward: from what is awaited to
those it wakes, through ``gather``, ``wait``, ``shield``, task groups and the futures of threads.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import sys
from asyncio import Future, Task
from collections.abc import Iterator
from concurrent.futures.thread import _WorkItem
from functools import partial
from threading import local
from types import CellType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from dspex.runtime._process import Process

__all__ = ["THREAD", "waits_for", "work_of_thread"]

_FARTHEST: Final = 256
"""Futures that one search looks at; a wait that is farther away is not found."""

THREAD: Final = local()
"""``THREAD.answer`` is the future that the thread of a ``ThreadPool`` works for."""


def waits_for(process: Process, awaited: object) -> bool:
    """
    Say whether ``process`` goes on only when ``awaited`` is done.

    Args:
        process: The process whose own task may wait.
        awaited: A task or a future, of asyncio or of a thread.
    """
    waiter = process._task
    if waiter is None:
        return False
    begun = getattr(process, "begun", None)  # a handler that waits since its first step: its task has not heard of it
    blocked = begun.awaited if begun is not None else getattr(waiter, "_fut_waiter", None)
    todo, seen = [awaited], {id(awaited)}
    while todo:
        each = todo.pop()
        if each is waiter or (each is blocked and each is not None):
            return True
        for woken in _woken_by(each):
            if id(woken) not in seen and len(seen) < _FARTHEST:
                seen.add(id(woken))
                todo.append(woken)
    return False


def work_of_thread() -> object | None:
    """Return the future that this thread works for, in a pool of ours or in an executor; None when there is none."""
    answer: object = getattr(THREAD, "answer", None)
    if answer is not None:
        return answer
    frame = sys._getframe()
    while frame is not None:
        if frame.f_code is _WorkItem.run.__code__:
            item: object = frame.f_locals.get("self")
            future: object = getattr(item, "future", None)
            return future
        frame = frame.f_back  # type: ignore[assignment]  # the outermost has none
    return None


def _woken_by(future: object) -> Iterator[Future[object]]:
    """Yield the tasks and futures that the end of ``future`` moves on."""
    if isinstance(future, concurrent.futures.Future):
        callbacks = list(future._done_callbacks)  # type: ignore[attr-defined]  # not in the stubs
    else:
        callbacks = [callback for callback, _ in getattr(future, "_callbacks", None) or ()]
    for callback in callbacks:
        owner = getattr(callback, "__self__", None)
        if isinstance(owner, Task):  # its own wake-up: it awaits this future
            yield owner
            continue
        for value in _held_by(callback):
            if isinstance(value, Future) and not isinstance(value, Task):  # a task that is mentioned is not woken
                yield value
            elif type(value).__name__ == "TaskGroup" and (host := _host_of(value)) is not None:
                yield host  # be it not at the end of its block yet: it cannot leave that before


def _held_by(callback: object) -> list[object]:
    """Return the values that a callback works on: what it is bound to, its arguments, its closure."""
    if isinstance(callback, partial):
        return [*callback.args, *_held_by(callback.func)]
    names = getattr(getattr(callback, "__code__", None), "co_freevars", ())
    closure = dict(zip(names, (_content(cell) for cell in getattr(callback, "__closure__", None) or ()), strict=False))
    if closure.get("timeout_handle") is not None:
        return []  # that one goes on by itself
    many = isinstance(counter := closure.get("counter"), int) and counter > 1
    if many and closure.get("return_when") == asyncio.FIRST_COMPLETED:
        return []  # somebody else may move that one on
    return [getattr(callback, "__self__", None), *closure.values()]


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # not set yet
        return None


def _host_of(group: object) -> Task[object] | None:
    """Return the task whose block a task group is: of asyncio, or of anyio."""
    host = getattr(group, "_parent_task", None) or getattr(getattr(group, "cancel_scope", None), "_host_task", None)
    return host if isinstance(host, Task) else None
