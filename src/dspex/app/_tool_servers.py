"""Tools from servers, for as long as a block lasts."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from dspex.app._tree import root_cause
from dspex.errors import ActorError, ConfigError, StartFailed
from dspex.programs import Tool
from dspex.protocols.lm import ToolSpec
from dspex.runtime import ActorRef, Backoff, ChildSpec, Runtime, Supervisor
from dspex.services.lm.transport import check_proxy
from dspex.services.tool_servers.mcp import (
    CallServerTool,
    ListServerTools,
    ServerAddress,
    ServerTool,
    ToolServer,
    check_extra,
)

if TYPE_CHECKING:
    from dspex.app._app import App

__all__ = ["ToolServerRun", "mcp_tools"]

_ANSWER = 10.0
"""Seconds for what the server's actor answers from memory."""
_LONGER = 1.0


def mcp_tools(
    app: App,
    server: str | Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    cwd: str | None = None,
    headers: Mapping[str, str] | None = None,
    proxy: str | None = None,
    timeout: float | None = 30.0,
    prefix: str = "",
    only: Callable[[str], bool] | None = None,
) -> ToolServerRun:
    """
    Connect to a server of tools that speaks the Model Context Protocol, for as long as the block lasts.

    For example::

        async with dspex.mcp_tools(app, ["python", "-m", "my_server"]) as tools:
            agent = dspex.ReAct("question -> answer", tools=tools)
            answer = await app.run(agent, question="...")

    A command is started as a process and ended with the block, or with the App if that closes first. A server that dies
    is started again, an address connected to again; calls meanwhile wait. A call under way is observed as a
    ``StepCrashed``, or made again where the server says that this changes nothing. Needs the extra ``mcp``.

    Args:
        app: A running App.
        server: A command with its arguments, or the http(s) address of a server (streamable HTTP).
        env: Variables for the command's environment.
        cwd: Where the command runs.
        headers: The headers of requests to the address, such as a token.
        proxy: The http(s) address of a proxy on the way to the address; ``"environment"`` goes by ``HTTPS_PROXY`` and
            its like, which are not looked at otherwise.
        timeout: Seconds that a call may take.
        prefix: Put before the names of the tools.
        only: Chooses tools by the names that the server gives them; None takes all.

    Raises:
        MissingExtra: The extra ``mcp`` is not installed.
        ConfigError: The command or the address makes no sense.
        AppNotRunning: When the block is entered: the App is not running.
        ToolServerFailed: When the block is entered: the server cannot be started, reached or understood.
    """
    check_extra()
    return ToolServerRun(app, _address(server, env or {}, cwd, headers or {}, proxy), timeout, prefix, only)


class ToolServerRun:
    """The block of ``mcp_tools``; it can be entered once at a time."""

    def __init__(
        self,
        app: App,
        address: ServerAddress,
        timeout: float | None,
        prefix: str,
        only: Callable[[str], bool] | None,
    ) -> None:
        self._app = app
        self._address = address
        self._timeout = timeout
        self._prefix = prefix
        self._only = only
        self._supervisor: ActorRef | None = None

    async def __aenter__(self) -> list[Tool]:
        """
        Connect, and return the tools.

        Cancellation: the server is stopped again.
        """
        runtime = self._app.runtime
        name = f"tool server {runtime.next_pid()}"
        spec = ChildSpec("server", ToolServer, (self._address,), name=name)
        try:
            self._supervisor = await runtime.start(
                Supervisor([spec], backoff=Backoff()), label=f"tools of {self._address}"
            )
        except StartFailed as error:
            raise root_cause(error) from error
        found: tuple[ServerTool, ...] = await runtime.named(name).call(ListServerTools(), timeout=_ANSWER)
        return [self._tool(runtime, name, each) for each in found if self._only is None or self._only(each.spec.name)]

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            with contextlib.suppress(ActorError):  # it ended with the App
                await supervisor.stop()

    def _tool(self, runtime: Runtime, server: str, told: ServerTool) -> Tool[..., object]:
        spec = ToolSpec(_model_name(self._prefix + told.spec.name), told.spec.description, told.spec.parameters)
        call = partial(_call, runtime, server, told.spec.name, self._timeout)
        return Tool.from_spec(spec, call, idempotent=told.repeatable, timeout=self._timeout)


async def _call(
    runtime: Runtime, server: str, name: str, timeout: float | None, arguments: Mapping[str, object]
) -> object:
    """
    Call a tool by its server's name; while that is being started again, wait for it.

    The step is out of time first; what the server still works on is given up a moment later.
    """
    patience = timeout + _LONGER if timeout is not None else None
    return await runtime.named(server).call(CallServerTool(name, arguments, patience), timeout=None)


def _model_name(name: str) -> str:
    """Return a name that models take."""
    return re.sub(r"[^A-Za-z0-9_-]", "_", name)[:64]


def _address(
    server: str | Sequence[str],
    env: Mapping[str, str],
    cwd: str | None,
    headers: Mapping[str, str],
    proxy: str | None,
) -> ServerAddress:
    if isinstance(server, str):
        if not re.match(r"https?://[^/]", server):
            raise ConfigError(f"server={server!r}: give an http(s) address, or a command as a list of its words")
        if env or cwd:
            raise ConfigError("env and cwd are for commands; an address takes headers")
        check_proxy(None if proxy == "environment" else proxy)
        return ServerAddress(url=server, headers=dict(headers), proxy=proxy)
    command = tuple(server)
    if not command or not all(isinstance(word, str) for word in command):
        raise ConfigError(f"server={server!r}: expected a command and its arguments, all texts")
    if headers or proxy is not None:
        raise ConfigError("headers and proxy are for an address; a command takes env")
    return ServerAddress(command, env=dict(env), cwd=cwd)
