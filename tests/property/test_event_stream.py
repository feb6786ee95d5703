"""AWS's event streams: cut anywhere they are read the same, and changed bytes are an error."""

from __future__ import annotations

import binascii
import itertools
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.errors import LMError
from dspex.protocols.lm import LMResponse
from dspex.services.lm.wires.bedrock.event_stream import EventStreamParser, StreamEvent, StreamEventError, written
from dspex.services.lm.wires.bedrock.stream import ConverseStream
from tests.support.bedrock_answers import stream

NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=20)
EVENTS = st.builds(StreamEvent, st.dictionaries(NAMES, st.text(max_size=20), max_size=4), st.binary(max_size=80))
ANSWER = stream("Who? — Łukasz")


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in itertools.pairwise(at)]


@given(events=st.lists(EVENTS, max_size=4), cuts=st.lists(st.integers(0, 500), max_size=6))
def test_messages_come_back_however_they_are_cut(events: list[StreamEvent], cuts: list[int]) -> None:
    parser, found = EventStreamParser(), []
    for piece in pieces(b"".join(written(*each) for each in events), cuts):
        found.extend(parser.feed(piece))

    assert found == events
    assert parser.rest == 0


@given(event=EVENTS, at=st.integers(0, 10**6), change=st.integers(1, 255))
def test_a_changed_byte_is_told_and_never_read(event: StreamEvent, at: int, change: int) -> None:
    data = bytearray(written(*event))
    data[at % len(data)] ^= change
    parser = EventStreamParser()

    with pytest.raises(StreamEventError, match=r"checksum|cannot be"):
        parser.feed(bytes(data))


def test_the_example_of_the_sdks() -> None:
    """The first positive case of the suite that AWS's own SDKs share: all lengths, one header, a payload."""
    data = binascii.unhexlify(
        "0000003d0000002007fd83960c636f6e74656e742d747970650700106170706c69636174696f6e2f6a736f6e7b27666f6f273a2762617227"
        "7d8d9c08b1"
    )
    (event,) = EventStreamParser().feed(data)

    assert event == StreamEvent({"content-type": "application/json"}, b"{'foo':'bar'}")
    assert written(*event) == data


def test_headers_of_every_kind_are_passed_over() -> None:
    """Of those that are no texts, none is used."""
    values = {
        0: b"",
        1: b"",
        2: b"\1",
        3: b"\1\2",
        4: b"1234",
        5: b"12345678",
        6: b"\0\2ab",
        8: b"12345678",
        9: b"x" * 16,
    }
    lines = b"".join(bytes([1]) + b"k" + bytes([kind]) + value for kind, value in values.items())
    lines += b"\1t\x07\0\2ok"
    prelude = (len(lines) + 16).to_bytes(4, "big") + len(lines).to_bytes(4, "big")
    head = prelude + binascii.crc32(prelude).to_bytes(4, "big") + lines
    (event,) = EventStreamParser().feed(head + binascii.crc32(head).to_bytes(4, "big"))

    assert event == StreamEvent({"t": "ok"}, b"")


@given(cuts=st.lists(st.integers(0, 3000), max_size=8))
def test_an_answer_is_the_same_however_it_is_cut(cuts: list[int]) -> None:
    def read(parts: list[bytes]) -> tuple[str, LMResponse]:
        decoder = ConverseStream({})
        told = [delta for part in parts for delta in decoder.feed(part)]
        return "".join(each.text for each in told), decoder.finish()

    assert read(pieces(ANSWER, cuts)) == read([ANSWER])


@given(data=st.binary(max_size=200) | st.lists(EVENTS).map(lambda each: b"".join(written(*one) for one in each)))
def test_any_bytes_are_an_answer_or_a_typed_error(data: bytes) -> None:
    decoder = ConverseStream({})
    try:
        decoder.feed(data)
        decoder.finish()
    except LMError:
        return
    raise AssertionError("bytes without a stopReason are no answer")


JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 3) | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "delta",
                    "start",
                    "text",
                    "toolUse",
                    "input",
                    "contentBlockIndex",
                    "reasoningContent",
                    "redactedContent",
                    "usage",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)
KINDS = st.sampled_from(
    ["contentBlockDelta", "contentBlockStart", "contentBlockStop", "messageStop", "metadata", "new"]
)


@given(events=st.lists(st.tuples(KINDS, JSON), max_size=6))
def test_events_of_any_content_are_an_answer_or_a_typed_error(events: list[tuple[str, Any]]) -> None:
    decoder = ConverseStream({})
    try:
        for kind, value in events:
            decoder.feed(written({":message-type": "event", ":event-type": kind}, json.dumps(value).encode()))
        decoder.feed(written({":message-type": "event", ":event-type": "messageStop"}, b'{"stopReason":"end_turn"}'))
        assert isinstance(decoder.finish(), LMResponse)
    except LMError:
        return
