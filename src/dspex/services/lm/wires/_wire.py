"""What every provider's wire does: words in, bytes out, and back."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from dspex.protocols.lm import Capabilities, LMRequest, LMResponse
from dspex.protocols.model import LM, Secret

__all__ = ["Wire"]


class Wire(Protocol):
    """One provider's protocol as a pure value: no socket, no clock, no environment."""

    @property
    def path(self) -> str:
        """What follows the base URL, with its leading slash."""
        ...

    def encode(self, model_name: str, request: LMRequest) -> bytes:
        """
        Return the request body.

        Raises:
            RequestRejected: The request cannot be written as JSON; nothing was sent.
        """
        ...

    def capabilities(self, lm: LM) -> Capabilities:
        """Return what ``lm`` can do, from a table; a server that only speaks the protocol is taken to do little."""
        ...

    def headers(self, key: Secret | None, *, idempotency_key: str, attempt: int, key_hint: str = "") -> dict[str, str]:
        """
        Return the request headers, names in lower case.

        Raises:
            AuthFailed: The key cannot be a header value; nothing was sent.
        """
        ...

    def decode(
        self, status: int, headers: Mapping[str, str], body: bytes, *, now: float, key_hint: str = ""
    ) -> LMResponse:
        """
        Return the answer, or raise what it means.

        Args:
            status: The HTTP status.
            headers: Response headers, names in lower case.
            body: The whole body.
            now: Wall time, for a Retry-After that is a date.
            key_hint: Where the user can set the key, named when it was refused.

        Raises:
            LMError: The typed error of a failure answer, or ResponseInvalid.
        """
        ...
