"""Bedrock's Converse, as Amazon speaks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from dspex.protocols.lm import LMRequest, LMResponse
from dspex.protocols.model import Secret
from dspex.protocols.wire import Headroom
from dspex.services.lm.wires._capabilities import TabledWire
from dspex.services.lm.wires._errors import document_of
from dspex.services.lm.wires._headers import bearer
from dspex.services.lm.wires._json import shown, to_json
from dspex.services.lm.wires.bedrock.answer import invalid, read_converse
from dspex.services.lm.wires.bedrock.errors import bedrock_failure
from dspex.services.lm.wires.bedrock.request import converse_fields
from dspex.services.lm.wires.bedrock.stream import ConverseStream

__all__ = ["Bedrock"]


@dataclass(frozen=True, slots=True)
class Bedrock(TabledWire):
    """
    The wire of ``POST {base}/model/{model}/converse`` and ``…/converse-stream``.

    Requests that the protocol has no words for are rejected before anything is sent: several answers to one request,
    log-probabilities, JSON of any shape, at most one tool call a turn, sound, media by an address other than ``s3://…``.
    There is no seed either; since a seed only tells rollouts of one prompt apart, it is left out: every answer is
    sampled anew anyway. Source: AWS, the API reference of the Bedrock runtime, ``Converse`` and ``ConverseStream``.
    """

    def path(self, model_name: str, *, stream: bool) -> str:
        """Return what follows the base URL; the model's name may be that of a profile or an ARN."""
        return f"/model/{quote(model_name, safe='')}/{'converse-stream' if stream else 'converse'}"

    def encode(self, model_name: str, request: LMRequest, *, stream: bool = False) -> bytes:
        """
        Return the compact JSON body, the same for a stream; only parameters that were set are sent.

        Raises:
            RequestRejected: Something cannot be written as JSON, or the protocol does not support it; nothing was sent.
        """
        return to_json(converse_fields(model_name, request))

    def headers(self, key: Secret | None, *, idempotency_key: str, attempt: int) -> dict[str, str]:
        """
        Return the request headers of one attempt: with an API key of Bedrock as a bearer token; without, unsigned.

        Raises:
            AuthFailed: The key holds characters that no header may hold; the message does not show it.
        """
        headers = bearer(key, idempotency_key=idempotency_key, attempt=attempt)
        headers["accept"] = "*/*"  # a stream is not JSON
        return headers

    def decode(self, status: int, headers: Mapping[str, str], body: bytes) -> LMResponse:
        """
        Return the answer of a success status; unknown fields and blocks are ignored.

        Raises:
            LMError: The meaning of a failure answer, by the table of ``wires._errors``.
            ResponseInvalid: A success status with a body that is not a message.
            ContentRefused: A guardrail or a filter withheld the answer.
        """
        document = document_of(status, headers, body, invalid)
        if not 200 <= status < 300:
            raise bedrock_failure(status, headers, document, otherwise=shown(body))
        if not isinstance(document, dict):
            raise invalid(f"a JSON {type(document).__name__} instead of an object", headers, status)
        return read_converse(document, headers, status)

    def decoder(self, headers: Mapping[str, str]) -> ConverseStream:
        """Return the reader of one streamed answer."""
        return ConverseStream(headers)

    def headroom(self, headers: Mapping[str, str], *, now: float) -> Headroom | None:
        """Return nothing: the provider's headers do not speak of limits."""
        return None
