"""Which proxy an environment names for an address: pure, told what the variables hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from urllib.parse import urlsplit

__all__ = ["Proxies"]


@dataclass(frozen=True, slots=True)
class Proxies:
    """
    The proxies of an environment, by the rules that curl, Go and Python's own library have in common.

    Attributes:
        http: For addresses that begin with ``http://``; empty for none.
        https: For those that begin with ``https://``.
        no_proxy: Hosts that are asked directly, with commas between: a host stands for its subdomains, with or
            without a dot before it; ``host:port`` for one port; an address or a network (``10.0.0.0/8``) for itself;
            ``*`` for all.
    """

    http: str = ""
    https: str = ""
    no_proxy: str = ""

    def __repr__(self) -> str:
        return "<Proxies>"  # they may hold passwords

    @classmethod
    def of_environment(cls, variables: Mapping[str, str]) -> Proxies:
        """Read ``HTTP_PROXY``, ``HTTPS_PROXY``, ``ALL_PROXY`` and ``NO_PROXY``; lower case comes first."""

        def read(name: str) -> str:
            return (variables.get(name) or variables.get(name.upper()) or "").strip()

        every = read("all_proxy")
        return cls(read("http_proxy") or every, read("https_proxy") or every, read("no_proxy"))

    def for_url(self, url: str) -> str | None:
        """Return the proxy for an address; none for this machine's own, whatever the variables say."""
        parts = urlsplit(url)
        host = (parts.hostname or "").rstrip(".")
        proxy = self.https if parts.scheme == "https" else self.http
        if not proxy or _is_loopback(host):
            return None
        port = parts.port or (443 if parts.scheme == "https" else 80)
        if any(_matches(entry.strip().lower(), host, port) for entry in self.no_proxy.split(",")):
            return None
        return proxy


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _matches(entry: str, host: str, port: int) -> bool:
    """True when an entry of ``NO_PROXY`` covers a host."""
    if entry in ("", "*"):
        return entry == "*"
    try:
        return ip_address(host) in ip_network(entry, strict=False)
    except ValueError:
        pass  # the host or the entry is a name
    name, colon, number = entry.rpartition(":")
    if colon and number.isdecimal() and "]" not in number:
        if int(number) != port:
            return False
        entry = name.strip("[]")
    entry = entry.removeprefix("*").lstrip(".").rstrip(".")
    return bool(entry) and (host == entry or host.endswith(f".{entry}"))
