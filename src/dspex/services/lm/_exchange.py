"""The common part of transports: the second sending, timeouts, unpacking, the size limit, the table of failures."""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
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
        self._off_loop = OffLoop("dspex-unpack")
        self.stale_retries = 0

    async def aclose(self) -> None:
        """End the thread that unpacks large answers. Cancellation: it ends when its call does."""
        await self._off_loop.aclose()

    @abstractmethod
    def _label(self, url: str) -> str:
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
        label = self._label(url)
        if self._closed:
            self._refuse_if_closed(label)
        patience = _Patience(self._now, timeouts, label)
        is_stale = False
        try:
            try:
                sending = self._send(url, headers, body, timeouts, fresh=False)
                answer = await (sending if timeouts.first_byte is None else patience.wait(sending))
            except StaleConnection:
                is_stale = True
            if is_stale:  # once more, over a new connection
                self._refuse_if_closed(label)
                self.stale_retries += 1
                again = on_resend() if on_resend is not None else None
                answer = await patience.wait(self._send(url, again or headers, body, timeouts, fresh=True))
            return _Exchange(answer, patience, self._failures, self._max_body, self._off_loop)
        except self._failures as error:
            failed = transport_failed(error, label, timeouts.phases())
        try:
            raise failed  # here, where the library's exception is no longer handled and does not become the context
        finally:
            del failed  # its own frame would keep it alive, and all that it can reach

    def _now(self) -> float:
        if self._clock is None:
            self._clock = LoopClock(asyncio.get_running_loop())
        return self._clock.now()

    def _refuse_if_closed(self, label: str) -> None:
        if self._closed:
            raise TransportFailed(f"the transport to {label} is closed")


class _Patience:
    """The longest time until one exchange begins, and the longest silence after that."""

    __slots__ = ("_now", "_until", "label", "timeouts")

    def __init__(self, now: Callable[[], float], timeouts: Timeouts, label: str) -> None:
        self._now = now
        self.timeouts = timeouts
        self.label = label
        first = timeouts.first_byte
        self._until = None if first is None else now() + first

    def wait(self, work: Awaitable[T]) -> Awaitable[T]:
        """Return ``work`` with its time limit; where all silences are equally long, the HTTP library sees to that."""
        return work if self.timeouts.first_byte is None else self._within(work)

    async def _within(self, work: Awaitable[T]) -> T:
        until = self._until
        limit = asyncio.timeout(self.timeouts.read if until is None else max(0.0, until - self._now()))
        try:
            async with limit:
                return await work
        except TimeoutError:
            if not limit.expired():
                raise
        # Here the cancellation that the limit was made of is no longer handled, and is nobody's context.
        if until is not None:
            raise TransportFailed(f"{self.label} had not begun to answer after {self.timeouts.first_byte:g} s")
        raise TransportFailed(f"nothing came from {self.label} for {self.timeouts.read:g} s")

    def begun(self) -> None:
        """Note that the answer has begun."""
        self._until = None


class _Exchange:
    """One answer whose head has come; ``ended`` says that its connection is out of our hands."""

    __slots__ = (
        *("_answer", "_failures", "_left", "_limit", "_off_loop", "_packed_left", "_patience", "_unpacker"),
        *("ended", "headers", "status"),
    )

    def __init__(
        self,
        answer: HttpAnswer,
        patience: _Patience,
        failures: tuple[type[Exception], ...],
        limit: int,
        off_loop: OffLoop,
    ) -> None:
        self.status = answer.status
        self.headers = headers_of(answer.raw_headers)
        self.ended = False
        self._answer = answer
        self._patience = patience
        self._failures = failures
        self._limit = self._left = self._packed_left = limit
        self._off_loop = off_loop
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

    async def _next(self) -> bytes:
        try:
            if self._unpacker is not None:
                piece = await self._next_unpacked()
            elif self.ended:
                piece = b""
            else:  # as _next_packed
                coming = self._answer.next_bytes()
                piece = await (coming if self._patience.timeouts.first_byte is None else self._patience.wait(coming))
                self.ended = not piece
            self._left -= len(piece)
            if self._left < 0:
                raise self._too_large()
            return piece
        except self._failures as error:
            failed = transport_failed(error, self._patience.label, self._patience.timeouts.phases())
        try:
            raise failed  # as in _begin
        finally:
            del failed

    async def _next_packed(self) -> bytes:
        """Return the next bytes as they travelled, within the time for them; nothing at the end."""
        if self.ended:
            return b""
        piece = await self._patience.wait(self._answer.next_bytes())
        if not piece:
            self.ended = True
        return piece

    async def _next_unpacked(self) -> bytes:
        """Return the next bytes unpacked, never many more than may still come; nothing at the end."""
        unpacker = self._unpacker
        if not isinstance(unpacker, Unpacker):
            raise self._invalid(f"sent an answer {unpacker}")
        while True:
            if unpacker.has_more:
                # This read has unpacked to a lot already: the rest is unpacked where the loop does not wait for it.
                return await self._off_loop.run(unpacker.more, min(_UNPACKED_OFF_LOOP, self._left + 1))
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
        return self._invalid(f"sent an answer of more than {self._limit} bytes")

    def _invalid(self, problem: str) -> ResponseInvalid:
        """Return the error of an answer that would be no better another time."""
        return ResponseInvalid(f"{self._patience.label} {problem}", status=self.status, should_retry=False)


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
