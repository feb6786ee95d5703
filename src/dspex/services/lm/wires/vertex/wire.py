"""Gemini and Claude as Vertex AI offers them: the bodies of their makers, with other addresses and other proof."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import quote

from dspex.protocols.lm import LMRequest
from dspex.protocols.model import Secret
from dspex.services.lm.wires._headers import checked_key, request_headers
from dspex.services.lm.wires._json import to_json
from dspex.services.lm.wires.anthropic.request import message_fields
from dspex.services.lm.wires.anthropic.wire import Anthropic
from dspex.services.lm.wires.gemini.wire import Gemini

__all__ = ["VertexClaude", "VertexGemini", "is_api_key"]

_VERSION: Final = "vertex-2023-10-16"
_API_KEYS: Final = ("AIza", "AQ.")
"""The beginnings of Google's API keys."""


@dataclass(frozen=True, slots=True)
class VertexGemini(Gemini):
    """The wire of ``POST {base}/models/{model}:generateContent`` at Vertex AI; its key is an API key or a token."""

    def headers(self, key: Secret | None, *, idempotency_key: str, attempt: int) -> dict[str, str]:
        """Return the request headers of one attempt; raises ``AuthFailed`` as ``Gemini.headers``."""
        return _headers(key, idempotency_key, attempt)


@dataclass(frozen=True, slots=True)
class VertexClaude(Anthropic):
    """
    The wire of ``POST {base}/models/{model}:rawPredict`` and ``…:streamRawPredict`` at Vertex AI.

    The body is that of Messages, with a version and without the model, which the address names.
    """

    def path(self, model_name: str, *, stream: bool) -> str:
        """Return what follows the base URL."""
        return f"/models/{quote(model_name, safe='@')}:{'streamRawPredict' if stream else 'rawPredict'}"

    def encode(self, model_name: str, request: LMRequest, *, stream: bool = False) -> bytes:
        """Return the compact JSON body; raises ``RequestRejected`` as ``Anthropic.encode``."""
        fields = message_fields(model_name, request, stream=stream)
        del fields["model"]
        return to_json({"anthropic_version": _VERSION, **fields})

    def headers(self, key: Secret | None, *, idempotency_key: str, attempt: int) -> dict[str, str]:
        """Return the request headers of one attempt; raises ``AuthFailed`` as ``Anthropic.headers``."""
        return _headers(key, idempotency_key, attempt)


def is_api_key(key: Secret) -> bool:
    """True for an API key; every other text is taken for an access token."""
    return key.reveal().startswith(_API_KEYS)


def _headers(key: Secret | None, idempotency_key: str, attempt: int) -> dict[str, str]:
    headers = request_headers(idempotency_key, attempt)
    if key is None:
        return headers
    if is_api_key(key):
        headers["x-goog-api-key"] = checked_key(key)
    else:
        headers["authorization"] = f"Bearer {checked_key(key)}"
    return headers
