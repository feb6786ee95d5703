"""The parser of server-sent events: the standard's cases, and bytes cut anywhere."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.services.lm.wires._sse import EventParser, ServerSentEvent


def events(*pieces: bytes) -> list[tuple[str, str]]:
    parser = EventParser()
    return [(event.event, event.data) for piece in pieces for event in parser.feed(piece)]


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (b"data: a\n\n", [("", "a")]),
        (b"data:a\n\n", [("", "a")]),
        (b"data:  a\n\n", [("", " a")]),
        (b"data: a\r\n\r\n", [("", "a")]),
        (b"data: a\r\r", [("", "a")]),
        (b"data: a\r\n\n", [("", "a")]),
        (b"\xef\xbb\xbfdata: a\n\n", [("", "a")]),
        (b"event: x\ndata: a\n\n", [("x", "a")]),
        (b"event: x\n\ndata: a\n\n", [("", "a")]),
        (b"event: x\ndata: a\n\ndata: b\n\n", [("x", "a"), ("", "b")]),
        (b"data: a\ndata: b\n\n", [("", "a\nb")]),
        (b"data\ndata: b\n\n", [("", "\nb")]),
        (b": keep-alive\n\ndata: a\n\n", [("", "a")]),
        (b"data: a\n: in between\nid: 7\nretry: 10\nother: x\n\n", [("", "a")]),
        (b"data: a\n", []),
        (b"data: a", []),
        (b"\n\n\n", []),
        (b"", []),
        ("data: Grüße 🌍\u2028.\x85\n\n".encode(), [("", "Grüße 🌍\u2028.\x85")]),
        (b" data: a\n\n", []),
        (b"data: a:b\n\n", [("", "a:b")]),
    ],
)
def test_the_standards_cases(stream: bytes, expected: list[tuple[str, str]]) -> None:
    """Line ends of three kinds, comments, types, several lines of data; whole and byte by byte."""
    assert events(stream) == expected
    assert events(*[stream[i : i + 1] for i in range(len(stream))]) == expected


def test_a_line_end_cut_in_two_is_one() -> None:
    """CR and LF may come in different packets."""
    assert events(b"data: a\r", b"\ndata: b\r", b"\n\r", b"\n") == [("", "a\nb")]


def test_the_end_completes_an_event_without_its_empty_line() -> None:
    """Some servers close right behind the last line."""
    parser = EventParser()

    assert parser.feed(b"event: x\ndata: [DO") == []
    assert parser.feed(b"NE]") == []
    assert parser.finish() == [ServerSentEvent("x", "[DONE]")]
    assert parser.finish() == []


def test_a_long_line_in_many_pieces_is_read_in_linear_time() -> None:
    """Sixty thousand pieces of one line: joining each to the rest would copy gigabytes."""
    pieces = [b"data: ", *[b"x" * 16] * 60_000, b"\n\n"]

    assert len(events(*pieces)[0][1]) == 16 * 60_000


@given(
    stream=st.lists(
        st.sampled_from([b"data: ", b"data", b"a", b"\n", b"\r", b"\r\n", b":", b"event: x", b"\xc3", b"\xbc"])
    ).map(b"".join),
    cuts=st.lists(st.integers(0, 60), max_size=8),
)
def test_where_the_bytes_are_cut_makes_no_difference(stream: bytes, cuts: list[int]) -> None:
    """Whatever packets a network makes of the stream."""
    places = sorted({0, len(stream), *(cut for cut in cuts if cut < len(stream))})
    pieces = [stream[a:b] for a, b in pairwise(places)]

    assert events(*pieces) == events(stream)


@pytest.mark.parametrize("line", [b"data: \xff\n\n", b"event: \xff\n\n", b"data: \xed\xa0\xbd\n\n", b"data: \xe2\x82"])
def test_bytes_that_are_not_utf8_are_refused(line: bytes) -> None:
    """The standard puts a replacement character; here text never changes silently."""
    parser = EventParser()
    with pytest.raises(UnicodeDecodeError):
        assert parser.feed(line) == []
        parser.finish()
