"""``dspex top`` at work: snapshots come, keys are pressed, the screen follows, until the viewer quits."""

from __future__ import annotations

import asyncio
import signal
from contextlib import ExitStack, aclosing
from dataclasses import replace
from typing import Final

import httpx

from dspex._clock import monotonic
from dspex.app.dashboard.shapes import Plain
from dspex.app.top.acts import Act, answered, asked
from dspex.app.top.cells import seconds
from dspex.app.top.feed import Feed, snapshots
from dspex.app.top.record import Recorder
from dspex.app.top.screen import Look, Screen, State, frame, keys_of, meaning, press
from dspex.app.top.terminal import Terminal
from dspex.errors import ConfigError

__all__ = ["Live", "Viewer", "record"]

PICTURES: Final = 0.2
"""Seconds between two pictures, at least, unless a key is pressed."""

AGAIN: Final = 1.0
"""Seconds after which an App that has ended is looked for again."""

STALE: Final = 3.0
"""Seconds of silence that are told."""


class Viewer:
    """
    A screen and its keys; subclasses know what is to be seen.

    Args:
        terminal: Where it is shown.
        look: The view that is shown first.
    """

    def __init__(self, terminal: Terminal, look: Look) -> None:
        self._terminal = terminal
        self.look: Look | None = look
        self.wake = asyncio.Event()
        self._frame: Screen | None = None
        self._rest = ""
        self._interrupted = False

    def current(self, look: Look) -> tuple[Plain, State] | None:
        """Return what is to be seen now; None while there is nothing."""
        raise NotImplementedError

    def key(self, key: str) -> bool:
        """Do what a key of this viewer's own means; False for one that it does not know."""
        del key
        return False

    async def feed(self) -> None:
        """Bring what is to be seen, until cancelled."""
        raise NotImplementedError

    async def work(self) -> None:
        """Do what the viewer wants done, until cancelled."""

    async def run(self) -> None:
        """Show it until the viewer quits; raises what ``feed`` raises, and KeyboardInterrupt after Ctrl-C."""
        loop = asyncio.get_running_loop()
        with ExitStack() as undo:
            for number, handler in (
                (signal.SIGWINCH, self.wake.set),
                (signal.SIGINT, self._interrupt),
                (signal.SIGTERM, self._quit),
                (signal.SIGHUP, self._quit),
                (signal.SIGTSTP, self._stop),
            ):
                loop.add_signal_handler(number, handler)
                undo.callback(loop.remove_signal_handler, number)
            if self._terminal.keys is not None:
                loop.add_reader(self._terminal.keys, self._typed)
                undo.callback(loop.remove_reader, self._terminal.keys)
            async with asyncio.TaskGroup() as around:
                beside = [around.create_task(self.feed()), around.create_task(self.work())]
                await self._draw_until_quit()
                for task in beside:
                    task.cancel()
        if self._interrupted:
            raise KeyboardInterrupt

    async def _draw_until_quit(self) -> None:
        while self.look is not None:
            self._draw(self.look)
            self.wake.clear()
            before = self.look
            try:
                async with asyncio.timeout(1.0):
                    await self.wake.wait()
            except TimeoutError:
                continue
            if self.look is before:  # no key was pressed: the eyes can wait
                await asyncio.sleep(PICTURES)

    def _draw(self, look: Look) -> None:
        told = self.current(look)
        if told is not None:
            width, height = self._terminal.size()
            self._frame = frame(*told, look, width, height)
            self._terminal.draw(self._frame.lines, width)

    def _typed(self) -> None:
        typed = self._terminal.read()
        if typed is None:
            self._quit()
            return
        keys, self._rest = keys_of(self._rest + typed)
        if self._rest == "\x1b":  # alone it is the key; a sequence comes in one piece
            keys, self._rest = [*keys, "escape"], ""
        for sign in keys:
            if self.look is None:
                break
            key = meaning(sign, typed=self.look.ask is not None and self.look.ask.typed is not None)
            if self.key(key):
                continue
            if self._frame is not None:
                before, self.look = self.look, press(self.look, key, self._frame)
                if self.look is not None and self.look.view != before.view:
                    self._draw(self.look)  # the next key, typed fast, is meant for the lines of this view
            elif key == "q":
                self.look = None
        self.wake.set()

    def _quit(self) -> None:
        self.look = None
        self.wake.set()

    def _interrupt(self) -> None:
        self._interrupted = True
        self._quit()

    def _stop(self) -> None:
        self._terminal.stop()
        self.wake.set()


