"""
The core transport: HTTP/1.1 by h11, over our own sockets.

httpx's own pool looks at every connection for every request, which at a few hundred in flight costs more than
everything else: fifteen times the CPU of what is below. Here a connection is taken from the end of a list and put
back there.
"""

from __future__ import annotations

import ssl
from collections import deque
from collections.abc import Mapping
from typing import Final

import h11
import httpx

from dspex._clock import Clock
from dspex.services.lm._exchange import Answer, ExchangeTransport, StaleConnection
from dspex.services.lm._failures import failure_of
from dspex.services.lm._http import MAX_BODY, Timeouts, label_of
from dspex.services.lm._socket import Socket, open_socket

__all__ = ["SlotTransport"]

_FAILURES: Final = (httpx.TransportError, httpx.DecodingError, h11.ProtocolError, OSError)
_MAX_HEAD: Final = 2**17
"""Bytes of an answer's head beyond which it is no HTTP; h11's own limit is too low for some proxies' cookies."""


_MADE: Final = h11.Request(method=b"POST", target=b"/", headers=[(b"host", b"h")])
_DONE: Final = h11.EndOfMessage()


class _Slot:
    """One connection, and since when it lives and idles."""

    __slots__ = ("born", "http", "idle_since", "socket")

    def __init__(self, socket: Socket, now: float) -> None:
        self.socket = socket
        self.http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD)
        self.born = self.idle_since = now


class _Target:
    """An address taken apart, and the idle connections that lead there."""

    __slots__ = ("idle", "is_secure", "label", "name", "port", "start")

    def __init__(self, url: str) -> None:
        parsed = httpx.URL(url)
        self.label = label_of(parsed)
        self.start = b"POST %b HTTP/1.1\r\nhost: %b\r\naccept-encoding: identity\r\n" % (parsed.raw_path, parsed.netloc)
        self.is_secure = parsed.scheme == "https"
        self.name = parsed.raw_host.decode("ascii")
        self.port = parsed.port or (443 if self.is_secure else 80)
        self.idle: deque[_Slot] = deque()


