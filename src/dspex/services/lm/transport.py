"""
The sockets beneath the language models: one POST, one answer, one connection each.

httpx's own pool looks at every connection for every request, which costs more than everything else at a few
hundred in flight. Here a connection is taken from the end of a list and put back there. See
``docs/decisions`` for the figures.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Mapping
from contextvars import Context, ContextVar
from dataclasses import dataclass
from typing import Any, Final, Literal, NamedTuple, Protocol
from weakref import WeakSet

import httpcore
import httpx

from dspex._clock import Clock
from dspex.errors import MissingExtra, TransportFailed
from dspex.services.lm._clean_context import in_context
from dspex.services.lm._failures import failure_of, transport_failed
from dspex.services.lm._socket import Socket, open_socket

__all__ = ["FastTransport", "HttpReply", "HttpxTransport", "SlotTransport", "Timeouts", "Transport", "open_transport"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """
    Seconds until a phase of one exchange has failed.

    ``read`` is the longest silence, not the longest answer: the request's deadline ends the whole.
    """

    connect: float = 10.0
    read: float = 600.0
    write: float = 30.0

    def phases(self) -> dict[str, float]:
        """Return them by httpx's names."""
        return {"connect": self.connect, "read": self.read, "write": self.write, "pool": self.connect}


class HttpReply(NamedTuple):
    """A whole answer; header names are in lower case, repeated ones joined with a comma."""

    status: int
    headers: dict[str, str]
    body: bytes


class Transport(Protocol):
    """What the LM room needs of a network."""

    @property
    def open_connections(self) -> int:
        """Sockets open now, idle ones included."""
        ...

    @property
    def stale_retries(self) -> int:
        """How often a request went out again because its kept-alive connection turned out to be closed."""
        ...

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts | None = None
    ) -> HttpReply:
        """
        Send one request and return the whole answer, whatever its status.

        Raises:
            TransportFailed: No complete answer came; the library's error is the cause.
        Cancellation: closes the socket; the server sees it at once.
        """
        ...

    async def aclose(self) -> None:
        """
        Close every connection; exchanges under way fail.

        Cancellation: the connections are closed all the same.
        """
        ...


# --- the core: httpcore's HTTP/1.1 over our own sockets -----------------------------------------------------

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
        self.host = self.url.host + port.encode()
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
        self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts | None = None
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
        socket = Socket(self._clock, self._sockets.add, self._sockets.discard)
        ssl_context = self._ssl_context if origin.scheme == b"https" else None
        await open_socket(socket, origin.host.decode(), origin.port, ssl_context=ssl_context, timeout=timeout)
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
        except BaseException:
            slot.socket.abort()
            raise
        self._give(slot, target)
        return _reply(response.status, response.headers, body)

    def __repr__(self) -> str:
        return f"<SlotTransport {self.open_connections} open>"


# --- httpx transports: the fast extra, and the user's own ---------------------------------------------------


class HttpxTransport:
    """
    A transport the user brings: a mock, a proxy, an instrumented one.

    It runs in the caller's context, is asked once per attempt, and is not closed: whoever made it closes it.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, *, timeouts: Timeouts | None = None) -> None:
        self._transport = transport
        self._timeouts = timeouts or Timeouts()
        self.open_connections = 0
        self.stale_retries = 0

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts | None = None
    ) -> HttpReply:
        """
        Send one request and return the whole answer, whatever its status.

        Raises:
            TransportFailed: No complete answer came; httpx's error is the cause.
        Cancellation: cancels the transport and closes its answer.
        """
        phases = (timeouts or self._timeouts).phases()
        request = httpx.Request("POST", url, headers=dict(headers), content=body, extensions={"timeout": phases})
        try:
            response = await self._transport.handle_async_request(request)
            try:
                content = await response.aread()
            finally:
                await response.aclose()
        except (httpx.TransportError, httpx.DecodingError, OSError) as error:
            raise transport_failed(error, _label(request.url), phases) from error
        return HttpReply(response.status_code, _headers(response.headers.raw), content)

    async def aclose(self) -> None:
        """
        Do nothing: the transport is the user's.

        Cancellation: nothing to cancel.
        """

    def __repr__(self) -> str:
        return f"<HttpxTransport {self._transport!r}>"


_reused: Final[ContextVar[bool]] = ContextVar("dspex.services.lm.transport.reused", default=False)
"""Whether this exchange's connection had served before; each exchange has a context of its own."""


_PIECE: Final = 2**18


