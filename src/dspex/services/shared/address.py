"""Where the shared store is, and how it is used: a record that never shows a password."""

from __future__ import annotations

import importlib
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal
from urllib.parse import parse_qsl, unquote, urlsplit

from dspex.errors import ConfigError, MissingExtra
from dspex.protocols.printable import printable
from dspex.services.lm.redact import REDACTED, Redactor
from dspex.services.shared.database_file import check_database

__all__ = ["Shared", "is_shared_url", "shared_of"]

Kind = Literal["redis", "postgresql", "sqlite"]

_KINDS: Final[dict[str, Kind]] = {
    "redis": "redis",
    "rediss": "redis",
    "unix": "redis",
    "postgresql": "postgresql",
    "postgres": "postgresql",
    "sqlite": "sqlite",
}
_EXTRAS: Final = {
    "redis": ("redis.asyncio", "redis"),
    "postgresql": ("asyncpg", "postgres"),
}
"""The package that speaks with a kind of store, and the extra that brings it; a file needs none."""

_NAMESPACE = re.compile(r"[A-Za-z0-9_.-]{1,64}")


@dataclass(frozen=True, slots=True, repr=False)
class Shared:
    """
    A store that several processes share: ``App(shared=Shared("redis://cache:6379/0", namespace="team-a"))``.

    Attributes:
        url: ``redis://``, ``rediss://``, ``unix://`` (a socket of Redis) or ``postgresql://``; a password in it is
            shown nowhere. For processes of one machine ``sqlite:///`` and the path of a file, which needs no server.
        namespace: Processes with the same one share answers and limits; 1 to 64 letters, digits, or signs of ``_.-``.
        timeout: Seconds that one operation may take. A store that needs longer counts as down, and is asked again
            in the background.
        connections: Connections of this process, at most; a file has one thread.
        lease: Seconds after which another process makes an answer whose maker has died. While one is made, its lease is
            renewed, so that this may be shorter than an answer takes.

    Raises:
        ConfigError: A value makes no sense; the message does not repeat the address.
    """

    url: str = field(repr=False)
    namespace: str = "dspex"
    timeout: float = 0.25
    connections: int = 4
    lease: float = 5.0

    def __post_init__(self) -> None:
        if not is_shared_url(self.url):
            raise ConfigError("a shared store is at redis://…, rediss://…, unix://…, postgresql://… or sqlite:///…")
        if self.kind == "sqlite":
            _path_in(self.url)
        try:
            urlsplit(self.url).port  # noqa: B018 - it is read for what it raises
        except ValueError:
            raise ConfigError("the address of the shared store needs a port that is a number up to 65535") from None
        if not isinstance(self.namespace, str) or not _NAMESPACE.fullmatch(self.namespace):
            raise ConfigError(f"namespace={self.namespace!r:.60} must have 1 to 64 letters, digits or signs of _.-")
        for name, seconds, most in (("timeout", self.timeout, 60.0), ("lease", self.lease, 600.0)):
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= most:
                raise ConfigError(f"{name}={seconds!r:.60} must be a number of seconds, more than 0, at most {most:g}")
        if isinstance(self.connections, bool) or not isinstance(self.connections, int) or self.connections < 1:
            raise ConfigError(f"connections={self.connections!r:.60} must be a whole number from 1 on")

    @property
    def kind(self) -> Kind:
        """The sort of server that is there."""
        return _KINDS[urlsplit(self.url).scheme.lower()]

    @property
    def path(self) -> Path:
        """The file of a store that is one."""
        return _path_in(self.url)

    @property
    def address(self) -> str:
        """The address without user, password and options: for people to read."""
        if self.kind == "sqlite":
            return printable(self.url)
        parts = urlsplit(self.url)
        host = parts.hostname or ""
        shown = f"[{host}]" if ":" in host else host
        port = f":{parts.port}" if parts.port is not None else ""
        return printable(f"{parts.scheme}://{shown}{port}{parts.path}")

    def told(self, error: BaseException) -> str:
        """Return what an error of the store says, in one line and without the password."""
        text = " ".join(str(error).split())[:300]
        for secret in self._secrets():
            text = text.replace(secret, REDACTED)
        text = Redactor(self._secrets()).text(text)
        return printable(f"{type(error).__name__}: {text}" if text else type(error).__name__)

    def _secrets(self) -> list[str]:
        """Return the texts that nobody may read, longest first."""
        parts = urlsplit(self.url)
        given = {self.url, parts.password or "", unquote(parts.password or "")}
        given |= {value for name, value in parse_qsl(parts.query) if "pass" in name.lower()}
        return sorted((each for each in given if each), key=len, reverse=True)

    def check_extra(self) -> None:
        """Load the package that speaks with the store, which holds up no loop now; MissingExtra without it."""
        if self.kind == "sqlite":
            return
        package, extra = _EXTRAS[self.kind]
        try:
            importlib.import_module(package)
        except ImportError as error:
            raise MissingExtra(extra, f"a store at {self.address}") from error

    def __repr__(self) -> str:
        return f"Shared({self.address!r}, namespace={self.namespace!r})"


def is_shared_url(given: object) -> bool:
    """True for the address of a store that processes share; a path is none."""
    return isinstance(given, str) and "://" in given and given.partition("://")[0].lower() in _KINDS


def _path_in(url: str) -> Path:
    """Return the path behind ``sqlite:///``, as it stands there; ConfigError where there is none."""
    place = url.partition("://")[2]
    name = place[1:]
    if not place.startswith("/") or not name or name == ":memory:" or name.endswith("/") or {*name} & {"?", "#", "\0"}:
        raise ConfigError(
            "a file that processes share is sqlite:///runs/shared.db, or sqlite:////srv/shared.db with a whole path"
        )
    return Path(name)


def shared_of(given: str | Shared | None) -> Shared | None:
    """Return the record for what an App was given; ConfigError when it is none, MissingExtra without its package."""
    if given is None:
        return None
    made = Shared(given) if isinstance(given, str) else given
    if not isinstance(made, Shared):
        raise ConfigError(f"shared={type(given).__name__} is neither an address nor a Shared")
    made.check_extra()
    if made.kind == "sqlite":
        check_database(made.path)
    return made
