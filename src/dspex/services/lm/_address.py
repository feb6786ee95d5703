"""Addresses of servers, read as httpx reads them, and without it where they are plain: it takes long to import."""

from __future__ import annotations

import re
from typing import Final, NamedTuple

__all__ = ["Address", "read_address"]

_PLAIN: Final = re.compile(
    r"(?P<scheme>https?)://"
    r"(?P<host>localhost|127\.0\.0\.1|[a-z][a-z0-9-]*(?:\.[a-z0-9-]*[a-z][a-z0-9-]*)+)"
    r"(?::(?P<port>[1-9][0-9]{0,3}|[1-5][0-9]{4}))?"
    r"(?P<path>(?:/(?:[A-Za-z0-9_~:-][A-Za-z0-9._~:-]*)?)*)"
)
"""No name, escape, dot segment, query or odd number in it, about which there is something to decide."""
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Address(NamedTuple):
    """
    The parts of an address.

    Attributes:
        scheme: In lower case.
        host: In ASCII; an IPv6 address without its brackets.
        port: None where it is the scheme's own.
        authority: Host and port, as a request names them.
        path: With its query; a slash at least.
    """

    scheme: str
    host: str
    port: int | None
    authority: bytes
    path: bytes

    @property
    def label(self) -> str:
        """Scheme, host and port, for messages."""
        return f"{self.scheme}://{self.authority.decode()}"


def read_address(url: str) -> Address:
    """
    Return the parts of an address.

    Raises:
        httpx.InvalidURL: It is not an address.
    """
    if (plain := _PLAIN.fullmatch(url)) is None:
        import httpx  # too heavy for the start of a process, and needed by few

        parsed = httpx.URL(url)
        host = parsed.raw_host.decode("ascii")
        return Address(parsed.scheme, host, parsed.port, parsed.netloc, parsed.raw_path)
    scheme, host, path = plain["scheme"], plain["host"], plain["path"]
    port = int(plain["port"]) if plain["port"] else None
    if port == _DEFAULT_PORTS[scheme]:
        port = None
    authority = host if port is None else f"{host}:{port}"
    return Address(scheme, host, port, authority.encode(), (path or "/").encode())
