"""One TCP or TLS connection as a byte stream, with as little between it and the loop as possible."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from contextvars import Context
from typing import Final, cast

from dspex._clock import Clock, TimerHandle
from dspex.services.lm._failures import ConnectionBroken, ExchangeError, ReadTimedOut, WriteTimedOut, plain_os_error

__all__ = ["Socket"]

_UNREAD: Final = 2**18
"""Bytes nobody has read beyond which the server is held back."""


class Socket(asyncio.Protocol):
    """
    The stream of one connection.

    ``outgoing``, which the owner sets, is sent by the next read, so that head and body leave in one system call.
    ``received`` counts bytes since the owner last set it to zero; ``lost`` says that the loop has closed the socket.
    ``is_idle``, which the owner sets, says that nobody has asked anything: a byte that comes then closes the socket.
    """

    def __init__(self, clock: Clock, on_lost: Callable[[Socket], None]) -> None:
        self._clock = clock
        self._context = Context()
        self._on_lost = on_lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._error: OSError | None = None
        self._ended = False
        self.lost = False
        self._paused = False
        self._incoming: list[bytes] = []
        self._unread = 0
        self._holding_back = False
        self._poll: Callable[[int], object] | None = None
        self.is_idle = False
        self.outgoing: list[bytes] = []
        self._waiter: asyncio.Future[None] | None = None
        self._closed: asyncio.Future[None] | None = None
        self.received = 0

    # The callbacks for the loop.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is not a subclass

    def data_received(self, data: bytes) -> None:
        """Keep what came and wake the reader."""
        self.received += len(data)
        self._incoming.append(data)
        self._unread += len(data)
        transport = self._transport
        if self.is_idle:
            self.abort()
        if self._unread > _UNREAD and not self._holding_back and transport is not None and not transport.is_closing():
            self._holding_back = True
            transport.pause_reading()
        self._wake()

    def eof_received(self) -> None:
        """Note the end; the transport closes itself."""
        self._ended = True
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake whoever waits; the socket is closed."""
        self._ended = self.lost = True
        # The loop's exception has a frame with the bytes it could not write, and so with the key.
        self._error = plain_os_error(exc) if isinstance(exc, OSError) else None
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

    # The methods for the owner.

    @property
    def has_bytes(self) -> bool:
        """True when there is something to read."""
        return bool(self._incoming)

    @property
    def transport(self) -> asyncio.Transport | None:
        """The loop's transport, once there is a connection; another one once TLS has begun on it."""
        return self._transport

    @transport.setter
    def transport(self, transport: asyncio.Transport) -> None:
        self._transport = transport

    @property
    def is_quiet(self) -> bool:
        """
        True when nothing has come, not even the end, and the peer has taken all that was sent.

        A peer that answers before it has heard all is still being sent to.
        """
        if self._ended or self._incoming or self._paused:
            return False
        return self._transport is None or self._transport.get_write_buffer_size() == 0

    def has_unseen(self) -> bool:
        """
        Say whether there is something to read, or the end; the system is asked of what the loop has not seen yet.

        Between two rounds of the loop a server may have sent what nobody asked for; taken for the answer to the next
        question, it would shift every answer by one. On TLS a message about the session counts as well, which costs a
        connection and nothing else.
        """
        if self._ended or self._incoming:
            return True
        if self._poll is None:
            sock = self._transport.get_extra_info("socket") if self._transport is not None else None
            number = sock.fileno() if sock is not None else -1
            if number < 0:
                return True
            if not hasattr(select, "poll"):  # on Windows
                return bool(select.select([number], [], [], 0)[0])
            poll = select.poll()
            poll.register(number, select.POLLIN)
            self._poll = poll.poll
        return bool(self._poll(0))

    async def read(self, timeout: float, write_timeout: float) -> bytes:
        """
        Send what waits to be sent, then return what has come, or nothing at the end.

        Raises:
            ReadTimedOut: Nothing came in time.
            WriteTimedOut: The peer took nothing in time.
            ConnectionBroken: It broke, perhaps before anything could be sent.
        Cancellation: leaves the connection as it is; its owner closes it.
        """
        if self.outgoing:
            await self._flush(write_timeout)
        while not self._incoming:
            if self._ended:
                if self._error is not None:
                    raise ConnectionBroken(str(self._error)) from self._error
                return b""
            waiter, timer = self._wait(timeout, ReadTimedOut)
            try:
                await waiter
            finally:
                timer.cancel()
        data = b"".join(self._incoming)
        self._incoming.clear()
        self._unread = 0
        if self._holding_back:
            self._holding_back = False
            if self._transport is not None and not self._transport.is_closing():
                self._context.run(self._transport.resume_reading)  # the loop keeps the context for the socket's life
        return data

    def abort(self) -> None:
        """Close without waiting for the peer: nothing of use is ever left to be sent."""
        if self._transport is not None:
            self._transport.abort()

    def closed(self) -> asyncio.Future[None]:
        """Return what is done once the socket, open now, has been given back to the operating system."""
        if self._closed is None:
            self._closed = self._loop.create_future()
        return self._closed

    async def _flush(self, timeout: float) -> None:
        assert self._transport is not None
        if self._ended or self._transport.is_closing():
            raise ConnectionBroken("the server had closed the connection") from self._error
        outgoing, self.outgoing = self.outgoing, []
        # In no variable: whoever reports crashes writes down those of every frame, and the key is in the request.
        self._transport.write(b"".join(outgoing))
        outgoing.clear()
        while self._paused and not self._ended and not self._incoming:  # an early answer is an answer
            waiter, timer = self._wait(timeout, WriteTimedOut)
            try:
                await waiter
            finally:
                timer.cancel()

    def _wait(self, timeout: float, late: type[ExchangeError]) -> tuple[asyncio.Future[None], TimerHandle]:
        """Return what is done when the loop has something to say, and the timer that fails it."""
        waiter = self._waiter = self._loop.create_future()
        return waiter, self._clock.call_later(timeout, _fail, waiter, late, context=self._context)

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


def _fail(waiter: asyncio.Future[None], late: type[ExchangeError]) -> None:
    if not waiter.done():
        waiter.set_exception(late(""))
