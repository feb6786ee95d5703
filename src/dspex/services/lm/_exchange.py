"""The common part of transports: the second sending, timeouts, unpacking, the size limit, the table of failures."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import Final, Protocol, TypeVar

from dspex._clock import Clock, LoopClock
from dspex.errors import ResponseInvalid, TransportFailed
from dspex.services.lm._failures import transport_failed
from dspex.services.lm._http import HttpReply, HttpStream, OnBegin, OnResend, Timeouts, headers_of
from dspex.services.lm._off_loop import OffLoop
from dspex.services.lm._unpack import Unpacker, layers_of

__all__ = ["ExchangeTransport", "HttpAnswer", "StaleConnection"]

T = TypeVar("T")

_UNPACKED_ON_LOOP: Final = 2**18
"""
Bytes unpacked on the loop in one go; what one read gives beyond it is unpacked in a thread.

Measured: gunzipping stands still for 1 ms at 2**18 bytes of JSON, 4 ms at 2**20, 14 ms at 2**22.
"""
_UNPACKED_OFF_LOOP: Final = 2**22
"""Bytes unpacked by the thread in one go, of which a slow reader holds one."""


class StaleConnection(Exception):
    """A kept-alive connection was closed before a byte of the answer came; it stays inside."""


class HttpAnswer(Protocol):
    """One answer under way, as an HTTP library gives it."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """The header lines as they came."""
        ...

    @property
    def is_unpacked(self) -> bool:
        """True when the library undoes a ``content-encoding`` itself."""
        ...

    @property
    def has_ended(self) -> bool:
        """True when the piece returned last was the end of the body, and the connection is free again."""
        ...

    async def next_bytes(self) -> bytes:
        """Return what has come of the body, or wait for it; nothing at its end."""
        ...

    async def abort(self) -> None:
        """Close the connection in the middle of the answer."""
        ...


class ExchangeTransport(ABC):
    """
    The half of a transport that does not depend on the HTTP library below it.

    Args:
        clock: The running loop's, if not given.
        timeouts: For exchanges that bring none of their own.
        max_body: Bytes of one answer, unpacked, beyond which it is refused.
        failures: The library's exceptions that mean: no complete answer came.
    """

    needs_key = True

    def __init__(
        self, clock: Clock | None, timeouts: Timeouts | None, max_body: int, failures: tuple[type[Exception], ...]
    ) -> None:
        self.max_body = max_body
        self.failures = failures
        self.off_loop = OffLoop("dspex-unpack")
        self._clock = clock
        self._timeouts = timeouts or Timeouts()
        self._closed = False
        self.stale_retries = 0

    async def aclose(self) -> None:
        """End the thread that unpacks large answers. Cancellation: it ends when its call does."""
        await self.off_loop.aclose()

    @abstractmethod
    def label(self, url: str) -> str:
        """Return scheme and host, for messages."""

    @abstractmethod
    async def _send(
        self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts, *, fresh: bool
    ) -> HttpAnswer:
        """
        Send one request and return its answer once the head has come.

        Args:
            fresh: Over a new connection.

        Raises:
            StaleConnection: The connection had served before and was closed before a byte came; not when ``fresh``.
        Cancellation: closes the socket.
        """

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
        exchange = await self._begin(url, headers, body, timeouts or self._timeouts, on_resend)
        try:
            whole = await exchange.read(on_begin)
        finally:
            if not exchange.ended:
                await exchange.aclose()
        return HttpReply(exchange.status, exchange.headers, whole)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeouts: Timeouts | None = None,
        on_resend: OnResend | None = None,
    ) -> AsyncIterator[HttpStream]:
        """Send one request whose answer is read inside the block, as ``Transport.stream``."""
        exchange = await self._begin(url, headers, body, timeouts or self._timeouts, on_resend)
        try:
            yield exchange
        finally:
            if not exchange.ended:
                await exchange.aclose()

    async def _begin(
        self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts, on_resend: OnResend | None
    ) -> _Exchange:
        if self._closed:
            self._refuse_if_closed(self.label(url))
        until = None if timeouts.first_byte is None else self._now() + timeouts.first_byte
        is_stale = False
        try:
            try:
                sending = self._send(url, headers, body, timeouts, fresh=False)
                answer = await (sending if until is None else self.within(sending, url, timeouts, until))
            except StaleConnection:
                is_stale = True
            if is_stale:  # once more, over a new connection
                self._refuse_if_closed(self.label(url))
                self.stale_retries += 1
                again = on_resend() if on_resend is not None else None
                sending = self._send(url, again or headers, body, timeouts, fresh=True)
                answer = await (sending if until is None else self.within(sending, url, timeouts, until))
            return _Exchange(self, url, answer, timeouts, until)
        except self.failures as error:
            failed = transport_failed(error, self.label(url), timeouts.phases())
        try:
            raise failed  # here, where the library's exception is no longer handled and does not become the context
        finally:
            del failed  # its own frame would keep it alive, and all that it can reach

    async def within(self, work: Awaitable[T], url: str, timeouts: Timeouts, until: float | None) -> T:
        """Await ``work`` at most until the answer must have begun; where ``until`` is None it has: for one silence."""
        limit = asyncio.timeout(timeouts.read if until is None else max(0.0, until - self._now()))
        try:
            async with limit:
                return await work
        except TimeoutError:
            if not limit.expired():
                raise
        # Here the cancellation that the limit was made of is no longer handled, and is nobody's context.
        if until is not None:
            raise TransportFailed(f"{self.label(url)} had not begun to answer after {timeouts.first_byte:g} s")
        raise TransportFailed(f"nothing came from {self.label(url)} for {timeouts.read:g} s")

    def _now(self) -> float:
        if self._clock is None:
            self._clock = LoopClock(asyncio.get_running_loop())
        return self._clock.now()

    def _refuse_if_closed(self, label: str) -> None:
        if self._closed:
            raise TransportFailed(f"the transport to {label} is closed")


class _Exchange:
    """
    One answer whose head has come; ``ended`` says that its connection is out of our hands.

    ``until`` is when the answer must have begun, where timeouts set a limit to that. Where they do not, all silences
    are equally long, and the HTTP library sees to them.
    """

    __slots__ = (
        *("_answer", "_left", "_packed_left", "_timeouts", "_transport", "_unpacker", "_until", "_url"),
        *("ended", "headers", "status"),
    )

    def __init__(
        self, transport: ExchangeTransport, url: str, answer: HttpAnswer, timeouts: Timeouts, until: float | None
    ) -> None:
        self.status = answer.status
        self.headers = headers_of(answer.raw_headers)
        self.ended = False
        self._answer = answer
        self._timeouts = timeouts
        self._transport = transport
        self._until = until
        self._url = url
        self._left = self._packed_left = transport.max_body
        self._unpacker: Unpacker | str | None = None  # a text says why there is none
        if "content-encoding" in self.headers and not answer.is_unpacked:
            self._unpacker = _unpacker_for(self.headers["content-encoding"])

    def __aiter__(self) -> _Exchange:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._next()
        if not piece:
            raise StopAsyncIteration
        return piece

    def begun(self) -> None:
        """Note that the first token has come."""
        self._until = None

    async def read(self, on_begin: OnBegin | None = None) -> bytes:
        """Return what is left of the body."""
        length = self.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._transport.max_body:
            raise self._too_large()
        first = await self._next()
        self._until = None
        if on_begin is not None:
            on_begin(self.headers)
        if self.ended and self._unpacker is None:
            return first
        pieces = [first]
        while piece := await self._next():
            pieces.append(piece)
        return b"".join(pieces)

    async def aclose(self) -> None:
        """Close the connection, whatever has come so far."""
        self.ended = True
        await self._answer.abort()

    async def _next(self) -> bytes:
        try:
            if self._unpacker is not None:
                piece = await self._next_unpacked()
            elif self.ended:
                piece = b""
            else:  # as _next_packed, which would be one more coroutine to be resumed at each wake-up
                coming = self._answer.next_bytes()
                if self._timeouts.first_byte is not None:
                    coming = self._transport.within(coming, self._url, self._timeouts, self._until)
                piece = await coming
                self.ended = not piece or self._answer.has_ended
            self._left -= len(piece)
            if self._left < 0:
                raise self._too_large()
            return piece
        except self._transport.failures as error:
            failed = transport_failed(error, self._transport.label(self._url), self._timeouts.phases())
        try:
            raise failed  # as in _begin
        finally:
            del failed

    async def _next_packed(self) -> bytes:
        """Return the next bytes as they travelled, within the time for them; nothing at the end."""
        if self.ended:
            return b""
        coming = self._answer.next_bytes()
        if self._timeouts.first_byte is not None:
            coming = self._transport.within(coming, self._url, self._timeouts, self._until)
        piece = await coming
        self.ended = not piece or self._answer.has_ended
        return piece

    async def _next_unpacked(self) -> bytes:
        """Return the next bytes unpacked, never many more than may still come; nothing at the end."""
        unpacker = self._unpacker
        if not isinstance(unpacker, Unpacker):
            raise self._invalid(f"sent an answer {unpacker}")
        while True:
            if unpacker.has_more:
                # This read has unpacked to a lot already: the rest is unpacked where the loop does not wait for it.
                return await self._transport.off_loop.run(unpacker.more, min(_UNPACKED_OFF_LOOP, self._left + 1))
            packed = await self._next_packed()
            if not packed:
                unpacker.finish()
                return b""
            self._packed_left -= len(packed)
            if self._packed_left < 0:  # an endless body may unpack to nothing
                raise self._too_large()
            if piece := unpacker.feed(packed, min(_UNPACKED_ON_LOOP, self._left + 1)):
                return piece

    def _too_large(self) -> ResponseInvalid:
        return self._invalid(f"sent an answer of more than {self._transport.max_body} bytes")

    def _invalid(self, problem: str) -> ResponseInvalid:
        """Return the error of an answer that would be no better another time."""
        return ResponseInvalid(f"{self._transport.label(self._url)} {problem}", status=self.status, should_retry=False)


def _unpacker_for(encoding: str) -> Unpacker | str | None:
    """Return what undoes a ``content-encoding``, nothing where nothing is to be undone, or why it cannot be undone."""
    layers = layers_of(encoding)
    if len(layers) > 1:
        return f"packed {len(layers)} times, which is refused"
    if not layers:
        return None
    if layers[0] not in Unpacker.KNOWN:
        return "packed in an unknown way, though none was asked for"
    return Unpacker(layers[0])
