"""
Snapshots for many viewers: made while somebody looks, at most every 100 ms, and handed out as what has changed.

Nobody looking, nothing is made. A snapshot that is dear to make is made less often, so that looking takes about one
hundredth of the loop's time, whatever there is to see. A restart wakes the viewers, since that is what people look for.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from dspex._clock import monotonic
from dspex._random import fresh_id
from dspex.app.dashboard.delta import delta
from dspex.app.dashboard.notes import Notes
from dspex.app.dashboard.pace import LookPace
from dspex.app.dashboard.presenter import look
from dspex.app.dashboard.shapes import Plain

if TYPE_CHECKING:
    from dspex.app._tree import AppTree

__all__ = ["Audience", "Hub", "encoded"]

RATE: Final = 256 * 1024
"""Bytes a second that one viewer is sent at most, over some seconds."""

REMEMBERED: Final = 50
"""Snapshots that a viewer who comes back may go on from."""

QUIET: Final = 10.0
"""Seconds after which a viewer is sent a line, though nothing has changed: proxies close what is silent."""


class Hub:
    """
    The snapshots of one run of an App: one for all who look at it, by whichever door.

    Args:
        tree: The tree of the running App.
        notes: Its memory for viewers.
        look: Makes a snapshot; for tests.
    """

    def __init__(self, tree: AppTree, notes: Notes, look: Callable[[AppTree, Notes], Plain] = look) -> None:
        self._tree = tree
        self._notes = notes
        self._look = look
        self._mark = fresh_id("d")
        self._number = 0
        self.pace = LookPace()
        self._recent: deque[tuple[int, Plain]] = deque(maxlen=REMEMBERED)
        self._encoded: tuple[tuple[int, int], bytes] | None = None
        self._sleeping: set[asyncio.Future[None]] = set()
        self.made = 0
        """Snapshots that were made."""
        tree.runtime.restart_watchers.add(self._restarted)

    def _restarted(self, path: str) -> None:
        """Note who is at an actor that is being restarted; of a storm, the first wakes those who look."""
        self._notes.note_death(path, self._tree.runner.live.values(), self._tree.runtime.clock.now())
        if self.pace.restarted(monotonic()):
            self.wake()

    def wake(self) -> None:
        """Wake those who wait for the next snapshot, to see if it is due, or if they are to leave."""
        for future in self._sleeping:
            _wake(future)

    def current(self) -> tuple[int, Plain]:
        """Return the latest snapshot and its number, made now unless there is one that is fresh enough."""
        if self._recent and monotonic() < self.pace.due - 0.005:
            return self._recent[-1]
        return self.make()

    def make(self) -> tuple[int, Plain]:
        """Return a snapshot that is made now, for whoever has done something and looks at what has come of it."""
        begun = monotonic()
        snapshot = self._look(self._tree, self._notes)
        self.made += 1
        self._number += 1
        self.pace.made(begun, monotonic(), down=bool(snapshot["app"]["down"]))
        self._recent.append((self._number, snapshot))
        return self._recent[-1]

    def event_id(self, number: int) -> str:
        """Return the id of the event that brings a viewer to this snapshot."""
        return f"{self._mark}-{number}"

    def find(self, event_id: str) -> tuple[int, Plain] | None:
        """Return the snapshot of an event that a viewer has seen; None when it is too old, or of another run."""
        return next((each for each in self._recent if self.event_id(each[0]) == event_id), None)

    def step(self, known: tuple[int, Plain], now: tuple[int, Plain]) -> tuple[str, bytes]:
        """Return the update that leads from one snapshot to another; all who see the same share its bytes."""
        step = known[0], now[0]
        if self._encoded is None or self._encoded[0] != step:
            begun = monotonic()
            self._encoded = step, encoded(delta(known[1], now[1]))
            self.pace.cost_more(monotonic() - begun)
        changes = self._encoded[1]
        if now[0] - known[0] > REMEMBERED // 2:
            whole = encoded(now[1])
            if len(whole) < len(changes):
                return "snapshot", whole
        return "delta", changes

    async def sleep(self, seconds: float) -> None:
        """Wait so long, or until ``wake``."""
        runtime = self._tree.runtime
        future: asyncio.Future[None] = runtime.loop.create_future()
        timer = runtime.clock.call_later(seconds, _wake, future, context=runtime.context)
        self._sleeping.add(future)
        try:
            await future
        finally:
            self._sleeping.discard(future)
            timer.cancel()


class Audience:
    """
    Those who look through one door, such as the page or the local socket; they leave when it is closed.

    Args:
        hub: Where snapshots come from.
    """

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.closed = False
        self.viewers = 0

    async def events(self, last_event_id: str = "") -> AsyncIterator[bytes]:
        """
        Yield server-sent events for one viewer, until the door is closed: ``snapshot`` first, then ``delta``.

        A viewer whose last event is still known goes on from there. One that is slow is not sent what it has missed:
        the next event leads from what it has to what is now, or is a snapshot where that is shorter.
        """
        async with aclosing(self._updates(self.hub.find(last_event_id))) as updates:
            async for kind, number, data in updates:
                yield _event(kind, self.hub.event_id(number), data) if data else b": nothing new\n\n"

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """Yield the same as JSON Lines: ``{"snapshot": …}``, then ``{"delta": …}``, and ``{}`` after a long silence."""
        async with aclosing(self._updates(None)) as updates:
            async for kind, _, data in updates:
                yield b'{"%s":%s}\n' % (kind.encode(), data) if data else b"{}\n"

    def close(self) -> None:
        """End the streams of all viewers, at once."""
        self.closed = True
        self.hub.wake()

    async def _updates(self, known: tuple[int, Plain] | None) -> AsyncGenerator[tuple[str, int, bytes], None]:
        """Yield the kind of an update, the number of the snapshot that it leads to, and its JSON."""
        hub = self.hub
        self.viewers += 1
        try:
            told_at, debt = monotonic(), 0.0
            while not self.closed:
                number, snapshot = hub.current()
                kind, data = "", b""
                if known is None:
                    kind, data = "snapshot", encoded(snapshot)
                elif number != known[0]:
                    kind, data = hub.step(known, (number, snapshot))
                known = number, snapshot
                if data or monotonic() - told_at >= QUIET:
                    debt = max(0.0, debt - (monotonic() - told_at) * RATE) + len(data)
                    told_at = monotonic()
                    yield kind, number, data
                # A first snapshot may be large: who has been sent little is not held up by it.
                await self._wait(told_at + (debt - RATE) / RATE)
        finally:
            self.viewers -= 1

    async def _wait(self, least: float) -> None:
        """Wait for the next snapshot, at least until ``least``; in pieces, since a restart makes it due sooner."""
        while not self.closed and (left := max(least, self.hub.pace.due) - monotonic()) > 0.001:
            await self.hub.sleep(min(left, QUIET))


def encoded(value: object) -> bytes:
    """Return JSON without line breaks; what models wrote cannot end an event, or be mistaken for one."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()


def _event(kind: str, event_id: str, data: bytes) -> bytes:
    return b"event: %s\nid: %s\ndata: %s\n\n" % (kind.encode(), event_id.encode(), data)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
