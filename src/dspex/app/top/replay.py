"""A recording in the terminal: played, paused, faster, slower, and from any moment on."""

from __future__ import annotations

import asyncio
from typing import Final

from dspex._clock import monotonic
from dspex.app.dashboard.shapes import Plain
from dspex.app.top.screen import Look, State
from dspex.app.top.show import Viewer
from dspex.app.top.terminal import Terminal
from dspex.app.top.trace import Trace

__all__ = ["Player", "Replay"]

SPEEDS: Final = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 60.0)
JUMPS: Final = {"[": -10.0, "]": 10.0, "{": -60.0, "}": 60.0, ",": -0.5, ".": 0.5}
"""Keys that go to another moment, and how far in seconds of the recording."""


class Player:
    """
    Where a recording is at: pure but for the times that it is told.

    Args:
        length: Seconds of the recording.
        speed: Seconds of it that pass in one.
        now: A monotonic time.
    """

    def __init__(self, length: float, speed: float, now: float) -> None:
        self.length = length
        self.speed = speed
        self.paused = False
        self._from = 0.0
        self._since = now

    def at(self, now: float) -> float:
        """Return the moment that is to be seen."""
        passed = 0.0 if self.paused else (now - self._since) * self.speed
        return min(self.length, max(0.0, self._from + passed))

    def press(self, key: str, now: float) -> bool:
        """Do what a key means; False for one that it does not know."""
        here = self.at(now)
        if key == "p":
            ended = here >= self.length
            self.paused, here = (False, 0.0) if ended else (not self.paused, here)
        elif key in ("+", "-", "="):
            beyond = [each for each in SPEEDS if (each < self.speed if key == "-" else each > self.speed)]
            self.speed = (beyond[-1] if key == "-" else beyond[0]) if beyond else self.speed
        elif key in JUMPS:
            here = min(self.length, max(0.0, here + JUMPS[key]))
        else:
            return False
        self._from, self._since = here, now
        return True

    def words(self, now: float) -> str:
        """Tell where it is at."""
        here = self.at(now)
        how = "paused" if self.paused else "the end" if here >= self.length else f"{self.speed:g}x"
        return f"{clock(here)} of {clock(self.length)}  {how}"


def clock(value: float) -> str:
    """Return seconds as a player shows them."""
    minutes, seconds = divmod(int(value), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}" if minutes >= 60 else f"{minutes}:{seconds:02}"


class Replay(Viewer):
    """
    A recording on a terminal.

    Args:
        trace: The recording.
        terminal: Where it is shown.
        look: The view that is shown first.
        speed: Seconds of the recording that pass in one.
    """

    def __init__(self, trace: Trace, terminal: Terminal, look: Look, speed: float) -> None:
        super().__init__(terminal, look)
        self._trace = trace
        self._player = Player(trace.length, speed, monotonic())

    def current(self, look: Look) -> tuple[Plain, State] | None:
        """Return the picture of this moment of the recording."""
        del look
        now = monotonic()
        picture = self._trace.picture(self._trace.number(self._player.at(now)))
        notice = "[ ] 10 s  { } 60 s  , . a step  + - speed  p pause"
        if self._trace.broken:
            notice += "  (the recording was broken off)"
        return picture, State(f"recording of {self._trace.title}", self._player.words(now), "cyan", notice)

    def key(self, key: str) -> bool:
        """Do what the keys of a player mean."""
        return self._player.press(key, monotonic())

    async def feed(self) -> None:
        """Have the screen drawn again while it plays."""
        while True:
            self.wake.set()
            await asyncio.sleep(0.25)
