"""The capabilities that dspex takes models to have."""

from __future__ import annotations

from dataclasses import fields

import pytest

from dspex.protocols.lm import Capabilities
from dspex.protocols.model import _CAPABILITIES, LM
from dspex.services.lm.providers import PROVIDERS, resolve_endpoint
from dspex.services.lm.wires._capabilities import CAPABILITIES_TABLE, capabilities_of_record


def able(model: str, **kwargs: object) -> set[str]:
    lm = LM(model, **kwargs)  # type: ignore[arg-type]  # the tests name what they give
    can = capabilities_of_record(lm)
    return {field.name for field in fields(can) if getattr(can, field.name)}


@pytest.mark.parametrize(
    ("model", "abilities"),
    [
        ("openai/gpt-5-mini", "streaming json_schema json_object tools images files many seed reasoning"),
        ("openai/gpt-5.1-2026-01-01", "streaming json_schema json_object tools images files many seed reasoning"),
        ("openai/gpt-4o-mini", "streaming json_schema json_object tools images files many seed logprobs"),
        ("openai/ft:gpt-4.1-mini:acme::7", "streaming json_schema json_object tools images files many seed logprobs"),
        ("openai/gpt-4o-audio-preview", "streaming tools audio seed"),
        ("openai/gpt-4", "streaming tools many seed logprobs"),
        ("openai/o3-mini", "streaming json_schema json_object tools seed reasoning"),
        ("openai/whatever-comes", "streaming"),
        ("openai-responses/gpt-5", "streaming json_schema json_object tools images files reasoning"),
        ("openai-responses/gpt-4o", "streaming json_schema json_object tools images files logprobs"),
        ("groq/openai/gpt-oss-120b", "streaming json_object tools seed reasoning"),
        ("deepseek/deepseek-chat", "streaming json_object tools"),
        ("ollama/llama3.2", "streaming json_schema json_object stop tools seed"),
        ("ollama/unheard-of", "streaming json_schema json_object stop seed"),
        ("openrouter/acme/large", "streaming"),
        (
            "vllm/Qwen/Qwen2.5-VL-7B-Instruct",
            "streaming json_schema json_object choices grammar prefill stop images many seed logprobs",
        ),
        ("llamacpp/any", "streaming json_schema json_object choices grammar prefill stop tools seed"),
    ],
)
def test_models_do_what_their_provider_documents(model: str, abilities: str) -> None:
    """One row each of the families that programs meet most."""
    assert able(model) == set(abilities.split())


def test_a_server_of_ones_own_is_taken_to_do_little() -> None:
    """Whatever name its model has: it may be anything behind that address."""
    assert able("openai/gpt-5", api_base="http://localhost:9000/v1") == {"streaming"}
    assert able("openai-responses/gpt-5", api_base="http://localhost:9000/v1") == {"streaming"}


def test_openais_own_address_written_out_is_openai() -> None:
    assert "tools" in able("openai/gpt-5", api_base="https://api.openai.com/v1")


def test_the_record_goes_before_the_table() -> None:
    """Only the user knows what runs behind an address."""
    base = "http://localhost:9000/v1"

    assert able("openai/m", api_base=base, capabilities={"json_schema": True}) == {"streaming", "json_schema"}
    assert "tools" not in able("openai/gpt-5", capabilities={"tools": False})


def test_the_record_is_another_with_other_abilities() -> None:
    """A client is looked up by its record; what it may do is a part of that."""
    assert LM("openai/m") != LM("openai/m", capabilities={"tools": True})
    assert LM("openai/m") == LM("openai/m", capabilities={})


@pytest.mark.parametrize("wrong", [{"telepathy": True}, {"tools": "yes"}])
def test_an_ability_that_is_none_is_refused(wrong: dict[str, bool]) -> None:
    """A typing mistake is said where it was made."""
    with pytest.raises(ValueError, match="json_schema, json_object, choices, grammar, prefill, stop, tools"):
        LM("openai/m", capabilities=wrong)


def test_the_record_knows_every_ability() -> None:
    """The names stand in two modules, of which one may not import the other."""
    assert {field.name for field in fields(Capabilities)} == set(_CAPABILITIES)


def test_the_table_speaks_of_known_providers() -> None:
    """A row for a name that nobody can give would be dead."""
    named = {provider for row in CAPABILITIES_TABLE for provider in row.providers}

    assert named - {"anthropic", "gemini"} <= PROVIDERS.keys()


def test_a_wire_asks_the_table() -> None:
    lm = LM("openai/gpt-5")

    assert resolve_endpoint(lm).wire.capabilities(lm) == capabilities_of_record(lm)
