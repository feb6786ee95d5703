"""One server of tools that speaks the Model Context Protocol: an actor owns the connection and the server's process."""

from __future__ import annotations

import asyncio
import base64
import importlib.util
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

from dspex.errors import MissingExtra, ToolError, ToolServerFailed
from dspex.protocols.content import FilePart, ImagePart, TextPart
from dspex.protocols.lm import ToolSpec
from dspex.runtime import ExitReason, From, LibraryActor, Next, NoReply, Reply, TaskProcess, WorkerThread

if TYPE_CHECKING:
    from mcp import ClientSession, types

__all__ = ["CallServerTool", "ListServerTools", "ServerAddress", "ServerTool", "ToolServer", "check_extra"]

_HANDSHAKE = 30.0
"""Seconds until a server that does not introduce itself has failed."""
_CLOSED = -32000
"""The error code with which the library ends calls whose connection is gone."""
_MOST = 4 * 2**20
"""Bytes of text and decoded data that one result may have: a model is to read it."""
_TIMEOUT, _SILENCE = 30.0, 300.0
"""Seconds over HTTP, as the library has them: for connecting, and for a stream that says nothing."""
_ANSWERED = range(-32768, -32599)
"""The error codes of a server that is there and has understood."""


@dataclass(frozen=True, slots=True)
class ServerAddress:
    """
    The way to reach a server: a command that is started and spoken to over its pipes, or an address.

    Attributes:
        command: The program and its arguments; empty for an address.
        url: Where it listens (streamable HTTP); empty for a command.
        env: Variables of the command's environment, beside the few that are passed on by default.
        cwd: Where the command runs.
        headers: The headers of each request; never shown.
        proxy: An address, ``"environment"``, or None for no proxy, whatever the environment says; never shown.
    """

    command: tuple[str, ...] = ()
    url: str = ""
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    cwd: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    proxy: str | None = field(default=None, repr=False)

    def __str__(self) -> str:
        return self.url or self.command[0]


@dataclass(frozen=True, slots=True)
class ServerTool:
    """A tool as its server describes it; ``repeatable`` where that says a second call changes nothing."""

    spec: ToolSpec
    repeatable: bool


@dataclass(frozen=True, slots=True)
class ListServerTools:
    """Ask for the server's tools; answered by a tuple of ``ServerTool``."""


@dataclass(frozen=True, slots=True)
class CallServerTool:
    """Ask for a call; answered by text or content parts, or by ``ToolError`` where the tool says that it failed."""

    name: str
    arguments: Mapping[str, object]  # JSON values
    timeout: float | None


@dataclass(frozen=True, slots=True)
class _Gone:
    """The connection has ended."""

    why: Exception


