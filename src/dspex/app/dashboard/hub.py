"""
Snapshots for many viewers: made while somebody looks, at most every 100 ms, and handed out as what has changed.

Nobody looking, nothing is made. A snapshot that is dear to make is made less often, so that looking takes about one
hundredth of the loop's time, whatever there is to see; after a restart one is made sooner, since that is what people
look for.
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
from dspex.app.dashboard.presenter import look
from dspex.app.dashboard.shapes import Plain

if TYPE_CHECKING:
    from dspex.app._tree import AppTree

__all__ = ["Hub", "encoded"]

EVERY: Final = 0.1
"""Seconds between two snapshots, at least; eyes follow ten pictures a second."""

SELDOM: Final = 2.0
"""Seconds between two snapshots, at most, however dear they are."""

SHARE: Final = 0.004
"""The share of the loop's time that snapshots may take; sending them, and the notes of requests, take the rest."""

URGENT: Final = 0.05
"""The share while actors are restarted."""

RATE: Final = 256 * 1024
"""Bytes a second that one viewer is sent at most."""

REMEMBERED: Final = 50
"""Snapshots that a viewer who comes back may go on from."""

QUIET: Final = 10.0
"""Seconds after which a viewer is sent a line, though nothing has changed: proxies close what is silent."""


class Hub:
    """
    The snapshots of one run of an App.

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
        self._made_at = float("-inf")
        self._restarts = 0
        self._costs: deque[float] = deque(maxlen=5)
        self._recent: deque[tuple[int, Plain]] = deque(maxlen=REMEMBERED)
        self._encoded: tuple[tuple[int, int], bytes] | None = None
        self._sleeping: set[asyncio.Future[None]] = set()
        self.closed = False
        self.viewers = 0
        self.made = 0
        """Snapshots that were made."""

    def is_of(self, tree: AppTree) -> bool:
        """True when it shows this tree: an App that is started again has another."""
        return self._tree is tree

    @property
    def pause(self) -> float:
        """The seconds until the next snapshot, within bounds: the dearer one is, the longer."""
        share = URGENT if self._is_urgent else SHARE
        return min(SELDOM, max(EVERY, min(self._costs, default=0.0) / share))

    @property
    def _is_urgent(self) -> bool:
        """True when an actor has been restarted since the latest snapshot."""
        return self._tree.runtime.restarts != self._restarts

    def current(self) -> tuple[int, Plain]:
        """Return the latest snapshot and its number, made now unless there is one that is fresh enough."""
        begun = monotonic()
        if self._recent and begun - self._made_at < self.pause * 0.9:
            return self._recent[-1]
        self._restarts = self._tree.runtime.restarts
        snapshot = self._look(self._tree, self._notes)
        self.made += 1
        self._number += 1
        self._made_at = monotonic()
        self._costs.append(self._made_at - begun)
        self._recent.append((self._number, snapshot))
        return self._recent[-1]

    def event_id(self, number: int) -> str:
        """Return the id of the event that brings a viewer to this snapshot."""
        return f"{self._mark}-{number}"

    def find(self, event_id: str) -> tuple[int, Plain] | None:
        """Return the snapshot of an event that a viewer has seen; None when it is too old, or of another run."""
        return next((each for each in self._recent if self.event_id(each[0]) == event_id), None)

    async def events(self, last_event_id: str = "") -> AsyncIterator[bytes]:
        """
        Yield server-sent events for one viewer, until the hub is closed: ``snapshot`` first, then ``delta``.

        A viewer whose last event is still known goes on from there. One that is slow is not sent what it has missed:
        the next event leads from what it has to what is now, or is a snapshot where that is shorter.
        """
        async with aclosing(self._updates(self.find(last_event_id))) as updates:
            async for kind, number, data in updates:
                yield _event(kind, self.event_id(number), data) if data else b": nothing new\n\n"

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """Yield the same as JSON Lines: ``{"snapshot": …}``, then ``{"delta": …}``, and ``{}`` after a long silence."""
        async with aclosing(self._updates(None)) as updates:
            async for kind, _, data in updates:
                yield b'{"%s":%s}\n' % (kind.encode(), data) if data else b"{}\n"

    async def _updates(self, known: tuple[int, Plain] | None) -> AsyncGenerator[tuple[str, int, bytes], None]:
        """Yield the kind of an update, the number of the snapshot that it leads to, and its JSON."""
        self.viewers += 1
        try:
            silent = 0.0
            while not self.closed:
                number, snapshot = self.current()
                kind, data = "", b""
                if known is None:
                    kind, data = "snapshot", encoded(snapshot)
                elif number != known[0]:
                    kind, data = self._step(known, (number, snapshot))
                known = number, snapshot
                if data or silent >= QUIET:
                    silent = 0.0
                    yield kind, number, data
                silent += await self._wait(len(data) / RATE)
        finally:
            self.viewers -= 1

    def close(self) -> None:
        """End the streams of all viewers, at once."""
        self.closed = True
        for future in self._sleeping:
            _wake(future)

    async def _wait(self, least: float) -> float:
        """Wait for the next snapshot, at least so many seconds, and return how many it were."""
        waited = 0.0
        while not self.closed and (left := max(least, self.pause) - waited) > 0.001:
            step = min(EVERY, left)  # in steps: the pause becomes shorter after a restart
            await self._sleep(step)
            waited += step
        return waited

    async def _sleep(self, seconds: float) -> None:
        runtime = self._tree.runtime
        future: asyncio.Future[None] = runtime.loop.create_future()
        timer = runtime.clock.call_later(seconds, _wake, future, context=runtime.context)
        self._sleeping.add(future)
        try:
            await future
        finally:
            self._sleeping.discard(future)
            timer.cancel()

    def _step(self, known: tuple[int, Plain], now: tuple[int, Plain]) -> tuple[str, bytes]:
        """Return the update that leads from one snapshot to another; all who see the same share its bytes."""
        step = known[0], now[0]
        if self._encoded is None or self._encoded[0] != step:
            begun = monotonic()
            self._encoded = step, encoded(delta(known[1], now[1]))
            self._costs[-1] += monotonic() - begun
        changes = self._encoded[1]
        if now[0] - known[0] > REMEMBERED // 2:
            whole = encoded(now[1])
            if len(whole) < len(changes):
                return "snapshot", whole
        return "delta", changes


def encoded(value: object) -> bytes:
    """Return JSON without line breaks; what models wrote cannot end an event, or be mistaken for one."""
    return json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode()


def _event(kind: str, event_id: str, data: bytes) -> bytes:
    return b"event: %s\nid: %s\ndata: %s\n\n" % (kind.encode(), event_id.encode(), data)


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
