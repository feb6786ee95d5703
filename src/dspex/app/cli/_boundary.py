"""Where errors become one line and an exit code."""

from __future__ import annotations

import errno
import os
import shlex
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import typer

from dspex.app.cli._interrupt import INTERRUPTED
from dspex.errors import DspexError, JobMismatch, OptimizationError, RetrievalError
from dspex.protocols.printable import printable

__all__ = ["at_the_boundary"]

_NOT_ALL = 1
_WRONG = 2


def at_the_boundary(command: Callable[[], object]) -> int:
    """
    Run a command and return its exit code; what went wrong is one line on standard error.

    An error that is not of dspex, of the user's module say, tells where it was raised; Python's development mode shows
    all of its traceback.
    """
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, Path(os.devnull).open("w"))  # noqa: SIM115 - the process has it to its end
    for stream in (sys.stdout, sys.stderr):
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None:
            reconfigure(errors="replace")  # a terminal that lacks a character shows another one
    try:
        code = command()
        sys.stdout.flush()  # here, where an error has its words: the interpreter would flush it after us
    except (KeyboardInterrupt, typer.Abort):
        return INTERRUPTED
    except BrokenPipeError:
        _forget_output()
        return _NOT_ALL
    except Exception as error:  # the border of the process: errors turn into exit codes here
        found = _ours(error)
        if isinstance(error, OSError) and error.errno == errno.ENOSPC:
            if not _can_write():
                _forget_output()
            _say(f"no space is left on the device of {error.filename or 'the output'}")
            return _WRONG
        if found is None and sys.flags.dev_mode:
            raise
        _say(_told(found) if found is not None else _placed(error))
        return _WRONG
    return code if isinstance(code, int) else 0


def _ours(error: BaseException) -> Exception | None:
    """Return the error to tell the user of; None when it is not one of ours."""
    if isinstance(error, BaseExceptionGroup):
        return next((found for each in error.exceptions if (found := _ours(each)) is not None), None)
    if isinstance(error, DspexError) or (isinstance(error, Exception) and hasattr(error, "format_message")):
        return error
    return None


def _told(error: Exception) -> str:
    if isinstance(error, JobMismatch):  # it names the argument of a call; here an option says it
        options = " ".join(f"--accept-changed {shlex.quote(each)}" for each in error.changed)
        return str(error).replace(f"accept_changed={list(error.changed)}", options)
    if isinstance(error, OptimizationError):  # so it is with where its journal goes
        return str(error).replace("App(home=…)", "--home").replace("journal=", "--journal")
    if isinstance(error, RetrievalError):
        return str(error).replace("SqliteIndex.build(path, passages)", "`dspex index build INDEX FILES`")
    format_message = getattr(error, "format_message", None)  # what typer, or the click beneath it, raises
    return str(format_message() if format_message is not None else error)


def _placed(error: BaseException) -> str:
    """Return an error that nobody has foreseen, and where it was raised."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    places = traceback.extract_tb(error.__traceback__)
    where = f" ({places[-1].filename}, line {places[-1].lineno})" if places else ""
    if isinstance(error, SyntaxError):
        where = ""  # it says so itself
    return f"{type(error).__name__}: {error}{where}; `python -X dev -m dspex` shows the traceback"


def _say(text: str) -> None:
    """Write what went wrong as one line."""
    if text:
        sys.stderr.write(f"dspex: {printable(' '.join(text.split()))}\n")


def _can_write() -> bool:
    """True when standard output takes what is left to be written to it."""
    try:
        sys.stdout.flush()
    except OSError:
        return False
    return True


def _forget_output() -> None:
    """Let nobody find out again, while the interpreter ends, that the reader has left."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)