class ToolServer(LibraryActor):
    """
    Keeps the connection in a task of its own, and answers each call from a task of its own.

    A connection that ends is a crash: who has called is told, and the supervisor connects again.
    """

    trap_exit = True

    def __init__(self, address: ServerAddress) -> None:
        self._address = address
        self._session: ClientSession | None = None
        self._tools: tuple[ServerTool, ...] = ()
        self._connection: TaskProcess | None = None
        self._leave = asyncio.Event()
        self._calls = 0

    async def init(self) -> None:
        """Connect, and learn the tools; ToolServerFailed when that cannot be done."""
        ready: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._connection = self.spawn_task(self._connect, ready, label="connection")
        try:
            async with asyncio.timeout(_HANDSHAKE):
                await ready
        except TimeoutError as error:
            raise ToolServerFailed(str(self._address), f"it said nothing for {_HANDSHAKE:g} s") from error

    async def handle_call(self, message: object, sender: From) -> Next:
        """Answer from memory, or from a task."""
        if type(message) is ListServerTools:
            return Reply(self._tools)
        if type(message) is not CallServerTool:
            return self.refuse(message, sender)
        self.spawn_task(self._call, message, sender, label=f"call {message.name}")
        return NoReply()

    async def handle_info(self, message: object) -> Next:
        """Crash when the connection has ended."""
        if type(message) is _Gone:
            raise message.why
        return await super().handle_info(message)

    async def terminate(self, reason: ExitReason) -> None:
        """Leave the connection in the order that the library wants, which ends the server's process."""
        self._leave.set()
        if self._connection is not None:
            await self._connection.wait_exit(None)

    def describe(self) -> str:
        """Tell where the server is and how many calls it has answered."""
        return f"{self._address}: {len(self._tools)} tools, {self._calls} calls"

    # --- the connection, in its own task ------------------------------------------------------------------------

    async def _connect(self, ready: asyncio.Future[None]) -> None:
        why: Exception = ToolServerFailed(str(self._address), "the connection was closed")
        try:
            await _import_library()
            async with _session(self._address, self._leave.set) as session:
                self._tools = await _list_tools(session)
                self._session = session
                if not ready.done():
                    ready.set_result(None)
                await self._leave.wait()
        except Exception as error:  # noqa: BLE001 - whatever ends a connection is the reason of the actor's crash
            why = _as_server_error(self._address, error)
        finally:
            if not ready.done():
                ready.set_exception(why)
            elif not ready.cancelled():
                self.ref.send(_Gone(why))

    async def _call(self, message: CallServerTool, sender: From) -> None:
        try:
            async with asyncio.timeout(message.timeout):
                assert self._session is not None  # connected before the first call is taken
                answer = await self._session.call_tool(message.name, dict(message.arguments))
        except TimeoutError as error:
            sender.fail(error)
            return
        except Exception as error:  # noqa: BLE001 - what the library raises becomes the caller's typed error
            code = getattr(getattr(error, "error", None), "code", None)
            if code == _CLOSED:
                self._leave.set()  # whether the call was made, nobody knows: the caller hears of our crash
                return
            sender.fail(_as_server_error(self._address, error))
            if self._address.url and code not in _ANSWERED:
                self._leave.set()  # a connection over HTTP does not end by itself: the next call has a new one
            return
        self._calls += 1
        try:
            content = _content(answer, message.name)
        except ToolError as error:
            sender.fail(error)
            return
        if _read(answer, "is_error", "isError"):
            text = content if isinstance(content, str) else "".join(str(part) for part in content)
            sender.fail(ToolError(text or f"{message.name} failed"))
        else:
            sender.reply(content)


# --- the library ----------------------------------------------------------------------------------------------


def check_extra() -> None:
    """Look whether the library is there, without importing it; MissingExtra when it is not."""
    try:
        found = importlib.util.find_spec("mcp") is not None
    except ValueError:  # somebody has ruled it out
        found = False
    if not found:
        raise MissingExtra("mcp", "tools from a server")


async def _import_library() -> None:
    """Import the library in a thread: it takes most of a second, for which the loop must not stand still."""
    worker = WorkerThread("dspex-import")
    try:
        await worker.run(_load)
    finally:
        await worker.aclose()


def _load() -> None:
    import mcp.client.streamable_http  # noqa: F401 - imported to be there


@asynccontextmanager
async def _session(address: ServerAddress, ended: Callable[[], None]) -> AsyncIterator[ClientSession]:
    from mcp import ClientSession

    async with _streams(address) as streams:
        reading, writing = streams[0], streams[1]
        async with ClientSession(_MessageStream(reading, ended), writing) as session:
            await session.initialize()
            yield session


def _streams(address: ServerAddress) -> AbstractAsyncContextManager[Any]:
    if address.command:
        from mcp import StdioServerParameters, stdio_client

        command, *args = address.command
        env = dict(address.env) or None
        return stdio_client(StdioServerParameters(command=command, args=args, env=env, cwd=address.cwd))
    return _http_streams(address)


@asynccontextmanager
async def _http_streams(address: ServerAddress) -> AsyncIterator[object]:
    from mcp.client import streamable_http
    from mcp.shared import _httpx_utils

    headers = dict(address.headers) or None
    library: Any = getattr(_httpx_utils, "httpx2", None) or getattr(_httpx_utils, "httpx")  # noqa: B009 - older ones

    def make_client(headers: object = None, timeout: object = None, auth: object = None) -> Any:
        from_environment = address.proxy == "environment"
        return library.AsyncClient(
            headers=headers,
            timeout=timeout or library.Timeout(_TIMEOUT, read=_SILENCE),
            auth=auth,
            trust_env=from_environment,
            proxy=None if from_environment else address.proxy,
            follow_redirects=library.__name__ == "httpx",  # httpx2 leaves them to the library, which stays at its host
        )

    if hasattr(streamable_http, "streamable_http_client"):
        async with (
            make_client(headers=headers) as client,
            streamable_http.streamable_http_client(address.url, http_client=client) as streams,
        ):
            yield streams
    else:  # older releases
        connect: Any = getattr(streamable_http, "streamablehttp_client")  # noqa: B009 - newer releases lack it
        async with connect(address.url, headers=headers, httpx_client_factory=make_client) as streams:
            yield streams


