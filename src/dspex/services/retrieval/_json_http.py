"""Questions to a server of JSON: bounded answers, typed errors, and another try where the question changes nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from dspex.errors import ConfigError, RetrievalError

if TYPE_CHECKING:
    import httpx

__all__ = ["MAX_WAIT", "TRY_AGAIN", "Server", "json_of", "open_client", "seconds", "without_secrets"]

TRY_AGAIN: Final = frozenset({408, 425, 429, 500, 502, 503, 504})
"""The statuses after which the same question may be answered."""
MAX_WAIT: Final = 10.0
"""The most seconds between two tries, whatever a server asks for."""


@dataclass(frozen=True, slots=True)
class Server:
    """
    Where questions go, and how often.

    Attributes:
        url: The whole address.
        headers: Sent with each question; they are in no error and no ``repr``.
        timeout: Seconds for one try, from connecting to the last byte.
        tries: How often a question is sent at most; each of ours changes nothing on the server.
        backoff: Seconds before the second try, doubled with each; a server's Retry-After counts where it is longer.
        max_bytes: The longest answer that is read.
        proxy: The address of a proxy; None for none. Proxies of the environment are not used.
    """

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    timeout: float = 10.0
    tries: int = 3
    backoff: float = 0.2
    max_bytes: int = 16 * 2**20
    proxy: str | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        import httpx  # too heavy for ``import dspex``

        try:
            url = httpx.URL(self.url)
        except (httpx.InvalidURL, TypeError) as error:
            raise ConfigError(f"url={self.url!r:.80} is not an address: {error}") from error
        if url.scheme not in ("http", "https") or not url.host or url.userinfo:
            raise ConfigError(f"the address of {url.host or 'a retriever'} must be http(s)://host…, without a password")
        if not (self.timeout > 0 and self.tries >= 1 and self.backoff >= 0 and self.max_bytes > 0):
            raise ConfigError("timeout, tries and max_bytes must be positive, and backoff not negative")

    @property
    def label(self) -> str:
        """The server's name in errors: the query of an address may hold a key."""
        return self.url.partition("?")[0]


def open_client(server: Server) -> httpx.AsyncClient:
    """Return connections for ``Server``; whoever opens them closes them."""
    import httpx  # too heavy for ``import dspex``

    verify = httpx.create_ssl_context(trust_env=False) if server.url.startswith("https") else False
    return httpx.AsyncClient(
        verify=verify, trust_env=False, follow_redirects=False, timeout=server.timeout, proxy=server.proxy
    )


async def json_of(
    client: httpx.AsyncClient, server: Server, *, body: object = None, query: Mapping[str, str | int] | None = None
) -> object:
    """
    Return the JSON of an answer: to a POST of ``body``, or to a GET with ``query``.

    Raises:
        RetrievalError: The server cannot be reached, refuses, or answers with something else than JSON; its last word,
            after the tries that there were.
    Cancellation: the connection is closed.
    """
    import anyio  # too heavy for ``import dspex``

    content = None if body is None else json.dumps(body).encode()
    for number in range(1, server.tries + 1):
        wait = server.backoff * 2.0 ** (number - 1)
        try:
            with anyio.fail_after(server.timeout):
                status, headers, data = await _exchange(client, server, content, query)
        except (TimeoutError, OSError, _library_error()) as error:
            problem = f"it did not answer: {type(error).__name__}" + (f": {error}" if str(error) else "")
            if number == server.tries:
                raise RetrievalError(f"{server.label}: {problem} ({number} tries)") from error
        else:
            if status == 200:
                return _read(server, data)
            told = without_secrets(server, data[:300].decode("utf-8", "replace"))
            if status not in TRY_AGAIN or number == server.tries:
                raise RetrievalError(f"{server.label} answered {status} ({number} tries): {told}")
            wait = max(wait, min(MAX_WAIT, seconds(headers.get("retry-after", ""))))
        await anyio.sleep(wait)
    raise AssertionError("unreachable")


async def _exchange(
    client: httpx.AsyncClient, server: Server, content: bytes | None, query: Mapping[str, str | int] | None
) -> tuple[int, Mapping[str, str], bytes]:
    # httpx unpacks without a bound, and layer upon layer: nothing packed is asked for, and nothing packed is read.
    headers = {"accept": "application/json", **server.headers, "accept-encoding": "identity"}
    if content is not None:
        headers["content-type"] = "application/json"
    method = "GET" if content is None else "POST"
    async with client.stream(method, server.url, params=query, content=content, headers=headers) as response:
        if response.headers.get("content-encoding", "identity") != "identity":
            raise RetrievalError(f"{server.label} packed its answer, which was not asked for")
        data = bytearray()
        async for piece in response.aiter_bytes(65_536):
            data += piece
            if len(data) > server.max_bytes:
                raise RetrievalError(f"{server.label} answered more than {server.max_bytes} bytes")
        return response.status_code, response.headers, bytes(data)


def _library_error() -> type[Exception]:
    import httpx  # too heavy for ``import dspex``

    return httpx.HTTPError


def _read(server: Server, data: bytes) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError) as error:
        raise RetrievalError(f"{server.label} answered something that is not JSON: {error}") from error


def without_secrets(server: Server, text: str) -> str:
    """Return a server's words without the secrets of the headers."""
    for value in server.headers.values():
        for secret in {value, value.removeprefix("Bearer ")}:
            if len(secret) > 5:
                text = text.replace(secret, "[redacted]")
    return " ".join(text.split())


def seconds(text: str) -> float:
    """Return the seconds of a Retry-After header; 0 for a date, or anything else."""
    try:
        found = float(text)
    except ValueError:
        return 0.0
    return found if 0.0 <= found < float("inf") else 0.0
