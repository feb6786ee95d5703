"""What every provider dialect has in common: one request in, one response out, no clock and no network."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

__all__ = ["BodyInvalid", "Failure", "Response", "Wire"]


class BodyInvalid(ValueError):
    """
    A request body cannot be answered; whoever wrote it has to change it.

    Attributes:
        param: The member at fault, as a path such as ``messages[0].role``.
    """

    def __init__(self, param: str, expected: str) -> None:
        self.param = param
        super().__init__(f"Invalid value for '{param}': expected {expected}.")


@dataclass(frozen=True, slots=True)
class Response:
    """A response: one part and its length is announced, or a stream of parts, each sent as it is."""

    status: int
    headers: tuple[tuple[str, str], ...]
    parts: tuple[bytes, ...]
    is_stream: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What went wrong, in no provider's words; each dialect has its own for it."""

    status: int
    message: str
    code: str | None = None
    param: str | None = None
    retry_after: float | None = None


class Wire(Protocol):
    """One provider dialect. A dialect is one file: it is added to the tuple in this package's ``__init__``."""

    @property
    def request_id_header(self) -> str:
        """The header that carries a request's id."""
        ...

    def claims(self, method: str, path: str) -> bool:
        """Say whether this dialect answers a method and path."""
        ...

    def key(self, headers: Mapping[str, str]) -> str | None:
        """Return the key a request was sent with; header names are lower case."""
        ...

    def respond(self, path: str, body: bytes) -> Response:
        """Answer a request it claims; whatever is wrong with the body becomes the provider's own error."""
        ...

    def failure(self, failure: Failure) -> Response:
        """Say in the provider's form that a request failed."""
        ...
