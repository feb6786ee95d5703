"""Answers piece by piece, over real loopback sockets: one suite, every transport."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import weakref
from collections.abc import AsyncIterator
from contextvars import ContextVar, copy_context
from typing import cast

import httpx
import pytest

from dspex.errors import ResponseInvalid, TransportFailed
from dspex.services.lm.transport import HttpStream, HttpxTransport, Timeouts
from tests.support.programs import until
from tests.support.transports import (
    HEADERS,
    Answer,
    Opener,
    Peer,
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

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nX-Request-Id: r1\r\nTransfer-Encoding: chunked\r\n\r\n"
END = b"0\r\n\r\n"


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


WHOLE = HEAD + chunk(b"one") + chunk(b"two") + END


@pytest.fixture(params=[with_h11, with_httptools])
def opened(request: pytest.FixtureRequest) -> Opener:
    """Our own transports."""
    return cast("Opener", request.param)


@pytest.fixture(params=[with_h11, with_httptools, users])
def any_opened(request: pytest.FixtureRequest) -> Opener:
    """Ours, and one of httpx's brought by the user."""
    return cast("Opener", request.param)


class TestPieces:
    async def test_each_is_delivered_when_it_arrives(self, any_opened: Opener) -> None:
        """The server says the next one only after the last one was seen: nothing waits for more."""
        async with (
            serving(say(HEAD)) as server,
            any_opened() as transport,
            transport.stream(server.url, HEADERS, b"{}") as answer,
        ):
            assert (answer.status, answer.headers["x-request-id"]) == (200, "r1")
            wire = server.peers[0].transport
            for number in range(5):
                wire.write(chunk(b"piece %d" % number))
                assert await anext(aiter(answer)) == b"piece %d" % number
            wire.write(END)
            assert [piece async for piece in answer] == []

    async def test_the_rest_can_be_read_whole(self, any_opened: Opener) -> None:
        """The parts that an error status needs."""
        async with (
            serving(say(WHOLE)) as server,
            any_opened() as transport,
            transport.stream(server.url, HEADERS, b"{}") as answer,
        ):
            assert await answer.read() == b"onetwo"
            assert await answer.read() == b""

    async def test_packed_ones_are_unpacked_as_they_come(self, any_opened: Opener) -> None:
        """A proxy may pack a stream; flushed after each event it can be unpacked after each."""
        import zlib

        packer = zlib.compressobj(wbits=31)
        first = packer.compress(b"first") + packer.flush(zlib.Z_SYNC_FLUSH)
        rest = packer.compress(b"second") + packer.flush()
        head = HEAD.replace(b"\r\n\r\n", b"\r\nContent-Encoding: gzip\r\n\r\n")
        async with (
            serving(say(head + chunk(first))) as server,
            any_opened() as transport,
            transport.stream(server.url, HEADERS, b"{}") as answer,
        ):
            assert await anext(aiter(answer)) == b"first"
            server.peers[0].transport.write(chunk(rest) + END)
            assert b"".join([piece async for piece in answer]) == b"second"

    async def test_a_slow_reader_holds_the_server_back(self, any_opened: Opener) -> None:
        """Bytes that nobody reads stay at the server, not in our memory."""
        much = HEAD + chunk(b"x" * 40_000_000) + END
        async with (
            serving(say(much)) as server,
            any_opened() as transport,
            transport.stream(server.url, HEADERS, b"{}") as answer,
        ):
            size = len(await anext(aiter(answer)))
            for _ in range(100):
                await asyncio.sleep(0)
            assert server.peers[0].transport.get_write_buffer_size() > 20_000_000
            size += len(await answer.read())

        assert size == 40_000_000


class TestLeaving:
    async def test_a_body_read_to_its_end_frees_the_connection(self, any_opened: Opener) -> None:
        """The next exchange uses it again, whether it is a stream or not."""
        async with serving(say(WHOLE), ok, say(WHOLE)) as server, any_opened() as transport:
            async with transport.stream(server.url, HEADERS, b"{}") as answer:
                assert await answer.read() == b"onetwo"
            assert (await transport.post(server.url, HEADERS, b"{}")).body == b"{}"
            async with transport.stream(server.url, HEADERS, b"{}") as answer:
                assert await answer.read() == b"onetwo"

            assert len(server.peers) == 1

    @pytest.mark.parametrize("begun", [HEAD, HEAD + chunk(b"one")])
    async def test_leaving_early_closes_the_socket(self, any_opened: Opener, begun: bytes) -> None:
        """The provider sees it at once and stops generating; the next exchange has a new connection."""
        async with serving(say(begun), ok) as server, any_opened() as transport:
            async with transport.stream(server.url, HEADERS, b"{}") as answer:
                if begun != HEAD:
                    assert await anext(aiter(answer)) == b"one"
            await asyncio.wait_for(server.peers[0].lost, 5)

            assert transport.open_connections == 0
            assert (await transport.post(server.url, HEADERS, b"{}")).status == 200

    async def test_an_error_in_the_block_closes_the_socket_and_travels_on(self, any_opened: Opener) -> None:
        """Whoever reads may fail, too."""
        async with serving(say(HEAD)) as server, any_opened() as transport:
            with pytest.raises(KeyError):
                async with transport.stream(server.url, HEADERS, b"{}"):
                    raise KeyError("mine")
            await asyncio.wait_for(server.peers[0].lost, 5)

    @pytest.mark.parametrize("begun", [b"", HEAD[:20], HEAD, HEAD + chunk(b"one")])
    async def test_cancellation_closes_the_socket(self, any_opened: Opener, begun: bytes) -> None:
        """Before the answer, in its head, before the first piece, between two."""
        async with serving(say(begun)) as server, any_opened() as transport:

            async def read() -> None:
                async with transport.stream(server.url, HEADERS, b"{}") as answer:
                    async for _ in answer:
                        pass

            call = asyncio.ensure_future(read())
            await server.arrived.wait()
            for _ in range(5):
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
            await asyncio.wait_for(server.peers[0].lost, 5)

            assert transport.open_connections == 0

    async def test_closing_the_transport_ends_a_stream(self, opened: Opener) -> None:
        """Nobody waits for pieces of a transport that is gone."""
        async with serving(say(HEAD + chunk(b"one"))) as server, opened() as transport:
            with pytest.raises(TransportFailed):
                async with transport.stream(server.url, HEADERS, b"{}") as answer:
                    assert await anext(aiter(answer)) == b"one"
                    await transport.aclose()
                    await anext(aiter(answer))
            await server.peers[0].lost


