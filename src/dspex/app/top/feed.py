"""Where the snapshots come from: an App of this user by its local socket, or a page by its address."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import quote, unquote, urlsplit

import httpx

from dspex.app.config import read_dashboard_token
from dspex.app.dashboard.delta import apply
from dspex.app.dashboard.shapes import VERSION, Plain
from dspex.app.dashboard.sockets import LocalApp, find
from dspex.app.top.acts import Act
from dspex.errors import ConfigError

__all__ = ["Feed", "LocalFeed", "PageFeed", "choose", "feed_of", "snapshots"]

MOST_LINE: Final = 64 * 2**20
"""Bytes of one update."""

SILENCE: Final = 30.0
"""Seconds after which an App that says nothing is given up; a living one sends a line every ten."""

MOST_REFUSAL: Final = 16 * 1024
"""Bytes of a refusal that are read."""

NOBODY: Final = (
    "no App can be watched: App(watch=True) or DSPEX_WATCH=1 lets one be; "
    "`dspex top http://127.0.0.1:8765` looks at a page, `dspex dashboard` starts one to try"
)


class Feed(Protocol):
    """A teller of updates of one App."""

    @property
    def title(self) -> str:
        """Whom it is of."""
        ...

    def updates(self) -> AsyncGenerator[tuple[str, Any], None]:
        """Connect, then yield ``snapshot`` and ``delta`` until the other side ends; ConfigError if it is no App."""
        ...

    @property
    def can_act(self) -> bool:
        """True where the other side may do what it is asked for."""
        ...

    async def act(self, act: Act) -> None:
        """Have one thing done; ConfigError tells why it was not, OSError and httpx.HTTPError that nobody answers."""
        ...


async def snapshots(feed: Feed) -> AsyncGenerator[Plain, None]:
    """
    Yield one snapshot after the other, until the other side ends.

    Raises:
        OSError, httpx.HTTPError: Nobody answers, or the connection has broken.
        ConfigError: It is not from an App of this version.
    """
    state: Plain | None = None
    async with aclosing(feed.updates()) as updates:
        async for kind, data in updates:
            try:
                if kind == "snapshot":
                    state = data
                    if state is None or state["version"] != VERSION:
                        raise ConfigError(f"{feed.title}: it runs another version of dspex")
                elif state is not None and kind == "delta":
                    state = apply(state, data)
            except (TypeError, KeyError, LookupError, AttributeError) as error:
                raise ConfigError(f"{feed.title}: this is not what an App tells") from error
            if state is not None:
                yield state


class LocalFeed:
    """
    An App of this user on this machine.

    Args:
        found: Where it is.
        folders: Where the next one of its name is looked for, once it has ended.
    """

    def __init__(self, found: LocalApp, folders: Sequence[Path] = ()) -> None:
        self._found = found
        self._folders = folders

    @property
    def title(self) -> str:
        """Whom it is of."""
        return self._found.words

    async def updates(self) -> AsyncGenerator[tuple[str, Any], None]:
        """Connect, then yield updates until the other side ends."""
        reader, writer = await self._open()
        try:
            while line := await _line(reader):
                told = _parsed(line)
                if not isinstance(told, dict):
                    raise ConfigError(f"{self._found.path} is not the socket of an App")
                for kind, data in told.items():
                    yield kind, data
        finally:
            writer.close()

    @property
    def can_act(self) -> bool:
        """True: the socket is this user's alone."""
        return True

    async def act(self, act: Act) -> None:
        """Have one thing done, over a connection of its own."""
        reader, writer = await self._open()
        try:
            wanted = {"act": {"what": act.what, "whom": act.whom, "how": act.how, "more": dict(act.more)}}
            writer.write(json.dumps(wanted).encode() + b"\n")
            await writer.drain()
            while line := await _line(reader):
                told = _parsed(line)
                if isinstance(told, dict) and "acted" in told:
                    if told["acted"] is not None:
                        raise ConfigError(str(told["acted"])[:400])
                    return
            raise ConfigError(f"{self._found.words} ended before it answered")
        finally:
            writer.close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        try:
            return await asyncio.open_unix_connection(str(self._found.path), limit=MOST_LINE)
        except OSError:
            new = next((each for each in find(self._folders) if each.name == self._found.name), None)
            if new is None:
                raise
            self._found = new
            return await asyncio.open_unix_connection(str(new.path), limit=MOST_LINE)


