"""The transports over real loopback sockets: one suite, every implementation."""

from __future__ import annotations

import asyncio
import gc
import gzip
import socket
import ssl
import weakref
from collections.abc import Awaitable, Iterator, Mapping
from contextvars import ContextVar, copy_context
from pathlib import Path
from typing import cast

import httpx
import pytest
import uvloop

from dspex._clock import LoopClock
from dspex.errors import ConfigError, MissingExtra, TransportFailed
from dspex.services.lm._parsers import ParserName
from dspex.services.lm.transport import (
    HttpxTransport,
    SlotTransport,
    Timeouts,
    open_transport,
)
from tests.support.programs import until
from tests.support.transports import (
    HEADERS,
    OK,
    PEM,
    Answer,
    Opener,
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


@pytest.fixture(params=[with_h11, with_httptools])
def opened(request: pytest.FixtureRequest) -> Opener:
    """Our own transports."""
    return cast("Opener", request.param)


@pytest.fixture(params=[with_h11, with_httptools, users])
def any_opened(request: pytest.FixtureRequest) -> Opener:
    """Ours, and one of httpx's brought by the user."""
    return cast("Opener", request.param)


async def failure(reply: Awaitable[object]) -> TransportFailed:
    with pytest.raises(TransportFailed) as caught:
        await reply
    assert isinstance(caught.value.__cause__, OSError | None)
    return caught.value


class TestAnswers:
    async def test_request_and_answer_travel_whole(self, any_opened: Opener) -> None:
        """Status, headers in lower case and body come back; body and headers arrive."""
        async with serving(ok) as server, any_opened() as transport:
            reply = await transport.post(server.url, HEADERS, "Grüße".encode())

        assert (reply.status, reply.body) == (200, b"{}")
        assert reply.headers["x-request-id"] == "r1"
        head, body = server.requests[0]
        assert body.decode() == "Grüße"
        assert head.startswith(b"POST /v1/chat/completions HTTP/1.1\r\n")
        assert b"authorization: bearer sk-1" in head.lower()

    async def test_a_failure_status_is_an_answer(self, any_opened: Opener) -> None:
        """The meaning is the wire's to say."""
        data = b"HTTP/1.1 429 Too Many\r\nRetry-After: 3\r\nX-A: 1\r\nX-A: 2\r\nContent-Length: 0\r\n\r\n"
        async with serving(say(data)) as server, any_opened() as transport:
            reply = await transport.post(server.url, HEADERS, b"{}")

        assert (reply.status, reply.headers["retry-after"], reply.headers["x-a"]) == (429, "3", "1, 2")

    async def test_chunked_and_unbounded_bodies_are_read_to_the_end(self, any_opened: Opener) -> None:
        """Proxies send the first, old servers the second."""
        chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
        unbounded = b"HTTP/1.0 200 OK\r\n\r\nuntil the end"
        async with serving(say(chunked), say_and_close(unbounded)) as server, any_opened() as transport:
            bodies = [(await transport.post(server.url, HEADERS, b"{}")).body for _ in range(2)]

        assert bodies == [b"abcde", b"until the end"]

    async def test_a_packed_answer_is_unpacked(self, any_opened: Opener) -> None:
        """Some servers pack whether asked or not."""
        packed = gzip.compress(b'{"a":1}')
        data = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(packed) + packed
        async with serving(say(data)) as server, any_opened() as transport:
            assert (await transport.post(server.url, HEADERS, b"{}")).body == b'{"a":1}'

    async def test_large_bodies_both_ways(self, any_opened: Opener) -> None:
        """More than any socket buffer holds."""
        large = b"x" * 3_000_000
        data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(large) + large
        async with serving(say(data)) as server, any_opened() as transport:
            reply = await transport.post(server.url, HEADERS, large)

        assert reply.body == large == server.requests[0][1]

    async def test_an_ipv6_address(self, any_opened: Opener) -> None:
        """Its brackets belong to the host header, not to the socket."""
        try:
            with socket.create_server(("::1", 0), family=socket.AF_INET6):
                pass
        except OSError:
            pytest.skip("this machine has no IPv6")
        async with serving(ok, host="[::1]") as server, any_opened() as transport:
            await transport.post(server.url, HEADERS, b"{}")

        host = server.url.split("/")[2]
        assert f"host: {host}".encode() in server.requests[0][0].lower()


class TestConnections:
    async def test_the_last_one_used_is_used_next(self, opened: Opener) -> None:
        """One caller after the other needs one connection."""
        async with serving(ok) as server, opened() as transport:
            for _ in range(5):
                await transport.post(server.url, HEADERS, b"{}")

            assert transport.open_connections == 1
        assert len(server.peers) == 1

    async def test_the_beginning_is_told_before_the_body_is_there(self, opened: Opener) -> None:
        """That an answer has begun is known with its first byte; a head alone is none."""
        headers: list[dict[str, str]] = []
        told = asyncio.Event()

        def on_begin(found: Mapping[str, str]) -> None:
            headers.append(dict(found))
            told.set()

        async with serving(say(OK[:-2])) as server, opened() as transport:
            asking = asyncio.ensure_future(transport.post(server.url, HEADERS, b"{}", on_begin=on_begin))
            await asyncio.wait_for(server.met.wait(), 5)
            assert not told.is_set()
            server.peers[0].transport.write(b"{")
            await asyncio.wait_for(told.wait(), 5)
            assert not asking.done()
            server.peers[0].transport.write(b"}")
            assert (await asking).headers == headers[0]

        assert headers[0]["x-request-id"] == "r1"

    async def test_many_at_once_have_a_connection_each(self, opened: Opener) -> None:
        """No limit of the transport's own: the limiter above decides."""
        async with serving(ok) as server, opened() as transport:
            replies = await asyncio.gather(*[transport.post(server.url, HEADERS, b"{}") for _ in range(150)])

            assert {reply.status for reply in replies} == {200}
            assert transport.open_connections == len(server.peers) <= 150

    async def test_idle_ones_beyond_the_limit_are_closed(self, opened: Opener) -> None:
        """A burst leaves no more than that many sockets."""
        async with serving(ok) as server, opened(max_idle=2) as transport:
            await asyncio.gather(*[transport.post(server.url, HEADERS, b"{}") for _ in range(6)])
            assert len(server.peers) == 6
            await until(lambda: sum(peer.lost.done() for peer in server.peers) == 4)

            assert transport.open_connections == 2

    @pytest.mark.parametrize("options", [{"max_age": 0.0}, {"max_idle_seconds": 0.0}])
    async def test_old_ones_are_not_used_again(self, opened: Opener, options: dict[str, float]) -> None:
        """Neither the old in years nor the long idle."""
        async with serving(ok) as server, opened(**options) as transport:
            for _ in range(3):
                await transport.post(server.url, HEADERS, b"{}")
            await asyncio.gather(*[peer.lost for peer in server.peers[:2]])

            assert transport.open_connections == 1
        assert len(server.peers) == 3

    async def test_the_server_may_end_keep_alive(self, opened: Opener) -> None:
        """``Connection: close`` is obeyed."""
        data = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\n{}"
        async with serving(say(data)) as server, opened() as transport:
            for _ in range(2):
                await transport.post(server.url, HEADERS, b"{}")
                await server.peers[-1].lost
        assert len(server.peers) == 2

    async def test_one_closed_while_idle_is_no_error(self, opened: Opener) -> None:
        """Servers close after a few idle seconds, whether we are about to send or not."""
        async with serving(ok) as server, opened() as transport:
            await transport.post(server.url, HEADERS, b"{}")
            server.peers[0].transport.close()
            await server.peers[0].lost
            reply = await transport.post(server.url, HEADERS, b"{}")

        assert reply.status == 200
        assert len(server.requests) == 2

    @pytest.mark.parametrize("close", [say_and_close(b""), reset])
    async def test_one_closed_as_the_request_arrives_is_replaced_once(self, opened: Opener, close: Answer) -> None:
        """It was reused and not a byte came back: the server had already given it up."""
        async with serving(ok, close, ok) as server, opened() as transport:
            for _ in range(2):
                reply = await transport.post(server.url, HEADERS, b"{}")

            assert transport.stale_retries == 1
        assert reply.status == 200
        assert len(server.requests) == 3

    async def test_it_is_replaced_only_once(self, opened: Opener) -> None:
        """A fresh connection that is closed is a failure."""
        async with serving(ok, say_and_close(b"")) as server, opened() as transport:
            await transport.post(server.url, HEADERS, b"{}")
            await failure(transport.post(server.url, HEADERS, b"{}"))
        assert len(server.requests) == 3

    @pytest.mark.parametrize("begun", [b"HTTP/1.1 200", OK[:-1]])
    async def test_a_begun_answer_is_never_asked_for_again(self, opened: Opener, begun: bytes) -> None:
        """The server has done the work, and charged for it."""
        async with serving(ok, say_and_close(begun)) as server, opened() as transport:
            await transport.post(server.url, HEADERS, b"{}")
            await failure(transport.post(server.url, HEADERS, b"{}"))
        assert len(server.requests) == 2


class TestFailures:
    async def test_refused(self, any_opened: Opener) -> None:
        """The message says what to look at."""
        with socket.socket() as unused:
            unused.bind(("127.0.0.1", 0))
            port = unused.getsockname()[1]
            async with any_opened() as transport:
                caught = await failure(transport.post(f"http://127.0.0.1:{port}/v1", HEADERS, b"{}"))

        assert f"http://127.0.0.1:{port} refused the connection" in str(caught)
        assert "api_base" in str(caught)

    async def test_no_answer(self, any_opened: Opener) -> None:
        """The server closed without a word."""
        async with serving(say_and_close(b"")) as server, any_opened() as transport:
            caught = await failure(transport.post(server.url, HEADERS, b"{}"))

        assert "closed the connection before the answer was complete" in str(caught)

    async def test_cut_short(self, any_opened: Opener) -> None:
        """Half a body is not a body."""
        async with serving(say_and_close(OK[:-1])) as server, any_opened() as transport:
            caught = await failure(transport.post(server.url, HEADERS, b"{}"))

        assert "closed the connection before the answer was complete" in str(caught)

    async def test_reset(self, any_opened: Opener) -> None:
        """A server that died."""
        async with serving(reset) as server, any_opened() as transport:
            caught = await failure(transport.post(server.url, HEADERS, b"{}"))

        assert "the connection to http://127.0.0.1" in str(caught)
        assert "broke" in str(caught)

    async def test_not_http(self, any_opened: Opener) -> None:
        """Another protocol's port."""
        async with serving(say_and_close(b"SSH-2.0-OpenSSH_9.2\r\n\r\n")) as server, any_opened() as transport:
            caught = await failure(transport.post(server.url, HEADERS, b"{}"))

        assert "does not speak HTTP" in str(caught)

    async def test_silence(self, any_opened: Opener) -> None:
        """The read timeout is the longest silence, and closes the socket."""
        async with serving(hang) as server, any_opened() as transport:
            caught = await failure(transport.post(server.url, HEADERS, b"{}", Timeouts(read=0.05)))
            await server.peers[0].lost

        assert "nothing came" in str(caught)
        assert "0.05 s" in str(caught)

    async def test_a_packed_answer_that_cannot_be_unpacked(self, any_opened: Opener) -> None:
        """It is a broken answer, not a crash."""
        data = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\nnope"
        async with serving(say(data)) as server, any_opened() as transport:
            assert "unpacked" in str(await failure(transport.post(server.url, HEADERS, b"{}")))

    async def test_an_untrusted_certificate(self, any_opened: Opener, tls: ssl.SSLContext) -> None:
        """Said as what it is."""
        async with serving(ok, tls=tls) as server, any_opened() as transport:
            caught = await failure(transport.post(server.url, HEADERS, b"{}"))

        assert "no secure connection" in str(caught)


@pytest.fixture
def tls(tmp_path: Path) -> ssl.SSLContext:
    """The server's side."""
    file = tmp_path / "localhost.pem"
    file.write_text(PEM)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def test_tls(opened: Opener, tls: ssl.SSLContext) -> None:
    """A private certificate authority is given as a context."""
    verify = ssl.create_default_context(cadata=PEM[PEM.index("-----BEGIN CERT") :])
    async with serving(ok, tls=tls) as server, opened(verify=verify) as transport:
        for _ in range(2):
            assert (await transport.post(server.url, HEADERS, b"{}")).body == b"{}"
        assert transport.open_connections == 1


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\rb", "a\0b"])
async def test_a_header_stays_in_its_line(any_opened: Opener, value: str) -> None:
    """Nobody smuggles another header or request in; nothing arrives."""
    async with serving(ok) as server, any_opened() as transport:
        with pytest.raises((TransportFailed, ValueError)):
            await transport.post(server.url, {**HEADERS, "x-note": value}, b"{}")
        assert server.requests == []


class TestCancellation:
    @pytest.mark.parametrize("begun", [b"", OK[:20], OK[:-1]])
    async def test_the_server_sees_it_at_once(self, any_opened: Opener, begun: bytes) -> None:
        """Before the answer, in its head, in its body: the provider stops generating."""
        async with serving(say(begun)) as server, any_opened() as transport:
            call = asyncio.ensure_future(transport.post(server.url, HEADERS, b"{}"))
            await server.arrived.wait()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await asyncio.wait_for(server.peers[0].lost, 5)

            assert transport.open_connections == 0

    async def test_while_the_server_does_not_read(self, opened: Opener) -> None:
        """A request stuck in full buffers is closed as quickly."""
        async with serving(hang) as server, opened() as transport:
            call = asyncio.ensure_future(transport.post(server.url, HEADERS, b"x" * 50_000_000))
            await server.met.wait()
            server.peers[0].transport.pause_reading()
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call

            assert transport.open_connections == 0

    async def test_others_go_on(self, opened: Opener) -> None:
        """A cancelled exchange takes nobody with it."""
        async with serving(hang, ok) as server, opened() as transport:
            call = asyncio.ensure_future(transport.post(server.url, HEADERS, b"{}"))
            await server.arrived.wait()
            other = transport.post(server.url, HEADERS, b"{}")
            call.cancel()

            assert (await other).status == 200
            assert call.cancelled()


class TestClosing:
    async def test_exchanges_under_way_fail(self, opened: Opener) -> None:
        """Nobody waits for a transport that is gone."""
        async with serving(ok, hang) as server, opened() as transport:
            await transport.post(server.url, HEADERS, b"{}")
            server.arrived.clear()
            call = asyncio.ensure_future(transport.post(server.url, HEADERS, b"{}"))
            await server.arrived.wait()
            await transport.aclose()
            with pytest.raises(TransportFailed):
                await call
            await server.peers[0].lost

    async def test_a_closed_transport_refuses(self, opened: Opener) -> None:
        """Also a second close is fine."""
        async with serving(ok) as server, opened() as transport:
            await transport.aclose()
            with pytest.raises(TransportFailed, match="is closed"):
                await transport.post(server.url, HEADERS, b"{}")


class TestUsersTransport:
    async def test_a_mock_answers(self) -> None:
        """The handler sees a whole httpx request."""

        def handler(request: httpx.Request) -> httpx.Response:
            assert request.headers["host"] == "api.test"
            return httpx.Response(200, json={"got": request.content.decode()}, headers={"X-Request-ID": "r9"})

        transport = open_transport(transport=httpx.MockTransport(handler), clock=clock())
        reply = await transport.post("http://api.test/v1", HEADERS, b"hello")

        assert reply.body == b'{"got":"hello"}'
        assert reply.headers["x-request-id"] == "r9"

    async def test_its_failures_are_mapped(self) -> None:
        """httpx's own errors, raised by hand."""

        def handler(request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectTimeout("slow")

        caught = await failure(HttpxTransport(httpx.MockTransport(handler)).post("http://api.test/v1", {}, b""))

        assert str(caught).startswith("no connection to http://api.test within 10 s: nothing answers there.")

    async def test_a_bug_in_it_is_no_transport_failure(self) -> None:
        """It must not be retried as if the network had failed."""

        def handler(request: httpx.Request) -> httpx.Response:
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            await HttpxTransport(httpx.MockTransport(handler)).post("http://api.test/v1", {}, b"")


def clock() -> LoopClock:
    return LoopClock(asyncio.get_running_loop())


async def test_httptools_is_taken_where_it_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    """And asked for by name it says which extra it needs."""

    def chosen(parser: ParserName = "auto") -> str:
        transport = open_transport(clock=clock(), parser=parser)
        assert isinstance(transport, SlotTransport)
        return transport.parser

    assert (chosen(), chosen("h11"), chosen("httptools")) == ("httptools", "h11", "httptools")
    monkeypatch.setitem(__import__("sys").modules, "httptools", None)
    assert chosen() == "h11"
    with pytest.raises(MissingExtra, match="fast"):
        chosen("httptools")


@pytest.fixture(params=["httptools", "h11"])
def parser(request: pytest.FixtureRequest) -> ParserName:
    """With and without the extra."""
    return cast("ParserName", request.param)


class TestProxy:
    async def test_a_plain_address_is_asked_for_through_it(self, parser: ParserName) -> None:
        """The proxy hears the whole address, and its own name and password."""
        async with serving(ok) as server:
            proxy = server.url.partition("/v1")[0].replace("//", "//me:secret@")
            transport = open_transport(clock=clock(), proxy=proxy, parser=parser)
            try:
                for _ in range(2):
                    assert (await transport.post("http://llm.test/v1/x", HEADERS, b"{}")).body == b"{}"
            finally:
                await transport.aclose()

            assert len(server.peers) == 1
        head = server.requests[0][0].lower()
        assert head.startswith(b"post http://llm.test/v1/x http/1.1")
        assert b"proxy-authorization: basic bwu6c2vjcmv0" in head

    async def test_a_secure_address_is_tunnelled(self, parser: ParserName) -> None:
        """The proxy is asked to connect, and told nothing else; its refusal is a failure of the network."""
        met: list[bytes] = []

        async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            met.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            writer.close()

        async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
            port = server.sockets[0].getsockname()[1]
            transport = open_transport(clock=clock(), proxy=f"http://127.0.0.1:{port}", parser=parser)
            try:
                await failure(transport.post("https://llm.test/v1", HEADERS, b"{}"))
            finally:
                await transport.aclose()
        assert met[0].startswith(b"CONNECT llm.test:443 HTTP/1.1")
        assert b"sk-1" not in met[0]

    @pytest.mark.parametrize("address", ["socks5://me:secret@proxy:1080", "proxy:3128", "http://", "http://a:b:c"])
    async def test_what_is_no_proxy_is_refused_early(self, address: str) -> None:
        """And its password is not repeated."""
        with pytest.raises(ConfigError, match="proxy=") as caught:
            open_transport(clock=clock(), proxy=address)
        assert "secret" not in str(caught.value)

    async def test_a_transport_of_ones_own_brings_its_own(self) -> None:
        """Two answers to one question."""
        mock = httpx.MockTransport(lambda _: httpx.Response(200))
        with pytest.raises(ConfigError, match="transport="):
            open_transport(clock=clock(), proxy="http://proxy:3128", transport=mock)


class Kept:
    """Something a request holds."""


request_value: ContextVar[Kept] = ContextVar("request_value")


@pytest.fixture(params=["asyncio", "uvloop"])
def runner(request: pytest.FixtureRequest) -> Iterator[asyncio.Runner]:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        yield runner


def test_an_open_connection_keeps_no_request_alive(opened: Opener, runner: asyncio.Runner) -> None:
    """A kept-alive socket outlives the request that opened it, and must not hold its context."""

    async def main() -> None:
        async with serving(ok) as server, opened() as transport:

            async def call() -> weakref.ref[Kept]:
                value = Kept()
                request_value.set(value)
                assert (await transport.post(server.url, HEADERS, b"{}")).status == 200
                return weakref.ref(value)

            kept = await asyncio.get_running_loop().create_task(call(), context=copy_context())
            await asyncio.sleep(0)
            gc.collect()

            assert transport.open_connections == 1
            assert kept() is None

    runner.run(main())


def test_a_call_cancelled_while_connecting_leaves_nothing_open(opened: Opener, runner: asyncio.Runner) -> None:
    """Whatever the moment; loops differ in what they tell a protocol then."""

    async def main() -> None:
        async with serving(hang) as server, opened() as transport:
            for ticks in range(12):
                call = asyncio.ensure_future(transport.post(server.url, HEADERS, b"{}"))
                for _ in range(ticks):
                    await asyncio.sleep(0)
                call.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await call
            await asyncio.gather(*[peer.lost for peer in server.peers])

            assert transport.open_connections == 0

    runner.run(main())