class TestFailures:
    @pytest.mark.parametrize("close", [say_and_close(b""), reset])
    async def test_a_stale_connection_is_replaced_once(self, opened: Opener, close: Answer) -> None:
        """As for a whole answer, and what is sent again carries the headers it was given for that."""
        async with serving(ok, close, say(WHOLE)) as server, opened() as transport:
            await transport.post(server.url, HEADERS, b"{}")
            again = {**HEADERS, "x-attempt": "2"}
            async with transport.stream(server.url, HEADERS, b"{}", on_resend=lambda: again) as answer:
                assert await answer.read() == b"onetwo"

            assert transport.stale_retries == 1
        assert [b"x-attempt: 2" in head.lower() for head, _ in server.requests] == [False, False, True]

    async def test_a_begun_stream_is_never_asked_for_again(self, opened: Opener) -> None:
        """The provider has charged for it."""
        async with serving(ok, say_and_close(HEAD)) as server, opened() as transport:
            await transport.post(server.url, HEADERS, b"{}")
            with pytest.raises(TransportFailed):
                async with transport.stream(server.url, HEADERS, b"{}") as answer:
                    await answer.read()
        assert len(server.requests) == 2

    @pytest.mark.parametrize("sent", [HEAD, HEAD + chunk(b"one"), HEAD + b"3\r\non"])
    async def test_cut_short(self, any_opened: Opener, sent: bytes) -> None:
        """The pieces that came are delivered; the missing end is a failure."""
        async with serving(say_and_close(sent)) as server, any_opened() as transport:
            with pytest.raises(TransportFailed, match="before the answer was complete") as caught:
                async with transport.stream(server.url, HEADERS, b"{}") as answer:
                    async for piece in answer:
                        assert b"one".startswith(piece)
        assert caught.value.__cause__ is None

    async def test_reset_in_the_middle(self, any_opened: Opener) -> None:
        """A server that died."""
        async with serving(say(HEAD + chunk(b"one"))) as server, any_opened() as transport:
            with pytest.raises(TransportFailed):
                async with transport.stream(server.url, HEADERS, b"{}") as answer:
                    assert await anext(aiter(answer)) == b"one"
                    reset(server.peers[0])
                    await anext(aiter(answer))


class TestTimeouts:
    async def test_the_first_byte_has_its_own(self, any_opened: Opener) -> None:
        """A head is not yet an answer: providers send theirs before the model has begun."""
        short = Timeouts(read=30.0, first_byte=0.05)
        for answer in (hang, say(HEAD)):
            async with serving(answer) as server, any_opened() as transport:
                with pytest.raises(TransportFailed, match=r"had not begun to answer after 0\.05 s"):
                    async with transport.stream(server.url, HEADERS, b"{}", short) as stream:
                        await anext(aiter(stream))
                await server.peers[0].lost

    async def test_what_keeps_a_connection_alive_is_no_answer(self, any_opened: Opener) -> None:
        """Pings come for as long as the provider likes: the reader knows what a first token is."""
        both = Timeouts(read=30.0, first_byte=0.1)
        async with serving(say(HEAD + chunk(b": ping\n\n"))) as server, any_opened() as transport:
            with pytest.raises(TransportFailed, match=r"had not begun to answer after 0\.1 s"):
                async with transport.stream(server.url, HEADERS, b"{}", both) as stream:
                    async for piece in stream:
                        assert piece == b": ping\n\n"
                        server.peers[0].transport.write(chunk(piece))
            await server.peers[0].lost

    async def test_a_whole_answer_has_it_too(self, any_opened: Opener) -> None:
        """A model that has not begun does not become better by not streaming."""
        async with serving(hang) as server, any_opened() as transport:
            with pytest.raises(TransportFailed, match="had not begun"):
                await transport.post(server.url, HEADERS, b"{}", Timeouts(read=30.0, first_byte=0.05))
            await server.peers[0].lost

    async def test_the_silence_between_pieces_may_be_shorter(self, any_opened: Opener) -> None:
        """Thinking takes long, talking does not."""
        async with serving(say(HEAD + chunk(b"one"))) as server, any_opened() as transport:
            with pytest.raises(TransportFailed, match=r"nothing came .* for 0.05 s"):
                async with transport.stream(server.url, HEADERS, b"{}", Timeouts(read=0.05, first_byte=30.0)) as stream:
                    assert await anext(aiter(stream)) == b"one"
                    stream.begun()
                    await anext(aiter(stream))
            await server.peers[0].lost

    async def test_silence_without_a_first_byte_timeout(self, any_opened: Opener) -> None:
        """One number for both."""
        async with serving(say(HEAD)) as server, any_opened() as transport:
            with pytest.raises(TransportFailed, match=r"nothing came .* for 0.05 s"):
                async with transport.stream(server.url, HEADERS, b"{}", Timeouts(read=0.05)) as stream:
                    await anext(aiter(stream))
            await server.peers[0].lost


