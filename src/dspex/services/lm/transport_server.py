"""The actor that owns the sockets of one key."""

from __future__ import annotations

from collections.abc import Callable

from dspex._clock import Clock
from dspex.protocols.model import Secret
from dspex.runtime import From, LibraryActor, Next, Reply
from dspex.services.lm.channel import Channel
from dspex.services.lm.leases import LeaseTable
from dspex.services.lm.providers import Endpoint
from dspex.services.lm.transport import Transport

__all__ = ["GetChannel", "TransportServer"]


class GetChannel:
    """Ask for the live channel; parks with the name while the transport is being restarted."""

    __slots__ = ()


class TransportServer(LibraryActor):
    """
    Opens the transport, publishes its channel in the lease table, and closes every socket when it ends.

    The attempts themselves run in their callers' steps: when this actor dies they see a transport failure.
    """

    def __init__(
        self, endpoint: Endpoint, key: Secret | None, table: LeaseTable, open_transport: Callable[[Clock], Transport]
    ) -> None:
        self._endpoint = endpoint
        self._key = key
        self._table = table
        self._open = open_transport
        self._channel: Channel | None = None

    async def init(self) -> None:
        """Open the transport; no connection is made yet."""
        self._channel = Channel(self._endpoint, self._key, self._open(self.runtime.clock))
        self.own(self._channel, Channel.aclose)
        self._table.channel = self.own(self._channel, self._withdraw)

    async def handle_call(self, message: object, sender: From) -> Next:
        """Answer ``GetChannel``."""
        return Reply(self._channel) if type(message) is GetChannel else self.refuse(message, sender)

    def describe(self) -> str:
        """Tell where the sockets go and how many are open."""
        if self._channel is None:
            return self._endpoint.base_url
        transport = self._channel.transport
        stale = f", {transport.stale_retries} sent again over a fresh socket" if transport.stale_retries else ""
        return f"{self._endpoint.base_url}, {transport.open_connections} sockets{stale}"

    def _withdraw(self, channel: Channel) -> None:
        if self._table.channel is channel:
            self._table.channel = None