async def _line(reader: asyncio.StreamReader) -> bytes:
    try:
        async with asyncio.timeout(SILENCE):
            return await reader.readline()
    except ValueError as error:  # longer than the limit
        raise ConfigError("what the App tells is too long to show") from error


class PageFeed:
    """A page, here or elsewhere."""

    def __init__(self, url: str, token: str | None) -> None:
        self._url = url
        self._token = token

    @property
    def title(self) -> str:
        """Whom it is of."""
        return self._url

    async def updates(self) -> AsyncGenerator[tuple[str, Any], None]:
        """Connect, then yield updates until the other side ends."""
        timeout = httpx.Timeout(SILENCE, connect=10.0)
        async with (
            httpx.AsyncClient(headers=self._headers, timeout=timeout, trust_env=False) as client,
            client.stream("GET", f"{self._url}api/v1/events") as response,
        ):
            if response.status_code == 401:
                raise ConfigError(f"{self._url} needs its token: give the address with #token=…, or DSPEX_TOKEN")
            if response.status_code != 200:
                raise ConfigError(f"{self._url} is not a page of dspex: it answers {response.status_code}")
            event: dict[str, str] = {}
            async for line in response.aiter_lines():
                name, _, value = line.partition(": ")
                if line:
                    event[name] = value
                elif "data" in event:
                    yield event.get("event", ""), _parsed(event["data"])
                    event = {}

    @property
    def _headers(self) -> dict[str, str]:
        return {"authorization": f"Bearer {self._token}"} if self._token else {}

    @property
    def can_act(self) -> bool:
        """True where the token is known."""
        return self._token is not None

    async def act(self, act: Act) -> None:
        """Have one thing done."""
        path = "/".join(quote(each, safe="") for each in (act.what, act.whom, act.how))
        async with httpx.AsyncClient(headers=self._headers, timeout=SILENCE, trust_env=False) as client:
            answer = await client.post(f"{self._url}api/v1/{path}", json=dict(act.more))
        if answer.status_code != 200:
            told = _parsed(answer.content[:MOST_REFUSAL])
            raise ConfigError(str(told.get("error", answer.status_code) if isinstance(told, dict) else told)[:400])


def _parsed(text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigError("what comes is not JSON: is this an App of dspex?") from error


# --- choosing -------------------------------------------------------------------------------------------------


def feed_of(wanted: str, folders: Sequence[Path]) -> Feed | list[LocalApp]:
    """
    Return where to look: an address, a socket's path, a process or a name; the Apps where several would do.

    Args:
        wanted: The words of the user; empty for whatever there is.
        folders: Where this user's sockets are.

    Raises:
        ConfigError: There is no such App, or none at all.
    """
    if "://" in wanted:
        return _page(wanted)
    if "/" in wanted:
        return LocalFeed(LocalApp(Path(wanted).name.partition(".")[0] or "an App", 0, Path(wanted), {}))
    chosen = choose(wanted, find(folders))
    return LocalFeed(chosen[0], folders) if len(chosen) == 1 else chosen


def choose(wanted: str, found: Sequence[LocalApp]) -> list[LocalApp]:
    """Return the Apps of a name or a process, all without one; ConfigError when there is none."""
    if not found:
        raise ConfigError(NOBODY)
    chosen = [each for each in found if wanted in ("", each.name, str(each.pid), each.path.stem)]
    if not chosen:
        raise ConfigError(f"no App {wanted!r:.60} can be watched; there is {', '.join(each.words for each in found)}")
    return chosen


def _page(wanted: str) -> PageFeed:
    parts = urlsplit(wanted)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigError(f"{wanted!r:.100} is not the address of a page, such as http://127.0.0.1:8765")
    token = unquote(parts.fragment.partition("token=")[2]) or read_dashboard_token()
    path = parts.path if parts.path.endswith("/") else f"{parts.path}/"
    return PageFeed(f"{parts.scheme}://{parts.netloc}{path}", token)
