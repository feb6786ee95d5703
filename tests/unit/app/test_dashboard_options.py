"""Who may look, and by which names the page may be called: safe unless somebody says otherwise."""

from __future__ import annotations

from typing import Any

import pytest

import dspex
from dspex.app.dashboard.options import dashboard_of, is_loopback

TOKEN = "a-token-of-enough-letters"


@pytest.mark.parametrize("address", ["127.0.0.1:8765", "localhost:0", "[::1]:1", "127.8.8.8:65535"])
def test_this_machine_needs_no_token(address: str) -> None:
    page = dspex.Dashboard(address)

    assert page.port in (8765, 0, 1, 65535)
    assert is_loopback(page.host)


@pytest.mark.parametrize("address", ["0.0.0.0:8765", "[::]:8765", "10.0.0.1:80", "example.com:80"])
def test_elsewhere_a_token_is_required(address: str) -> None:
    with pytest.raises(dspex.ConfigError, match="needs a token"):
        dspex.Dashboard(address)

    assert dspex.Dashboard(address, token=TOKEN).token == TOKEN


@pytest.mark.parametrize("address", ["8765", "127.0.0.1", "127.0.0.1:99999", ":80", "http://127.0.0.1:80", "a b:1", 5])
def test_what_is_no_address_is_refused(address: Any) -> None:
    with pytest.raises(dspex.ConfigError):
        dashboard_of(address)


@pytest.mark.parametrize("token", ["short", "x" * 300, "with blanks in the middle", 5])
def test_a_token_that_can_be_guessed_or_sent_badly_is_refused(token: Any) -> None:
    with pytest.raises(dspex.ConfigError, match="token"):
        dspex.Dashboard(token=token)


def test_the_token_is_not_shown() -> None:
    assert TOKEN not in repr(dspex.Dashboard(token=TOKEN))


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        ("127.0.0.1:8765", True),
        ("localhost:3000", True),
        ("LOCALHOST", True),
        ("[::1]:8765", True),
        ("dash.example.com", True),
        ("evil.example", False),
        ("evil.example:8765", False),
        ("127.0.0.1.evil.example", False),
        ("localhost.evil.example:8765", False),
        ("", False),
    ],
)
def test_only_its_own_names_are_answered(header: str, allowed: bool) -> None:
    """A page elsewhere whose name points at this machine (DNS rebinding) sends that name."""
    assert dspex.Dashboard(hosts=("dash.example.com",)).allows(header) is allowed


def test_an_app_without_a_page_has_no_address() -> None:
    with pytest.raises(dspex.ConfigError, match="no page"):
        _ = dspex.App().dashboard_url
