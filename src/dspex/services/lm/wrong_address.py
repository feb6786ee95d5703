"""From a failure to the likely mistake in the address, pure: hints name the address asked and the line to write."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit, urlunsplit

from dspex.errors import AuthFailed, LMError, PermissionDenied, RequestRejected, ResponseInvalid, TransportFailed

__all__ = ["better_base", "explain", "mistake_in"]

_OPERATION: Final = re.compile(
    r"/(?:chat/completions|completions|responses|embeddings|messages|chat|generate|tags"
    r"|models(?:/[^/]+)?(?::[A-Za-z]+)?)$"
)
"""The end of an address that requests are posted to, or that lists models: it is not part of a base."""
_FULL: Final = re.compile(r"/(?:chat/completions|responses|embeddings|messages|models/[^/]+:[A-Za-z]+)$")
"""The same, where there is no doubt about it."""
_DOUBLED: Final = re.compile(r"/(v\d+(?:beta)?)/\1(?=/|$)")
_VERSION: Final = re.compile(r"/v\d+(?:beta)?(?=/|$)")
_NO_SUCH_PATH: Final = frozenset({404, 405, 501})
_ABOUT_MODEL: Final = re.compile(r"\bmodel\b", re.IGNORECASE)
_WANTS_HTTPS: Final = re.compile(r"\bhttps (?:port|server)\b", re.IGNORECASE)


def mistake_in(api_base: str, version: str) -> str | None:
    """
    Return the address that was meant, where ``api_base`` cannot be a base: a full path, or a version that stands twice.

    Args:
        api_base: An http(s) address.
        version: The path that the protocol's addresses end with, such as ``/v1``.
    """
    path = urlsplit(api_base).path.rstrip("/")
    return better_base(api_base, version) if _FULL.search(path) or _DOUBLED.search(path) else None


def better_base(base_url: str, version: str) -> str | None:
    """
    Return the address that was probably meant by one where nothing was found; None where there is no guess.

    Args:
        base_url: The address that was given.
        version: As for ``mistake_in``.
    """
    parts = urlsplit(base_url)
    given = parts.path.rstrip("/")
    path = _DOUBLED.sub(r"/\1", _OPERATION.sub("", given))
    if version and not _VERSION.search(path):
        path = path.removesuffix("/api") + version  # Ollama's own protocol lives below /api
    elif path.endswith("/api"):
        path = path.removesuffix("/api")
    return urlunsplit(parts._replace(path=path)) if path != given else None


def explain(
    error: LMError, url: str, base_url: str, usual_base: str, headers: Mapping[str, str], *, with_key: bool
) -> None:
    """
    Add to the message of ``error`` what the address may have to do with it.

    Args:
        error: The outcome of an attempt; its message is changed.
        url: The address that was asked.
        base_url: The base that it was made of.
        usual_base: The provider's own base; empty where it has none.
        headers: Of the answer, names in lower case; empty where none came.
        with_key: True when the request carried a key.
    """
    more = ""
    if isinstance(error, TransportFailed):
        more = _of_connection(error, url, base_url)
    elif error.status is None:
        return
    elif type(error) is AuthFailed and not with_key:
        _, _, hint = str(error).partition("; ")
        wants = f"{url} wants an API key ({error.status}), and the request carried none"
        error.args = (f"{wants}; {hint}" if hint else wants,)
        return
    elif isinstance(error, PermissionDenied) and not with_key:
        more = f"; the request to {url} carried no API key"
    elif 300 <= error.status < 400:
        more = _of_redirect(url, base_url, headers.get("location", ""))
    elif isinstance(error, (RequestRejected, ResponseInvalid)) and base_url != usual_base:
        more = _of_path(error, url, base_url, usual_base, headers)
    if more:
        error.args = (f"{str(error).rstrip('.')}{more}",)


def _of_connection(error: TransportFailed, url: str, base_url: str) -> str:
    text, parts = str(error), urlsplit(url)
    if parts.scheme == "https" and ("does not speak TLS" in text or "said nothing to TLS" in text):
        if "does not speak TLS" in text or parts.port not in (None, 443):
            error.should_retry = False  # it will speak no other language the next time
        return f". The address asked was {url}. If the server speaks http, write api_base={_as('http', base_url)!r}"
    if parts.scheme == "http" and ("nothing of it came" in text or "does not speak HTTP" in text):
        return f". The address asked was {url}. If the server speaks https, write api_base={_as('https', base_url)!r}"
    return ""


def _of_redirect(url: str, base_url: str, location: str) -> str:
    tail = url.removeprefix(base_url)
    if tail and location.startswith(("http://", "https://")) and location.endswith(tail):
        return f". The address asked was {url}: write api_base={location.removesuffix(tail)!r}"
    return f". The address asked was {url}"


def _of_path(error: LMError, url: str, base_url: str, usual_base: str, headers: Mapping[str, str]) -> str:
    text = str(error)
    if error.status == 400 and url.startswith("http:") and _WANTS_HTTPS.search(text):
        return f". The address asked was {url}: write api_base={_as('https', base_url)!r}"
    is_page = headers.get("content-type", "").startswith("text/html")
    is_success = error.status is not None and 200 <= error.status < 300
    if error.status not in _NO_SUCH_PATH and not (is_page and is_success):
        return ""
    if error.status == 404 and (error.code == "model_not_found" or (_ABOUT_MODEL.search(text) and not is_page)):
        return ""
    meant = better_base(base_url, urlsplit(usual_base).path)
    if meant is None:
        return f". The address asked was {url}: compare api_base with what the server's manual says"
    return f". The address asked was {url}, where nothing answers: did you mean api_base={meant!r}?"


def _as(scheme: str, base_url: str) -> str:
    return urlunsplit(urlsplit(base_url)._replace(scheme=scheme))
