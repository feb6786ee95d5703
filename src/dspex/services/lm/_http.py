"""One HTTP exchange as records, and what a transport promises."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Final, NamedTuple, Protocol

__all__ = [
    "MAX_BODY",
    "HttpReply",
    "HttpStream",
    "OnBegin",
    "OnResend",
    "Timeouts",
    "Transport",
    "headers_of",
]

MAX_BODY: Final = 64 * 2**20
"""Bytes of one answer, unpacked, beyond which it is refused."""

OnResend = Callable[[], Mapping[str, str] | None]
"""Called when a request goes out once more because its kept-alive connection was closed; may return new headers."""

OnBegin = Callable[[Mapping[str, str]], object]
"""Called with an answer's headers, names in lower case, in the tick its body has begun, whatever its status."""


@dataclass(frozen=True, slots=True)
class Timeouts:
    """
    Seconds until a phase of one attempt has failed; the request's deadline ends the whole.

    Attributes:
        connect: To have a connection.
        read: The longest silence, between two pieces of a stream for example.
        write: The longest the server may take nothing of the request.
        first_byte: From the attempt's start, connecting included, until the answer begins: a stream with its first
            token, another answer with the first byte of its body. A part that only keeps a connection alive, a head or
            a ping, is not a beginning. None: until then, too, only silence counts, by ``read``.
        silence: The longest silence of any phase: an HTTP library is told this, while we keep the finer times.
    """

    connect: float = 10.0
    read: float = 600.0
    write: float = 30.0
    first_byte: float | None = None
    silence: float = field(init=False, repr=False)

    def __post_init__(self) -> None:
        silence = self.read if self.first_byte is None else max(self.read, self.first_byte)
        object.__setattr__(self, "silence", silence)

    def phases(self) -> dict[str, float]:
        """Return them by httpx's names."""
        return {"connect": self.connect, "read": self.silence, "write": self.write, "pool": self.connect}


class HttpReply(NamedTuple):
    """A whole answer; header names are in lower case, repeated ones joined with a comma."""

    status: int
    headers: dict[str, str]
    body: bytes


class HttpStream(Protocol):
    """An answer whose head has come: iterate over its body, each piece as it arrives, unpacked."""

    @property
    def status(self) -> int:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> dict[str, str]:
        """Names in lower case, repeated ones joined with a comma."""
        ...

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Give the body's pieces, never an empty one; slow reading holds the server back."""
        ...

    def begun(self) -> None:
        """Note that the first token has come: it is the reader who knows, and ``first_byte`` ends with it."""
        ...

    async def read(self) -> bytes:
        """Return what is left of the body."""
        ...


class Transport(Protocol):
    """The LM room's interface to a network."""

    @property
    def needs_key(self) -> bool:
        """True when a provider that wants a key is behind it; false where answers were recorded."""
        ...

    @property
    def open_connections(self) -> int:
        """Sockets open now, idle ones included."""
        ...

    @property
    def stale_retries(self) -> int:
        """The number of times a request went out again because its kept-alive connection turned out to be closed."""
        ...

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeouts: Timeouts | None = None,
        on_resend: OnResend | None = None,
        on_begin: OnBegin | None = None,
    ) -> HttpReply:
        """
        Send one request and return the whole answer, whatever its status.

        A kept-alive connection that the server closed before a byte of the answer came is replaced once.

        Args:
            url: Where to.
            headers: Of the first sending.
            body: The body to post.
            timeouts: The transport's, if not given.
            on_resend: Told of the second sending.
            on_begin: Told of the answer's beginning.

        Raises:
            TransportFailed: No complete answer came; the cause is the operating system's error, where there is one.
            ResponseInvalid: The answer is larger than the limit, packed twice or in an unknown way: another one would
                be, too (``should_retry`` is False).
        Cancellation: closes the socket; the server sees it at once.
        """
        ...

    def stream(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeouts: Timeouts | None = None,
        on_resend: OnResend | None = None,
    ) -> AbstractAsyncContextManager[HttpStream]:
        """
        Send one request; the block is entered with the answer's head, and its body is read inside.

        Leaving the block before the body's end closes the socket, and the server sees it at once. After the end the
        connection serves again. The rest is as for ``post``.

        Raises:
            TransportFailed: No answer came, or it broke off, which iterating raises.
            ResponseInvalid: The answer is larger than the limit, packed twice or in an unknown way: another one would
                be, too (``should_retry`` is False).
        Cancellation: closes the socket; the server sees it at once.
        """
        ...

    async def aclose(self) -> None:
        """
        Close every connection; exchanges under way fail.

        Cancellation: the connections are closed all the same.
        """
        ...


def headers_of(raw: list[tuple[bytes, bytes]]) -> dict[str, str]:
    headers: dict[str, str] = {}
    for name_bytes, value_bytes in raw:
        name, value = name_bytes.decode("latin-1").lower(), value_bytes.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers
