"""Where a model is reached, by its name alone."""

from __future__ import annotations

import json

import pytest

from dspex.errors import ConfigError
from dspex.protocols.lm import LMRequest
from dspex.protocols.model import LM, LMParams, Secret
from dspex.services.lm.gateway import LMGateway
from dspex.services.lm.limits import LimitsBook
from dspex.services.lm.providers import PROVIDERS, resolve_endpoint
from dspex.services.lm.transport import open_transport
from dspex.services.lm.wires.chat.wire import OpenAIChat


def test_openai_is_reached_at_its_own_address() -> None:
    """With the newer name of the length field and a key it cannot do without."""
    endpoint = resolve_endpoint(LM("openai/gpt-5-mini"))

    assert endpoint.url("m") == "https://api.openai.com/v1/chat/completions"
    assert endpoint.wire == OpenAIChat("max_completion_tokens")
    assert endpoint.key_env == ("OPENAI_API_KEY",)
    assert endpoint.needs_key


def test_another_server_speaks_the_older_dialect_and_may_want_no_key() -> None:
    """The one address every compatible server is reached with."""
    endpoint = resolve_endpoint(LM("openai/llama", api_base="http://localhost:9999/v1/"))

    assert endpoint.url("m") == "http://localhost:9999/v1/chat/completions"
    assert endpoint.wire == OpenAIChat("by_model")
    assert not endpoint.needs_key


def test_the_official_address_written_out_is_the_official_address() -> None:
    """Giving the default by hand changes nothing."""
    written = resolve_endpoint(LM("openai/m", api_base="https://api.openai.com/v1"))

    assert written == resolve_endpoint(LM("openai/m"))


@pytest.mark.parametrize("provider", sorted(PROVIDERS.keys() - {"azure", "bedrock", "vertex"}))
def test_every_provider_of_the_table_resolves(provider: str) -> None:
    """Each line has an address and the name of a variable."""
    endpoint = resolve_endpoint(LM(f"{provider}/some/model"))

    assert endpoint.url("some/model") == endpoint.base_url + endpoint.wire.path("some/model", stream=False)
    assert endpoint.base_url.startswith("http")
    assert all(variable in endpoint.key_hint for variable in endpoint.key_env)


@pytest.mark.parametrize(
    ("provider", "address"),
    [
        ("openai", "https://api.openai.com/v1"),
        ("openai-responses", "https://api.openai.com/v1"),
        ("anthropic", "https://api.anthropic.com/v1"),
        ("gemini", "https://generativelanguage.googleapis.com/v1beta"),
        ("cerebras", "https://api.cerebras.ai/v1"),
        ("deepinfra", "https://api.deepinfra.com/v1/openai"),
        ("deepseek", "https://api.deepseek.com/v1"),
        ("fireworks", "https://api.fireworks.ai/inference/v1"),
        ("groq", "https://api.groq.com/openai/v1"),
        ("mistral", "https://api.mistral.ai/v1"),
        ("openrouter", "https://openrouter.ai/api/v1"),
        ("together", "https://api.together.xyz/v1"),
        ("xai", "https://api.x.ai/v1"),
        ("llamacpp", "http://localhost:8080/v1"),
        ("lmstudio", "http://localhost:1234/v1"),
        ("ollama", "http://localhost:11434/v1"),
        ("vllm", "http://localhost:8000/v1"),
    ],
)
def test_a_key_goes_to_the_address_that_its_provider_documents(provider: str, address: str) -> None:
    """A change here decides who is sent a user's key: it is made twice."""
    assert resolve_endpoint(LM(f"{provider}/m")).base_url == address


def test_gemini_s_users_keep_their_key_under_two_names() -> None:
    """The provider's own clients read both; who has neither is told of both."""
    endpoint = resolve_endpoint(LM("gemini/gemini-2.5-flash"))

    assert endpoint.key_env == ("GEMINI_API_KEY", "GOOGLE_API_KEY")
    assert endpoint.key_hint == "set GEMINI_API_KEY or GOOGLE_API_KEY or give LM(..., api_key=...)"


