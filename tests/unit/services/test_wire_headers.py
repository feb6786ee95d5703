"""Facts in headers: waits, limits, and advice about another try."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.protocols.wire import Headroom
from dspex.services.lm.wires._headers import duration, openai_headroom, parse_retry_after, should_retry


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("6m0s", 360.0),
        ("20ms", 0.02),
        ("1s", 1.0),
        ("1h2m3.5s", 3723.5),
        ("1.204s", 1.204),
        ("2d", 172800.0),
        ("7", 7.0),
        (" 59.5s ", 59.5),
        ("0s", 0.0),
        ("soon", None),
        ("-5s", None),
        ("5x", None),
        ("s", None),
        ("", None),
        (None, None),
        ("nan", None),
        ("1s tomorrow", None),
    ],
)
def test_durations(text: str | None, expected: float | None) -> None:
    """As OpenAI writes them; what is none says nothing."""
    found = duration(text)

    assert found == (None if expected is None else pytest.approx(expected))


def test_headroom_of_openai() -> None:
    """Six headers, each of which may be missing."""
    headers = {
        "x-ratelimit-limit-requests": "500",
        "x-ratelimit-remaining-requests": "499",
        "x-ratelimit-reset-requests": "120ms",
        "x-ratelimit-limit-tokens": "200000",
        "x-ratelimit-remaining-tokens": "199500",
        "x-ratelimit-reset-tokens": "6m0s",
    }

    expected = Headroom(499, pytest.approx(0.12), 199500, 360.0, 500, 200000)  # type: ignore[arg-type]  # stands for a float
    assert openai_headroom(headers) == expected


@pytest.mark.parametrize("headers", [{}, {"server": "x"}, {"x-ratelimit-remaining-requests": "many"}])
def test_headers_that_say_nothing_are_no_headroom(headers: dict[str, str]) -> None:
    """Local servers have no limits to tell."""
    assert openai_headroom(headers) is None


def test_one_limit_alone_is_told() -> None:
    """Some hosts limit tokens only."""
    assert openai_headroom({"x-ratelimit-remaining-tokens": "0"}) == Headroom(tokens=0)


@pytest.mark.parametrize(("value", "expected"), [("true", True), ("False ", False), ("perhaps", None), ("", None)])
def test_should_retry(value: str, expected: bool | None) -> None:
    """The provider's own word on another try."""
    assert should_retry({"x-should-retry": value}) is expected
    assert should_retry({}) is None


def test_azures_milliseconds_are_a_wait_too() -> None:
    """It names the header differently."""
    assert parse_retry_after({"x-ms-retry-after-ms": "250", "retry-after": "1"}, 0.0) == 0.25


@given(
    headers=st.dictionaries(
        st.sampled_from(
            [
                "retry-after",
                "retry-after-ms",
                "x-should-retry",
                "x-ratelimit-remaining-requests",
                "x-ratelimit-reset-requests",
                "x-ratelimit-limit-tokens",
            ]
        ),
        st.text(max_size=20),
    )
)
def test_any_header_is_read_or_passed_over(headers: dict[str, str]) -> None:
    """Nothing a server writes there is a crash of ours."""
    wait = parse_retry_after(headers, 1e9)
    room = openai_headroom(headers)

    assert wait is None or wait >= 0
    assert should_retry(headers) in (True, False, None)
    assert room is None or (room.requests is None or room.requests >= 0)
