"""One request for vectors as a logical call: the same leases, attempts and settling as for an answer."""

from __future__ import annotations

from typing import Any

from dspex.protocols.lm import AttemptLog, EmbedRequest, EmbedResponse
from dspex.protocols.model import LM
from dspex.runtime import Runtime
from dspex.services.lm.channel import Channel
from dspex.services.lm.estimate import BYTES_PER_TOKEN, TokenEstimate
from dspex.services.lm.keyed_endpoint import KeyedEndpoint
from dspex.services.lm.logical_call import LogicalCall, Sending
from dspex.services.lm.wires._wire import EmbeddingsWire

__all__ = ["EmbedCall"]


class EmbedCall(LogicalCall):
    """
    The attempts to have one request's texts turned into vectors.

    Args:
        runtime: Whose clock and names are used.
        keyed: The key and endpoint.
        lm: The model.
        log: What earlier attempts of this call have done.
        deadline: When the caller's time is over.
        wire: What writes the request.
        request: No larger than ``wire`` allows.
    """

    __slots__ = ("_texts",)

    def __init__(
        self,
        runtime: Runtime,
        keyed: KeyedEndpoint,
        lm: LM,
        log: AttemptLog,
        deadline: float,
        wire: EmbeddingsWire,
        request: EmbedRequest,
    ) -> None:
        body = wire.encode(lm.model_name, request)
        expects = TokenEstimate(max(1, len(body) // BYTES_PER_TOKEN), 0)
        super().__init__(runtime, keyed, lm, log, deadline, body, expects)
        self._texts = len(request.texts)

    async def vectors(self) -> EmbedResponse:
        """Make attempts until one brings vectors; raises and is cancelled as ``LMService.embed``."""
        response: EmbedResponse = await self.until_answered()
        return response

    async def _exchange(self, channel: Channel, sending: Sending) -> EmbedResponse:
        return await channel.embed(
            self.lm.model_name,
            self.body,
            texts=self._texts,
            idempotency_key=self.key,
            attempt=sending.number,
            on_resend=sending.resent,
            on_begin=sending.begun,
        )

    def _keep(self, response: Any) -> None:
        self.log.lm = self.lm
