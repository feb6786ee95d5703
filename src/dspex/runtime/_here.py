"""Where code runs, asked in the cheapest way that a version of Python has: every call and cast asks."""

from __future__ import annotations

import asyncio
import sys
import threading
from asyncio import _get_running_loop
from collections.abc import Callable
from typing import Final

__all__ = ["here", "task_of"]

here: Final[Callable[[], object]] = _get_running_loop if sys.version_info >= (3, 12) else threading.get_ident
"""
Returns what ``Runtime.here`` is in the code of its loop, and is not elsewhere.

It is the running loop. Python 3.11 asks the operating system for the process id each time, which costs more than a
whole cast, so there it is the thread. Another loop of the same thread is then found out by what fails in it.
"""

task_of: Final[Callable[[asyncio.AbstractEventLoop], asyncio.Task[object] | None]] = (
    asyncio.current_task if sys.version_info >= (3, 12) else asyncio.tasks._current_tasks.get  # type: ignore[attr-defined]
)
"""Returns the task that a loop runs now; Python 3.11 has ``asyncio.current_task`` in Python only."""
