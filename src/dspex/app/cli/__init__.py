"""The command line: ``dspex``, or ``python -m dspex``."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence

from dspex.app.cli._interrupt import INTERRUPTED, leaving_at_once

__all__ = ["main"]

_WRONG = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """
    Run a command and return the exit code.

    0 is done, 1 not all of it, 2 something that the user has to put right (one line on standard error says what),
    130 stopped by Ctrl-C.

    Args:
        arguments: The command line without the program's name; that of the process when None.
    """
    try:
        with leaving_at_once():
            if any(importlib.util.find_spec(name) is None for name in ("typer", "rich")):
                sys.stderr.write("dspex: the command line needs an extra: pip install 'dspex[cli]'\n")
                return _WRONG
            from dspex.app.cli._commands import run

            return run(arguments)
    except KeyboardInterrupt:
        return INTERRUPTED
