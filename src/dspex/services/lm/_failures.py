"""What a failure of the network means: one table for every HTTP library a transport may use, first match wins."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dspex.errors import TransportFailed

__all__ = ["FAILURES", "Failure", "failure_of", "transport_failed"]


@dataclass(frozen=True, slots=True)
class Failure:
    """
    One line of the table.

    Attributes:
        names: Exception classes, by name: a library that is not installed is never imported for its errors.
        text: What the user is told; ``{origin}``, ``{detail}`` and the timeouts are filled in.
        closed: The peer had closed the connection: on one kept alive, it may have been too late to ask.
        saying: Part of the exception's text, where the class alone says too little.
    """

    names: frozenset[str]
    text: str
    closed: bool = False
    saying: str = ""


def _row(*names: str, text: str, closed: bool = False, saying: str = "") -> Failure:
    return Failure(frozenset(names), text, closed, saying)


_NO_CONNECTION: Final = "no connection to {origin} ({detail}): is the server running, and is api_base right?"
_CUT: Final = "{origin} closed the connection before the answer was complete ({detail})"
_REFUSED: Final = "{origin} refused the connection: is the server running, and is api_base right?"
_SLOW: Final = "no connection to {origin} within {connect:g} s: is api_base right?"

FAILURES: Final[tuple[Failure, ...]] = (
    # The operating system's word, whoever repeats it.
    _row(
        "ConnectionRefusedError", text="{origin} refused the connection: is the server running, and is api_base right?"
    ),
    _row("gaierror", "ClientConnectorDNSError", text="the host of {origin} is not known: is api_base right?"),
    _row("SSLError", "ClientSSLError", "CertificateError", text="no secure connection to {origin}: {detail}"),
    # aiohttp.
    _row("ConnectionTimeoutError", text=_SLOW),
    _row("SocketTimeoutError", text="nothing came from {origin} for {read:g} s"),
    _row("ServerDisconnectedError", "ClientConnectionResetError", text=_CUT, closed=True),
    _row("ClientPayloadError", text=_CUT),
    _row("ClientConnectorError", text=_NO_CONNECTION),
    _row("ClientOSError", text="the connection to {origin} broke ({detail})", closed=True),
    _row("ClientResponseError", text="{origin} does not speak HTTP: {detail}"),
    # httpx, httpcore below it, and h11 below both.
    _row("ConnectTimeout", "PoolTimeout", text=_SLOW),
    _row("ReadTimeout", text="nothing came from {origin} for {read:g} s"),
    _row("WriteTimeout", text="{origin} did not take the request within {write:g} s"),
    _row("ConnectError", "ProxyError", text=_NO_CONNECTION),
    _row("ReadError", "WriteError", "CloseError", text="the connection to {origin} broke ({detail})", closed=True),
    _row("RemoteProtocolError", saying="without sending a response", text=_CUT, closed=True),
    _row("RemoteProtocolError", saying="closed", text=_CUT),
    _row("RemoteProtocolError", text="{origin} does not speak HTTP: {detail}"),
    _row("DecodingError", text="the answer of {origin} cannot be unpacked: {detail}"),
    _row("TimeoutException", "TimeoutError", text="{origin} was too slow ({detail})"),
    _row("ConnectionError", text="the connection to {origin} broke ({detail})", closed=True),
    _row("Exception", text="the exchange with {origin} failed: {detail}"),
)


def failure_of(error: BaseException) -> Failure:
    """Return the row that describes ``error``, its causes included."""
    names = {cls.__name__ for link in _chain(error) for cls in type(link).__mro__}
    text = str(error)
    return next(row for row in FAILURES if row.names & names and row.saying in text)


def transport_failed(error: BaseException, origin: str, timeouts: dict[str, float]) -> TransportFailed:
    """Return the typed error for ``error``; raise it ``from`` the same, so that the cause is kept."""
    detail = next((text for link in _chain(error) if (text := str(link))), type(error).__name__)
    return TransportFailed(failure_of(error).text.format(origin=origin, detail=detail, **timeouts))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Walk down to what first went wrong; httpcore's pool raises ``from None``, so contexts count as well."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__
