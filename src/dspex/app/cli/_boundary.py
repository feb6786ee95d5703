"""Where errors become one line and an exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable

import typer

from dspex.app.cli._interrupt import INTERRUPTED
from dspex.errors import DspexError

__all__ = ["at_the_boundary"]

_NOT_ALL = 1
_WRONG = 2


def at_the_boundary(command: Callable[[], object]) -> int:
    """Run a command and return its exit code; what the user has to put right is one line on standard error."""
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # a terminal that lacks a character shows another one
    try:
        code = command()
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        _forget_output()
        return _NOT_ALL
    except Exception as error:  # the border of the process: errors turn into exit codes here
        found = _ours(error)
        if found is None:
            raise
        _say(found)
        return _WRONG
    return code if isinstance(code, int) else 0


def _ours(error: BaseException) -> Exception | None:
    """Return the error to tell the user of; None for a bug, which keeps its traceback."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for each in error.exceptions if (found := _ours(each)) is not None), None)
    if isinstance(error, DspexError) or (isinstance(error, Exception) and hasattr(error, "format_message")):
        return error
    return None


def _say(error: Exception) -> None:
    """Write the error as one line."""
    format_message = getattr(error, "format_message", None)  # what typer, or the click beneath it, raises
    text = str(format_message() if format_message is not None else error)
    if text:
        sys.stderr.write(f"dspex: {' '.join(text.split())}\n")


def _forget_output() -> None:
    """Let nobody find out again, while the interpreter ends, that the reader has left."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
