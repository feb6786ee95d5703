"""A provider and its wire: requests become bytes, and the bytes of an answer become records."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from dspex.protocols.lm import Capabilities, EmbedRequest, EmbedResponse, LMDelta, LMRequest, LMResponse
from dspex.protocols.model import LM, Secret
from dspex.protocols.training import TrainingWire

__all__ = [
    "Cloud",
    "EmbeddingsWire",
    "Headroom",
    "OffLoopRun",
    "Post",
    "Provider",
    "ReadVariable",
    "Signer",
    "StreamDecoder",
    "Wire",
]


@dataclass(frozen=True, slots=True)
class Headroom:
    """
    The rest of a limit by a provider's headers, in requests or tokens a minute; None where they do not say.

    Attributes:
        requests: Requests left in the present window.
        requests_reset: Seconds until the window's full number is back.
        tokens: Tokens left, input and output together, or the scarcer of the two.
        tokens_reset: Seconds until the full number is back.
        request_limit: Requests in a full window.
        token_limit: Tokens in a full window.
    """

    requests: int | None = None
    requests_reset: float | None = None
    tokens: int | None = None
    tokens_reset: float | None = None
    request_limit: int | None = None
    token_limit: int | None = None


class StreamDecoder(Protocol):
    """Reads one streamed answer; the bytes may be cut anywhere, inside a character too."""

    def feed(self, data: bytes) -> list[LMDelta]:
        """
        Take the next bytes of the body and return the pieces that became whole; unknown events are ignored.

        Raises:
            LMError: The provider says in the stream that it failed.
        """
        ...

    def finish(self) -> LMResponse:
        """
        Return the whole answer, equal to what the same answer would be unstreamed; called when the body has ended.

        Raises:
            StreamTruncated: The marker that says the answer is complete never came.
            LMError: As ``Wire.decode``.
        """
        ...


@runtime_checkable
class Wire(Protocol):
    """
    One provider's protocol as a pure value: no socket, no clock, no environment.

    Errors are typed: an ``LMError`` says what an answer means for the retry policy and for the caller.
    """

    def path(self, model_name: str, *, stream: bool) -> str:
        """Return what follows the base URL, with its leading slash."""
        ...

    def capabilities(self, lm: LM) -> Capabilities:
        """Return what ``lm`` can do, from a table; a server that only speaks the protocol is taken to do little."""
        ...

    def encode(self, model_name: str, request: LMRequest, *, stream: bool = False) -> bytes:
        """
        Return the request body.

        Raises:
            RequestRejected: The request cannot be written as JSON, or asks for what the protocol does not support;
                nothing was sent.
        """
        ...

    def headers(self, key: Secret | None, *, idempotency_key: str, attempt: int) -> dict[str, str]:
        """
        Return the request headers, names in lower case.

        Raises:
            AuthFailed: The key cannot be a header value; nothing was sent.
        """
        ...

    def decode(self, status: int, headers: Mapping[str, str], body: bytes) -> LMResponse:
        """
        Return the answer, or raise what it means.

        Args:
            status: The HTTP status.
            headers: Response headers, names in lower case.
            body: The whole body.

        Raises:
            LMError: The typed error of a failure answer, or ResponseInvalid.
        """
        ...

    def decoder(self, headers: Mapping[str, str]) -> StreamDecoder:
        """
        Return the reader of a streamed answer that came with a success status and these headers.

        One that came as JSON is none: a server that does not stream is read with ``decode``.
        """
        ...

    def headroom(self, headers: Mapping[str, str], *, now: float) -> Headroom | None:
        """Return what the headers of any answer say is left of the limits; None when they say nothing."""
        ...


@runtime_checkable
class EmbeddingsWire(Protocol):
    """
    One provider's protocol for embeddings, as pure as ``Wire``, whose headers its requests carry.

    A caller cuts a request with ``embeddings.split``, sends each piece, and puts the answers together with
    ``embeddings.join``.
    """

    @property
    def most_texts(self) -> int:
        """The number of texts that one request may hold."""
        ...

    @property
    def most_bytes(self) -> int:
        """The number of bytes of UTF-8 that the texts of one request may have together."""
        ...

    def path(self, model_name: str) -> str:
        """Return what follows the base URL, with its leading slash."""
        ...

    def encode(self, model_name: str, request: EmbedRequest) -> bytes:
        """
        Return the request body.

        Raises:
            RequestRejected: The request cannot be written as JSON; nothing was sent.
        """
        ...

    def decode(self, status: int, headers: Mapping[str, str], body: bytes, *, texts: int) -> EmbedResponse:
        """
        Return the vectors of ``texts`` texts in their order, or raise what the answer means, as ``Wire.decode``.

        Raises:
            LMError: The typed error of a failure answer, or ResponseInvalid.
        """
        ...


ReadVariable = Callable[[str], Secret | None]
"""Reads a variable of the environment; None where it is unset or empty."""
Post = Callable[[str, Mapping[str, str], bytes], Awaitable[tuple[int, Mapping[str, str], bytes]]]
"""Posts a body over the endpoint's own transport: status, headers and body of the answer."""
OffLoopRun = Callable[..., Awaitable[Any]]
"""Calls a function with its arguments in a thread."""


class Signer(Protocol):
    """Proves who asks, at one endpoint, where there is no key: by signatures, or by tokens that it renews in time."""

    @property
    def secrets(self) -> tuple[str, ...]:
        """The texts that nobody may read anywhere; another tuple when they have changed."""
        ...

    async def headers(self, url: str, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        """
        Return the headers to add to one request.

        Raises:
            AuthFailed: There are no credentials, or they were refused; nothing was sent.
            TransportFailed: Those who give them were not reached.
        Cancellation: the next caller asks for them.
        """
        ...

    def refused(self) -> None:
        """Note that the provider refused the credentials: the next request gets new ones where there are some."""
        ...


class Cloud(Protocol):
    """An account instead of a key: it decides the address of a model, its wire, and how one proves who asks."""

    @property
    def hint(self) -> str:
        """Where the user can set the credentials."""
        ...

    def place(self, lm: LM, read: ReadVariable) -> tuple[str, Wire]:
        """Return the base URL and the wire of a model; raises ``ConfigError`` where something is missing for it."""
        ...

    def signer(self, base_url: str, read: ReadVariable, post: Post, off_loop: OffLoopRun) -> Signer:
        """Return what signs requests there; nothing is read or sent yet."""
        ...


@dataclass(frozen=True, slots=True)
class Provider:
    """
    A provider: where it is, and how it is spoken to.

    Attributes:
        base_url: The public address, without a trailing slash; empty where only the user knows it (``api_base=``).
        wire: The protocol spoken there.
        key_env: The environment variables its users keep the key in, the first that is set counts.
        needs_key: True when a call without a key can only fail.
        embeddings: The wire for vectors of texts; None where the provider has none.
        cloud: An account that stands in for a missing key, and for the address where ``api_base=`` names none.
        training: The wire of its fine-tuning; None where dspex knows none.
    """

    base_url: str
    wire: Wire
    key_env: tuple[str, ...] = ()
    needs_key: bool = True
    embeddings: EmbeddingsWire | None = None
    cloud: Cloud | None = None
    training: TrainingWire | None = None
