"""Where a model is reached, by its name alone."""

from __future__ import annotations

import pytest

from dspex.errors import ConfigError
from dspex.protocols.model import LM
from dspex.services.lm.providers import PROVIDERS, resolve_endpoint
from dspex.services.lm.wires.openai_chat import OpenAIChat


def test_openai_is_reached_at_its_own_address() -> None:
    """With the newer name of the length field and a key it cannot do without."""
    endpoint = resolve_endpoint(LM("openai/gpt-5-mini"))

    assert endpoint.url("m") == "https://api.openai.com/v1/chat/completions"
    assert endpoint.wire == OpenAIChat("max_completion_tokens")
    assert endpoint.key_env == "OPENAI_API_KEY"
    assert endpoint.needs_key


def test_another_server_speaks_the_older_dialect_and_may_want_no_key() -> None:
    """The one address every compatible server is reached with."""
    endpoint = resolve_endpoint(LM("openai/llama", api_base="http://localhost:9999/v1/"))

    assert endpoint.url("m") == "http://localhost:9999/v1/chat/completions"
    assert endpoint.wire == OpenAIChat("max_tokens")
    assert not endpoint.needs_key


def test_the_official_address_written_out_is_the_official_address() -> None:
    """Giving the default by hand changes nothing."""
    written = resolve_endpoint(LM("openai/m", api_base="https://api.openai.com/v1"))

    assert written == resolve_endpoint(LM("openai/m"))


@pytest.mark.parametrize("provider", sorted(PROVIDERS))
def test_every_provider_of_the_table_resolves(provider: str) -> None:
    """Each line has an address and the name of a variable."""
    endpoint = resolve_endpoint(LM(f"{provider}/some/model"))

    assert endpoint.url("some/model").endswith("/chat/completions")
    assert endpoint.key_env in endpoint.key_hint


def test_an_unknown_provider_names_the_known_ones_and_the_way_out() -> None:
    """The message is the documentation at that moment."""
    with pytest.raises(ConfigError, match=r"'acme'.*known: .*openai.*'openai/rocket' with api_base="):
        resolve_endpoint(LM("acme/rocket"))


@pytest.mark.parametrize(
    "api_base",
    [
        "",
        "localhost:8000",
        "ftp://host/v1",
        "http://",
        "http://host:99999/v1",
        "http://host:0/v1",
        "http://host:port/v1",
        "http://host/v1?key=1",
        "http://host/v1#x",
        "http://host /v1",
        "http://[::1/v1",
        "http://hôst/v1",
        "http://h\n/v1",
    ],
)
def test_a_bad_address_is_a_config_error(api_base: str) -> None:
    """It is said before anything is sent."""
    with pytest.raises(ConfigError, match="api_base"):
        resolve_endpoint(LM("openai/m", api_base=api_base))


def test_a_password_in_the_address_is_refused_and_not_repeated() -> None:
    """Addresses show in trees and logs."""
    with pytest.raises(ConfigError, match="api_key=") as caught:
        resolve_endpoint(LM("openai/m", api_base="http://me:hunter2@host/v1"))

    assert "hunter2" not in str(caught.value)
