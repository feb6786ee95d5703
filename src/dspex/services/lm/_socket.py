"""One TCP or TLS connection as a byte stream for httpcore, with as little between it and the loop as possible."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable
from contextvars import Context
from typing import Any, cast

import httpcore

from dspex._clock import Clock
from dspex.services.lm._clean_context import in_context

__all__ = ["Socket", "open_socket"]


class Socket(asyncio.Protocol, httpcore.AsyncNetworkStream):
    """
    The stream of one connection: an asyncio protocol that httpcore reads from and writes to.

    Bytes written wait until the next read, so that head and body of a request leave in one system call.
    ``received`` counts bytes since the owner last set it to zero; ``lost`` says that the loop has closed the socket.
    """

    def __init__(self, clock: Clock, on_lost: Callable[[Socket], None]) -> None:
        self._clock = clock
        self._context = Context()
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._error: Exception | None = None
        self._ended = False
        self.lost = False
        self._paused = False
        self._incoming: list[bytes] = []
        self._outgoing: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] | None = None
        self.received = 0

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is no subclass

    def data_received(self, data: bytes) -> None:
        """Keep what came and wake the reader."""
        self.received += len(data)
        self._incoming.append(data)
        self._wake()

    def eof_received(self) -> None:
        """Note the end; the transport closes itself."""
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake whoever waits; the socket is closed."""
        self._ended = self.lost = True
        self._error = exc
        self._wake()
        self._on_lost(self)
        if self._closed is not None and not self._closed.done():
            self._closed.set_result(None)

    def pause_writing(self) -> None:
        """Hold writers back: the peer reads slower than we write."""
        self._paused = True

    def resume_writing(self) -> None:
        """Let writers go on."""
        self._paused = False
        self._wake()

    # What httpcore calls.

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """
        Send what waits to be sent, then return what has come, or nothing at the end.

        Raises:
            httpcore.ReadTimeout: Nothing came in time.
            httpcore.WriteTimeout: The peer took nothing in time.
            httpcore.ReadError: The connection broke.
            httpcore.WriteError: It was broken before anything could be sent.
        Cancellation: leaves the connection as it is; its owner closes it.
        """
        if self._outgoing:
            await self._flush(timeout)
        while not self._incoming:
            if self._ended:
                if self._error is not None:
                    raise httpcore.ReadError(str(self._error)) from self._error
                return b""
            await self._wait(timeout, httpcore.ReadTimeout)
        data = b"".join(self._incoming)
        self._incoming.clear()
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Keep bytes for the next read to send."""
        if buffer:
            self._outgoing.append(buffer)

    async def aclose(self) -> None:
        """Close at once."""
        self.abort()

    def get_extra_info(self, info: str) -> Any:  # the base class's word
        """Answer what httpcore asks: an idle connection that is readable has been closed by the server."""
        if info == "is_readable":
            return self._ended or bool(self._incoming)
        return None if self._transport is None else self._transport.get_extra_info(info)

    def abort(self) -> None:
        """Close without waiting for the peer: nothing of use is ever left to be sent."""
        if self._transport is not None:
            self._transport.abort()

    def closed(self) -> asyncio.Future[None]:
        """Return what is done once the socket, open now, has been given back to the operating system."""
        if self._closed is None:
            self._closed = self._loop.create_future()
        return self._closed

    async def _flush(self, timeout: float | None) -> None:
        assert self._transport is not None
        if self._ended or self._transport.is_closing():
            raise httpcore.WriteError("the server had closed the connection") from self._error
        data = b"".join(self._outgoing)
        self._outgoing.clear()
        self._transport.write(data)
        while self._paused and not self._ended:
            await self._wait(timeout, httpcore.WriteTimeout)

    async def _wait(self, timeout: float | None, late: type[httpcore.TimeoutException]) -> None:
        """Wait until the loop has something to say."""
        waiter = self._waiter = self._loop.create_future()
        if timeout is None:
            await waiter
            return
        timer = self._clock.call_later(timeout, _fail, waiter, late, context=self._context)
        try:
            await waiter
        finally:
            timer.cancel()

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def _fail(waiter: asyncio.Future[None], late: type[httpcore.TimeoutException]) -> None:
    if not waiter.done():
        waiter.set_exception(late())


async def open_socket(
    socket: Socket, host: str, port: int, *, ssl_context: ssl.SSLContext | None, timeout: float | None
) -> None:
    """
    Connect ``socket``, in a clean context.

    Raises:
        httpcore.ConnectTimeout: No connection in time.
        httpcore.ConnectError: Refused, unreachable, unknown host, or no TLS.
    Cancellation: nothing is left open.
    """

    async def connect() -> None:
        async with asyncio.timeout(timeout):
            await asyncio.get_running_loop().create_connection(lambda: socket, host, port, ssl=ssl_context)

    try:
        await in_context(connect(), Context())
    except TimeoutError as error:
        raise httpcore.ConnectTimeout(str(error)) from error
    except OSError as error:
        raise httpcore.ConnectError(str(error)) from error
