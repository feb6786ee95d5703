"""
Our transport: HTTP/1.1 over our own sockets, read by httptools or by h11.

httpx's own pool looks at every connection for every request, which at a few hundred in flight costs more than
everything else: fifteen times the CPU of what is below. Here a connection is taken from the end of a list and put
back there.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Mapping
from typing import Final

from dspex._clock import Clock
from dspex.services.lm._answers import AnswerReader
from dspex.services.lm._connect import Proxy, Route, open_socket, tls_context, wants_tls
from dspex.services.lm._exchange import ExchangeTransport, HttpAnswer, StaleConnection
from dspex.services.lm._failures import (
    ConnectionBroken,
    ExchangeError,
    NothingCame,
    NotHttp,
    ReadTimedOut,
    SpeaksTls,
    failure_of,
)
from dspex.services.lm._http import MAX_BODY, Timeouts
from dspex.services.lm._parsers import Parser, ParserName, parser_named
from dspex.services.lm._socket import Socket

__all__ = ["SlotTransport"]

_FAILURES: Final = (ExchangeError, OSError)

_OFFER: Final = 2.0
"""Seconds within which a server that hangs up on plain HTTP must take an offer of TLS to be known for it, at most."""

_WRONG_LANGUAGE: Final = (NothingCame, NotHttp, ConnectionBroken)
"""The ends of an exchange in plain HTTP with a server that wants TLS."""


class _Slot:
    """One connection, and since when it lives and idles."""

    __slots__ = ("born", "has_served", "idle_since", "reader", "socket")

    def __init__(self, socket: Socket, new_parser: Callable[[], Parser], now: float) -> None:
        self.socket = socket
        self.reader = AnswerReader(new_parser)
        self.has_served = False
        self.born = self.idle_since = now


class _Target:
    """The way to an address, and the idle connections that lead there."""

    __slots__ = ("has_answered", "idle", "route", "start", "wants_tls")

    def __init__(self, route: Route) -> None:
        self.route = route
        self.has_answered = False
        self.wants_tls: bool | None = None
        self.start = route.start()
        self.idle: deque[_Slot] = deque()


class SlotTransport(ExchangeTransport):
    """
    Connections in a list, the last one used is the next one taken.

    A connection on which a byte comes that nobody asked for, before an answer, behind it or while it is idle, never
    serves again.

    Args:
        clock: Tells ages and carries timeouts.
        timeouts: For exchanges that bring none of their own.
        verify: False accepts any certificate; a context decides for itself.
        proxy: The http(s) address of a proxy, name and password included where it wants them.
        parser: Reads the answers: ``httptools`` (the extra ``fast``), ``h11``, or ``auto``, the first where installed.
        max_body: Bytes of one answer, unpacked, beyond which it is refused.
        max_idle: Idle connections kept for each URL.
        max_idle_seconds: The time that one may idle, in seconds.
        max_age: Seconds after which a connection is not used again, so that a moved host name is noticed.

    Raises:
        MissingExtra: httptools was asked for and is not installed.
    """

    def __init__(
        self,
        *,
        clock: Clock,
        timeouts: Timeouts | None = None,
        verify: ssl.SSLContext | bool = True,
        proxy: str | None = None,
        parser: ParserName = "auto",
        max_body: int = MAX_BODY,
        max_idle: int = 256,
        max_idle_seconds: float = 60.0,
        max_age: float = 600.0,
    ) -> None:
        super().__init__(clock, timeouts, max_body, _FAILURES)
        self._timers = clock
        self._new_parser = parser_named(parser)
        self._proxy = None if proxy is None else Proxy(proxy)
        self._verify = verify
        self._ssl_context = verify if isinstance(verify, ssl.SSLContext) else None
        self._max_idle = max_idle
        self._max_idle_seconds = max_idle_seconds
        self._max_age = max_age
        self._targets: dict[str, _Target] = {}
        self._sockets: set[Socket] = set()

    @property
    def parser(self) -> str:
        """The name of what reads the answers: ``httptools`` or ``h11``."""
        return self._new_parser.name

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
        await super().aclose()

    def _target(self, url: str) -> _Target:
        target = self._targets.get(url)
        if target is None:
            target = self._targets[url] = _Target(Route.to(url, self._proxy))
        return target

    def label(self, url: str) -> str:
        """Return scheme and host, for messages."""
        return self._target(url).route.label

    async def _send(
        self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts, *, fresh: bool
    ) -> HttpAnswer:
        """Send on the youngest idle connection, or on a new one."""
        target = self._target(url)
        slot = None if fresh else self._take(target)
        reused = slot is not None
        if slot is None:
            slot = await self._open(target, timeouts.connect)
        slot.socket.received = 0
        answer = _SlotAnswer(self, target, slot, timeouts)
        try:
            slot.socket.outgoing = _request(target, headers, body)
            await answer.read_head()
        except BaseException as error:  # whatever it is: undone here, then raised on
            slot.socket.abort()
            if reused and not slot.socket.received and isinstance(error, _FAILURES) and failure_of(error).closed:
                raise StaleConnection from error
            if not isinstance(error, _WRONG_LANGUAGE) or not await self._wants_tls(target, timeouts.connect):
                raise
        else:
            target.has_answered = True
            return answer
        raise SpeaksTls("")  # here, so that the failure of the plain exchange is not its context

    async def _wants_tls(self, target: _Target, timeout: float) -> bool:
        """
        Return True when a server that has never answered plain HTTP takes an offer of TLS.

        It is offered once: who lets the offer wait would hold up every further try.
        """
        route = target.route
        if target.has_answered or route.is_secure or route.proxy is not None:
            return False
        if target.wants_tls is None:
            target.wants_tls = await wants_tls(route.host, route.port, min(_OFFER, timeout))
        return target.wants_tls

    def _take(self, target: _Target) -> _Slot | None:
        """Return the youngest idle connection that is still good; close what is too old."""
        now, idle = self._timers.now(), target.idle
        while idle and idle[0].idle_since + self._max_idle_seconds <= now:
            idle.popleft().socket.abort()
        while idle:
            slot = idle.pop()
            socket = slot.socket
            # No await from here until the request has been written: a byte that comes later is the answer's.
            if slot.born + self._max_age > now and not socket.has_unseen():
                socket.is_idle = False
                return slot
            socket.abort()
        return None

    def give(self, slot: _Slot, target: _Target) -> None:
        """Take back a connection whose answer has been read to its end."""
        reader, socket = slot.reader, slot.socket
        if not (reader.may_stay and not reader.has_excess and socket.is_quiet) or self._closed:
            socket.abort()
            return
        reader.next_answer()
        slot.has_served = True
        socket.is_idle = True
        slot.idle_since = self._timers.now()
        target.idle.append(slot)
        if len(target.idle) > self._max_idle:
            target.idle.popleft().socket.abort()

    def now(self) -> float:
        """Return the time of the clock that carries the timeouts."""
        return self._timers.now()

    async def _open(self, target: _Target, timeout: float) -> _Slot:
        route = target.route
        is_secure = route.is_secure or (route.proxy is not None and route.proxy.is_secure)
        if is_secure and self._ssl_context is None:
            self._ssl_context = tls_context(self._verify)
        socket = Socket(self._timers, self._sockets.discard)
        context = self._ssl_context if is_secure else None
        await open_socket(socket, route, ssl_context=context, timeout=timeout, new_parser=self._new_parser)
        if not socket.lost:  # noted only now: while connecting, the loop closes it, on uvloop without a word
            self._sockets.add(socket)
        if self._closed:
            socket.abort()
        self._refuse_if_closed(route.label)
        return _Slot(socket, self._new_parser, self._timers.now())

    def __repr__(self) -> str:
        return f"<SlotTransport {self.open_connections} open>"


def _request(target: _Target, headers: Mapping[str, str], body: bytes) -> list[bytes]:
    """
    Return a whole request.

    Raises:
        ExchangeError: A header would break out of its line.
    """
    text = "".join([f"{name}: {value}\r\n" for name, value in headers.items()])
    if not text.count("\r") == text.count("\n") == len(headers) or "\0" in text:
        raise ExchangeError("a header holds a line end or a zero")
    return [target.start, text.encode(errors="replace"), b"content-length: %d\r\n\r\n" % len(body), body]


class _SlotAnswer:
    """One answer as it comes on its connection."""

    __slots__ = ("_slot", "_target", "_timeouts", "_transport", "has_ended", "raw_headers", "status")

    is_unpacked = False

    def __init__(self, transport: SlotTransport, target: _Target, slot: _Slot, timeouts: Timeouts) -> None:
        self._transport = transport
        self._target = target
        self._slot = slot
        self._timeouts = timeouts
        self.has_ended = False
        self.status = 0
        self.raw_headers: list[tuple[bytes, bytes]] = []

    async def read_head(self) -> None:
        """
        Wait for status and headers; hints that come before them are passed over.

        Raises:
            NotHttp: It is not an answer, or came before the question.
            ReadTimedOut: Nothing came in time, or the head did not end in time: a drop now and then is not an answer.
        """
        slot, timeouts = self._slot, self._timeouts
        reader, socket = slot.reader, slot.socket
        if not slot.has_served and socket.has_unseen():
            for _ in range(3):  # rounds after which the loop has read it: is it a byte, TLS's own affair, or the end?
                await asyncio.sleep(0)
        if socket.has_bytes:
            raise NotHttp("it answered before it was asked")
        until: float | None = None
        while True:
            silence = timeouts.silence if until is None else until - self._transport.now()
            if silence <= 0:
                raise ReadTimedOut("")
            reader.feed(await socket.read(silence, timeouts.write))
            if reader.has_head:
                break
            if not reader.is_in_line:
                until = None  # an interim answer has come whole
            elif until is None:
                until = self._transport.now() + timeouts.silence
        self.status = reader.status
        self.raw_headers = reader.headers

    async def next_bytes(self) -> bytes:
        """Return the next piece of the body; with the last one the connection goes back to the list."""
        reader = self._slot.reader
        while not (piece := reader.take()) and not reader.has_ended:
            reader.feed(await self._slot.socket.read(self._timeouts.silence, self._timeouts.write))
        if reader.has_ended:
            self._end()
        return piece

    async def abort(self) -> None:
        """Close the connection."""
        self._slot.socket.abort()

    def _end(self) -> None:
        slot = self._slot
        if slot.has_served and (slot.reader.has_excess or slot.socket.has_bytes):
            # The first of two answers may be a late one to an earlier question: nobody can tell, so neither counts.
            raise NotHttp("two answers came to one question")
        self.has_ended = True
        self._transport.give(slot, self._target)
