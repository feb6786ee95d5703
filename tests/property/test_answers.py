"""Two parsers behind one reader: the same bytes, cut anywhere, come to the same answer or to the same error."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from dspex.services.lm._answers import AnswerReader
from dspex.services.lm._failures import ExchangeError
from dspex.services.lm._parsers import H11Parser, HttptoolsParser

ANSWERS = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nA: b \r\n\r\n{}",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;a=b\r\nde\r\n0\r\nX: y\r\n\r\n",
    b"HTTP/1.0 200\r\n\r\nabc",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 None\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nConnection: close, upgrade\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 304 Same\r\nContent-Length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\nX:\r\nY:\t \r\nConnection: close\r\n\r\nuntil the end",
]
FRAGMENTS = [
    *(
        b"\r",
        b"\n",
        b"\r\n",
        b" ",
        b"\t",
        b"0",
        b"a",
        b";",
        b":",
        b"\0",
        b"\x7f",
        b"\xff",
        b"\x80",
        b"-",
        b"+",
        b"0x",
        b'"',
    ),
    *(b"chunked", b"ffffffffffffffff", b';q="a b"', b";;", b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n"),
    *(b"Transfer-Encoding: gzip\r\n", b"Upgrade: websocket\r\nConnection: upgrade\r\n", b"HTTP/1.1 100 C\r\n\r\n"),
    *(
        b"HTTP/1.1 103 C\r\nLink: a\r\n\r\n",
        b"Keep-Alive: timeout=5\r\n",
        b"Connection: keep-alive\r\n",
        b" folded\r\n",
    ),
]


@st.composite
def nearly_answers(draw: st.DrawFn) -> bytes:
    """Draw an answer with up to four changes, which are what attackers and careless servers do."""
    data = draw(st.sampled_from(ANSWERS))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(data)))
        cut = draw(st.integers(0, 3))
        data = data[:at] + draw(st.sampled_from(FRAGMENTS) | st.binary(max_size=2)) + data[at + cut :]
    return data


def reading(parser: type[H11Parser | HttptoolsParser], pieces: Sequence[bytes]) -> object:
    """Return the whole answer, or the class of what is wrong with it."""
    reader, body = AnswerReader(parser), b""
    try:
        for piece in pieces:
            reader.feed(piece)
            body += reader.take()
            if reader.has_ended:
                break
        else:
            reader.feed(b"")
    except ExchangeError as error:
        return type(error)
    return reader.status, reader.headers, body, reader.may_stay


def cut(data: bytes, places: list[int]) -> list[bytes]:
    edges = [0, *sorted({min(each, len(data)) for each in places}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(edges) if end > start]


@given(data=nearly_answers(), places=st.lists(st.integers(0, 150), max_size=6))
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\t\r\n\r\n0\r\n\r\n", [])
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunkeD\r\n\r\n1\r\na\r\n0\r\nX: y\r\n\r\n", [])
def test_parsers_and_cuts_make_no_difference(data: bytes, places: list[int]) -> None:
    whole = reading(H11Parser, [data] if data else [])

    assert reading(HttptoolsParser, [data] if data else []) == whole
    for parser in (H11Parser, HttptoolsParser):
        assert reading(parser, cut(data, places)) == whole


@given(data=st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_a_typed_error(data: bytes) -> None:
    pieces = [data] if data else []
    assert reading(H11Parser, pieces) == reading(HttptoolsParser, pieces)


@pytest.mark.parametrize("parser", [H11Parser, HttptoolsParser])
@pytest.mark.parametrize("data", ANSWERS)
def test_the_answers_themselves_are_read_byte_by_byte(parser: type[H11Parser | HttptoolsParser], data: bytes) -> None:
    """The changes above are made to something that is right."""
    found = reading(parser, [bytes([each]) for each in data])

    assert isinstance(found, tuple)
    assert found == reading(parser, [data])
