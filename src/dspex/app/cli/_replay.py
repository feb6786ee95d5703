"""``dspex replay``."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from dspex._html import write_page
from dspex.app.cli._top import check_view, print_screen
from dspex.app.config import read_no_color
from dspex.app.top.film import film_of
from dspex.app.top.replay import Replay
from dspex.app.top.screen import Look, State
from dspex.app.top.terminal import Terminal
from dspex.app.top.trace import Trace

__all__ = ["run"]


def run(path: Path, *, html: Path | None, speed: float, at: float | None, view: str) -> int:
    """Play a recording, print one picture of it, or write it as a page; returns the exit code."""
    check_view(view)
    with Trace(path) as trace:
        if html is not None:
            write_page(html, "replay.js", film_of(trace), title=f"recording of {trace.title}")
            sys.stdout.write(f"{html}: {html.stat().st_size / 2**20:.1f} MiB\n")
        elif at is not None or not sys.stdout.isatty():
            picture = trace.picture(trace.number(trace.length if at is None else at))
            print_screen(picture, State(f"recording of {trace.title}", "recorded", "cyan"), view, None)
        else:
            with Terminal(colours=not read_no_color()) as terminal:
                asyncio.run(_play(trace, terminal, Look(view=view), speed))
    return 0


async def _play(trace: Trace, terminal: Terminal, look: Look, speed: float) -> None:
    await Replay(trace, terminal, look, speed).run()
