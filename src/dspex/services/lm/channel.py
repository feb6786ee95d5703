"""One key on one endpoint over one transport: the only place that holds a secret."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from dspex._clock import wall_time
from dspex.errors import AuthFailed, StreamTruncated, TransportFailed
from dspex.protocols.lm import LMResponse
from dspex.protocols.model import Secret
from dspex.protocols.scope import OnDelta
from dspex.services.lm._http import HttpReply

if TYPE_CHECKING:
    from dspex.services.lm.providers import Endpoint
    from dspex.services.lm.transport import HttpStream, Transport

__all__ = ["Channel"]


class Channel:
    """Sends encoded requests to ``endpoint`` with ``key``; its repr tells the key's fingerprint only."""

    __slots__ = ("_key", "_sending", "endpoint", "transport")

    def __init__(self, endpoint: Endpoint, key: Secret | None, transport: Transport) -> None:
        self.endpoint = endpoint
        self.transport = transport
        self._key = key
        self._sending: set[asyncio.Task[Any]] = set()

    async def send(
        self,
        model: str,
        body: bytes,
        *,
        idempotency_key: str,
        attempt: int,
        on_resend: Callable[[], int],
        on_head: Callable[[Mapping[str, str]], object],
        on_delta: OnDelta | None = None,
    ) -> LMResponse:
        """
        Make one attempt at asking ``model``.

        Args:
            model: By its own name, without the provider's.
            body: The encoded request.
            idempotency_key: The logical call's.
            attempt: The number the provider is told.
            on_resend: Called when the transport sends once more over a fresh connection; returns that attempt's number.
            on_head: Called with the headers of the answer, whatever its status.
            on_delta: Makes it a stream: awaited with each piece of the answer, which holds the provider back.

        Raises:
            LMError: What the attempt came to, typed.
            asyncio.CancelledError: Also when ``aclose`` ended the attempt; the caller knows whether it was cancelled.
        Cancellation: closes the socket.
        """
        endpoint = self.endpoint
        if self._key is None and endpoint.needs_key:
            raise AuthFailed(f"no API key for {endpoint.provider}: {endpoint.key_hint}")

        def headers(number: int) -> dict[str, str]:
            return endpoint.wire.headers(
                self._key, idempotency_key=idempotency_key, attempt=number, key_hint=endpoint.key_hint
            )

        def again() -> dict[str, str]:
            return headers(on_resend())

        first = headers(attempt)
        task = asyncio.current_task()
        assert task is not None
        self._sending.add(task)
        try:
            if on_delta is not None:
                url = endpoint.url(model, stream=True)
                async with self.transport.stream(url, first, body, on_resend=again) as answer:
                    on_head(answer.headers)
                    return await self._read(answer, on_delta)
            reply = await self.transport.post(endpoint.url(model), first, body, on_resend=again)
        finally:
            self._sending.discard(task)
        on_head(reply.headers)
        return self._decode(reply)

    def _decode(self, reply: HttpReply) -> LMResponse:
        status, headers, body = reply
        return self.endpoint.wire.decode(status, headers, body, now=wall_time(), key_hint=self.endpoint.key_hint)

    async def _read(self, answer: HttpStream, on_delta: OnDelta) -> LMResponse:
        """Hand on the pieces of a streamed answer and return the whole; what came in one piece is handed on as one."""
        is_success = 200 <= answer.status < 300
        if not is_success or answer.headers.get("content-type", "").partition(";")[0].strip() == "application/json":
            # An error, or a server that does not stream.
            response = self._decode(HttpReply(answer.status, answer.headers, await answer.read()))
            for delta in response.deltas():
                await on_delta(delta)
            return response
        endpoint = self.endpoint
        decoder = endpoint.wire.decoder(answer.headers, now=wall_time(), key_hint=endpoint.key_hint)
        pieces = aiter(answer)
        while True:
            try:
                data = await anext(pieces, b"")
            except TransportFailed as failure:
                try:
                    return decoder.finish()  # the answer was complete, only the connection's end was not
                except StreamTruncated:
                    raise failure from failure.__cause__
            if not data:
                return decoder.finish()
            for delta in decoder.feed(data):
                await on_delta(delta)

    async def aclose(self) -> None:
        """End the attempts under way, whatever phase they are in, and close every socket."""
        for task in tuple(self._sending):
            task.cancel()
        await self.transport.aclose()

    def __repr__(self) -> str:
        shown = self._key.fingerprint if self._key is not None else "no key"
        return f"<Channel {self.endpoint.base_url} {shown}>"
