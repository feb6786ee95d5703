"""A transport that asks an environment's proxies for each address which way to go."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager

from dspex.services.lm._http import HttpReply, HttpStream, OnBegin, OnResend, Timeouts, Transport
from dspex.services.lm.proxies import Proxies

__all__ = ["ProxiedTransport"]


class ProxiedTransport:
    """
    One transport for each way there is: directly, and through each proxy; opened when first needed.

    Args:
        proxies: Tells the way.
        open_way: Makes the transport through a proxy, or, for None, the direct one.
    """

    needs_key = True

    def __init__(self, proxies: Proxies, open_way: Callable[[str | None], Transport]) -> None:
        self._proxies = proxies
        self._open_way = open_way
        self._ways: dict[str | None, Transport] = {}

    @property
    def open_connections(self) -> int:
        """Sockets open now, idle ones included."""
        return sum(way.open_connections for way in self._ways.values())

    @property
    def stale_retries(self) -> int:
        """The number of times a request went out again because its kept-alive connection turned out to be closed."""
        return sum(way.stale_retries for way in self._ways.values())

    def way_to(self, url: str) -> Transport:
        """Return the transport that leads to an address."""
        proxy = self._proxies.for_url(url)
        way = self._ways.get(proxy)
        if way is None:
            way = self._ways[proxy] = self._open_way(proxy)
        return way

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeouts: Timeouts | None = None,
        on_resend: OnResend | None = None,
        on_begin: OnBegin | None = None,
    ) -> HttpReply:
        """Send one request and return the whole answer, as ``Transport.post``."""
        return await self.way_to(url).post(url, headers, body, timeouts, on_resend, on_begin)

    def stream(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeouts: Timeouts | None = None,
        on_resend: OnResend | None = None,
    ) -> AbstractAsyncContextManager[HttpStream]:
        """Send one request whose answer is read inside the block, as ``Transport.stream``."""
        return self.way_to(url).stream(url, headers, body, timeouts, on_resend)

    async def aclose(self) -> None:
        """
        Close every connection; exchanges under way fail.

        Cancellation: the connections of the way being closed are closed all the same.
        """
        for way in self._ways.values():
            await way.aclose()

    def __repr__(self) -> str:
        return f"<ProxiedTransport {len(self._ways)} ways>"