class Live(Viewer):
    """
    An App that runs.

    Args:
        source: Where snapshots come from.
        terminal: Where they are shown.
        recorder: Where they are written to as well.
        look: The view that is shown first.
    """

    def __init__(self, source: Feed, terminal: Terminal, recorder: Recorder | None, look: Look) -> None:
        super().__init__(terminal, look)
        self._source = source
        self._recorder = recorder
        self._snapshot: Plain | None = None
        self._shown: Plain | None = None
        self._heard = monotonic()
        self._state = State(source.title, "connecting", "yellow")
        self._wanted: asyncio.Queue[Act] = asyncio.Queue()
        self._said = ""

    def current(self, look: Look) -> tuple[Plain, State] | None:
        """Return the latest snapshot; while it is paused, the one that was shown then."""
        if not look.paused or self._shown is None:
            self._shown = self._snapshot
        if self._shown is None:
            return None
        silent, state = monotonic() - self._heard, self._state
        if state.link == "live" and silent > STALE:
            state = replace(state, link=f"silent for {seconds(silent)}", tone="yellow")
        if self._said:
            state = replace(state, notice=f"{self._said}  {state.notice}".rstrip())
        return self._shown, replace(state, acts=self._source.can_act)

    def key(self, key: str) -> bool:
        """Ask, or do, what a key means for the chosen line."""
        look, shown = self.look, self._shown
        if look is None or shown is None or not self._source.can_act or look.help:
            return False
        if look.ask is None:
            found = asked(look.view, look.chosen, key, shown)
            if found is None:
                return False
        else:
            found = answered(look.ask, key)
        self._said = ""
        if isinstance(found, Act):
            self._wanted.put_nowait(found)
            found = None
        self.look = replace(look, ask=found)
        return True

    async def work(self) -> None:
        """Do what was asked for, one thing after the other, and tell what came of it."""
        while True:
            act = await self._wanted.get()
            try:
                await self._source.act(act)
            except (ConfigError, OSError, httpx.HTTPError) as error:
                self._said = f"{act.words}: {str(error) or type(error).__name__}"
            else:
                self._said = f"{act.words}: done"
            self.wake.set()

    async def feed(self) -> None:
        """
        Take snapshots; when the App has ended, wait for the next of its name.

        Raises:
            ConfigError: There was nothing to show from the beginning.
        """
        while True:
            why = "it has ended"
            try:
                async with aclosing(snapshots(self._source)) as found:
                    async for snapshot in found:
                        self._take(snapshot)
            except (OSError, httpx.HTTPError) as error:
                if self._snapshot is None:
                    told = str(error) or type(error).__name__
                    raise ConfigError(f"{self._source.title} does not answer: {told}") from error
                why = "it has ended" if self._state.tone == "red" else "it does not answer"
            if self._snapshot is None:
                raise ConfigError(f"{self._source.title} ended before it told anything")
            self._state = State(self._source.title, f"{why}; this was the last of it", "red", self._state.notice)
            self.wake.set()
            await asyncio.sleep(AGAIN)

    def _take(self, snapshot: Plain) -> None:
        self._snapshot = snapshot
        self._heard = monotonic()
        notice = ""
        if self._recorder is not None:
            self._recorder.take(snapshot)
            why = f"; nothing more is written: {self._recorder.problem}" if self._recorder.full else ""
            notice = f"recorded {self._recorder.size / 2**20:.1f} MB{why}"
        self._state = State(self._source.title, "live", "green", notice)
        self.wake.set()


async def record(source: Feed, recorder: Recorder) -> None:
    """
    Write snapshots down without a screen, until the App ends or the file is full.

    Raises:
        ConfigError: Nobody answers.
    """
    begun = False
    try:
        async with aclosing(snapshots(source)) as found:
            async for snapshot in found:
                begun = True
                recorder.take(snapshot)
                if recorder.full:
                    return
    except (OSError, httpx.HTTPError) as error:
        if not begun:
            raise ConfigError(f"{source.title} does not answer: {str(error) or type(error).__name__}") from error
