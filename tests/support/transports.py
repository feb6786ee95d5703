"""A scripted HTTP server on loopback, and the transports that tests hold to the same behaviour."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from typing import Any, cast

import httpx

from dspex._clock import LoopClock
from dspex.services.lm._parsers import ParserName
from dspex.services.lm.transport import HttpxTransport, SlotTransport, Transport

HEADERS = {"content-type": "application/json", "authorization": "Bearer sk-1"}
OK = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Request-Id: r1\r\nContent-Length: 2\r\n\r\n{}"

# A key and a certificate for localhost that guard nothing.
PEM = """-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg+iDTUCnBZDVgwsby
hk5H9e6wj6Isl24HPba7GT10WL2hRANCAATyBNusuhXLQ9QjsMUEt5MMDJ83B1QC
aot1esnrMXeZeGvMX3xdXxjmtmR0ZPYU6d+Up8ZxjCy+bO8u5DbwfG9H
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBmzCCAUGgAwIBAgIUEDZ81ScFMZEqBcCHVValHEYfSo8wCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyMzA0MzM1N1oYDzIxMjYxMDMw
MDQzMzU3WjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAATyBNusuhXLQ9QjsMUEt5MMDJ83B1QCaot1esnrMXeZeGvMX3xdXxjm
tmR0ZPYU6d+Up8ZxjCy+bO8u5DbwfG9Ho28wbTAdBgNVHQ4EFgQUq8Wwu8dnuUnd
Ls0Wvi7uV0A6QPEwHwYDVR0jBBgwFoAUq8Wwu8dnuUndLs0Wvi7uV0A6QPEwDwYD
VR0TAQH/BAUwAwEB/zAaBgNVHREEEzARgglsb2NhbGhvc3SHBH8AAAEwCgYIKoZI
zj0EAwIDSAAwRQIgd2inHo1N9EHk8lpFqjG/1K91/S3BUd0XcD6UgU33asUCIQCJ
j/YAFmSp3NLOemsr5t2S/kUC9lJ7ym+z7KeNMysXrQ==
-----END CERTIFICATE-----
"""

Answer = Callable[["Peer"], None]
"""The server's action when a request has come whole."""


class Peer(asyncio.Protocol):
    """The server's end of one connection."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.data = b""
        self.lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.server.peers.append(self)

    def data_received(self, data: bytes) -> None:
        self.data += data
        if self.data[0] == 0x16:  # an offer of TLS where there is none: as a web server does, refuse it at once
            self.transport.abort()
            return
        self.server.met.set()
        head, mark, rest = self.data.partition(b"\r\n\r\n")
        if not mark:
            return
        fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:])
        if len(rest) < int(fields.get(b"content-length", b"0")):
            return
        self.data = b""
        self.server.requests.append((head, rest))
        answers = self.server.answers
        (answers.pop(0) if len(answers) > 1 else answers[0])(self)
        self.server.arrived.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


class Server:
    """A scripted HTTP server: the n-th request gets the n-th answer, the last answer goes on for ever."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.peers: list[Peer] = []
        self.requests: list[tuple[bytes, bytes]] = []
        self.met = asyncio.Event()
        self.arrived = asyncio.Event()
        self.url = ""


def say(data: bytes) -> Answer:
    return lambda peer: peer.transport.write(data)


def say_and_close(data: bytes) -> Answer:
    def answer(peer: Peer) -> None:
        peer.transport.write(data)
        peer.transport.close()

    return answer


def reset(peer: Peer) -> None:
    sock = peer.transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    peer.transport.abort()


def hang(peer: Peer) -> None:
    """Never answer."""


ok = say(OK)


@contextlib.asynccontextmanager
async def serving(
    *answers: Answer, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1"
) -> AsyncIterator[Server]:
    server = Server(*answers)
    listener = await asyncio.get_running_loop().create_server(lambda: Peer(server), host.strip("[]"), 0, ssl=tls)
    scheme = "https" if tls else "http"
    server.url = f"{scheme}://{host}:{listener.sockets[0].getsockname()[1]}/v1/chat/completions"
    try:
        yield server
    finally:
        # First nobody comes any more. A connection that was taken in this turn is a peer some turns later; with its
        # listener closed meanwhile, asyncio would lose it.
        for each in listener.sockets:
            asyncio.get_running_loop().remove_reader(each.fileno())
        for _ in range(3):
            await asyncio.sleep(0)
        listener.close()
        for peer in server.peers:
            peer.transport.abort()
            await peer.lost
        await listener.wait_closed()


Opener = Callable[..., contextlib.AbstractAsyncContextManager[Transport]]


@contextlib.asynccontextmanager
async def _slots(parser: ParserName, options: dict[str, Any]) -> AsyncIterator[Transport]:
    transport = SlotTransport(clock=LoopClock(asyncio.get_running_loop()), parser=parser, **options)
    try:
        yield transport
    finally:
        await transport.aclose()
        assert transport.open_connections == 0


def with_h11(**options: Any) -> contextlib.AbstractAsyncContextManager[Transport]:
    """Open our transport with the parser of the core dependencies."""
    return _slots("h11", options)


def with_httptools(**options: Any) -> contextlib.AbstractAsyncContextManager[Transport]:
    """Open our transport with the parser of the extra ``fast``."""
    return _slots("httptools", options)


@contextlib.asynccontextmanager
async def users(**options: Any) -> AsyncIterator[Transport]:
    async with httpx.AsyncHTTPTransport(trust_env=False) as inner:
        transport = HttpxTransport(inner, **options)
        try:
            yield transport
        finally:
            await transport.aclose()
