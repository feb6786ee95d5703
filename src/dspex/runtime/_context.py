"""Which process the running code belongs to."""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dspex.runtime._process import Process

__all__ = ["CURRENT", "current_process"]

CURRENT: ContextVar[Process | None] = ContextVar("dspex_process", default=None)


def current_process() -> Process | None:
    """Return the process whose code this is, or None outside the runtime."""
    return CURRENT.get()
