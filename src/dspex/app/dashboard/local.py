"""The actor by which ``dspex top`` watches an App: it owns a local socket, and is restarted like any other."""

from __future__ import annotations

import asyncio
import json
import os
import re
import socket
import sys
from contextlib import aclosing, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dspex.app.config import read_socket_folders, read_watch
from dspex.app.dashboard.actions import NotThere, act
from dspex.app.dashboard.hub import Audience, encoded
from dspex.app.dashboard.shapes import VERSION
from dspex.app.dashboard.sockets import NAME, Bound, bind, is_allowed
from dspex.errors import ActorError, ConfigError, OptimizationError
from dspex.runtime import ChildSpec, LibraryActor

if TYPE_CHECKING:
    from dspex.app._tree import AppTree

__all__ = ["WATCH", "watch_name", "watch_spec"]

WATCH: Final = "watch"
"""The name under which the actor of the socket is registered."""

MOST: Final = 16
"""Viewers at once; one more is sent away."""

MOST_ASKED: Final = 16 * 1024
"""Bytes of one line that asks for something."""

AGAIN: Final = 0.5
"""Seconds after which connections are taken again, when the system could give none."""

_YES = frozenset({"1", "true", "yes", "on"})
_NO = frozenset({"", "0", "false", "no", "off"})
_UNFIT = re.compile(r"[^A-Za-z0-9_-]+")


def watch_name(given: bool | str | None) -> str | None:
    """
    Return the name by which an App can be watched; None when it cannot.

    Args:
        given: The App's ``watch``; None goes by the environment's ``DSPEX_WATCH``.

    Raises:
        ConfigError: It is not a name.
    """
    if given is None:
        told = read_watch()
        given = told.lower() in _YES or (told if told.lower() not in _NO else False)
    if isinstance(given, bool):
        return _program() if given else None
    if not isinstance(given, str) or not NAME.fullmatch(given):
        raise ConfigError(f"watch={given!r:.60} is not a name of up to 40 letters, digits, _ and -")
    return given


def _program() -> str:
    """Return the name of the program that runs, or of the folder it is in where that says more."""
    path = Path(sys.argv[0] if sys.argv else "")
    stem = path.parent.name if path.name == "__main__.py" else path.stem
    return _UNFIT.sub("-", stem).strip("-_")[:40] or "python"


def watch_spec(tree: AppTree, name: str) -> ChildSpec:
    """Return the child spec of the socket's actor."""
    return ChildSpec(WATCH, WatchServer, (tree, name), name=WATCH)


class WatchServer(LibraryActor):
    """
    Sends snapshots and their changes, as JSON Lines, to whoever connects, and does what they ask for.

    A line ``{"act": {"what": …, "whom": …, "how": …, "more": {…}}}`` is answered by ``{"acted": null}``, or by the
    reason why it was not done. The socket is this user's alone, so nobody has to show a token.
    """

    def __init__(self, tree: AppTree, name: str) -> None:
        self._tree = tree
        self._name = name
        self._viewers: set[socket.socket] = set()
        self._path = ""

    async def init(self) -> None:
        """Listen; ConfigError when no socket can be made."""
        self._tree.watch()
        audience = Audience(self._tree.hub)
        bound = bind(read_socket_folders(), self._name)
        self.own(bound, Bound.close)
        self.own(audience, Audience.close)
        self.own(self._viewers, _close)  # whose task is killed before it begins would close nothing
        self._path = str(bound.path)
        self.spawn_task(self._take, bound.listening, audience, label="accept")

    def describe(self) -> str:
        """Tell the socket and how many look."""
        return f"{self._path}, {len(self._viewers)} looking"

    async def _take(self, listening: socket.socket, audience: Audience) -> None:
        """Take connections, one after the other."""
        loop, runtime = self._tree.runtime.loop, self._tree.runtime
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError:  # no more files, for example
                await runtime.sleep(AGAIN)
                continue
            if len(self._viewers) >= MOST or not is_allowed(connection):
                connection.close()
                continue
            self._viewers.add(connection)
            self.spawn_task(self._tell, connection, audience, label="viewer")

    async def _tell(self, connection: socket.socket, audience: Audience) -> None:
        """Send what there is to see, until the viewer has gone; a slow one is not sent what it has missed."""
        loop = self._tree.runtime.loop
        greeting = {"dspex": "watch", "version": VERSION, "name": self._name, "pid": os.getpid()}
        sending = asyncio.Lock()  # what was done is told between two updates, never within one
        hearing = self.spawn_task(self._hear, connection, sending, label="hearing")
        try:
            with suppress(OSError):  # the viewer has gone
                await loop.sock_sendall(connection, encoded(greeting) + b"\n")
                async with aclosing(audience.lines()) as lines:
                    async for line in lines:
                        async with sending:
                            await loop.sock_sendall(connection, line)
        finally:
            # Dead before its socket is closed: the loop would wait for the number of a closed one for ever.
            await self._tree.runtime.kill_tasks((hearing,))
            self._viewers.discard(connection)
            connection.close()

    async def _hear(self, connection: socket.socket, sending: asyncio.Lock) -> None:
        """Do what a viewer asks for, one thing after the other, until it says nothing more."""
        loop, heard = self._tree.runtime.loop, b""
        with suppress(OSError):  # the viewer has gone
            while len(heard) <= MOST_ASKED and (more := await loop.sock_recv(connection, 4_096)):
                heard += more
                *lines, heard = heard.split(b"\n")
                for line in lines:
                    told = encoded({"acted": await self._act(line)}) + b"\n"
                    async with sending:
                        await loop.sock_sendall(connection, told)

    async def _act(self, line: bytes) -> str | None:
        """Do what a line asks for; returns why it was not done."""
        try:
            wanted = json.loads(line)["act"]
            what, whom, how, more = (wanted[each] for each in ("what", "whom", "how", "more"))
        except (ValueError, LookupError, TypeError, RecursionError):
            return "this is not an act"
        if not all(isinstance(each, str) for each in (what, whom, how)) or not isinstance(more, dict):
            return "this is not an act"
        try:
            await act(self._tree, what, whom, how, more)
        except (NotThere, ConfigError, OptimizationError, ActorError) as error:
            return str(error)
        return None


def _close(connections: set[socket.socket]) -> None:
    for each in connections:
        each.close()
