"""Packed answers: limits hold on what is unpacked, while it is unpacked, and the loop goes on."""

from __future__ import annotations

import asyncio
import functools
import gzip
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from typing import cast

import httpx
import pytest

from dspex.errors import ResponseInvalid, TransportFailed
from dspex.services.lm.transport import HttpxTransport
from tests.support.transports import (
    HEADERS,
    Answer,
    Opener,
    say,
    say_and_close,
    serving,
    users,
    with_h11,
    with_httptools,
)

TEXT = bytes(range(256)) * 40
MANY = 2**25
gzipped = functools.partial(gzip.compress, mtime=0)  # the same whenever it is called: tests are named by it
ZEROS = gzipped(bytes(MANY))


@pytest.fixture(params=[with_h11, with_httptools, users])
def opened(request: pytest.FixtureRequest) -> Opener:
    """Ours, and one of httpx's brought by the user."""
    return cast("Opener", request.param)


@pytest.fixture
def tracing() -> Iterator[Callable[[], int]]:
    """Tells how many bytes were in use at most."""
    tracemalloc.start()
    try:
        yield lambda: tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def raw_deflate(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-15)
    return packer.compress(data) + packer.flush()


def packed(encoding: str, body: bytes, status: bytes = b"200 OK") -> Answer:
    head = b"HTTP/1.1 %b\r\nContent-Encoding: %b\r\nContent-Length: %d\r\n\r\n"
    return say(head % (status, encoding.encode(), len(body)) + body)


@pytest.mark.parametrize(
    ("encoding", "pack"),
    [
        ("gzip", gzipped),
        ("X-GZIP", gzipped),
        ("gzip, identity", gzipped),
        ("gzip", lambda data: gzipped(data[:100]) + gzipped(b"") + gzipped(data[100:])),
        ("deflate", zlib.compress),
        ("deflate", raw_deflate),
        ("identity", bytes),
        ("", bytes),
    ],
)
async def test_one_layer_is_undone(opened: Opener, encoding: str, pack: Callable[[bytes], bytes]) -> None:
    """Some servers pack whether asked or not; the connection stays."""
    async with serving(packed(encoding, pack(TEXT))) as server, opened() as transport:
        for _ in range(2):
            assert (await transport.post(server.url, HEADERS, b"{}")).body == TEXT
    assert len(server.peers) == 1


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_cut_anywhere_it_is_the_same(opened: Opener, encoding: str) -> None:
    """A byte in each chunk."""
    body = (gzipped if encoding == "gzip" else zlib.compress)(TEXT[:300])
    chunks = b"".join([b"1\r\n%b\r\n" % body[at : at + 1] for at in range(len(body))])
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %b\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with serving(say(head % encoding.encode() + chunks + b"0\r\n\r\n")) as server, opened() as transport:
        assert (await transport.post(server.url, HEADERS, b"{}")).body == TEXT[:300]


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
async def test_an_empty_body_unpacks_to_nothing(opened: Opener, encoding: str) -> None:
    """Servers name the encoding of bodies that they leave out."""
    async with serving(packed(encoding, b"")) as server, opened() as transport:
        assert (await transport.post(server.url, HEADERS, b"{}")).body == b""


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("gzip", gzipped(TEXT)[:-1]),
        ("gzip", gzipped(TEXT)[:20]),
        ("gzip", gzipped(TEXT)[:1]),
        ("gzip", gzipped(TEXT)[:-8] + b"\0" * 8),
        ("gzip", gzipped(TEXT) + b"junk"),
        ("gzip", gzipped(TEXT) + b"\x1f"),
        ("gzip", TEXT),
        ("gzip", gzipped(b"") * 1000),
        ("deflate", zlib.compress(TEXT)[:-1]),
        ("deflate", zlib.compress(TEXT) + b"x"),
        ("deflate", raw_deflate(TEXT)[:-2]),
        ("deflate", b"x"),
        ("deflate", b"\xff" * 9),
    ],
)
async def test_what_cannot_be_unpacked_is_a_failure(opened: Opener, encoding: str, body: bytes) -> None:
    """Cut or corrupt: no part of it is an answer."""
    async with serving(packed(encoding, body)) as server, opened() as transport:
        with pytest.raises(TransportFailed, match="cannot be unpacked") as caught:
            await transport.post(server.url, HEADERS, b"{}")
    assert caught.value.__cause__ is caught.value.__context__ is None


@pytest.mark.parametrize("encoding", ["gzip, gzip", "gzip,deflate", "gzip, br", "br", "zstd", "compress", "gzip;q=1"])
@pytest.mark.parametrize("status", [b"200 OK", b"400 Bad"])
async def test_more_than_one_layer_and_unknown_ones_are_refused(opened: Opener, encoding: str, status: bytes) -> None:
    """Another answer would be packed in the same way."""
    async with serving(packed(encoding, b"x", status)) as server, opened() as transport:
        with pytest.raises(ResponseInvalid, match="packed") as caught:
            await transport.post(server.url, HEADERS, b"{}")
        await server.peers[0].lost
    assert caught.value.should_retry is False
    assert caught.value.status == int(status[:3])


