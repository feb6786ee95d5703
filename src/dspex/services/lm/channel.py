"""One key on one endpoint over one transport: the only place that holds a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dspex._clock import wall_time
from dspex.errors import AuthFailed
from dspex.protocols.lm import LMResponse, Secret

if TYPE_CHECKING:
    from dspex.services.lm.providers import Endpoint
    from dspex.services.lm.transport import Transport

__all__ = ["Channel"]


class Channel:
    """Sends encoded requests to ``endpoint`` with ``key``; its repr tells the key's fingerprint only."""

    __slots__ = ("_key", "endpoint", "transport")

    def __init__(self, endpoint: Endpoint, key: Secret | None, transport: Transport) -> None:
        self.endpoint = endpoint
        self.transport = transport
        self._key = key

    async def send(self, body: bytes, *, idempotency_key: str, attempt: int) -> LMResponse:
        """
        Make one attempt.

        Raises:
            LMError: What the attempt came to, typed.
        Cancellation: closes the socket.
        """
        endpoint = self.endpoint
        if self._key is None and endpoint.needs_key:
            raise AuthFailed(f"no API key for {endpoint.provider}: {endpoint.key_hint}")
        hint = endpoint.key_hint
        headers = endpoint.wire.headers(self._key, idempotency_key=idempotency_key, attempt=attempt, key_hint=hint)
        reply = await self.transport.post(endpoint.url, headers, body)
        return endpoint.wire.decode(reply.status, reply.headers, reply.body, now=wall_time(), key_hint=hint)

    def __repr__(self) -> str:
        shown = self._key.fingerprint if self._key is not None else "no key"
        return f"<Channel {self.endpoint.base_url} {shown}>"
