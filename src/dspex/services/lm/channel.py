"""One key on one endpoint over one transport: the only place that holds a secret."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from dspex._clock import wall_time
from dspex.errors import AuthFailed
from dspex.protocols.lm import LMResponse
from dspex.protocols.model import Secret

if TYPE_CHECKING:
    from dspex.services.lm.providers import Endpoint
    from dspex.services.lm.transport import Transport

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
        self, model: str, body: bytes, *, idempotency_key: str, attempt: int, on_resend: Callable[[], object]
    ) -> LMResponse:
        """
        Make one attempt at asking ``model``.

        ``on_resend`` is called when the transport sends it once more over a fresh connection.

        Raises:
            LMError: What the attempt came to, typed.
            asyncio.CancelledError: Also when ``aclose`` ended the attempt; the caller knows whether it was cancelled.
        Cancellation: closes the socket.
        """
        endpoint = self.endpoint
        if self._key is None and endpoint.needs_key:
            raise AuthFailed(f"no API key for {endpoint.provider}: {endpoint.key_hint}")
        hint = endpoint.key_hint
        headers = endpoint.wire.headers(self._key, idempotency_key=idempotency_key, attempt=attempt, key_hint=hint)
        task = asyncio.current_task()
        assert task is not None
        self._sending.add(task)
        try:
            reply = await self.transport.post(endpoint.url(model), headers, body, on_resend=on_resend)
        finally:
            self._sending.discard(task)
        return endpoint.wire.decode(reply.status, reply.headers, reply.body, now=wall_time(), key_hint=hint)

    async def aclose(self) -> None:
        """End the attempts under way, whatever phase they are in, and close every socket."""
        for task in tuple(self._sending):
            task.cancel()
        await self.transport.aclose()

    def __repr__(self) -> str:
        shown = self._key.fingerprint if self._key is not None else "no key"
        return f"<Channel {self.endpoint.base_url} {shown}>"
