"""The common part of provider dialects: one request in, one response out, no clock and no network."""

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

__all__ = ["BodyInvalid", "Dialect", "ErrorAnswer", "RateAllowance", "Response", "Twist"]


class BodyInvalid(ValueError):
    """
    A request body cannot be answered; whoever wrote it has to change it.

    Attributes:
        param: The member at fault, as a path such as ``messages[0].role``.
        code: The word for it, where providers have one that clients look for.
        status: The HTTP status it is refused with.
    """

    def __init__(self, param: str, expected: str, *, code: str | None = None, status: int = 400) -> None:
        self.param = param
        self.code = code
        self.status = status
        super().__init__(expected if code else f"Invalid value for '{param}': expected {expected}.")

    def failure(self) -> "ErrorAnswer":
        """Say it in no provider's words."""
        return ErrorAnswer(status=self.status, message=str(self), param=self.param, code=self.code)


class Twist(enum.StrEnum):
    """An answer that is none although its status is 200; each dialect has its own form for it."""

    PLAIN = "plain"
    EMPTY = "empty"
    REFUSAL = "refusal"
    FILTERED = "filtered"


@dataclass(frozen=True, slots=True)
class Response:
    """
    A response: one part and its length is announced, or a stream of parts, each sent as it is.

    Attributes:
        ending: The number of last parts that only say that the stream is over; without them it is cut short.
        prompt: Tokens of the request, as its usage says.
        completion: Tokens of the answer, likewise.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    parts: tuple[bytes, ...]
    is_stream: bool = False
    ending: int = 0
    prompt: int = 0
    completion: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorAnswer:
    """
    An error in neutral words; each dialect has its own words for it.

    Attributes:
        status: The HTTP status, unless the dialect has another one for this code.
        code: ``rate_limit_exceeded``, ``slow_down``, ``insufficient_quota``, ``billing``, ``overloaded``, ``timeout``,
            ``invalid_api_key``, ``permission_denied``, ``context_length_exceeded``, or whatever OpenAI says.
        counted: The thing a rate limit counts: ``requests`` or ``tokens``.
        retry_after: Seconds to wait, said where the dialect says it: in headers, in the body, or both.
    """

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    counted: str = "requests"
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class RateAllowance:
    """One limit: its size a minute, the part of it left now, and the seconds until all of it is there again."""

    limit: int
    remaining: int
    reset: float


class Dialect(Protocol):
    """One provider dialect. A dialect is one file: it is added to the tuple in this package's ``__init__``."""

    @property
    def name(self) -> str:
        """The dialect's name where base URLs are listed."""
        ...

    @property
    def base(self) -> str:
        """The end of the base URL that its clients expect."""
        ...

    @property
    def request_id_header(self) -> str:
        """The header that carries a request's id."""
        ...

    def claims(self, method: str, path: str, headers: Mapping[str, str]) -> bool:
        """Say whether this dialect answers a method and path; header names are lower case."""
        ...

    def key(self, headers: Mapping[str, str], query: str) -> str | None:
        """Return the key a request was sent with."""
        ...

    def lacks(self, headers: Mapping[str, str]) -> str | None:
        """Name a header that a request must have and lacks."""
        ...

    def respond(self, target: str, body: bytes, twist: Twist = Twist.PLAIN) -> Response:
        """Answer a request it claims; whatever is wrong with it becomes the provider's own error."""
        ...

    def failure(self, failure: ErrorAnswer) -> Response:
        """Say in the provider's form that a request failed."""
        ...

    def broken(self, failure: ErrorAnswer, at: int) -> bytes:
        """Say the same as the event numbered `at`, from 0, of a stream that had begun well."""
        ...

    def allowance(self, limits: Mapping[str, RateAllowance], now: datetime) -> tuple[tuple[str, str], ...]:
        """Write what is left of ``requests`` and ``tokens`` as the provider's headers."""
        ...
