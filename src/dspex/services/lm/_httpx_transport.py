"""The transport a user brings."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import TYPE_CHECKING

from dspex._clock import Clock
from dspex.services.lm._address import read_address
from dspex.services.lm._exchange import ExchangeTransport, HttpAnswer
from dspex.services.lm._failures import ExchangeError
from dspex.services.lm._http import MAX_BODY, Timeouts

if TYPE_CHECKING:
    import httpx

__all__ = ["HttpxTransport"]


class HttpxTransport(ExchangeTransport):
    """
    A transport of httpx's kind that the user brings: a mock, an instrumented one, or httpx's own.

    It runs in the caller's context and is asked once per attempt. One that needs no key, because it answers by itself,
    says so with an attribute ``needs_key = False``.

    Args:
        transport: The user's transport.
        clock: The running loop's, if not given.
        timeouts: For exchanges that bring none of their own.
        max_body: Bytes of one answer, unpacked, beyond which it is refused.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        *,
        clock: Clock | None = None,
        timeouts: Timeouts | None = None,
        max_body: int = MAX_BODY,
    ) -> None:
        import httpx  # too heavy for ``import dspex``; who brings a transport has it

        super().__init__(clock, timeouts, max_body, (httpx.TransportError, httpx.DecodingError, ExchangeError, OSError))
        self._transport = transport
        self.needs_key = getattr(transport, "needs_key", True)
        self.open_connections = 0

    def label(self, url: str) -> str:
        """Return scheme and host, for messages."""
        return read_address(url).label

    async def _send(
        self, url: str, headers: Mapping[str, str], body: bytes, timeouts: Timeouts, *, fresh: bool
    ) -> HttpAnswer:
        """Ask the transport; which connection it takes is its own affair."""
        import httpx  # too heavy for ``import dspex``

        extensions = {"timeout": timeouts.phases()}
        request = httpx.Request("POST", url, headers=dict(headers), content=body, extensions=extensions)
        return _HttpxAnswer(await self._transport.handle_async_request(request))

    def __repr__(self) -> str:
        return f"<HttpxTransport {self._transport!r}>"


class _HttpxAnswer:
    """One answer as httpx reads it; what nobody has read yet is unpacked by us, within our limits."""

    __slots__ = ("_pieces", "_response", "has_ended", "is_unpacked", "raw_headers", "status")

    def __init__(self, response: httpx.Response) -> None:
        import httpx  # too heavy for ``import dspex``

        self._response = response
        self.has_ended = False
        self.is_unpacked = True
        try:
            self._pieces = _once(response.content)  # read before, by the transport: httpx has unpacked it
        except httpx.ResponseNotRead:
            self.is_unpacked = False
            self._pieces = response.aiter_raw()
        self.status = response.status_code
        self.raw_headers = response.headers.raw

    async def next_bytes(self) -> bytes:
        """Return the next piece of the body; at its end the answer is closed."""
        while (piece := await anext(self._pieces, None)) is not None:
            if piece:
                return piece
        await self._response.aclose()
        self.has_ended = True
        return b""

    async def abort(self) -> None:
        """Close the answer, and with it its connection."""
        async with contextlib.aclosing(self._pieces):  # type: ignore[type-var]  # httpx gives a generator
            await self._response.aclose()


async def _once(whole: bytes) -> AsyncIterator[bytes]:
    yield whole
