"""Every failure that a server or a proxy can make shows the key nowhere: no cause, context or variable of a frame."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import socket
import ssl
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import cast

import httpx
import pytest

from dspex.errors import DspexError
from dspex.protocols.model import Secret
from dspex.services.lm._http import HttpReply
from dspex.services.lm.transport import HttpxTransport, Timeouts, Transport
from dspex.services.lm.wires._headers import bearer
from tests.support.transports import (
    OK,
    PEM,
    Answer,
    Opener,
    Server,
    hang,
    ok,
    reset,
    say,
    say_and_close,
    serving,
    users,
    with_h11,
    with_httptools,
)

CANARY = "canary-key-4711-do-not-tell"
PASSWORD = "canary-password"
SECRETS = (CANARY, PASSWORD, "bWU6Y2FuYXJ5LXBhc3N3b3Jk")
OWN_WORDS = ("dspex.", "builtins", "socket", "ssl", "asyncio.exceptions")


@pytest.fixture(params=[with_h11, with_httptools])
def opened(request: pytest.FixtureRequest) -> Opener:
    """Our transport, with each parser."""
    return cast("Opener", request.param)


@pytest.fixture(params=[with_h11, with_httptools, users])
def any_opened(request: pytest.FixtureRequest) -> Opener:
    """Ours, and one of httpx's brought by the user."""
    return cast("Opener", request.param)


def linked(error: BaseException | None, seen: list[BaseException]) -> list[BaseException]:
    """Return an exception and all that it came from: causes, contexts, and exceptions among arguments."""
    if error is None or any(each is error for each in seen):
        return seen
    seen.append(error)
    for other in (error.__cause__, error.__context__, *error.args, *vars(error).values()):
        if isinstance(other, BaseException) or other is None:
            linked(other, seen)
    return seen


def shown(value: object) -> str:
    """Return how a value shows itself; of the large bodies, which would hold the loop up, the bytes."""
    return value.decode("latin-1") if type(value) is bytes else repr(value)


def check(error: BaseException) -> None:
    """Fail if a secret can be read anywhere, or if an exception of another library's is among the causes."""
    for link in linked(error, []):
        assert type(link).__module__.startswith(OWN_WORDS), f"{type(link)} came out"
        said = [str(link), repr(link), repr(vars(link)), *map(repr, getattr(link, "__notes__", ()))]
        for frame, line in traceback.walk_tb(link.__traceback__):
            if frame.f_globals["__name__"] != __name__:
                where = f"{frame.f_code.co_qualname}, line {line}: "
                said += [f"{where}{name} = {shown(value)}" for name, value in frame.f_locals.items()]
        for each in said:
            assert not any(secret in each for secret in SECRETS), each[:400]


def ask(transport: Transport, url: str, body: bytes = b"{}", timeouts: Timeouts | None = None) -> Awaitable[HttpReply]:
    headers = bearer(Secret(CANARY), idempotency_key="r1", attempt=1)
    return transport.post(url, headers, body, timeouts)


async def fails(asking: Awaitable[object]) -> BaseException:
    with pytest.raises((DspexError, asyncio.CancelledError)) as caught:
        await asking
    check(caught.value)
    return caught.value


