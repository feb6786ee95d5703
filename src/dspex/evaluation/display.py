"""Where the progress of something long is shown: one line of a terminal, or a bar in a notebook; elsewhere nowhere."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
from collections.abc import Callable
from html import escape
from typing import Protocol, TextIO

from dspex._clock import monotonic
from dspex.protocols.printable import printable

__all__ = ["Display", "open_display"]

_EVERY = 0.1
"""Seconds between two pictures."""

_BAR = 20
"""Characters of a bar that has room enough."""

_SETTLED = 2.0
"""Seconds after which the pace so far says when the work will be done."""


class _Handle(Protocol):
    """IPython's handle of something that is shown."""

    def update(self, shown: object) -> None:
        """Show something else in its place."""
        ...


class Display:
    """
    Shows where something stands, at most ten times a second.

    A screen that cannot be written to any more is left alone: it ends no work.

    Args:
        picture: Called with the text, and the share of the work that is done; None where nobody knows.
        finish: Called after the last picture.
    """

    def __init__(self, picture: Callable[[str, float | None], object], finish: Callable[[], object]) -> None:
        self._picture = picture
        self._finish = finish
        self._next = 0.0
        self._last: tuple[str, float | None] | None = None
        self._began = monotonic()

    def show(self, text: str, share: float | None = None) -> None:
        """Show a line of text; it is kept for later where the last one is fresh."""
        self._last = (text, share)
        now = monotonic()
        if now >= self._next:
            self._next = now + _EVERY
            self._last = (text + time_left(now - self._began, share), share)
            self._draw()

    def close(self) -> None:
        """Show what was said last, and leave it there."""
        self._draw()
        with contextlib.suppress(OSError, ValueError):
            self._finish()

    def _draw(self) -> None:
        if self._last is not None:
            with contextlib.suppress(OSError, ValueError):  # closed meanwhile
                self._picture(*self._last)
            self._last = None


def open_display(wanted: bool | None) -> Display | None:
    """
    Return where progress is shown.

    Args:
        wanted: None shows it on terminals and in notebooks; True shows it on standard error in any case; False nowhere.
    """
    if wanted is False:
        return None
    notebook = _notebook()
    if notebook is not None:
        return notebook
    stream: TextIO | None = sys.stderr
    if stream is None or not (wanted or stream.isatty()):
        return None
    return Display(*_line(stream))


def time_left(passed: float, share: float | None) -> str:
    """
    Return in words how long the rest will take at the pace so far; nothing where that is too early to say.

    Args:
        passed: Seconds since the beginning.
        share: The part of the work that is done, from 0 to 1; None where nobody knows.
    """
    if share is None or not 0.0 < share < 1.0 or passed < _SETTLED:
        return ""
    seconds = passed * (1.0 - share) / share
    for unit, size in (("h", 3600.0), ("min", 60.0)):
        if seconds >= 2 * size:
            return f", {seconds / size:.0f} {unit} left"
    return f", {seconds:.0f} s left"


def fitted(text: str, share: float | None, room: int) -> str:
    """
    Return one line of at most ``room`` characters.

    The bar is as long as there is room for it; a text that is too long alone loses its last parts.

    Args:
        text: Parts with commas between them, the most important first.
        share: The part of the work that is done, from 0 to 1; None for no bar.
        room: Characters, at least 1.
    """
    while len(text) > room and ", " in text:
        text = text.rpartition(", ")[0]
    bar = min(_BAR, room - len(text) - 3)
    if share is None or bar < _BAR // 4:
        return text[:room]
    return f"[{'#' * round(share * bar):<{bar}}] {text}"


def _line(stream: TextIO) -> tuple[Callable[[str, float | None], object], Callable[[], object]]:
    """Return how one line of a terminal is written again and again; elsewhere each picture is a line of its own."""
    live = stream.isatty()
    last = 0  # written over with spaces: not every terminal knows a word that clears a line

    def picture(text: str, share: float | None) -> None:
        nonlocal last
        line = fitted(printable(text), share, max(1, _width(stream) - 1))
        stream.write(f"\r{line:<{last}}" if live else f"{line}\n")
        stream.flush()
        last = len(line)

    def finish() -> None:
        stream.write("\n" if live else "")
        stream.flush()

    return picture, finish


def _width(stream: TextIO) -> int:
    with contextlib.suppress(OSError, ValueError):
        return os.get_terminal_size(stream.fileno()).columns or 80
    return 80


def _notebook() -> Display | None:
    """Return a display below the cell that runs, where this process is a notebook's kernel."""
    if "IPython" not in sys.modules:
        return None
    shell = importlib.import_module("IPython").get_ipython()
    if getattr(shell, "kernel", None) is None:
        return None
    display = importlib.import_module("IPython.display")
    handle: _Handle | None = None

    def picture(text: str, share: float | None) -> None:
        nonlocal handle
        bar = "" if share is None else f'<progress max="1" value="{share:.4f}"></progress> '
        shown = display.HTML(f"{bar}<code>{escape(text)}</code>")
        if handle is None:
            handle = display.display(shown, display_id=True)
        else:
            handle.update(shown)

    return Display(picture, lambda: None)
