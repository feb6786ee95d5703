"""``dspex top``."""

from __future__ import annotations

import asyncio
import json
import shutil
import sys
from contextlib import ExitStack, aclosing
from pathlib import Path

import httpx

from dspex.app.config import read_no_color, read_socket_folders
from dspex.app.dashboard.shapes import Plain
from dspex.app.top.feed import Feed, feed_of, snapshots
from dspex.app.top.record import Recorder
from dspex.app.top.screen import Look, State, frame
from dspex.app.top.show import Live, record
from dspex.app.top.terminal import Terminal, text_of
from dspex.app.top.views import VIEWS
from dspex.errors import ConfigError

__all__ = ["check_view", "print_screen", "run"]

_MIB = 2**20


def run(what: str, *, view: str, once: bool, as_json: bool, trace: Path | None, most: int, width: int | None) -> int:
    """Show an App in this terminal, print it once, or record it; returns the exit code: 1 when there is a choice."""
    check_view(view)
    feed = feed_of(what, read_socket_folders())
    if isinstance(feed, list):
        lines = [f"{each.pid:>8}  {each.name:<24}  {each.path.stem}\n" for each in feed]
        sys.stdout.write("".join(lines) + "Which one? dspex top PID, or the name that stands last.\n")
        return 1
    screen = sys.stdout.isatty()
    if as_json or once or (not screen and trace is None):
        _print(asyncio.run(_first(feed)), feed, view, as_json=as_json, width=width)
        return 0
    with ExitStack() as opened:
        recorder = None
        if trace is not None:
            recorder = Recorder(trace, most * _MIB, feed.title)
            opened.callback(recorder.close)
        if not screen:
            assert recorder is not None  # otherwise it was printed once
            asyncio.run(record(feed, recorder))
            sys.stdout.write(f"{trace}: {recorder.size} bytes{f', {recorder.problem}' if recorder.full else ''}\n")
            return 0
        terminal = opened.enter_context(Terminal(colours=not read_no_color()))
        asyncio.run(_show(feed, terminal, recorder, Look(view=view)))
    return 0


async def _show(feed: Feed, terminal: Terminal, recorder: Recorder | None, look: Look) -> None:
    await Live(feed, terminal, recorder, look).run()


async def _first(feed: Feed) -> Plain:
    try:
        async with aclosing(snapshots(feed)) as found:
            async for snapshot in found:
                return snapshot
    except (OSError, httpx.HTTPError) as error:
        raise ConfigError(f"{feed.title} does not answer: {str(error) or type(error).__name__}") from error
    raise ConfigError(f"{feed.title} ended before it told anything")


def _print(snapshot: Plain, feed: Feed, view: str, *, as_json: bool, width: int | None) -> None:
    if as_json:
        sys.stdout.write(json.dumps(snapshot) + "\n")
    else:
        print_screen(snapshot, State(feed.title), view, width)


def print_screen(snapshot: Plain, state: State, view: str, width: int | None) -> None:
    """Print one screen, as high as it is."""
    columns = width or shutil.get_terminal_size((100, 40)).columns
    shown = frame(snapshot, state, Look(view=view), columns, None)
    colours = sys.stdout.isatty() and not read_no_color()
    sys.stdout.write("\n".join(text_of(shown.lines, columns, colours=colours)) + "\n")


def check_view(view: str) -> None:
    """Raise ConfigError for what is not the name of a view."""
    if all(view != each.key for each in VIEWS):
        raise ConfigError(f"--view {view!r:.40} is none of {', '.join(each.key for each in VIEWS)}")
