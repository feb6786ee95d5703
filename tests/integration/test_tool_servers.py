"""Tools from a real server: a process of its own, over its pipes and over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import dspex
from dspex.errors import AppNotRunning, ConfigError, MissingExtra, StepCrashed, ToolServerFailed
from dspex.programs import Observation
from dspex.programs.tools.calling import call_tool
from dspex.protocols.content import ImagePart, ToolCall
from dspex.protocols.scope import current_scope
from dspex.testing import ScriptedLM
from tests.support.programs import until

SERVER = [sys.executable, "-m", "tests.support.tool_server"]
Call = Callable[..., Any]


class Calling(dspex.Module):
    """Calls a tool as an agent does."""

    def __init__(self, tools: list[dspex.Tool[..., Any]]) -> None:
        self.tools = {tool.name: tool for tool in tools}

    async def forward(self, name: str, arguments: dict[str, Any]) -> Observation:
        return await call_tool(self.tools, ToolCall("1", name, arguments), current_scope.get())


@asynccontextmanager
async def served(**settings: Any) -> AsyncIterator[tuple[dspex.App, Call]]:
    async with dspex.App() as app, dspex.mcp_tools(app, SERVER, **settings) as tools:
        next(tool for tool in tools if tool.name == "hang").timeout = 0.05

        async def call(name: str, **arguments: Any) -> Observation:
            return await app.run(Calling(tools), name=name, arguments=arguments)

        yield app, call


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_an_agent_uses_the_tools_of_a_server() -> None:
    """Described by the server, called in its process; the process ends with the block."""
    lm = ScriptedLM(
        {
            "react": [
                [{"tool": "add", "arguments": {"a": 2, "b": 3}}, {"tool": "process", "arguments": {}}],
                {"tool": "finish", "arguments": {}},
            ],
            "extract": [{"reasoning": "r", "answer": "5"}],
        }
    )
    async with dspex.App(lm=lm) as app:
        async with dspex.mcp_tools(app, SERVER) as tools:
            prediction = await app.run(dspex.ReAct("question -> answer", tools), question="2 + 3?")
            trajectory = dspex.details(prediction).trajectory
            assert trajectory is not None
            total, process = (int(each.observation.text) for each in list(trajectory)[:2])
            assert total == 5
            assert process != os.getpid()
            assert alive(process)
        await until(lambda: not alive(process), "the end of the server")
    spec = lm.requests[0].request.tools[0]
    assert (spec.name, spec.description) == ("add", "Add two numbers.")
    assert spec.parameters["properties"]["b"]["default"] == 1


async def test_servers_stand_in_the_tree_for_as_long_as_their_block_lasts() -> None:
    """Behind the App's own services; whether the App is ready is a question of those alone."""
    async with dspex.App() as app:
        alone = [each.label for each in app.tree().children]
        async with dspex.mcp_tools(app, SERVER):
            *others, server = app.tree().children
            assert [each.label for each in others] == alone
            assert server.label == f"tools of {sys.executable}"
            assert [each.note for each in server.children] == [f"{sys.executable}: 8 tools, 0 calls"]
            assert app.health()["ready"] is True
        assert [each.label for each in app.tree().children] == alone


async def test_what_a_server_says_is_an_observation() -> None:
    """Its own errors, arguments it refuses, time that is over; images stay images."""
    async with served() as (_, call):
        assert "fail" in (await call("fail", why="badly")).text
        assert (await call("add", a="many")).text.startswith("Error: ToolError: ")
        assert (await call("hang")).text == "Error: ToolTimeout: hang did not end within 0.05 s"
        assert (await call("add", a=1)).text == "2"
        assert (await call("picture")).content == (ImagePart("image/png", b"\x89PNG\r\n\x1a\n"),)
        assert "the result of garbage has data that is not base64" in (await call("garbage")).text


@pytest.mark.slow
async def test_a_result_that_no_model_can_read_is_an_error() -> None:
    """Its size is named; the server goes on."""
    async with dspex.App() as app, dspex.mcp_tools(app, SERVER) as tools:
        program = Calling(tools)
        observed = await app.run(program, name="flood", arguments={"letters": 5_000_000})
        assert observed.text.startswith("Error: ToolError: the result of flood has ")
        assert "characters, more than 4,194,304" in observed.text
        assert (await app.run(program, name="add", arguments={"a": 4})).text == "5"


@pytest.mark.slow
async def test_server_that_dies_in_a_call_is_started_again() -> None:
    """The call may not be repeated, so it crashes; the next one is answered by another process."""
    async with served() as (_, call):
        first = (await call("process")).text
        crashed = await call("die_now")
        second = (await call("process")).text

    assert isinstance(crashed.error, StepCrashed)
    assert first != second


@pytest.mark.slow
async def test_server_killed_between_calls_is_noticed_and_started_again() -> None:
    """Nobody is told: the next call just works."""
    async with served() as (app, call):
        first = int((await call("process")).text)
        restarts: list[object] = []
        app.telemetry.attach("dspex.child.restart", lambda *facts: restarts.append(facts))
        os.kill(first, signal.SIGKILL)
        await until(lambda: restarts, "the restart")
        observation = await call("add", a=1)
        assert (observation.text, observation.error) == ("2", None)
        assert int((await call("process")).text) != first


