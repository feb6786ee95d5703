"""A first-in, first-out queue with a lane for urgent items, an optional bound and one reader."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from typing import Any, Protocol

__all__ = ["Mailbox", "Sleeper"]


class Sleeper(Protocol):
    """The object a reader sleeps on: a Future, or another object with ``set_result`` to wake it."""

    def done(self) -> bool:
        """Say whether there is nobody to wake."""

    def set_result(self, result: None, /) -> object:
        """Wake the reader."""


class Mailbox:
    """
    The queue of one actor; pure data but for the future its reader sleeps on.

    The deque is made on the first message and dropped when the reader goes to sleep, because an empty one costs more
    than the rest of an idle actor's mailbox.
    ``limit`` bounds ordinary items; urgent ones (exit signals, notices) are exempt.
    """

    __slots__ = ("_room", "high_water", "items", "limit", "urgent", "waiter")

    def __init__(self, limit: int | None = None) -> None:
        self.items: deque[Any] | None = None  # envelopes and users' own info messages
        self.urgent: deque[object] | None = None
        self.waiter: Sleeper | None = None
        self.limit = limit
        self.high_water = 0
        self._room: OrderedDict[asyncio.Future[None], None] | None = None  # who waits for room

    def __len__(self) -> int:
        return (len(self.items) if self.items else 0) + (len(self.urgent) if self.urgent else 0)

    @property
    def full(self) -> bool:
        """True when an ordinary item would be refused."""
        return self.limit is not None and self.items is not None and len(self.items) >= self.limit

    def put(self, item: object) -> bool:
        """Append ``item`` and wake the reader; False (and nothing done) when the mailbox is full."""
        items = self.items
        if items is None:
            items = self.items = deque()
        elif self.limit is not None and len(items) >= self.limit:
            return False
        items.append(item)
        depth = len(items)
        if depth > self.high_water:
            self.high_water = depth
        if self.waiter is not None:
            self.wake()
        return True

    def put_always(self, item: object) -> None:
        """Append a notice of the runtime's own: in order, but exempt from the bound."""
        limit, self.limit = self.limit, None
        self.put(item)
        self.limit = limit

    def put_urgent(self, item: object) -> None:
        """Queue ``item`` behind other urgent items and before all ordinary ones; never refused."""
        if self.urgent is None:
            self.urgent = deque()
        self.urgent.append(item)
        self.wake()

    def wake(self) -> None:
        """Let the reader go on, if it sleeps."""
        waiter, self.waiter = self.waiter, None  # taken first: two messages in one tick must not wake it twice
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def take(self) -> Any:
        """Remove and return the next item; the caller has seen that there is one."""
        if self.urgent:
            return self.urgent.popleft()
        assert self.items is not None
        item = self.items.popleft()
        if self._room:
            self.wake_putter()
        return item

    def remove(self, item: object) -> None:
        """Take ``item`` itself (not one that equals it) out of the queue, if it is there."""
        for lane in (self.items, self.urgent):
            for position, each in enumerate(lane or ()):
                if each is item:
                    assert lane is not None
                    del lane[position]
                    if lane is self.items:
                        self.wake_putter()
                    return

    async def wait_room(self, loop: asyncio.AbstractEventLoop) -> None:
        """Return when the mailbox may have room again; who waits longest is woken first."""
        if self._room is None:
            self._room = OrderedDict()
        future: asyncio.Future[None] = loop.create_future()
        self._room[future] = None
        try:
            await future
        except asyncio.CancelledError:
            if not future.cancelled():
                self.wake_putter()  # this place was offered to somebody who no longer wants it
            elif self._room is not None:
                self._room.pop(future, None)
            raise

    def wake_putter(self) -> None:
        """Offer a free place to who has waited longest."""
        while self._room:
            putter, _ = self._room.popitem(last=False)
            if not putter.done():
                putter.set_result(None)
                return

    def drain(self) -> list[Any]:
        """Remove and return everything, urgent first; wakes everyone who waits for room."""
        left = [*(self.urgent or ()), *(self.items or ())]
        self.urgent = self.items = None  # emptied before anybody is woken, who looks for room at once
        for putter in self._room or ():
            if not putter.done():
                putter.set_result(None)
        self._room = None
        return left
