"""Ctrl-C while modules are being imported."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["INTERRUPTED", "interruptible", "leaving_at_once"]

INTERRUPTED = 130
"""The exit code of what Ctrl-C has stopped, as shells have it."""


@contextmanager
def leaving_at_once() -> Iterator[None]:
    """
    Have Ctrl-C end the process there and then, until ``interruptible`` is called: nothing has been started yet.

    An exception in the middle of an import would reach whatever is being imported: code that swallows it, a
    destructor that prints it, an ``exec`` that has the interpreter die of the signal later on.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # signals are the main thread's
        return
    before = signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def interruptible() -> None:
    """Have Ctrl-C raise KeyboardInterrupt from here on: what has been started has to be ended too."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.default_int_handler)
