"""The link to Redis, through the package ``redis``, which is loaded when the first one is opened."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, TypeVar

from dspex.services.shared.address import Shared
from dspex.services.shared.link import SchemaPart

if TYPE_CHECKING:
    from redis.asyncio import Redis

__all__ = ["RedisLink"]

R = TypeVar("R")


class RedisLink:
    """A client of its own pool; ``work`` is called with the client, whose commands take a connection each."""

    def __init__(self, shared: Shared) -> None:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        self.client: Redis = Redis.from_url(
            shared.url,
            protocol=2,  # aiocache reads these answers
            # Callers have timeouts of their own; those of redis 8 lose the cancellation of a task that waits.
            socket_timeout=None,
            socket_connect_timeout=None,
            retry=Retry(NoBackoff(), 0),  # our own caller knows better: it goes on without
            retry_on_timeout=False,
            health_check_interval=0,
            decode_responses=False,
        )

    async def open(self, parts: Sequence[SchemaPart]) -> None:
        """Ask for a sign of life; Redis needs no schema."""
        await self.client.ping()

    async def run(self, work: Callable[..., Awaitable[R]]) -> R:
        """Await ``work(client)``."""
        return await work(self.client)

    def is_down(self, error: Exception) -> bool:
        """True for lost and refused connections, silence, and a server that is still loading its data."""
        from redis.exceptions import ConnectionError as LostConnection
        from redis.exceptions import TimeoutError as Silence

        return isinstance(error, (LostConnection, Silence, OSError))

    async def close(self) -> None:
        """Close the pool's connections."""
        await self.client.connection_pool.disconnect(inuse_connections=True)
