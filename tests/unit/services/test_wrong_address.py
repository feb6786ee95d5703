"""From a wrong address to the one that was meant: pure, and over many addresses."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import dspex
from dspex.errors import ConfigError
from dspex.services.lm.providers import PROVIDERS, resolve_endpoint
from dspex.services.lm.wrong_address import better_base, mistake_in

hosts = st.sampled_from(["http://localhost:8000", "https://gw.example", "http://[::1]:1", "https://gw.example/tenant"])
paths = st.sampled_from(["/chat/completions", "/responses", "/embeddings", "/messages", "/models/m:generateContent"])


@given(hosts, st.sampled_from(["/v1", "/v1beta"]), paths)
def test_each_slip_leads_back_to_the_base(host: str, version: str, path: str) -> None:
    """Whatever the host: the version is missing, stands twice, or the whole path was given."""
    base = host + version
    assert better_base(host, version) == base
    assert better_base(f"{host}/", version) == base
    assert better_base(f"{base}{version}", version) == base
    assert better_base(f"{base}{path}", version) == base
    assert better_base(f"{host}{path}", version) == base
    assert better_base(f"{base}/models", version) == base
    assert better_base(f"{host}/api", version) == base
    assert better_base(f"{host}/api/chat", version) == base
    assert better_base(base, version) is None
    assert mistake_in(f"{base}{path}", version) == base
    assert mistake_in(f"{base}{version}", version) == base
    assert mistake_in(base, version) is None
    assert mistake_in(host, version) is None


@pytest.mark.parametrize("name", sorted(name for name, each in PROVIDERS.items() if each.base_url))
def test_no_providers_own_address_is_a_mistake(name: str) -> None:
    base = PROVIDERS[name].base_url
    assert mistake_in(base, "/v1") is None
    assert resolve_endpoint(dspex.LM(f"{name}/m", api_base=base)).base_url == base


@pytest.mark.parametrize(
    ("model", "given", "asked", "meant"),
    [
        ("openai/m", "/v1/chat/completions", "/v1/chat/completions/chat/completions", "/v1"),
        ("ollama/m", "/v1/v1", "/v1/v1/chat/completions", "/v1"),
        ("anthropic/m", "/v1/messages", "/v1/messages/messages", "/v1"),
        ("gemini/m", "/v1beta/models/m:generateContent", "", "/v1beta"),
    ],
)
def test_what_cannot_be_a_base_is_refused_when_it_is_given(model: str, given: str, asked: str, meant: str) -> None:
    """With the address that would be asked, and the line to write."""
    with pytest.raises(ConfigError) as caught:
        dspex.App(dspex.LM(model, api_base=f"http://localhost:8000{given}"))
    assert f"http://localhost:8000{asked}" in str(caught.value)
    assert str(caught.value).endswith(f"write api_base='http://localhost:8000{meant}'")


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("lm-studio", "lmstudio"),
        ("lm_studio", "lmstudio"),
        ("llama.cpp", "llamacpp"),
        ("hosted_vllm", "vllm"),
        ("aws", "bedrock"),
        ("Ollama", "ollama"),
        ("ollama_chat", "ollama"),
        ("OpenAI", "openai"),
        ("azure_openai", "azure"),
        ("together_ai", "together"),
        ("anthopic", "anthropic"),
        ("google", "gemini"),
    ],
)
def test_a_misspelt_provider_is_asked_after(written: str, meant: str) -> None:
    with pytest.raises(ConfigError, match=f"did you mean '{meant}/some-model'"):
        dspex.App(f"{written}/some-model")


def test_a_name_that_is_like_none_is_not_guessed() -> None:
    with pytest.raises(ConfigError, match="does not know") as caught:
        dspex.App("zzzz/some-model")
    assert "did you mean" not in str(caught.value)


@pytest.mark.parametrize("wrong", ["apibase", "timeout", "api_bse", "base_url", "apikey", "headrs", "min_p"])
def test_a_misspelt_argument_of_a_model_goes_nowhere(wrong: str) -> None:
    """It is refused, and its value is not repeated: it may be a key. Only ``extra_body`` reaches the body."""
    given = {wrong: "sk-secret"}
    with pytest.raises(ValueError, match=f"{wrong}= is not a parameter of a model") as caught:
        dspex.LM("openai/m", **given)  # type: ignore[arg-type]  # the point of it
    assert "sk-secret" not in str(caught.value)
    assert dspex.LM("openai/m", extra_body={"min_p": 0.1}).params.extra_body == {"min_p": 0.1}
