"""The meaning of Gemini's error answers: Google's status and details told in the words of the shared table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from dspex.errors import LMError
from dspex.services.lm.wires._error_table import ErrorBody
from dspex.services.lm.wires._errors import failure
from dspex.services.lm.wires._headers import duration
from dspex.services.lm.wires._json import string
from dspex.services.lm.wires.gemini.answer import items

__all__ = ["gemini_failure", "is_error"]

_KEY_REASONS: Final = frozenset({"API_KEY_INVALID", "API_KEY_EXPIRED", "API_KEY_SERVICE_BLOCKED", "API_KEY_NOT_FOUND"})
_STATUSES: Final = {
    "INVALID_ARGUMENT": 400,
    "FAILED_PRECONDITION": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    "NOT_FOUND": 404,
    "RESOURCE_EXHAUSTED": 429,
    "INTERNAL": 500,
    "UNAVAILABLE": 503,
    "DEADLINE_EXCEEDED": 504,
}


def is_error(document: object) -> bool:
    """True when a document is an error, alone or, as streams without ``alt=sse`` have it, in a list."""
    return _error(document) is not None


def _error(document: object) -> Mapping[str, object] | None:
    first = document[0] if isinstance(document, list) and document else document
    error = first.get("error") if isinstance(first, dict) else None
    return error if isinstance(error, dict) else None


def gemini_failure(
    status: int,
    headers: Mapping[str, str],
    document: object,
    *,
    otherwise: str = "",
    in_stream: bool = False,
) -> LMError:
    """
    Return the typed error of an error document; ``otherwise`` is shown where it is none.

    Under a success status, in a stream that is, the error says which status it would have had.
    """
    error = _error(document)
    details = list(items(error, "details"))
    if status < 300:
        claimed = error.get("code") if error else None
        known = _STATUSES.get(string(error, "status"), status)
        status = claimed if type(claimed) is int and 400 <= claimed < 600 else known
    message = string(error, "message") if error else otherwise
    reason = next((found for each in details if (found := string(each, "reason"))), "")
    body = ErrorBody(message, reason or string(error, "status"), _cause(message, reason, details))
    waits = (duration(string(each, "retryDelay")) for each in details)
    return failure(
        status,
        headers,
        body,
        request_id=headers.get("x-request-id"),
        retry_after=next((wait for wait in waits if wait is not None), None),
        in_stream=in_stream,
    )


def _cause(message: str, reason: str, details: list[dict[str, object]]) -> str:
    """Return the shared table's word for what several causes share a status for; empty where the status says it."""
    words = message.lower()
    if reason in _KEY_REASONS or "api key not valid" in words or "api key expired" in words:
        return "invalid_api_key"  # told as a mistake in the request
    if any(_is_lasting(violation) for violation in _violations(details)) or "credits are depleted" in words:
        return "quota_exceeded"
    if "exceeds the maximum number of tokens" in words:
        return "context_length_exceeded"
    return ""


def _violations(details: list[dict[str, object]]) -> Iterator[dict[str, object]]:
    for each in details:
        if string(each, "@type").endswith("google.rpc.QuotaFailure"):
            yield from items(each, "violations")


def _is_lasting(violation: Mapping[str, object]) -> bool:
    """True when no wait of a few minutes helps: the day's quota is used up, or there is none at all."""
    day = "perday" in string(violation, "quotaId").lower() or "per_day" in string(violation, "quotaMetric").lower()
    return day or string(violation, "quotaValue") == "0"
