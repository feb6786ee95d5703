"""The options of the page: its address, who may look, and what may be shown."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field

from dspex.errors import ConfigError

__all__ = ["LOOPBACK_NAMES", "Dashboard", "dashboard_of", "host_of", "is_loopback"]

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""The names by which a browser on this machine calls this machine."""

MOST_NOTE = 200
"""Characters of the note."""

_ADDRESS = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+):(?P<port>\d{1,5})")
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]{16,200}")


@dataclass(frozen=True, slots=True)
class Dashboard:
    """
    The page on which one sees an App run: ``App(dashboard=Dashboard("127.0.0.1:8765"))``.

    Attributes:
        address: ``host:port``; port 0 takes a free one. Anything but this machine's own loopback needs a token.
        token: The secret that whoever looks has to know. Without one, everybody on this machine may look, and a fresh
            one that is part of ``app.dashboard_url`` is needed to act: cancel, restart, suspend, steer.
        capture: True shows conversations and the texts of errors: the words of users and models. Who reads them needs
            the token.
        note: One line that stands above every view, here and in ``dspex top``: which of several Apps it is, say.
        hosts: More names by which browsers may call the page; its own address and loopback names always may.

    Raises:
        ConfigError: The address is none, a token is missing, or is shorter than 16 characters.
    """

    address: str = "127.0.0.1:8765"
    token: str | None = field(default=None, repr=False)
    capture: bool = False
    hosts: tuple[str, ...] = ()
    note: str = ""

    def __post_init__(self) -> None:
        found = _ADDRESS.fullmatch(self.address) if isinstance(self.address, str) else None
        if found is None or int(found["port"]) > 65_535:
            raise ConfigError(f"dashboard={self.address!r:.60} is not an address such as '127.0.0.1:8765'")
        if self.token is not None and (not isinstance(self.token, str) or not _TOKEN.fullmatch(self.token)):
            raise ConfigError("the dashboard's token must have 16 to 200 letters, digits or signs of ._~+/=-")
        if not isinstance(self.note, str) or len(self.note) > MOST_NOTE or not self.note.isprintable():
            raise ConfigError(f"the dashboard's note is one line of up to {MOST_NOTE} characters")
        if isinstance(self.hosts, str) or not all(isinstance(each, str) and each for each in self.hosts):
            raise ConfigError("the dashboard's hosts are a tuple of names, such as ('dash.example.com',)")
        if self.token is None and not is_loopback(self.host):
            raise ConfigError(
                f"the dashboard at {self.address} can be reached from other machines, so it needs a token: "
                f"Dashboard({self.address!r}, token=…)"
            )

    @property
    def host(self) -> str:
        """The name or number to listen on, without brackets."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """The port; 0 takes a free one."""
        return int(self.address.rpartition(":")[2])

    def allows(self, header: str) -> bool:
        """
        True when a request with this ``Host`` header may be answered.

        A page elsewhere can have its own name point at this machine and be let in by the browser (DNS rebinding); but
        the browser then sends that name.
        """
        host = host_of(header)
        return host in LOOPBACK_NAMES or host == self.address.rpartition(":")[0].lower() or host in self.hosts


def dashboard_of(given: str | Dashboard | None) -> Dashboard | None:
    """Return the options for what an App was given; ConfigError when they make no sense."""
    if given is None or isinstance(given, Dashboard):
        return given
    if not isinstance(given, str):
        raise ConfigError(f"dashboard={given!r:.60} is neither an address nor a Dashboard")
    return Dashboard(given)


def host_of(header: str) -> str:
    """Return the name in a ``Host`` header, in lower case and without the port."""
    header = header.strip().lower()
    if header.startswith("["):
        return header.partition("]")[0] + "]"
    return header.partition(":")[0]


def is_loopback(host: str) -> bool:
    """True for names and numbers of this machine that others cannot reach."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
