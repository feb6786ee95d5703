"""What a provider's error answer means: one table, first matching row wins."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, TypeVar

from dspex.errors import (
    AuthFailed,
    ContentRefused,
    ContextTooLong,
    LMError,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    ResponseInvalid,
    ServerFailed,
    TransportFailed,
)
from dspex.protocols.lm import Usage
from dspex.services.lm.wires._headers import parse_retry_after, set_key, should_retry
from dspex.services.lm.wires._json import SHOWN, parse, shown, string

__all__ = [
    "ERRORS_TABLE",
    "ErrorBody",
    "ErrorRow",
    "billed",
    "classify",
    "document_of",
    "error_body",
    "failure",
    "inner_status",
    "openai_failure",
    "unsayable",
]

E = TypeVar("E", bound=LMError)


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """What an error answer says about itself; what it leaves out is empty."""

    message: str = ""
    code: str = ""
    type: str = ""


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """
    One line of the table; a part left empty matches anything.

    Attributes:
        error: The class this answer becomes.
        words: Provider codes or types, compared whole.
        statuses: HTTP statuses.
        phrases: Lower-case parts of the message, for servers that give no code.
    """

    error: type[LMError]
    words: frozenset[str] = frozenset()
    statuses: range | frozenset[int] = frozenset()
    phrases: tuple[str, ...] = ()

    def matches(self, status: int, body: ErrorBody) -> bool:
        """Whether this row describes the answer."""
        if self.words and not (body.code in self.words or body.type in self.words):
            return False
        if self.statuses and status not in self.statuses:
            return False
        return not self.phrases or any(phrase in body.message.lower() for phrase in self.phrases)


_QUOTA = frozenset(
    {
        "insufficient_quota",
        "credit_balance_exhausted",
        "billing_error",
        "billing_hard_limit_reached",
        "billing_not_active",
        "enforced_spend_limit_reached",
        "spend_limit_exceeded",
        "spend_limit_reached",
        "monthly_spend_limit_reached",
        "insufficient_balance",
        "insufficient_credits",
        "quota_exceeded",
    }
)
_TOO_LONG = frozenset({"context_length_exceeded", "exceed_context_size_error", "model_context_window_exceeded"})
_TOO_LONG_PHRASES = (
    "maximum context length",
    "context length exceeded",
    "context window",
    "context size",
    "prompt is too long",
)
_REFUSED = frozenset({"content_filter", "content_policy_violation", "image_content_policy_violation"})
_REJECTED = frozenset(
    {
        "bad_request",
        "empty_image_file",
        "failed_to_download_image",
        "image_file_not_found",
        "image_file_too_large",
        "image_parse_error",
        "image_too_large",
        "image_too_small",
        "invalid_base64_image",
        "invalid_image",
        "invalid_image_format",
        "invalid_image_mode",
        "invalid_image_url",
        "invalid_prompt",
        "invalid_request_error",
        "model_not_found",
        "unsupported_image_media_type",
    }
)
_RATE = frozenset({"rate_limit_exceeded", "slow_down", "rate_limit_error", "too_many_requests"})
_SERVER = frozenset({"server_is_overloaded", "overloaded_error", "server_error", "api_error", "engine_overloaded"})
_AUTH = frozenset({"invalid_api_key", "invalid_organization", "account_deactivated", "authentication_error"})

ERRORS_TABLE: Final[tuple[ErrorRow, ...]] = (
    ErrorRow(QuotaExhausted, words=_QUOTA),
    ErrorRow(QuotaExhausted, statuses=frozenset({402})),
    ErrorRow(AuthFailed, words=_AUTH),
    ErrorRow(AuthFailed, statuses=frozenset({401})),
    ErrorRow(ContentRefused, words=_REFUSED),
    ErrorRow(AuthFailed, statuses=frozenset({403})),
    ErrorRow(ContextTooLong, words=_TOO_LONG),
    ErrorRow(RateLimited, words=_RATE),
    ErrorRow(RateLimited, statuses=frozenset({429})),
    ErrorRow(ContextTooLong, statuses=frozenset({400, 413, 422}), phrases=_TOO_LONG_PHRASES),
    ErrorRow(TransportFailed, statuses=frozenset({408, 409, 425})),
    ErrorRow(RequestRejected, statuses=range(300, 500)),
    ErrorRow(ServerFailed, statuses=range(500, 1000)),
    ErrorRow(ServerFailed, words=_SERVER),
    ErrorRow(RequestRejected, words=_REJECTED),
)
"""Codes that name a cause come before the statuses that several causes share (a 429 may be an empty balance)."""


def classify(status: int, body: ErrorBody) -> type[LMError] | None:
    """Return the class of an error answer, or ``None`` where no row knows it."""
    return next((row.error for row in ERRORS_TABLE if row.matches(status, body)), None)


def failure(
    status: int,
    headers: Mapping[str, str],
    found: ErrorBody,
    *,
    now: float,
    key_hint: str = "",
    request_id: str | None = None,
    retry_after: float | None = None,
    in_stream: bool = False,
) -> LMError:
    """
    Return the typed error of a failure answer, or of an error event inside a stream.

    Args:
        status: The HTTP status, or the one that the body claims.
        headers: Response headers, names in lower case.
        found: What the body says.
        now: Wall time, for a Retry-After that is a date.
        key_hint: Where the user can set the key.
        request_id: The provider's id of the request.
        retry_after: The wait that the body asks for; without one the headers are read.
        in_stream: It came under a success status, after the answer had begun: an unknown reason is then the
            provider's failure.
    """
    error_class = classify(status, found) or (ServerFailed if in_stream else ResponseInvalid)
    what = "failed in the middle of its answer" if in_stream else f"answered {status}"
    message = f"the provider {what}: {found.message[:SHOWN] or 'no reason given'}"
    if 300 <= status < 400:
        message = f"the server redirects ({status}) to {headers.get('location', 'nowhere')}; give that as api_base"
    if error_class is AuthFailed:
        # The provider's own words often repeat part of the key: they are left out.
        message = f"the provider refused the API key ({status}{f', {found.code}' if found.code else ''})"
        message += set_key(key_hint)
    return error_class(
        message,
        status=status,
        code=found.code or found.type or None,
        request_id=request_id,
        retry_after=parse_retry_after(headers, now) if retry_after is None else retry_after,
        should_retry=should_retry(headers),
    )


def openai_failure(
    status: int, headers: Mapping[str, str], document: object, body: bytes, *, now: float, key_hint: str
) -> LMError:
    """Return the typed error of a failure answer in OpenAI's form; ``body`` is shown where it is in no form."""
    found = error_body(document) or ErrorBody(message=shown(body))
    request_id = headers.get("x-request-id")
    return failure(status, headers, found, now=now, key_hint=key_hint, request_id=request_id)


