"""The sockets beneath the language models: one request, one answer, whole or piece by piece, on one connection."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import urlsplit

from dspex._clock import Clock
from dspex.errors import ConfigError
from dspex.services.lm._http import MAX_BODY, HttpReply, HttpStream, OnResend, Timeouts, Transport
from dspex.services.lm._httpx_transport import HttpxTransport
from dspex.services.lm._parsers import ParserName
from dspex.services.lm._proxied_transport import ProxiedTransport
from dspex.services.lm._slots import SlotTransport
from dspex.services.lm.proxies import Proxies

if TYPE_CHECKING:
    import httpx

__all__ = [
    "MAX_IDLE",
    "HttpReply",
    "HttpStream",
    "HttpxTransport",
    "Network",
    "OnResend",
    "SlotTransport",
    "Timeouts",
    "Transport",
    "check_proxy",
    "open_transport",
]

MAX_IDLE = 256
"""Idle connections that are kept, unless more calls may be in flight at once."""


class Network(NamedTuple):
    """An App's settings of its network; the arguments of ``open_transport``."""

    timeouts: Timeouts | None = None
    proxy: str | Proxies | None = None
    verify: ssl.SSLContext | bool = True
    transport: httpx.AsyncBaseTransport | None = None


def open_transport(
    *,
    clock: Clock,
    timeouts: Timeouts | None = None,
    verify: ssl.SSLContext | bool = True,
    proxy: str | Proxies | None = None,
    max_body: int = MAX_BODY,
    max_idle: int = MAX_IDLE,
    transport: httpx.AsyncBaseTransport | None = None,
    parser: ParserName = "auto",
) -> Transport:
    """
    Return a transport; no connection is opened yet.

    Args:
        clock: The clock of the loop it will run on.
        timeouts: For exchanges that bring none of their own.
        verify: False accepts any certificate; a context decides for itself.
        proxy: The http(s) address of a proxy, with ``user:password@`` where it wants one, or an environment's
            ``Proxies``, which choose by address.
        max_body: Bytes of one answer, unpacked, beyond which it is ``ResponseInvalid``.
        max_idle: Idle connections kept for the next calls; fewer than are in flight at once means opening some anew
            whenever there is a pause.
        transport: The user's own, used instead of ours and left open; it brings its own TLS and proxy.
        parser: Reads the answers: ``httptools`` (the extra ``fast``), ``h11``, or ``auto``, the first where installed.

    Raises:
        MissingExtra: httptools was asked for and is not installed.
        ConfigError: ``proxy`` is not an http(s) address, or was given together with ``transport``.
    """
    check_proxy(proxy, transport)

    def open_slots(way: str | None) -> Transport:
        return SlotTransport(
            clock=clock,
            timeouts=timeouts,
            verify=verify,
            proxy=way,
            parser=parser,
            max_body=max_body,
            max_idle=max_idle,
        )

    if isinstance(proxy, Proxies):
        return ProxiedTransport(proxy, open_slots)
    if transport is not None:
        return HttpxTransport(transport, clock=clock, timeouts=timeouts, max_body=max_body)
    return open_slots(proxy)


def check_proxy(proxy: str | Proxies | None, transport: httpx.AsyncBaseTransport | None = None) -> None:
    """
    Say what is wrong with a proxy's address, without repeating it: it may hold a password.

    Raises:
        ConfigError: It is not an http(s) address, or there is a transport of the user's, which has its own.
    """
    if proxy is None:
        return
    if transport is not None:
        raise ConfigError("proxy= was given together with transport=, which has its own: give one of them")
    if isinstance(proxy, Proxies):
        _check_address(proxy.http, "HTTP_PROXY (or ALL_PROXY)")
        _check_address(proxy.https, "HTTPS_PROXY (or ALL_PROXY)")
    else:
        _check_address(proxy or "empty", "proxy=")


def _check_address(proxy: str, name: str) -> None:
    """Check one address; the empty one stands for no proxy."""
    try:
        parts = urlsplit(proxy)
        is_good = not proxy or (parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0)
    except ValueError:
        is_good = False
    if not is_good:
        raise ConfigError(
            f"{name} must be an address such as 'http://proxy.example:3128'; SOCKS proxies are not supported"
        )
