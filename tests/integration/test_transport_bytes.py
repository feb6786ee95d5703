"""Bytes that servers may send, and those that are refused: one suite over real loopback sockets for both parsers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from typing import cast

import pytest

from dspex.errors import ResponseInvalid, TransportFailed
from dspex.services.lm._answers import MAX_CHUNK_LINE, MAX_HEAD, MAX_INTERIM, MAX_TRAILERS
from dspex.services.lm.transport import Timeouts, Transport
from tests.support.transports import (
    HEADERS,
    OK,
    Opener,
    Peer,
    Server,
    hang,
    ok,
    say,
    say_and_close,
    serving,
    with_h11,
    with_httptools,
)

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
EMPTY = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"


def answer(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


STALE = answer(b"stale")


@pytest.fixture(params=[with_h11, with_httptools])
def opened(request: pytest.FixtureRequest) -> Opener:
    """Our transport, with each parser."""
    return cast("Opener", request.param)


async def ask(transport: Transport, server: Server) -> bytes:
    return (await transport.post(server.url, HEADERS, b"{}")).body


async def refused(reply: Awaitable[object], match: str = "does not speak HTTP") -> None:
    """Await a typed failure that keeps nothing of a parser's."""
    with pytest.raises(TransportFailed, match=match) as caught:
        await reply
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


class TestUnrequestedBytes:
    @pytest.mark.parametrize("extra", [STALE, b"x", b"\r\n", b"HTTP/1.1 200"])
    async def test_behind_an_answer(self, opened: Opener, extra: bytes) -> None:
        """The answer was asked for and counts; the connection never serves again."""
        async with serving(say(answer(b"1") + extra), say(answer(b"2"))) as server, opened() as transport:
            assert await ask(transport, server) == b"1"
            await server.peers[0].lost
            assert await ask(transport, server) == b"2"
        assert len(server.peers) == 2

    @pytest.mark.parametrize("extra", [STALE, b"x", b"\r\n"])
    async def test_on_an_idle_connection(self, opened: Opener, extra: bytes) -> None:
        """It is closed as soon as the bytes come; the next question has another connection."""
        async with serving(say(answer(b"1")), say(answer(b"2"))) as server, opened() as transport:
            assert await ask(transport, server) == b"1"
            server.peers[0].transport.write(extra)
            await asyncio.wait_for(server.peers[0].lost, 5)
            assert transport.open_connections == 0
            assert await ask(transport, server) == b"2"
        assert len(server.peers) == 2

    async def test_that_the_loop_has_not_seen_yet(self, opened: Opener) -> None:
        """They wait in the operating system when the next question comes, in the same tick."""
        async with serving(say(answer(b"1")), say(answer(b"2"))) as server, opened() as transport:
            assert await ask(transport, server) == b"1"
            os.write(server.peers[0].transport.get_extra_info("socket").fileno(), STALE)
            assert await ask(transport, server) == b"2"
        assert len(server.peers) == 2
        assert transport.stale_retries == 0

    async def test_that_come_with_the_answer_to_a_later_question(self, opened: Opener) -> None:
        """Which of the two is the answer cannot be known, so neither is; no cache keeps a wrong one."""
        async with serving(ok, say(STALE + answer(b"2")), say(answer(b"3"))) as server, opened() as transport:
            await ask(transport, server)
            await refused(ask(transport, server), "two answers came to one question")
            assert await ask(transport, server) == b"3"
        assert len(server.peers) == 2

    async def test_behind_every_answer_of_many_at_once(self, opened: Opener) -> None:
        """No caller gets the answer of another."""

        def echo(peer: Peer) -> None:
            peer.transport.write(answer(server.requests[-1][1]) + STALE)

        async def one(number: int) -> None:
            body = b"%d" % number
            assert (await transport.post(server.url, HEADERS, body)).body == body

        async with serving(echo) as server, opened() as transport:
            for _ in range(3):
                await asyncio.gather(*[one(number) for number in range(20)])


