"""Addresses that are read without httpx are read as httpx reads them."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.services.lm._address import _PLAIN, Address, read_address

LABEL = st.text("abcxyz0189-", min_size=1, max_size=5)
PARTS = st.tuples(
    st.sampled_from(["http", "https", "HTTP", "ftp"]),
    st.lists(LABEL, min_size=1, max_size=4).map(".".join) | st.sampled_from(["localhost", "127.0.0.1", "[::1]", "A.b"]),
    st.just("") | st.integers(0, 70_000).map(lambda port: f":{port}") | st.sampled_from([":080", ":80", ":443"]),
    st.text("/abAZ09._~:-%@? ", max_size=12).map(lambda text: f"/{text}") | st.just(""),
)


def as_httpx(url: str) -> Address:
    parsed = httpx.URL(url)
    return Address(parsed.scheme, parsed.raw_host.decode(), parsed.port, parsed.netloc, parsed.raw_path)


@given(PARTS)
def test_an_address_is_read_as_httpx_reads_it(parts: tuple[str, str, str, str]) -> None:
    url = "{}://{}{}{}".format(*parts)
    try:
        expected = as_httpx(url)
    except httpx.InvalidURL:
        with pytest.raises(httpx.InvalidURL):
            read_address(url)
    else:
        assert read_address(url) == expected


@pytest.mark.parametrize(
    "url",
    [
        "https://api.openai.com/v1/chat/completions",
        "https://api.anthropic.com:443/v1/messages",
        "http://127.0.0.1:8080/v1/chat/completions",
        "http://localhost:65535",
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-2.5-flash:generateContent",
        "https://bedrock-runtime.us-east-1.amazonaws.com/model/x/converse",
    ],
)
def test_the_usual_ones_are_plain(url: str) -> None:
    """So that httpx need not be loaded for them."""
    expected = as_httpx(url)

    if not url.endswith(":65535"):  # a port of which only some with five digits exist
        assert _PLAIN.fullmatch(url)
    assert read_address(url) == expected
    assert read_address(url).label == f"{expected.scheme}://{expected.authority.decode()}"
