"""One key on one endpoint over one transport: the only place that holds a secret."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dspex._clock import wall_time
from dspex.errors import AuthFailed, LMError, StreamTruncated, TransportFailed
from dspex.protocols.headers import HiddenHeaders
from dspex.protocols.lm import EmbedResponse, LMResponse
from dspex.protocols.model import Secret
from dspex.protocols.scope import OnDelta
from dspex.services.lm._http import HttpReply, OnBegin
from dspex.services.lm._off_loop import OffLoop
from dspex.services.lm.wires._errors import completed
from dspex.services.lm.wires._json import LARGE

if TYPE_CHECKING:
    from dspex.services.lm.providers import Endpoint
    from dspex.services.lm.transport import HttpStream, Transport

__all__ = ["Channel"]


class Channel:
    """Sends encoded requests to ``endpoint`` with ``key``; its repr tells the key's fingerprint only."""

    __slots__ = ("_key", "_off_loop", "_sending", "endpoint", "transport")

    def __init__(self, endpoint: Endpoint, key: Secret | None, transport: Transport) -> None:
        self.endpoint = endpoint
        self.transport = transport
        self._key = key
        self._off_loop = OffLoop("dspex-decode")
        self._sending: set[asyncio.Task[Any]] = set()

    async def send(
        self,
        model: str,
        body: bytes,
        *,
        idempotency_key: str,
        attempt: int,
        on_resend: Callable[[], int],
        on_begin: OnBegin,
        on_delta: OnDelta | None = None,
        streams: bool = False,
    ) -> LMResponse:
        """
        Make one attempt at asking ``model``.

        Args:
            model: By its own name, without the provider's.
            body: The encoded request.
            idempotency_key: The logical call's.
            attempt: The number the provider is told.
            on_resend: Called when the transport sends once more over a fresh connection; returns that attempt's number.
            on_begin: Called with the headers of the answer, whatever its status, when its body begins; for a stream,
                when its head has come.
            on_delta: Awaited with each piece of a streamed answer, which holds the provider back; what did not come in
                pieces is the caller's to hand on.
            streams: Whether the body asks for a stream.

        Raises:
            LMError: What the attempt came to, typed.
            asyncio.CancelledError: Also when ``aclose`` ended the attempt; the caller knows whether it was cancelled.
        Cancellation: closes the socket.
        """
        headers = self._headers(idempotency_key)
        with self._on_the_wire():
            first = headers(attempt)
            if streams and on_delta is not None:
                url = self.endpoint.url(model, stream=True)
                async with self.transport.stream(url, first, body, on_resend=lambda: headers(on_resend())) as answer:
                    on_begin(answer.headers)
                    return await self._read(answer, on_delta)
            url = self.endpoint.url(model)
            reply = await self.transport.post(
                url, first, body, on_resend=lambda: headers(on_resend()), on_begin=on_begin
            )
            return await self._decode(reply)

    async def embed(
        self,
        model: str,
        body: bytes,
        *,
        texts: int,
        idempotency_key: str,
        attempt: int,
        on_resend: Callable[[], int],
        on_begin: OnBegin,
    ) -> EmbedResponse:
        """Make one attempt at having ``model`` turn ``texts`` texts into vectors; the rest is as for ``send``."""
        endpoint, headers = self.endpoint, self._headers(idempotency_key)
        url = endpoint.embed_url(model)
        assert endpoint.embeddings is not None
        with self._on_the_wire():
            reply = await self.transport.post(
                url, headers(attempt), body, on_resend=lambda: headers(on_resend()), on_begin=on_begin
            )
            decode = functools.partial(endpoint.embeddings.decode, *reply, texts=texts)
            with self._completing(reply.headers):
                return decode() if len(reply.body) < LARGE else await self._off_loop.run(decode)

    def _headers(self, idempotency_key: str) -> Callable[[int], dict[str, str]]:
        """Return what makes the headers of the attempt of a number."""
        endpoint, key = self.endpoint, self._key
        if key is None and endpoint.needs_key and self.transport.needs_key:
            raise AuthFailed(f"no API key for {endpoint.provider}: {endpoint.key_hint}")

        def make(number: int) -> dict[str, str]:
            with self._completing({}):
                headers = endpoint.wire.headers(key, idempotency_key=idempotency_key, attempt=number)
            if type(headers) is not HiddenHeaders:  # from a wire of the user's own
                headers = HiddenHeaders(headers)
            for name, value in endpoint.headers.items():
                headers[name] = value.reveal()
            return headers

        return make

    @contextlib.contextmanager
    def _completing(self, headers: Mapping[str, str]) -> Iterator[None]:
        """Add to the errors of a wire what it does not know: the time, and where the user keeps the key."""
        try:
            yield
        except LMError as error:
            completed(error, headers, now=wall_time(), key_hint=self.endpoint.key_hint)
            raise

    @contextlib.contextmanager
    def _on_the_wire(self) -> Iterator[None]:
        """Have the caller's task cancelled when the channel is closed."""
        task = asyncio.current_task()
        assert task is not None
        self._sending.add(task)
        try:
            yield
        finally:
            self._sending.discard(task)

    async def _decode(self, reply: HttpReply) -> LMResponse:
        """Read an answer; a large one in a thread, so that the loop goes on."""
        decode = functools.partial(self.endpoint.wire.decode, *reply)
        with self._completing(reply.headers):
            return decode() if len(reply.body) < LARGE else await self._off_loop.run(decode)

    async def _read(self, answer: HttpStream, on_delta: OnDelta) -> LMResponse:
        """Hand on the pieces of a streamed answer as they come, and return the whole."""
        is_success = 200 <= answer.status < 300
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not is_success or kind == "application/json":
            # An error, or a server that does not stream.
            return await self._decode(HttpReply(answer.status, answer.headers, await answer.read()))
        decoder = self.endpoint.wire.decoder(answer.headers)
        pieces = aiter(answer)
        while True:
            try:
                data = await anext(pieces, b"")
            except TransportFailed as failure:
                try:
                    return decoder.finish()  # the answer was complete, only the connection's end was not
                except StreamTruncated as cut:
                    failure.usage = cut.usage
                    raise failure from failure.__cause__
            with self._completing(answer.headers):
                deltas = decoder.feed(data) if data else []
                if not data:
                    return decoder.finish()
            if deltas:
                answer.begun()
            for delta in deltas:
                await on_delta(delta)

    async def aclose(self) -> None:
        """End the attempts under way, whatever phase they are in, and close every socket."""
        for task in tuple(self._sending):
            task.cancel()
        try:
            await self.transport.aclose()
        finally:
            await self._off_loop.aclose()

    def __repr__(self) -> str:
        shown = self._key.fingerprint if self._key is not None else "no key"
        return f"<Channel {self.endpoint.base_url} {shown}>"
