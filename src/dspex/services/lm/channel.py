"""One key on one endpoint over one transport: the only place that holds a secret."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from dspex._clock import wall_time
from dspex.errors import AuthFailed, LMError, StreamTruncated, TransportFailed
from dspex.protocols.headers import HiddenHeaders, is_credential
from dspex.protocols.lm import LMResponse
from dspex.protocols.model import Secret
from dspex.protocols.scope import OnDelta
from dspex.protocols.wire import Signer
from dspex.services.lm._http import HttpReply
from dspex.services.lm._off_loop import OffLoop
from dspex.services.lm.pieces import joined
from dspex.services.lm.wires._errors import completed
from dspex.services.lm.wires._json import LARGE

if TYPE_CHECKING:
    from dspex.services.lm.logical_call import LogicalCall
    from dspex.services.lm.providers import Endpoint

from dspex.services.lm.redact import DeltaRedactor, Redactor
from dspex.services.lm.transport import HttpStream, Transport
from dspex.services.lm.wrong_address import explain
from dspex.telemetry import carried

__all__ = ["Channel"]


class Channel:
    """Sends the attempts of calls to ``endpoint`` with ``key``; its repr tells the key's fingerprint only."""

    __slots__ = (
        *("_carries_key", "_known", "_key", "_off_loop", "_redactor", "_sending", "_signed", "_signer", "_urls"),
        *("endpoint", "transport"),
    )

    def __init__(self, endpoint: Endpoint, key: Secret | None, transport: Transport) -> None:
        self.endpoint = endpoint
        self.transport = transport
        self._key = key
        credentials = [value.reveal() for name, value in endpoint.headers.items() if is_credential(name)]
        keys = [*([key.reveal()] if key is not None else []), *credentials]
        self._known = tuple(each.removeprefix("Bearer ") for each in keys)
        self._redactor = Redactor(self._known)
        self._off_loop = OffLoop("dspex-decode")
        self._signer = endpoint.signer(transport.post, self._off_loop.run) if key is None and endpoint.signer else None
        self._signed: tuple[str, ...] = ()
        """The secrets of the signer that the redactor knows."""
        self._carries_key = bool(keys) or self._signer is not None
        self._sending: set[asyncio.Task[object]] = set()
        self._urls: dict[str, str] = {}
        """Where questions to a model are posted, by its name."""

    async def send(self, call: LogicalCall) -> Any:
        """
        Make one attempt at ``call``, and tell it when its answer begins and when it is sent once more.

        A secret that the server repeats, in an answer or in an error, is taken out of it.

        Pieces of a streamed answer are handed to ``call.deliver``, which holds the provider back; what did not come in
        pieces is the caller's to hand on.

        Returns:
            An ``LMResponse``; an ``EmbedResponse`` where texts are to be turned into vectors.

        Raises:
            LMError: The attempt's outcome, typed.
            asyncio.CancelledError: Also when ``aclose`` ended the attempt; the caller knows whether it was cancelled.
        Cancellation: closes the socket.
        """
        endpoint, model = self.endpoint, call.model
        told: Mapping[str, str] = {}  # the answer's headers
        url = ""
        task = asyncio.current_task()
        assert task is not None
        self._sending.add(task)  # cancelled when the channel is closed
        try:
            if self._key is None and endpoint.needs_key and self.transport.needs_key and self._signer is None:
                missing = AuthFailed(f"no API key for {endpoint.provider}: {endpoint.key_hint}")
                missing.may_be_charged = False
                raise missing
            headers = self._headers(call)
            streams = call.streams and call.on_delta is not None
            if self._signer is not None:
                headers.update(
                    proof := await self._proof(self._signer, endpoint.url(model, stream=streams), headers, call)
                )
                again = partial(self._headers_again, call, proof)
            else:
                again = partial(self._headers_again, call, {})
            if streams:
                url = endpoint.url(model, stream=True)
                async with self.transport.stream(url, headers, call.body, on_resend=again) as answer:
                    told = answer.headers
                    call.note_head(answer.headers)
                    if not self._redactor:
                        return await self._read(answer, call.deliver)
                    pieces = DeltaRedactor(self._redactor, call.deliver)
                    found = await self._read(answer, pieces.take)
                    await pieces.finish()
                    return self._redactor.record(found)
            if call.texts is not None:
                url = endpoint.embed_url(model)
            else:
                url = self._urls.get(model) or self._urls.setdefault(model, endpoint.url(model))
            reply = await self.transport.post(url, headers, call.body, None, again, call.note_head)
            told = reply.headers
            if len(reply.body) >= LARGE:
                return await self._off_loop.run(self._decode, reply, call.texts)  # so that the loop goes on
            return self._decode(reply, call.texts)
        except LMError as error:
            if self._signer is not None and isinstance(error, AuthFailed) and error.status is not None:
                self._signer.refused()
            if url:
                explain(error, url, endpoint.base_url, endpoint.usual_base, told, with_key=self._carries_key)
            self._redactor.error(error)
            raise
        finally:
            self._sending.discard(task)

    def _headers(self, call: LogicalCall) -> dict[str, str]:
        """Return the headers of the attempt under way: the wire's, and the user's own."""
        endpoint = self.endpoint
        try:
            headers = endpoint.wire.headers(self._key, idempotency_key=call.key, attempt=call.number)
        except LMError as error:
            self._complete(error, {})
            raise
        if type(headers) is not HiddenHeaders:  # from a wire of the user's own
            headers = HiddenHeaders(headers)
        if (more := carried.get()) is not None:
            headers.update(more(endpoint.provider))
        for name, value in endpoint.headers.items():
            headers[name] = value.reveal()
        return headers

    def _headers_again(self, call: LogicalCall, proof: Mapping[str, str]) -> dict[str, str]:
        """Note that the transport sends once more, over a fresh connection, and return the headers of that attempt."""
        call.note_resent()
        headers = self._headers(call)
        headers.update(proof)
        return headers

    async def _proof(self, signer: Signer, url: str, headers: Mapping[str, str], call: LogicalCall) -> dict[str, str]:
        """Return the headers that prove who asks, and have their secrets taken out of all that the server says."""
        try:
            return await signer.headers(url, headers, call.body)
        finally:  # also of what a refusal repeats
            if signer.secrets is not self._signed:
                self._signed = signer.secrets
                self._redactor = Redactor((*self._known, *self._signed))

    def _complete(self, error: LMError, headers: Mapping[str, str]) -> None:
        """Add to an error of the wire what it does not know: the time, and where the user keeps the key."""
        completed(error, headers, now=wall_time(), key_hint=self.endpoint.key_hint)

    def _decode(self, reply: HttpReply, texts: int | None) -> object:
        """Read an answer, or the vectors of so many texts."""
        status = reply.status
        headers, body = self._redactor.answer(reply.headers, reply.body)
        try:
            if texts is None:
                found = self.endpoint.wire.decode(status, headers, body)
                # JSON may write any character of a secret as an escape, which the bytes do not show.
                return self._redactor.record(found) if b"\\u" in body or b"\\/" in body else found
            assert self.endpoint.embeddings is not None
            return self.endpoint.embeddings.decode(status, headers, body, texts=texts)
        except LMError as error:
            self._complete(error, headers)
            raise

    async def _read(self, answer: HttpStream, on_delta: OnDelta) -> LMResponse:
        """Hand on the pieces of a streamed answer as they come, and return the whole."""
        is_success = 200 <= answer.status < 300
        kind = answer.headers.get("content-type", "").partition(";")[0].strip().lower()
        if not is_success or kind == "application/json":
            # An error, or a server that does not stream.
            reply = HttpReply(answer.status, answer.headers, await answer.read())
            if len(reply.body) >= LARGE:
                return cast("LMResponse", await self._off_loop.run(self._decode, reply, None))
            return cast("LMResponse", self._decode(reply, None))
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
            try:
                if not data:
                    return decoder.finish()
                deltas = decoder.feed(data)
            except LMError as error:
                self._complete(error, answer.headers)
                raise
            if deltas:
                answer.begun()
            for delta in joined(deltas):
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
