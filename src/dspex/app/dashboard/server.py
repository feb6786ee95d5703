"""The actor that serves the page: it owns the socket, and is restarted like any other."""

from __future__ import annotations

import asyncio
import contextlib
import importlib
import importlib.util
import socket
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dspex._random import fresh_token
from dspex.app.dashboard.actions import DASHBOARD
from dspex.app.dashboard.hub import Audience
from dspex.app.dashboard.notes import Notes
from dspex.app.dashboard.options import Dashboard
from dspex.errors import ConfigError, MissingExtra
from dspex.runtime import ChildSpec, Down, LibraryActor, Next, Stop

if TYPE_CHECKING:
    from dspex.app._tree import AppTree

__all__ = ["Door", "check_extra", "dashboard_spec"]

_LOADED = ("uvicorn", "uvicorn.loops.auto", "uvicorn.protocols.http.auto", "dspex.app.dashboard.web")

WHILE_CLOSING = 0.3
"""Seconds that answers under way have to end when the App closes."""


class Door:
    """
    The data that outlives the actor of the page: its options, its token and the port of its socket.

    Args:
        options: The page's.
    """

    def __init__(self, options: Dashboard) -> None:
        self.options = options
        self.token = options.token if options.token is not None else fresh_token()
        self.port = options.port
        """Where it listens; the one that was found free, once it does."""

    @property
    def url(self) -> str:
        """The address to open; what is behind the ``#`` stays in the browser, and lets it act."""
        host = self.options.address.rpartition(":")[0]
        return f"http://{host}:{self.port}/#token={self.token}"


def check_extra() -> None:
    """Load what serves the page, here and not on a running loop; MissingExtra where it is not installed."""
    if any(importlib.util.find_spec(name) is None for name in ("starlette", "uvicorn")):
        raise MissingExtra("dashboard", "the dashboard")
    for name in _LOADED:
        importlib.import_module(name)


def dashboard_spec(tree: AppTree, door: Door) -> ChildSpec:
    """Return the child spec of the page's actor."""
    return ChildSpec(DASHBOARD, DashboardServer, (tree, door), name=DASHBOARD)


class DashboardServer(LibraryActor):
    """Serves the page in a task of its own; when that ends, so does the actor, and its successor listens anew."""

    def __init__(self, tree: AppTree, door: Door) -> None:
        self._tree = tree
        self._door = door
        self._audience: Audience | None = None
        self._monitor = 0

    async def init(self) -> None:
        """Listen; ConfigError when the address is taken or is not one of this machine's."""
        uvicorn, web = importlib.import_module("uvicorn"), importlib.import_module("dspex.app.dashboard.web")
        tree, door = self._tree, self._door
        notes = tree.watch(capture=door.options.capture, note=door.options.note)
        audience = self._audience = Audience(tree.hub)
        listening = _listen(door)
        serving = self.own(_Serving(audience, listening), _end)
        door.port = listening.getsockname()[1]

        def find() -> tuple[AppTree, Notes, Audience]:
            return tree, notes, audience

        closed = door.options.token is not None
        app = web.web_app(web.Watched(find), door.options, door.token, closed=closed)
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            proxy_headers=False,
            server_header=False,
            ws="none",
            limit_concurrency=200,
        )
        server = serving.server = uvicorn.Server(config)
        server.capture_signals = _no_signals  # signals are the program's, not its page's
        task = self.spawn_task(server.serve, [listening], label="serve")
        self._monitor = task.ref.monitor()

    async def handle_info(self, message: object) -> Next:
        """End when the server has ended."""
        if isinstance(message, Down) and message.monitor == self._monitor:
            return Stop()
        return await super().handle_info(message)

    def describe(self) -> str:
        """Tell the address and how many look."""
        host = self._door.options.address.rpartition(":")[0]
        viewers = self._audience.viewers if self._audience is not None else 0
        return f"http://{host}:{self._door.port}/, {viewers} looking"


@dataclass(slots=True, eq=False)
class _Serving:
    """The things that have to be closed, whenever the actor ends."""

    audience: Audience
    listening: socket.socket
    server: Any = None  # a uvicorn.Server


async def _end(serving: _Serving) -> None:
    """
    Close what uvicorn has opened, however its actor ended: its connections and tasks are not below any of ours.

    The streams of whoever looks end by themselves once their door is closed; what has not ended then is cancelled.
    """
    serving.audience.close()
    server = serving.server
    if server is not None:
        await _end_server(server)
    serving.listening.close()  # after the loop has stopped to look at it


async def _end_server(server: Any) -> None:
    for each in getattr(server, "servers", ()):
        each.close()
    state = server.server_state
    for connection in tuple(state.connections):
        connection.shutdown()
    if state.tasks:
        _, slow = await asyncio.wait(tuple(state.tasks), timeout=WHILE_CLOSING)
        for task in slow:
            task.cancel()
        if slow:
            await asyncio.wait(slow)
    for connection in tuple(state.connections):
        connection.transport.abort()


def _listen(door: Door) -> socket.socket:
    host, port = door.options.host, door.port
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(100)
        listening.setblocking(False)
    except OSError as error:
        listening.close()
        where = f"{door.options.address.rpartition(':')[0]}:{port}"
        raise ConfigError(f"the dashboard cannot listen on {where}: {error.strerror or error}") from error
    return listening


@contextlib.contextmanager
def _no_signals() -> Iterator[None]:
    yield