class SlotTransport(ExchangeTransport):
    """
    Connections in a list, the last one used is the next one taken; needs nothing but the core dependencies.

    Args:
        clock: Tells ages and carries timeouts.
        timeouts: For exchanges that bring none of their own.
        verify: False accepts any certificate; a context decides for itself.
        max_body: Bytes of one answer, unpacked, beyond which it is refused.
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
        max_body: int = MAX_BODY,
        max_idle: int = 256,
        max_idle_seconds: float = 60.0,
        max_age: float = 600.0,
    ) -> None:
        super().__init__(clock, timeouts, max_body, _FAILURES)
        self._timers = clock
        self._verify = verify
        self._ssl_context = verify if isinstance(verify, ssl.SSLContext) else None
        self._max_idle = max_idle
        self._max_idle_seconds = max_idle_seconds
        self._max_age = max_age
        self._targets: dict[str, _Target] = {}
        self._sockets: set[Socket] = set()

    @property
    def open_connections(self) -> int:
        """Sockets open now, idle ones included."""
        return len(self._sockets)

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

    def _target(self, url: str) -> _Target:
        target = self._targets.get(url)
        if target is None:
            target = self._targets[url] = _Target(url)
        return target

    def _label(self, url: str) -> str:
        return self._target(url).label

    async def _send(
        self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts, *, fresh: bool
    ) -> Answer:
        """Send on the youngest idle connection, or on a new one."""
        target = self._target(url)
        slot = None if fresh else self._take(target)
        reused = slot is not None
        if slot is None:
            slot = await self._open(target, timeouts.connect)
        slot.socket.received = 0
        answer = _SlotAnswer(self, target, slot, timeouts)
        try:
            slot.socket.send(_request(slot.http, target, headers, body))
            await answer.read_head()
        except BaseException as error:  # whatever it is: undone here, then raised on
            slot.socket.abort()
            if reused and not slot.socket.received and isinstance(error, _FAILURES) and failure_of(error).closed:
                raise StaleConnection from error
            raise
        return answer

    def _take(self, target: _Target) -> _Slot | None:
        """Return the youngest idle connection that is still good; close what is too old."""
        now, idle = self._now(), target.idle
        while idle and idle[0].idle_since + self._max_idle_seconds <= now:
            idle.popleft().socket.abort()
        while idle:
            slot = idle.pop()
            if not slot.socket.is_readable and slot.born + self._max_age > now:
                return slot
            slot.socket.abort()
        return None

    def give(self, slot: _Slot, target: _Target) -> None:
        """Take back a connection whose answer has been read to its end."""
        http = slot.http
        if (
            slot.socket.is_sending
            or self._closed
            or http.our_state is not h11.DONE
            or http.their_state is not h11.DONE
            or http.trailing_data[0]
        ):
            slot.socket.abort()
            return
        http.start_next_cycle()
        slot.idle_since = self._now()
        target.idle.append(slot)
        if len(target.idle) > self._max_idle:
            target.idle.popleft().socket.abort()

    async def _open(self, target: _Target, timeout: float) -> _Slot:
        if target.is_secure and self._ssl_context is None:
            self._ssl_context = httpx.create_ssl_context(verify=self._verify, trust_env=False)
        socket = Socket(self._timers, self._sockets.discard)
        ssl_context = self._ssl_context if target.is_secure else None
        await open_socket(socket, target.name, target.port, ssl_context=ssl_context, timeout=timeout)
        if not socket.lost:  # noted only now: while connecting, the loop closes it, on uvloop without a word
            self._sockets.add(socket)
        if self._closed:
            socket.abort()
        self._refuse_if_closed(target.label)
        return _Slot(socket, self._now())

    def __repr__(self) -> str:
        return f"<SlotTransport {self.open_connections} open>"


def _request(http: h11.Connection, target: _Target, headers: Mapping[str, str], body: bytes) -> list[bytes]:
    """
    Return a whole request.

    h11 writes requests slowly, normalising names that we know to be normal: here it is only told that one was made.

    Raises:
        h11.LocalProtocolError: A header would break out of its line.
    """
    text = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if not text.count("\r") == text.count("\n") == len(headers) or "\0" in text:
        raise h11.LocalProtocolError("a header holds a line end or a zero")
    http.send(_MADE)
    http.send(_DONE)
    return [target.start, text.encode(), b"content-length: %d\r\n\r\n" % len(body), body]


class _SlotAnswer:
    """One answer as h11 reads it."""

    __slots__ = ("_slot", "_target", "_timeouts", "_transport", "raw_headers", "status")

    is_unpacked = False

    def __init__(self, transport: SlotTransport, target: _Target, slot: _Slot, timeouts: Timeouts) -> None:
        self._transport = transport
        self._target = target
        self._slot = slot
        self._timeouts = timeouts
        self.status = 0
        self.raw_headers: list[tuple[bytes, bytes]] = []

    async def read_head(self) -> None:
        """Wait for status and headers; hints that come before them are passed over."""
        while True:
            event = await self._event()
            if type(event) is h11.Response:
                self.status = event.status_code
                self.raw_headers = [(bytes(name), bytes(value)) for name, value in event.headers]
                return

    async def next_bytes(self) -> bytes:
        """Return the next piece of the body; at its end the connection goes back to the list."""
        while True:
            event = await self._event()
            if type(event) is h11.Data:
                if event.data:
                    return bytes(event.data)
            else:
                self._transport.give(self._slot, self._target)
                return b""

    async def abort(self) -> None:
        """Close the connection."""
        self._slot.socket.abort()

    async def _event(self) -> object:
        http, socket, timeouts = self._slot.http, self._slot.socket, self._timeouts
        while (event := http.next_event()) is h11.NEED_DATA:
            data = await socket.read(timeouts.silence, timeouts.write)
            if not data and http.their_state is h11.SEND_RESPONSE:
                raise h11.RemoteProtocolError("Server disconnected without sending a response.")
            http.receive_data(data)
        return event