@pytest.mark.slow
async def test_server_ends_with_the_app() -> None:
    """Also when the block is left later."""
    app = dspex.App()
    await app.start()
    block = dspex.mcp_tools(app, SERVER)
    tools = await block.__aenter__()
    process = int((await app.run(Calling(tools), name="process", arguments={})).text)
    await app.aclose()
    await until(lambda: not alive(process), "the end of the server")
    await block.__aexit__(None, None, None)


@pytest.mark.slow
async def test_tools_can_be_chosen_and_renamed() -> None:
    """By their own names; names that models do not take are changed."""
    async with dspex.App() as app:
        async with dspex.mcp_tools(app, SERVER, prefix="birds.", only=lambda name: name in ("add", "die.now")) as tools:
            assert [tool.name for tool in tools] == ["birds_add", "birds_die_now"]
            assert [tool.idempotent for tool in tools] == [False, False]
        async with dspex.mcp_tools(app, SERVER, only=lambda name: name == "process", timeout=3) as tools:
            assert [(tool.idempotent, tool.timeout) for tool in tools] == [(True, 3)]


@pytest.mark.parametrize("server", [["/no/such/program"], [sys.executable, "-c", "raise SystemExit(3)"]])
async def test_server_that_cannot_be_started_is_a_typed_error(server: list[str]) -> None:
    """At once, and nothing is left of it."""
    async with dspex.App() as app:
        with pytest.raises(ToolServerFailed, match=server[0]):
            async with dspex.mcp_tools(app, server):
                pass


async def test_wrong_use_is_told_early(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing extra, an App that does not run, an address that is none."""
    app = dspex.App()
    wrong: list[str | list[str]] = ["server.py", [], "ftp://x"]
    for server in wrong:
        with pytest.raises(ConfigError, match="server="):
            dspex.mcp_tools(app, server)
    with pytest.raises(ConfigError, match="headers"):
        dspex.mcp_tools(app, SERVER, headers={"a": "b"})
    with pytest.raises(ConfigError, match="env"):
        dspex.mcp_tools(app, "http://localhost/mcp", env={"a": "b"})
    with pytest.raises(AppNotRunning):
        async with dspex.mcp_tools(app, SERVER):
            pass
    monkeypatch.setitem(sys.modules, "mcp", None)
    with pytest.raises(MissingExtra, match=r"dspex\[mcp\]"):
        dspex.mcp_tools(app, SERVER)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.mark.slow
async def test_tools_over_http(monkeypatch: pytest.MonkeyPatch) -> None:
    """An address where nobody listens is a typed error; the environment's proxy is asked only when told so."""
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")  # nobody is there
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    port = _free_port()
    url = f"http://127.0.0.1:{port}/mcp"
    async with dspex.App() as app:
        with pytest.raises(ToolServerFailed):
            async with dspex.mcp_tools(app, url):
                pass
        async with listening(port), dspex.mcp_tools(app, url, headers={"authorization": "Bearer key"}) as tools:
            program = Calling(tools)
            assert (await app.run(program, name="add", arguments={"a": 4})).text == "5"
            assert (await app.run(program, name="add", arguments={"a": "x"})).text.startswith("Error: ToolError")
            with pytest.raises(ToolServerFailed):
                async with dspex.mcp_tools(app, url, proxy="environment"):
                    pass
            with pytest.raises(ToolServerFailed):
                async with dspex.mcp_tools(app, url, proxy="http://127.0.0.1:1"):
                    pass
            with pytest.raises(ConfigError, match="proxy="):
                dspex.mcp_tools(app, url, proxy="socks5://a")
            with pytest.raises(ConfigError, match="proxy are for an address"):
                dspex.mcp_tools(app, SERVER, proxy="http://127.0.0.1:1")


@pytest.mark.slow
async def test_server_over_http_that_was_started_again_is_connected_to_again() -> None:
    """The call that finds it gone says so; later ones have a new connection."""
    port = _free_port()
    async with dspex.App() as app:
        async with contextlib.AsyncExitStack() as first:
            await first.enter_async_context(listening(port))
            block = dspex.mcp_tools(app, f"http://127.0.0.1:{port}/mcp")
            program = Calling(await block.__aenter__())
        assert (await app.run(program, name="add", arguments={"a": 4})).error is not None
        async with listening(port):
            async with asyncio.timeout(30):
                observed = await app.run(program, name="add", arguments={"a": 4})
                while observed.error is not None:
                    observed = await app.run(program, name="add", arguments={"a": 4})
            assert observed.text == "5"
            await block.__aexit__(None, None, None)


@asynccontextmanager
async def listening(port: int) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(*SERVER, str(port))
    try:
        await until(lambda: _listens(port), "the server", seconds=30)
        yield
    finally:
        process.kill()
        await process.wait()


def _listens(port: int) -> bool:
    with socket.socket() as trying:
        return trying.connect_ex(("127.0.0.1", port)) == 0
