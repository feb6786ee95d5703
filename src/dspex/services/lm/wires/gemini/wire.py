"""Gemini's generateContent, as the Gemini API speaks it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote

from dspex.protocols.lm import LMRequest, LMResponse
from dspex.protocols.model import Secret
from dspex.protocols.wire import Headroom
from dspex.services.lm.wires._capabilities import TabledWire
from dspex.services.lm.wires._errors import document_of
from dspex.services.lm.wires._headers import checked_key, request_headers
from dspex.services.lm.wires._json import shown, to_json
from dspex.services.lm.wires.gemini.answer import invalid, read_answer
from dspex.services.lm.wires.gemini.errors import gemini_failure, is_error
from dspex.services.lm.wires.gemini.request import content_fields
from dspex.services.lm.wires.gemini.stream import ContentStream

__all__ = ["Gemini"]


@dataclass(frozen=True, slots=True)
class Gemini(TabledWire):
    """
    The wire of ``POST {base}/models/{model}:generateContent``.

    Requests that the protocol has no words for are rejected before anything is sent: at most one tool call a turn. Its
    prompt cache works unasked, so ``Message.cache`` is not written.
    """

    def path(self, model_name: str, *, stream: bool) -> str:
        """Return what follows the base URL: the model, and the method with or without streaming."""
        name = model_name if model_name.startswith(("models/", "tunedModels/")) else f"models/{model_name}"
        return f"/{quote(name)}:{'streamGenerateContent?alt=sse' if stream else 'generateContent'}"

    def encode(self, model_name: str, request: LMRequest, *, stream: bool = False) -> bytes:
        """
        Return the compact JSON body; only parameters that were set are sent.

        Raises:
            RequestRejected: Something cannot be written as JSON, or the protocol does not support it; nothing was sent.
        """
        return to_json(content_fields(model_name, request))

    def headers(self, key: Secret | None, *, idempotency_key: str, attempt: int) -> dict[str, str]:
        """
        Return the request headers of one attempt; without a key there is no ``x-goog-api-key``.

        Raises:
            AuthFailed: The key holds characters that no header may hold; the message does not show it.
        """
        headers = request_headers(idempotency_key, attempt)
        if key is not None:
            headers["x-goog-api-key"] = checked_key(key)
        return headers

    def decode(self, status: int, headers: Mapping[str, str], body: bytes) -> LMResponse:
        """
        Return the answer of a success status; unknown fields are ignored.

        Raises:
            LMError: The meaning of a failure answer, by the table of ``wires._errors``.
            ResponseInvalid: A success status with a body that holds no candidates.
            ContentRefused: The prompt was blocked, or every candidate was withheld or cut off.
        """
        success = 200 <= status < 300
        document = document_of(status, headers, body, invalid)
        if not success or is_error(document):
            raise gemini_failure(status, headers, document, otherwise=shown(body))
        if isinstance(document, list) and document:
            return self.decoder(headers).read_list(document)
        if not isinstance(document, dict):
            raise invalid(f"a JSON {type(document).__name__} instead of an object", headers, status)
        return read_answer(document, headers, status)

    def decoder(self, headers: Mapping[str, str]) -> ContentStream:
        """Return the reader of one streamed answer."""
        return ContentStream(headers)

    def headroom(self, headers: Mapping[str, str], *, now: float) -> Headroom | None:
        """Return nothing: the provider's headers do not speak of limits."""
        return None
