"""
The core transport: httpcore's HTTP/1.1 over our own sockets.

httpx's own pool looks at every connection for every request, which at a few hundred in flight costs more than
everything else: fifteen times the CPU of what is below. Here a connection is taken from the end of a list and put
back there.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncIterable, Callable, Mapping
from typing import Final

import httpcore
import httpx

from dspex._clock import Clock
from dspex.errors import TransportFailed
from dspex.services.lm._failures import failure_of, transport_failed
from dspex.services.lm._http import HttpReply, Timeouts, reply_of
from dspex.services.lm._socket import Socket, open_socket

__all__ = ["SlotTransport"]

_CORE_FAILURES: Final = (
    httpcore.TimeoutException,
    httpcore.NetworkError,
    httpcore.ProtocolError,
    httpcore.UnsupportedProtocol,
    httpx.DecodingError,
    OSError,
)


class _Slot:
    """One connection, and since when it lives and idles."""

    __slots__ = ("born", "http", "idle_since", "socket")

    def __init__(self, origin: httpcore.Origin, socket: Socket, now: float) -> None:
        self.socket = socket
        self.http = httpcore.AsyncHTTP11Connection(origin, socket)
        self.born = self.idle_since = now


class _Target:
    """A URL as httpcore wants it, and the idle connections that lead there."""

    __slots__ = ("host", "idle", "label", "url")

    def __init__(self, url: str) -> None:
        self.url = httpcore.URL(url)
        port = f":{self.url.port}" if self.url.port is not None else ""
        host = b"[%s]" % self.url.host if b":" in self.url.host else self.url.host
        self.host = host + port.encode()
        self.label = f"{self.url.scheme.decode()}://{self.host.decode()}"
        self.idle: deque[_Slot] = deque()


class SlotTransport:
    """
    Connections in a list, the last one used is the next one taken; needs nothing but the core dependencies.

    Args:
        clock: Tells ages and carries timeouts.
        timeouts: For posts that bring none of their own.
        verify: False accepts any certificate; a context decides for itself.
        max_idle: Idle connections kept for each URL.
        max_idle_seconds: How long one may idle.
        max_age: Seconds after which a connection is not used again, so that a moved host name is noticed.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        timeouts: Timeouts | None = None,
        verify: ssl.SSLContext | bool = True,
        max_idle: int = 256,
        max_idle_seconds: float = 60.0,
        max_age: float = 600.0,
    ) -> None:
        self._clock = clock
        self._timeouts = timeouts or Timeouts()
        self._verify = verify
        self._ssl_context = verify if isinstance(verify, ssl.SSLContext) else None
        self._max_idle = max_idle
        self._max_idle_seconds = max_idle_seconds
        self._max_age = max_age
        self._targets: dict[str, _Target] = {}
        self._sockets: set[Socket] = set()
        self._closed = False
        self.stale_retries = 0

    @property
    def open_connections(self) -> int:
        """Sockets open now, idle ones included."""
        return len(self._sockets)

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeouts: Timeouts | None = None,
        on_resend: Callable[[], object] | None = None,
    ) -> HttpReply:
        """
        Send one request and return the whole answer, whatever its status.

        A kept-alive connection that the server closed before a byte of the answer came is replaced once.

        Raises:
            TransportFailed: No complete answer came; httpcore's error is the cause.
        Cancellation: closes the socket; the server sees it at once.
        """
        target = self._targets.get(url)
        if target is None:
            target = self._targets[url] = _Target(url)
        phases = (timeouts or self._timeouts).phases()
        raw = [(name.encode(), value.encode()) for name, value in headers.items()]
        raw += [(b"host", target.host), (b"content-length", b"%d" % len(body)), (b"accept-encoding", b"identity")]
        request = httpcore.Request("POST", target.url, headers=raw, content=body, extensions={"timeout": phases})
        try:
            slot = self._take(target)
            if slot is not None:
                try:
                    return await self._exchange(slot, target, request)
                except _CORE_FAILURES as error:
                    if slot.socket.received or not failure_of(error).closed:
                        raise
                    self.stale_retries += 1
                    if on_resend is not None:
                        on_resend()
            slot = await self._open(target, phases["connect"])
            return await self._exchange(slot, target, request)
        except _CORE_FAILURES as error:
            raise transport_failed(error, target.label, phases) from error

    async def aclose(self) -> None:
        """
        Close every connection; exchanges under way fail.

        Cancellation: the connections are closed all the same.
        """
        self._closed = True
        waiting = [socket.closed() for socket in self._sockets]
        for target in self._targets.values():
            target.idle.clear()
        for socket in self._sockets:
            socket.abort()
        for closed in waiting:
            await closed

    def _take(self, target: _Target) -> _Slot | None:
        """Return the youngest idle connection that is still good; close what is too old."""
        self._refuse_if_closed(target)
        now, idle = self._clock.now(), target.idle
        while idle and idle[0].idle_since + self._max_idle_seconds <= now:
            idle.popleft().socket.abort()
        while idle:
            slot = idle.pop()
            if not slot.http.has_expired() and slot.born + self._max_age > now:
                return slot
            slot.socket.abort()
        return None

    def _give(self, slot: _Slot, target: _Target) -> None:
        """Take back a connection whose answer has been read to its end."""
        if self._closed or not slot.http.is_idle():
            slot.socket.abort()
            return
        slot.idle_since = self._clock.now()
        target.idle.append(slot)
        if len(target.idle) > self._max_idle:
            target.idle.popleft().socket.abort()

    def _refuse_if_closed(self, target: _Target) -> None:
        if self._closed:
            raise TransportFailed(f"the transport to {target.label} is closed")

    async def _open(self, target: _Target, timeout: float) -> _Slot:
        self._refuse_if_closed(target)
        origin = target.url.origin
        if origin.scheme == b"https" and self._ssl_context is None:
            self._ssl_context = httpx.create_ssl_context(verify=self._verify, trust_env=False)
        socket = Socket(self._clock, self._sockets.discard)
        ssl_context = self._ssl_context if origin.scheme == b"https" else None
        await open_socket(socket, origin.host.decode(), origin.port, ssl_context=ssl_context, timeout=timeout)
        if not socket.lost:  # noted only now: while connecting, the loop closes it, on uvloop without a word
            self._sockets.add(socket)
        if self._closed:
            socket.abort()
        self._refuse_if_closed(target)
        return _Slot(origin, socket, self._clock.now())

    async def _exchange(self, slot: _Slot, target: _Target, request: httpcore.Request) -> HttpReply:
        slot.socket.received = 0
        try:
            response = await slot.http.handle_async_request(request)
            stream = response.stream
            assert isinstance(stream, AsyncIterable)
            body = b"".join([chunk async for chunk in stream])
            await response.aclose()
        except BaseException:  # whatever it is: undone here, then raised on
            slot.socket.abort()
            raise
        self._give(slot, target)
        return reply_of(response.status, response.headers, body)

    def __repr__(self) -> str:
        return f"<SlotTransport {self.open_connections} open>"
