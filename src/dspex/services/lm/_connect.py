"""Opening a connection to a server: directly, or through an HTTP proxy."""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

import certifi  # comes with httpx, which takes long to import

from dspex.services.lm._address import read_address
from dspex.services.lm._answers import AnswerReader
from dspex.services.lm._clean_context import in_context
from dspex.services.lm._failures import ConnectTimedOut, NoHandshake, NotConnected, NotHttp, NotTls
from dspex.services.lm._parsers import Parser
from dspex.services.lm._socket import Socket

__all__ = ["Proxy", "Route", "open_socket", "tls_context", "wants_tls"]

_FOREVER: Final = 10.0**6
"""Seconds; the time to connect is limited as a whole."""


_HANDSHAKE: Final = 0.5
"""The share of the time to connect after which a server that says nothing to TLS is taken to speak none."""

_NOT_TLS: Final = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "record layer failure", "HTTP_REQUEST")
"""OpenSSL's words, in its several releases, for an answer that is not TLS."""


class Proxy:
    """The address of an HTTP proxy taken apart; its repr does not show the password."""

    __slots__ = ("_credentials", "host", "is_secure", "port")

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.is_secure = parts.scheme == "https"
        self.host = parts.hostname or ""
        self.port = parts.port or (443 if self.is_secure else 80)
        self._credentials = b""
        if parts.username or parts.password:
            pair = f"{unquote(parts.username or '')}:{unquote(parts.password or '')}"
            self._credentials = b"proxy-authorization: Basic %b\r\n" % b64encode(pair.encode())

    def header(self) -> bytes:
        """Return the header line that tells the proxy who asks; nothing where it does not want to know."""
        return self._credentials

    def __repr__(self) -> str:
        return f"<Proxy {self.host}:{self.port}>"


@dataclass(frozen=True, slots=True)
class Route:
    """
    One address taken apart.

    Attributes:
        label: Scheme and host, for messages.
        is_secure: True when TLS is spoken to the server.
        host: Its name or address.
        port: Its port.
        authority: Host and port as the address has them.
        path: With its query.
        proxy: The proxy on the way.
    """

    label: str
    is_secure: bool
    host: str
    port: int
    authority: bytes
    path: bytes
    proxy: Proxy | None

    @classmethod
    def to(cls, url: str, proxy: Proxy | None) -> Route:
        """Return the route to an address."""
        address = read_address(url)
        is_secure = address.scheme == "https"
        port = address.port or (443 if is_secure else 80)
        return cls(address.label, is_secure, address.host, port, address.authority, address.path, proxy)

    def start(self) -> bytes:
        """Return the first lines of a request; a proxy that is not tunnelled through hears the whole address."""
        target, extra = self.path, b""
        if self.proxy is not None and not self.is_secure:
            target, extra = b"http://%b%b" % (self.authority, self.path), self.proxy.header()
        return b"POST %b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n%b" % (target, self.authority, extra)


def tls_context(verify: ssl.SSLContext | bool) -> ssl.SSLContext:
    """
    Return how TLS judges certificates.

    Args:
        verify: A context decides for itself; True asks the authorities that Mozilla trusts, False accepts any.
    """
    if isinstance(verify, ssl.SSLContext):
        return verify
    if verify:
        return ssl.create_default_context(cafile=certifi.where())
    anyone = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    anyone.check_hostname = False
    anyone.verify_mode = ssl.CERT_NONE
    return anyone


