"""The sockets beneath the language models: one request, one answer, whole or piece by piece, on one connection."""

from __future__ import annotations

import ssl
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

import httpx

from dspex._clock import Clock
from dspex.errors import ConfigError, MissingExtra
from dspex.services.lm._fast import FastTransport
from dspex.services.lm._http import MAX_BODY, HttpReply, HttpStream, OnResend, Timeouts, Transport
from dspex.services.lm._routed import RoutedTransport
from dspex.services.lm._slots import SlotTransport
from dspex.services.lm._users import HttpxTransport
from dspex.services.lm.proxies import Proxies

__all__ = [
    "MAX_IDLE",
    "FastTransport",
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
    """What an App says about its network; the arguments of ``open_transport``."""

    timeouts: Timeouts | None = None
    proxy: str | Proxies | None = None
    verify: ssl.SSLContext | bool = True
    transport: httpx.AsyncBaseTransport | None = None


def open_transport(
    kind: Literal["auto", "slots", "fast"] = "auto",
    *,
    clock: Clock,
    timeouts: Timeouts | None = None,
    verify: ssl.SSLContext | bool = True,
    proxy: str | Proxies | None = None,
    max_body: int = MAX_BODY,
    max_idle: int = MAX_IDLE,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Transport:
    """
    Return a transport; no connection is opened yet.

    Args:
        kind: ``auto`` takes the fast one where its extra is installed.
        clock: The clock of the loop it will run on.
        timeouts: For exchanges that bring none of their own.
        verify: False accepts any certificate; a context decides for itself.
        proxy: The http(s) address of a proxy, with ``user:password@`` where it wants one, or an environment's
            ``Proxies``, which choose by address. Without the extra ``fast``, httpx's own transport speaks to it, whose
            cost grows with the number of connections.
        max_body: Bytes of one answer, unpacked, beyond which it is ``ResponseInvalid``.
        max_idle: Idle connections kept for the next calls; fewer than are in flight at once means opening some anew
            whenever there is a pause.
        transport: The user's own, used instead of ours and left open; it brings its own TLS and proxy.

    Raises:
        MissingExtra: ``fast`` was asked for and is not installed.
        ConfigError: ``proxy`` is no http(s) address, or was given together with ``transport``.
    """
    check_proxy(proxy, transport)
    if isinstance(proxy, Proxies):

        def through(way: str | None) -> Transport:
            return open_transport(
                kind, clock=clock, timeouts=timeouts, verify=verify, proxy=way, max_body=max_body, max_idle=max_idle
            )

        return RoutedTransport(proxy, through)
    if transport is not None:
        return HttpxTransport(transport, clock=clock, timeouts=timeouts, max_body=max_body)
    if kind != "slots":
        try:
            return FastTransport(
                clock=clock, timeouts=timeouts, verify=verify, proxy=proxy, max_body=max_body, max_idle=max_idle
            )
        except MissingExtra:
            if kind == "fast":
                raise
    if proxy is not None:
        unlimited = httpx.Limits(max_connections=None, max_keepalive_connections=max_idle, keepalive_expiry=60.0)
        inner = httpx.AsyncHTTPTransport(verify=verify, trust_env=False, limits=unlimited, proxy=proxy)
        return HttpxTransport(inner, clock=clock, timeouts=timeouts, max_body=max_body, owned=True)
    return SlotTransport(clock=clock, timeouts=timeouts, verify=verify, max_body=max_body, max_idle=max_idle)


def check_proxy(proxy: str | Proxies | None, transport: httpx.AsyncBaseTransport | None = None) -> None:
    """
    Say what is wrong with a proxy's address, without repeating it: it may hold a password.

    Raises:
        ConfigError: It is no http(s) address, or there is a transport of the user's, which has its own.
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
        raise ConfigError(f"{name} must be an address such as 'http://proxy.example:3128'; SOCKS is not spoken")
