"""Failures of the network: our own exceptions, and one table for them and for those of a user's library."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from dspex.errors import TransportFailed

__all__ = [
    "FAILURES",
    "AnswerCut",
    "ConnectTimedOut",
    "ConnectionBroken",
    "ExchangeError",
    "Failure",
    "NoHandshake",
    "NotConnected",
    "NotHttp",
    "NotTls",
    "NotUnpacked",
    "NothingCame",
    "ReadTimedOut",
    "SpeaksTls",
    "WriteTimedOut",
    "failure_of",
    "plain_os_error",
    "transport_failed",
]


class ExchangeError(Exception):
    """One exchange failed below the shared half of a transport; its text is written by us and holds no header."""


class ConnectTimedOut(ExchangeError):
    """No connection in time."""


class NotConnected(ExchangeError):
    """Refused, unreachable, an unknown host, no TLS, or a proxy that refused."""


class NotTls(NotConnected):
    """The peer answered an offer of TLS in another language."""


class NoHandshake(NotConnected):
    """The peer took the connection and said nothing to an offer of TLS."""


class ReadTimedOut(ExchangeError):
    """Nothing came in time."""


class WriteTimedOut(ExchangeError):
    """The peer took nothing in time."""


class ConnectionBroken(ExchangeError):
    """The connection broke; the cause is the operating system's error, where there is one."""


class AnswerCut(ExchangeError):
    """The peer closed the connection in the middle of an answer."""


class NothingCame(AnswerCut):
    """The peer closed the connection before a byte of the answer."""


class NotHttp(ExchangeError):
    """Bytes came that are not one HTTP answer."""


class SpeaksTls(ExchangeError):
    """The peer was asked in plain HTTP and wants TLS."""


class NotUnpacked(ExchangeError):
    """The body is not in the encoding that the head names, or it ends early."""


@dataclass(frozen=True, slots=True)
class Failure:
    """
    One line of the table.

    Attributes:
        names: Exception classes, by name: a library that is not installed is never imported for its errors.
        text: The message for the user; ``{origin}``, ``{detail}`` and the timeouts are filled in.
        closed: The peer had closed the connection: on one kept alive, it may have been too late to ask.
        saying: Part of the exception's text, where the class alone says too little.
        unsent: No connection came about, so the peer never heard of the request.
        final: Another try would meet the same.
    """

    names: frozenset[str]
    text: str
    closed: bool = False
    saying: str = ""
    unsent: bool = False
    final: bool = False


def _row(
    *names: str, text: str, closed: bool = False, saying: str = "", unsent: bool = False, final: bool = False
) -> Failure:
    return Failure(frozenset(names), text, closed, saying, unsent, final)


_NO_CONNECTION: Final = "no connection to {origin} ({detail}): is the server running, and is api_base right?"
_CUT: Final = "{origin} closed the connection before the answer was complete ({detail})"
_FULL: Final = "no connection to {origin} was free within {connect:g} s"
_SLOW: Final = (
    "no connection to {origin} within {connect:g} s: nothing answers there. Is api_base right, is the host up, and "
    "does a firewall or a VPN stand between? Timeouts(connect=…) sets the time"
)
_BROKE: Final = "the connection to {origin} broke ({detail})"
_NOT_HTTP: Final = "{origin} does not speak HTTP: {detail}"

FAILURES: Final[tuple[Failure, ...]] = (
    # The operating system's word, whoever repeats it.
    _row(
        "ConnectionRefusedError",
        text="{origin} refused the connection: is the server running, and is api_base right?",
        unsent=True,
    ),
    _row("gaierror", text="the host of {origin} is not known: is api_base right?", unsent=True),
    _row("NotTls", text="{origin} does not speak TLS: {detail}", unsent=True, final=True),
    _row(
        "SSLError", saying="WRONG_VERSION_NUMBER", text="{origin} does not speak TLS: {detail}", unsent=True, final=True
    ),
    _row("NoHandshake", text="{origin} took the connection and said nothing to TLS ({detail})", unsent=True),
    _row(
        "SSLCertVerificationError",
        text="no secure connection to {origin}: {detail}; App(verify=…) takes a context with your own authority",
        unsent=True,
        final=True,
    ),
    _row("SSLError", "CertificateError", text="no secure connection to {origin}: {detail}", unsent=True),
    # Ours, and httpx's with httpcore and h11 below it, for the transport that a user brings.
    _row("ConnectTimedOut", "ConnectTimeout", text=_SLOW, unsent=True),
    _row("PoolTimeout", text=_FULL, unsent=True),
    _row("ReadTimedOut", "ReadTimeout", text="nothing came from {origin} for {read:g} s"),
    _row("WriteTimedOut", "WriteTimeout", text="{origin} did not take the request within {write:g} s"),
    _row("NotConnected", "ConnectError", "ProxyError", text=_NO_CONNECTION, unsent=True),
    _row("ConnectionBroken", "ReadError", "WriteError", "CloseError", text=_BROKE, closed=True),
    _row("SpeaksTls", text="{origin} does not speak HTTP: it wants TLS", unsent=True, final=True),
    _row("NothingCame", text=_CUT, closed=True),
    _row("AnswerCut", text=_CUT),
    _row("NotHttp", text=_NOT_HTTP),
    _row("RemoteProtocolError", saying="without sending a response", text=_CUT, closed=True),
    _row("RemoteProtocolError", saying="closed", text=_CUT),
    _row("RemoteProtocolError", text=_NOT_HTTP),
    _row("NotUnpacked", "DecodingError", text="the answer of {origin} cannot be unpacked: {detail}"),
    _row("TimeoutException", "TimeoutError", text="{origin} was too slow ({detail})"),
    _row("ConnectionError", text=_BROKE, closed=True),
    _row("Exception", text="the exchange with {origin} failed: {detail}"),
)


def failure_of(error: BaseException) -> Failure:
    """Return the row that describes ``error``, its causes included."""
    names = {cls.__name__ for link in _chain(error) for cls in type(link).__mro__}
    text = str(error)
    return next(row for row in FAILURES if row.names & names and row.saying in text)


def transport_failed(error: BaseException, origin: str, timeouts: dict[str, float]) -> TransportFailed:
    """
    Return the typed error for ``error``, in our words and those of the operating system.

    Its cause is a bare copy of the operating system's error, where there is one. A library's exceptions stay behind:
    their texts and the local variables of their frames may hold the request's headers, and so the key. Raise the result
    where no exception is being handled, because Python would keep that one as the context.
    """
    system: OSError | None = None
    detail = ""
    for link in _chain(error):
        if isinstance(link, OSError):
            system = link
        if isinstance(link, (ExchangeError, OSError)):
            detail = detail or str(link)
    row = failure_of(error)
    failed = TransportFailed(row.text.format(origin=origin, detail=detail or type(error).__name__, **timeouts))
    failed.may_be_charged = not row.unsent
    if row.final:
        failed.should_retry = False
    failed.__cause__ = None if system is None else plain_os_error(system)
    return failed


def plain_os_error(error: OSError) -> OSError:
    """Return a copy without traceback, cause and context: the frames of a socket's write hold what was written."""
    if type(error).__module__ in ("builtins", "socket", "ssl"):
        return copy.copy(error)
    if error.errno is None:
        return OSError(type(error).__name__)
    return OSError(error.errno, error.strerror)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Walk down to what first went wrong; httpcore's pool raises ``from None``, so contexts count as well."""
    link: BaseException | None = error
    while link is not None:
        yield link
        link = link.__cause__ or link.__context__
