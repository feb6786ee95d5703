"""Anthropic's Messages, as Anthropic and the servers that copied it speak them."""

from __future__ import annotations

import calendar
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from dspex.protocols.lm import LMRequest, LMResponse
from dspex.protocols.model import Secret
from dspex.protocols.wire import Headroom
from dspex.services.lm.wires._capabilities import TabledWire
from dspex.services.lm.wires._errors import document_of
from dspex.services.lm.wires._headers import checked_key, request_headers, whole
from dspex.services.lm.wires._json import shown, to_json
from dspex.services.lm.wires.anthropic.answer import anthropic_failure, invalid, read_message
from dspex.services.lm.wires.anthropic.request import message_fields
from dspex.services.lm.wires.anthropic.stream import MessageStream

__all__ = ["Anthropic"]

_VERSION: Final = "2023-06-01"
_LIMITS: Final = "anthropic-ratelimit-"
_MOMENT: Final = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[Tt ]([0-9]{2}):([0-9]{2}):([0-9]{2})(\.[0-9]{1,9})?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))"
)
"""Date, time, fraction of a second, distance from UTC (RFC 3339, section 5.6)."""


@dataclass(frozen=True, slots=True)
class Anthropic(TabledWire):
    """
    The wire of ``POST {base}/messages``.

    Requests that the protocol has no words for are rejected before anything is sent: several answers to one request,
    log-probabilities, JSON of any shape, sound. It has no seed either; since a seed only tells rollouts of one prompt
    apart, it is left
    out: every answer is sampled anew anyway.
    """

    def path(self, model_name: str, *, stream: bool) -> str:
        """Return what follows the base URL; the model is named in the body."""
        return "/messages"

    def encode(self, model_name: str, request: LMRequest, *, stream: bool = False) -> bytes:
        """
        Return the compact JSON body; ``max_tokens``, which the protocol requires, has a default by model.

        Raises:
            RequestRejected: Something cannot be written as JSON, or the protocol does not support it; nothing was sent.
        """
        return to_json(message_fields(model_name, request, stream=stream))

    def headers(self, key: Secret | None, *, idempotency_key: str, attempt: int) -> dict[str, str]:
        """
        Return the request headers of one attempt; without a key there is no ``x-api-key``.

        Raises:
            AuthFailed: The key holds characters that no header may hold; the message does not show it.
        """
        headers = request_headers(idempotency_key, attempt)
        headers["anthropic-version"] = _VERSION
        if key is not None:
            headers["x-api-key"] = checked_key(key)
        return headers

    def decode(self, status: int, headers: Mapping[str, str], body: bytes) -> LMResponse:
        """
        Return the answer of a success status; unknown fields and blocks are ignored.

        Raises:
            LMError: The meaning of a failure answer, by the table of ``wires._errors``.
            ResponseInvalid: A success status with a body that is not a message.
            ContentRefused: The model refused, or broke off.
        """
        success = 200 <= status < 300
        document = document_of(status, headers, body, invalid)
        is_error = isinstance(document, dict) and (document.get("type") == "error" or "content" not in document)
        if success and not isinstance(document, dict):
            raise invalid(f"a JSON {type(document).__name__} instead of an object", headers, status)
        if success and not (is_error and isinstance(document.get("error"), dict)):
            return read_message(document, headers, status)
        raise anthropic_failure(status, headers, document, otherwise=shown(body))

    def decoder(self, headers: Mapping[str, str]) -> MessageStream:
        """Return the reader of one streamed answer."""
        return MessageStream(headers)

    def headroom(self, headers: Mapping[str, str], *, now: float) -> Headroom | None:
        """Return what the ``anthropic-ratelimit-…`` headers say; of input and output tokens, the scarcer."""
        scarcest = ""
        fewest: int | None = None
        for kind in ("tokens", "input-tokens", "output-tokens"):
            left = whole(headers.get(f"{_LIMITS}{kind}-remaining"))
            if left is not None and (fewest is None or left < fewest):
                scarcest, fewest = kind, left
        found = Headroom(
            requests=whole(headers.get(f"{_LIMITS}requests-remaining")),
            requests_reset=_until(headers.get(f"{_LIMITS}requests-reset"), now),
            tokens=fewest,
            tokens_reset=_until(headers.get(f"{_LIMITS}{scarcest}-reset"), now),
            request_limit=whole(headers.get(f"{_LIMITS}requests-limit")),
            token_limit=whole(headers.get(f"{_LIMITS}{scarcest}-limit")),
        )
        return None if found == Headroom() else found


def _until(moment: str | None, now: float) -> float | None:
    """Return the seconds until an RFC 3339 time; None where it is none."""
    found = _MOMENT.fullmatch(moment.strip()) if moment else None
    if found is None:
        return None
    *date_and_time, fraction, sign, hours, minutes = found.groups()
    ahead = (int(hours) * 3600 + int(minutes) * 60) * (-1 if sign == "-" else 1) if sign else 0
    try:
        then = calendar.timegm(tuple(map(int, date_and_time))) + float(fraction or 0) - ahead
    except ValueError:  # a month that the calendar does not have
        return None
    return max(0.0, then - now)