class TestShapes:
    @pytest.mark.parametrize(
        "data",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: +2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 0x2\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2_0\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 18446744073709551618\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\n{}",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n Content-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\nContent-Length: 0\n\n",
            b"HTTP/1.1 200 OK\r\nX: a\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\rContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX: a\0b\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nX y: a\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\n: a\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nno colon\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 20 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 +20 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/2.0 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"http/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
            b"HTTP/1.1 101 Switching\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n",
            b"HTTP/1.1 100 Continue\r\nContent-Length: 2\r\n\r\n{}" + EMPTY,
            b"HTTP/1.1 204 None\r\nContent-Length: 2\r\n\r\n{}",
            b"HTTP/1.1 304 Same\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            CHUNKED + b"-1\r\n\r\n",
            CHUNKED + b"+1\r\na\r\n0\r\n\r\n",
            CHUNKED + b"0x1\r\na\r\n0\r\n\r\n",
            CHUNKED + b"\r\na\r\n0\r\n\r\n",
            CHUNKED + b"g\r\n\r\n",
            CHUNKED + b" 1\r\na\r\n0\r\n\r\n",
            CHUNKED + b"1 \r\na\r\n0\r\n\r\n",
            CHUNKED + b"1\na\n0\n\n",
            CHUNKED + b"1\r\nab\r\n0\r\n\r\n",
            CHUNKED + b"1\r\naX\n0\r\n\r\n",
            CHUNKED + b"ffffffffffffffff1\r\na\r\n0\r\n\r\n",
            CHUNKED + b"1;\0\r\na\r\n0\r\n\r\n",
            CHUNKED + b'1;a="b\r\na\r\n0\r\n\r\n',
            CHUNKED + b"1;a\nb\r\na\r\n0\r\n\r\n",
            CHUNKED + b"0\r\nContent-Length: 5\r\n\r\n",
            CHUNKED + b"0\r\nTransfer-Encoding: chunked\r\n\r\n",
            CHUNKED + b"0\r\n folded: x\r\n\r\n",
            CHUNKED + b"0\r\nX: y\n\r\n",
        ],
    )
    async def test_unclear_ones_are_refused_and_the_connection_is_closed(self, opened: Opener, data: bytes) -> None:
        """Where another reader might see another end, there is no answer at all, whatever follows."""
        async with serving(ok, say(data + STALE), say(answer(b"3"))) as server, opened() as transport:
            await ask(transport, server)
            await refused(ask(transport, server))
            await server.peers[0].lost
            assert await ask(transport, server) == b"3"
        assert len(server.peers) == 2

    @pytest.mark.parametrize(
        ("data", "body"),
        [
            (CHUNKED + b'1;a=b;c;d="e f"\r\na\r\n0;x\r\n\r\n', b"a"),
            (CHUNKED + b"0001\r\na\r\n1\r\nb\r\n00\r\nX: y\r\nZ:\r\n\r\n", b"ab"),
            (CHUNKED.replace(b"chunked", b" CHUNKED"), b""),
            (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\na", b"a"),
            (b"HTTP/1.1 200 \r\ncontent-length:001 \r\nX:\r\n\r\na", b"a"),
            (b"HTTP/1.1 200 \xe9\r\nX: \xe9\t\xff\r\nContent-Length: 1\r\n\r\na", b"a"),
            (b"HTTP/1.1 204 None\r\n\r\n", b""),
            (b"HTTP/1.1 204 None\r\nContent-Length: 0\r\n\r\n", b""),
        ],
    )
    async def test_unusual_ones_that_are_clear_are_read(self, opened: Opener, data: bytes, body: bytes) -> None:
        """And the connection stays."""
        if data.endswith(b"CHUNKED\r\n\r\n"):
            data += b"0\r\n\r\n"
        async with serving(say(data)) as server, opened() as transport:
            for _ in range(2):
                assert await ask(transport, server) == body
        assert len(server.peers) == 1

    @pytest.mark.parametrize("keep", [b"", b"Connection: keep-alive\r\n"])
    async def test_http_1_0_is_read_and_the_connection_closed(self, opened: Opener, keep: bytes) -> None:
        """Whatever it says about keeping it."""
        data = b"HTTP/1.0 200 OK\r\n%bContent-Length: 1\r\n\r\na" % keep
        async with serving(say(data)) as server, opened() as transport:
            for number in range(2):
                assert await ask(transport, server) == b"a"
                await server.peers[number].lost
        assert len(server.peers) == 2


class TestInterimAnswers:
    async def test_are_passed_over(self, opened: Opener) -> None:
        """In one piece with the answer or alone; the connection stays."""
        interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: </a>\r\nContent-Length: 0\r\n\r\n"
        async with serving(say(interim + answer(b"a"))) as server, opened() as transport:
            for _ in range(2):
                reply = await transport.post(server.url, HEADERS, b"{}")
                assert (reply.status, reply.body, "link" in reply.headers) == (200, b"a", False)
        assert len(server.peers) == 1

    async def test_are_not_endless(self, opened: Opener) -> None:
        """So many and no more."""
        interim = b"HTTP/1.1 102 Processing\r\n\r\n"
        answers = [say(interim * number + answer(b"a")) for number in (MAX_INTERIM, MAX_INTERIM + 1)]
        async with serving(*answers) as server, opened() as transport:
            assert await ask(transport, server) == b"a"
            await refused(ask(transport, server), "interim")


class TestLimits:
    @pytest.mark.parametrize("ends", [True, False])
    async def test_of_the_head(self, opened: Opener, ends: bool) -> None:
        """The same for an answer that ends and for one that goes on for ever."""
        head = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX: "
        for size in (MAX_HEAD, MAX_HEAD + 1):
            data = head.ljust(size - 4, b"x") + (b"\r\n\r\n" if ends else b"xxxx")
            async with serving(say(data)) as server, opened() as transport:
                if size > MAX_HEAD:
                    await refused(ask(transport, server), "head of more than")
                elif ends:
                    assert await ask(transport, server) == b""

    @pytest.mark.parametrize(
        "data",
        [
            CHUNKED + b"1;" + b"a" * MAX_CHUNK_LINE,
            CHUNKED + b"0" * (MAX_CHUNK_LINE + 1),
            CHUNKED + b"0\r\nX: " + b"a" * MAX_TRAILERS,
            CHUNKED + b"0\r\n" + b"X: a\r\n" * MAX_TRAILERS,
        ],
    )
    async def test_of_what_is_around_a_chunk(self, opened: Opener, data: bytes) -> None:
        """It is not counted as body, and could be sent for ever."""
        async with serving(say(data)) as server, opened() as transport:
            await refused(ask(transport, server))
            await server.peers[0].lost

    @pytest.mark.parametrize(
        "data",
        [
            b"HTTP/1.1 200 OK\r\nContent-Length: 1001\r\n\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 999999999999999\r\n\r\n",
            CHUNKED + b"3e9\r\n" + b"x" * 1001,
            CHUNKED + b"fffffffffffffff\r\n" + b"x" * 1001,
            b"HTTP/1.1 200 OK\r\n\r\n" + b"x" * 1001,
        ],
    )
    async def test_of_the_body(self, opened: Opener, data: bytes) -> None:
        """By its length, or as soon as it is too long; another answer would be, too."""
        async with serving(say(data)) as server, opened(max_body=1000) as transport:
            with pytest.raises(ResponseInvalid, match="more than 1000 bytes") as caught:
                await ask(transport, server)
            await server.peers[0].lost
        assert caught.value.should_retry is False

    async def test_a_body_of_just_that_size_is_read(self, opened: Opener) -> None:
        """The limit itself is allowed."""
        async with serving(say(answer(b"x" * 1000))) as server, opened(max_body=1000) as transport:
            assert len(await ask(transport, server)) == 1000


class TestEnds:
    async def test_a_kept_connection_closed_at_every_byte_of_an_answer(self, opened: Opener) -> None:
        """Before the first byte it is replaced, once; after it the request has been paid for, and is not sent again."""
        for end in range(len(OK)):
            async with serving(ok, say_and_close(OK[:end]), ok) as server, opened() as transport:
                await ask(transport, server)
                if end:
                    await refused(ask(transport, server), "before the answer was complete")
                assert await ask(transport, server) == b"{}"
                assert transport.stale_retries == (0 if end else 1)
            assert len(server.requests) == 3

    async def test_a_chunked_answer_cut_at_every_byte(self, opened: Opener) -> None:
        """Nothing of it is taken for the whole."""
        whole = CHUNKED + b"2;a=b\r\nab\r\n0\r\nX: y\r\n\r\n"
        for end in range(1, len(whole)):
            async with serving(say_and_close(whole[:end])) as server, opened() as transport:
                await refused(ask(transport, server), "before the answer was complete")

    async def test_an_early_answer_to_a_large_request(self, opened: Opener) -> None:
        """It is taken, though the server reads no further; the connection has half a request in it and is closed."""
        data = b"HTTP/1.1 413 Too Large\r\nContent-Length: 1\r\n\r\nx"
        async with serving(ok) as server, opened() as transport:
            asking = asyncio.ensure_future(transport.post(server.url, HEADERS, b"x" * 50_000_000))
            await server.met.wait()
            server.peers[0].transport.pause_reading()
            server.peers[0].transport.write(data)
            reply = await asyncio.wait_for(asking, 5)

            assert (reply.status, reply.body) == (413, b"x")
            assert await ask(transport, server) == b"{}"
        assert len(server.peers) == 2

    @pytest.mark.parametrize("begun", [b"", b"HTTP/1.1 100 Continue\r\n\r\n"])
    async def test_a_head_that_drips(self, opened: Opener, begun: bytes) -> None:
        """A byte now and then is not silence, but a head must come within the longest one."""
        async with serving(say(begun + b"HTTP/1.1 200 OK\r\nX: ")) as server, opened() as transport:
            asking = asyncio.ensure_future(transport.post(server.url, HEADERS, b"{}", Timeouts(read=0.05)))
            await server.arrived.wait()
            while not asking.done():
                server.peers[0].transport.write(b"x")
                await asyncio.sleep(0)
            await refused(asking, "nothing came")
            await server.peers[0].lost


@pytest.mark.parametrize("data", [OK, CHUNKED + b"1\r\na\r\n0\r\n\r\n"])
async def test_a_cancellation_at_any_await_closes_the_socket(opened: Opener, data: bytes) -> None:
    """The server says one byte a tick; whenever the caller goes, the server sees it."""

    async def cancelled_after(ticks: int, server: Server, transport: Transport) -> bool:
        asking, said = asyncio.ensure_future(ask(transport, server)), 0
        for _ in range(ticks):
            await asyncio.sleep(0)
            if server.requests and said < len(data):
                server.peers[0].transport.write(data[said : said + 1])
                said += 1
        asking.cancel()
        try:
            assert (await asking).strip(b"{}a") == b""
        except asyncio.CancelledError:
            return True
        return False

    found = set[bool]()
    for ticks in range(0, 3 * len(data), 3):
        async with serving(hang) as server, opened() as transport:
            found.add(was_cancelled := await cancelled_after(ticks, server, transport))
            if was_cancelled:
                await asyncio.wait_for(asyncio.gather(*[peer.lost for peer in server.peers]), 5)
                assert transport.open_connections == 0
    assert found == {True, False}
