"""Request headers of the user's own: checked when they are given, shown by their names alone."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from dspex.protocols.secret import Secret

__all__ = ["NO_HEADERS", "HiddenHeaders", "carry_credentials", "check_headers", "header_identity", "is_credential"]

NO_HEADERS: Final[Mapping[str, Secret]] = MappingProxyType({})

_OURS: Final = frozenset(
    (
        *("accept-encoding", "connection", "content-encoding", "content-length", "content-type", "expect", "host"),
        *("idempotency-key", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "x-attempt"),
        *("x-client-request-id",),
    )
)
"""Headers that the transport or the logical call decides: another value would break the exchange."""
_KEYS: Final = frozenset(("api-key", "authorization", "x-api-key", "x-goog-api-key"))
"""Headers that providers read a key from."""
_CREDENTIAL: Final = re.compile(r"auth|cookie|credential|key|password|secret|signature|token")
_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")


class HiddenHeaders(dict[str, str]):
    """Headers that show their names alone: who reports crashes often writes down local variables too."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<headers {', '.join(self)}>"


def check_headers(headers: Mapping[str, str | Secret]) -> Mapping[str, Secret]:
    """
    Return headers with their names in lower case and their values hidden.

    Raises:
        ValueError: A name or value cannot be sent, a name is given twice, or the header is one of dspex's own. The
            message never shows a value.
    """
    found: dict[str, Secret] = {}
    for given, value in headers.items():
        name = given.lower() if isinstance(given, str) else ""
        if not _NAME.fullmatch(name):
            raise ValueError(f"headers: {given!r:.60} cannot be the name of a header")
        if name in found:
            raise ValueError(f"headers: {name} is given twice")
        if name in _OURS:
            raise ValueError(f"headers: {name} is set by dspex itself and cannot be replaced")
        secret = Secret(value) if isinstance(value, str) else value
        if not isinstance(secret, Secret) or not _may_be_sent(secret.reveal()):
            raise ValueError(
                f"headers: the value of {name} must be text of printable ASCII characters, without spaces at its ends"
            )
        found[name] = secret
    return MappingProxyType(found) if found else NO_HEADERS


def carry_credentials(headers: Mapping[str, Secret]) -> bool:
    """Tell whether one of these headers stands in for the API key."""
    return not _KEYS.isdisjoint(headers)


def is_credential(name: str) -> bool:
    """Tell whether a header, by its name in lower case, holds a credential."""
    return _CREDENTIAL.search(name) is not None


def header_identity(headers: Mapping[str, Secret]) -> list[list[str]]:
    """
    Return what the headers add to the identity of a model, for cache keys and fingerprints.

    A header such as a beta flag may change the answer, so a digest of its value counts. Of a header that is named like
    a credential only the name counts, as an API key does not count either.
    """
    return [[name, "" if is_credential(name) else _digest(headers[name])] for name in sorted(headers)]


def _digest(value: Secret) -> str:
    return hashlib.sha256(value.reveal().encode()).hexdigest()


def _may_be_sent(value: str) -> bool:
    return value.isascii() and value.isprintable() and value == value.strip()
