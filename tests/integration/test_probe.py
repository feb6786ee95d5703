"""``dspex probe``: what is found out about a model, and the line to use."""

from __future__ import annotations

import pytest

import dspex
from dspex.app.cli import main
from dspex.app.probe import Probe, probe
from dspex.services.lm.context_length import ask_context_length, context_length
from dspex.services.lm.model_at import model_at, named_by
from dspex.simulator import Simulator, SimulatorThread
from dspex.testing import ScriptedLM
from tests.support.provider_answers import reply
from tests.support.transports import serving


async def test_a_server_is_asked_and_the_line_names_it() -> None:
    async with Simulator() as simulator, dspex.App(cache=None) as app:
        lm = dspex.LM("llamacpp/mine", api_base=simulator.url)
        found = await probe(app, lm)

    assert found.lm is lm
    assert set(found.forms) == {"chat", "json", "xml", "tool", "auto"}
    assert found.forms["chat"] == found.forms["json"] == 1.0
    assert found.enforces_choices is True
    assert found.enforces_grammar is False  # the simulator follows no other grammar, and says so
    assert "capabilities={'grammar': False}" in found.line
    assert found.told_usage is True
    assert found.tokens_per_second is not None
    assert found.tokens_per_second > 0
    assert found.errors == {}
    assert found.line.startswith(f"dspex.App(dspex.LM('llamacpp/mine', api_base='{simulator.url}'")
    assert found.render().endswith(found.line)


@pytest.mark.parametrize(
    ("document", "tokens"),
    [
        ({"data": [{"id": "m", "meta": {"n_ctx": 4096, "n_ctx_train": 32768}}]}, 4096),
        ({"data": [{"id": "x", "max_model_len": 1}, {"id": "m", "max_model_len": 8192}]}, 8192),
        ({"data": [{"id": "/models/m.gguf", "max_model_len": 8192}]}, 8192),
        ({"data": [{"id": "x", "max_model_len": 1}, {"id": "y", "max_model_len": 2}]}, None),
        ({"data": [{"id": "m", "max_context_length": 8192, "loaded_context_length": 2048}]}, 2048),
        ({"data": [{"id": "m", "n_ctx": "4096"}]}, None),
        ({"data": [{"id": "m", "n_ctx": True, "meta": [1]}]}, None),
        ({"data": {"id": "m"}}, None),
        ({"data": [3]}, None),
        ([], None),
    ],
)
def test_the_list_of_models_tells_the_room_for_tokens(document: object, tokens: int | None) -> None:
    assert context_length(document, "m") == tokens


async def test_a_servers_list_of_models_is_asked_with_its_key() -> None:
    """One that refuses, or is not there, is not known."""
    listed = {"data": [{"id": "m", "meta": {"n_ctx": 4096}}]}
    async with serving(reply(listed), reply({"error": "no"}, 401)) as server:
        base = server.url.removesuffix("/chat/completions")
        lm = dspex.LM("llamacpp/m", api_base=base, api_key="k-of-mine")
        assert await ask_context_length(lm) == 4096
        assert await ask_context_length(lm) is None
        assert await ask_context_length(dspex.LM("openai/m", api_base=base)) is None
        assert b"GET /v1/models " in server.requests[0][0]
        assert b"authorization: bearer k-of-mine" in server.requests[0][0].lower()
    assert await ask_context_length(lm) is None
    assert len(server.requests) == 2


def test_the_command_prints_the_findings(capsys: pytest.CaptureFixture[str]) -> None:
    with SimulatorThread() as simulator:
        assert main(["probe", "llamacpp/mine", "--api-base", simulator.url]) == 0

    out, err = capsys.readouterr()
    assert err == ""
    assert out.startswith("llamacpp/mine\n  reads auto at the first turn: 100 %\n")
    assert out.splitlines()[-1].startswith("dspex.App(dspex.LM('llamacpp/mine', api_base=")


