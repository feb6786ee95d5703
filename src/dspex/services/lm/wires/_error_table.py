"""The one table of what error answers mean, in the words of every server that we know: the first matching row wins."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from dspex.errors import (
    AuthFailed,
    ContentRefused,
    ContextTooLong,
    LMError,
    PermissionDenied,
    QuotaExhausted,
    RateLimited,
    RequestRejected,
    ResponseInvalid,
    ServerFailed,
    TransportFailed,
)

__all__ = ["ERRORS_TABLE", "ErrorBody", "ErrorRow", "classify"]


@dataclass(frozen=True, slots=True)
class ErrorBody:
    """The facts that an error answer states about itself; those that it leaves out are empty."""

    message: str = ""
    code: str = ""
    type: str = ""
    parameter: str = ""
    """Which parameter of the request is at fault."""


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """
    One line of the table; a part left empty matches anything.

    Attributes:
        error: The class this answer becomes.
        words: Provider codes or types, compared whole.
        statuses: HTTP statuses.
        phrases: A pattern found in the message in lower case, for servers that give no code.
    """

    error: type[LMError]
    words: frozenset[str] = frozenset()
    statuses: range | frozenset[int] = frozenset()
    phrases: re.Pattern[str] | None = None

    def matches(self, status: int, body: ErrorBody) -> bool:
        """True when this row describes the answer."""
        if self.words and not (body.code in self.words or body.type in self.words):
            return False
        if self.statuses and status not in self.statuses:
            return False
        return self.phrases is None or self.phrases.search(body.message[:_READ].lower()) is not None


_READ: Final = 4_000
"""The number of characters of a message that are searched: it may repeat a whole prompt."""


def _any(*phrases: str) -> re.Pattern[str]:
    return re.compile("|".join(f"(?:{phrase})" for phrase in phrases))


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_QUOTA = _words(
    "insufficient_quota credit_balance_exhausted billing_error billing_hard_limit_reached billing_not_active "
    "enforced_spend_limit_reached spend_limit_exceeded spend_limit_reached monthly_spend_limit_reached "
    "insufficient_balance insufficient_credits quota_exceeded exceeded_current_quota_error Arrearage 1113"
)
_QUOTA_PHRASES = _any(
    r"insufficient (?:balance|credits?|funds)",
    r"key limit exceeded",
    r"(?:credit|account) balance is too low",
    r"used all available credits",
    r"run out of credits",
    r"credits are depleted",
    r"monthly spending limit",
)
_TOO_LONG = _words(
    "context_length_exceeded exceed_context_size_error model_context_window_exceeded request_too_large "
    "tokens_limit_reached string_above_max_length context_window_exceeded 1261"
)
_TOO_LONG_PHRASES = _any(
    r"maximum context length",
    r"context length (?:exceeded|of only)",
    r"context (?:window|size)",
    r"exceeds? (?:the )?(?:model'?s |available |maximum )*context",
    r"model'?s context length",
    r"greater than the context length",
    r"to fit into the model",
    r"reached context length",
    r"maximum (?:model|prompt|input) length",
    r"exceeds? the maximum (?:allowed )?(?:length|number of (?:input )?tokens)",
    r"(?:prompt|input|inputs) (?:is|are) too (?:long|large)",
    r"prompt (?:tokens? )?too long",
    r"prompt exceeds",
    r"exceed context limit",
    r"input tokens exceed",
    r"input token count",
    r"too many (?:input tokens|tokens: total)",
    r"inputs?` (?:tokens|must have less than)",
    r"range of input length",
    r"exceeded model token limit",
    r"request(?: body)? too large for",
    r"reduce (?:the length of|your) (?:the |your )?(?:messages?|prompt|input)",
    r"prompt length is limited",
    r"number of input tokens .{0,60}exceed",
    r"prompt token count",
    r"max_tokens must be at least 1, got -",
    r"longer than the (?:maximum|model)",
)
_REFUSED = _words(
    "content_filter content_policy_violation image_content_policy_violation ResponsibleAIPolicyViolation "
    "moderation_blocked data_inspection_failed DataInspectionFailed content_moderation_failed content_violation "
    "sensitive_words_detected guardrail_intervened 1301"
)
_REFUSED_PHRASES = _any(
    r"\bflagged\b",
    r"moderation",
    r"content management policy",
    r"content[ _-]polic(?:y|ies)",
    r"usage (?:guidelines|policies|policy)",
    r"inappropriate content",
    r"content exists risk",
    r"safety (?:system|filter|check)",
    r"guardrail",
    r"high risk\b",
)
_REJECTED = _words(
    "bad_request empty_image_file failed_to_download_image image_file_not_found image_file_too_large "
    "image_parse_error image_too_large image_too_small invalid_base64_image invalid_image invalid_image_format "
    "invalid_image_mode invalid_image_url invalid_prompt invalid_request_error model_not_found "
    "unsupported_image_media_type"
)
_RATE = _words("rate_limit_exceeded slow_down rate_limit_error too_many_requests")
_SERVER = _words("server_is_overloaded overloaded_error server_error api_error engine_overloaded")
_AUTH = _words("invalid_api_key invalid_organization account_deactivated authentication_error incorrect_api_key")
_AUTH_PHRASES = _any(
    r"(?:invalid|incorrect|wrong|bad|missing|expired|revoked|disabled|no) (?:api[ _-]?)?(?:key|token|credentials)\b",
    r"api[ _-]?key (?:is )?(?:not valid|invalid|expired|missing|revoked|disabled|not found)",
    r"key .{0,40}(?:revoked|disabled|deleted|expired)",
    r"not authenticated|authentication (?:failed|required)|unauthenticated",
    r"(?:organization|account) has been (?:disabled|deactivated|suspended)",
)
_AUTH_PHRASES_OF_A_400 = _any(
    r"(?:invalid|incorrect) api[ _-]?key",
    r"api[ _-]?key (?:is )?(?:not valid|invalid|expired|not found)",
    r"(?:organization|account) has been (?:disabled|deactivated|suspended)",
)
_DENIED = _words(
    "unsupported_country_region_territory permission_denied PERMISSION_DENIED insufficient_permissions "
    "missing_scope model_not_allowed access_denied AccessDenied AccessDeniedException ip_not_authorized "
    "request_forbidden"
)
_DENIED_PHRASES = _any(
    r"missing scopes",
    r"insufficient permissions",
    r"(?:does|do) not have (?:access|permission)",
    r"(?:country|region|territory|location)\b.{0,40}not supported",
    r"not supported .{0,20}(?:country|region|location)",
    r"not authorized to",
)
_CHANCE = _words("tool_use_failed json_validate_failed output_parse_failed tool_call_validation_failed")
_CHANCE_PHRASES = _any(
    r"failed_generation",
    r"failed to (?:call a function|generate json|validate json)",
    r"error parsing tool call",
    r"failed to parse (?:tool call|input at pos)",
    r"model (?:produced|generated|output).{0,40}(?:invalid|malformed|unexpected)",
    r"(?:invalid|malformed) tool call (?:generated|produced|from the model)",
)
_ASKED_WRONG: Final = frozenset({400, 403, 413, 422})

ERRORS_TABLE: Final[tuple[ErrorRow, ...]] = (
    ErrorRow(QuotaExhausted, words=_QUOTA),
    ErrorRow(QuotaExhausted, statuses=frozenset({402})),
    ErrorRow(QuotaExhausted, statuses=frozenset({400, 403, 429}), phrases=_QUOTA_PHRASES),
    ErrorRow(AuthFailed, words=_AUTH),
    # A request that may not do something is not a fault of the key: everybody else may go on with it.
    ErrorRow(ContentRefused, words=_REFUSED),
    ErrorRow(ContentRefused, statuses=frozenset({403, 451}), phrases=_REFUSED_PHRASES),
    ErrorRow(PermissionDenied, statuses=frozenset({400, 401, 403}), words=_DENIED),
    ErrorRow(PermissionDenied, statuses=frozenset({400, 401, 403}), phrases=_DENIED_PHRASES),
    ErrorRow(AuthFailed, statuses=frozenset({401})),
    ErrorRow(AuthFailed, statuses=frozenset({403}), phrases=_AUTH_PHRASES),
    ErrorRow(AuthFailed, statuses=frozenset({400}), phrases=_AUTH_PHRASES_OF_A_400),
    ErrorRow(ResponseInvalid, words=_CHANCE),
    ErrorRow(ResponseInvalid, statuses=frozenset({400, 422, 500}), phrases=_CHANCE_PHRASES),
    ErrorRow(ContextTooLong, words=_TOO_LONG),
    ErrorRow(ContextTooLong, statuses=frozenset({413, 429}), phrases=_any(r"request(?: body)? too large for")),
    ErrorRow(RateLimited, words=_RATE),
    ErrorRow(RateLimited, statuses=frozenset({429})),
    ErrorRow(ContextTooLong, statuses=_ASKED_WRONG, phrases=_TOO_LONG_PHRASES),
    ErrorRow(
        ContextTooLong,
        statuses=frozenset({500}),
        phrases=_any(
            r"input (?:length exceeds|is too (?:large|long))",
            r"exceeds? the (?:available )?context",
            r"too large to process",
        ),
    ),
    ErrorRow(ContentRefused, statuses=frozenset({400, 422}), phrases=_REFUSED_PHRASES),
    ErrorRow(PermissionDenied, statuses=frozenset({403})),
    ErrorRow(TransportFailed, statuses=frozenset({408, 409, 425})),
    ErrorRow(RequestRejected, statuses=range(300, 500)),
    # A server without this kind of call (embeddings at a chat model, say) will not have it the next time either.
    ErrorRow(RequestRejected, statuses=frozenset({501, 505})),
    ErrorRow(RequestRejected, words=_words("not_supported_error not_implemented_error NotImplementedError")),
    ErrorRow(ServerFailed, statuses=range(500, 1000)),
    ErrorRow(ServerFailed, words=_SERVER),
    ErrorRow(RequestRejected, words=_REJECTED),
)
"""Codes that name a cause come before the statuses that several causes share (a 429 may be an empty purse)."""


def classify(status: int, body: ErrorBody) -> type[LMError] | None:
    """Return the class of an error answer, or ``None`` where no row knows it."""
    return next((row.error for row in ERRORS_TABLE if row.matches(status, body)), None)
