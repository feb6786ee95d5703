"""The servers that tell a machine of a cloud who it is: asked over plain HTTP on the machine's own network."""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from dspex._clock import seconds_of
from dspex.errors import AuthFailed, TransportFailed
from dspex.services.lm.clouds.files import Hidden
from dspex.services.lm.wires._json import parse

if TYPE_CHECKING:
    import httpx

__all__ = ["ask", "ask_fields", "fields_of", "is_own_network", "seconds_until", "text_under"]

_SECONDS: Final = 3.0
"""For one answer: it comes from next door, or the machine is not one of that cloud's."""
_LONGEST: Final = 2**20


async def ask(url: str, headers: Mapping[str, str], *, what: str, method: str = "GET") -> str:
    """
    Return the text that a metadata server answers; no proxy is asked.

    Raises:
        TransportFailed: Nothing answers there, or it failed; another try may help.
        AuthFailed: It refused, or answers what is not a text.
    Cancellation: closes the socket.
    """
    import httpx  # too heavy for ``import dspex``

    problem = ""
    try:
        async with (
            httpx.AsyncClient(trust_env=False, timeout=_SECONDS, verify=url.startswith("https:")) as client,
            client.stream(method, url, headers=dict(headers)) as answer,
        ):
            status = answer.status_code
            if status == 200:
                return await _text_of(answer)
    except httpx.HTTPError as error:
        problem = type(error).__name__
    except ValueError:
        status = 0
    # Raised here, so that the library's error, which holds the headers, is not its context.
    if problem:
        raise _unsent(TransportFailed(f"nothing answers as {what} at {_place(url)} ({problem})"))
    if status == 0:
        raise _unsent(AuthFailed(f"the {what} at {_place(url)} answers with something else than a short text"))
    kind = TransportFailed if status >= 500 or status == 429 else AuthFailed
    raise _unsent(kind(f"the {what} at {_place(url)} answered {status}"))


async def _text_of(answer: httpx.Response) -> str:
    """Return the body of an answer; raises ``ValueError`` where it is long, or no text."""
    body = b""
    async for piece in answer.aiter_raw():
        body += piece
        if len(body) > _LONGEST:
            raise ValueError
    return body.decode()


async def ask_fields(url: str, headers: Mapping[str, str], *, what: str) -> Mapping[str, object]:
    """Return the JSON object that a metadata server answers; raises as ``ask``."""
    return fields_of(await ask(url, headers, what=what), what)


def fields_of(text: str | bytes, what: str) -> Mapping[str, object]:
    """Return a JSON object; raises ``AuthFailed`` for what is none, without showing it."""
    try:
        found = parse(text)
    except ValueError:
        found = None
    del text  # may hold a secret, and is not a local variable of a frame that a traceback will show
    if isinstance(found, dict):
        return Hidden(found)
    del found
    raise _unsent(AuthFailed(f"the answer of the {what} is not a JSON object"))


def text_under(fields: Mapping[str, object], name: str, what: str) -> str:
    """Return a text of an answer; raises ``AuthFailed`` where it is missing."""
    value = fields.get(name)
    if not isinstance(value, str) or not value:
        raise _unsent(AuthFailed(f"the answer of the {what} has no {name}"))
    return value


def seconds_until(moment: str, now: float, what: str) -> float:
    """Return the seconds until an ISO 8601 time; raises ``AuthFailed`` where it is none."""
    try:
        return seconds_of(moment) - now
    except ValueError:
        raise _unsent(AuthFailed(f"the answer of the {what} ends at {moment!r:.40}, which is not a time")) from None


def is_own_network(url: str) -> bool:
    """True for an address of this machine or of its own network, by number or ``localhost``, or for one with TLS."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        return True
    if parts.scheme != "http":
        return False
    try:
        address = ipaddress.ip_address(parts.hostname or "")
    except ValueError:
        return parts.hostname == "localhost"
    return address.is_loopback or address.is_link_local or str(address) == "fd00:ec2::23"


def _place(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _unsent(error: AuthFailed | TransportFailed) -> AuthFailed | TransportFailed:
    error.may_be_charged = False
    return error