@pytest.mark.parametrize(
    ("kept", "used"),
    [
        ({"GEMINI_API_KEY": "one", "GOOGLE_API_KEY": "two"}, "one"),
        ({"GOOGLE_API_KEY": "two"}, "two"),
        ({}, None),
    ],
)
async def test_the_first_variable_that_is_set_holds_the_key(kept: dict[str, str], used: str | None) -> None:
    """The account is named after the key's fingerprint."""
    keys = {name: Secret(value) for name, value in kept.items()}
    gateway = LMGateway(
        {"default": LM("gemini/gemini-2.5-flash")},
        keys=keys.get,
        limits=LimitsBook(None),
        open_transport=lambda clock: open_transport(clock=clock),
    )

    account, _ = gateway._target(LM("gemini/gemini-2.5-flash"))

    assert account.key == (Secret(used) if used is not None else None)


def test_responses_are_a_provider_of_their_own() -> None:
    """OpenAI's models and key, by its other protocol."""
    endpoint = resolve_endpoint(LM("openai-responses/gpt-5"))

    assert endpoint.url("gpt-5") == "https://api.openai.com/v1/responses"
    assert endpoint.key_env == ("OPENAI_API_KEY",)
    assert endpoint.needs_key


def test_another_server_may_speak_responses_too() -> None:
    """It keeps the protocol and may want no key."""
    endpoint = resolve_endpoint(LM("openai-responses/m", api_base="http://localhost:8000/v1"))

    assert endpoint.url("m", stream=True) == "http://localhost:8000/v1/responses"
    assert not endpoint.needs_key


def test_mistral_gets_the_fields_it_knows() -> None:
    """It refuses others."""
    fields = json.loads(
        resolve_endpoint(LM("mistral/m")).wire.encode("m", LMRequest((), LMParams(seed=3)), stream=True)
    )

    assert fields == {"model": "m", "messages": [], "random_seed": 3, "stream": True}


class TestAzure:
    @pytest.mark.parametrize("ending", ["", "/", "/openai", "/openai/v1", "/openai/v1/"])
    def test_a_resource_is_asked_by_v1(self, ending: str) -> None:
        """The present interface; the deployment is named in the body, as a model is elsewhere."""
        endpoint = resolve_endpoint(LM("azure/my-gpt", api_base=f"https://res.openai.azure.com{ending}"))

        assert endpoint.url("my-gpt") == "https://res.openai.azure.com/openai/v1/chat/completions"
        assert endpoint.embed_url("emb") == "https://res.openai.azure.com/openai/v1/embeddings"
        assert endpoint.needs_key

    def test_a_version_asks_the_older_interface(self) -> None:
        """Its address names the deployment, whatever characters that has."""
        endpoint = resolve_endpoint(LM("azure/a b", api_base="https://res.openai.azure.com?api-version=2024-10-21"))

        deployment = "https://res.openai.azure.com/openai/deployments/a%20b"
        assert endpoint.url("a b") == f"{deployment}/chat/completions?api-version=2024-10-21"
        assert endpoint.embed_url("a b") == f"{deployment}/embeddings?api-version=2024-10-21"

    def test_the_key_travels_in_its_own_header(self) -> None:
        """A bearer token would be taken for one of Entra's."""
        endpoint = resolve_endpoint(LM("azure/m", api_base="https://res.openai.azure.com"))
        headers = endpoint.wire.headers(Secret("k"), idempotency_key="c", attempt=1)

        assert headers["api-key"] == "k"
        assert "authorization" not in headers

    @pytest.mark.parametrize(
        "api_base",
        [
            None,
            "https://res.openai.azure.com/openai/deployments/m/chat/completions?api-version=1",
            "https://res.openai.azure.com?version=1",
            "https://res.openai.azure.com?api-version=",
            "https://res.openai.azure.com?api-version=1&x=2",
        ],
    )
    def test_another_address_is_a_config_error_that_shows_one(self, api_base: str | None) -> None:
        """The portal shows the address of a deployment, which is pasted here first."""
        with pytest.raises(ConfigError, match=r"https://RESOURCE\.openai\.azure\.com"):
            resolve_endpoint(LM("azure/m", api_base=api_base))


def test_embeddings_have_an_address_where_the_provider_makes_them() -> None:
    """The table knows which do."""
    assert resolve_endpoint(LM("ollama/nomic")).embed_url("nomic") == "http://localhost:11434/v1/embeddings"
    with pytest.raises(ConfigError, match=r"'groq'.*ollama.*openai"):
        resolve_endpoint(LM("groq/m")).embed_url("m")


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