async def open_socket(
    socket: Socket,
    route: Route,
    *,
    ssl_context: ssl.SSLContext | None,
    timeout: float,
    new_parser: Callable[[], Parser],
) -> None:
    """
    Connect ``socket``, in a clean context.

    Args:
        socket: Not connected yet.
        route: Where to.
        ssl_context: For the TLS of the server and of the proxy.
        timeout: Seconds for all of it: names, proxy, TLS.
        new_parser: Reads the proxy's answer.

    Raises:
        ConnectTimedOut: No connection in time.
        NotConnected: Refused, unreachable, unknown host, no TLS, or the proxy refused.
    Cancellation: nothing is left open.
    """
    proxy = route.proxy
    host, port = (route.host, route.port) if proxy is None else (proxy.host, proxy.port)
    is_secure = route.is_secure if proxy is None else proxy.is_secure

    async def connect() -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout):
            await loop.create_connection(
                lambda: socket,
                host,
                port,
                ssl=ssl_context if is_secure else None,
                ssl_handshake_timeout=_HANDSHAKE * timeout if is_secure else None,
            )
            if proxy is None or not route.is_secure:
                return
            try:
                await _tunnel(socket, route, proxy, new_parser)
                assert socket.transport is not None
                assert ssl_context is not None
                secure = await loop.start_tls(socket.transport, socket, ssl_context, server_hostname=route.host)
                if secure is None:  # so says a loop whose socket was closed meanwhile
                    raise NotConnected("the proxy closed the connection")
                socket.transport = secure
            except BaseException:  # whatever it is: undone here, then raised on
                socket.abort()
                raise

    try:
        await in_context(connect(), Context())
    except TimeoutError as error:
        raise ConnectTimedOut("") from error
    except OSError as error:
        raise _not_connected(error)(str(error)) from error
    except UnicodeError:
        raise NotConnected("the host cannot be a name") from None


async def wants_tls(host: str, port: int, timeout: float) -> bool:
    """
    Offer TLS to a server that gave no answer to plain HTTP, and return True when it takes the offer.

    Nothing of a request is sent, so its certificate is of no interest.

    Args:
        host: Asked directly; there is no proxy on the way.
        port: As given in the address.
        timeout: Seconds for all of it.
    Cancellation: nothing is left open.
    """
    offer = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    offer.check_hostname = False
    offer.verify_mode = ssl.CERT_NONE

    async def connect() -> bool:
        loop, ending = asyncio.get_running_loop(), _Ending()
        try:
            async with asyncio.timeout(timeout):
                transport, _ = await loop.create_connection(lambda: ending, host, port, ssl=offer, server_hostname=host)
                transport.abort()
                await ending.lost
        except ssl.SSLError as error:  # an alert is TLS as well
            return not any(word in str(error) for word in _NOT_TLS)
        except (OSError, TimeoutError, UnicodeError):
            return False
        return True

    return await in_context(connect(), Context())


class _Ending(asyncio.Protocol):
    """Tells when its connection is closed."""

    def __init__(self) -> None:
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_lost(self, error: Exception | None) -> None:
        """Note it, whatever the reason."""
        if not self.lost.done():
            self.lost.set_result(None)


def _not_connected(error: OSError) -> type[NotConnected]:
    """Return the kind of a failure to connect: TLS is offered to many a server that speaks none."""
    text = str(error)
    if isinstance(error, ssl.SSLError) and any(word in text for word in _NOT_TLS):
        return NotTls
    if isinstance(error, ConnectionAbortedError) and "handshake" in text:  # so say the loops, when it takes too long
        return NoHandshake
    return NotConnected


async def _tunnel(socket: Socket, route: Route, proxy: Proxy, new_parser: Callable[[], Parser]) -> None:
    """Ask the proxy for a connection to the server."""
    host = f"[{route.host}]" if ":" in route.host else route.host
    target = f"{host}:{route.port}".encode()
    socket.outgoing = [b"CONNECT %b HTTP/1.1\r\nhost: %b\r\n%b\r\n" % (target, target, proxy.header())]
    reader = AnswerReader(new_parser)
    while not reader.has_head:
        data = await socket.read(_FOREVER, _FOREVER)
        if not data:
            raise NotConnected("the proxy closed the connection")
        reader.feed(data)
    if not 200 <= reader.status < 300:
        raise NotConnected(f"the proxy answered {reader.status}")
    if reader.take() or reader.has_excess:
        raise NotHttp("the proxy said more than it was asked")