@pytest.mark.parametrize(
    ("owner", "listed", "named"),
    [
        ("llamacpp", "/models/tiny.gguf", "llamacpp/tiny.gguf"),
        ("vllm", "Qwen/Qwen3-4B", "vllm/Qwen/Qwen3-4B"),
        ("sglang", "m", "sglang/m"),
        ("library", "qwen3:4b", "ollama/qwen3:4b"),
        ("organization_owner", "m", "lmstudio/m"),
        ("somebody", "m", "openai/m"),
        (None, "m", "openai/m"),
    ],
)
def test_a_list_of_models_tells_who_serves_them(owner: str | None, listed: str, named: str) -> None:
    found = named_by({"data": [{"id": listed, "owned_by": owner}]}, "http://127.0.0.1:1/v1")

    assert (found.model, found.api_base) == (named, "http://127.0.0.1:1/v1")


@pytest.mark.parametrize("ending", ["", "/", "/v1", "/v1/"])
async def test_an_address_is_enough(ending: str) -> None:
    listed = {"data": [{"id": "mine", "owned_by": "vllm"}]}
    async with serving(reply(listed)) as server:
        base = server.url.removesuffix("/v1/chat/completions")
        found = await model_at(base + ending)
        assert server.requests[0][0].startswith(b"GET /v1/models ")

    assert (found.model, found.api_base) == ("vllm/mine", f"{base}/v1")


async def test_a_server_with_several_models_says_their_names() -> None:
    listed = {"data": [{"id": name, "owned_by": "library"} for name in ("a", "b")]}
    async with serving(reply(listed), reply({}), reply({"error": "no"}, 401)) as server:
        base = server.url.removesuffix("/chat/completions")
        with pytest.raises(dspex.ConfigError, match="has 2 models: name one of ollama/a, ollama/b, and its address"):
            await model_at(base)
        with pytest.raises(dspex.ConfigError, match="does not list its models"):
            await model_at(base)
        with pytest.raises(dspex.ConfigError, match="cannot be read"):
            await model_at(base)


def test_an_address_where_nobody_listens_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "http://127.0.0.1:9/v1"]) == 2
    assert "http://127.0.0.1:9/v1/models cannot be read" in capsys.readouterr().err


def test_a_server_that_is_not_there_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "nobody/x"]) == 2
    assert "'nobody'" in capsys.readouterr().err


def test_a_name_that_is_not_a_model_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["probe", "nothing"]) == 2
    assert capsys.readouterr().err == "dspex: 'nothing' is not 'provider/model', for example 'openai/gpt-5-mini'\n"


async def test_a_schema_that_is_not_enforced_is_said_in_the_line() -> None:
    """The script answers a poem to all but the questions of adapters."""
    lm = ScriptedLM(lambda request: "The sea, the sea" if request.output is not None else "roses")
    async with dspex.App(lm, cache=None) as app:
        found = await probe(app, lm)

    assert found.enforces_schema is False
    assert found.keeps_seed is None
    assert set(found.forms.values()) == {0.0}
    assert "capabilities={'json_schema': False}" in found.line
    assert "adapter='auto'" in found.line


@pytest.mark.parametrize(
    ("forms", "adapter"),
    [
        ({"chat": 1.0, "json": 1.0, "auto": 1.0}, "auto"),
        ({"chat": 1.0, "json": 1.0, "auto": 0.5}, "chat"),
        ({"chat": 0.0, "json": 0.6, "auto": 0.5}, "json"),
    ],
)
def test_the_form_that_is_read_most_is_advised(forms: dict[str, float], adapter: str) -> None:
    found = Probe(dspex.LM("openai/x"), forms, tokens_per_second=10.0, tokens_at_once=35.0)

    assert found.adapter == adapter
    assert found.runs_side_by_side is True
    assert "tokens a second: 10, 35 for four at once" in found.render()
    assert "keeps a seed: not known" in found.render()
