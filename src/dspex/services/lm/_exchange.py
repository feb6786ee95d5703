"""What all transports share: the second sending, timeouts, unpacking, the size limit and the table of failures."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Final, Protocol, TypeVar

import httpx

from dspex._clock import Clock, LoopClock
from dspex.errors import ResponseInvalid, TransportFailed
from dspex.services.lm._failures import transport_failed
from dspex.services.lm._http import HttpReply, HttpStream, OnBegin, OnResend, Timeouts, headers_of

__all__ = ["Answer", "ExchangeTransport", "StaleConnection"]

T = TypeVar("T")

_UNPACKED_AT_ONCE: Final = 2**14
"""Packed bytes given to a decoder in one go: what a thousandfold they may grow to still fits the limit."""


class StaleConnection(Exception):
    """A kept-alive connection was closed before a byte of the answer came; the library's error is the cause."""


class Answer(Protocol):
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
        """Whether the library undoes a ``content-encoding`` itself."""
        ...

    async def next_bytes(self) -> bytes:
        """Return what has come of the body, or wait for it; nothing at its end, when the connection is free again."""
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
        self._clock = clock
        self._timeouts = timeouts or Timeouts()
        self._max_body = max_body
        self._failures = failures
        self._closed = False
        self.stale_retries = 0

    @abstractmethod
    def _label(self, url: str) -> str:
        """Return scheme and host, for messages."""

    @abstractmethod
    async def _send(
        self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts, *, fresh: bool
    ) -> Answer:
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
        label = self._label(url)
        self._refuse_if_closed(label)
        patience = _Patience(self._now, timeouts, label)
        try:
            try:
                answer = await patience.wait(self._send(url, headers, body, timeouts, fresh=False))
            except StaleConnection:
                self._refuse_if_closed(label)
                self.stale_retries += 1
                again = on_resend() if on_resend is not None else None
                answer = await patience.wait(self._send(url, again or headers, body, timeouts, fresh=True))
        except self._failures as error:
            raise transport_failed(error, label, timeouts.phases()) from error
        return _Exchange(answer, patience, self._failures, self._max_body)

    def _now(self) -> float:
        if self._clock is None:
            self._clock = LoopClock(asyncio.get_running_loop())
        return self._clock.now()

    def _refuse_if_closed(self, label: str) -> None:
        if self._closed:
            raise TransportFailed(f"the transport to {label} is closed")


class _Patience:
    """How long one exchange may take to begin, and from then on how long it may be silent."""

    __slots__ = ("_now", "_until", "label", "timeouts")

    def __init__(self, now: Callable[[], float], timeouts: Timeouts, label: str) -> None:
        self._now = now
        self.timeouts = timeouts
        self.label = label
        first = timeouts.first_byte
        self._until = None if first is None else now() + first

    async def wait(self, work: Awaitable[T]) -> T:
        """Await ``work``; where all silences are equally long, the HTTP library sees to that."""
        if self.timeouts.first_byte is None:
            return await work
        until = self._until
        limit = asyncio.timeout(self.timeouts.read if until is None else max(0.0, until - self._now()))
        try:
            async with limit:
                return await work
        except TimeoutError as error:
            if not limit.expired():
                raise
            if until is not None:
                text = f"{self.label} had not begun to answer after {self.timeouts.first_byte:g} s"
            else:
                text = f"nothing came from {self.label} for {self.timeouts.read:g} s"
            raise TransportFailed(text) from error

    def begun(self) -> None:
        """Note that the answer has begun."""
        self._until = None


class _Exchange:
    """One answer whose head has come; ``ended`` says that its connection is out of our hands."""

    __slots__ = ("_answer", "_failures", "_left", "_limit", "_patience", "_unpacked", "ended", "headers", "status")

    def __init__(self, answer: Answer, patience: _Patience, failures: tuple[type[Exception], ...], limit: int) -> None:
        self.status = answer.status
        self.headers = headers_of(answer.raw_headers)
        self.ended = False
        self._answer = answer
        self._patience = patience
        self._failures = failures
        self._limit = self._left = limit
        self._unpacked: AsyncIterator[bytes] | None = None
        if not answer.is_unpacked and self.headers.get("content-encoding", "identity") != "identity":
            # httpx's decoders; it reads the headers that concern it itself.
            packed = httpx.Response(self.status, headers=answer.raw_headers, stream=_Packed(self))
            self._unpacked = packed.aiter_bytes()

    def __aiter__(self) -> _Exchange:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._next()
        if not piece:
            raise StopAsyncIteration
        return piece

    def begun(self) -> None:
        """Note that the first token has come."""
        self._patience.begun()

    async def read(self, on_begin: OnBegin | None = None) -> bytes:
        """Return what is left of the body."""
        length = self.headers.get("content-length", "")
        if length.isdecimal() and int(length) > self._limit:
            raise self._too_large()
        first = await self._next()
        self._patience.begun()
        if on_begin is not None:
            on_begin(self.headers)
        if not first:
            return b""
        pieces = [first]
        while piece := await self._next():
            pieces.append(piece)
        return first if len(pieces) == 1 else b"".join(pieces)

    async def aclose(self) -> None:
        """Close the connection, whatever has come so far."""
        self.ended = True
        await self._answer.abort()
        if self._unpacked is not None:
            await self._unpacked.aclose()  # type: ignore[attr-defined]  # httpx gives a generator

    async def next_packed(self) -> bytes:
        """Return the next bytes as they travelled, within the time for them; nothing at the end."""
        if self.ended:
            return b""
        piece = await self._patience.wait(self._answer.next_bytes())
        if not piece:
            self.ended = True
        return piece

    async def _next(self) -> bytes:
        try:
            if self._unpacked is not None:
                piece = await anext(self._unpacked, b"")
            else:
                piece = await self.next_packed()
        except self._failures as error:
            raise transport_failed(error, self._patience.label, self._patience.timeouts.phases()) from error
        self._left -= len(piece)
        if self._left < 0:
            raise self._too_large()
        return piece

    def _too_large(self) -> ResponseInvalid:
        message = f"{self._patience.label} sent an answer of more than {self._limit} bytes"
        return ResponseInvalid(message, status=self.status, should_retry=False)


class _Packed(httpx.AsyncByteStream):
    """A packed body for httpx to unpack, in pieces small enough that none becomes huge."""

    def __init__(self, exchange: _Exchange) -> None:
        self._exchange = exchange

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self._exchange.next_packed():
            for start in range(0, len(piece), _UNPACKED_AT_ONCE):
                yield piece[start : start + _UNPACKED_AT_ONCE]