class _Pieces(httpx.AsyncByteStream):
    """A large body in pieces: aiohttp refuses, by a warning, to send one at a stretch."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for start in range(0, len(self._body), _PIECE):
            yield self._body[start : start + _PIECE]


class FastTransport:
    """
    httpx's aiohttp transport, called directly; needs the extra ``fast``.

    Args:
        timeouts: For posts that bring none of their own.
        verify: False accepts any certificate; a context decides for itself.
        max_idle_seconds: How long a connection may idle.

    Raises:
        MissingExtra: The extra is not installed.
    """

    def __init__(
        self,
        *,
        timeouts: Timeouts | None = None,
        verify: ssl.SSLContext | bool = True,
        max_idle_seconds: float = 60.0,
    ) -> None:
        try:
            import aiohttp
            import httpx_aiohttp
        except ImportError as error:
            raise MissingExtra("fast", "the fast transport") from error
        self._timeouts = timeouts or Timeouts()
        self._protocols: WeakSet[Any] = WeakSet()  # aiohttp does not export the class
        self._failures = (httpx.TransportError, httpx.DecodingError, aiohttp.ClientError, OSError)
        self._disconnected = aiohttp.ServerDisconnectedError
        context = verify
        if not isinstance(context, ssl.SSLContext):
            context = httpx.create_ssl_context(verify=context, trust_env=False)
        connector = _connector_class(self._protocols)

        def session() -> aiohttp.ClientSession:
            return aiohttp.ClientSession(
                connector=connector(limit=0, ssl=context, keepalive_timeout=max_idle_seconds),
                cookie_jar=aiohttp.DummyCookieJar(),
            )

        self._transport = httpx_aiohttp.AiohttpTransport(verify=context, client=session)
        self._urls: dict[str, httpx.URL] = {}
        self._closed = False
        self.stale_retries = 0

    @property
    def open_connections(self) -> int:
        """Sockets open now, idle ones included."""
        return sum(protocol.is_connected() for protocol in self._protocols)

    async def post(
        self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts | None = None
    ) -> HttpReply:
        """
        Send one request and return the whole answer, whatever its status.

        A kept-alive connection that the server closed before a byte of the answer came is replaced once.

        Raises:
            TransportFailed: No complete answer came; aiohttp's error is a cause.
        Cancellation: closes the socket; the server sees it at once.
        """
        target = self._urls.get(url)
        if target is None:
            target = self._urls[url] = httpx.URL(url)
        phases = (timeouts or self._timeouts).phases()
        raw = {**headers, "accept-encoding": "identity", "content-length": str(len(body))}
        content, stream = (body, None) if len(body) <= _PIECE else (None, _Pieces(body))
        extensions = {"timeout": phases}
        request = httpx.Request("POST", target, headers=raw, content=content, stream=stream, extensions=extensions)
        while True:
            if self._closed:
                raise TransportFailed(f"the transport to {_label(target)} is closed")
            context = Context()
            try:
                return await in_context(self._exchange(request), context)
            except self._failures as error:
                if not self._was_stale(error, context):
                    raise transport_failed(error, _label(target), phases) from error
                self.stale_retries += 1

    async def aclose(self) -> None:
        """
        Close every connection; exchanges under way fail.

        Cancellation: the connections are closed all the same.
        """
        self._closed = True
        for protocol in list(self._protocols):
            protocol.abort()
        await self._transport.aclose()

    async def _exchange(self, request: httpx.Request) -> HttpReply:
        response = await self._transport.handle_async_request(request)
        _reused.set(False)  # the answer has begun: from here on nothing is sent again
        stream = response.stream
        assert isinstance(stream, httpx.AsyncByteStream)
        try:
            body = b"".join([chunk async for chunk in stream])
        finally:
            await stream.aclose()
        return _reply(response.status_code, response.headers.raw, body)

    def _was_stale(self, error: BaseException, context: Context) -> bool:
        """Whether nothing but the connection's age was wrong: it had served before, and no byte came."""
        cause = error.__cause__
        if isinstance(cause, self._disconnected) and not isinstance(cause.message, str):
            return False  # aiohttp keeps the begun head there
        return context.get(_reused, False) and failure_of(error).closed

    def __repr__(self) -> str:
        return f"<FastTransport {self.open_connections} open>"


def _connector_class(protocols: WeakSet[Any]) -> Callable[..., Any]:  # a subclass of a class that may be missing
    """Return aiohttp's connector, noting its connections in ``protocols`` and the exchange's use of an old one."""
    import aiohttp

    class Connector(aiohttp.TCPConnector):
        async def connect(self, *args: Any, **kwargs: Any) -> Any:  # handed on as they are
            connection = await super().connect(*args, **kwargs)
            _reused.set(connection.protocol in protocols)
            protocols.add(connection.protocol)
            return connection

    return Connector


# --- what they share ----------------------------------------------------------------------------------------


def open_transport(
    kind: Literal["auto", "slots", "fast"] = "auto",
    *,
    clock: Clock,
    timeouts: Timeouts | None = None,
    verify: ssl.SSLContext | bool = True,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Transport:
    """
    Return a transport; no connection is opened yet.

    Args:
        kind: ``auto`` takes the fast one where its extra is installed.
        clock: The clock of the loop it will run on.
        timeouts: For posts that bring none of their own.
        verify: False accepts any certificate; a context decides for itself.
        transport: The user's own, used instead of ours and left open.

    Raises:
        MissingExtra: ``fast`` was asked for and is not installed.
    """
    if transport is not None:
        return HttpxTransport(transport, timeouts=timeouts)
    if kind != "slots":
        try:
            return FastTransport(timeouts=timeouts, verify=verify)
        except MissingExtra:
            if kind == "fast":
                raise
    return SlotTransport(clock=clock, timeouts=timeouts, verify=verify)


def _headers(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name_bytes, value_bytes in raw:
        name, value = name_bytes.decode("latin-1").lower(), value_bytes.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


def _reply(status: int, raw: list[tuple[bytes, bytes]], body: bytes) -> HttpReply:
    """Return the reply; a body packed although we asked for it plain is unpacked by httpx."""
    headers = _headers(raw)
    if headers.get("content-encoding", "identity") != "identity":
        body = httpx.Response(status, headers=raw, stream=httpx.ByteStream(body)).read()
    return HttpReply(status, headers, body)


def _label(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode()}"
