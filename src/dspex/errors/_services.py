"""Failures of a language model, a retriever or the cache."""

from __future__ import annotations

from typing import Any, ClassVar

from dspex._guard import text_of
from dspex.errors._base import DspexError

__all__ = [
    "AuthFailed",
    "BudgetExceeded",
    "CacheError",
    "CircuitOpen",
    "ContentRefused",
    "ContextTooLong",
    "LMError",
    "PermissionDenied",
    "QuotaExhausted",
    "RateLimited",
    "RequestRejected",
    "ResponseIncomplete",
    "ResponseInvalid",
    "RetrievalError",
    "ServerFailed",
    "ServiceError",
    "ServiceUnavailable",
    "SharedError",
    "StreamTruncated",
    "TransportFailed",
]


class ServiceError(DspexError):
    """A service (LM, retriever, cache) could not do what was asked."""


class ServiceUnavailable(ServiceError):
    """A service has failed to start several times running; it keeps trying in the background."""

    def __init__(self, service: str, reason: object) -> None:
        self.service = service
        self.reason = reason
        super().__init__(f"{service} is unavailable: {text_of(reason)}")


class CacheError(ServiceError):
    """The cache cannot be opened, read or written."""


class SharedError(ServiceError):
    """
    The store that processes share cannot be reached, or refuses an operation.

    A running App goes on without it; only a command that is about the store itself ends with this.
    """


class RetrievalError(ServiceError):
    """The index cannot be opened or searched."""


class LMError(ServiceError):
    """
    One logical LM call failed for good.

    Attributes:
        status: The HTTP status, where one was received.
        code: The provider's own error code, where it gave one.
        request_id: The provider's id of the failed request, for its support desk.
        retry_after: Seconds that the provider asks to be left alone, if it does.
        should_retry: The provider's word about another try (``x-should-retry``); False forbids it, whatever
            ``is_retryable`` says of the class.
        may_be_charged: False where nothing was sent; True when the provider may have heard of the failed attempt.
        usage: The ``Usage`` that the provider counted for the failed attempt, and charges: of an answer that it
            withheld, say. None where it counted none.
        attempts: The ``Attempt`` records of every try, oldest first.
    """

    is_retryable: ClassVar[bool] = False
    """True when the retry policy may try the same request again."""
    is_shared: ClassVar[bool] = True
    """True when another caller with the same question would get the same error."""

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.request_id = request_id
        self.retry_after = retry_after
        self.should_retry = should_retry
        self.may_be_charged = True
        self.usage: Any = None  # a Usage: records are above this room
        self.attempts: tuple[object, ...] = ()
        super().__init__(message)


class RateLimited(LMError):
    """Too many requests or tokens a minute; ``retry_after`` seconds is the provider's minimum wait, if given."""

    is_retryable = True


class QuotaExhausted(LMError):
    """No money, credit or daily quota is left on this key; retrying cannot help."""


class AuthFailed(LMError):
    """The key is missing or wrong; as ``PermissionDenied``, it is right and lacks permission."""


class PermissionDenied(AuthFailed):
    """The key is right, and may not do this: a model, a region or an operation that is closed to it."""


class RequestRejected(LMError):
    """
    The provider says that the request itself is wrong.

    Attributes:
        parameter: Which of its parameters, in the words of the chat protocol (``response_format``); None where the
            provider does not say.
    """

    parameter: str | None = None


class ContextTooLong(RequestRejected):
    """The prompt and the answer's budget do not fit the model's window."""


class ContentRefused(LMError):
    """
    The provider's policy refused the prompt, or withheld the answer or cut it off.

    Attributes:
        partial: The text that came before the cut; empty where none did.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        code: str | None = None,
        request_id: str | None = None,
        retry_after: float | None = None,
        should_retry: bool | None = None,
        partial: str = "",
    ) -> None:
        self.partial = partial
        super().__init__(
            message,
            status=status,
            code=code,
            request_id=request_id,
            retry_after=retry_after,
            should_retry=should_retry,
        )


class ServerFailed(LMError):
    """The provider failed or is overloaded (5xx, 529)."""

    is_retryable = True


class TransportFailed(LMError):
    """No complete answer came over the network (refused, reset, timed out, cut short)."""

    is_retryable = True


class StreamTruncated(TransportFailed):
    """A streamed answer ended without the marker that says it is complete."""


class ResponseInvalid(LMError):
    """An answer with a success status that is not one: not JSON, no choices, an unknown shape."""

    is_retryable = True


class ResponseIncomplete(LMError):
    """
    The model's answer was cut off at a limit of tokens, also when it was asked again with a larger one.

    Attributes:
        partial: The text so far.
        reason: The finish reason.
    """

    def __init__(
        self, message: str, *, partial: str = "", reason: str = "length", request_id: str | None = None
    ) -> None:
        self.partial = partial
        self.reason = reason
        super().__init__(message, code=reason, request_id=request_id)


class CircuitOpen(LMError):
    """The provider has failed too often lately; nothing was sent. ``retry_after`` says when a probe is due."""

    is_retryable = True


class BudgetExceeded(LMError):
    """The budget of the App, the job or the request does not allow this call; nothing was sent."""

    is_shared = False