class _MessageStream:
    """The stream of a server's messages; tells when it ends, which the library keeps to itself between calls."""

    def __init__(self, stream: Any, ended: Callable[[], None]) -> None:
        self._stream = stream
        self._ended = ended

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    async def __aenter__(self) -> Self:
        await self._stream.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> Any:
        return await self._stream.__aexit__(*error)

    def __aiter__(self) -> _MessageStream:
        return self

    async def __anext__(self) -> Any:
        try:
            return await self._stream.__anext__()
        except StopAsyncIteration:
            self._ended()
            raise

    async def receive(self) -> Any:
        return await self._stream.receive()

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _list_tools(session: ClientSession) -> tuple[ServerTool, ...]:
    """Return all tools, page by page."""
    found: list[ServerTool] = []
    page = await session.list_tools()
    while True:
        found += [_server_tool(each) for each in page.tools]
        cursor = _read(page, "next_cursor", "nextCursor")
        if not cursor:
            return tuple(found)
        from mcp.types import PaginatedRequestParams

        page = await session.list_tools(params=PaginatedRequestParams(cursor=cursor))


def _server_tool(tool: types.Tool) -> ServerTool:
    hints = tool.annotations
    repeatable = bool(
        _read(hints, "read_only_hint", "readOnlyHint") or _read(hints, "idempotent_hint", "idempotentHint")
    )
    return ServerTool(
        ToolSpec(tool.name, tool.description or "", dict(_read(tool, "input_schema", "inputSchema"))), repeatable
    )


def _read(of: object, name: str, old_name: str) -> Any:
    """Return an attribute by the name that it has in the release that is installed."""
    return getattr(of, name, getattr(of, old_name, None))


def _content(answer: types.CallToolResult, tool: str) -> str | tuple[TextPart | ImagePart | FilePart, ...]:
    """
    Return what a tool gave: its text, or parts where there is more.

    Raises:
        ToolError: It is too much for a model to read, or holds data that is not base64.
    """
    sizes = [len(text) for each in answer.content for text in _texts(each)]
    if sum(sizes) > _MOST:
        raise ToolError(f"the result of {tool} has {sum(sizes):,} characters, more than {_MOST:,}: ask for less of it")
    parts: list[TextPart | ImagePart | FilePart] = []
    for each in answer.content:
        media_type = _read(each, "mime_type", "mimeType") or ""
        resource = getattr(each, "resource", None)
        if each.type == "text":
            parts.append(TextPart(each.text))
        elif each.type == "image":
            parts.append(ImagePart(media_type, _decoded(each.data, tool)))
        elif resource is not None and getattr(resource, "text", None) is not None:
            parts.append(TextPart(resource.text))
        elif resource is not None and getattr(resource, "blob", None) is not None:
            kind = _read(resource, "mime_type", "mimeType") or "application/octet-stream"
            parts.append(FilePart(kind, _decoded(resource.blob, tool), name=str(resource.uri)))
        else:
            parts.append(TextPart(f"({each.type} {getattr(each, 'uri', media_type)})"))
    if all(isinstance(part, TextPart) for part in parts):
        return "\n".join(part.text for part in parts if isinstance(part, TextPart))
    return tuple(parts)


def _texts(part: object) -> list[str]:
    """Return the texts and the data of one part of a result, as they came."""
    resource = getattr(part, "resource", None)
    found = [getattr(part, "text", None), getattr(part, "data", None)]
    found += [getattr(resource, "text", None), getattr(resource, "blob", None)]
    return [each for each in found if isinstance(each, str)]


def _decoded(data: str, tool: str) -> bytes:
    try:
        return base64.b64decode(data, validate=True)
    except ValueError as error:
        raise ToolError(f"the result of {tool} has data that is not base64: {error}") from error


def _as_server_error(address: ServerAddress, error: BaseException) -> Exception:
    while isinstance(error, BaseExceptionGroup) and error.exceptions:
        error = error.exceptions[0]
    if isinstance(error, (ToolServerFailed, MissingExtra)):
        return error
    failed = ToolServerFailed(str(address), f"{type(error).__name__}: {error}")
    failed.__cause__ = error
    return failed
