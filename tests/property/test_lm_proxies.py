"""Which way an address is asked, by what the environment says."""

from __future__ import annotations

import urllib.request

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dspex.services.lm.proxies import Proxies

PROXY = "http://proxy.example:3128"


def way(url: str, no_proxy: str = "", **given: str) -> str | None:
    return Proxies(**{"http": "", "https": PROXY, "no_proxy": no_proxy, **given}).for_url(url)


@pytest.mark.parametrize(
    ("url", "no_proxy"),
    [
        ("https://api.openai.com/v1", "*"),
        ("https://api.openai.com/v1", "api.openai.com"),
        ("https://api.openai.com/v1", "x.example, .OPENAI.com ,y.example"),
        ("https://api.openai.com/v1", "openai.com"),
        ("https://api.openai.com/v1", "*.openai.com"),
        ("https://api.openai.com:8443/v1", "openai.com:8443"),
        ("https://api.openai.com/v1", "openai.com:443"),
        ("https://10.1.2.3/v1", "10.0.0.0/8"),
        ("https://10.1.2.3/v1", "10.1.2.3"),
        ("https://[fd00::1]/v1", "fd00::/8"),
        ("https://[fd00::1]:8000/v1", "[fd00::1]:8000"),
        ("https://localhost:8000/v1", ""),
        ("https://127.0.0.2/v1", ""),
        ("https://[::1]/v1", ""),
        ("http://api.openai.com/v1", ""),
    ],
)
def test_these_are_asked_directly(url: str, no_proxy: str) -> None:
    """Named by host, subdomain, port, address or network; or of this machine; or without a proxy for their scheme."""
    assert way(url, no_proxy) is None


@pytest.mark.parametrize(
    ("url", "no_proxy"),
    [
        ("https://api.openai.com/v1", ""),
        ("https://api.openai.com/v1", "penai.com"),
        ("https://api.openai.com/v1", "openai.com:8443"),
        ("https://api.openai.com/v1", "api.openai.com.example"),
        ("https://api.openai.com/v1", ",,"),
        ("https://api.openai.com/v1", "10.0.0.0/8"),
        ("https://11.1.2.3/v1", "10.0.0.0/8"),
        ("https://[fd00::1]:8001/v1", "[fd00::1]:8000"),
    ],
)
def test_these_go_through_the_proxy(url: str, no_proxy: str) -> None:
    """Part of a name is not a name."""
    assert way(url, no_proxy) == PROXY


def test_lower_case_comes_first_and_one_variable_may_speak_for_both() -> None:
    """As for other programs."""
    read = Proxies.of_environment
    assert read({"HTTPS_PROXY": "http://a", "https_proxy": "http://b"}).https == "http://b"
    assert read({"ALL_PROXY": "http://a", "http_proxy": "http://b"}) == Proxies("http://b", "http://a")
    assert read({"PATH": "x"}) == Proxies()


def test_a_proxy_s_password_is_not_shown() -> None:
    assert "secret" not in repr(Proxies("http://me:secret@proxy.example"))


labels = st.sampled_from(["a", "b", "com", "test"])
names = st.lists(labels, min_size=1, max_size=3).map(".".join)


@given(names, st.lists(names | names.map(".{}".format), max_size=3).map(",".join))
def test_names_are_read_as_python_s_own_library_reads_them(host: str, no_proxy: str) -> None:
    """Hosts and subdomains, with and without a dot before them."""
    direct = urllib.request.proxy_bypass_environment(host, {"no": no_proxy})  # type: ignore[attr-defined]  # untyped

    assert (way(f"https://{host}/v1", no_proxy) is None) == bool(direct)


@given(st.text(max_size=20), names)
def test_no_variable_breaks_anything(no_proxy: str, host: str) -> None:
    """Whatever somebody has put into it."""
    assert way(f"https://{host}/", no_proxy) in (None, PROXY)
