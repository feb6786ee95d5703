"""The door to a shared store: one operation at a time, each short, and none while the store is down."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from dspex.errors import SharedError
from dspex.runtime import ChildSpec, Runtime
from dspex.services.shared.address import Shared
from dspex.services.shared.link import SchemaPart
from dspex.services.shared.server import Broken, SharedServer, SharedTable

__all__ = ["SHARED", "SharedGateway"]

SHARED = "shared"
"""The name under which the connection's actor is registered; a second store has its address behind it."""

R = TypeVar("R")


class SharedGateway:
    """
    Runs operations on a shared store, in the caller's own task, over connections that the store's actor owns.

    An operation that fails because the store cannot be reached, or that takes longer than the store's ``timeout``, is
    the last one that is tried: from then on each fails at once, until the actor has found the store alive again. Who
    waits for an answer so pays for a store that hangs once.

    Args:
        runtime: Where the actor lives.
        shared: The store.
        parts: The parts of the schema that a Postgres needs.
        name: The name of the actor.
    """

    def __init__(
        self, runtime: Runtime, shared: Shared, parts: Sequence[SchemaPart] = (), *, name: str = SHARED
    ) -> None:
        self._runtime = runtime
        self._server = runtime.named(name)
        self._name = name
        self.shared = shared
        self.table = SharedTable(shared, parts)

    def spec(self) -> ChildSpec:
        """Return the child spec of the connection's actor."""
        return ChildSpec(self._name, SharedServer, (self.table,), name=self._name)

    @property
    def is_up(self) -> bool:
        """True when the next operation will be tried."""
        return self.table.link is not None and self.table.reason is None

    async def run(self, work: Callable[..., Awaitable[R]]) -> R:
        """
        Await ``work(connection)``: a ``redis.asyncio.Redis``, or a connection of asyncpg.

        Raises:
            SharedError: The store is down (at once, when this was known), or has refused the operation. Of one that
                was sent nobody knows then whether it was carried out.
        Cancellation: the operation's connection is closed.
        """
        table = self.table
        link = table.link
        if link is None or table.reason is not None:
            raise SharedError(f"{self.shared.address} is down: {table.reason}")
        try:
            async with table.room:
                if table.link is not link or table.reason is not None:  # it went down while we waited
                    raise SharedError(f"{self.shared.address} is down: {table.reason}")
                table.operations += 1
                async with asyncio.timeout(self.shared.timeout):
                    return await link.run(work)
        except SharedError:
            raise
        except Exception as error:  # noqa: BLE001 - whatever a client's package raises is the caller's one error
            raise self._failed(link is table.link, error, link.is_down(error)) from None  # it may show the password

    def _failed(self, is_current: bool, error: Exception, down: bool) -> SharedError:
        table = self.table
        table.failures += 1
        told = self.shared.told(error)
        if isinstance(error, TimeoutError):
            told = f"no answer within {self.shared.timeout:g} s"
        if down and is_current and table.reason is None:
            self._went_down(told)
        return SharedError(f"{self.shared.address} {'is down' if down else 'refused'}: {told}")

    def _went_down(self, reason: str) -> None:
        # Noted before anything else runs: of many callers under way, the next one already fails at once.
        self.table.went_down(reason, self._runtime)
        self._server.cast(Broken())

    def health(self) -> dict[str, object]:
        """Return how the store is, for a health endpoint."""
        table = self.table
        known: dict[str, object] = {"store": self.shared.address, "up": self.is_up}
        return known if table.reason is None else {**known, "reason": table.reason}
