"""One HTTP exchange as records, and what a transport promises."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import httpx

__all__ = ["HttpReply", "Timeouts", "Transport", "headers_of", "label_of", "reply_of"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """
    Seconds until a phase of one exchange has failed.

    ``read`` is the longest silence, not the longest answer: the request's deadline ends the whole.
    """

    connect: float = 10.0
    read: float = 600.0
    write: float = 30.0

    def phases(self) -> dict[str, float]:
        """Return them by httpx's names."""
        return {"connect": self.connect, "read": self.read, "write": self.write, "pool": self.connect}


class HttpReply(NamedTuple):
    """A whole answer; header names are in lower case, repeated ones joined with a comma."""

    status: int
    headers: dict[str, str]
    body: bytes


class Transport(Protocol):
    """What the LM room needs of a network."""

    @property
    def open_connections(self) -> int:
        """Sockets open now, idle ones included."""
        ...

    @property
    def stale_retries(self) -> int:
        """How often a request went out again because its kept-alive connection turned out to be closed."""
        ...

    async def post(
        self,
        url: str,
        headers: Mapping[str, str],
        body: bytes,
        timeouts: Timeouts | None = None,
        on_resend: Callable[[], object] | None = None,
    ) -> HttpReply:
        """
        Send one request and return the whole answer, whatever its status.

        ``on_resend`` is called when the request goes out once more because its kept-alive connection was closed.

        Raises:
            TransportFailed: No complete answer came; the library's error is the cause.
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


def reply_of(status: int, raw: list[tuple[bytes, bytes]], body: bytes) -> HttpReply:
    """Return the reply; a body packed although we asked for it plain is unpacked by httpx."""
    headers = headers_of(raw)
    if headers.get("content-encoding", "identity") != "identity":
        body = httpx.Response(status, headers=raw, stream=httpx.ByteStream(body)).read()
    return HttpReply(status, headers, body)


def label_of(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode()}"