def document_of(
    status: int,
    headers: Mapping[str, str],
    body: bytes,
    invalid: Callable[[str, Mapping[str, str], int], LMError],
) -> Any:  # whatever the other side sent
    """
    Return the JSON of an answer; of a failure that is none, nothing.

    Raises:
        LMError: A success that is none: what ``invalid`` makes of it.
    """
    try:
        return parse(body)
    except ValueError as error:
        if 200 <= status < 300:
            raise invalid(f"not JSON: {shown(body)}", headers, status) from error
        return None


def error_body(document: object) -> ErrorBody | None:
    """
    Read what OpenAI, and the servers that speak its protocol, say in an error answer; None where it is no object.

    That is ``{"error": {…}}``, ``{"error": "text"}``, the flat ``{"message": …}`` and ``{"detail": …}``, any of them
    in a list, and an upstream's error that a gateway passes on as JSON inside the message or in ``metadata.raw``.
    """
    if isinstance(document, list) and document:
        document = document[0]
    if not isinstance(document, dict):
        return None
    error = document.get("error", document)
    if isinstance(error, str):
        return ErrorBody(message=error)
    if not isinstance(error, dict):
        return None
    found = ErrorBody(string(error, "message"), string(error, "code"), string(error, "type"))
    if not found.message and isinstance(error.get("detail"), (str, list)):
        found = replace(found, message=str(error["detail"]))
    return _with_upstream(found, error.get("metadata"))


def _with_upstream(found: ErrorBody, metadata: object) -> ErrorBody:
    """Add the words of the error that a gateway wrapped; its own words stay where it has some."""
    raw = string(metadata, "raw") or found.message
    if not raw.lstrip().startswith("{"):
        return found
    try:
        inner = parse(raw)
    except ValueError:
        return found
    error = inner.get("error", inner) if isinstance(inner, dict) else None
    if not isinstance(error, dict) or not string(error, "message"):
        return found
    code, kind = string(error, "code"), string(error, "type")
    return ErrorBody(string(error, "message"), found.code or code, found.type or kind)


def inner_status(document: object, status: int) -> int:
    """Return the status that the error itself claims, as some gateways send failures under 200."""
    error = document.get("error", document) if isinstance(document, dict) else None
    for name in ("code", "status"):
        code = error.get(name) if isinstance(error, dict) else None
        if isinstance(code, str) and len(code) == 3 and code.isascii() and code.isdigit():
            code = int(code)
        if type(code) is int and 400 <= code < 600:
            return code
    return status


def billed(error: E, usage: Usage) -> E:
    """Note on an error what the provider counted for the answer that is none; no count at all says nothing."""
    if usage.total_tokens:
        error.usage = usage
    return error


def unsayable(what: str, protocol: str) -> RequestRejected:
    """Return the error for a part of a request that the protocol has no word for."""
    return RequestRejected(f"{protocol} has no word for {what}; nothing was sent")