class TestSize:
    async def test_what_is_too_large_is_refused(self, any_opened: Opener) -> None:
        """The same for an announced size and for one found out on the way; the socket is closed."""
        told = b"HTTP/1.1 200 OK\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 5_000_000
        found = HEAD + b"".join(chunk(b"x" * 10_000) for _ in range(500)) + END
        for answer in (told, found):
            async with serving(say(answer)) as server, any_opened(max_body=1_000_000) as transport:
                with pytest.raises(ResponseInvalid, match="more than 1000000 bytes"):
                    await transport.post(server.url, HEADERS, b"{}")
                await asyncio.wait_for(server.peers[0].lost, 5)

    async def test_so_is_a_stream(self, any_opened: Opener) -> None:
        """The pieces within the limit have been delivered."""
        async with (
            serving(say(HEAD + chunk(b"x" * 600))) as server,
            any_opened(max_body=1_000) as transport,
            transport.stream(server.url, HEADERS, b"{}") as answer,
        ):
            assert len(await anext(aiter(answer))) == 600
            server.peers[0].transport.write(chunk(b"x" * 600))
            with pytest.raises(ResponseInvalid):
                await anext(aiter(answer))

    async def test_it_counts_unpacked(self, opened: Opener) -> None:
        """A few packed bytes can be a flood, and none of it is kept."""
        bomb = gzip.compress(b"\0" * 20_000_000, 1)
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: %d\r\n\r\n" % len(bomb)
        async with serving(say(head + bomb)) as server, opened(max_body=1_000_000) as transport:
            with pytest.raises(ResponseInvalid):
                await transport.post(server.url, HEADERS, b"{}")


class Kept:
    """Something a request holds."""


request_value: ContextVar[Kept] = ContextVar("request_value")


async def test_a_kept_connection_holds_no_context_of_a_stream(opened: Opener) -> None:
    """Not even when the stream was held back and let go on."""
    much = HEAD + chunk(b"x" * 2_000_000) + END
    async with serving(say(much)) as server, opened() as transport:

        async def call() -> weakref.ref[Kept]:
            value = Kept()
            request_value.set(value)
            async with transport.stream(server.url, HEADERS, b"{}") as answer:
                for _ in range(50):
                    await asyncio.sleep(0)
                await answer.read()
            return weakref.ref(value)

        kept = await asyncio.get_running_loop().create_task(call(), context=copy_context())
        await asyncio.sleep(0)
        gc.collect()

        assert transport.open_connections == 1
        assert kept() is None


class Tap(httpx.AsyncByteStream):
    """A body that tells when it was closed."""

    closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield b"one"
        yield b"two"

    async def aclose(self) -> None:
        self.closed = True


async def test_the_users_stream_is_closed_whatever_happens() -> None:
    """Read to its end, or left."""
    for whole in (True, False):
        tap = Tap()
        transport = HttpxTransport(httpx.MockTransport(lambda _, tap=tap: httpx.Response(200, stream=tap)))
        async with transport.stream("http://api.test/v1", {}, b"") as answer:
            assert await anext(aiter(answer)) == b"one"
            if whole:
                assert await answer.read() == b"two"
        assert tap.closed


async def test_many_streams_side_by_side(any_opened: Opener) -> None:
    """Each has its own connection and its own pieces, whatever order they come in."""

    def begin(peer: Peer) -> None:
        peer.transport.write(HEAD)

    async with serving(begin) as server, any_opened() as transport, contextlib.AsyncExitStack() as stack:
        streams: list[HttpStream] = [
            await stack.enter_async_context(transport.stream(server.url, HEADERS, b"%d" % number))
            for number in range(9)
        ]
        await until(lambda: len(server.requests) == 9)
        for number, peer in reversed(list(enumerate(server.peers))):
            peer.transport.write(chunk(b"to %d" % number) + END)
        assert [await stream.read() for stream in streams] == [b"to %d" % number for number in range(9)]
