"""A terminal as ``dspex top`` uses it: keys as they are pressed, a screen of its own, and everything put back after."""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from typing import Any, Final, Self

from rich.console import Console
from rich.text import Text

__all__ = ["Terminal", "text_of"]

_ENTER: Final = "\x1b[?1049h\x1b[?25l"
_LEAVE: Final = "\x1b[?25h\x1b[?1049l"


def text_of(lines: Sequence[Text], width: int, *, colours: bool) -> list[str]:
    """Return the lines as they are written: with colours, or as plain text."""
    if not colours:
        return [each.plain for each in lines]
    file = io.StringIO()
    console = Console(
        file=file, width=width, force_terminal=True, legacy_windows=False, highlight=False, color_system="standard"
    )
    for each in lines:
        console.print(each, no_wrap=True, overflow="crop", soft_wrap=True, markup=False, emoji=False)
    return file.getvalue().split("\n")[: len(lines)]


class Terminal:
    """
    The terminal that this process has.

    Args:
        colours: False where the user wants none.
    """

    def __init__(self, *, colours: bool) -> None:
        self._colours = colours
        self._before: list[Any] | None = None
        self._keys: int | None = None
        self._out = sys.stdout

    def __enter__(self) -> Self:
        with contextlib.suppress(OSError, ValueError, termios.error):  # closed, or not a terminal: there are no keys
            keys = sys.stdin.fileno()
            if os.isatty(keys):
                self._before = termios.tcgetattr(keys)
                self._keys = keys
        self.resume()
        return self

    def __exit__(self, *error: object) -> None:
        self.leave()

    @property
    def keys(self) -> int | None:
        """Where keys are read from; None where nobody can press any."""
        return self._keys

    def resume(self) -> None:
        """Take the terminal."""
        if self._keys is not None:
            tty.setcbreak(self._keys, termios.TCSANOW)
        self._write(_ENTER)

    def leave(self) -> None:
        """Give the terminal back as it was."""
        self._write(_LEAVE)
        if self._keys is not None and self._before is not None:
            with contextlib.suppress(termios.error):  # it has gone
                termios.tcsetattr(self._keys, termios.TCSADRAIN, self._before)

    def stop(self) -> None:
        """Give the terminal back while this process is stopped (Ctrl-Z), then take it again."""
        self.leave()
        os.kill(os.getpid(), signal.SIGSTOP)
        self.resume()

    def read(self) -> str | None:
        """Return what was typed; None when nothing more will come."""
        assert self._keys is not None  # whoever reads has asked
        try:
            typed = os.read(self._keys, 1024)
        except BlockingIOError:
            return ""
        except OSError:  # the terminal has gone
            return None
        return typed.decode("utf-8", "replace") if typed else None

    def size(self) -> tuple[int, int]:
        """Return columns and lines."""
        return shutil.get_terminal_size()

    def draw(self, lines: Sequence[Text], width: int) -> None:
        """Show a screen, in one piece."""
        shown = text_of(lines, width, colours=self._colours)
        body = "\x1b[K\r\n".join(shown)
        self._write(f"\x1b[?2026h\x1b[H{body}\x1b[K\x1b[J\x1b[?2026l")

    def _write(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()
