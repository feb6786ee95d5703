"""The actor that owns the connections to a shared store, and looks after it while it is down."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from dspex.runtime import LibraryActor, Next, Runtime, get_logger
from dspex.services.shared.address import Shared
from dspex.services.shared.file_link import FileLink
from dspex.services.shared.link import Link, SchemaPart
from dspex.services.shared.postgres_link import PostgresLink
from dspex.services.shared.redis_link import RedisLink

__all__ = ["Broken", "SharedServer", "SharedTable", "open_link"]

_log = get_logger("shared")

FIRST_CONNECT = 2.0
"""Seconds that the start of an App waits for its store, at most; then it starts without."""

_CLOSING = 0.5
_FIRST_PAUSE = 0.05
_LONGEST_PAUSE = 2.0


@dataclass(frozen=True, slots=True)
class Broken:
    """An operation has found the store down: the table says why."""


class SharedTable:
    """
    The data that outlives the actor.

    Attributes:
        link: The open link; None while there is none.
        reason: Why the store counts as down; None while it is up.
        room: As many operations at once as there are connections.
        operations: How many were tried.
        failures: How many of them failed.
    """

    __slots__ = ("_since", "failures", "link", "operations", "parts", "reason", "room", "shared")

    def __init__(self, shared: Shared, parts: Sequence[SchemaPart]) -> None:
        self.shared = shared
        self.parts = tuple(parts)
        self.link: Link | None = None
        self.reason: str | None = "it has not been connected yet"
        self.room = asyncio.Semaphore(shared.connections)
        self.operations = 0
        self.failures = 0
        self._since = 0.0

    def went_down(self, reason: str, runtime: Runtime) -> None:
        """Note that the store is down, and tell whoever listens."""
        self.reason = reason
        self._since = runtime.clock.now()
        says = "the shared store {store} is down, so this process goes on without it: {reason}"
        _log.warning("shared store down", says=says, store=self.shared.address, reason=reason)
        if runtime.telemetry.active:
            runtime.telemetry.emit("dspex.shared.down", {}, {"store": self.shared.address, "reason": reason})

    def came_up(self, link: Link, runtime: Runtime) -> None:
        """Note that the store can be used from now on."""
        first = self._since == 0.0
        self.link, self.reason = link, None
        if first:
            return
        seconds, self._since = runtime.clock.now() - self._since, 0.0
        says = "the shared store {store} is used again after {seconds:.1f} s"
        _log.info("shared store up", says=says, store=self.shared.address, seconds=seconds)
        if runtime.telemetry.active:
            runtime.telemetry.emit("dspex.shared.up", {"seconds": seconds}, {"store": self.shared.address})


class SharedServer(LibraryActor):
    """
    Opens a link when it starts and whenever the last one has failed, with pauses that double up to two seconds.

    A store that is down keeps nobody from starting: its users go on without it.
    """

    def __init__(self, table: SharedTable) -> None:
        self._table = table
        self._mending = False

    async def init(self) -> None:
        """Connect, if that can be done soon."""
        self.own(self._table, _close_link)
        try:
            async with asyncio.timeout(FIRST_CONNECT):
                await self._connect()
        except Exception as error:  # noqa: BLE001 - whatever a client's package raises, the App starts without
            self._table.went_down(self._told(error), self.runtime)
            self._mend()

    async def handle_cast(self, message: object) -> Next:
        """Begin to look after a store that is down."""
        if not issubclass(type(message), Broken):
            return await super().handle_cast(message)
        if self._table.reason is not None:
            self._mend()
        return None

    def describe(self) -> str:
        """Tell the store and how it is."""
        table = self._table
        state = "up" if table.reason is None else f"down: {table.reason}"
        return f"{table.shared.address} {state}; {table.operations} operations, {table.failures} failed"

    def _mend(self) -> None:
        if not self._mending:
            self._mending = True
            self.spawn_task(self._connect_again, label="reconnect")

    async def _connect_again(self) -> None:
        """Try until the store answers; each try is a link of its own, so that nothing of the old one is trusted."""
        table, pause = self._table, _FIRST_PAUSE
        old, table.link = table.link, None
        try:
            if old is not None:
                await _close(old)
            while True:
                try:
                    async with asyncio.timeout(max(table.shared.timeout * 4, 1.0)):
                        await self._connect()
                except Exception as error:  # noqa: BLE001 - whatever a client's package raises, the store is down
                    table.reason = self._told(error)
                    # Jitter: the processes that lost the store together are not to come back in one tick.
                    await asyncio.sleep(pause * (0.5 + self.runtime.random.random()))
                    pause = min(pause * 2, _LONGEST_PAUSE)
                else:
                    return
        finally:
            self._mending = False

    async def _connect(self) -> None:
        link = open_link(self._table.shared)
        try:
            await link.open(self._table.parts)
        except BaseException:  # whatever it is: undone here, then raised on
            await _close(link)
            raise
        self._table.came_up(link, self.runtime)

    def _told(self, error: Exception) -> str:
        if isinstance(error, TimeoutError):
            return "it does not answer"
        return self._table.shared.told(error)


def open_link(shared: Shared) -> Link:
    """Return a link that is not connected yet."""
    if shared.kind == "sqlite":
        return FileLink(shared)
    return RedisLink(shared) if shared.kind == "redis" else PostgresLink(shared)


async def _close_link(table: SharedTable) -> None:
    link, table.link = table.link, None
    if table.reason is None:
        table.reason = "its connection is being opened again"
    if link is not None:
        await _close(link)


async def _close(link: Link) -> None:
    try:
        async with asyncio.timeout(_CLOSING):
            await link.close()
    except Exception as error:  # noqa: BLE001 - a connection that cannot even be closed is of no interest
        says = "closing a link to the shared store failed: {error}"
        _log.debug("closing a link failed", says=says, error=type(error).__name__)