PACKED = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nContent-Length: 4\r\n\r\nnope"
ANSWERS: dict[str, Answer] = {
    "nothing": say_and_close(b""),
    "cut in its head": say_and_close(OK[:20]),
    "cut in its body": say_and_close(OK[:-1]),
    "reset": reset,
    "another protocol": say_and_close(b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    "two lengths": say(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}"),
    "a bad chunk": say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"),
    "a bad trailer": say(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nx\r\n\r\n"),
    "badly packed": say(PACKED % b"gzip"),
    "packed twice": say(PACKED % b"gzip, gzip"),
    "packed in an unknown way": say(PACKED % b"br"),
    "too large": say(b"HTTP/1.1 200 OK\r\nContent-Length: 99999999\r\n\r\n"),
    "too large unpacked": say(b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n" + gzip.compress(bytes(2**21))),
    "silence": hang,
    "silence in its head": say(OK[:20]),
    "silence in its body": say(OK[:-1]),
}
"""An answer's failures by name; silences are ended by a timeout."""


@pytest.mark.parametrize("timeouts", [Timeouts(read=0.05), Timeouts(read=0.05, first_byte=0.05)], ids=["read", "first"])
@pytest.mark.parametrize("name", ANSWERS)
async def test_what_a_server_can_do(any_opened: Opener, name: str, timeouts: Timeouts) -> None:
    async with serving(ANSWERS[name]) as server, any_opened(max_body=2**20) as transport:
        await fails(ask(transport, server.url, timeouts=timeouts))


@pytest.mark.parametrize("name", ANSWERS)
async def test_what_a_server_can_do_on_a_connection_that_has_served(opened: Opener, name: str) -> None:
    """The second sending fails, too."""
    async with serving(ok, ANSWERS[name]) as server, opened(max_body=2**20) as transport:
        await ask(transport, server.url)
        await fails(ask(transport, server.url, timeouts=Timeouts(read=0.05)))


@pytest.mark.parametrize("name", ANSWERS)
async def test_what_a_server_can_do_in_a_stream(any_opened: Opener, name: str) -> None:
    async def read(transport: Transport, server: Server) -> None:
        headers = bearer(Secret(CANARY), idempotency_key="r1", attempt=1)
        async with transport.stream(server.url, headers, b"{}", Timeouts(read=0.05)) as answer:
            async for _ in answer:
                pass

    async with serving(ANSWERS[name]) as server, any_opened(max_body=2**20) as transport:
        await fails(read(transport, server))


async def test_two_answers_to_one_question(opened: Opener) -> None:
    async with serving(ok, say(OK + OK)) as server, opened() as transport:
        await ask(transport, server.url)
        await fails(ask(transport, server.url))


async def test_no_server(any_opened: Opener) -> None:
    """Refused, and a name that nobody knows."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        async with any_opened() as transport:
            refused = await fails(ask(transport, f"http://127.0.0.1:{unused.getsockname()[1]}/v1"))
            assert isinstance(refused.__cause__, ConnectionRefusedError)
            await fails(ask(transport, "http://nobody.invalid/v1"))
            await fails(ask(transport, f"http://{'a' * 70}.invalid/v1"))


async def test_an_untrusted_certificate(any_opened: Opener, tls: ssl.SSLContext) -> None:
    async with serving(ok, tls=tls) as server, any_opened() as transport:
        assert isinstance((await fails(ask(transport, server.url))).__cause__, ssl.SSLError)


async def test_a_server_that_does_not_read(any_opened: Opener) -> None:
    """The request, key included, waits in a buffer when its time is over."""
    async with serving(hang) as server, any_opened() as transport:
        asking = asyncio.ensure_future(fails(ask(transport, server.url, b"x" * 50_000_000, Timeouts(write=0.05))))
        await server.met.wait()
        server.peers[0].transport.pause_reading()
        await asking


async def test_a_server_that_resets_while_we_write(any_opened: Opener) -> None:
    """The loop's own exception has a frame that holds what it could not write."""
    async with serving(hang) as server, any_opened() as transport:
        asking = asyncio.ensure_future(fails(ask(transport, server.url, b"x" * 50_000_000)))
        await server.met.wait()
        reset(server.peers[0])
        await asking


@pytest.mark.parametrize("begun", [b"", OK[:20], OK[:-1]])
async def test_cancelled(opened: Opener, begun: bytes) -> None:
    async with serving(say(begun)) as server, opened() as transport:
        asking = asyncio.ensure_future(ask(transport, server.url))
        await server.arrived.wait()
        asking.cancel()
        await fails(asking)


async def test_cancelled_while_a_server_does_not_read(opened: Opener) -> None:
    """The request has been begun to be written."""
    async with serving(hang) as server, opened() as transport:
        asking = asyncio.ensure_future(ask(transport, server.url, b"x" * 8_000_000))
        await server.met.wait()
        server.peers[0].transport.pause_reading()
        asking.cancel()
        await fails(asking)


async def test_closed_before_and_meanwhile(opened: Opener) -> None:
    async with serving(hang) as server, opened() as transport:
        asking = asyncio.ensure_future(ask(transport, server.url))
        await server.arrived.wait()
        await transport.aclose()
        await fails(asking)
        await fails(ask(transport, server.url))


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\0b", "a\udc80b\r"])
async def test_a_header_that_cannot_be_sent(any_opened: Opener, value: str) -> None:
    async with serving(ok) as server, any_opened() as transport:
        headers = bearer(Secret(CANARY), idempotency_key="r1", attempt=1)
        headers["authorization"] = f"{CANARY}{value}"
        with pytest.raises((DspexError, ValueError)) as caught:
            await transport.post(server.url, headers, b"{}")
        if isinstance(caught.value, DspexError):
            check(caught.value)


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """The server's side."""
    file = tmp_path / "localhost.pem"
    file.write_text(PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cadata=PEM[PEM.index("-----BEGIN CERT") :])


# --- proxies ------------------------------------------------------------------------------------------------


def pipe(
    loop_tasks: list[asyncio.Task[None]],
) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    """Return a proxy that connects to the loopback port it is asked for."""

    async def copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(2**16):
                writer.write(data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        port = int(head.split(b" ")[1].rpartition(b":")[2])
        there = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"HTTP/1.1 200 Established\r\n\r\n")
        loop_tasks.append(asyncio.ensure_future(copy(there[0], writer)))
        await copy(reader, there[1])

    return serve


@contextlib.asynccontextmanager
async def proxying(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]], tls: ssl.SSLContext | None = None
) -> AsyncIterator[str]:
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    async with server:
        scheme, host = ("https", "localhost") if tls else ("http", "127.0.0.1")
        yield f"{scheme}://me:{PASSWORD}@{host}:{server.sockets[0].getsockname()[1]}"


def saying(data: bytes) -> Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data)
        writer.close()

    return serve