class TestBombs:
    async def test_in_two_layers(self, opened: Opener) -> None:
        """Few bytes that would be gigabytes are not even begun with."""
        bomb = gzipped(ZEROS)
        async with serving(packed("gzip, gzip", bomb)) as server, opened() as transport:
            with pytest.raises(ResponseInvalid, match="packed 2 times"):
                await transport.post(server.url, HEADERS, b"{}")

    @pytest.mark.parametrize("bomb", [ZEROS, gzipped(bytes(2**19)) * 64], ids=["one", "many"])
    async def test_the_limit_holds_while_unpacking(
        self, opened: Opener, bomb: bytes, tracing: Callable[[], int]
    ) -> None:
        """No more is ever unpacked than may be kept, and one step of the thread."""
        async with serving(packed("gzip", bomb)) as server:
            async with opened(max_body=2**20) as transport:
                with pytest.raises(ResponseInvalid, match="more than 1048576 bytes"):
                    await transport.post(server.url, HEADERS, b"{}")
            await server.peers[0].lost
        assert tracing() < MANY // 4

    @pytest.mark.parametrize("over", [0, 1])
    async def test_the_limit_counts_unpacked_bytes(self, opened: Opener, over: int) -> None:
        """Just so many are allowed, in a thread or not."""
        for size in (1000, 2**20):
            answer = packed("gzip", gzipped(bytes(size + over)))
            async with serving(answer) as server, opened(max_body=size) as transport:
                if over:
                    with pytest.raises(ResponseInvalid, match="more than"):
                        await transport.post(server.url, HEADERS, b"{}")
                else:
                    assert len((await transport.post(server.url, HEADERS, b"{}")).body) == size

    async def test_packed_bytes_that_unpack_to_nothing_are_counted_too(self, opened: Opener) -> None:
        """A body may be endless and empty."""
        packer = zlib.compressobj(wbits=31)
        endless = packer.compress(b"") + b"".join([packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2000)])
        nothing = endless[:10] + b"\x00\x00\x00\xff\xff" * 2000
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\n\r\n"
        async with serving(say_and_close(head + nothing)) as server, opened(max_body=5000) as transport:
            with pytest.raises(ResponseInvalid, match="more than 5000 bytes"):
                await transport.post(server.url, HEADERS, b"{}")

    async def test_a_stream_is_held_to_it_as_well(self, opened: Opener) -> None:
        """Its pieces are added up."""
        async with serving(packed("gzip", gzipped(bytes(2**22)))) as server, opened(max_body=2**21) as transport:
            size = 0
            with pytest.raises(ResponseInvalid, match="more than"):
                async with transport.stream(server.url, HEADERS, b"{}") as answer:
                    async for piece in answer:
                        size += len(piece)
            assert size <= 2**21


def unpacking_threads() -> int:
    return sum(each.name.startswith("dspex-unpack") for each in threading.enumerate())


async def test_much_is_unpacked_in_a_thread_and_little_is_not(opened: Opener) -> None:
    """The loop goes on meanwhile; the thread ends with the transport."""
    before = unpacking_threads()
    async with serving(packed("gzip", gzipped(TEXT)), packed("gzip", ZEROS)) as server, opened() as transport:
        await transport.post(server.url, HEADERS, b"{}")
        assert unpacking_threads() == before
        for _ in range(2):
            assert len((await transport.post(server.url, HEADERS, b"{}")).body) == MANY
        assert unpacking_threads() == before + 1
    assert unpacking_threads() == before


async def test_leaving_while_a_thread_unpacks_leaves_nothing_open(opened: Opener) -> None:
    """The thread's work is dropped; nobody waits for it. The answer has come: its connection is kept until the end."""
    async with serving(packed("gzip", ZEROS[:-1])) as server:
        async with opened() as transport, transport.stream(server.url, HEADERS, b"{}") as answer:
            await anext(aiter(answer))
            rest = asyncio.ensure_future(answer.read())
            await asyncio.sleep(0)
            rest.cancel()
            with pytest.raises(asyncio.CancelledError):
                await rest
        await asyncio.wait_for(server.peers[0].lost, 5)


async def test_an_answer_that_a_users_transport_has_read_is_not_unpacked_again() -> None:
    """httpx has done it."""
    mock = httpx.MockTransport(
        lambda _: httpx.Response(200, content=gzipped(TEXT), headers={"content-encoding": "gzip"})
    )
    assert (await HttpxTransport(mock).post("http://api.test/v1", HEADERS, b"")).body == TEXT
