"""``dspex demo``."""

from __future__ import annotations

import sys

from rich.console import Console

from dspex.app.config import read_no_color
from dspex.app.demo.options import DemoOptions
from dspex.app.demo.plain import PlainShow
from dspex.app.demo.screen import ScreenShow
from dspex.app.demo.show import Show
from dspex.app.demo.story import run_demo

__all__ = ["run"]


def run(
    *, lm: str | None, api_base: str | None, questions: int | None, chaos: bool | None, seed: int, port: int, yes: bool
) -> int:
    """Run the demo; returns the exit code."""
    options = DemoOptions(lm, api_base, questions, chaos, seed, port, yes)
    console = Console(no_color=True if read_no_color() else None, highlight=False)
    on_screen = console.is_terminal and not console.is_dumb_terminal
    show: Show = ScreenShow(console) if on_screen else PlainShow(sys.stdout)

    def agree(estimate: str) -> bool:
        show.say(estimate)
        if yes or not sys.stdin.isatty():
            return True
        sys.stdout.write("   Go ahead? [y/N] ")
        sys.stdout.flush()
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    return run_demo(options, show, agree)