@pytest.mark.parametrize("is_secure", [False, True], ids=["plain proxy", "secure proxy"])
async def test_a_tunnel_carries_tls_and_stays(opened: Opener, tls: ssl.SSLContext, is_secure: bool) -> None:
    """Two questions go through one tunnel; what is wrong inside is told without the key."""
    tasks: list[asyncio.Task[None]] = []
    async with (
        serving(ok, ok, say_and_close(OK[:-1]), tls=tls) as server,
        proxying(pipe(tasks), tls if is_secure else None) as proxy,
        opened(proxy=proxy, verify=trusting()) as transport,
    ):
        for _ in range(2):
            assert (await ask(transport, server.url)).body == b"{}"
        assert transport.open_connections == len(server.peers) == 1
        await fails(ask(transport, server.url))
    await asyncio.gather(*tasks)


@pytest.mark.parametrize(
    ("data", "match"),
    [
        (b"", "closed the connection"),
        (b"HTTP/1.1 200", "closed the connection"),
        (b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n", "407"),
        (b"HTTP/1.1 403 Forbidden\r\n\r\nno", "403"),
        (b"HTTP/1.1 200 OK\r\n\r\nmore", "more than it was asked"),
        (b"HTTP/1.1 200 OK\nX: y\n\n", "malformed"),
        (b"\x05\x00 not HTTP", "malformed"),
        (b"HTTP/1.1 200 OK\r\n\r\n", "https://llm.test"),
    ],
)
async def test_what_a_proxy_can_do(opened: Opener, data: bytes, match: str) -> None:
    """It refuses, breaks off, talks nonsense, or has nobody behind it."""
    async with proxying(saying(data)) as proxy, opened(proxy=proxy) as transport:
        assert match in str(await fails(ask(transport, "https://llm.test/v1")))
        assert transport.open_connections == 0


async def test_an_untrusted_server_behind_a_proxy(opened: Opener, tls: ssl.SSLContext) -> None:
    tasks: list[asyncio.Task[None]] = []
    async with (
        serving(ok, tls=tls) as server,
        proxying(pipe(tasks)) as proxy,
        opened(proxy=proxy) as transport,
    ):
        assert "no secure connection" in str(await fails(ask(transport, server.url)))
    await asyncio.gather(*tasks)


async def test_a_proxy_that_is_silent(opened: Opener) -> None:
    """Connecting ends by its own time, or by the caller; the proxy sees it."""
    gone = asyncio.Queue[bool]()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        gone.put_nowait(False)
        with contextlib.suppress(OSError):
            await reader.read()
        gone.put_nowait(True)
        writer.close()

    async with proxying(serve) as proxy, opened(proxy=proxy) as transport:
        failed = await fails(ask(transport, "https://llm.test/v1", timeouts=Timeouts(connect=0.05)))
        assert "within 0.05 s" in str(failed)
        assert [await gone.get(), await gone.get()] == [False, True]
        asking = asyncio.ensure_future(ask(transport, "https://llm.test/v1"))
        assert await gone.get() is False
        asking.cancel()
        await fails(asking)
        assert await asyncio.wait_for(gone.get(), 5) is True


async def test_no_proxy(opened: Opener) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        proxy = f"http://me:{PASSWORD}@127.0.0.1:{unused.getsockname()[1]}"
        async with opened(proxy=proxy) as transport:
            for url in ("http://llm.test/v1", "https://llm.test/v1"):
                await fails(ask(transport, url))


async def test_a_users_transport_with_a_proxy() -> None:
    """httpx's own exceptions hold the proxy's headers and the request's; none of them comes out."""
    async with (
        proxying(saying(b"HTTP/1.1 407 No\r\nContent-Length: 0\r\n\r\n")) as proxy,
        httpx.AsyncHTTPTransport(proxy=proxy, trust_env=False) as inner,
    ):
        transport = HttpxTransport(inner)
        await fails(ask(transport, "https://llm.test/v1"))
        await transport.aclose()
