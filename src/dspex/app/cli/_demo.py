"""``dspex demo``."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from dspex.app.config import read_no_color
from dspex.app.demo.local.options import LocalOptions
from dspex.app.demo.local.story import run_local
from dspex.app.demo.options import DemoOptions
from dspex.app.demo.plain import PlainShow
from dspex.app.demo.screen import ScreenShow
from dspex.app.demo.show import Show
from dspex.app.demo.story import run_demo

__all__ = ["run", "run_with_local_model"]


def run(
    *,
    lm: str | None,
    api_base: str | None,
    questions: int | None,
    chaos: bool | None,
    seed: int,
    port: int,
    yes: bool,
    watch: bool = False,
) -> int:
    """Run the demo; returns the exit code."""
    options = DemoOptions(lm, api_base, questions, chaos, seed, port, yes, watch)
    show = _show()
    return run_demo(options, show, _asking(show, yes=yes), stay=isinstance(show, ScreenShow))


def run_with_local_model(
    *,
    gguf: Path | None,
    api_base: str | None,
    questions: int | None,
    chaos: bool | None,
    seed: int,
    port: int,
    yes: bool,
) -> int:
    """Run the demo with a real model on this machine; returns the exit code."""
    options = LocalOptions(gguf, api_base, questions, chaos is not False, seed, port)
    show = _show()
    return run_local(options, show, _asking(show, yes=yes))


def _show() -> Show:
    console = Console(no_color=True if read_no_color() else None, highlight=False)
    on_screen = console.is_terminal and not console.is_dumb_terminal
    return ScreenShow(console) if on_screen else PlainShow(sys.stdout)


def _asking(show: Show, *, yes: bool) -> Callable[[str], bool]:
    """Return what tells the user what it is about to do, and asks whether to go ahead where somebody can answer."""

    def agree(estimate: str) -> bool:
        show.say(estimate)
        if yes or sys.stdin is None or sys.stdin.closed or not sys.stdin.isatty():
            return True
        sys.stdout.write("   Go ahead? [y/N] ")
        sys.stdout.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    return agree
