"""What a provider's error answer means: one table, first matching row wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Final

from dspex.errors import (
    AuthFailed,
    ContentRefused,
    ContextTooLong,
    LMError,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    ServerFailed,
    TransportFailed,
)

__all__ = ["ERRORS_TABLE", "ErrorBody", "ErrorRow", "classify", "parse_retry_after"]


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
_REFUSED = frozenset({"content_filter", "content_policy_violation"})
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
)
"""Codes that name a cause come before the statuses that several causes share (a 429 may be an empty purse)."""


def classify(status: int, body: ErrorBody) -> type[LMError] | None:
    """Return the class of an error answer, or ``None`` where no row knows it."""
    return next((row.error for row in ERRORS_TABLE if row.matches(status, body)), None)


def parse_retry_after(headers: Mapping[str, str], now: float) -> float | None:
    """
    Return the provider's minimum wait in seconds, or ``None`` where it gave none that can be read.

    Args:
        headers: Response headers, names in lower case.
        now: Wall time, seconds since the epoch, which a date is measured from.
    """
    milliseconds = _seconds(headers.get("retry-after-ms"))
    if milliseconds is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    seconds = _seconds(value)
    if seconds is not None or value is None:
        return seconds
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - now)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None


def _seconds(value: str | None) -> float | None:
    """Return a finite number of seconds that is not negative."""
    try:
        number = float(value) if value else -1.0
    except ValueError:
        return None
    return number if 0 <= number < float("inf") else None
